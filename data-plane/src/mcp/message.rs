//! One JSON-RPC message: its bytes, and where the parts are that the gateway acts on.

use super::{
    envelope::{self, Members, Parts},
    json::{self, Malformed, Span},
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt, sync::Arc};

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Has a method and an id.
    Request,
    /// Has a method and no id.
    Notification,
    /// Has an id and a result or an error.
    Response,
}

/// A JSON-RPC 2.0 message over the bytes it came in. Cheap to clone.
#[derive(Clone)]
pub struct Message {
    bytes: Bytes,
    kind: Kind,
    id: Option<Span>,
    method: Option<Box<str>>,
    params: Option<Span>,
    members: Option<Arc<Members>>,
    result: Option<Span>,
    error: Option<Span>,
}

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalid {
    /// Not JSON at all (JSON-RPC -32700).
    Json(String),
    /// JSON, but no JSON-RPC message (JSON-RPC -32600). The id is given back when it could be read.
    Shape {
        /// What is wrong.
        what: String,
        /// The raw id, if there is a usable one.
        id: Option<Bytes>,
    },
}

/// serde refuses an envelope key that stands twice, which is what we want: two readers must see one message.
/// `"params":null` and `"error":null` count as absent: servers exist that write every member of their model.
#[derive(Deserialize)]
struct Envelope<'t> {
    #[serde(borrow, default)]
    jsonrpc: Option<&'t RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'t RawValue>,
    #[serde(borrow, default)]
    method: Option<&'t RawValue>,
    #[serde(borrow, default)]
    params: Option<&'t RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'t RawValue>,
    #[serde(borrow, default)]
    error: Option<&'t RawValue>,
}

/// Keeps `null` apart from absent.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Message {
    /// Reads the envelope. Surrounding white space is dropped.
    ///
    /// # Errors
    /// [`Invalid`] says which JSON-RPC error fits.
    pub fn parse(bytes: &Bytes) -> Result<Self, Invalid> {
        let bytes = bytes.slice_ref(bytes.trim_ascii());
        match bytes.first() {
            Some(b'{') => {}
            Some(b'[') => return Err(array(&bytes)),
            _ => {
                return Err(match serde_json::from_slice::<&RawValue>(&bytes) {
                    Ok(_) => shape("a message is a JSON object"),
                    Err(error) => Invalid::Json(error.to_string()),
                });
            }
        }
        let parts = match envelope::read(&bytes) {
            Some(parts) => parts,
            None => by_serde(&bytes)?,
        };
        let Parts { jsonrpc, id, method, params, result, error, members } = parts;
        let usable = id.clone().filter(|id| is_id(&bytes[id.clone()]));
        let wrong = |what: &str| Invalid::Shape {
            what: what.to_owned(),
            id: usable.clone().map(|id| bytes.slice(id)),
        };
        if jsonrpc.is_none_or(|at| bytes[at] != *b"\"2.0\"") {
            return Err(wrong("`jsonrpc` must be \"2.0\""));
        }
        let method = match method {
            None => None,
            Some(at) => {
                let method = json::string(&bytes, &at).ok_or_else(|| wrong("`method` must be a string"))?;
                Some(method.into_owned().into_boxed_str())
            }
        };
        if id.is_some() && usable.is_none() {
            return Err(wrong("`id` must be a string or an integer"));
        }
        let kind = match (&method, &id, result.is_some() || error.is_some()) {
            (Some(_), Some(_), false) => Kind::Request,
            (Some(_), None, false) => Kind::Notification,
            (None, _, true) if result.is_some() != error.is_some() => Kind::Response,
            (Some(_), _, true) => return Err(wrong("a message has a method or a result, not both")),
            _ => return Err(wrong("neither a request, a notification nor a response")),
        };
        if params.as_ref().is_some_and(|params| !matches!(bytes[params.start], b'{' | b'[')) {
            return Err(wrong("`params` must be an object"));
        }
        Ok(Self { kind, id, method, params, members, result, error, bytes })
    }

    /// The bytes, as received or as last spliced.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What kind of message this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The raw id: `7`, `"a"`.
    #[must_use]
    pub fn id(&self) -> Option<&[u8]> {
        self.id.clone().map(|span| &self.bytes[span])
    }

    /// The method of a request or notification; empty for a response.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.as_deref().unwrap_or_default()
    }

    /// The raw `params`.
    #[must_use]
    pub fn params(&self) -> Option<&[u8]> {
        self.params.clone().map(|span| &self.bytes[span])
    }

    /// Where the `result` is; `None` when this is an error or no response.
    #[must_use]
    pub fn result(&self) -> Option<Span> {
        self.result.clone()
    }

    /// Where the `error` is.
    #[must_use]
    pub fn error(&self) -> Option<Span> {
        self.error.clone()
    }

    /// A value inside `params`.
    ///
    /// # Errors
    /// A key on the way stands twice.
    pub fn param(&self, path: &[&str]) -> Result<Option<Span>, Malformed> {
        let Some(params) = &self.params else { return Ok(None) };
        match (&self.members, path) {
            (Some(members), [first, rest @ ..]) => match members.pick(&self.bytes, [first])? {
                [Some(at)] => json::find(&self.bytes, &at, rest),
                [None] => Ok(None),
            },
            _ => json::find(&self.bytes, params, path),
        }
    }

    /// The values of several keys of `params`.
    ///
    /// # Errors
    /// `params` are no object, or one of the keys stands in them twice.
    pub fn pick<const N: usize>(&self, keys: [&str; N]) -> Result<[Option<Span>; N], Malformed> {
        match (&self.members, &self.params) {
            (Some(members), _) => members.pick(&self.bytes, keys),
            (None, Some(params)) => json::pick(&self.bytes, params, keys),
            (None, None) => Ok([const { None }; N]),
        }
    }

    /// A string inside `params`; `None` when it is absent or no string.
    ///
    /// # Errors
    /// As [`Message::param`].
    pub fn param_str(&self, path: &[&str]) -> Result<Option<Cow<'_, str>>, Malformed> {
        Ok(self.param(path)?.and_then(|span| json::string(&self.bytes, &span)))
    }

    /// The message with byte ranges replaced. The edits must leave it a message of the same kind.
    #[must_use]
    pub fn spliced(&self, edits: Vec<(Span, Vec<u8>)>) -> Self {
        if edits.is_empty() {
            return self.clone();
        }
        let bytes = json::splice(&self.bytes, edits);
        Self::parse(&bytes).expect("an edit of a value leaves a message a message")
    }

    /// The message with another id.
    #[must_use]
    pub fn with_id(&self, id: &[u8]) -> Self {
        match &self.id {
            Some(span) => self.spliced(vec![(span.clone(), id.to_vec())]),
            None => self.clone(),
        }
    }

    /// Where the id is.
    #[must_use]
    pub fn id_span(&self) -> Option<Span> {
        self.id.clone()
    }
}

