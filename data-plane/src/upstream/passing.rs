//! Bodies that pass through as bytes, watched.

use super::{guard::Guard, inspect::Inspect};
use crate::{
    call::BoxError,
    failure::{Failure, Kind},
    mcp::{rpc, sse},
    stores::Admitted,
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

type Inner = UnsyncBoxBody<Bytes, BoxError>;

/// The answer to a request: counted when it is complete, cut when its time is over.
pub(super) struct Answer {
    inner: Inner,
    /// `None` once the end was counted.
    guard: Option<Guard>,
    limit: Pin<Box<Sleep>>,
    inspect: Inspect,
    events: bool,
    pulse: Pulse,
}

/// Tells events from comments: a server that only keeps its connection alive is silent.
#[derive(Default)]
struct Pulse {
    /// What the line began with, when it began in an earlier piece.
    line: Option<u8>,
}

impl Pulse {
    /// Whether a piece of the stream holds any byte of an event.
    fn beats(&mut self, data: &[u8]) -> bool {
        let mut beats = false;
        for byte in data {
            match (byte, self.line) {
                (b'\n' | b'\r', _) => self.line = None,
                (_, None) => {
                    self.line = Some(*byte);
                    beats |= *byte != b':';
                }
                (_, Some(first)) => beats |= first != b':',
            }
        }
        beats
    }
}

impl Answer {
    pub(super) fn new(inner: Inner, guard: Guard, events: bool) -> Self {
        let limit = Box::pin(tokio::time::sleep_until(guard.next_limit()));
        let mut answer = Self {
            inner,
            guard: Some(guard),
            limit,
            inspect: Inspect::new(events),
            events,
            pulse: Pulse::default(),
        };
        if answer.inner.is_end_stream() {
            answer.finish();
        }
        answer
    }

    fn finish(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.finish(self.inspect.finish());
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.guard.is_none() && this.inner.is_end_stream() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(data), Some(guard)) = (frame.data_ref(), &mut this.guard) {
                    guard.received(data.len());
                    this.inspect.push(data);
                    if this.inspect.asked() {
                        guard.wait_for_client();
                    }
                    if !this.events || this.pulse.beats(data) {
                        this.limit.as_mut().reset(guard.next_limit());
                    }
                }
                // The last frame is the end: nobody has to ask again.
                if this.inner.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(guard) = this.guard.take() {
                    let failure = Failure::new(Kind::Unreachable, "the upstream's answer broke off");
                    guard.fail(&failure.because(error.to_string()));
                }
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Pending => {
                if this.guard.is_none() {
                    // Cut already: the end was said.
                    return Poll::Ready(None);
                }
                ready!(this.limit.as_mut().poll(cx));
                let Some(guard) = this.guard.take() else { return Poll::Ready(None) };
                let id = guard.id.clone();
                let failure = guard.out_of_time();
                if this.events {
                    let error = rpc::error(Some(&id), rpc::UPSTREAM_TIMEOUT, failure.public(), None);
                    return Poll::Ready(Some(Ok(Frame::data(sse::write(&error)))));
                }
                Poll::Ready(Some(Err(failure.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body that counts as on its way until its last byte; see [`super::gated`].
pub(super) fn held(
    body: Inner,
    admitted: Admitted,
    cut: CancellationToken,
    moved: CancellationToken,
    is_stream: bool,
) -> Inner {
    let over = if is_stream { moved } else { cut };
    let over = Box::pin(over.cancelled_owned());
    Held { inner: body, over, is_stream, ended: false, _admitted: admitted }.boxed_unsync()
}

struct Held {
    inner: Inner,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_stream: bool,
    ended: bool,
    _admitted: Admitted,
}

impl Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if this.over.as_mut().poll(cx).is_ready() {
            this.ended = true;
            // A stream begins anew at the other store; of a call nobody knows what came of it.
            let broken = || Failure::new(Kind::Timeout, "the upstream changed over to its other store");
            return Poll::Ready((!this.is_stream).then(|| Err(broken().into())));
        }
        Pin::new(&mut this.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A stream without an end of its own.
pub(super) struct Stream {
    inner: Inner,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    farewell: Option<Bytes>,
    ended: bool,
}

impl Stream {
    pub(super) fn new(
        inner: Inner,
        over: impl Future<Output = ()> + Send + 'static,
        farewell: Option<Bytes>,
    ) -> Self {
        Self { inner, over: Box::pin(over), farewell, ended: false }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if this.over.as_mut().poll(cx).is_ready() {
            this.ended = true;
            return Poll::Ready(this.farewell.take().map(|last| Ok(Frame::data(sse::write(&last)))));
        }
        Pin::new(&mut this.inner).poll_frame(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_no_progress_however_they_are_cut() {
        let mut pulse = Pulse::default();
        let pieces = [
            ": ping\n\n",
            ":",
            " still the comment",
            "\r\n",
            "\n",
            "data: 1\n",
            "\n",
            "d",
            "ata: 2",
            "\n\n: p",
        ];
        let beats: Vec<_> = pieces.iter().map(|piece| pulse.beats(piece.as_bytes())).collect();
        assert_eq!(beats, [false, false, false, false, false, true, false, true, true, false]);
    }
}
