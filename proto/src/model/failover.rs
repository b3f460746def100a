//! When an endpoint counts as dead, and what happens when the primary does.

use super::shown;
use serde::Serialize;
use std::time::Duration;

/// Active probes of the endpoints of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Between two probes.
    #[serde(serialize_with = "shown::duration")]
    pub every: Duration,
    /// How long one may take; shorter than `every`.
    #[serde(serialize_with = "shown::duration")]
    pub timeout: Duration,
    /// Good ones in a row until an endpoint counts as healthy, at least 1.
    pub healthy: u32,
    /// Bad ones until it counts as unhealthy, at least 1.
    pub unhealthy: u32,
    /// Probe URLs with `GET` on this path, expecting 2xx; `None`: ask in MCP.
    pub path: Option<String>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            healthy: 2,
            unhealthy: 3,
            path: None,
        }
    }
}

/// The circuit breaker of each endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Breaker {
    /// Failures in a row that open it, at least 1.
    pub failures: u32,
    /// How long it stays open the first time before one call may try; each further time twice as long.
    #[serde(serialize_with = "shown::duration")]
    pub open: Duration,
    /// The longest that it stays open.
    #[serde(serialize_with = "shown::duration")]
    pub open_max: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, open: Duration::from_secs(5), open_max: Duration::from_secs(60) }
    }
}

/// What happens when the primary fails. Of an upstream without a backup it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failover {
    /// What becomes of writes while the backup is active.
    pub writes: Writes,
    /// Tools that only read: the backup answers them whatever `writes` says. By the upstream's own name; `*` stands
    /// for any characters.
    pub read_tools: Vec<String>,
    /// What a node may do before the control plane decides.
    pub fast_path: FastPath,
    /// The shortest stay on the backup.
    #[serde(serialize_with = "shown::duration")]
    pub min_hold: Duration,
    /// How long the primary must be healthy before it is restored.
    #[serde(serialize_with = "shown::duration")]
    pub stable: Duration,
    /// How long a node waits for a control plane that is away before it acts alone.
    #[serde(serialize_with = "shown::duration")]
    pub autonomy_after: Duration,
    /// How long calls in flight may take to end before the backup takes over.
    #[serde(serialize_with = "shown::duration")]
    pub drain: Duration,
    /// How often the snapshot is written while the primary is active.
    #[serde(serialize_with = "shown::duration")]
    pub snapshot_every: Duration,
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            writes: Writes::default(),
            read_tools: Vec::new(),
            fast_path: FastPath::default(),
            min_hold: Duration::from_secs(60),
            stable: Duration::from_secs(30),
            autonomy_after: Duration::from_secs(15),
            drain: Duration::from_secs(2),
            snapshot_every: Duration::from_secs(60),
        }
    }
}

/// What becomes of writes while the backup is active.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Writes {
    /// They are refused.
    #[default]
    Reject,
    /// Calls of these tools are kept on the node's disk and replayed to the primary later; others are refused. By the
    /// upstream's own name; `*` stands for any characters.
    Journal(Vec<String>),
    /// The backup is a true peer and gets them.
    PassThrough,
}

/// What a node may do by its breaker before the control plane decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FastPath {
    /// Nothing: calls fail fast.
    None,
    /// Reads are answered by the backup.
    #[default]
    Reads,
    /// The backup becomes the active store at once.
    Full,
}

/// When results say which store they came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailoverMetadata {
    /// Each result of a tool of an upstream that has a backup.
    Always,
    /// While something other than the primary answers.
    #[default]
    DuringFailover,
    /// Never.
    Never,
}