/// The parts of whatever is a JSON object, or why it is none.
pub(super) fn by_serde(bytes: &[u8]) -> Result<Parts, Invalid> {
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => shape(&error.to_string()),
        _ => Invalid::Json(error.to_string()),
    })?;
    let at = |raw: Option<&RawValue>| raw.map(|raw| json::span(bytes, raw));
    Ok(Parts {
        jsonrpc: at(envelope.jsonrpc),
        id: at(envelope.id),
        method: at(envelope.method),
        params: at(envelope.params),
        result: at(envelope.result),
        error: at(envelope.error),
        members: None,
    })
}

/// Method and id, never content: messages carry people's data.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind)
            .field("method", &self.method())
            .finish_non_exhaustive()
    }
}

fn shape(what: &str) -> Invalid {
    Invalid::Shape { what: what.to_owned(), id: None }
}

fn array(bytes: &[u8]) -> Invalid {
    match serde_json::from_slice::<&RawValue>(bytes) {
        Ok(_) => shape("JSON-RPC batches are not supported: send one message per request"),
        Err(error) => Invalid::Json(error.to_string()),
    }
}

/// MCP ids are strings or integers of any size; never null, fractions or anything else.
fn is_id(raw: &[u8]) -> bool {
    match raw {
        [b'"', ..] => true,
        [b'-', digits @ ..] | digits => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Message, Invalid> {
        Message::parse(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn kinds_are_told_apart_by_what_is_there() {
        let table = [
            (r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#, Kind::Request),
            (r#"{"method":"x","params":{},"jsonrpc":"2.0"}"#, Kind::Notification),
            (r#"{"result":null,"jsonrpc":"2.0","id":"a"}"#, Kind::Response),
            (r#" {"error":{"code":1,"message":"m"},"jsonrpc":"2.0"} "#, Kind::Response),
            (
                r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":null}"#,
                Kind::Notification,
            ),
            (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#, Kind::Response),
        ];
        for (text, kind) in table {
            assert_eq!(parse(text).unwrap().kind(), kind, "{text}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_right_error() {
        let json = ["", "{", "{\"jsonrpc\":\"2.0\",", "nope", "[1,", "{\"jsonrpc\":\"2.0\"}}"];
        for text in json {
            assert!(matches!(parse(text), Err(Invalid::Json(_))), "{text}: {:?}", parse(text));
        }
        let shape = [
            "1",
            "[]",
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
            r#"{"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
        ];
        for text in shape {
            assert!(matches!(parse(text), Err(Invalid::Shape { .. })), "{text}: {:?}", parse(text));
        }
    }

    #[test]
    fn a_refusal_keeps_the_id_it_could_read() {
        let Err(Invalid::Shape { id, .. }) = parse(r#"{"jsonrpc":"2.0","id":"x","method":7}"#) else {
            panic!("refused");
        };
        assert_eq!(id.as_deref(), Some(&b"\"x\""[..]));
    }

    #[test]
    fn another_id_changes_nothing_else() {
        let message = parse(r#"{"params":{"n":1.10,"x":1e5},  "id" : 12345678901234567890123,"method":"m","jsonrpc":"2.0","z":[]}"#).unwrap();
        let other = message.with_id(b"\"s\"");
        assert_eq!(
            &other.bytes()[..],
            br#"{"params":{"n":1.10,"x":1e5},  "id" : "s","method":"m","jsonrpc":"2.0","z":[]}"#
        );
        assert_eq!(&other.with_id(b"12345678901234567890123").bytes()[..], &message.bytes()[..]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Message::parse(&Bytes::from(bytes));
        }

        #[test]
        fn a_cut_message_is_never_accepted(cut in 1_usize..70) {
            let text = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","arguments":{}}}"#;
            proptest::prop_assert!(matches!(parse(&text[..cut]), Err(Invalid::Json(_))));
        }
    }
}
