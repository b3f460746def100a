//! What comes back: how much of it is read, what it says of itself, and how it looks to each who gets it.
//!
//! Nothing is rebuilt here: of an answer that is kept the id and the remaining life are exchanged, of any other the
//! id; and what cannot be shared goes on as it came, with what was read of it put in front again.

use crate::{
    call::{Body, BoxError, MESSAGE_MAX, Messages, Reply, broken},
    failure::Failure,
    mcp::{Kind, Message, json, sse},
};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, BodyStream, StreamBody, combinators::UnsyncBoxBody};
use o1_process::{OnExit, Tasks};
use std::time::Duration;

/// How long the rest of an answer is waited for once its response is there. It is only read so that it is counted.
const REST_WITHIN: Duration = Duration::from_secs(1);
/// An HTTP error that is no message is shared up to this size.
const PAGE_MAX: usize = 64 << 10;

/// A reply, read.
pub(super) struct Gathered {
    /// The whole reply as it came, for who asked.
    pub(super) came: Reply,
    /// What others may have of it; `None`: it is larger than what is shared, asks something, or is no answer.
    pub(super) common: Option<Common>,
}

/// What many can have.
pub(super) enum Common {
    /// The response to the request, and with which status it came.
    Answer(StatusCode, Message),
    /// Another HTTP error.
    Page(StatusCode, HeaderMap, Bytes),
}

/// Reads a reply to the request with this id up to its response, and no more than `limit` bytes of it.
///
/// # Errors
/// It broke off.
pub(super) async fn gather(
    reply: Reply,
    id: &[u8],
    limit: usize,
    tasks: &Tasks,
) -> Result<Gathered, Failure> {
    let events = reply.is_event_stream();
    let Reply { status, headers, body, stale } = reply;
    let (body, common) = match body {
        Body::Full(bytes) => whole(bytes, status, &headers, id, limit),
        Body::Messages(messages) => messages_of(messages, status, id, limit).await?,
        Body::Bytes(body) if events && status.is_success() => {
            events_of(body, status, id, limit, tasks).await?
        }
        Body::Bytes(body) => match bytes_of(body, limit).await? {
            Ok(bytes) => whole(bytes, status, &headers, id, limit),
            Err(body) => (body, None),
        },
        other => (other, None),
    };
    Ok(Gathered { came: Reply { status, headers, body, stale }, common })
}

fn answers(message: &Message, id: &[u8]) -> bool {
    message.kind() == Kind::Response && message.id() == Some(id)
}

fn whole(
    bytes: Bytes,
    status: StatusCode,
    headers: &HeaderMap,
    id: &[u8],
    limit: usize,
) -> (Body, Option<Common>) {
    let common = match Message::parse(&bytes) {
        Ok(message) if answers(&message, id) && bytes.len() <= limit => Some(Common::Answer(status, message)),
        _ if is_error(status) && bytes.len() <= PAGE_MAX => {
            Some(Common::Page(status, headers.clone(), bytes.clone()))
        }
        _ => None,
    };
    (Body::Full(bytes), common)
}

fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// All of a body, or as it came when it is larger.
async fn bytes_of(
    mut body: UnsyncBoxBody<Bytes, BoxError>,
    limit: usize,
) -> Result<Result<Bytes, Body>, Failure> {
    let (mut read, mut size) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            size += data.len();
            read.push(data);
            if size > limit {
                return Ok(Err(put_back(read, body)));
            }
        }
    }
    Ok(Ok(match read.len() {
        1 => read.remove(0),
        _ => read.concat().into(),
    }))
}

fn put_back(read: Vec<Bytes>, rest: UnsyncBoxBody<Bytes, BoxError>) -> Body {
    let read = stream::iter(read).map(|data| Ok(Frame::data(data)));
    Body::Bytes(StreamBody::new(read.chain(BodyStream::new(rest))).boxed_unsync())
}

