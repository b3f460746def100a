//! What nodes say of what they offer and of the processes they run, as plain values. As with `model`, names here
//! are what `--json` prints.

use crate::failover::Store;
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;

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

/// One call that a node answered of late. What was asked with it and what was answered nobody keeps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Call {
    /// When it began, by its node's clock.
    pub at: Option<Timestamp>,
    /// The node.
    pub node_id: String,
    /// The upstream.
    pub upstream: String,
    /// The MCP method.
    pub method: String,
    /// Of the tool or prompt.
    pub name: String,
    /// What came of it.
    pub outcome: CallOutcome,
    /// To the complete answer.
    pub took: Option<Duration>,
    /// Who answered; `None`: the cache, or nobody.
    pub store: Option<Store>,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// An answer.
    Ok,
    /// An answer of the cache.
    Cached,
    /// The upstream works, the call did not.
    ApplicationError,
    /// No usable answer.
    Error,
    /// None in time.
    Timeout,
    /// One that this version does not know.
    Unknown,
}

/// What one node tells of its calls, or why it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCalls {
    /// The node.
    pub node_id: String,
    /// The latest first.
    pub said: Result<CallsSeen, String>,
}

/// The calls of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallsSeen {
    /// The latest first.
    pub calls: Vec<Call>,
    /// Calls since the node began.
    pub seen: u64,
    /// Of them, those that were written down.
    pub kept: u64,
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
