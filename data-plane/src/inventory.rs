//! What a node offers and what it hides, for people: plain facts that the router writes down and the control
//! path carries away.

use std::time::SystemTime;

/// Everything a route offers or could offer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// In the order in which clients see them; hidden ones stand where they would be.
    pub tools: Vec<Tool>,
    /// Upstreams of the route, in its order.
    pub upstreams: Vec<Source>,
}

/// One tool of one upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// What clients call it on the route; what they would, if it is hidden.
    pub name: String,
    /// Whose it is.
    pub upstream: String,
    /// What its upstream calls it.
    pub own_name: String,
    /// The first line of its description; empty for none.
    pub description: String,
    /// Its name was too long for clients and is shortened.
    pub shortened: bool,
    /// Whether clients see it.
    pub state: State,
}

/// Whether a tool is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Listed, and calls are answered.
    Served,
    /// Listed although its upstream does not answer: a call says so.
    Unreachable {
        /// Since when, if that is known.
        since: Option<SystemTime>,
    },
    /// Neither listed nor callable: the server's `tools` do not allow it.
    NotAllowed,
    /// Neither listed nor callable: this pattern of the server's `tools.deny` denies it.
    Denied {
        /// As configured.
        pattern: String,
    },
    /// Neither listed nor callable: the caller in question may not use it.
    Forbidden,
    /// Another tool has the same name and stands before it.
    Clash {
        /// Whose the other is.
        upstream: String,
    },
    /// Its upstream does not answer, and `unreachable_tools: hide` takes its tools out.
    Hidden {
        /// Since when, if that is known.
        since: Option<SystemTime>,
    },
}

/// One upstream of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// What stands before its names; empty for none.
    pub prefix: String,
    /// When its lists were last fetched; `None`: never.
    pub listed: Option<SystemTime>,
    /// Why they could not be fetched the last time; empty: they could.
    pub error: String,
}
