//! Virtual servers.

use serde::Serialize;
use std::collections::BTreeMap;

/// A named selection of upstreams and of what they offer, at `/mcp/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Server {
    /// Spelled as an upstream's name.
    pub name: String,
    /// Names of upstreams, at least one, in the order in which their items are listed.
    pub upstreams: Vec<String>,
    /// Which tools it offers, by own name or `<upstream>__<own name>`.
    pub tools: Selection,
    /// Which prompts it offers, by the same names.
    pub prompts: Selection,
    /// Which resources it offers, by URI.
    pub resources: Selection,
    /// Own name or `<upstream>__<own name>` of a tool → what it is called here, without a prefix.
    pub rename: BTreeMap<String, String>,
    /// Own name or `<upstream>__<own name>` of a tool → its description here.
    pub describe: BTreeMap<String, String>,
}

/// Patterns in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Selection {
    /// Offered.
    pub allow: Vec<String>,
    /// Not offered, even when allowed.
    pub deny: Vec<String>,
}

impl Default for Selection {
    fn default() -> Self {
        Self { allow: vec!["*".to_owned()], deny: Vec::new() }
    }
}
