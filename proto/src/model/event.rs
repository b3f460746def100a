//! What happens to an upstream that has a backup: the stores, and the events that tell of them.

use super::FailoverStats;
use std::time::{Duration, SystemTime};

/// One side of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Store {
    /// Where calls go unless something is wrong.
    #[default]
    Primary,
    /// Where they go then.
    Backup,
}

impl Store {
    /// As people read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Primary => Self::Backup,
            Self::Backup => Self::Primary,
        }
    }
}

/// Where a node stands with an upstream that has a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Phase {
    /// The primary serves.
    #[default]
    Primary,
    /// Reads go to the backup, by the node's own breaker; the primary is still the active store.
    Provisional,
    /// No new calls go to the primary; those in flight end.
    DrainingPrimary,
    /// The backup serves.
    Backup,
    /// The backup serves; what was written meanwhile is being replayed to the primary.
    SyncingBack,
    /// Writes wait while the last entries are replayed.
    Cutover,
}

impl Phase {
    /// As people and programs read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Provisional => "provisional",
            Self::DrainingPrimary => "draining_primary",
            Self::Backup => "backup",
            Self::SyncingBack => "syncing_back",
            Self::Cutover => "cutover",
        }
    }
}

/// The circuit breaker of an endpoint, or of a store: then open when it is for each of its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum BreakerState {
    /// Calls go through.
    #[default]
    Closed,
    /// One call may try.
    HalfOpen,
    /// Calls fail fast.
    Open,
}

impl BreakerState {
    /// As people and programs read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

/// What is known of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Verdict {
    /// Nothing: nothing was probed yet, or a probe would have started a process.
    #[default]
    Unknown,
    /// It works.
    Healthy,
    /// It does not.
    Unhealthy,
}

impl Verdict {
    /// As people and programs read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What a node sees of one store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreHealth {
    /// After thresholds and live traffic.
    pub verdict: Verdict,
    /// Of the store as a whole.
    pub breaker: BreakerState,
    /// Probes, or calls, in a row that say so.
    pub consecutive: u32,
    /// When `verdict` became what it is; `None`: nothing is known yet.
    pub since: Option<SystemTime>,
    /// When something last confirmed or moved it.
    pub checked_at: Option<SystemTime>,
    /// Of the last good probe.
    pub latency: Option<Duration>,
    /// The last failure; empty while it is healthy. Holds no secrets.
    pub error: String,
}

/// What a node says of an upstream that has a backup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailoverState {
    /// What the node's log says.
    pub active: Store,
    /// What the node is doing about it.
    pub phase: Phase,
    /// The largest term that the node accepted; 0: none.
    pub term: u64,
    /// Counts what the node did by itself after `term`.
    pub local_term: u64,
    /// Entries that wait to be replayed to the primary.
    pub journal_pending: u64,
    /// Entries that the primary refused for good.
    pub dead_letters: u64,
    /// Since when `active` is what it is; `None`: it never was anything else.
    pub since: Option<SystemTime>,
    /// Why a directive was not followed.
    pub refusal: Option<Refusal>,
    /// For people.
    pub message: String,
    /// What the node sees of the primary.
    pub primary: StoreHealth,
    /// What it sees of the backup.
    pub backup: StoreHealth,
    /// The node's own account.
    pub stats: FailoverStats,
}

/// Why a node did not follow a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A larger term was accepted already.
    StaleTerm,
    /// The node's configuration has no such upstream.
    UnknownUpstream,
    /// It has no backup.
    NoBackup,
    /// There is no snapshot, or it cannot be read.
    BackupUnusable,
    /// The same term had another target before.
    TermConflict,
    /// The primary refused entries for good, and nobody said that this is acceptable.
    DeadLetters,
    /// The node's disk failed.
    NotDurable,
}

/// What should be, as the control plane decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Of which upstream.
    pub upstream: String,
    /// Strictly increasing for each upstream; one term has one target, for ever.
    pub term: u64,
    /// Which store should be active.
    pub target: Store,
    /// Of the decision in the control plane's log.
    pub decision_id: String,
    /// Why.
    pub reason: DecisionReason,
    /// When it was decided.
    pub issued_at: Option<SystemTime>,
    /// For people.
    pub because: String,
    /// Entries that the primary refused for good do not stand in the way.
    pub accept_dead_letters: bool,
}

