//! Which questions are the same.

use super::{call, message};
use crate::{
    cache::key::{Key, Partition},
    call::{Ask, Call, Caller, Opening, Session},
    plan::Upstream,
};
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

/// A JSON value; objects have no order.
#[derive(Debug, Clone, PartialEq)]
enum Json {
    Word(&'static str),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

fn json() -> impl Strategy<Value = Json> {
    let number = prop_oneof!["-?(0|[1-9][0-9]{0,20})", "-?[0-9]\\.[0-9]{1,4}([eE][+-]?[0-9]{1,2})?"];
    let leaf = prop_oneof![
        prop::sample::select(vec!["true", "false", "null"]).prop_map(Json::Word),
        number.prop_map(Json::Number),
        text().prop_map(Json::Text),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::List),
            prop::collection::btree_map(text(), inner, 0..5).prop_map(Json::Object),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]{0,3}", "\\PC{0,6}", "[\"\\\\/\u{8}\u{c}\n\r\t\u{1}\u{1f600}]{0,3}"]
}

/// One of the many spellings of a value.
fn spell(json: &Json, dice: &mut fastrand::Rng, out: &mut String) {
    let space = |dice: &mut fastrand::Rng, out: &mut String| {
        (0..dice.usize(0..3)).for_each(|_| out.push(dice.choice([' ', '\n', '\r', '\t']).unwrap()));
    };
    space(dice, out);
    match json {
        Json::Word(word) => out.push_str(word),
        Json::Number(number) => out.push_str(number),
        Json::Text(text) => quote(text, dice, out),
        Json::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                spell(item, dice, out);
            }
            space(dice, out);
            out.push(']');
        }
        Json::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            dice.shuffle(&mut members);
            out.push('{');
            for (at, (key, value)) in members.into_iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                space(dice, out);
                quote(key, dice, out);
                space(dice, out);
                out.push(':');
                spell(value, dice, out);
            }
            space(dice, out);
            out.push('}');
        }
    }
    space(dice, out);
}

fn quote(text: &str, dice: &mut fastrand::Rng, out: &mut String) {
    out.push('"');
    for char in text.chars() {
        let short = match char {
            '"' => Some('"'),
            '\\' => Some('\\'),
            '/' => Some('/'),
            '\u{8}' => Some('b'),
            '\u{c}' => Some('f'),
            '\n' => Some('n'),
            '\r' => Some('r'),
            '\t' => Some('t'),
            _ => None,
        };
        let must = matches!(char, '"' | '\\') || char < ' ';
        match short {
            Some(short) if dice.bool() => out.extend(['\\', short]),
            _ if must || dice.u8(0..4) == 0 => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let (lower, upper) = (format!("\\u{unit:04x}"), format!("\\u{unit:04X}"));
                    out.push_str(if dice.bool() { &lower } else { &upper });
                }
            }
            _ => out.push(char),
        }
    }
    out.push('"');
}

fn spelled(json: &Json, seed: u64) -> String {
    let mut out = String::new();
    spell(json, &mut fastrand::Rng::with_seed(seed), &mut out);
    out
}

fn request(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}

fn base(call: &Call) -> Option<Key> {
    let Ask::Message(message) = &call.ask else { panic!("a call of these tests is a message") };
    Key::base(call, message, &Upstream::bare("u"))
}

/// The key of a modern question with these params.
fn key(params: &str) -> Option<Key> {
    base(&call("p", request("resources/read", params)))
}

/// As params, with what does not count among its `_meta`.
fn asked(mut members: BTreeMap<String, Json>, meta: BTreeMap<String, Json>, noise: &[(usize, Json)]) -> Json {
    const NOISE: [&str; 6] = [
        "progressToken",
        "traceparent",
        "tracestate",
        "baggage",
        "io.modelcontextprotocol/clientInfo",
        "io.modelcontextprotocol/logLevel",
    ];
    let mut meta: BTreeMap<_, _> =
        meta.into_iter().filter(|(name, _)| !NOISE.contains(&name.as_str())).collect();
    members.remove("_meta");
    meta.extend(noise.iter().map(|(at, value)| (NOISE[at % NOISE.len()].to_owned(), value.clone())));
    if !meta.is_empty() {
        members.insert("_meta".to_owned(), Json::Object(meta));
    }
    Json::Object(members)
}

fn object() -> impl Strategy<Value = BTreeMap<String, Json>> {
    prop::collection::btree_map(text(), json(), 0..5)
}

