//! What goes back to a client, as HTTP.

use super::sessions::Listening;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::Value;
use std::{convert::Infallible, time::Duration};

/// Whole, or a stream of server-sent events.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A comment on an idle stream, so that proxies keep it open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An answer.
pub(super) enum Reply {
    /// A message, or an array of them.
    Json(StatusCode, Value),
    /// The same with the id of a session that begins here.
    Begins(String, Value),
    /// Taken note of; nothing to say.
    Accepted,
    /// Done; nothing to say.
    Gone,
    /// Refused before anybody looked at the message.
    Refused(StatusCode, String),
    /// Another verb is needed: these are allowed.
    Verb(&'static str),
    /// An open stream.
    Listen(Listening),
}

impl Reply {
    pub(super) fn response(self) -> Response<Body> {
        match self {
            Self::Json(status, message) => json(status, &message),
            Self::Begins(session, message) => {
                let mut response = json(StatusCode::OK, &message);
                let id = HeaderValue::try_from(session).expect("session ids are hexadecimal");
                response.headers_mut().insert("mcp-session-id", id);
                response
            }
            Self::Accepted => whole(StatusCode::ACCEPTED, None, Bytes::new()),
            Self::Gone => whole(StatusCode::OK, None, Bytes::new()),
            Self::Refused(status, why) => whole(status, Some("text/plain"), Bytes::from(why + "\n")),
            Self::Verb(allowed) => {
                let mut response = whole(StatusCode::METHOD_NOT_ALLOWED, None, Bytes::new());
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
                response
            }
            Self::Listen(listening) => listen(listening),
        }
    }
}

fn json(status: StatusCode, message: &Value) -> Response<Body> {
    whole(status, Some("application/json"), Bytes::from(message.to_string()))
}

fn whole(status: StatusCode, content_type: Option<&'static str>, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

/// Nothing here ever changes by itself, so the stream only shows that it lives, until the session ends.
fn listen(listening: Listening) -> Response<Body> {
    let events = stream::unfold((listening, Duration::ZERO), |(listening, wait)| async move {
        tokio::select! {
            () = listening.over() => None,
            () = tokio::time::sleep(wait) => {
                let comment = Frame::data(Bytes::from_static(b": keep-alive\n\n"));
                Some((Ok::<_, Infallible>(comment), (listening, KEEP_ALIVE)))
            }
        }
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