/// Reads events until the response. What a server asks meanwhile is for its one client, and so is a stream that
/// can be taken up again elsewhere.
async fn events_of(
    mut body: UnsyncBoxBody<Bytes, BoxError>,
    status: StatusCode,
    id: &[u8],
    limit: usize,
    tasks: &Tasks,
) -> Result<(Body, Option<Common>), Failure> {
    let (mut read, mut size, mut resumable) = (Vec::new(), 0, false);
    let mut reader = sse::Reader::new(limit.min(MESSAGE_MAX));
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) if resumable => {
                let read = stream::iter(read).map(|data| Ok(Frame::data(data)));
                let broken = stream::iter([Err(error)]);
                return Ok((Body::Bytes(StreamBody::new(read.chain(broken)).boxed_unsync()), None));
            }
            Err(error) => return Err(broken(error)),
        };
        size += data.len();
        reader.push(&data);
        read.push(data);
        loop {
            let event = match reader.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(sse::TooLarge) => return Ok((put_back(read, body), None)),
            };
            resumable |= event.id.is_some();
            match Message::parse(&event.data) {
                _ if event.data.is_empty() => {}
                Ok(message) if message.kind() == Kind::Notification => {}
                Ok(message) if answers(&message, id) => {
                    let body = rest(read, body, tasks).await;
                    return Ok((body, Some(Common::Answer(status, message))));
                }
                _ => return Ok((put_back(read, body), None)),
            }
        }
        if size > limit {
            return Ok((put_back(read, body), None));
        }
    }
    Ok((put_back(read, body), None))
}

/// What came, and what little still comes after the response. Nobody waits for more than is there.
async fn rest(mut read: Vec<Bytes>, mut body: UnsyncBoxBody<Bytes, BoxError>, tasks: &Tasks) -> Body {
    let over = std::future::poll_fn(|context| {
        std::task::Poll::Ready(loop {
            match body.frame().poll_unpin(context) {
                std::task::Poll::Ready(Some(Ok(frame))) => read.extend(frame.into_data().ok()),
                std::task::Poll::Ready(_) => break true,
                std::task::Poll::Pending => break false,
            }
        })
    });
    if !over.await {
        tasks.spawn("the rest of an answer", OnExit::Quiet, async move {
            let end = async { while let Some(Ok(_)) = body.frame().await {} };
            let _ = tokio::time::timeout(REST_WITHIN, end).await;
        });
    }
    Body::Full(read.concat().into())
}

async fn messages_of(
    mut messages: Messages,
    status: StatusCode,
    id: &[u8],
    limit: usize,
) -> Result<(Body, Option<Common>), Failure> {
    let (mut read, mut size) = (Vec::new(), 0);
    while let Some(message) = messages.next().await {
        let message = message?;
        size += message.bytes().len();
        read.push(Ok(message.clone()));
        let common = match message.kind() {
            Kind::Notification if size <= limit => continue,
            Kind::Response if size <= limit && answers(&message, id) => Some(Common::Answer(status, message)),
            _ => None,
        };
        return Ok((Body::Messages(stream::iter(read).chain(messages).boxed()), common));
    }
    // A stream that has ended is not asked again.
    Ok((Body::Messages(stream::iter(read).boxed()), None))
}

/// A response for one caller, with its id.
pub(super) fn with_id(response: &Message, id: &[u8]) -> Bytes {
    match response.id_span() {
        Some(at) => json::splice(response.bytes(), vec![(at, id.to_vec())]),
        None => response.bytes().clone(),
    }
}

/// An HTTP error as a reply.
pub(super) fn page(status: StatusCode, headers: &HeaderMap, bytes: &Bytes) -> Reply {
    Reply { status, headers: headers.clone(), body: Body::Full(bytes.clone()), stale: None }
}

/// Whether an HTTP status that came without an answer says that the upstream is in trouble, not the request.
pub(super) fn is_trouble(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// A response as a reply.
pub(super) fn reply(status: StatusCode, bytes: Bytes) -> Reply {
    Reply { status, ..Reply::json(bytes) }
}
