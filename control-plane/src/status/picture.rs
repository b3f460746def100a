//! The shape of the picture. Written as JSON by the admin port, as protobuf by the API.

use super::time::{rfc3339, rfc3339_opt, seconds_opt};
use crate::{
    config::Version,
    fleet::{Drain, Identity, NodeState, Rejection, RolloutState, SyncState},
    health::FailoverStatus,
    stats::{BatchCounters, CacheCounters, Counters, EndpointCounters, Rates, Sample},
};
use o1_proto::{
    model::{DecisionReason, DecisionState, Store, Tier},
    problem::Problem,
};
use serde::{Serialize, Serializer, ser::SerializeSeq as _};
use std::time::{Duration, SystemTime};

/// The whole fleet at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct FleetStatus {
    /// When this picture was taken.
    #[serde(serialize_with = "rfc3339")]
    pub as_of: SystemTime,
    /// This process.
    pub control_plane: ControlPlane,
    /// How many nodes are how.
    pub nodes: NodeCounts,
    /// By name.
    pub upstreams: Vec<UpstreamStatus>,
}

/// This process.
#[derive(Debug, Clone, Serialize)]
pub struct ControlPlane {
    /// Its build.
    pub version: &'static str,
    /// When it started.
    #[serde(serialize_with = "rfc3339")]
    pub started_at: SystemTime,
    /// Where it serves gRPC, as bound.
    pub listen: String,
    /// What nodes should run; `None`: nothing was ever accepted.
    pub target: Option<ConfigTarget>,
    /// How it reaches the nodes; `None`: every node that comes gets it.
    pub rollout: Option<RolloutSummary>,
    /// The file that the configuration comes from.
    pub source: Source,
    /// Whether failovers are decided on.
    #[serde(serialize_with = "decision_state")]
    pub decisions: DecisionState,
    /// Why not; empty: they are.
    pub decisions_because: String,
}

/// What nodes should run.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigTarget {
    /// Its name.
    #[serde(flatten)]
    pub version: Version,
    /// When it was stored.
    #[serde(serialize_with = "rfc3339")]
    pub accepted_at: SystemTime,
}

/// How what nodes should run reaches them, or what became of what was taken back just before.
#[derive(Debug, Clone, Serialize)]
pub struct RolloutSummary {
    /// Whether it goes on.
    pub state: RolloutState,
    /// Of which revision.
    pub revision: u64,
    /// The present wave, from 1.
    pub wave: u32,
    /// Of so many.
    pub waves: u32,
    /// Nodes that run it, or are back on what was before.
    pub applied: u32,
    /// Nodes that are there or were.
    pub nodes: u32,
    /// Why it was stopped; empty: it was not.
    pub because: String,
}

/// The file that the configuration comes from.
#[derive(Debug, Clone, Serialize)]
pub struct Source {
    /// As given; empty: there is no file, and the API says what runs.
    pub path: String,
    /// When it was last looked at.
    #[serde(serialize_with = "rfc3339_opt")]
    pub checked_at: Option<SystemTime>,
    /// Its newest content is not what runs.
    pub refused: bool,
    /// Why not.
    #[serde(serialize_with = "problems")]
    pub problems: Vec<Problem>,
    /// Since when.
    #[serde(serialize_with = "rfc3339_opt")]
    pub refused_at: Option<SystemTime>,
}

/// How many nodes are how. The sync states are those of connected nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct NodeCounts {
    /// There, draining ones included.
    pub connected: u32,
    /// Silent for longer than their lease.
    pub unreachable: u32,
    /// Run the target.
    pub synced: u32,
    /// Are being sent it.
    pub pending: u32,
    /// Run something else although they had time.
    pub stale: u32,
    /// Refused it.
    pub rejected: u32,
    /// Never ran anything.
    pub never: u32,
    /// Accept no new clients.
    pub draining: u32,
}

