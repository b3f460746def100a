//! Bodies that come as messages, watched.

use super::{guard::Guard, inspect};
use crate::{
    call::Messages,
    mcp::{Kind, Message},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use std::{future::Future, pin::Pin};

/// The messages of a request: counted when the response is there, cut when its time is over.
pub(super) fn watched(messages: Messages, guard: Guard) -> Messages {
    stream::unfold((messages, Some(guard)), |(mut messages, mut guard)| async move {
        let mut held = guard.take()?;
        let next = match tokio::time::timeout_at(held.next_limit(), messages.next()).await {
            Ok(next) => next?,
            Err(_) => return Some((Err(held.out_of_time()), (messages, None))),
        };
        let guard = match &next {
            Ok(message) => {
                held.received(message.bytes().len());
                if message.kind() == Kind::Request {
                    held.wait_for_client();
                }
                if message.kind() == Kind::Response {
                    held.finish(inspect::is_failure(message));
                    None
                } else {
                    Some(held)
                }
            }
            Err(failure) => {
                held.fail(failure);
                None
            }
        };
        Some((next, (messages, guard)))
    })
    .boxed()
}

/// Messages until `over`, with `farewell` as the last one.
pub(super) fn until(
    messages: Messages,
    over: impl Future<Output = ()> + Send + 'static,
    farewell: Option<Bytes>,
) -> Messages {
    type Over = Pin<Box<dyn Future<Output = ()> + Send>>;
    let over: Over = Box::pin(over);
    stream::unfold(Some((messages, over, farewell)), |state| async move {
        let (mut messages, mut over, farewell) = state?;
        tokio::select! {
            biased;
            () = &mut over => {
                let last = Message::parse(&farewell?).ok()?;
                Some((Ok(last), None))
            }
            next = messages.next() => Some((next?, Some((messages, over, farewell)))),
        }
    })
    .boxed()
}
