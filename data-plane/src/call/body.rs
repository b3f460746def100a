//! The body of a reply: bytes that pass through, or messages.

use super::Reply;
use crate::{
    failure::{Failure, Kind},
    mcp::{self, Message, sse},
};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use std::{fmt, pin::Pin};

/// An error whose only reader is the log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Messages as they come, the response last.
pub type Messages = Pin<Box<dyn Stream<Item = Result<Message, Failure>> + Send>>;

/// Something on a stream that can be taken up again after it.
#[derive(Debug, Clone)]
pub struct Event {
    /// What the client names to go on after it.
    pub id: String,
    /// `None`: only the id, so that there is one to go on after.
    pub message: Option<Message>,
}

/// Events as they come.
pub type Events = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// What a reply carries.
pub enum Body {
    /// Nothing.
    Empty,
    /// All of it.
    Full(Bytes),
    /// Bytes as they arrive from an upstream; the content type tells JSON from SSE.
    Bytes(UnsyncBoxBody<Bytes, BoxError>),
    /// Messages as they come.
    Messages(Messages),
    /// Messages as they come, on a stream that can be taken up again.
    Events(Events),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Full(_) => "Full",
            Self::Bytes(_) => "Bytes",
            Self::Messages(_) => "Messages",
            Self::Events(_) => "Events",
        })
    }
}

/// The largest message that is ever held in memory as a whole.
pub const MESSAGE_MAX: usize = 64 << 20;

/// A reply as messages, whatever it came as. Anything but a success, and anything that is not MCP, is a
/// failure of the upstream.
pub fn read_messages(reply: Reply) -> Messages {
    let events = reply.is_event_stream();
    match reply.body {
        Body::Empty => stream::empty().boxed(),
        Body::Full(bytes) if bytes.is_empty() => stream::empty().boxed(),
        Body::Full(bytes) => stream::once(async move { parse(&bytes) }).boxed(),
        Body::Messages(messages) => messages,
        Body::Events(events) => events.filter_map(|event| std::future::ready(event.message.map(Ok))).boxed(),
        Body::Bytes(body) if events => read_events(body).boxed(),
        Body::Bytes(body) => stream::once(async move { parse(&read_all(body).await?) }).boxed(),
    }
}

/// The response in a reply; notifications before it are dropped.
///
/// # Errors
/// The upstream ended without one, or sent something that is not MCP.
pub async fn read_response(reply: Reply) -> Result<Message, Failure> {
    let status = reply.status;
    let mut messages = read_messages(reply);
    while let Some(message) = messages.next().await {
        match message {
            Ok(message) if message.kind() == mcp::Kind::Response => return Ok(message),
            Ok(_) => {}
            Err(_) if !status.is_success() => break,
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::new(Kind::Protocol, format!("the upstream answered HTTP {status} without a response")))
}

/// Holds a whole body in memory, within [`MESSAGE_MAX`].
///
/// # Errors
/// It broke off, or is larger.
pub async fn read_all(body: UnsyncBoxBody<Bytes, BoxError>) -> Result<Bytes, Failure> {
    read_up_to(body, MESSAGE_MAX).await
}

/// Holds a whole body of at most `limit` bytes in memory.
///
/// # Errors
/// It broke off, or is larger.
pub async fn read_up_to(mut body: UnsyncBoxBody<Bytes, BoxError>, limit: usize) -> Result<Bytes, Failure> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            if whole.len() + data.len() > limit {
                return Err(Failure::new(Kind::Protocol, "the upstream's answer is beyond every limit"));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

fn parse(bytes: &Bytes) -> Result<Message, Failure> {
    Message::parse(bytes).map_err(|invalid| {
        Failure::new(Kind::Protocol, "the upstream's answer is not a JSON-RPC message")
            .because(format!("{invalid:?}"))
    })
}

/// What became of an answer whose body ended with an error.
#[must_use]
pub fn broken(error: BoxError) -> Failure {
    match error.downcast::<Failure>() {
        Ok(failure) => *failure,
        Err(error) => {
            Failure::new(Kind::Unreachable, "the upstream's answer broke off; the call may have run")
                .because(error)
        }
    }
}

fn read_events(body: UnsyncBoxBody<Bytes, BoxError>) -> impl Stream<Item = Result<Message, Failure>> + Send {
    let state = (body, sse::Reader::new(MESSAGE_MAX), false);
    stream::unfold(state, |(mut body, mut reader, failed)| async move {
        if failed {
            return None;
        }
        loop {
            match reader.next_event() {
                Ok(Some(event)) if event.data.is_empty() => continue, // priming events carry only an id
                Ok(Some(event)) => {
                    let message = parse(&event.data);
                    let failed = message.is_err();
                    return Some((message, (body, reader, failed)));
                }
                Ok(None) => {}
                Err(sse::TooLarge) => {
                    let failure =
                        Failure::new(Kind::Protocol, "the upstream sent an event beyond every limit");
                    return Some((Err(failure), (body, reader, true)));
                }
            }
            match body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        reader.push(&data);
                    }
                }
                Err(error) => return Some((Err(broken(error)), (body, reader, true))),
            }
        }
    })
}
