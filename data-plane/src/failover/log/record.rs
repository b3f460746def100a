//! What can be said to the log, and its answer when it cannot keep it.

use bytes::Bytes;
use o1_proto::model::{Event, Store};
use std::{fmt, sync::Arc, time::SystemTime};

/// One thing that is so from now on. The log takes each at its word: whether it may be said is decided elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// F1/S1: the node means to make `target` the active store.
    Target {
        /// Of which upstream.
        upstream: String,
        /// Of the directive behind it.
        term: u64,
        /// Counts what the node does by itself after `term`.
        local: u64,
        /// Which store is to be active.
        target: Store,
        /// Entries that the primary refused for good do not stand in the way.
        accept_dead_letters: bool,
        /// Of the decision behind it; empty: none.
        decision_id: String,
    },
    /// F3/R2, the commit: `store` is the active one.
    Active {
        /// Of which upstream.
        upstream: String,
        /// Which store is active.
        store: Store,
        /// See [`Record::Target`].
        term: u64,
        /// See [`Record::Target`].
        local: u64,
    },
    /// A write accepted during a failover.
    Entry {
        /// Of which upstream.
        upstream: String,
        /// Its place in the journal of the upstream.
        seq: u64,
        /// What was written.
        entry: Entry,
    },
    /// The backup refused it, or nobody accepted it: it is not replayed.
    Withdrawn {
        /// Of which upstream.
        upstream: String,
        /// Of the entry.
        seq: u64,
    },
    /// The primary has it: this entry, not those before it.
    Checkpoint {
        /// Of which upstream.
        upstream: String,
        /// Of the entry.
        seq: u64,
    },
    /// The primary refused it for good.
    Dead {
        /// Of which upstream.
        upstream: String,
        /// Of the entry.
        seq: u64,
        /// For people; holds no secrets.
        why: String,
    },
    /// Something happened. The log gives it its `seq`; the caller's is ignored.
    Event(Event),
}

impl Record {
    /// Roughly what it occupies, to bound what waits.
    pub(super) fn weight(&self) -> usize {
        64 + match self {
            Self::Entry { entry, .. } => entry.params.len() + entry.key.len() + entry.principal.len(),
            Self::Dead { why, .. } => why.len(),
            Self::Event(event) => event.reason.len(),
            _ => 0,
        }
    }
}

/// A write that the primary does not have yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The idempotency key.
    pub key: String,
    /// When it was accepted.
    pub at: SystemTime,
    /// By the upstream's own name.
    pub tool: String,
    /// The raw JSON `params` of the `tools/call`.
    pub params: Bytes,
    /// Who called.
    pub principal: String,
}

/// The batch is not known to be on the disk. Almost always it is not; after a crash it may turn out that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotDurable(Arc<str>);

impl NotDurable {
    pub(super) fn new(why: &str) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for NotDurable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the failover log cannot keep it: {}", self.0)
    }
}

impl std::error::Error for NotDurable {}