/// One upstream over all nodes.
#[derive(Debug, Clone, Serialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// What the nodes make of it together.
    pub state: UpstreamState,
    /// Connected nodes that reach it.
    pub nodes_reachable: u32,
    /// Connected nodes that do not.
    pub nodes_unreachable: u32,
    /// Connected nodes that have not tried.
    pub nodes_unknown: u32,
    /// Since when the state is what it is.
    #[serde(serialize_with = "rfc3339_opt")]
    pub since: Option<SystemTime>,
    /// What nodes say that do not reach it, without repetition.
    pub errors: Vec<String>,
    /// Everything that was counted.
    pub totals: Counters,
    /// In flight on connected nodes.
    pub active_requests: u64,
    /// What happened lately; `None`: no node has reported twice lately.
    pub rates: Option<RatesView>,
    /// Seen to speak a revision with sessions.
    pub legacy: bool,
    /// Seen to speak the revision without.
    pub modern: bool,
    /// In its last complete list, as the node with most of them has it.
    pub tools: Option<u32>,
    /// What the primary store consists of.
    pub primary: String,
    /// What the backup store consists of; empty: there is none.
    pub backup: String,
    /// What the cache did, one for each tier.
    pub cache: Vec<TierStatus>,
    /// What connected nodes send to, by label.
    pub endpoints: Vec<EndpointStatus>,
    /// What was sent for many callers at once.
    pub batches: BatchCounters,
    /// Which store serves; `None`: it has no backup.
    #[serde(serialize_with = "failover")]
    pub failover: Option<FailoverStatus>,
}

/// One tier of the cache for one upstream over all nodes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct TierStatus {
    /// Which.
    #[serde(serialize_with = "word")]
    pub tier: Tier,
    /// Everything that was counted.
    #[serde(flatten)]
    pub counters: CacheCounters,
    /// On connected nodes.
    pub entries: u64,
    /// On connected nodes.
    pub bytes: u64,
}

/// One endpoint of an upstream over all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointStatus {
    /// Its label.
    pub endpoint: String,
    /// Everything that was counted.
    #[serde(flatten)]
    pub counters: EndpointCounters,
    /// On connected nodes.
    pub in_flight: u64,
    /// For a place, on connected nodes.
    pub waiting: u64,
    /// Connected nodes that have it.
    pub nodes: u32,
    /// Of these, the ones that leave it out.
    pub nodes_ejecting: u32,
}

/// What the nodes make of an upstream together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamState {
    /// No connected node has tried it yet.
    Unknown,
    /// Every connected node that tried reaches it.
    Healthy,
    /// Some do, some do not.
    Degraded,
    /// None does.
    Unreachable,
}

/// [`Rates`] as JSON has them.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(transparent)]
pub struct RatesView {
    /// The rates.
    #[serde(serialize_with = "rates")]
    pub rates: Rates,
}

/// One node.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Who it is.
    #[serde(serialize_with = "identity")]
    pub node: Identity,
    /// Whether it is there.
    pub state: NodeState,
    /// Whether it runs the target.
    pub sync: SyncState,
    /// What it says it runs.
    pub applied: Option<Version>,
    /// What it refused last.
    pub rejected: Option<Version>,
    /// Why; empty unless it refuses the target.
    pub rejections: Vec<Rejection>,
    /// When its present or last stream began.
    #[serde(serialize_with = "rfc3339_opt")]
    pub connected_at: Option<SystemTime>,
    /// When it last said anything.
    #[serde(serialize_with = "rfc3339_opt")]
    pub last_heard: Option<SystemTime>,
    /// Its clock minus ours, nanoseconds.
    pub clock_skew_nanos: Option<i64>,
    /// How long its last update took.
    #[serde(rename = "last_apply_seconds", serialize_with = "seconds_opt")]
    pub last_apply_time: Option<Duration>,
    /// Open client sessions.
    pub sessions: Option<u64>,
    /// Resident memory, bytes.
    pub resident_bytes: Option<u64>,
    /// The order to drain that stands.
    pub drain: Option<Drain>,
    /// What it last reported, by name.
    #[serde(serialize_with = "samples")]
    pub upstreams: Vec<Sample>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it like this")]
