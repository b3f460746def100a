//! A document as it may be shown: literal values of `headers` and `env` replaced, every other byte as written.

use super::{
    document,
    node::{Node, Value},
    report::Report,
};
use crate::model::Reference;
use std::{collections::BTreeSet, ops::Range};

const REDACTED: &str = "<redacted>";
const NOT_SHOWN: &str =
    "# The document is not shown: it cannot be read, so its secrets cannot be told from the rest.\n";

/// Replaces every literal value of a `headers` or `env` mapping by `"<redacted>"`. References (`env:`, `file:`)
/// stay. Of a document that cannot be read nothing is shown but a comment that says so.
#[must_use]
pub fn redact(text: &[u8]) -> Vec<u8> {
    let shown = read(text).and_then(|(text, secrets)| {
        let shown = replace(text, &ranges(&secrets));
        // A second reading proves that the positions were right.
        let is_redacted = |node: &Node| matches!(&node.value, Value::Scalar { text, .. } if text == REDACTED);
        let proven = read(shown.as_bytes())
            .is_some_and(|(_, again)| again.len() == secrets.len() && again.iter().all(is_redacted));
        proven.then_some(shown)
    });
    shown.unwrap_or_else(|| NOT_SHOWN.to_owned()).into_bytes()
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
                    "headers" | "env" if !free => literals(&entry.node, secrets),
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
            if let Reference::Literal(_) = Reference::parse(text) {
                secrets.push(node.clone());
            }
        }
        Value::Null => {}
    }
}

/// Where the secrets stand, in characters; an alias stands where its original does.
fn ranges(secrets: &[Node]) -> Vec<Range<usize>> {
    let ranges: BTreeSet<_> = secrets.iter().map(|node| (node.chars.start, node.chars.end)).collect();
    ranges.into_iter().map(|(start, end)| start..end).collect()
}

fn replace(text: &str, ranges: &[Range<usize>]) -> String {
    let offsets: Vec<_> = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
    let offset = |index: usize| offsets.get(index).copied().unwrap_or(text.len());
    let mut shown = String::with_capacity(text.len());
    let mut copied = 0;
    for range in ranges {
        let (start, end) = (offset(range.start), offset(range.end));
        // A block scalar reaches to the next line; its line break is not part of the secret.
        let end = start + text[start..end].trim_end().len();
        shown.push_str(text.get(copied..start).unwrap_or_default());
        shown.push_str(&format!("{REDACTED:?}"));
        copied = end;
    }
    shown.push_str(&text[copied..]);
    shown
}
