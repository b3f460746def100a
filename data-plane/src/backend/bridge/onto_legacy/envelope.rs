//! A modern request as a legacy server takes it: what the envelope says is read, then taken out. Pure.

use crate::{
    failure::{Failure, Kind},
    mcp::{Message, era, json, method},
};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// What a modern request says beside what a legacy one would.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// The client's id, as it was spelled.
    pub(super) id: Bytes,
    pub(super) method: String,
    /// The tool, prompt or resource; empty for methods without one.
    pub(super) name: String,
    /// The client's progress token, as it was spelled.
    pub(super) token: Option<Bytes>,
    /// The least severe log message the client wants, as a place in [`LEVELS`].
    pub(super) level: Option<usize>,
    /// What the client can be asked.
    pub(super) capabilities: Map<String, Value>,
    /// Answers that come with it, by key.
    pub(super) given: HashMap<String, Bytes>,
    /// What an earlier answer wanted back.
    pub(super) state: Option<String>,
}

/// Severities, the least one first.
pub(super) const LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// The place of a severity in [`LEVELS`].
pub(super) fn level(word: &str) -> Option<usize> {
    LEVELS.iter().position(|level| *level == word)
}

impl Asked {
    /// Reads a request.
    pub(super) fn read(message: &Message) -> Result<Self, Failure> {
        let text = message.bytes();
        let meta = |key: &str| message.param(&["_meta", key]).map_err(|twice| invalid(twice.0));
        let capabilities = match meta(era::META_CAPABILITIES)? {
            Some(at) => {
                serde_json::from_slice(&text[at]).map_err(|_| invalid("`clientCapabilities` is no object"))?
            }
            None => Map::new(),
        };
        let level = meta(era::META_LOG_LEVEL)?.and_then(|at| level(&json::string(text, &at)?));
        let name = match method::named_by(message.method()) {
            Some(key) => message.param_str(&[key]).map_err(|twice| invalid(twice.0))?,
            None => None,
        };
        let state = message.param(&["requestState"]).map_err(|twice| invalid(twice.0))?;
        let state = match state {
            Some(at) => Some(
                json::string(text, &at).ok_or_else(|| invalid("`requestState` is a string"))?.into_owned(),
            ),
            None => None,
        };
        Ok(Self {
            id: Bytes::copy_from_slice(message.id().unwrap_or_default()),
            method: message.method().to_owned(),
            name: name.unwrap_or_default().into_owned(),
            token: token(message)?.map(|at| Bytes::copy_from_slice(&text[at])),
            level,
            capabilities,
            given: given(message)?,
            state,
        })
    }

    /// Whether the answer may be a question (2026-07-28, "multi round-trip requests").
    pub(super) fn can_be_asked(&self) -> bool {
        matches!(self.method.as_str(), method::TOOLS_CALL | method::PROMPTS_GET | method::RESOURCES_READ)
    }

    /// What the client can be asked, as a server is told in `initialize`: tasks are not translated, so they do
    /// not exist.
    pub(super) fn declared(&self) -> String {
        let mut declared = self.capabilities.clone();
        declared.remove("tasks");
        if let Some(Value::Object(extensions)) = declared.get_mut("extensions") {
            extensions.remove("io.modelcontextprotocol/tasks");
            if extensions.is_empty() {
                declared.remove("extensions");
            }
        }
        Value::Object(declared).to_string()
    }
}

