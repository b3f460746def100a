//! What a control plane says, as plain values. `client` fills them in, `output` shows them.
//!
//! Their serialised form is what `--json` prints, so a name here is a promise to scripts: names are added, not
//! changed. Every figure is measured or `None`.

use crate::{
    configs::RolloutSummary,
    counts::{Batches, Endpoint, NodeEndpoint, Tier},
    failover::{DecisionState, Failover, decisions},
};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use std::{collections::BTreeMap, time::Duration};

/// The fleet at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// When the picture was taken, by the clock of the control plane.
    pub as_of: Option<Timestamp>,
    /// Who took it.
    pub control_plane: ControlPlane,
    /// How many nodes are in which state.
    pub nodes: NodeCounts,
    /// Sorted by name.
    pub upstreams: Vec<Upstream>,
}

/// The control plane itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct ControlPlane {
    /// Of its build.
    pub version: String,
    /// When its process started.
    pub started_at: Option<Timestamp>,
    /// Where it serves gRPC, as bound.
    pub listen: String,
    /// What nodes should run; `None`: no valid configuration yet.
    pub target: Option<ConfigVersion>,
    /// When `target` was accepted.
    pub target_accepted_at: Option<Timestamp>,
    /// How it reaches the nodes; `None`: every node that comes gets it.
    pub rollout: Option<RolloutSummary>,
    /// The file behind it.
    pub source: Option<ConfigSource>,
    /// Whether it decides about failovers; `None`: it does not say.
    #[serde(serialize_with = "decisions")]
    pub decisions: Option<DecisionState>,
    /// Why it does not at present; empty: it does.
    pub decisions_because: String,
}

/// The name of an accepted configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct ConfigVersion {
    /// Grows when the control plane's store is replaced.
    pub generation: u64,
    /// Grows with each accepted change.
    pub revision: u64,
    /// Hexadecimal.
    pub digest: String,
}

/// The configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct ConfigSource {
    /// Where it is, on the machine of the control plane; empty: there is none, `o1ctl config apply` says what runs.
    pub path: String,
    /// When its content was last looked at.
    pub checked_at: Option<Timestamp>,
    /// True: the newest content is not what runs.
    pub refused: bool,
    /// Since when.
    pub refused_at: Option<Timestamp>,
    /// Why.
    pub problems: Vec<Problem>,
}

/// One thing wrong with a configuration document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Problem {
    /// The document's name.
    pub file: String,
    /// From 1; 0: the whole file.
    pub line: u32,
    /// From 1; 0: the whole line.
    pub column: u32,
    /// Stable id of the rule.
    pub rule: String,
    /// Inside the document; may be empty.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to do; may be empty.
    pub hint: String,
}

/// How many nodes are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct NodeCounts {
    /// With a live stream, draining ones included.
    pub connected: u32,
    /// Not heard in time.
    pub unreachable: u32,
    /// Of the connected ones: run the target.
    pub synced: u32,
    /// Were sent the target a moment ago.
    pub pending: u32,
    /// Run something else although they had time.
    pub stale: u32,
    /// Refused the target.
    pub rejected: u32,
    /// Of the connected ones: finish their calls and leave.
    pub draining: u32,
}

/// One logical MCP server as the fleet sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Upstream {
    /// From the configuration.
    pub name: String,
    /// What nodes agree on.
    pub state: UpstreamState,
    /// Connected nodes that reach it.
    pub nodes_reachable: u32,
    /// Connected nodes that do not.
    pub nodes_unreachable: u32,
    /// Connected nodes that have not tried.
    pub nodes_unknown: u32,
    /// Since when `state` is what it is.
    pub since: Option<Timestamp>,
    /// What the nodes say that do not reach it.
    pub errors: Vec<String>,
    /// Since the control plane started.
    pub totals: Option<Totals>,
    /// Over the last few reports.
    pub rates: Option<Rates>,
    /// Was seen to speak revisions up to 2025-11-25.
    pub legacy: bool,
    /// Was seen to speak revision 2026-07-28.
    pub modern: bool,
    /// Tools in its last complete list.
    pub tools: Option<u32>,
    /// What the primary store consists of, in words.
    pub primary: String,
    /// The same of the backup store; `None`: it has none.
    pub backup: Option<String>,
    /// What the cache did for it, by tier; empty: the control plane does not say.
    pub cache: Vec<Tier>,
    /// What connected nodes send to, sorted.
    pub endpoints: Vec<Endpoint>,
    /// What was sent for many callers at once.
    pub batches: Option<Batches>,
    /// Which store serves; `None`: it has no backup, or the control plane does not say.
    pub failover: Option<Failover>,
}

/// What connected nodes agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamState {
    /// No node has tried it yet.
    Unknown,
    /// Every node that tried reaches it.
    Healthy,
    /// Some do, some do not.
    Degraded,
    /// None does.
    Unreachable,
}

