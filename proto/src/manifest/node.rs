//! The document as a tree in which every key and value knows where it stands. Knows nothing of what they mean.

use std::ops::Range;

/// A place in a document. The default is the document as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct At {
    /// From 1; 0: the whole document.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

/// A value. An alias is a copy of what it stands for, at the place of the original.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub at: At,
    /// Where a scalar stands, in characters from the start of the document: with its anchor, without the first
    /// line of a block that has none.
    pub chars: Range<usize>,
    /// An anchor stands before it.
    pub anchored: bool,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing, `~` or `null`, without quotes.
    Null,
    Scalar {
        text: String,
        style: Style,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Without quotes, so that it may be a number.
    Plain,
    Single,
    Double,
    /// After `|` or `>`.
    Block,
}

/// A key of a mapping and what it maps to.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: String,
    pub at: At,
    pub node: Node,
    /// An earlier entry has the same key; this one was refused and counts for nothing.
    pub repeated: bool,
}

impl Value {
    /// What people call it: `a list`.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar { style: Style::Plain, .. } => "a word",
            Self::Scalar { .. } => "quoted text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}
