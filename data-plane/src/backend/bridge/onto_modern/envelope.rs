//! A legacy client's request as a modern server takes it: what the session knows of the client goes into
//! `params._meta`, what the message says into headers.

use super::super::params::{self, Param};
use crate::{
    failure::{Failure, Kind},
    mcp::{
        Message, era, header,
        json::{self, Malformed, Span},
        method,
    },
};
use http::{HeaderMap, HeaderValue};

/// What a client said of itself in `initialize`, as each of its requests repeats it.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    /// The legacy revision the client speaks.
    pub(super) version: &'static str,
    /// Raw JSON, without what cannot be translated.
    pub(super) capabilities: Vec<u8>,
    client_info: Option<Vec<u8>>,
}

/// The extension that is hidden from both sides: tasks of the two eras have nothing in common but their name.
pub(super) const TASKS: &str = "io.modelcontextprotocol/tasks";

impl Profile {
    /// Reads an `initialize`.
    ///
    /// # Errors
    /// Its parameters hold a key twice.
    pub(super) fn of(initialize: &Message) -> Result<Self, Malformed> {
        let text = initialize.bytes();
        let version = era::negotiate(&initialize.param_str(&["protocolVersion"])?.unwrap_or_default());
        let object = |at: &Span| text[at.start] == b'{';
        let capabilities = match initialize.param(&["capabilities"])?.filter(object) {
            Some(at) => capabilities(&text[at], version)?,
            None => b"{}".to_vec(),
        };
        let client_info = initialize.param(&["clientInfo"])?.filter(object).map(|at| text[at].to_vec());
        Ok(Self { version, capabilities, client_info })
    }

    /// Whether the client can be asked for this.
    pub(super) fn declares(&self, capability: &str) -> bool {
        let whole = 0..self.capabilities.len();
        json::member(&self.capabilities, &whole, capability)
            .is_ok_and(|at| at.is_some_and(|at| self.capabilities[at.start] == b'{'))
    }

    /// The envelope, as members of `_meta`.
    fn members<'a>(&'a self, level: Option<&'a [u8]>) -> Vec<(&'static str, &'a [u8])> {
        let mut members: Vec<(&str, &[u8])> =
            vec![(era::META_VERSION, VERSION), (era::META_CAPABILITIES, &self.capabilities)];
        members.extend(self.client_info.as_deref().map(|info| (era::META_CLIENT_INFO, info)));
        members.extend(level.map(|level| (era::META_LOG_LEVEL, level)));
        members
    }
}

const VERSION: &[u8] = b"\"2026-07-28\"";
const RESERVED: [&str; 4] =
    [era::META_VERSION, era::META_CAPABILITIES, era::META_CLIENT_INFO, era::META_LOG_LEVEL];

/// What of a client's capabilities a modern server may count on.
fn capabilities(text: &[u8], version: &str) -> Result<Vec<u8>, Malformed> {
    let whole = 0..text.len();
    let mut edits = json::revise(text, &whole, &["tasks"], &[])?;
    if let Some(extensions) = json::member(text, &whole, "extensions")?.filter(|at| text[at.start] == b'{') {
        edits.extend(json::revise(text, &extensions, &[TASKS], &[])?);
    }
    // Before 2025-11-25 there were forms and nothing else.
    if version < "2025-11-25"
        && let Some(elicitation) =
            json::member(text, &whole, "elicitation")?.filter(|at| text[at.start] == b'{')
    {
        edits.extend(json::revise(text, &elicitation, &["url"], &[])?);
    }
    Ok(json::splice(text, edits).to_vec())
}

/// The request with the envelope in its `_meta`; `more`: further raw members of `params`.
///
/// # Errors
/// `params` is no object, or holds a key twice.
pub(super) fn enveloped(
    message: &Message,
    profile: &Profile,
    level: Option<&str>,
    more: &[(&str, &[u8])],
) -> Result<Message, Failure> {
    let invalid = |malformed: Malformed| Failure::new(Kind::InvalidParams, malformed.0);
    let text = message.bytes();
    let level = level.map(json::quote);
    let members = profile.members(level.as_deref());
    let Some(params) = message.param(&[]).map_err(invalid)? else {
        let whole = 0..text.len();
        let params = object(&[&[("_meta", object(&members).as_slice())], more].concat());
        // A `params` of null counts as absent.
        return Ok(message
            .spliced(json::revise(text, &whole, &["params"], &[("params", &params)]).map_err(invalid)?));
    };
    if text[params.start] != b'{' {
        return Err(Failure::new(Kind::InvalidParams, "`params` must be an object"));
    }
    let meta = json::member(text, &params, "_meta").map_err(invalid)?;
    let edits = match meta.filter(|at| text[at.start] == b'{') {
        Some(meta) => {
            let mut edits = json::revise(text, &meta, &RESERVED, &members).map_err(invalid)?;
            edits.extend(json::revise(text, &params, &[], more).map_err(invalid)?);
            edits
        }
        None => {
            let meta = object(&members);
            let add = [&[("_meta", meta.as_slice())], more].concat();
            json::revise(text, &params, &["_meta"], &add).map_err(invalid)?
        }
    };
    Ok(message.spliced(edits))
}

