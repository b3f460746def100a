//! Which era a message belongs to, and whether a modern one agrees with its headers: the checks of
//! 2026-07-28, Streamable HTTP, in their order. Pure.

use crate::mcp::{Era, Kind, Message, era, header, json, method, rpc};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::borrow::Cow;

/// Why a message is refused, ready to be said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: i32,
    pub(super) message: String,
    pub(super) data: Option<serde_json::Value>,
}

impl Refusal {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into(), data: None }
    }
}

/// The era of a POST: by its version header first, by its body where the header is silent.
///
/// # Errors
/// The body claims the modern era and the header does not.
pub(super) fn era_of(headers: &HeaderMap, message: &Message) -> Result<Era, Refusal> {
    let declared = headers.get(header::PROTOCOL_VERSION).and_then(header::decode);
    let modern_body = || matches!(message.param(&["_meta", era::META_VERSION]), Ok(Some(_)));
    match declared.as_deref() {
        Some(version) if !era::LEGACY.contains(&version) => Ok(Era::Modern),
        _ if modern_body() => Err(Refusal::new(
            rpc::HEADER_MISMATCH,
            "`_meta` names a protocol version, so the MCP-Protocol-Version header must name the same one",
        )),
        _ => Ok(Era::Legacy),
    }
}

/// Climbs the ladder for a modern message.
///
/// # Errors
/// The first rung that does not hold.
pub(super) fn check(headers: &HeaderMap, message: &Message) -> Result<(), Refusal> {
    match message.kind() {
        Kind::Request => {}
        Kind::Notification => return Ok(()),
        Kind::Response => {
            return Err(Refusal::new(rpc::INVALID_REQUEST, "clients of this revision do not send responses"));
        }
    }
    let said = [
        only(headers, &header::PROTOCOL_VERSION)?,
        only(headers, &header::METHOD)?,
        only(headers, &header::NAME)?,
    ];
    let [said_version, said_method, said_name] = said;
    let key = method::named_by(message.method());
    let params = Params::of(message, key);
    let version = envelope(message, &params)?;
    same(said_version, &header::PROTOCOL_VERSION, &version)?;
    same(said_method, &header::METHOD, message.method())?;
    if let Some(key) = key {
        named(said_name, message, &params, key)?;
    }
    if !era::MODERN.contains(&&*version) {
        let mut refusal =
            Refusal::new(rpc::UNSUPPORTED_VERSION, format!("unsupported protocol version {version}"));
        refusal.data = Some(serde_json::json!({ "supported": era::MODERN, "requested": version }));
        return Err(refusal);
    }
    Ok(())
}

/// The one line of a header.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, Refusal> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next();
    match lines.next() {
        Some(_) => Err(Refusal::new(rpc::HEADER_MISMATCH, format!("the header {name} stands twice"))),
        None => Ok(line),
    }
}

/// What the ladder wants to know of `params`, found in one go; `None`: one of them stands twice, and the rung that
/// asks for it says so.
struct Params(Option<[Option<json::Span>; 2]>);

impl Params {
    fn of(message: &Message, key: Option<&str>) -> Self {
        Self(message.pick(["_meta", key.unwrap_or("_meta")]).ok())
    }

    fn meta(&self, message: &Message) -> Result<Option<json::Span>, json::Malformed> {
        self.0.as_ref().map_or_else(|| message.param(&["_meta"]), |[meta, _]| Ok(meta.clone()))
    }

    fn named(&self, message: &Message, key: &str) -> Result<Option<json::Span>, json::Malformed> {
        self.0.as_ref().map_or_else(|| message.param(&[key]), |[_, named]| Ok(named.clone()))
    }
}

/// The required pair of `_meta`; gives the version.
fn envelope<'m>(message: &'m Message, params: &Params) -> Result<Cow<'m, str>, Refusal> {
    let invalid = |what: String| Refusal::new(rpc::INVALID_PARAMS, what);
    let text = message.bytes();
    let meta = params.meta(message).map_err(|malformed| invalid(malformed.0))?;
    let [version, capabilities] = match meta.filter(|at| text[at.start] == b'{') {
        Some(meta) => json::pick(text, &meta, [era::META_VERSION, era::META_CAPABILITIES])
            .map_err(|malformed| invalid(malformed.0))?,
        None => [None, None],
    };
    let version = version
        .and_then(|at| json::string(text, &at))
        .ok_or_else(|| invalid(format!("`params._meta` needs `{}`", era::META_VERSION)))?;
    if capabilities.is_none_or(|at| text[at].first() != Some(&b'{')) {
        return Err(invalid(format!("`params._meta` needs `{}`, an object", era::META_CAPABILITIES)));
    }
    Ok(version)
}

