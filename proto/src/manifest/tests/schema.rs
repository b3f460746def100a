//! The schema takes what the parser takes, and knows every key.

use crate::manifest::{
    document, json_schema,
    keys::SECTIONS,
    node::{Node, Style, Value as Found},
    parse,
    report::Report,
    schema::definition,
};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// As an editor sees a document.
fn value(node: &Node) -> Value {
    match &node.value {
        Found::Null => Value::Null,
        Found::Scalar { text, style: Style::Plain } => match text.as_str() {
            "true" => true.into(),
            "false" => false.into(),
            text => text.parse::<u64>().map_or_else(|_| text.into(), Value::from),
        },
        Found::Scalar { text, .. } => text.as_str().into(),
        Found::List(items) => items.iter().map(value).collect(),
        Found::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), value(&entry.node))).collect(),
    }
}

/// What the schema has against a document.
fn against(text: &str) -> Vec<String> {
    let report = Report::new("t.yaml");
    let node = document::read(text.as_bytes(), &report).expect("it is YAML");
    let validator = jsonschema::validator_for(&json_schema()).expect("it is a schema");
    validator.iter_errors(&value(&node)).map(|error| error.to_string()).collect()
}

#[test]
fn the_examples_fit() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for file in fs::read_dir(folder).expect("there are examples") {
        let path = file.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read_to_string(&path).expect("text");
            assert!(parse("x", text.as_bytes()).is_ok(), "{}", path.display());
            assert_eq!(against(&text), Vec::<String>::new(), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 2);
}

#[test]
fn what_the_parser_does_not_know_does_not_fit() {
    for wrong in [
        "upstreams: {a: {primry: []}}",
        "upstreams: {a: {backup: snapshot}}",
        "upstreams: {a: {primary: [{url: x, weigth: 1}]}}",
        "upstreams: {a: {primary: [{url: x}], timeouts: {idle: 5}}}",
        "upstreams: {a: {primary: [{url: x, weight: heavy}]}}",
        "upstreams: {a: {primary: {url: x}}}",
        "clients: {sse: perhaps}",
        "clients: {max_body: 4 megabytes}",
        "nothing: 1",
        "[]",
    ] {
        assert!(!against(wrong).is_empty(), "{wrong}");
        assert!(parse("x", wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn every_section_has_its_place() {
    let (mut asked, schema) = (BTreeSet::new(), json_schema());
    references(&schema, &mut asked);
    let there: BTreeSet<String> =
        SECTIONS.iter().map(|section| definition(section.path)).filter(|name| !name.is_empty()).collect();
    assert_eq!(asked, there);
}

fn references(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            let reference = map.get("$ref").and_then(Value::as_str);
            found.extend(reference.and_then(|one| one.strip_prefix("#/$defs/")).map(str::to_owned));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}