/// The request under another id and progress token, without its envelope and without what only clients of the
/// modern era send.
pub(super) fn legacy(message: &Message, number: u64) -> Result<Message, Failure> {
    let malformed = |malformed: json::Malformed| invalid(malformed.0);
    let number = number.to_string().into_bytes();
    let mut edits = Vec::with_capacity(3);
    edits.extend(message.id_span().map(|at| (at, number.clone())));
    edits.extend(token(message)?.map(|at| (at, number)));
    let message = message.spliced(edits);
    let whole = 0..message.bytes().len();
    let Some(at) = json::find(message.bytes(), &whole, &["params"]).map_err(malformed)? else {
        return Ok(message);
    };
    let mut edits = Vec::with_capacity(1);
    if let Some(meta) = message.param(&["_meta"]).map_err(malformed)?
        && message.bytes()[meta.start] == b'{'
    {
        let kept = json::filtered(message.bytes(), &meta, |key| !key.starts_with(era::META_RESERVED));
        edits.push((meta, kept.map_err(malformed)?));
    }
    let mut message = message.spliced(edits);
    let foreign = ["inputResponses", "requestState", "task"];
    if foreign.iter().any(|key| !matches!(message.param(&[key]), Ok(None))) {
        let end = json::find(message.bytes(), &(0..message.bytes().len()), &["params"]).map_err(malformed)?;
        let params = end.unwrap_or(at);
        let kept =
            json::filtered(message.bytes(), &params, |key| !foreign.contains(&key)).map_err(malformed)?;
        message = message.spliced(vec![(params, kept)]);
    }
    Ok(message)
}

/// Where the progress token is, if it is one.
fn token(message: &Message) -> Result<Option<json::Span>, Failure> {
    let at = message.param(&["_meta", "progressToken"]).map_err(|twice| invalid(twice.0))?;
    Ok(at.filter(|at| matches!(message.bytes()[at.start], b'"' | b'-' | b'0'..=b'9')))
}

fn given(message: &Message) -> Result<HashMap<String, Bytes>, Failure> {
    let malformed = |malformed: json::Malformed| invalid(malformed.0);
    let Some(at) = message.param(&["inputResponses"]).map_err(malformed)? else { return Ok(HashMap::new()) };
    let text = message.bytes();
    if text[at.start] != b'{' {
        return Err(invalid("`inputResponses` is an object: one answer for each key of `inputRequests`"));
    }
    let members = json::members(text, &at).map_err(malformed)?;
    Ok(members.into_iter().map(|(key, at)| (key.into_owned(), text.slice(at))).collect())
}

fn invalid(what: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::new(Kind::InvalidParams, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(params: &str) -> Message {
        let text = format!(r#"{{"jsonrpc":"2.0","id":"c-1","method":"tools/call","params":{params}}}"#);
        Message::parse(&Bytes::from(text)).unwrap()
    }

    #[test]
    fn the_envelope_goes_and_everything_else_stays_as_it_was_spelled() {
        let modern = request(
            r#"{"name":"a","arguments":{"n":1.10},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":"p","vendor/x":[ 1 ],"io.modelcontextprotocol/clientCapabilities":{}},"inputResponses":{"k":{}},"requestState":"s","task":{"ttl":1},"z":1e5}"#,
        );
        assert_eq!(
            &legacy(&modern, 7).unwrap().bytes()[..],
            br#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","arguments":{"n":1.10},"_meta":{"progressToken":7,"vendor/x":[ 1 ]},"z":1e5}}"#
        );
        let plain = request(r#"{"_meta": {"traceparent":"t"} , "cursor":""}"#);
        assert_eq!(
            &legacy(&plain, 8).unwrap().bytes()[..],
            br#"{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"_meta": {"traceparent":"t"} , "cursor":""}}"#
        );
    }

    #[test]
    fn what_the_envelope_says_is_read() {
        let asked = Asked::read(&request(
            r#"{"name":"a","_meta":{"io.modelcontextprotocol/logLevel":"warning","io.modelcontextprotocol/clientCapabilities":{"sampling":{},"tasks":{},"extensions":{"io.modelcontextprotocol/tasks":{}}},"progressToken":0},"inputResponses":{"k":{"action":"accept"}},"requestState":"s"}"#,
        ))
        .unwrap();
        assert_eq!((asked.level, asked.token.as_deref()), (Some(3), Some(&b"0"[..])));
        assert_eq!((asked.name.as_str(), asked.state.as_deref()), ("a", Some("s")));
        assert_eq!(&asked.given["k"][..], br#"{"action":"accept"}"#);
        assert_eq!(asked.declared(), r#"{"sampling":{}}"#);
        for wrong in [r#"{"inputResponses":null}"#, r#"{"inputResponses":[]}"#, r#"{"requestState":1}"#] {
            assert_eq!(Asked::read(&request(wrong)).unwrap_err().kind, Kind::InvalidParams, "{wrong}");
        }
    }
}
