//! `Mcp-Param-*`: arguments of a tool call that its schema wants repeated in headers (2026-07-28, Streamable
//! HTTP, "custom headers").
//!
//! Owns the rules of the annotation `x-mcp-header`, the headers for given arguments, and what is remembered of
//! the tools of one endpoint. It does no I/O, and a schema is only read, never changed or dereferenced.

use crate::mcp::{
    Message, header,
    json::{self, Malformed, Span},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The annotation.
const ANNOTATION: &str = "x-mcp-header";
const PREFIX: &str = "mcp-param-";

/// One argument that a header repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// The keys that lead to it in the arguments.
    path: Vec<String>,
    name: HeaderName,
    /// Integers agree by value, everything else by text.
    integer: bool,
}

/// Why a tool cannot be offered by an HTTP client: an annotation breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub String);

/// A header and its argument disagree (-32020).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch(pub String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The arguments that an `inputSchema` wants in headers; none for most tools.
///
/// # Errors
/// An annotation that is no RFC 9110 token, that stands twice, on anything but a string, an integer or a
/// boolean, or anywhere but on a chain of `properties`.
pub fn annotated(schema: &[u8]) -> Result<Vec<Param>, Invalid> {
    if memchr::memmem::find(schema, b"mcp-header").is_none() && !schema.contains(&b'\\') {
        return Ok(Vec::new());
    }
    let schema: Value = serde_json::from_slice(schema).map_err(|error| Invalid(error.to_string()))?;
    let mut found = Found { params: Vec::new(), names: HashSet::new() };
    found.look(&schema, Some(&mut Vec::new()))?;
    Ok(found.params)
}

struct Found {
    params: Vec<Param>,
    names: HashSet<HeaderName>,
}

/// Keywords of JSON Schema 2020-12 that hold a schema, a list of schemas, or schemas by name. Instance data
/// (`default`, `const`, `enum`, `examples`) is no schema.
const HOLDS_ONE: [&str; 11] = [
    "items",
    "contains",
    "unevaluatedItems",
    "additionalProperties",
    "propertyNames",
    "unevaluatedProperties",
    "not",
    "if",
    "then",
    "else",
    "contentSchema",
];
const HOLDS_LIST: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const HOLDS_NAMED: [&str; 4] = ["patternProperties", "dependentSchemas", "$defs", "definitions"];

