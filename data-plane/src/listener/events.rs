//! Messages as an event stream, with a sign of life when there is nothing to say.

use crate::{
    call::{BoxError, Messages},
    failure::Failure,
    mcp::{Message, sse},
};
use bytes::Bytes;
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

/// The body of a response made of messages.
pub(super) struct Events {
    first: Option<Result<Message, Failure>>,
    messages: Messages,
    quiet: Pin<Box<Sleep>>,
    /// Words a failure in the middle of the stream; the status is out already.
    word: Word,
    ended: bool,
}

impl Events {
    pub(super) fn new(
        first: Option<Result<Message, Failure>>,
        messages: Messages,
        word: impl Fn(&Failure) -> Option<Bytes> + Send + 'static,
    ) -> Self {
        let quiet = Box::pin(sleep(KEEP_ALIVE_EVERY));
        Self { first, messages, quiet, word: Box::new(word), ended: false }
    }

    fn event(&mut self, next: Result<Message, Failure>) -> Option<Bytes> {
        match next {
            Ok(message) => Some(sse::write(message.bytes())),
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
        let next = match this.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => this.messages.as_mut().poll_next(cx),
        };
        match next {
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
