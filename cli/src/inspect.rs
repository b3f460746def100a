//! What nodes say of what they offer and of the processes they run, as plain values. As with `model`, names here
//! are what `--json` prints.

use jiff::Timestamp;
use serde::Serialize;

/// What one node offers on one route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Offer {
    /// Who says so.
    pub node_id: String,
    /// In the order in which clients see them; hidden ones stand where they would be.
    pub tools: Vec<Tool>,
    /// In the order of the route.
    pub upstreams: Vec<Source>,
}

/// One tool of one upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tool {
    /// What clients call it; what they would, if it is hidden.
    pub name: String,
    /// Whose it is.
    pub upstream: String,
    /// What its upstream calls it.
    pub own_name: String,
    /// The first line.
    pub description: String,
    /// Its name was too long for clients.
    pub shortened: bool,
    /// Whether clients see it.
    pub state: ToolState,
    /// The pattern that denies it.
    pub pattern: Option<String>,
    /// Whose the other tool of this name is.
    pub other: Option<String>,
    /// Since when its upstream does not answer.
    pub since: Option<Timestamp>,
}

/// Whether clients see a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolState {
    /// Listed, and calls are answered.
    Served,
    /// Listed although its upstream does not answer.
    Unreachable,
    /// The server's patterns do not allow it.
    NotAllowed,
    /// A pattern of the server denies it.
    Denied,
    /// Another tool has the same name.
    Clash,
    /// Taken out while its upstream does not answer.
    Hidden,
    /// This principal may not use it.
    Forbidden,
    /// A state that this version does not know.
    Unknown,
}

impl ToolState {
    /// Whether clients see it in the list.
    #[must_use]
    pub fn is_listed(self) -> bool {
        matches!(self, Self::Served | Self::Unreachable)
    }
}

/// One upstream of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// What stands before its names.
    pub prefix: String,
    /// When its lists were last fetched; `None`: never.
    pub listed: Option<Timestamp>,
    /// Why they could not be fetched the last time.
    pub error: Option<String>,
}

/// One line that a process wrote to stderr.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// When its node read it.
    pub at: Option<Timestamp>,
    /// The node.
    pub node_id: String,
    /// The process.
    pub pid: u32,
    /// Without its end.
    pub text: String,
}

/// Some of what one node has to say of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPart {
    /// The node.
    pub node_id: String,
    /// What it says.
    pub said: Said,
}

/// What a node has to say of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// These lines; so many before them are lost.
    Lines(Vec<LogLine>, u64),
    /// The upstream has no process, and so no log here.
    NoProcess,
    /// It knows no such upstream.
    NotFound(String),
    /// It can say nothing more.
    Failed(String),
}
