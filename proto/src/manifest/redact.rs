//! A document as it may be shown: literal values of `headers` and `env` replaced, every other byte as written.

use super::{
    document,
    node::{Node, Style, Value},
    report::Report,
};
use crate::model::Reference;
use std::{collections::BTreeMap, ops::Range};

const REDACTED: &str = "<redacted>";
const QUOTED: &str = "\"<redacted>\"";
const NOT_SHOWN: &str =
    "# The document is not shown: it cannot be read, so its secrets cannot be told from the rest.\n";

/// Replaces every hash of a token and every literal value of a `headers` or `env` mapping by `"<redacted>"`, in a block by `<redacted>`.
/// References (`env:`, `file:`) and empty values stay. Of a document that cannot be read nothing is shown but a
/// comment that says so.
#[must_use]
pub fn redact(text: &[u8]) -> Vec<u8> {
    let shown = read(text).and_then(|(text, secrets)| {
        let shown = replace(text, &secrets);
        // A second reading proves that the places were right.
        let (_, again) = read(shown.as_bytes())?;
        (again.len() == secrets.len() && again.iter().all(is_redacted)).then_some(shown)
    });
    shown.unwrap_or_else(|| NOT_SHOWN.to_owned()).into_bytes()
}

fn is_redacted(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, .. } if text.trim() == REDACTED)
}

/// The document and its literal secrets.
fn read(text: &[u8]) -> Option<(&str, Vec<Node>)> {
    let node = document::read(text, &Report::new(""))?;
    let mut secrets = Vec::new();
    find(&node, false, &mut secrets);
    Some((std::str::from_utf8(text).ok()?, secrets))
}

/// `free`: the keys of this mapping are names that people chose.
fn find(node: &Node, free: bool, secrets: &mut Vec<Node>) {
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                match entry.key.as_str() {
                    // A hash of a token says nothing, unless the token was easy to guess.
                    "headers" | "env" | "blake3" | "sha256" if !free => literals(&entry.node, secrets),
                    "upstreams" | "servers" | "tools" if !free => find(&entry.node, true, secrets),
                    _ => find(&entry.node, false, secrets),
                }
            }
        }
        Value::List(items) => items.iter().for_each(|item| find(item, false, secrets)),
        Value::Scalar { .. } | Value::Null => {}
    }
}

fn literals(node: &Node, secrets: &mut Vec<Node>) {
    match &node.value {
        Value::Map(entries) => entries.iter().for_each(|entry| literals(&entry.node, secrets)),
        Value::List(items) => items.iter().for_each(|item| literals(item, secrets)),
        Value::Scalar { text, .. } => {
            if matches!(Reference::parse(text), Reference::Literal(_)) && !text.trim().is_empty() {
                secrets.push(node.clone());
            }
        }
        Value::Null => {}
    }
}

fn replace(text: &str, secrets: &[Node]) -> String {
    let offsets: Vec<_> = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
    let offset = |index: usize| offsets.get(index).copied().unwrap_or(text.len());
    // By place, because an alias stands where its original does.
    let places: BTreeMap<_, _> = secrets.iter().map(|node| (node.chars.start, node)).collect();
    let mut shown = String::with_capacity(text.len());
    let mut copied = 0;
    for node in places.into_values() {
        let start = offset(node.chars.start);
        let value = value(&text[start..offset(node.chars.end).max(start)], node);
        shown.push_str(text.get(copied..start + value.start).unwrap_or_default());
        shown.push_str(if style(node) == Style::Block { REDACTED } else { QUOTED });
        copied = start + value.end;
    }
    shown.push_str(text.get(copied..).unwrap_or_default());
    shown
}

/// The value itself within what stands at the place of `node`.
fn value(text: &str, node: &Node) -> Range<usize> {
    let mut value = text;
    if node.anchored {
        value = value.trim_start_matches(|c: char| !c.is_whitespace()).trim_start();
        if style(node) == Style::Block {
            value = value.trim_start_matches(|c: char| c != '\n' && c != '\r').trim_start();
        }
    }
    let start = text.len() - value.len();
    // What the parser says about the end includes a comment at times.
    let length = match style(node) {
        Style::Plain | Style::Block => value.trim_end().len(),
        Style::Single => closing_quote(value, '\'', '\''),
        Style::Double => closing_quote(value, '"', '\\'),
    };
    start..start + length
}

/// The length of quoted text. `escape` takes the meaning of the character that follows it.
fn closing_quote(text: &str, quote: char, escape: char) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((offset, c)) = chars.next() {
        let escaped =
            c == escape && (escape != quote || chars.peek().is_some_and(|(_, next)| *next == quote));
        if escaped {
            chars.next();
        } else if c == quote {
            return offset + quote.len_utf8();
        }
    }
    text.len()
}

fn style(node: &Node) -> Style {
    match node.value {
        Value::Scalar { style, .. } => style,
        _ => Style::Plain,
    }
}
