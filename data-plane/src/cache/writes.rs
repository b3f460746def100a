//! Calls that may change what is read: when one completes, nobody joins what was asked before.

use super::scope::Scope;
use crate::call::{Body, BoxError, Reply};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// A call that may change something, until its answer is complete or nobody waits for it any more: it may have run.
pub(super) struct Written(Arc<Scope>);

impl Written {
    /// A call that is about to be sent.
    pub(super) fn new(scope: &Arc<Scope>) -> Self {
        Self(scope.clone())
    }

    /// The reply, noted before any part of it that may be the last is passed on: the caller may read right then.
    pub(super) fn when_answered(self, reply: Reply) -> Reply {
        let Reply { status, headers, body, stale } = reply;
        let body = match body {
            Body::Bytes(inner) => Body::Bytes(Noted { inner, written: self }.boxed_unsync()),
            Body::Messages(messages) => {
                let noted = messages.inspect(move |_| self.0.wrote());
                Body::Messages(noted.boxed())
            }
            other => other,
        };
        Reply { status, headers, body, stale }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.0.wrote();
    }
}

struct Noted {
    inner: UnsyncBoxBody<Bytes, BoxError>,
    written: Written,
}

impl HttpBody for Noted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        this.written.0.wrote();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
