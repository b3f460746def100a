//! Words of our own on the wire: error responses, results and notifications the gateway itself sends. What the codes
//! mean to people stands with their numbers, in `o1_proto::codes`.

use super::json::quote;
use bytes::Bytes;
use o1_proto::codes;

pub const PARSE_ERROR: i32 = codes::PARSE_ERROR.number;
pub const INVALID_REQUEST: i32 = codes::INVALID_REQUEST.number;
pub const METHOD_NOT_FOUND: i32 = codes::METHOD_NOT_FOUND.number;
pub const INVALID_PARAMS: i32 = codes::INVALID_PARAMS.number;
pub const INTERNAL: i32 = codes::INTERNAL.number;
/// Legacy servers word transport trouble with this code, which has no fixed meaning.
pub const SERVER: i32 = codes::SERVER.number;
/// Legacy: resource not found.
pub const RESOURCE_NOT_FOUND: i32 = codes::RESOURCE_NOT_FOUND.number;
/// 2025-11-25: the user has to visit a URL first. Servers say so; the gateway only reads it.
pub const URL_ELICITATION_REQUIRED: i32 = -32042;
pub const HEADER_MISMATCH: i32 = codes::HEADER_MISMATCH.number;
pub const MISSING_CAPABILITY: i32 = codes::MISSING_CAPABILITY.number;
pub const UNSUPPORTED_VERSION: i32 = codes::UNSUPPORTED_VERSION.number;
/// Our own: the upstream that owns the name does not answer. Outside the range that JSON-RPC and MCP reserve.
pub const UPSTREAM_UNAVAILABLE: i32 = codes::UPSTREAM_UNAVAILABLE.number;
/// Our own: the upstream did not answer in time; the call may have run.
pub const UPSTREAM_TIMEOUT: i32 = codes::UPSTREAM_TIMEOUT.number;
/// Our own: the upstream has all the calls it takes; this one was not sent.
pub const UPSTREAM_OVERLOADED: i32 = codes::UPSTREAM_OVERLOADED.number;
/// Our own: the primary is away and the backup takes no such write; nothing was done.
pub const UPSTREAM_READ_ONLY: i32 = codes::UPSTREAM_READ_ONLY.number;

/// An error response. Without an id the member is left out, as for requests whose id could not be read.
#[must_use]
pub fn error(id: Option<&[u8]>, code: i32, message: &str, data: Option<&serde_json::Value>) -> Bytes {
    let mut out = Vec::with_capacity(96 + message.len());
    out.extend_from_slice(br#"{"jsonrpc":"2.0","#);
    if let Some(id) = id {
        out.extend_from_slice(br#""id":"#);
        out.extend_from_slice(id);
        out.push(b',');
    }
    out.extend_from_slice(br#""error":{"code":"#);
    out.extend_from_slice(code.to_string().as_bytes());
    out.extend_from_slice(br#","message":"#);
    out.extend_from_slice(&quote(message));
    if let Some(data) = data {
        out.extend_from_slice(br#","data":"#);
        out.extend_from_slice(data.to_string().as_bytes());
    }
    out.extend_from_slice(b"}}");
    out.into()
}

/// A result response around raw JSON.
#[must_use]
pub fn result(id: &[u8], result: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(32 + id.len() + result.len());
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id);
    out.extend_from_slice(br#","result":"#);
    out.extend_from_slice(result);
    out.push(b'}');
    out.into()
}

/// A request; `params` is raw JSON.
#[must_use]
pub fn request(id: &[u8], method: &str, params: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(64 + method.len() + params.len());
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id);
    out.extend_from_slice(br#","method":"#);
    out.extend_from_slice(&quote(method));
    out.extend_from_slice(br#","params":"#);
    out.extend_from_slice(params);
    out.push(b'}');
    out.into()
}

/// A notification; `params` is raw JSON or absent.
#[must_use]
pub fn notification(method: &str, params: Option<&[u8]>) -> Bytes {
    let mut out = Vec::with_capacity(64 + method.len());
    out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"#);
    out.extend_from_slice(&quote(method));
    if let Some(params) = params {
        out.extend_from_slice(br#","params":"#);
        out.extend_from_slice(params);
    }
    out.push(b'}');
    out.into()
}
