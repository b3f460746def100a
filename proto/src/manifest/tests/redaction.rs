//! What `redact` hides, and that it touches nothing else.

use crate::manifest::{document, redact, report::Report};
use proptest::prelude::*;

fn shown(document: &str) -> String {
    String::from_utf8(redact(document.as_bytes())).expect("text")
}

#[test]
fn literals_are_hidden_and_every_other_byte_stays() {
    let document = "\
# s for secret\r
upstreams:
  weather: # ünïcode before the secret
    headers:   {Authorization: Bearer s3cret, X-A: \"s3cret \\\" \u{1F600}\" , X-B: env:TOKEN}
    primary:
      - url: http://x/?a=b#
      - command: [a, \"b\"]
        env:
          A: 's3cret ''quoted'''   # kept
          B: s3cret
            on two lines
          C: |
            s3cret
              block

          D: >-
            s3cret folded
          E: file:/run/token
          F:
          G: \"\"
          H: &h s3cret
          I: *h
        weight:   1
  headers: {primary: [{url: 'http://y/'}]}
  env: {timeouts: {idle: 5s}}
servers: {env: {upstreams: [headers]}}
cache: {tools: {env: 5, blake3: 5}}
clients: {auth: {tokens: [{name: a, blake3: 5e4d}, {name: b, sha256: '5e4d'}]}}
";
    let expected = "\
# s for secret\r
upstreams:
  weather: # ünïcode before the secret
    headers:   {Authorization: \"<redacted>\", X-A: \"<redacted>\" , X-B: env:TOKEN}
    primary:
      - url: http://x/?a=b#
      - command: [a, \"b\"]
        env:
          A: \"<redacted>\"   # kept
          B: \"<redacted>\"
          C: |
            <redacted>

          D: >-
            <redacted>
          E: file:/run/token
          F:
          G: \"\"
          H: &h \"<redacted>\"
          I: *h
        weight:   1
  headers: {primary: [{url: 'http://y/'}]}
  env: {timeouts: {idle: 5s}}
servers: {env: {upstreams: [headers]}}
cache: {tools: {env: 5, blake3: 5}}
clients: {auth: {tokens: [{name: a, blake3: \"<redacted>\"}, {name: b, sha256: \"<redacted>\"}]}}
";
    assert_eq!(shown(document), expected);
}

#[test]
fn secrets_in_wrong_places_are_hidden_too() {
    let documents = [
        "env: s3cret",
        "headers: [s3cret, {a: [s3cret]}]",
        "upstreams: {a: {env: {B: s3cret}, headers: {A: env:X, A: s3cret}}}",
        "upstreams: [{headers: {A: s3cret}}]",
        "x: &x s3cret\nupstreams: {a: {headers: {A: *x}}}",
        "\u{feff}headers: {A: s3cret}",
        "headers:\r\n  A: s3cret\r\n  B: |\r\n    s3cret\r\n",
    ];
    for document in documents {
        let shown = shown(document);
        assert!(!shown.contains("s3cret") && shown.contains("<redacted>"), "{document:?}\n{shown:?}");
    }
}

#[test]
fn an_unreadable_document_is_not_shown() {
    for document in
        [&b"headers: {A: s3cret"[..], b"headers: {A: s3cret\xff}", b"a: 1\n---\nheaders: {A: s3cret}"]
    {
        let shown = redact(document);
        assert!(shown.starts_with(b"# The document is not shown"), "{}", String::from_utf8_lossy(&shown));
    }
}

#[test]
fn a_document_without_secrets_is_the_same() {
    let document = include_str!("../../../../examples/full.yaml");
    let hash = "\"4878ca0425c739fa427f7eda20fe845f6b2e46ba5fe2a14df5b1e32f50603215\"";
    let expected = document.replace("production", "\"<redacted>\"").replace(hash, "\"<redacted>\"");
    assert_eq!(shown(document), expected);
    assert_eq!(shown(""), "");
}

/// A value in one of the ways YAML knows, indented by `indent`.
fn spelled() -> impl Strategy<Value = String> {
    let word = "s3cret[a-zé0-9]{0,9}";
    prop_oneof![
        word.prop_map(String::from),
        (word, word).prop_map(|(a, b)| format!("\"{a}\\n{b}\\u00e9\"")),
        (word, word).prop_map(|(a, b)| format!("'{a} '' {b}'")),
        (word, word).prop_map(|(a, b)| format!("{a}\n        {b}")),
        (word, word).prop_map(|(a, b)| format!("\"{a}\n\n        {b}\"")),
        (word, word).prop_map(|(a, b)| format!("&x1 {a} # {b}").replace(" # s3cret", " # note")),
        (word, word).prop_map(|(a, b)| format!("|\n        {a}\n\n          {b}\n")),
        (word, word).prop_map(|(a, b)| format!(">+\n        {a}\n        {b}\n\n")),
        (word, word).prop_map(|(a, b)| format!("|2-\n        {a}\n        {b}")),
    ]
}

proptest! {
    #[test]
    fn no_spelling_of_a_secret_survives(
        values in proptest::collection::vec(spelled(), 1..6),
        break_ in prop_oneof![Just("\n"), Just("\r\n")],
    ) {
        let mut text = String::from("upstreams:\n  a:\n    prefix: kept\n    headers:\n");
        for (number, value) in values.iter().enumerate() {
            text.push_str(&format!("      X-{number}: {value}\n"));
        }
        text.push_str("    # end\n    primary: [{url: 'http://kept/'}]\n");
        let text = text.replace('\n', break_);
        prop_assume!(document::read(text.as_bytes(), &Report::new("")).is_some());
        let shown = shown(&text);
        prop_assert!(!shown.contains("s3cret"), "{text}\n{shown}");
        prop_assert!(shown.contains("prefix: kept") && shown.contains("http://kept/"), "{text}\n{shown}");
        prop_assert!(document::read(shown.as_bytes(), &Report::new("")).is_some(), "{text}\n{shown}");
    }
}
