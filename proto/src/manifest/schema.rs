//! The JSON Schema of the document, for editors, from the tables that the parser itself uses.
//!
//! It knows shapes, not rules: what it takes may still be refused, and what it refuses the parser refuses too.

use super::keys::{Key, REQUIRED, SECTIONS, Section};
use serde_json::{Map, Value, json};

const DURATION: &str = "^[0-9]+(ms|s|m|h)$";
const SIZE: &str = "^[0-9]+(B|KiB|MiB|GiB)$";
const LIFE: &str = "^([0-9]+(ms|s|m|h)|default)$";

/// The schema, in the draft of 2020-12.
#[must_use]
pub fn json_schema() -> Value {
    let mut definitions = Map::new();
    for section in SECTIONS.iter().filter(|section| !section.path.is_empty()) {
        definitions.insert(definition(section.path), mapping(section));
    }
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "only1.yaml",
    });
    if let (Value::Object(schema), Some(root)) = (&mut schema, SECTIONS.first()) {
        if let Value::Object(root) = mapping(root) {
            schema.extend(root);
        }
        schema.insert("$defs".to_owned(), Value::Object(definitions));
    }
    schema
}

/// Keys that are known, and no others. A key without a value counts as absent.
fn mapping(section: &Section) -> Value {
    let mut properties = Map::new();
    for key in section.keys {
        let mut shape = json!({"description": key.about.replace('`', "'")});
        if let (Value::Object(shape), Value::Object(takes)) = (&mut shape, takes(section, key)) {
            shape.extend(takes);
        }
        properties.insert(key.name.to_owned(), shape);
    }
    let required: Vec<_> =
        section.keys.iter().filter(|key| key.default == REQUIRED).map(|key| key.name).collect();
    json!({
        "description": section.about.replace('`', "'"),
        "type": ["object", "null"],
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// What a key takes, in the words of the table.
fn takes(section: &Section, key: &Key) -> Value {
    let text = || json!({"type": ["string", "number", "boolean", "null"]});
    let pattern = |pattern: &str| json!({"type": ["string", "null"], "pattern": pattern});
    let own = || below(section, key.name);
    let list = |items: Value| json!({"type": ["array", "null"], "items": items});
    let named = |values: Value| json!({"type": ["object", "null"], "additionalProperties": values});
    let or = |one: Value, other: Value| json!({"anyOf": [one, other]});
    match key.takes {
        "section" => own(),
        "tier" => reference("cache.<tier>"),
        "section, or `none`" | "word, or section" => or(own(), text()),
        "list of endpoints" => list(reference("upstreams.<name>.primary[]")),
        "list of endpoints, or `snapshot`" => {
            or(list(reference("upstreams.<name>.primary[]")), json!({"const": "snapshot"}))
        }
        "list of tokens" => list(reference("clients.auth.tokens[]")),
        "list of rules" => list(reference("clients.auth.jwt.rules[]")),
        "name → upstream" => named(reference("upstreams.<name>")),
        "name → server" => named(reference("servers.<name>")),
        "tool name → section" => named(reference("upstreams.<name>.timeouts.tools.<tool>")),
        "duration" => pattern(DURATION),
        "size" => pattern(SIZE),
        "life" => pattern(LIFE),
        "number" => json!({"type": ["integer", "null"], "minimum": 0}),
        "`true` or `false`" => json!({"type": ["boolean", "null"]}),
        takes if takes.ends_with(" → life") => named(pattern(LIFE)),
        takes if takes.contains(" → ") => named(text()),
        takes if takes.starts_with("list of ") => list(text()),
        _ => text(),
    }
}

/// The section that a key of a section begins.
fn below(section: &Section, name: &str) -> Value {
    let path = match section.path {
        "" => name.to_owned(),
        // Two kinds of names are chosen in the same way.
        "servers.<name>" if name == "resources" => "servers.<name>.prompts".to_owned(),
        "clients.auth.jwt.rules[]" => format!("clients.auth.tokens[].{name}"),
        path => format!("{path}.{name}"),
    };
    reference(&path)
}

fn reference(path: &str) -> Value {
    json!({"$ref": format!("#/$defs/{}", definition(path))})
}

/// A section's name in a URI.
pub(super) fn definition(path: &str) -> String {
    path.replace(['<', '>'], "").replace("[]", ".item")
}
