//! How the gateway introduces itself to a server, in either era, when it speaks for itself or for many.

use super::{Message, era, json, method, rpc};
use o1_process::build_info::VERSION;

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
