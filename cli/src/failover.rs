//! What a control plane says of an upstream that has a backup, as plain values, and what follows from them alone. As
//! with `model`, names here are what `--json` prints.

use crate::model::{milliseconds, seconds};
use jiff::Timestamp;
pub use o1_proto::model::{BreakerState, DecisionReason, DecisionState, Phase, Refusal, Store, Verdict};
use serde::{Serialize, Serializer};
use std::time::Duration;

/// Which store of an upstream serves, over all nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failover {
    /// Where the control plane's decision stands.
    pub decision: Decision,
    /// What it wants; `None`: nothing was decided yet.
    #[serde(serialize_with = "store")]
    pub desired: Option<Store>,
    /// Of the last directive; 0: none.
    pub term: u64,
    /// Whether it decides by itself.
    pub mode: Mode,
    /// When `mode` ends by itself.
    pub mode_until: Option<Timestamp>,
    /// Connected nodes whose active store is the primary.
    pub nodes_on_primary: u32,
    /// Connected nodes whose active store is the backup.
    pub nodes_on_backup: u32,
    /// Connected nodes that acted by their breaker.
    pub nodes_provisional: u32,
    /// Connected nodes that did not follow the last directive yet.
    pub nodes_lagging: u32,
    /// Nodes whose view of the primary is fresh.
    pub observers: u32,
    /// Of these, the ones that see it unhealthy.
    pub observers_unhealthy: u32,
    /// Of these, the ones that see it healthy.
    pub observers_healthy: u32,
    /// What a majority of observers sees of the primary.
    #[serde(serialize_with = "verdict")]
    pub primary_verdict: Verdict,
    /// The same of the backup.
    #[serde(serialize_with = "verdict")]
    pub backup_verdict: Verdict,
    /// The worst on connected nodes.
    #[serde(serialize_with = "breaker")]
    pub primary_breaker: Option<BreakerState>,
    /// Since when the decision stands.
    pub since: Option<Timestamp>,
    /// The failover lasts until then at least.
    pub hold_until: Option<Timestamp>,
    /// Since when the primary has been healthy for a quorum.
    pub healthy_since: Option<Timestamp>,
    /// How long it must stay so before it is restored.
    #[serde(rename = "stable_seconds", serialize_with = "seconds")]
    pub stable: Option<Duration>,
    /// Of the last decision.
    #[serde(serialize_with = "reason")]
    pub last_reason: Option<DecisionReason>,
    /// What the last decision saw, for people.
    pub because: String,
    /// Entries that wait on nodes.
    pub journal_pending: u64,
    /// `endpoints` or `snapshot`.
    pub backup_kind: String,
    /// What becomes of writes while the backup serves; `None`: the control plane does not say.
    pub writes: Option<Writes>,
    /// Sums over nodes of their own accounts.
    pub stats: Stats,
    /// One for each node that was heard, sorted.
    pub nodes: Vec<Node>,
}

/// Where the control plane's decision stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// There is none yet, or one that this version does not know.
    #[default]
    Unknown,
    /// The primary serves and nobody complains.
    Healthy,
    /// Somebody complains.
    Suspect,
    /// The backup was ordered, and not every connected node is there.
    FailingOver,
    /// Every connected node is on the backup.
    FailedOver,
    /// The primary was ordered, and nodes still replay what was written meanwhile.
    SyncingBack,
    /// Neither store works.
    Blocked,
}

/// Whether the control plane decides by itself for an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It does.
    #[default]
    Auto,
    /// An operator holds it at the primary.
    PinPrimary,
    /// An operator holds it at the backup.
    PinBackup,
}

impl Mode {
    /// Where it is held.
    #[must_use]
    pub fn pinned(self) -> Option<Store> {
        match self {
            Self::Auto => None,
            Self::PinPrimary => Some(Store::Primary),
            Self::PinBackup => Some(Store::Backup),
        }
    }
}

/// What becomes of writes while the backup serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Writes {
    /// They are refused.
    Reject,
    /// Those of some tools are kept and replayed to the primary later.
    Journal,
    /// The backup gets them.
    PassThrough,
}

/// What one node says of an upstream that has a backup.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// Who.
    pub node_id: String,
    /// Whether it is there now.
    pub connected: bool,
    /// When it said so.
    pub heard_at: Option<Timestamp>,
    /// What the node's log says.
    #[serde(serialize_with = "store")]
    pub active_store: Option<Store>,
    /// What it is doing about it.
    #[serde(serialize_with = "phase")]
    pub phase: Option<Phase>,
    /// The largest term that it accepted; 0: none.
    pub term: u64,
    /// Counts what it did by itself after `term`.
    pub local_term: u64,
    /// Entries that wait to be replayed to the primary.
    pub journal_pending: u64,
    /// Entries that the primary refused for good.
    pub dead_letters: u64,
    /// Since when `active_store` is what it is.
    pub since: Option<Timestamp>,
    /// Why a directive was not followed.
    #[serde(serialize_with = "refusal")]
    pub refusal: Option<Refusal>,
    /// For people.
    pub message: String,
    /// What it sees of the primary.
    pub primary_health: Health,
    /// What it sees of the backup.
    pub backup_health: Health,
    /// Its own account.
    pub stats: Stats,
}

/// What one node sees of one store.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Health {
    /// After thresholds and live traffic.
    #[serde(serialize_with = "verdict")]
    pub verdict: Verdict,
    /// Of the store as a whole.
    #[serde(serialize_with = "breaker")]
    pub breaker: Option<BreakerState>,
    /// Probes, or calls, in a row that say so.
    pub consecutive: u32,
    /// When `verdict` became what it is.
    pub since: Option<Timestamp>,
    /// When something last confirmed or moved it.
    pub checked_at: Option<Timestamp>,
    /// Of the last good probe.
    #[serde(rename = "latency_ms", serialize_with = "milliseconds")]
    pub latency: Option<Duration>,
    /// The last failure; empty while it is healthy.
    pub error: String,
}

