//! The rules of revisions 2025-03-26 to 2025-11-25: a handshake, a session, one stream to listen on.

use super::{
    Sample,
    answer::{answer, offers},
    envelope::{
        self, Body, Fault, INVALID_REQUEST, LEGACY, METHOD_NOT_FOUND, Message, Request, message, result,
    },
    reply::Reply,
    sessions::Taken,
};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

/// The only revision that knows arrays of messages.
const WITH_BATCHES: &str = "2025-03-26";
const LATEST: &str = "2025-11-25";
/// The code SDKs use for trouble with a session.
const SESSION: i32 = -32000;

/// POST.
pub(super) fn post(sample: &Sample, headers: &HeaderMap, body: Body) -> Reply {
    if let Body::One(value) = &body
        && value.get("method").and_then(Value::as_str) == Some("initialize")
    {
        return initialize(sample, value.clone());
    }
    let version = match session(sample, headers) {
        Ok(version) => version,
        Err(refused) => return refused,
    };
    match body {
        Body::One(value) => match message(value) {
            Ok(Message::Request(request)) => Reply::Json(StatusCode::OK, handle(sample, request)),
            Ok(Message::Notification | Message::Response) => Reply::Accepted,
            Err((id, fault)) => Reply::Json(StatusCode::BAD_REQUEST, fault.message(id)),
        },
        Body::Batch(messages) if version == WITH_BATCHES && !messages.is_empty() => batch(sample, messages),
        Body::Batch(_) => {
            refuse(StatusCode::BAD_REQUEST, INVALID_REQUEST, "one message, not an array of them")
        }
    }
}

/// GET: listen to what the server says unasked.
pub(super) fn get(sample: &Sample, headers: &HeaderMap, stopping: CancellationToken) -> Reply {
    if let Err(refused) = session(sample, headers) {
        return refused;
    }
    match sample.sessions.listen(session_id(headers).unwrap_or_default(), stopping) {
        Some(Ok(listening)) => Reply::Listen(listening),
        Some(Err(Taken)) => {
            refuse(StatusCode::CONFLICT, SESSION, "this session already has a stream: one is the limit")
        }
        None => lost(),
    }
}

/// DELETE: the client is done.
pub(super) fn delete(sample: &Sample, headers: &HeaderMap) -> Reply {
    match session(sample, headers) {
        Ok(_) if sample.sessions.end(session_id(headers).unwrap_or_default()) => Reply::Gone,
        Ok(_) => lost(),
        Err(refused) => refused,
    }
}

fn initialize(sample: &Sample, value: Value) -> Reply {
    let request = match message(value) {
        Ok(Message::Request(request)) => request,
        Ok(Message::Notification | Message::Response) => {
            return refuse(StatusCode::BAD_REQUEST, INVALID_REQUEST, "initialize needs an id");
        }
        Err((id, fault)) => return Reply::Json(StatusCode::BAD_REQUEST, fault.message(id)),
    };
    // A client that asks for what we do not speak is offered the newest that we do, and decides for itself.
    let asked = request.params.get("protocolVersion").and_then(Value::as_str);
    let version = LEGACY.into_iter().find(|known| Some(*known) == asked).unwrap_or(LATEST);
    let Some(session) = sample.sessions.begin(version) else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, SESSION, "no session can begin now");
    };
    let mut offer = offers(sample);
    offer.insert("protocolVersion".to_owned(), json!(version));
    offer.insert("serverInfo".to_owned(), sample.info());
    Reply::Begins(session, result(request.id, offer))
}

fn handle(sample: &Sample, request: Request) -> Value {
    let outcome = match request.method.as_str() {
        "ping" => Ok(Map::new()),
        "server/discover" => {
            Err(Fault::new(METHOD_NOT_FOUND, "method not found: server/discover needs the modern headers"))
        }
        method => answer(sample, method, &request.params).map(|answer| answer.result),
    };
    match outcome {
        Ok(found) => result(request.id, found),
        Err(fault) => fault.message(Some(request.id)),
    }
}

/// Answers in the order of the questions; an array of notifications has no answer.
fn batch(sample: &Sample, messages: Vec<Value>) -> Reply {
    let answers: Vec<_> = messages
        .into_iter()
        .filter_map(|value| match message(value) {
            Ok(Message::Request(request)) => Some(handle(sample, request)),
            Ok(Message::Notification | Message::Response) => None,
            Err((id, fault)) => Some(fault.message(id)),
        })
        .collect();
    if answers.is_empty() { Reply::Accepted } else { Reply::Json(StatusCode::OK, Value::Array(answers)) }
}

/// The version of the session that a request belongs to.
fn session(sample: &Sample, headers: &HeaderMap) -> Result<&'static str, Reply> {
    let id = session_id(headers);
    let named = headers.get("mcp-protocol-version").map(|version| version.to_str().unwrap_or("?"));
    if let Some(named) = named.filter(|named| !LEGACY.contains(named)) {
        let what = format!("unsupported protocol version `{named}`, known are {}", LEGACY.join(", "));
        return Err(refuse(StatusCode::BAD_REQUEST, INVALID_REQUEST, &what));
    }
    let id = id.ok_or_else(|| {
        refuse(StatusCode::BAD_REQUEST, SESSION, "the Mcp-Session-Id header is missing: initialize first")
    })?;
    sample.sessions.touch(id).ok_or_else(lost)
}

fn session_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("mcp-session-id")?.to_str().ok()
}

fn lost() -> Reply {
    refuse(StatusCode::NOT_FOUND, SESSION, "session not found: initialize again")
}

fn refuse(status: StatusCode, code: i32, what: &str) -> Reply {
    Reply::Json(status, envelope::Fault::new(code, what).message(None))
}
