//! What happened, as plain values. As with `model`, names here are what `--json` prints.

use crate::{
    failover::{BreakerState, Phase, Store, breaker, phase, store},
    model::seconds,
};
use jiff::Timestamp;
pub use o1_proto::model::EventKind;
use serde::{Serialize, Serializer};
use std::time::Duration;

/// Something that happened on a node, or a decision of the control plane.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Grows by one with each event of the fleet that is stored.
    pub position: u64,
    /// By the clock of who saw it.
    pub at: Option<Timestamp>,
    /// Empty: of the control plane.
    pub node_id: String,
    /// Of the node, hexadecimal.
    pub node_uid: String,
    /// Counts the boots of the node.
    pub epoch: u64,
    /// From 1, without gaps within an epoch.
    pub seq: u64,
    /// Since the process of the node began.
    #[serde(rename = "uptime_seconds", serialize_with = "seconds")]
    pub uptime: Option<Duration>,
    /// What happened.
    #[serde(rename = "type", serialize_with = "kind")]
    pub kind: EventKind,
    /// Empty: of the node itself.
    pub upstream: String,
    /// Of the directive behind it; 0: none.
    pub term: u64,
    /// Counts what the node did by itself after `term`.
    pub local_term: u64,
    /// From which phase.
    #[serde(serialize_with = "phase")]
    pub phase_from: Option<Phase>,
    /// To which phase.
    #[serde(serialize_with = "phase")]
    pub phase_to: Option<Phase>,
    /// Of the decision behind it; empty: none.
    pub decision_id: String,
    /// For people.
    pub reason: String,
    /// What it took.
    #[serde(rename = "duration_seconds", serialize_with = "seconds")]
    pub duration: Option<Duration>,
    /// Entries replayed or waiting, or client sessions told.
    pub entries: u64,
    /// Of the snapshot file.
    pub bytes: u64,
    /// The active store afterwards.
    #[serde(serialize_with = "store")]
    pub active_store: Option<Store>,
    /// Of the primary, afterwards.
    #[serde(serialize_with = "breaker")]
    pub breaker: Option<BreakerState>,
    /// When the control plane had it on its disk.
    pub stored_at: Option<Timestamp>,
}

/// Which events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Empty: of every upstream.
    pub upstream: String,
    /// Empty: of every node.
    pub node_id: String,
    /// Empty: of every kind.
    pub kinds: Vec<EventKind>,
    /// Not older.
    pub since: Option<Timestamp>,
}

/// What there is at all, by position; 0: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// The oldest that is kept.
    pub oldest: u64,
    /// The newest.
    pub newest: u64,
}

fn kind<S: Serializer>(kind: &EventKind, to: S) -> Result<S::Ok, S::Error> {
    kind.word().serialize(to)
}