/// The account of failovers, running episode included. Durations are printed as seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Stats {
    /// The backup is active.
    pub failover_active: bool,
    /// How often it became so.
    pub failover_count: u64,
    /// Time on the backup.
    #[serde(serialize_with = "seconds")]
    pub total_failover_time: Option<Duration>,
    /// When the backup last became active.
    pub last_failover_time: Option<Timestamp>,
    /// When the primary last became active again.
    pub last_restoration_time: Option<Timestamp>,
    /// Snapshots written.
    pub backup_syncs_completed: u64,
    /// Snapshots that could not be written.
    pub backup_sync_failures: u64,
    /// When one last was.
    pub last_backup_sync: Option<Timestamp>,
    /// What writing them took.
    #[serde(serialize_with = "seconds")]
    pub total_backup_sync_time: Option<Duration>,
    /// Sync-backs that began.
    pub sync_back_operations: u64,
    /// Entries that the primary has because they were replayed.
    pub entries_synced_back: u64,
    /// Sync-backs that did not get to their end.
    pub sync_back_failures: u64,
    /// What they took.
    #[serde(serialize_with = "seconds")]
    pub total_sync_back_time: Option<Duration>,
    /// The active store.
    #[serde(serialize_with = "store")]
    pub active_store: Option<Store>,
    /// Of the primary; `None` on sums over nodes.
    #[serde(serialize_with = "breaker")]
    pub primary_circuit_breaker_state: Option<BreakerState>,
    /// There is a snapshot.
    pub backup_file_exists: bool,
    /// Its size.
    pub backup_file_size_bytes: u64,
    /// Writes accepted into the journal.
    pub entries_in_failover: u64,
    /// Entries that the primary refused for good.
    pub dead_letter_entries: u64,
    /// Failovers that nodes began by themselves.
    pub provisional_failovers: u64,
    /// Since when the running failover lasts.
    pub current_failover_since: Option<Timestamp>,
}

impl Failover {
    /// Whether something other than the primary answers, on any connected node, or is about to.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.nodes_on_backup + self.nodes_provisional > 0
            || matches!(self.decision, Decision::FailingOver | Decision::FailedOver | Decision::SyncingBack)
    }

    /// Whether the primary serves and nobody complains.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        !self.is_active() && !matches!(self.decision, Decision::Suspect | Decision::Blocked)
    }

    /// The active store, where connected nodes agree on one.
    #[must_use]
    pub fn active(&self) -> Option<Store> {
        match (self.nodes_on_primary, self.nodes_on_backup) {
            (0, 0) => None,
            (_, 0) => Some(Store::Primary),
            (0, _) => Some(Store::Backup),
            _ => None,
        }
    }

    /// Whether the backup is the nodes' own copy.
    #[must_use]
    pub fn is_snapshot(&self) -> bool {
        self.backup_kind == "snapshot"
    }

    /// What people call the backup: `backup`, or `snapshot`.
    #[must_use]
    pub fn backup_word(&self) -> &'static str {
        if self.is_snapshot() { "snapshot" } else { Store::Backup.word() }
    }

    /// Nodes that are there.
    pub fn connected(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.connected)
    }

    /// Since when the store that serves does so: the earliest of the nodes that are on it, or, where no node says it,
    /// since when the decision stands.
    #[must_use]
    pub fn serving_since(&self) -> Option<Timestamp> {
        let wanted = if self.nodes_on_backup > 0 { Store::Backup } else { Store::Primary };
        let nodes = self.connected().filter(|node| node.active_store == Some(wanted));
        nodes.filter_map(|node| node.since).min().or(self.since)
    }

    /// Entries that the primary refused for good, on connected nodes.
    #[must_use]
    pub fn dead_letters(&self) -> u64 {
        self.connected().map(|node| node.dead_letters).sum()
    }

    /// Connected nodes that are not on `store` yet, or are on their way.
    pub fn not_on(&self, store: Store) -> impl Iterator<Item = &Node> {
        let there = match store {
            Store::Primary => Phase::Primary,
            Store::Backup => Phase::Backup,
        };
        self.connected().filter(move |node| node.active_store != Some(store) || node.phase != Some(there))
    }
}

/// Declares how words of the model are printed.
macro_rules! words {
    ($($name:ident: $model:ty,)*) => {$(
        pub(crate) fn $name<S: Serializer>(value: &Option<$model>, to: S) -> Result<S::Ok, S::Error> {
            value.map(<$model>::word).serialize(to)
        }
    )*};
}

words! {
    store: Store,
    phase: Phase,
    breaker: BreakerState,
    reason: DecisionReason,
    decisions: DecisionState,
}

fn verdict<S: Serializer>(value: &Verdict, to: S) -> Result<S::Ok, S::Error> {
    value.word().serialize(to)
}

fn refusal<S: Serializer>(value: &Option<Refusal>, to: S) -> Result<S::Ok, S::Error> {
    let word = value.map(|refusal| match refusal {
        Refusal::StaleTerm => "stale_term",
        Refusal::UnknownUpstream => "unknown_upstream",
        Refusal::NoBackup => "no_backup",
        Refusal::BackupUnusable => "backup_unusable",
        Refusal::TermConflict => "term_conflict",
        Refusal::DeadLetters => "dead_letters",
        Refusal::NotDurable => "not_durable",
    });
    word.serialize(to)
}
