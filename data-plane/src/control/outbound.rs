//! What this node has to say, waiting to be sent: one place for each kind of message, the latest wins. Whoever
//! says something never waits, and a peer that does not read costs no memory.
//!
//! Answers to queries are the exception: every part counts, so whoever makes them waits for a place in a short
//! queue, behind everything else.

use futures_util::Stream;
use o1_proto::wire::{QueryAnswer, SyncRequest, sync_request::Msg};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};
use tokio::sync::mpsc;

/// Parts of answers that wait to be sent.
const ANSWERS: usize = 8;

/// The saying end. Dropping it ends the stream after what was said.
#[derive(Debug)]
pub(super) struct Outbound {
    shared: Arc<Mutex<Slots>>,
    answers: mpsc::Sender<QueryAnswer>,
}

/// The sending end, read by the transport.
#[derive(Debug)]
pub(super) struct Requests {
    shared: Arc<Mutex<Slots>>,
    answers: mpsc::Receiver<QueryAnswer>,
}

#[derive(Debug, Default)]
struct Slots {
    /// In the order in which they are sent: hello, verdict, failover, observations, heartbeat, goodbye.
    messages: [Option<Msg>; 6],
    closed: bool,
    reader: Option<Waker>,
}

/// Both ends.
pub(super) fn channel() -> (Outbound, Requests) {
    let shared = Arc::<Mutex<Slots>>::default();
    let (answers, waiting) = mpsc::channel(ANSWERS);
    (Outbound { shared: shared.clone(), answers }, Requests { shared, answers: waiting })
}

impl Outbound {
    /// Says something. What was said of the same kind and not yet sent is forgotten.
    pub fn say(&self, message: Msg) {
        let slot = match message {
            Msg::Hello(_) => 0,
            Msg::ConfigAck(_) | Msg::ConfigNack(_) => 1,
            // Both are whole each time: the latest says all.
            Msg::Failover(_) => 2,
            Msg::Observations(_) => 3,
            Msg::Heartbeat(_) => 4,
            Msg::Goodbye(_) => 5,
            Msg::Answer(_) => unreachable!("answers have a queue of their own"),
        };
        self.change(|slots| slots.messages[slot] = Some(message));
    }

    /// Where parts of answers go.
    pub fn answers(&self) -> mpsc::Sender<QueryAnswer> {
        self.answers.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Slots)) {
        let mut slots = lock(&self.shared);
        change(&mut slots);
        let reader = slots.reader.take();
        drop(slots);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.change(|slots| slots.closed = true);
    }
}

impl Stream for Requests {
    type Item = SyncRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<SyncRequest>> {
        let Self { shared, answers } = self.get_mut();
        {
            let mut slots = lock(shared);
            if let Some(message) = slots.messages.iter_mut().find_map(Option::take) {
                return Poll::Ready(Some(SyncRequest { msg: Some(message) }));
            }
            if slots.closed {
                return Poll::Ready(None);
            }
            slots.reader = Some(context.waker().clone());
        }
        // The saying end holds a sender until it closes, which the slots tell.
        answers.poll_recv(context).map(|answer| answer.map(|one| SyncRequest { msg: Some(Msg::Answer(one)) }))
    }
}

fn lock(shared: &Mutex<Slots>) -> MutexGuard<'_, Slots> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt as _, StreamExt as _};
    use o1_proto::wire::{ConfigAck, Goodbye, Heartbeat, Hello};

    fn heartbeat(seq: u64) -> Msg {
        Msg::Heartbeat(Heartbeat { seq, ..Heartbeat::default() })
    }

    #[tokio::test]
    async fn the_latest_of_each_kind_is_sent_in_a_fixed_order() {
        let (outbound, requests) = channel();
        outbound.say(Msg::Goodbye(Goodbye::default()));
        for seq in 0..1000 {
            outbound.say(heartbeat(seq));
        }
        outbound.say(Msg::ConfigAck(ConfigAck { nonce: 1, ..ConfigAck::default() }));
        outbound.say(Msg::Hello(Hello::default()));
        drop(outbound);
        let sent: Vec<Msg> = requests.map(|request| request.msg.unwrap()).collect().await;
        let expected = [
            Msg::Hello(Hello::default()),
            Msg::ConfigAck(ConfigAck { nonce: 1, ..ConfigAck::default() }),
            heartbeat(999),
            Msg::Goodbye(Goodbye::default()),
        ];
        assert_eq!(sent, expected);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let (outbound, mut requests) = channel();
        assert!(requests.next().now_or_never().is_none());
        let (_, read) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                outbound.say(heartbeat(1));
            },
            requests.next()
        );
        assert_eq!(read.unwrap().msg, Some(heartbeat(1)));
    }
}
