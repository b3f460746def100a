//! Bytes → tree: UTF-8, YAML, and the limits and refusals that hold before any key is looked at.
//!
//! Reads parser events into [`Node`]s with its own stack, so that depth is bounded by a limit and not by the
//! thread's. Must never panic, whatever the bytes.

use super::{
    node::{At, Entry, Node, Style, Value},
    path,
    report::Report,
    rules::{self, Rule},
};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};
use std::collections::HashMap;

const MAX_BYTES: usize = 1 << 20;
const MAX_DEPTH: usize = 32;
const MAX_NODES: usize = 100_000;

/// Reads a document. `None` after a problem that leaves nothing to look at; repeated keys are reported and
/// marked. An empty document is [`Value::Null`].
pub(super) fn read(text: &[u8], report: &Report<'_>) -> Option<Node> {
    let result = decode(text).and_then(|text| Builder::new(report).build(text));
    match result {
        Ok(node) => Some(node),
        Err(fault) => {
            report.problem(fault.rule, fault.at, &fault.path, fault.what, fault.hint);
            None
        }
    }
}

/// What ends the reading.
struct Fault {
    rule: &'static Rule,
    at: At,
    path: String,
    what: String,
    hint: &'static str,
}

impl Fault {
    fn new(rule: &'static Rule, at: At, what: impl Into<String>, hint: &'static str) -> Self {
        Self { rule, at, path: String::new(), what: what.into(), hint }
    }
}

impl From<ScanError> for Fault {
    fn from(error: ScanError) -> Self {
        let at = position(error.marker());
        let what = format!("not valid YAML: {}", error.info());
        Self::new(&rules::YAML_SYNTAX, at, what, syntax_hint(error.info()))
    }
}

/// What the parser's words mostly mean.
fn syntax_hint(info: &str) -> &'static str {
    const HINTS: &[(&str, &str)] = &[
        ("tab", "indent with spaces"),
        ("mapping values are not allowed", "put text with `: ` in quotes, or check the indentation"),
        ("flow mapping", "is a `}` or a comma missing?"),
        ("flow sequence", "is a `]` or a comma missing?"),
        ("quoted scalar, found unexpected end", "is the closing quote missing?"),
        ("unknown anchor", "define it with `&` before it is used"),
        ("unexpected character", "put the text in quotes"),
        ("invalid indentation", "check the indentation, and that every bracket is closed"),
        ("block mapping", "check the indentation"),
        ("block collection", "check the indentation"),
    ];
    HINTS.iter().find(|(words, _)| info.contains(words)).map_or("", |(_, hint)| hint)
}

fn decode(text: &[u8]) -> Result<&str, Fault> {
    if text.len() > MAX_BYTES {
        let what = format!("the document has {} bytes, more than {MAX_BYTES}", text.len());
        return Err(Fault::new(&rules::YAML_SIZE, At::default(), what, ""));
    }
    std::str::from_utf8(text).map_err(|error| {
        let valid = String::from_utf8_lossy(&text[..error.valid_up_to()]);
        let line = valid.matches('\n').count() + 1;
        let column = valid.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let at = At { line: saturated(line), column: saturated(column) };
        let what = format!("byte {:#04x} is not UTF-8", text[error.valid_up_to()]);
        Fault::new(&rules::YAML_ENCODING, at, what, "save the file as UTF-8")
    })
}

/// Turns events into a tree.
struct Builder<'r> {
    report: &'r Report<'r>,
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

/// A list or mapping whose end has not been seen.
struct Open {
    at: At,
    anchor: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, lines: HashMap<String, u32>, key: Option<(String, At)> },
}

impl<'r> Builder<'r> {
    fn new(report: &'r Report<'r>) -> Self {
        Self { report, open: Vec::new(), root: None, anchors: HashMap::new(), nodes: 0 }
    }