impl Found {
    /// Looks into a schema. `path`: the chain of `properties` that leads to it, if there is one. Recursion ends
    /// where that of the JSON parser did.
    fn look(&mut self, schema: &Value, mut path: Option<&mut Vec<String>>) -> Result<(), Invalid> {
        let Value::Object(schema) = schema else { return Ok(()) };
        if let Some(token) = schema.get(ANNOTATION) {
            self.take(token, schema.get("type"), path.as_deref().map(Vec::as_slice))?;
        }
        for (keyword, value) in schema {
            match value {
                Value::Object(named) if keyword == "properties" => {
                    for (name, inner) in named {
                        match path.as_deref_mut() {
                            Some(path) => {
                                path.push(name.clone());
                                self.look(inner, Some(path))?;
                                path.pop();
                            }
                            None => self.look(inner, None)?,
                        }
                    }
                }
                Value::Object(named) if HOLDS_NAMED.contains(&&**keyword) => {
                    named.values().try_for_each(|inner| self.look(inner, None))?;
                }
                Value::Object(_) if HOLDS_ONE.contains(&&**keyword) => self.look(value, None)?,
                Value::Array(list) if HOLDS_LIST.contains(&&**keyword) => {
                    list.iter().try_for_each(|inner| self.look(inner, None))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, token: &Value, of: Option<&Value>, path: Option<&[String]>) -> Result<(), Invalid> {
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            return Err(Invalid(format!("`{ANNOTATION}` stands outside a chain of `properties`")));
        };
        let wrong = |what: &str| Invalid(format!("`{ANNOTATION}` of `{}` {what}", path.join(".")));
        let token = token.as_str().filter(|token| !token.is_empty());
        let name = token.and_then(|token| HeaderName::try_from(format!("{PREFIX}{token}")).ok());
        let name = name.ok_or_else(|| wrong("is no token that a header name can have"))?;
        let integer = match of.and_then(Value::as_str) {
            Some("integer") => true,
            Some("string" | "boolean") => false,
            _ => return Err(wrong("stands on something else than a string, an integer or a boolean")),
        };
        if !self.names.insert(name.clone()) {
            return Err(wrong("stands at another argument too"));
        }
        self.params.push(Param { path: path.to_vec(), name, integer });
        Ok(())
    }
}

/// Adds the headers for a call's `arguments`. Numbers keep their spelling; what is absent, null or no scalar
/// has no header.
///
/// # Errors
/// The arguments hold a key twice.
pub fn mirror(params: &[Param], arguments: Option<&[u8]>, headers: &mut HeaderMap) -> Result<(), Malformed> {
    for param in params {
        if let Some(text) = argument(param, arguments)? {
            headers.insert(param.name.clone(), header::encode(&text));
        }
    }
    Ok(())
}

/// Holds a call's headers against its arguments, for a server that will not see the headers. Whoever does not
/// know the schema cannot check; headers of no annotated argument are nobody's business.
///
/// # Errors
/// The first that disagrees: -32020.
pub fn check(params: &[Param], arguments: Option<&[u8]>, headers: &HeaderMap) -> Result<(), Mismatch> {
    for param in params {
        let wrong = |what: &str| Mismatch(format!("header `{}` {what}", param.name));
        let argument = argument(param, arguments).map_err(|malformed| Mismatch(malformed.0))?;
        let mut values = headers.get_all(&param.name).iter();
        let header = match (values.next(), values.next()) {
            (_, Some(_)) => return Err(wrong("stands twice")),
            (value, None) => value,
        };
        match (header, argument) {
            (None, None) => {}
            (None, Some(_)) => return Err(wrong("is missing although its argument is there")),
            (Some(_), None) => return Err(wrong("is there although its argument is not")),
            (Some(value), Some(text)) if agrees(param, value, &text) => {}
            (Some(_), Some(_)) => return Err(wrong("does not agree with its argument")),
        }
    }
    Ok(())
}

/// An argument as a header shows it.
fn argument(param: &Param, arguments: Option<&[u8]>) -> Result<Option<String>, Malformed> {
    let Some(text) = arguments else { return Ok(None) };
    let path: Vec<&str> = param.path.iter().map(String::as_str).collect();
    let Some(at) = json::find(text, &(0..text.len()), &path)? else { return Ok(None) };
    Ok(match text[at.start] {
        b'"' => json::string(text, &at).map(std::borrow::Cow::into_owned),
        b'{' | b'[' | b'n' => None,
        _ => Some(String::from_utf8_lossy(&text[at]).into_owned()),
    })
}

fn agrees(param: &Param, value: &HeaderValue, text: &str) -> bool {
    let Some(value) = header::decode(value) else { return false };
    value == text || (param.integer && integer(&value).is_some_and(|one| integer(text) == Some(one)))
}

/// The value of a number that is an integer, however it is spelled: its sign and its digits.
fn integer(text: &str) -> Option<(bool, String)> {
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let point = whole.len().checked_add_signed(exponent.parse::<i16>().ok()?.into())?;
    let all = format!("{whole}{fraction}");
    let (before, after) = all.split_at(point.min(all.len()));
    if after.bytes().any(|byte| byte != b'0') {
        return None;
    }
    let padded = format!("{before}{}", "0".repeat(point.saturating_sub(all.len())));
    let value = padded.trim_start_matches('0').to_owned();
    Some((negative && !value.is_empty(), value))
}

/// How many tools of one endpoint are remembered.
const TOOLS_MAX: usize = 10_000;
/// How long a complete list is taken to name every tool: a name that is not on it has no headers.
const LIST_FRESH: Duration = Duration::from_secs(30);

/// What is known of an endpoint's tools.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Tools>);

#[derive(Debug, Default)]
struct Tools {
    by_name: HashMap<Box<str>, Arc<[Param]>>,
    /// When the last complete list came.
    listed: Option<Instant>,
}

/// The parts of a `tools/list` answer that matter here.
#[derive(Debug, Default)]
pub struct Listed {
    /// Where tools stand that an HTTP client must drop, by their place in the list, and why.
    pub dropped: Vec<(usize, Invalid)>,
    /// There are more pages.
    pub cursor: Option<Span>,
}

impl Memory {
    /// Learns from an answer to `tools/list`; `first`: it was asked without a cursor.
    ///
    /// # Errors
    /// The result is no list of tools.
    pub fn learn(&self, answer: &Message, first: bool) -> Result<Listed, Malformed> {
        let text = answer.bytes();
        let result = answer.result().unwrap_or_default();
        let mut listed = Listed { cursor: json::find(text, &result, &["nextCursor"])?, ..Listed::default() };
        listed.cursor = listed.cursor.filter(|at| text[at.start] == b'"');
        let Some(tools) = json::find(text, &result, &["tools"])? else { return Ok(listed) };
        let mut learned = Vec::new();
        for (place, tool) in json::items(text, &tools)?.into_iter().enumerate() {
            let name = json::find(text, &tool, &["name"])?.and_then(|at| json::string(text, &at));
            let params = match json::find(text, &tool, &["inputSchema"])? {
                Some(schema) => annotated(&text[schema]),
                None => Ok(Vec::new()),
            };
            match (name, params) {
                (Some(name), Ok(params)) => learned.push((name.into_owned().into_boxed_str(), params.into())),
                (_, Err(invalid)) => listed.dropped.push((place, invalid)),
                (None, Ok(_)) => {}
            }
        }
        let mut tools = self.tools();
        if first && listed.cursor.is_none() {
            tools.by_name.clear();
            tools.listed = Some(Instant::now());
        }
        for (name, params) in learned {
            if tools.by_name.len() < TOOLS_MAX || tools.by_name.contains_key(&name) {
                tools.by_name.insert(name, params);
            }
        }
        Ok(listed)
    }

    /// Every page was learned.
    pub fn complete(&self) {
        self.tools().listed = Some(Instant::now());
    }

    /// The tools changed, or the server said that a header is wrong.
    pub fn forget(&self) {
        *self.tools() = Tools::default();
    }

    /// The headers that a tool wants; `None`: the list must be asked for first.
    #[must_use]
    pub fn of(&self, tool: &str) -> Option<Arc<[Param]>> {
        let tools = self.tools();
        match tools.by_name.get(tool) {
            Some(params) => Some(params.clone()),
            None if tools.listed.is_some_and(|at| at.elapsed() < LIST_FRESH) => Some(Arc::default()),
            None => None,
        }
    }

    fn tools(&self) -> std::sync::MutexGuard<'_, Tools> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const SCHEMA: &str = r#"{"type":"object","properties":{
        "region":{"type":"string","x-mcp-header":"Region"},
        "limit":{"type":"integer","x-mcp-header":"Limit"},
        "dry":{"type":"boolean","x-mcp-header":"Dry"},
        "deep":{"type":"object","properties":{"key":{"type":"string","x-mcp-header":"Deep-Key"}}},
        "plain":{"type":"number","default":{"x-mcp-header":"not a schema"}}}}"#;

