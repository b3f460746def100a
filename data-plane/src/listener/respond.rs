//! Replies and failures as HTTP responses. The only file that knows which failure has which status and code.

use super::{
    events::{Events, Written},
    ladder::Refusal,
};
use crate::{
    call::{Body, BoxError, EVENT_STREAM, JSON, Messages, Reply},
    failure::{Failure, Kind},
    mcp::{self, Era, Message, json, rpc, sse},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use std::time::Duration;

pub(super) type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// How long a reply may be silent before its status is sent without knowing its first message. Until then an
/// error can still become a status, and a lone response plain JSON.
const COMMIT_AFTER: Duration = Duration::from_secs(15);

/// What a response depends on beside the reply.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) era: Era,
    /// The raw id, when a request was asked.
    pub(super) id: Option<Bytes>,
    /// A GET: always an event stream.
    pub(super) stream: bool,
}

/// The response for a reply.
pub(super) async fn reply(reply: Reply, asked: &Asked) -> Response<ResponseBody> {
    let Reply { status, headers, body, .. } = reply;
    match body {
        Body::Empty => with(status, headers, empty()),
        Body::Full(bytes) => with(status, headers, full(bytes)),
        Body::Bytes(body) => with(status, headers, body),
        Body::Messages(messages) => self::messages(status, headers, messages, asked).await,
        Body::Events(events) => {
            let written = events.map(|event| {
                Ok(match event.message {
                    Some(message) => sse::write_with_id(&event.id, message.bytes()),
                    None => sse::write_id(&event.id),
                })
            });
            event_stream(status, headers, written.boxed(), asked)
        }
    }
}

async fn messages(
    status: StatusCode,
    mut headers: HeaderMap,
    mut messages: Messages,
    asked: &Asked,
) -> Response<ResponseBody> {
    let mut first = None;
    if !asked.stream
        && let Ok(next) = tokio::time::timeout(COMMIT_AFTER, messages.next()).await
    {
        match next {
            Some(Ok(message)) if message.kind() == mcp::Kind::Response => {
                headers.insert(header::CONTENT_TYPE, JSON);
                let status = error_status(&message, asked.era).unwrap_or(status);
                return with(status, headers, full(message.bytes().clone()));
            }
            Some(Err(failure)) => return self::failure(&failure, asked),
            // Over without an answer: the request was cancelled. A stream that has ended is not asked again.
            None => messages = stream::empty().boxed(),
            other => first = other,
        }
    }
    let first = stream::iter(first);
    let written = first.chain(messages).map(|message| message.map(|message| sse::write(message.bytes())));
    event_stream(status, headers, written.boxed(), asked)
}

fn event_stream(
    status: StatusCode,
    mut headers: HeaderMap,
    written: Written,
    asked: &Asked,
) -> Response<ResponseBody> {
    headers.insert(header::CONTENT_TYPE, EVENT_STREAM);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    // The id alone: it shares the memory of its request, which a stream may outlive by far.
    let asked = Asked { id: asked.id.as_deref().map(Bytes::copy_from_slice), ..asked.clone() };
    let word = move |failure: &Failure| {
        asked.id.as_ref().map(|id| {
            let (_, code) = status_and_code(failure.kind, asked.era);
            rpc::error(Some(id), code, failure.public(), None)
        })
    };
    with(status, headers, Events::new(written, word).boxed_unsync())
}

/// Modern answers repeat some error codes as a status (2026-07-28, Streamable HTTP, "status codes"). Answers
/// that come over HTTP bring their own; this is for those that do not.
fn error_status(message: &Message, era: Era) -> Option<StatusCode> {
    let error = message.error().filter(|_| era == Era::Modern)?;
    let at = json::find(message.bytes(), &error, &["code"]).ok()??;
    match std::str::from_utf8(&message.bytes()[at]).ok()?.parse().ok()? {
        rpc::METHOD_NOT_FOUND => Some(StatusCode::NOT_FOUND),
        -32022..=-32020 => Some(StatusCode::BAD_REQUEST),
        _ => None,
    }
}

/// The response for a failure.
pub(super) fn failure(failure: &Failure, asked: &Asked) -> Response<ResponseBody> {
    let (mut status, code) = status_and_code(failure.kind, asked.era);
    if asked.id.is_none() && status == StatusCode::OK {
        // Nobody reads a JSON-RPC error without a request: say it in HTTP.
        status = match failure.kind {
            Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Kind::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Kind::UnknownMethod => StatusCode::METHOD_NOT_ALLOWED,
            kind if failure.is_upstream() || kind == Kind::SessionLost => StatusCode::BAD_GATEWAY,
            _ => StatusCode::BAD_REQUEST,
        };
    }
    let body = rpc::error(asked.id.as_deref(), code, failure.public(), failure.data());
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, JSON);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    with(status, headers, full(body))
}