fn word<S: Serializer>(tier: &Tier, serializer: S) -> Result<S::Ok, S::Error> {
    tier.word().serialize(serializer)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it like this")]
fn decision_state<S: Serializer>(state: &DecisionState, serializer: S) -> Result<S::Ok, S::Error> {
    state.word().serialize(serializer)
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(crate) fn failover<S: Serializer>(
    status: &Option<FailoverStatus>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        decision: &'static str,
        desired: Option<&'static str>,
        term: u64,
        mode: &'static str,
        #[serde(serialize_with = "rfc3339_opt")]
        mode_until: Option<SystemTime>,
        primary: &'static str,
        backup: &'static str,
        backup_kind: &'static str,
        primary_breaker: &'static str,
        nodes_on_primary: u32,
        nodes_on_backup: u32,
        nodes_provisional: u32,
        nodes_lagging: u32,
        observers: u32,
        observers_unhealthy: u32,
        observers_healthy: u32,
        #[serde(serialize_with = "rfc3339_opt")]
        since: Option<SystemTime>,
        #[serde(serialize_with = "rfc3339_opt")]
        hold_until: Option<SystemTime>,
        #[serde(serialize_with = "rfc3339_opt")]
        healthy_since: Option<SystemTime>,
        last_reason: Option<&'static str>,
        because: &'a str,
        journal_pending: u64,
    }
    let row = status.as_ref().map(|one| Row {
        decision: one.decision.word(),
        desired: one.desired.map(Store::word),
        term: one.term,
        mode: one.mode.word(),
        mode_until: one.mode_until,
        primary: one.primary.word(),
        backup: one.backup.word(),
        backup_kind: one.backup_kind,
        primary_breaker: one.primary_breaker.word(),
        nodes_on_primary: one.nodes_on_primary,
        nodes_on_backup: one.nodes_on_backup,
        nodes_provisional: one.nodes_provisional,
        nodes_lagging: one.nodes_lagging,
        observers: one.observers,
        observers_unhealthy: one.observers_unhealthy,
        observers_healthy: one.observers_healthy,
        since: one.since,
        hold_until: one.hold_until,
        healthy_since: one.healthy_since,
        last_reason: one.last_reason.map(DecisionReason::word),
        because: &one.because,
        journal_pending: one.journal_pending,
    });
    row.serialize(serializer)
}

fn problems<S: Serializer>(problems: &[Problem], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        file: &'a str,
        line: u32,
        column: u32,
        rule: &'static str,
        path: &'a str,
        what: &'a str,
        hint: &'a str,
    }
    let mut rows = serializer.serialize_seq(Some(problems.len()))?;
    for Problem { file, line, column, rule, path, what, hint } in problems {
        rows.serialize_element(&Row { file, line: *line, column: *column, rule, path, what, hint })?;
    }
    rows.end()
}

fn rates<S: Serializer>(rates: &Rates, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Row {
        window_seconds: f64,
        requests_per_second: f64,
        error_ratio: Option<f64>,
        #[serde(serialize_with = "seconds_opt")]
        p50_seconds: Option<Duration>,
        #[serde(serialize_with = "seconds_opt")]
        p99_seconds: Option<Duration>,
        hit_ratio: Option<f64>,
    }
    let Rates { window, requests_per_second, error_ratio, p50, p99, hit_ratio } = *rates;
    let window_seconds = window.as_secs_f64();
    let (p50_seconds, p99_seconds) = (p50, p99);
    Row { window_seconds, requests_per_second, error_ratio, p50_seconds, p99_seconds, hit_ratio }
        .serialize(serializer)
}

fn identity<S: Serializer>(identity: &Identity, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        node_id: &'a str,
        node_uid: crate::fleet::NodeUid,
        epoch: u64,
        labels: &'a std::collections::BTreeMap<String, String>,
        build_version: &'a str,
        #[serde(serialize_with = "rfc3339_opt")]
        started_at: Option<SystemTime>,
        listen: &'a str,
        admin: &'a str,
    }
    let Identity { node_id, uid, epoch, labels, build_version, started_at, listen, admin } = identity;
    let (node_uid, epoch, started_at) = (*uid, *epoch, *started_at);
    Row { node_id, node_uid, epoch, labels, build_version, started_at, listen, admin }.serialize(serializer)
}

fn samples<S: Serializer>(samples: &[Sample], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        upstream: &'a str,
        #[serde(flatten)]
        counters: Counters,
        active_requests: u64,
        reachability: crate::stats::Reachability,
        #[serde(serialize_with = "rfc3339_opt")]
        since: Option<SystemTime>,
        last_error: &'a str,
        legacy: bool,
        modern: bool,
        tools: Option<u32>,
    }
    let mut rows = serializer.serialize_seq(Some(samples.len()))?;
    for sample in samples {
        let Sample { upstream, last_error, reachability, .. } = sample;
        rows.serialize_element(&Row {
            upstream,
            counters: sample.counters,
            active_requests: sample.active_requests,
            reachability: *reachability,
            since: sample.since,
            last_error,
            legacy: sample.legacy,
            modern: sample.modern,
            tools: sample.tools,
        })?;
    }
    rows.end()
}
