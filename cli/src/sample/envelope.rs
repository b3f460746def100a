//! Is this JSON-RPC, and what does it ask? One message, or the array of them that revision 2025-03-26 allows.

use serde_json::{Map, Value, json};

/// The revision without sessions.
pub(super) const MODERN: &str = "2026-07-28";
/// The revisions with sessions, oldest first.
pub(super) const LEGACY: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];

pub(super) const PARSE_ERROR: i32 = -32700;
pub(super) const INVALID_REQUEST: i32 = -32600;
pub(super) const METHOD_NOT_FOUND: i32 = -32601;
pub(super) const INVALID_PARAMS: i32 = -32602;
pub(super) const HEADER_MISMATCH: i32 = -32020;
pub(super) const UNSUPPORTED_VERSION: i32 = -32022;
/// Legacy only; modern servers answer `INVALID_PARAMS`.
pub(super) const RESOURCE_NOT_FOUND: i32 = -32002;

/// A JSON-RPC error.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    pub(super) code: i32,
    pub(super) message: String,
    pub(super) data: Option<Value>,
}

impl Fault {
    pub(super) fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub(super) fn with(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// The message that carries it; without an id where none could be read.
    pub(super) fn message(self, id: Option<Value>) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(data) = self.data {
            error["data"] = data;
        }
        response(id.unwrap_or(Value::Null), "error", error)
    }
}

/// What a client sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    Request(Request),
    /// Needs no answer.
    Notification,
    /// To a request of ours; we never ask.
    Response,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) id: Value,
    pub(super) method: String,
    pub(super) params: Map<String, Value>,
}

/// A whole body.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    One(Value),
    Batch(Vec<Value>),
}

/// Reads a body.
pub(super) fn read(bytes: &[u8]) -> Result<Body, Fault> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Array(messages)) => Ok(Body::Batch(messages)),
        Ok(message) => Ok(Body::One(message)),
        Err(error) => Err(Fault::new(PARSE_ERROR, format!("the body is not JSON: {error}"))),
    }
}

/// Reads one message. The id comes back with the fault, as far as it could be read.
pub(super) fn message(value: Value) -> Result<Message, (Option<Value>, Fault)> {
    let invalid = |id: Option<Value>, what: &str| Err((id, Fault::new(INVALID_REQUEST, what)));
    let Value::Object(mut object) = value else { return invalid(None, "a message is an object") };
    let id = object.remove("id");
    let readable = id.clone().filter(|id| id.is_string() || id.is_i64() || id.is_u64());
    if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return invalid(readable, "`jsonrpc` must be \"2.0\"");
    }
    let Some(method) = object.remove("method") else {
        return match object.contains_key("result") || object.contains_key("error") {
            true => Ok(Message::Response),
            false => invalid(readable, "`method` is missing"),
        };
    };
    let Value::String(method) = method else { return invalid(readable, "`method` must be a string") };
    if id.is_none() {
        return Ok(Message::Notification);
    }
    let Some(id) = readable else { return invalid(None, "`id` must be a string or an integer") };
    match object.remove("params") {
        None => Ok(Message::Request(Request { id, method, params: Map::new() })),
        Some(Value::Object(params)) => Ok(Message::Request(Request { id, method, params })),
        Some(_) => invalid(Some(id), "`params` must be an object"),
    }
}

/// The message that carries a result.
pub(super) fn result(id: Value, result: Map<String, Value>) -> Value {
    response(id, "result", Value::Object(result))
}

fn response(id: Value, kind: &str, content: Value) -> Value {
    let members = [("jsonrpc", Value::from("2.0")), ("id", id), (kind, content)];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
