//! What sections are read with: a [`Field`] is a value that knows its place, a [`Reader`] a mapping whose keys
//! are all known. Both report what is wrong and go on; neither knows what any key means.

use super::{
    keys::{SECTIONS, Section},
    node::{At, Entry, Node, Style, Value},
    path,
    report::Report,
    rules::{self, Rule},
    suggest, units,
};
use std::{ops::RangeInclusive, time::Duration};

/// A value in the document.
#[derive(Clone)]
pub(super) struct Field<'a> {
    pub report: &'a Report<'a>,
    pub path: String,
    /// Where its key stands; of an item or the document, the value itself.
    pub key: At,
    pub node: &'a Node,
}

impl<'a> Field<'a> {
    /// The whole document.
    pub(super) fn root(report: &'a Report<'a>, node: &'a Node) -> Self {
        Self { report, path: String::new(), key: node.at, node }
    }

    /// The value breaks `rule`.
    pub(super) fn problem(&self, rule: &'static Rule, what: impl Into<String>, hint: impl Into<String>) {
        self.report.problem(rule, self.at(), &self.path, what, hint);
    }

    /// The key should not be here.
    pub(super) fn problem_at_key(
        &self,
        rule: &'static Rule,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.report.problem(rule, self.key, &self.path, what, hint);
    }

    /// Where to point at for the value: a value that is not there is shown by its key.
    fn at(&self) -> At {
        if matches!(self.node.value, Value::Null) { self.key } else { self.node.at }
    }

    fn wrong_type(&self, wanted: &str, hint: &str) {
        let what = match &self.node.value {
            Value::Null => format!("has no value, wants {wanted}"),
            other => format!("wants {wanted}, found {}", other.noun()),
        };
        self.problem(&rules::VALUE_TYPE, what, hint);
    }