/// Why the control plane decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DecisionReason {
    /// The first word on an upstream.
    #[default]
    Initial,
    /// Enough nodes see that the primary does not work.
    QuorumUnhealthy,
    /// Enough nodes have seen for long enough that it works.
    QuorumRecovered,
    /// An operator said so.
    Manual,
    /// A node had done it already.
    AdoptLocal,
    /// The primary failed again while entries were being replayed.
    Abort,
}

impl DecisionReason {
    /// As people and programs read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::QuorumUnhealthy => "quorum_unhealthy",
            Self::QuorumRecovered => "quorum_recovered",
            Self::Manual => "manual",
            Self::AdoptLocal => "adopt_local",
            Self::Abort => "abort",
        }
    }
}

/// Whether the control plane decides at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DecisionState {
    /// It does.
    #[default]
    Active,
    /// Just started: it waits until the nodes are back.
    WarmingUp,
    /// So many nodes are away or suspect themselves that it is likely the one cut off.
    Frozen,
    /// An operator said that nothing shall happen by itself.
    Maintenance,
    /// It decides and logs, and sends nothing.
    Shadow,
}

impl DecisionState {
    /// As people and programs read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::WarmingUp => "warming up",
            Self::Frozen => "frozen",
            Self::Maintenance => "maintenance",
            Self::Shadow => "shadow",
        }
    }
}

/// Something that happened on a node, or a decision of the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// From 1, without gaps within an epoch of a node.
    pub seq: u64,
    /// The wall clock of who saw it.
    pub at: Option<SystemTime>,
    /// Since the process began, by its monotonic clock.
    pub uptime: Duration,
    /// What happened.
    pub kind: EventKind,
    /// Empty: of the node itself.
    pub upstream: String,
    /// Of the directive behind it; 0: none.
    pub term: u64,
    /// See [`FailoverState::local_term`].
    pub local_term: u64,
    /// From which phase.
    pub from: Option<Phase>,
    /// To which phase.
    pub to: Option<Phase>,
    /// Of the decision behind it; empty: none.
    pub decision_id: String,
    /// For people; holds no secrets.
    pub reason: String,
    /// What it took: a backup sync, a sync-back, or, of `Restored`, the whole failover.
    pub duration: Option<Duration>,
    /// Entries replayed, waiting, client sessions told, or events lost.
    pub entries: u64,
    /// Of the snapshot file.
    pub bytes: u64,
    /// The active store afterwards.
    pub active: Option<Store>,
    /// Of the primary, afterwards.
    pub breaker: Option<BreakerState>,
}

/// Declares the kinds of events with their words.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident $word:literal;)*) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub enum EventKind {
            /// Something that this build does not know.
            #[default]
            Unknown,
            $($(#[$doc])* $name,)*
        }

        impl EventKind {
            /// Every kind that this build knows.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As people and programs read it.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    Self::Unknown => "unknown",
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

kinds! {
    /// The node's process began.
    NodeStarted "node_started";
    /// It was asked to end.
    NodeStopping "node_stopping";
    /// Calls to the primary are held back and drained.
    FailoverStarted "failover_started";
    /// The backup is active; durable.
    FailoverCommitted "failover_committed";
    /// Entries are being replayed.
    SyncBackStarted "sync_back_started";
    /// All were.
    SyncBackCompleted "sync_back_completed";
    /// Not all could be.
    SyncBackFailed "sync_back_failed";
    /// The primary is active again; durable.
    Restored "restored";
    /// It was begun and called off before anything was committed.
    FailoverAborted "failover_aborted";
    /// A breaker of the primary opened, half opened or closed.
    BreakerChanged "breaker_changed";
    /// A snapshot was written.
    BackupSyncCompleted "backup_sync_completed";
    /// It could not be.
    BackupSyncFailed "backup_sync_failed";
    /// A write was accepted into the journal.
    EntryJournaled "entry_journaled";
    /// The primary refused an entry for good.
    DeadLettered "dead_lettered";
    /// Client sessions were told.
    ClientsNotified "clients_notified";
    /// Reads go to the backup, by the node's own breaker.
    ProvisionalStarted "provisional_started";
    /// They go to the primary again.
    ProvisionalEnded "provisional_ended";
    /// The control plane decided.
    Decided "decided";
    /// The oldest events were dropped because too many waited; has the `seq` of the last of them.
    EventsLost "events_lost";
}
