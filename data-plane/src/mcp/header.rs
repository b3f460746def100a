//! Header names of the two eras, and the encoding of values that do not fit into a header
//! (2026-07-28, Streamable HTTP, "header value encoding").

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue};
use std::borrow::Cow;

pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");
pub const NAME: HeaderName = HeaderName::from_static("mcp-name");
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Whether an upstream sees this header of a client. Everything else, `Authorization`, cookies and `Origin` before
/// all, stays here.
#[must_use]
pub fn reaches_upstream(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "accept" | "content-type" | "last-event-id" | "traceparent" | "tracestate" | "user-agent"
    ) || name.as_str().starts_with("mcp-")
}

const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";

/// A value as it stands in a header, with white space around it dropped; `None` when it is malformed: bytes
/// beyond ASCII, or broken base64 between the sentinels.
#[must_use]
pub fn decode(value: &HeaderValue) -> Option<Cow<'_, str>> {
    let text = trimmed(value.to_str().ok()?);
    match text.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX)) {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok().map(Cow::Owned),
        None => Some(Cow::Borrowed(text)),
    }
}

fn trimmed(text: &str) -> &str {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = text.as_bytes();
    // Next to never: HTTP drops it already.
    if is_blank(bytes.first()) || is_blank(bytes.last()) { text.trim_matches([' ', '\t']) } else { text }
}

/// A value as a header can carry it: itself where possible, else in base64 between sentinels.
#[must_use]
pub fn encode(value: &str) -> HeaderValue {
    let plain = value.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
        && value.trim_matches([' ', '\t']) == value
        && !(value.starts_with(PREFIX) && value.ends_with(SUFFIX));
    let text = if plain { value.to_owned() } else { format!("{PREFIX}{}{SUFFIX}", STANDARD.encode(value)) };
    HeaderValue::try_from(text).expect("printable ASCII is a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_values_are_told_apart_from_literal_ones() {
        let read =
            |text: &str| decode(&HeaderValue::from_bytes(text.as_bytes()).unwrap()).map(Cow::into_owned);
        assert_eq!(read(" echo\t").as_deref(), Some("echo"));
        assert_eq!(read("=?base64?w6k=?=").as_deref(), Some("é"));
        assert_eq!(read("=?base64?###?="), None);
        assert_eq!(read("=?BASE64?w6k=?=").as_deref(), Some("=?BASE64?w6k=?="));
        assert_eq!(read("é"), None);
    }

    proptest::proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(value in "\\PC{0,24}| .{0,4}|=\\?base64\\?[a-z]{0,4}\\?=") {
            let encoded = encode(&value);
            let decoded = decode(&encoded);
            proptest::prop_assert_eq!(decoded.as_deref(), Some(&*value));
        }
    }
}
