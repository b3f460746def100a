//! How the gateway introduces itself to a server, in either era, when it speaks for itself or for many.

use super::{Message, era, json, method, rpc};
use bytes::Bytes;
use o1_process::build_info::VERSION;

/// `_meta` key of a call: what its writer calls the write, so that whoever gets it twice can tell.
pub const META_IDEMPOTENCY_KEY: &str = "dev.only1/idempotencyKey";

/// `params` of a call with these members in front of its `_meta`. `members` is raw JSON: `"a":1,"b":2`.
///
/// # Errors
/// `params` is not an object, or its `_meta` is none.
pub fn with_meta(params: &[u8], members: &str) -> Result<Bytes, json::Malformed> {
    let whole = 0..params.len();
    let edit = match json::member(params, &whole, "_meta")? {
        Some(meta) => json::inserted(params, &meta, members)?,
        None => json::inserted(params, &whole, &format!(r#""_meta":{{{members}}}"#))?,
    };
    Ok(json::splice(params, vec![edit]))
}

/// The handshake of the legacy era; `capabilities` is raw JSON.
///
/// # Panics
/// If `id` or `capabilities` is not JSON.
#[must_use]
pub fn initialize(id: &[u8], version: &str, capabilities: &str) -> Message {
    let params = format!(
        r#"{{"capabilities":{capabilities},"clientInfo":{},"protocolVersion":{}}}"#,
        client(),
        quoted(version)
    );
    Message::parse(&rpc::request(id, method::INITIALIZE, params.as_bytes()))
        .expect("a request of our own is a message")
}

/// `_meta` of a request of the modern era; `capabilities` is raw JSON.
#[must_use]
pub fn envelope(version: &str, capabilities: &str) -> String {
    format!(
        r#"{{"{}":{},"{}":{capabilities},"{}":{}}}"#,
        era::META_VERSION,
        quoted(version),
        era::META_CAPABILITIES,
        era::META_CLIENT_INFO,
        client()
    )
}

fn client() -> String {
    format!(r#"{{"name":"only1","version":"{VERSION}"}}"#)
}

fn quoted(text: &str) -> String {
    String::from_utf8_lossy(&json::quote(text)).into_owned()
}