/// A failure as the JSON-RPC error of a legacy request.
pub(super) fn legacy_error(id: &[u8], failure: &Failure) -> Bytes {
    let (_, code) = status_and_code(failure.kind, Era::Legacy);
    rpc::error(Some(id), code, failure.public(), None)
}

fn status_and_code(kind: Kind, era: Era) -> (StatusCode, i32) {
    let modern = era == Era::Modern;
    match kind {
        Kind::InvalidRequest | Kind::WrongEra => (StatusCode::BAD_REQUEST, rpc::INVALID_REQUEST),
        Kind::InvalidParams | Kind::UnknownName => (StatusCode::OK, rpc::INVALID_PARAMS),
        Kind::UnknownResource if modern => (StatusCode::OK, rpc::INVALID_PARAMS),
        Kind::UnknownResource => (StatusCode::OK, rpc::RESOURCE_NOT_FOUND),
        Kind::UnknownMethod if modern => (StatusCode::NOT_FOUND, rpc::METHOD_NOT_FOUND),
        Kind::UnknownMethod => (StatusCode::OK, rpc::METHOD_NOT_FOUND),
        Kind::UnknownSession | Kind::UnknownRoute => (StatusCode::NOT_FOUND, rpc::SERVER),
        Kind::MissingSession => (StatusCode::BAD_REQUEST, rpc::SERVER),
        Kind::StreamTaken => (StatusCode::CONFLICT, rpc::SERVER),
        Kind::TooManySessions | Kind::Draining => (StatusCode::SERVICE_UNAVAILABLE, rpc::SERVER),
        // A modern client's library waits and tries again; a legacy one takes the status for the end of all.
        Kind::Overloaded if modern => (StatusCode::SERVICE_UNAVAILABLE, rpc::UPSTREAM_OVERLOADED),
        Kind::Overloaded => (StatusCode::OK, rpc::UPSTREAM_OVERLOADED),
        Kind::Unreachable | Kind::SessionLost => (StatusCode::OK, rpc::UPSTREAM_UNAVAILABLE),
        Kind::Timeout => (StatusCode::OK, rpc::UPSTREAM_TIMEOUT),
        Kind::ReadOnly if modern => (StatusCode::SERVICE_UNAVAILABLE, rpc::UPSTREAM_READ_ONLY),
        Kind::ReadOnly => (StatusCode::OK, rpc::UPSTREAM_READ_ONLY),
        Kind::Protocol => (StatusCode::OK, rpc::INTERNAL),
        Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, rpc::INTERNAL),
    }
}

/// The response for a message that the ladder refused.
pub(super) fn refusal(refusal: &Refusal, id: Option<&[u8]>) -> Response<ResponseBody> {
    error(refusal.status, id, refusal.code, &refusal.message, refusal.data.as_ref())
}

/// A JSON-RPC error with a status.
pub(super) fn error(
    status: StatusCode,
    id: Option<&[u8]>,
    code: i32,
    message: &str,
    data: Option<&serde_json::Value>,
) -> Response<ResponseBody> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, JSON);
    with(status, headers, full(rpc::error(id, code, message, data)))
}

/// A JSON document.
pub(super) fn json(document: &serde_json::Value) -> Response<ResponseBody> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, JSON);
    with(StatusCode::OK, headers, full(document.to_string().into()))
}

/// A response without a body.
pub(super) fn bare(status: StatusCode) -> Response<ResponseBody> {
    with(status, HeaderMap::new(), empty())
}

fn with(status: StatusCode, headers: HeaderMap, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn full(bytes: Bytes) -> ResponseBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn empty() -> ResponseBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use o1_proto::codes;

    #[test]
    fn people_are_told_of_each_kind_of_failure_under_the_code_it_has() {
        for era in [Era::Legacy, Era::Modern] {
            for kind in Kind::ALL {
                let code = codes::find(status_and_code(kind, era).1).expect("it is in the table");
                assert!(code.kinds.contains(&kind.code()), "{} ends in {}", kind.code(), code.number);
            }
        }
        let kinds: Vec<&str> = codes::ALL.iter().flat_map(|code| code.kinds).copied().collect();
        assert!(kinds.iter().all(|kind| Kind::ALL.iter().any(|one| one.code() == *kind)), "{kinds:?}");
    }

    #[tokio::test]
    async fn a_request_that_was_cancelled_ends_as_an_empty_stream() {
        // Like the streams of the path, this one must not be polled once it has ended.
        let over = stream::unfold((), |()| async { None::<(Result<Message, Failure>, ())> }).boxed();
        let asked = Asked { era: Era::Legacy, id: Some(Bytes::from_static(b"1")), stream: false };
        let response = reply(Reply::messages(over), &asked).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], EVENT_STREAM);
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
}