fn noise() -> impl Strategy<Value = Vec<(usize, Json)>> {
    prop::collection::vec((0..6_usize, json()), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn spelling_and_what_does_not_count_change_no_key(
        members in object(), meta in object(), (one, other) in (noise(), noise()), seeds: (u64, u64),
    ) {
        let first = key(&spelled(&asked(members.clone(), meta.clone(), &one), seeds.0));
        let second = key(&spelled(&asked(members, meta, &other), seeds.1));
        prop_assert!(first.is_some());
        prop_assert_eq!(first, second);
    }

    #[test]
    fn whatever_else_differs_in_params_changes_the_key(
        (one, one_meta) in (object(), object()), (other, other_meta) in (object(), object()), seed: u64,
    ) {
        let (one, other) = (asked(one, one_meta, &[]), asked(other, other_meta, &[]));
        prop_assert_eq!(one == other, key(&spelled(&one, seed)) == key(&spelled(&other, seed)));
    }

    #[test]
    fn a_small_change_anywhere_changes_the_key(members in object(), place: prop::sample::Index, seed: u64) {
        let one = asked(members, BTreeMap::new(), &[]);
        let mut leaves = 0;
        let mut other = one.clone();
        count(&one, &mut leaves);
        if leaves > 0 {
            change(&mut other, &mut place.index(leaves).cast_signed());
            prop_assert_ne!(key(&spelled(&one, seed)).unwrap(), key(&spelled(&other, seed)).unwrap());
        }
    }

    #[test]
    fn a_member_that_stands_twice_has_no_key(members in object(), name in text(), value in json(), seed: u64, in_meta: bool) {
        let value = spelled(&value, seed);
        let mut object = members;
        object.insert(name.clone(), Json::Word("null"));
        let mut once = spelled(&Json::Object(object), seed).trim().to_owned();
        once.truncate(once.len() - 1);
        let mut dice = fastrand::Rng::with_seed(!seed);
        let mut again = String::new();
        quote(&name, &mut dice, &mut again);
        let twice = format!("{once},{again}:{value}}}");
        let params = if in_meta { format!(r#"{{"uri":"u","_meta":{twice}}}"#) } else { twice };
        prop_assert_eq!(key(&params), None);
    }
}

fn count(json: &Json, leaves: &mut usize) {
    match json {
        Json::List(items) if !items.is_empty() => items.iter().for_each(|item| count(item, leaves)),
        Json::Object(members) if !members.is_empty() => {
            members.values().for_each(|value| count(value, leaves))
        }
        _ => *leaves += 1,
    }
}

fn change(json: &mut Json, leaf: &mut isize) {
    match json {
        Json::List(items) if !items.is_empty() => items.iter_mut().for_each(|item| change(item, leaf)),
        Json::Object(members) if !members.is_empty() => {
            members.values_mut().for_each(|value| change(value, leaf));
        }
        _ => {
            if *leaf == 0 {
                *json = match &*json {
                    Json::Text(text) => Json::Text(format!("{text}x")),
                    Json::Number(number) => Json::Text(number.clone()), // 1 is not "1"
                    Json::Word("null") => Json::Word("false"),
                    Json::Word(_) => Json::Word("null"),
                    Json::List(_) => Json::Object(BTreeMap::new()),
                    Json::Object(_) => Json::List(Vec::new()),
                };
            }
            *leaf -= 1;
        }
    }
}

/// What ends an object and the length of a key must not be the same byte: `}` is 125.
#[test]
fn a_long_key_in_an_object_is_not_an_empty_object_and_what_follows_it() {
    let text = "x".repeat(374);
    let plain = format!(r#"{{"a":{{}},"b":"{text}n}}"}}"#);
    let odd = format!(r#"{{"a":{{"\u0000b\"x\u0001\u0000\u0000{text}":null}}}}"#);
    assert_ne!(key(&plain).unwrap(), key(&odd).unwrap());
}

const PARAMS: &str = r#"{"uri":"file:///a","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"a":{}}}}"#;

#[test]
fn each_part_of_a_question_counts() {
    let session = |version, capabilities: &str| {
        let initialize = request("initialize", &format!(r#"{{"capabilities":{capabilities}}}"#));
        Caller::Legacy(Some(Arc::new(Session::new(Opening {
            serial: [7; 16],
            began: SystemTime::UNIX_EPOCH,
            principal: call("p", request("ping", "{}")).principal,
            initialize: message(initialize),
            version,
            upstream: None,
            server: None,
        }))))
    };
    let read = |params: &str| call("p", request("resources/read", params));
    let legacy =
        |version, capabilities: &str| Call { caller: session(version, capabilities), ..read(PARAMS) };
    let mut headed = read(PARAMS);
    headed.headers.insert("mcp-param-region", HeaderValue::from_static("eu"));
    let mut elsewhere = read(PARAMS);
    elsewhere.headers.insert("mcp-param-region", HeaderValue::from_static("us"));
    let mut both = headed.clone();
    both.headers.append("mcp-param-region", HeaderValue::from_static("us"));
    let mut swapped = elsewhere.clone();
    swapped.headers.append("mcp-param-region", HeaderValue::from_static("eu"));
    let questions = [
        read(PARAMS),
        call("p", request("resources/other", PARAMS)),
        read(&PARAMS.replace("file:///a", "file:///b")),
        read(&PARAMS.replace("2026-07-28", "2027-01-01")),
        read(&PARAMS.replace(r#""a":{}"#, r#""b":{}"#)),
        headed,
        elsewhere,
        both,
        swapped,
        Call { caller: Caller::Legacy(None), ..read(PARAMS) },
        legacy("2025-11-25", "{}"),
        legacy("2025-06-18", "{}"),
        legacy("2025-11-25", r#"{"sampling":{}}"#),
    ];
    let mut keys: Vec<_> = questions.iter().map(|call| base(call).unwrap()).collect();
    let Ask::Message(message) = &questions[0].ask else { unreachable!("made above") };
    keys.push(Key::base(&questions[0], message, &Upstream::bare("v")).unwrap());
    let configured = Upstream { key: [1; 32], ..Upstream::bare("u") };
    keys.push(Key::base(&questions[0], message, &configured).unwrap());
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count);
    assert_eq!(
        base(&legacy("2025-11-25", r#"{"a":{},"b":{}}"#)),
        base(&legacy("2025-11-25", r#"{"b":{},"a":{}}"#)),
        "capabilities have no order"
    );
}

#[test]
fn headers_that_no_answer_depends_on_do_not_count() {
    let plain = call("p", request("resources/read", PARAMS));
    let mut headed = plain.clone();
    let headers = [
        ("user-agent", "x"),
        ("accept", "text/event-stream"),
        ("traceparent", "00-1"),
        ("x-request-id", "1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("origin", "http://localhost"),
        ("mcp-method", "resources/read"),
        ("mcp-name", "file:///a"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-session-id", "s"),
    ];
    for (name, value) in headers {
        headed.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    assert_eq!(base(&plain), base(&headed));
}

#[test]
fn headers_count_whatever_their_order_across_names() {
    let mut one = call("p", request("resources/read", PARAMS));
    let mut other = one.clone();
    let lines = [("mcp-param-a", "1"), ("mcp-param-b", "2"), ("mcp-param-a", "3")];
    for (name, value) in lines {
        one.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for (name, value) in [lines[1], lines[0], lines[2]] {
        other.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    assert_eq!(base(&one), base(&other));
}

/// The predecessor shared answers between callers; so did the competitor of landscape A.2 row 76.
#[test]
fn partitions_are_told_apart_also_when_they_spell_the_same() {
    let base = key(PARAMS).unwrap();
    let serial = *b"principal-number";
    let name = std::str::from_utf8(&serial).unwrap();
    let mut keys = vec![
        base.within(Partition::Everybody),
        base.within(Partition::Principal("")),
        base.within(Partition::Principal("a")),
        base.within(Partition::Principal(name)),
        base.within(Partition::Session(&serial)),
        key("{}").unwrap().within(Partition::Principal("a")),
    ];
    assert_eq!(keys[0], base);
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

#[test]
fn a_question_without_params_is_one_with_none() {
    let without = base(&call("p", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#));
    for params in ["{}", " { } ", r#"{"_meta":{}}"#, r#"{"_meta":{"progressToken":7}}"#, "null"] {
        assert_eq!(base(&call("p", request("tools/list", params))), without, "{params}");
    }
    let with = base(&call("p", request("tools/list", r#"{"_meta":null}"#)));
    assert_ne!(with, without);
}

#[test]
fn what_cannot_be_understood_has_no_key() {
    let nested = |depth: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(key(&nested(31)).is_some());
    assert_eq!(key(&nested(32)), None, "too deep");
    assert!(key(&format!(r#"{{"a":"{}"}}"#, "x".repeat(60_000))).is_some());
    assert_eq!(key(&format!(r#"{{"a":"{}"}}"#, "x".repeat(66_000))), None, "too large");
    assert_eq!(key(r#"{"a":"\ud800"}"#), None, "half a character");
    assert_eq!(
        key(r#"{"_meta":{"progressToken":1,"progressToken":2}}"#),
        None,
        "twice, though it does not count"
    );
    assert_eq!(key(r#"{"_meta":{},"uri":"a","_meta":{"x":1}}"#), None, "twice, though one is empty");
    assert_eq!(key(r#"{"a":1,"\u0061":2}"#), None, "twice in two spellings");
    assert!(key(r#"{"a":{"progressToken":1}}"#) != key(r#"{"a":{}}"#), "only in `_meta` of params");
}
