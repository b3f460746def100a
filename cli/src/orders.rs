//! What an operator orders, and what the control plane says to it, as plain values.

use crate::{
    failover::{Mode, Store},
    model::DrainOrder,
};
use serde::Serialize;
use std::time::Duration;

/// Goes with each order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The same id within a day is the same order.
    pub request_id: String,
    /// For people and for the log.
    pub reason: String,
}

/// The backup, or the primary, of an upstream, by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderStore {
    /// Of which.
    pub upstream: String,
    /// Which store.
    pub target: Store,
    /// Only if this is the present term; 0: whatever it is.
    pub if_term: u64,
    /// Also if the store is not known to work.
    pub force: bool,
    /// Says what would happen, and does nothing.
    pub dry_run: bool,
    /// Who says so.
    pub signed: Signed,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ordered {
    /// Of the directive.
    pub term: u64,
    /// In the control plane's log.
    pub decision_id: String,
    /// Connected nodes that are told.
    pub nodes: u32,
    /// Entries that are replayed first.
    pub journal_pending: u64,
    /// For people.
    pub warnings: Vec<String>,
    /// It was so already.
    pub no_op: bool,
}

/// Holds an upstream at a store, or ends that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetMode {
    /// Which.
    pub upstream: String,
    /// How.
    pub mode: Mode,
    /// For how long; `None`: until somebody ends it.
    pub expires_in: Option<Duration>,
    /// Who says so.
    pub signed: Signed,
}

/// Freezes automatic decisions, or ends that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetMaintenance {
    /// Whether nothing shall happen by itself.
    pub enabled: bool,
    /// For how long; `None`: until somebody ends it.
    pub expires_in: Option<Duration>,
    /// Who says so.
    pub signed: Signed,
}

/// What came of an order to drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// It was ordered so already.
    pub no_op: bool,
    /// The order that stands; `None`: none does.
    pub order: Option<DrainOrder>,
}
