//! What consistent hashing hashes of a call.

use crate::{
    call::{Ask, Call},
    mcp::method,
};
use o1_proto::model::HashKey;

/// The key of a call: equal for equal sessions, principals, tools or header values, on every node.
#[must_use]
pub fn of(key: &HashKey, call: &Call) -> u64 {
    let principal = || hash(b"principal", call.principal.id.as_bytes());
    match key {
        HashKey::Session => {
            call.session().map_or_else(principal, |session| hash(b"session", &session.serial))
        }
        HashKey::Principal => principal(),
        HashKey::Tool => named(call).unwrap_or_else(principal),
        HashKey::Header(name) => {
            call.headers.get(name.as_str()).map_or_else(principal, |value| hash(b"header", value.as_bytes()))
        }
    }
}

/// The name that a call is about: of a tool or prompt, or the URI of a resource.
fn named(call: &Call) -> Option<u64> {
    let Ask::Message(message) = &call.ask else { return None };
    let (kind, member): (&[u8], _) = match message.method() {
        method::TOOLS_CALL => (b"tool", "name"),
        method::PROMPTS_GET => (b"prompt", "name"),
        method::RESOURCES_READ => (b"resource", "uri"),
        _ => return None,
    };
    let name = message.param_str(&[member]).ok()??;
    Some(hash(kind, name.as_bytes()))
}

/// Where a key of a kind stands on the ring.
#[must_use]
pub fn hash(kind: &[u8], key: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind).update(b"\0").update(key);
    u64::from_be_bytes(*hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes"))
}