/// The headers of a modern request.
///
/// # Errors
/// The message holds a key twice where a header repeats it.
pub(super) fn headers(message: &Message, repeated: &[Param]) -> Result<HeaderMap, Failure> {
    let invalid = |malformed: Malformed| Failure::new(Kind::InvalidParams, malformed.0);
    let mut headers = HeaderMap::new();
    headers.insert(header::PROTOCOL_VERSION, HeaderValue::from_static(era::MODERN[0]));
    headers.insert(header::METHOD, header::encode(message.method()));
    if let Some(key) = method::named_by(message.method())
        && let Some(name) = message.param_str(&[key]).map_err(invalid)?
    {
        headers.insert(header::NAME, header::encode(&name));
    }
    if message.method() == method::TOOLS_CALL && !repeated.is_empty() {
        let arguments = message.param(&["arguments"]).map_err(invalid)?;
        let arguments = arguments.map(|at| &message.bytes()[at]);
        params::mirror(repeated, arguments, &mut headers).map_err(invalid)?;
    }
    Ok(headers)
}

/// An object of raw members.
pub(super) fn object(members: &[(&str, &[u8])]) -> Vec<u8> {
    let edits = json::revise(b"{}", &(0..2), &[], members).expect("an empty object is an object");
    json::splice(b"{}", edits).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde_json::{Value, json};

    fn parse(text: &str) -> Message {
        Message::parse(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn profile(version: &str, capabilities: &str) -> Profile {
        Profile::of(&parse(&format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}",
            "capabilities":{capabilities},"clientInfo":{{"name":"c","n":1.10}}}}}}"#
        )))
        .unwrap()
    }

    #[test]
    fn what_the_client_said_of_itself_stands_in_every_request() {
        let profile = profile("2025-11-25", r#"{"sampling":{},"x":[1e5]}"#);
        let table = [
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
                r#"{"params":{"_meta":{ENVELOPE}},"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"params":{ "a":1.10},"method":"m"}"#,
                r#"{"jsonrpc":"2.0","id":1,"params":{"_meta":{ENVELOPE}, "a":1.10},"method":"m"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"params":{"_meta":{"progressToken":7,"dev.x/y":{}}},"method":"m"}"#,
                r#"{"jsonrpc":"2.0","id":1,"params":{"_meta":{ENVELOPE,"progressToken":7,"dev.x/y":{}}},"method":"m"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"lie"}},"method":"m"}"#,
                r#"{"jsonrpc":"2.0","id":1,"params":{"_meta":{ENVELOPE}},"method":"m"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"params":null,"method":"m"}"#,
                r#"{"params":{"_meta":{ENVELOPE}},"jsonrpc":"2.0","id":1,"method":"m"}"#,
            ),
        ];
        let envelope = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"sampling":{},"x":[1e5]},"io.modelcontextprotocol/clientInfo":{"name":"c","n":1.10},"io.modelcontextprotocol/logLevel":"info""#;
        for (from, to) in table {
            let message = enveloped(&parse(from), &profile, Some("info"), &[]).unwrap();
            assert_eq!(message.bytes(), to.replace("ENVELOPE", envelope).as_bytes(), "{from}");
        }
    }

    #[test]
    fn a_retry_carries_answers_and_state() {
        let profile = profile("2025-11-25", "{}");
        let request = parse(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":"p"}}}"#,
        );
        let more: [(&str, &[u8]); 2] = [("inputResponses", br#"{"a":{}}"#), ("requestState", br#""\u0041""#)];
        let retried = enveloped(&request, &profile, None, &more).unwrap();
        let params: Value = serde_json::from_slice(retried.params().unwrap()).unwrap();
        assert_eq!(params["inputResponses"], json!({"a": {}}));
        assert_eq!(params["_meta"]["progressToken"], "p");
        let state = retried.param(&["requestState"]).unwrap().unwrap();
        assert_eq!(&retried.bytes()[state], br#""\u0041""#, "byte-exact");
    }

    #[test]
    fn what_cannot_be_translated_is_not_declared() {
        let all = r#"{"tasks":{"list":{}},"elicitation":{"form":{},"url":{}},"roots":{"listChanged":true},
            "extensions":{"io.modelcontextprotocol/tasks":{},"dev.x/y":{}}}"#;
        let declared =
            |version: &str| -> Value { serde_json::from_slice(&profile(version, all).capabilities).unwrap() };
        let mut expected = json!({"elicitation": {"form": {}, "url": {}}, "roots": {"listChanged": true},
            "extensions": {"dev.x/y": {}}});
        assert_eq!(declared("2025-11-25"), expected);
        expected["elicitation"] = json!({"form": {}});
        assert_eq!(declared("2025-06-18"), expected);
        let profile = profile("2025-06-18", all);
        assert!(profile.declares("roots") && !profile.declares("sampling") && !profile.declares("tasks"));
    }

    #[test]
    fn headers_repeat_the_message() {
        let call = parse(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"été","arguments":{"r":"eu"}}}"#,
        );
        let schema = br#"{"properties":{"r":{"type":"string","x-mcp-header":"Region"}}}"#;
        let sent = headers(&call, &params::annotated(schema).unwrap()).unwrap();
        assert_eq!(sent["mcp-protocol-version"], "2026-07-28");
        assert_eq!(sent["mcp-method"], "tools/call");
        assert_eq!(sent["mcp-name"], "=?base64?w6l0w6k=?=");
        assert_eq!(sent["mcp-param-region"], "eu");
        let list = headers(&parse(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#), &[]).unwrap();
        assert_eq!(list.len(), 2);
    }
}