/// Sums over all nodes since the control plane started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct Totals {
    /// Sent to the upstream.
    pub requests: u64,
    /// Without a usable answer.
    pub errors: u64,
    /// Of these, out of time.
    pub timeouts: u64,
    /// Answers that were JSON-RPC errors or failed tool calls.
    pub application_errors: u64,
    /// In flight when last sampled.
    pub active_requests: u64,
    /// From the upstream.
    pub bytes_in: u64,
    /// To the upstream.
    pub bytes_out: u64,
}

/// Measured over a window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Default)]
pub struct Rates {
    /// Its length.
    #[serde(rename = "window_seconds", serialize_with = "seconds")]
    pub window: Option<Duration>,
    /// Answered or failed.
    pub requests_per_second: f64,
    /// From 0 to 1; `None`: no requests.
    pub error_ratio: Option<f64>,
    /// Half of the answers were faster.
    #[serde(rename = "p50_ms", serialize_with = "milliseconds")]
    pub p50: Option<Duration>,
    /// 99 % of the answers were faster.
    #[serde(rename = "p99_ms", serialize_with = "milliseconds")]
    pub p99: Option<Duration>,
    /// From 0 to 1 of the look-ups in the cache that an entry answered; `None`: none were made.
    pub hit_ratio: Option<f64>,
}

/// One data-plane process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// What people call it.
    pub node_id: String,
    /// Minted at its first boot, hexadecimal.
    pub node_uid: String,
    /// Counts its boots.
    pub epoch: u64,
    /// From its flags.
    pub labels: BTreeMap<String, String>,
    /// Of its build.
    pub version: String,
    /// By its own clock.
    pub started_at: Option<Timestamp>,
    /// Where clients reach it.
    pub listen: String,
    /// Where its admin HTTP answers.
    pub admin: String,
    /// Whether it is there.
    pub state: NodeState,
    /// Whether it runs what it should.
    pub sync: SyncState,
    /// What it runs.
    pub applied: Option<ConfigVersion>,
    /// What it refused.
    pub rejected: Option<ConfigVersion>,
    /// Why.
    pub rejections: Vec<Rejection>,
    /// Start of its stream.
    pub connected_at: Option<Timestamp>,
    /// Its last heartbeat.
    pub last_heard: Option<Timestamp>,
    /// Its clock minus that of the control plane.
    pub clock_skew_ms: Option<i64>,
    /// Open legacy sessions.
    pub sessions: Option<u64>,
    /// Resident memory.
    pub resident_bytes: Option<u64>,
    /// How long its last change of configuration took.
    #[serde(rename = "last_apply_ms", serialize_with = "milliseconds")]
    pub last_apply: Option<Duration>,
    /// The order to drain that stands; `None`: none does.
    pub drain: Option<DrainOrder>,
    /// Its own view of each upstream.
    pub upstreams: Vec<NodeUpstream>,
}

/// An order that a node takes no new sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrainOrder {
    /// Since when.
    pub since: Option<Timestamp>,
    /// What the operator said.
    pub reason: String,
}

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Said something this program does not know.
    Unknown,
    /// With a live stream.
    Connected,
    /// Not heard in time.
    Unreachable,
    /// Finishes its calls and leaves.
    Draining,
    /// Said goodbye.
    Left,
    /// Two live processes claim its identity.
    DuplicateIdentity,
}

/// Whether a node runs what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// Said something this program does not know.
    Unknown,
    /// Runs the target.
    Synced,
    /// Was sent the target a moment ago.
    Pending,
    /// Runs something else although it had time.
    Stale,
    /// Refused the target.
    Rejected,
    /// Never ran anything.
    Never,
}

/// One reason why a node refused a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// `upstream weather`; empty: the configuration as a whole.
    pub resource: String,
    /// A word from a closed set: `local_dependency`.
    pub reason: String,
    /// Inside the resource; may be empty.
    pub field: String,
    /// For people.
    pub message: String,
}

/// What one node sees of one upstream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeUpstream {
    /// Its name.
    pub upstream: String,
    /// Whether the node's last attempt was answered; `None`: nothing was tried.
    pub reachable: Option<bool>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Why it is not reachable; empty otherwise.
    pub last_error: String,
    /// Since the boot of the node, as all counters here.
    #[serde(flatten)]
    pub totals: Totals,
    /// What the cache did for it, by tier; empty: the node does not say.
    pub cache: Vec<Tier>,
    /// What the node sends to, sorted.
    pub endpoints: Vec<NodeEndpoint>,
    /// What was sent for many callers at once.
    pub batches: Option<Batches>,
}

pub(crate) fn milliseconds<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    span.map(|span| span.as_secs_f64() * 1e3).serialize(to)
}

pub(crate) fn seconds<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    span.map(|span| span.as_secs_f64()).serialize(to)
}
