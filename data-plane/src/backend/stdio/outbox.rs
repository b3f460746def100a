//! What waits to be written to a server's stdin: bounded, in order.

use crate::{backend::channel::Outlet, failure::Failure};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Messages of callers that may wait; further callers wait for a place.
const PLACES: usize = 256;
/// Messages of our own that may wait besides (cancellations, answers to the server): who sends them cannot wait,
/// because it is the one who reads, or a destructor.
const RESERVED: usize = 1024;
/// A server that reads nothing for this long is stuck.
pub(super) const STALL: Duration = Duration::from_secs(30);
/// Small messages are written together up to this size.
const BATCH_BYTES: usize = 64 * 1024;

/// The sending side.
pub(super) struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    places: Arc<Semaphore>,
}

/// The writing side.
pub(super) struct Queue {
    queue: mpsc::Receiver<Outgoing>,
    places: Arc<Semaphore>,
}

struct Outgoing {
    line: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

/// Why the writer ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was asked to, and everything is written.
    Done,
    /// The server did not read for [`STALL`].
    Stalled,
    /// The pipe broke.
    Broken(io::Error),
}

pub(super) fn new() -> (Outbox, Queue) {
    let (sender, receiver) = mpsc::channel(PLACES + RESERVED);
    let places = Arc::new(Semaphore::new(PLACES));
    (Outbox { queue: sender, places: places.clone() }, Queue { queue: receiver, places })
}

impl Outlet for Outbox {
    /// The wait ends at the latest when the writer does: [`STALL`].
    fn push(&self, line: Bytes) -> BoxFuture<'_, Result<(), Option<Failure>>> {
        Box::pin(async {
            let place = self.places.clone().acquire_owned().await.map_err(|_| None)?;
            self.queue.send(Outgoing { line, _place: Some(place) }).await.map_err(|_| None)
        })
    }

    /// Dropping a line takes a server that has long stopped reading.
    fn push_now(&self, line: Bytes) -> bool {
        self.queue.try_send(Outgoing { line, _place: None }).is_ok()
    }
}

impl Queue {
    /// Writes until `stop`, then what is still queued, then closes the pipe.
    pub(super) async fn write(mut self, mut pipe: impl AsyncWrite + Unpin, stop: CancellationToken) -> Ended {
        let mut batch = Vec::new();
        let mut text = Vec::new();
        loop {
            tokio::select! {
                biased;
                count = self.queue.recv_many(&mut batch, PLACES) => if count == 0 {
                    return Ended::Done;
                },
                () = stop.cancelled(), if !self.queue.is_closed() => {
                    self.queue.close();
                    self.places.close();
                }
            }
            for outgoing in batch.drain(..) {
                text.extend_from_slice(&outgoing.line);
                text.push(b'\n');
                if text.len() >= BATCH_BYTES
                    && let Err(ended) = flush(&mut pipe, &mut text).await
                {
                    return ended;
                }
            }
            if let Err(ended) = flush(&mut pipe, &mut text).await {
                return ended;
            }
        }
    }
}

impl Drop for Queue {
    /// Whoever waits for a place learns that there will be none.
    fn drop(&mut self) {
        self.places.close();
    }
}

async fn flush(pipe: &mut (impl AsyncWrite + Unpin), text: &mut Vec<u8>) -> Result<(), Ended> {
    let mut rest = &text[..];
    while !rest.is_empty() {
        match timeout(STALL, pipe.write(rest)).await {
            Err(_) => return Err(Ended::Stalled),
            Ok(Err(error)) => return Err(Ended::Broken(error)),
            Ok(Ok(0)) => return Err(Ended::Broken(io::ErrorKind::WriteZero.into())),
            Ok(Ok(written)) => rest = &rest[written..],
        }
    }
    text.clear();
    text.shrink_to(BATCH_BYTES);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use o1_process::{OnExit, Tasks};
    use tokio::{io::AsyncReadExt as _, sync::oneshot, time::Instant};

    fn spawn_writer(
        queue: Queue,
        pipe: tokio::io::DuplexStream,
    ) -> (CancellationToken, oneshot::Receiver<Ended>) {
        let stop = CancellationToken::new();
        let (ended, end) = oneshot::channel();
        let token = stop.clone();
        Tasks::new().spawn("writer", OnExit::Quiet, async move {
            let _ = ended.send(queue.write(pipe, token).await);
        });
        (stop, end)
    }

    #[tokio::test]
    async fn what_is_queued_is_written_in_order_before_the_pipe_closes() {
        let (outbox, queue) = new();
        let (pipe, mut server) = tokio::io::duplex(7);
        let mut expected = String::new();
        for n in 0..200 {
            let line = format!("line {n} {}", "x".repeat(n * 10));
            expected.push_str(&line);
            expected.push('\n');
            if n % 2 == 0 {
                outbox.push(line.into()).await.unwrap();
            } else {
                assert!(outbox.push_now(line.into()));
            }
        }
        let (stop, end) = spawn_writer(queue, pipe);
        stop.cancel();
        let mut written = String::new();
        server.read_to_string(&mut written).await.unwrap();
        assert_eq!(written, expected);
        assert!(matches!(end.await, Ok(Ended::Done)));
        outbox.push("late".into()).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_reads_nothing_is_stuck_after_half_a_minute_and_callers_hear_it() {
        let (outbox, queue) = new();
        let (pipe, _server) = tokio::io::duplex(64);
        let (_stop, end) = spawn_writer(queue, pipe);
        let began = Instant::now();
        let mut pushed = 0;
        while outbox.push("x".repeat(BATCH_BYTES).into()).await.is_ok() {
            pushed += 1;
        }
        assert_eq!(began.elapsed(), STALL);
        assert!((PLACES..=2 * PLACES).contains(&pushed), "{pushed}");
        assert!(matches!(end.await, Ok(Ended::Stalled)));
    }

    #[tokio::test]
    async fn messages_of_our_own_find_a_place_when_callers_wait() {
        let (outbox, queue) = new();
        for _ in 0..PLACES {
            outbox.push("caller".into()).await.unwrap();
        }
        assert!(futures_util::FutureExt::now_or_never(outbox.push("one too many".into())).is_none());
        let own = (0..2 * RESERVED).take_while(|_| outbox.push_now("own".into())).count();
        assert_eq!(own, RESERVED);
        drop(queue);
    }
}