    fn headers(schema: &str, arguments: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        mirror(&annotated(schema.as_bytes()).unwrap(), Some(arguments.as_bytes()), &mut headers).unwrap();
        headers
    }

    #[test]
    fn annotated_arguments_become_headers_in_their_own_spelling() {
        let arguments = r#"{"region":"zürich","limit":12345678901234567890123,"dry":false,"deep":{"key":" x"},"plain":1.5}"#;
        let headers = headers(SCHEMA, arguments);
        assert_eq!(headers.len(), 4);
        assert_eq!(headers["mcp-param-region"], "=?base64?esO8cmljaA==?=");
        assert_eq!(headers["mcp-param-limit"], "12345678901234567890123");
        assert_eq!(headers["mcp-param-dry"], "false");
        assert_eq!(headers["mcp-param-deep-key"], "=?base64?IHg=?=");
    }

    #[test]
    fn what_is_absent_null_or_no_scalar_has_no_header() {
        for arguments in ["{}", r#"{"region":null,"deep":{}}"#, r#"{"region":{"a":1},"deep":[{"key":"x"}]}"#]
        {
            assert!(headers(SCHEMA, arguments).is_empty(), "{arguments}");
        }
        let mut none = HeaderMap::new();
        mirror(&annotated(SCHEMA.as_bytes()).unwrap(), None, &mut none).unwrap();
        assert!(none.is_empty());
    }

    #[test]
    fn annotations_that_break_a_rule_make_the_tool_unusable() {
        let property = |inner: &str| format!(r#"{{"type":"object","properties":{{"a":{inner}}}}}"#);
        for broken in [
            r#"{"type":"string","x-mcp-header":""}"#,
            r#"{"type":"string","x-mcp-header":"two words"}"#,
            r#"{"type":"string","x-mcp-header":"é"}"#,
            r#"{"type":"string","x-mcp-header":"a:b"}"#,
            r#"{"type":"string","x-mcp-header":7}"#,
            r#"{"type":"string","x-mcp-\u0068eader":"a b"}"#,
            r#"{"type":"number","x-mcp-header":"N"}"#,
            r#"{"type":["string","null"],"x-mcp-header":"N"}"#,
            r#"{"x-mcp-header":"N"}"#,
            r#"{"type":"array","items":{"type":"string","x-mcp-header":"N"}}"#,
            r#"{"anyOf":[{"type":"string","x-mcp-header":"N"}]}"#,
            r#"{"$defs":{"d":{"properties":{"x":{"type":"string","x-mcp-header":"N"}}}}}"#,
            r#"{"type":"string","x-mcp-header":"N"},"b":{"type":"string","x-mcp-header":"n"}"#,
        ] {
            assert!(annotated(property(broken).as_bytes()).is_err(), "{broken}");
        }
        assert!(annotated(br#"{"type":"string","x-mcp-header":"Root"}"#).is_err());
        assert_eq!(annotated(property(r#"{"const":{"x-mcp-header":""}}"#).as_bytes()), Ok(Vec::new()));
    }

    #[test]
    fn headers_that_a_server_will_not_see_are_held_against_the_arguments() {
        let params = annotated(SCHEMA.as_bytes()).unwrap();
        let verdict = |headers: &[(&'static str, &'static str)], arguments: &str| {
            let headers = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            check(&params, Some(arguments.as_bytes()), &headers).is_ok()
        };
        assert!(verdict(&[], "{}"));
        assert!(verdict(&[], r#"{"region":null}"#));
        assert!(verdict(&[("mcp-param-other", "x")], "{}"));
        assert!(verdict(&[("mcp-param-region", " eu ")], r#"{"region":"eu"}"#));
        assert!(verdict(&[("mcp-param-limit", "42.0")], r#"{"limit":42}"#));
        assert!(verdict(&[("mcp-param-limit", "42")], r#"{"limit":4.2e1}"#));
        assert!(!verdict(&[("mcp-param-limit", "43")], r#"{"limit":42}"#));
        assert!(!verdict(&[("mcp-param-limit", "42.5")], r#"{"limit":42}"#));
        assert!(!verdict(&[("mcp-param-region", "EU")], r#"{"region":"eu"}"#));
        assert!(!verdict(&[("mcp-param-region", "=?base64?#?=")], r#"{"region":"eu"}"#));
        assert!(!verdict(&[], r#"{"region":"eu"}"#));
        assert!(!verdict(&[("mcp-param-region", "eu")], "{}"));
        let mut twice = HeaderMap::new();
        twice.append("mcp-param-region", HeaderValue::from_static("eu"));
        twice.append("mcp-param-region", HeaderValue::from_static("eu"));
        assert!(check(&params, Some(br#"{"region":"eu"}"#), &twice).is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_is_mirrored_agrees_with_what_it_mirrors(region in "\\PC{0,12}", limit: i64, dry: bool) {
            let arguments = serde_json::json!({"region": region, "limit": limit, "dry": dry}).to_string();
            let headers = headers(SCHEMA, &arguments);
            let params = annotated(SCHEMA.as_bytes()).unwrap();
            proptest::prop_assert_eq!(check(&params, Some(arguments.as_bytes()), &headers), Ok(()));
        }

        #[test]
        fn integers_agree_whatever_their_spelling(value in -9_999_i32..9_999, zeros in 0_usize..4) {
            let spelled = format!("{value}.{}", "0".repeat(zeros + 1));
            proptest::prop_assert_eq!(integer(&spelled), integer(&value.to_string()));
            proptest::prop_assert_eq!(integer(&format!("{value}e2")), integer(&format!("{value}00")));
            proptest::prop_assert_ne!(integer(&value.to_string()), integer(&(value + 1).to_string()));
        }
    }

    fn answer(result: &str) -> Message {
        Message::parse(&Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#))).unwrap()
    }

    #[test]
    fn tools_are_remembered_page_by_page_and_the_unusable_ones_named() {
        let memory = Memory::default();
        let tool = |name: &str, header: &str| {
            let schema = format!(r#"{{"properties":{{"a":{{"type":"string","x-mcp-header":"{header}"}}}}}}"#);
            format!(r#"{{"name":"{name}","inputSchema":{schema}}}"#)
        };
        let page =
            format!(r#"{{"tools":[{},{}],"nextCursor":"2"}}"#, tool("one", "One"), tool("bad", "not ok"));
        let listed = memory.learn(&answer(&page), true).unwrap();
        assert!(listed.cursor.is_some());
        assert_eq!(listed.dropped.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1]);
        assert_eq!(memory.of("one").unwrap().len(), 1);
        assert!(memory.of("two").is_none(), "it may be on the next page");
        memory.learn(&answer(&format!(r#"{{"tools":[{}]}}"#, tool("two", "Two"))), false).unwrap();
        memory.complete();
        assert_eq!(memory.of("two").unwrap().len(), 1);
        assert_eq!(memory.of("never listed").unwrap().len(), 0);
        memory.learn(&answer(r#"{"tools":[{"name":"one"}]}"#), true).unwrap();
        assert_eq!(memory.of("one").unwrap().len(), 0, "a complete list replaces what was known");
        memory.forget();
        assert!(memory.of("one").is_none());
    }
}
