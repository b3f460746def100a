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

/// Where a key of a kind stands on the ring: spread evenly, and the same on every node and in every version. It need
/// not withstand keys that somebody chose: no key makes an endpoint carry more than its bound.
#[must_use]
pub fn hash(kind: &[u8], key: &[u8]) -> u64 {
    let mut state = mixed(ODD, key.len() as u64);
    for part in [kind, key] {
        for chunk in part.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            state = mixed(state, u64::from_le_bytes(word));
        }
    }
    mixed(state, 0)
}

/// An odd number without a pattern: 2⁶⁴ by the golden section.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Takes in one word: the high half of a product depends on every bit of its factors.
fn mixed(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word ^ ODD) * u128::from(ODD);
    let [low, high] = [product as u64, (product >> 64) as u64];
    (low ^ high).wrapping_mul(ODD) ^ low.rotate_right(29)
}