fn same(said: Option<&HeaderValue>, name: &HeaderName, expected: &str) -> Result<(), Refusal> {
    let Some(said) = said else {
        return Err(Refusal::new(rpc::HEADER_MISMATCH, format!("the header {name} is missing")));
    };
    match header::decode(said) {
        Some(said) if said == expected => Ok(()),
        Some(_) => {
            Err(Refusal::new(rpc::HEADER_MISMATCH, format!("the header {name} differs from the body")))
        }
        None => Err(Refusal::new(rpc::HEADER_MISMATCH, format!("the header {name} is malformed"))),
    }
}

/// `Mcp-Name`, when the body has what it repeats. Whether the body must have it is for the method's handler.
fn named(said: Option<&HeaderValue>, message: &Message, params: &Params, key: &str) -> Result<(), Refusal> {
    let at =
        params.named(message, key).map_err(|malformed| Refusal::new(rpc::INVALID_PARAMS, malformed.0))?;
    match at.and_then(|at| json::string(message.bytes(), &at)) {
        Some(value) => same(said, &header::NAME, &value),
        None if said.is_some() => Err(Refusal::new(
            rpc::HEADER_MISMATCH,
            format!("the header {} repeats `params.{key}`, which is missing", header::NAME),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const VERSION: &str = "2026-07-28";

    fn call(method: &str, params: &str) -> Message {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        Message::parse(&Bytes::from(text)).unwrap()
    }

    fn params(version: &str, rest: &str) -> String {
        format!(
            r#"{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"{version}","io.modelcontextprotocol/clientCapabilities":{{}}}}{rest}}}"#
        )
    }

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_ladder_refuses_at_the_right_rung() {
        let full = [("mcp-protocol-version", VERSION), ("mcp-method", "tools/call"), ("mcp-name", "echo")];
        let named = params(VERSION, r#","name":"echo""#);
        let code =
            |lines: &[(&str, &str)], message: &Message| check(&headers(lines), message).err().map(|r| r.code);
        let good = call("tools/call", &named);
        assert_eq!(code(&full, &good), None);
        assert_eq!(code(&full[..2], &good), Some(-32020), "Mcp-Name is missing");
        assert_eq!(code(&[full[0], full[2]], &good), Some(-32020), "Mcp-Method is missing");
        assert_eq!(
            code(&[full[0], full[1], ("mcp-name", "Echo")], &good),
            Some(-32020),
            "values are case-sensitive"
        );
        assert_eq!(code(&[full[0], full[1], ("mcp-name", "=?base64?ZWNobw==?=")], &good), None);
        assert_eq!(code(&[full[0], full[1], ("mcp-name", "=?base64?%?=")], &good), Some(-32020));
        assert_eq!(
            code(&[full[0], full[1], full[2], ("mcp-method", "tools/call")], &good),
            Some(-32020),
            "twice"
        );
        assert_eq!(code(&full, &call("tools/call", r#"{"name":"echo"}"#)), Some(-32602), "no envelope");
        let no_capabilities =
            r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"},"name":"echo"}"#;
        assert_eq!(code(&full, &call("tools/call", no_capabilities)), Some(-32602));
        let other = call("tools/call", &params("2025-11-25", r#","name":"echo""#));
        assert_eq!(code(&full, &other), Some(-32020), "header and body name different versions");
        let future = [("mcp-protocol-version", "2099-01-01"), ("mcp-method", "server/discover")];
        let refusal =
            check(&headers(&future), &call("server/discover", &params("2099-01-01", ""))).unwrap_err();
        assert_eq!(refusal.code, -32022);
        assert_eq!(refusal.data.unwrap()["supported"][0], VERSION);
        let twice = call("tools/call", &params(VERSION, r#","name":"echo","name":"evil""#));
        assert_eq!(code(&full, &twice), Some(-32602), "a body with two names is refused, not guessed at");
    }

    #[test]
    fn eras_are_told_apart_by_header_first() {
        let legacy = call("initialize", r#"{"protocolVersion":"2026-07-28"}"#);
        let modern = call("tools/list", &params(VERSION, ""));
        assert_eq!(
            era_of(&headers(&[]), &legacy),
            Ok(Era::Legacy),
            "an initialize without envelope is legacy"
        );
        assert_eq!(era_of(&headers(&[("mcp-protocol-version", "2025-06-18")]), &legacy), Ok(Era::Legacy));
        assert_eq!(era_of(&headers(&[("mcp-protocol-version", VERSION)]), &modern), Ok(Era::Modern));
        assert_eq!(era_of(&headers(&[("mcp-protocol-version", "who-knows")]), &legacy), Ok(Era::Modern));
        assert_eq!(era_of(&headers(&[]), &modern).unwrap_err().code, -32020);
        assert_eq!(
            era_of(&headers(&[("mcp-protocol-version", "2025-11-25")]), &modern).unwrap_err().code,
            -32020
        );
    }
}