    fn build(mut self, text: &str) -> Result<Node, Fault> {
        let mut parser = Parser::new_from_str(text);
        let mut documents = 0;
        while let Some(event) = parser.next_event() {
            let (event, span) = event?;
            if let Event::DocumentStart(_) = event {
                documents += 1;
                if documents > 1 {
                    let what = "a second document begins here";
                    let hint = "keep one document in the file";
                    return Err(Fault::new(&rules::YAML_UNSUPPORTED, position(&span.start), what, hint));
                }
            }
            self.event(event, span)?;
        }
        Ok(self.root.unwrap_or(Node { at: At::default(), chars: 0..0, anchored: false, value: Value::Null }))
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let at = position(&span.start);
        if let Event::Scalar(.., Some(_))
        | Event::SequenceStart(_, Some(_))
        | Event::MappingStart(_, Some(_)) = event
        {
            return Err(self.unsupported(at, "tags are not supported", "remove the `!…`"));
        }
        match event {
            Event::Scalar(text, style, anchor, _) => self.scalar(&text, style, anchor, at, span),
            Event::SequenceStart(anchor, _) => self.begin(at, anchor, Inside::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                let inside = Inside::Map { entries: Vec::new(), lines: HashMap::new(), key: None };
                self.begin(at, anchor, inside)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        at: At,
        span: Span,
    ) -> Result<(), Fault> {
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted => Style::Single,
            ScalarStyle::DoubleQuoted => Style::Double,
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
        };
        let plain = style == Style::Plain;
        if self.wants_key() {
            return self.key(text, plain, at);
        }
        let value = match text {
            "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
            _ => Value::Scalar { text: text.to_owned(), style },
        };
        self.count(1, at)?;
        let chars = span.start.index()..span.end.index();
        self.place(Node { at, chars, anchored: anchor != 0, value }, anchor)
    }

    fn key(&mut self, text: &str, plain: bool, at: At) -> Result<(), Fault> {
        if plain && text == "<<" {
            let hint = "write the keys out; aliases of whole values are supported";
            return Err(self.unsupported(at, "merge keys are not supported", hint));
        }
        if plain && text.is_empty() {
            return Err(self.unsupported(at, "a key is empty", "write the key before the `:`"));
        }
        if let Some(Open { inside: Inside::Map { key, .. }, .. }) = self.open.last_mut() {
            *key = Some((text.to_owned(), at));
        }
        Ok(())
    }

    fn begin(&mut self, at: At, anchor: usize, inside: Inside) -> Result<(), Fault> {
        if self.wants_key() {
            return Err(self.unsupported(at, "a key is a list or a mapping", "a key is one word"));
        }
        self.count(1, at)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.open.push(Open { at, anchor, inside });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        let Some(Open { at, anchor, inside }) = self.open.pop() else { return Ok(()) };
        let value = match inside {
            Inside::List(items) => Value::List(items),
            Inside::Map { entries, .. } => Value::Map(entries),
        };
        self.place(Node { at, chars: 0..0, anchored: anchor != 0, value }, anchor)
    }

    fn alias(&mut self, anchor: usize, at: At) -> Result<(), Fault> {
        if self.wants_key() {
            return Err(self.unsupported(at, "a key is an alias", "write the key out"));
        }
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(self.unsupported(
                at,
                "the alias stands inside what it refers to",
                "write the value out",
            ));
        };
        let (nodes, depth) = measure(node);
        let node = node.clone();
        self.count(nodes, at)?;
        if self.open.len() + depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.place(node, 0)
    }

    /// Puts a finished value where it belongs.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            self.count(measure(&node).0, node.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        let mut again = None;
        match self.open.last_mut().map(|open| &mut open.inside) {
            None => self.root = Some(node),
            Some(Inside::List(items)) => items.push(node),
            Some(Inside::Map { entries, lines, key }) => {
                let Some((key, at)) = key.take() else { return Ok(()) };
                let first = lines.get(&key).copied();
                match first {
                    Some(first) => again = Some((key.clone(), at, first)),
                    None => {
                        lines.insert(key.clone(), at.line);
                    }
                }
                entries.push(Entry { key, at, node, repeated: first.is_some() });
            }
        }
        if let Some((key, at, first)) = again {
            let what = format!("the key {} appears again, first on line {first}", path::quoted(&key));
            let parent = path::key(&self.path(), &key);
            self.report.problem(&rules::DUPLICATE_KEY, at, &parent, what, "keep one of them");
        }
        Ok(())
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { inside: Inside::Map { key: None, .. }, .. }))
    }

    /// Where the next value goes.
    fn path(&self) -> String {
        self.open.iter().fold(String::new(), |parent, open| match &open.inside {
            Inside::List(items) => path::item(&parent, items.len()),
            Inside::Map { key: Some((key, _)), .. } => path::key(&parent, key),
            Inside::Map { key: None, .. } => parent,
        })
    }

    fn count(&mut self, more: usize, at: At) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        let what = format!("the document has more than {MAX_NODES} values, aliases expanded");
        Err(Fault::new(&rules::YAML_SIZE, at, what, ""))
    }

    fn unsupported(&self, at: At, what: &str, hint: &'static str) -> Fault {
        Fault { path: self.path(), ..Fault::new(&rules::YAML_UNSUPPORTED, at, what, hint) }
    }
}

fn too_deep(at: At) -> Fault {
    let what = format!("lists and mappings are nested more than {MAX_DEPTH} deep");
    Fault::new(&rules::YAML_SIZE, at, what, "")
}

/// How many values a tree has, and how many lists and mappings deep it is.
fn measure(node: &Node) -> (usize, usize) {
    let sum = |(nodes, depth): (usize, usize), child: &Node| {
        let (more, deeper) = measure(child);
        (nodes + more, depth.max(deeper + 1))
    };
    match &node.value {
        Value::Null | Value::Scalar { .. } => (1, 0),
        Value::List(items) => items.iter().fold((1, 1), sum),
        Value::Map(entries) => entries.iter().map(|entry| &entry.node).fold((1, 1), sum),
    }
}

fn position(marker: &Marker) -> At {
    At { line: saturated(marker.line()), column: saturated(marker.col() + 1) }
}

fn saturated(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
