//! What is wrong with a configuration document: where, by which rule, what, and what to do about it.

use std::fmt;

/// One problem (or warning) in a document that people wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The document's name, as given by the caller: a path, mostly.
    pub file: String,
    /// Line from 1; 0 means the document as a whole.
    pub line: u32,
    /// Column from 1, in characters; 0 means the line as a whole.
    pub column: u32,
    /// Stable id of the rule, kebab-case: `upstream-endpoint-url`.
    pub rule: &'static str,
    /// Where inside the document: `upstreams.weather.primary[0].url`. May be empty.
    pub path: String,
    /// What is wrong, lowercase, without a full stop. Never holds a secret.
    pub what: String,
    /// What to do; may be empty.
    pub hint: String,
}

impl fmt::Display for Problem {
    /// `only1.yaml:3:5: unknown-key: upstreams.a.primry: unknown key `primry` (did you mean `primary`?)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column.max(1))?;
        }
        write!(f, ": {}: ", self.rule)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}
