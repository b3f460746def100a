//! The one GET stream of a session, given back when the stream ends, however it ends.

use crate::call::{Body, BoxError, Reply, Session};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::Instant;

pub(super) struct Lease(Arc<Session>);

impl Lease {
    pub(super) fn take(session: &Arc<Session>) -> Option<Self> {
        session.take_stream().then(|| Self(session.clone()))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.touch(Instant::now());
        self.0.give_stream_back();
    }
}

/// The reply, with the lease in its body. A reply that is no stream gives the lease back at once.
pub(super) fn held(reply: Reply, lease: Lease) -> Reply {
    let body = match reply.body {
        Body::Bytes(inner) if reply.status.is_success() => {
            Body::Bytes(Held { inner, _lease: lease }.boxed_unsync())
        }
        Body::Messages(messages) => Body::Messages(
            messages
                .map(move |message| {
                    let _held = &lease;
                    message
                })
                .boxed(),
        ),
        other => other,
    };
    Reply { status: reply.status, headers: reply.headers, body, stale: reply.stale }
}

struct Held {
    inner: UnsyncBoxBody<Bytes, BoxError>,
    _lease: Lease,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().inner).poll_frame(cx)
    }
}
