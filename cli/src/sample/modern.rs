//! The rules of revision 2026-07-28: every request stands alone, and its headers must say what its body says.

use super::{
    Sample,
    answer::{Answer, answer, offers},
    envelope::{
        Body, Fault, HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, MODERN, Message,
        RESOURCE_NOT_FOUND, Request, UNSUPPORTED_VERSION, message, result,
    },
    reply::Reply,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::borrow::Cow;

const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";
/// How long the offer of this server holds.
const DISCOVER_MS: u64 = 300_000;

/// True when the body claims to be modern, whatever the headers say.
pub(super) fn claims(body: &Body) -> bool {
    matches!(body, Body::One(value) if value.pointer("/params/_meta").is_some_and(|meta| meta.get(META_VERSION).is_some()))
}

/// POST, the only verb there is.
pub(super) fn post(sample: &Sample, headers: &HeaderMap, body: Body) -> Reply {
    let Body::One(value) = body else {
        let fault = Fault::new(INVALID_REQUEST, "one message, not an array of them");
        return Reply::Json(StatusCode::BAD_REQUEST, fault.message(None));
    };
    let request = match message(value) {
        Ok(Message::Request(request)) => request,
        Ok(Message::Notification) => return Reply::Accepted,
        Ok(Message::Response) => {
            let fault = Fault::new(INVALID_REQUEST, "responses have no place here: this server never asks");
            return Reply::Json(StatusCode::BAD_REQUEST, fault.message(None));
        }
        Err((id, fault)) => return Reply::Json(StatusCode::BAD_REQUEST, fault.message(id)),
    };
    if let Err(fault) = admit(headers, &request) {
        return Reply::Json(StatusCode::BAD_REQUEST, fault.message(Some(request.id)));
    }
    match handle(sample, &request) {
        Ok(answer) => Reply::Json(StatusCode::OK, result(request.id, dressed(sample, answer))),
        Err(fault) => {
            let unknown = fault.code == METHOD_NOT_FOUND;
            let status = if unknown { StatusCode::NOT_FOUND } else { StatusCode::OK };
            Reply::Json(status, fault.message(Some(request.id)))
        }
    }
}

/// The ladder: envelope, then headers against it, then the version.
fn admit(headers: &HeaderMap, request: &Request) -> Result<(), Fault> {
    for name in ["mcp-protocol-version", "mcp-method", "mcp-name"] {
        if headers.get_all(name).iter().count() > 1 {
            return Err(mismatch(format!("the header {name} is there more than once")));
        }
    }
    let meta = request.params.get("_meta");
    let version = meta.and_then(|meta| meta.get(META_VERSION)).and_then(Value::as_str);
    let version = version.ok_or_else(|| missing(META_VERSION))?;
    if !meta.and_then(|meta| meta.get(META_CAPABILITIES)).is_some_and(Value::is_object) {
        return Err(missing(META_CAPABILITIES));
    }
    agree(headers, "mcp-protocol-version", Some(version))?;
    agree(headers, "mcp-method", Some(&request.method))?;
    let named = match request.method.as_str() {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        _ => None,
    };
    if let Some(named) = named {
        agree(headers, "mcp-name", request.params.get(named).and_then(Value::as_str))?;
    }
    if version != MODERN {
        let fault = Fault::new(UNSUPPORTED_VERSION, format!("unsupported protocol version `{version}`"));
        return Err(fault.with(json!({ "supported": [MODERN], "requested": version })));
    }
    Ok(())
}

/// A header must be what the body says; where the body says nothing there is nothing to agree with.
fn agree(headers: &HeaderMap, name: &str, body: Option<&str>) -> Result<(), Fault> {
    let header = headers.get(name).map(|value| plain(value.as_bytes()));
    match (header, body) {
        (Some(Some(header)), Some(body)) if header == body => Ok(()),
        (None, None) => Ok(()),
        (Some(Some(_)), Some(body)) => Err(mismatch(format!("the header {name} does not say `{body}`"))),
        (Some(Some(_)), None) => Err(mismatch(format!("the header {name} has no counterpart in the body"))),
        (Some(None), _) => Err(mismatch(format!("the header {name} cannot be read"))),
        (None, Some(_)) => Err(mismatch(format!("the header {name} is missing"))),
    }
}

/// A header value, out of `=?base64?…?=` where it is in there. `None`: malformed.
fn plain(value: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    match text.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok().map(Cow::Owned),
        None => Some(Cow::Borrowed(text)),
    }
}

fn handle(sample: &Sample, request: &Request) -> Result<Answer, Fault> {
    if request.method == "server/discover" {
        let mut offer = offers(sample);
        offer.insert("supportedVersions".to_owned(), json!([MODERN]));
        return Ok(Answer { result: offer, fresh_ms: Some(DISCOVER_MS) });
    }
    answer(sample, &request.method, &request.params).map_err(|fault| match fault.code {
        RESOURCE_NOT_FOUND => Fault { code: INVALID_PARAMS, ..fault },
        _ => fault,
    })
}

/// What every result of this era says about itself. Nothing here depends on who asks: it is public.
fn dressed(sample: &Sample, answer: Answer) -> serde_json::Map<String, Value> {
    let mut result = answer.result;
    result.insert("resultType".to_owned(), json!("complete"));
    result.insert("_meta".to_owned(), json!({ META_SERVER: sample.info() }));
    if let Some(fresh_ms) = answer.fresh_ms {
        result.insert("ttlMs".to_owned(), json!(fresh_ms));
        result.insert("cacheScope".to_owned(), json!("public"));
    }
    result
}

fn missing(key: &str) -> Fault {
    Fault::new(INVALID_PARAMS, format!("`_meta` lacks `{key}`, or it has the wrong type"))
}

fn mismatch(what: String) -> Fault {
    Fault::new(HEADER_MISMATCH, what)
}
