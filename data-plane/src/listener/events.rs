//! Messages as an event stream, with a sign of life when there is nothing to say.

use crate::{call::BoxError, failure::Failure, mcp::sse};
use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body, Frame};
use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// Silence after which a comment is sent, so that nothing on the way closes the connection.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

type Word = Box<dyn Fn(&Failure) -> Option<Bytes> + Send>;

/// Events, each as the bytes it is written in.
pub(super) type Written = Pin<Box<dyn Stream<Item = Result<Bytes, Failure>> + Send>>;

/// The body of a response made of events.
pub(super) struct Events {
    events: Written,
    quiet: Pin<Box<Sleep>>,
    /// Words a failure in the middle of the stream; the status is out already.
    word: Word,
    ended: bool,
}

impl Events {
    pub(super) fn new(events: Written, word: impl Fn(&Failure) -> Option<Bytes> + Send + 'static) -> Self {
        let quiet = Box::pin(sleep(KEEP_ALIVE_EVERY));
        Self { events, quiet, word: Box::new(word), ended: false }
    }

    fn event(&mut self, next: Result<Bytes, Failure>) -> Option<Bytes> {
        match next {
            Ok(event) => Some(event),
            Err(failure) => {
                self.ended = true;
                (self.word)(&failure).map(|error| sse::write(&error))
            }
        }
    }
}

impl Body for Events {
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
        match this.events.as_mut().poll_next(cx) {
            Poll::Ready(Some(next)) => {
                this.quiet.as_mut().reset(tokio::time::Instant::now() + KEEP_ALIVE_EVERY);
                Poll::Ready(this.event(next).map(|event| Ok(Frame::data(event))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                if this.quiet.as_mut().poll(cx).is_ready() {
                    this.quiet.as_mut().reset(tokio::time::Instant::now() + KEEP_ALIVE_EVERY);
                    // Arms the timer again.
                    let _ = this.quiet.as_mut().poll(cx);
                    return Poll::Ready(Some(Ok(Frame::data(sse::KEEP_ALIVE))));
                }
                Poll::Pending
            }
        }
    }
}
