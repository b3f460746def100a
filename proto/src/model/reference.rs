//! A value that may be a secret, and so may be kept elsewhere.

use std::fmt;

/// A literal, or where to find the value: `env:NAME`, `file:PATH`.
#[derive(Clone, PartialEq, Eq)]
pub enum Reference {
    /// The value itself.
    Literal(String),
    /// An environment variable of the node.
    Env(String),
    /// A file on the node; one trailing newline is not part of the value.
    File(String),
}

impl Reference {
    /// Reads the spelling used in configurations. Everything without a known scheme is a literal.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if let Some(name) = text.strip_prefix("env:") {
            Self::Env(name.to_owned())
        } else if let Some(path) = text.strip_prefix("file:") {
            Self::File(path.to_owned())
        } else {
            Self::Literal(text.to_owned())
        }
    }

    /// The spelling that [`Reference::parse`] reads. For a literal this is the value: never log it.
    #[must_use]
    pub fn spelling(&self) -> String {
        match self {
            Self::Literal(value) => value.clone(),
            Self::Env(name) => format!("env:{name}"),
            Self::File(path) => format!("file:{path}"),
        }
    }
}

/// Shows where the value is, never the value.
impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("<redacted>"),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
        }
    }
}