    /// The value without a report; `None` when it is no text.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Any text, also text that looks like a number.
    pub(super) fn text(&self) -> Option<&'a str> {
        let text = self.as_text();
        if text.is_none() {
            self.wrong_type("text", "");
        }
        text
    }

    /// A whole number within a range.
    pub(super) fn number(&self, rule: &'static Rule, range: RangeInclusive<u32>) -> Option<u32> {
        let (low, high) = (*range.start(), *range.end());
        match &self.node.value {
            Value::Scalar { text, style: Style::Plain } if is_integer(text) => {
                let number = text.parse().ok().filter(|number| range.contains(number));
                if number.is_none() {
                    let hint = match text.parse::<u32>() {
                        Ok(number) if number < low => format!("at least {low}"),
                        Err(_) if text.starts_with('-') => format!("at least {low}"),
                        _ => format!("at most {high}"),
                    };
                    self.problem(rule, format!("{} is out of range", path::quoted(text)), hint);
                }
                number
            }
            Value::Scalar { text, style } => {
                let hint = if *style == Style::Plain { "" } else { "write it without quotes" };
                let what = format!("wants a whole number, found {}", path::quoted(text));
                self.problem(&rules::VALUE_TYPE, what, hint);
                None
            }
            _ => {
                self.wrong_type("a whole number", "");
                None
            }
        }
    }

    /// A duration of at least `least`.
    pub(super) fn duration(&self, rule: &'static Rule, least: Duration) -> Option<Duration> {
        let Some(text) = self.as_text() else {
            self.wrong_type("a duration", "such as `500ms`, `10s`, `5m`, `2h`");
            return None;
        };
        match units::duration(text) {
            Ok(found) if found < least => {
                let hint = format!("at least {}", units::spell(least));
                self.problem(rule, format!("{} is too short", path::quoted(text)), hint);
                None
            }
            Ok(found) => Some(found),
            Err(hint) => {
                let what = format!("{} is not a duration", path::quoted(text));
                self.problem(&rules::DURATION_SYNTAX, what, hint);
                None
            }
        }
    }

    /// A size in bytes.
    pub(super) fn size(&self) -> Option<u64> {
        let Some(text) = self.as_text() else {
            self.wrong_type("a size", "such as `64KiB` or `4MiB`");
            return None;
        };
        units::size(text)
            .inspect_err(|hint| {
                self.problem(
                    &rules::SIZE_SYNTAX,
                    format!("{} is not a size", path::quoted(text)),
                    hint.clone(),
                );
            })
            .ok()
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, rule: &'static Rule, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.as_text();
        let Some(text) = text else {
            self.wrong_type("a word", &suggest::one_of(words.iter().map(|(word, _)| *word)));
            return None;
        };
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let hint = suggest::word(text, words.iter().map(|(word, _)| *word));
            self.problem(rule, format!("does not know {}", path::quoted(text)), hint);
        }
        found
    }

    /// `true` or `false`.
    pub(super) fn switch(&self) -> Option<bool> {
        self.word(&rules::VALUE_TYPE, &[("true", true), ("false", false)])
    }

    /// The keys of a mapping, without a report.
    pub(super) fn keys(&self) -> Vec<&'a str> {
        match &self.node.value {
            Value::Map(entries) => entries.iter().map(|entry| entry.key.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    /// A list with nothing in it, also when nothing at all is written.
    pub(super) fn is_empty_list(&self) -> bool {
        match &self.node.value {
            Value::Null => true,
            Value::List(items) => items.is_empty(),
            _ => false,
        }
    }

    /// The items of a list; nothing is an empty one.
    pub(super) fn list(&self, hint: &str) -> Vec<Field<'a>> {
        match &self.node.value {
            Value::List(items) => {
                let field = |(index, node): (usize, &'a Node)| Field {
                    report: self.report,
                    path: path::item(&self.path, index),
                    key: node.at,
                    node,
                };
                items.iter().enumerate().map(field).collect()
            }
            Value::Null => Vec::new(),
            _ => {
                self.wrong_type("a list", hint);
                Vec::new()
            }
        }
    }

    /// A mapping with free keys; nothing is an empty one.
    pub(super) fn names(&self, hint: &str) -> Vec<(&'a str, Field<'a>)> {
        match &self.node.value {
            Value::Map(entries) => entries
                .iter()
                .filter(|entry| !entry.repeated)
                .map(|one| (one.key.as_str(), self.child(one)))
                .collect(),
            Value::Null => Vec::new(),
            _ => {
                self.wrong_type("a mapping", hint);
                Vec::new()
            }
        }
    }

    /// A mapping with the keys of `section`. Reports every unknown key; of another type it is
    /// reported and reads as if it were empty.
    pub(super) fn section(self, section: &'static Section) -> Reader<'a> {
        let hint = suggest::keys(section);
        let wrong = !matches!(self.node.value, Value::Map(_) | Value::Null);
        for (name, field) in self.names(&hint) {
            if section.key(name).is_none() {
                let what = format!("unknown key {}", path::quoted(name));
                field.problem_at_key(&rules::UNKNOWN_KEY, what, suggest::key(name, section, SECTIONS));
            }
        }
        Reader { field: self, section, wrong }
    }

    fn child(&self, entry: &'a Entry) -> Field<'a> {
        let path = path::key(&self.path, &entry.key);
        Field { report: self.report, path, key: entry.at, node: &entry.node }
    }
}

/// A mapping with the keys of a [`Section`].
pub(super) struct Reader<'a> {
    pub field: Field<'a>,
    section: &'static Section,
    /// Not a mapping at all; said already.
    wrong: bool,
}

impl<'a> Reader<'a> {
    /// Not a mapping; that has been said.
    pub(super) fn is_wrong(&self) -> bool {
        self.wrong
    }

    /// The value of a key, when the document has it.
    pub(super) fn get(&self, name: &str) -> Option<Field<'a>> {
        debug_assert!(self.section.key(name).is_some(), "`{name}` is not in the table of keys");
        let Value::Map(entries) = &self.field.node.value else { return None };
        entries.iter().find(|entry| entry.key == name).map(|entry| self.field.child(entry))
    }

    /// As [`Reader::get`], and reports a missing key.
    pub(super) fn required(&self, name: &str) -> Option<Field<'a>> {
        let found = self.get(name);
        if found.is_none() && !self.wrong {
            let field = &self.field;
            let what = format!("the key `{name}` is missing");
            field.report.problem(&rules::MISSING_KEY, field.key, &field.path, what, "");
        }
        found
    }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
