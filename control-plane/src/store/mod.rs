//! What outlives the process: every accepted configuration, the nodes that were ever seen, the keys that nodes seal
//! tokens with, what was decided about failovers, and what happened.
//!
//! [`Store`] is the agreement, the behaviour suite beside it is what it means, and every implementation must
//! pass all of it. Once a method has returned, a power failure does not take back what it did.
//!
//! This module must never decide anything: it keeps what it is told and hands it back.

mod audit;
mod error;
mod events;
mod failover;
mod revisions;
pub mod sqlite;

#[cfg(test)]
mod audit_suite;
#[cfg(test)]
mod event_suite;
#[cfg(test)]
pub(crate) mod suite;

pub use error::StoreError;
pub use sqlite::Sqlite;

use crate::{
    access::audit::{Entry, Outcome, Query},
    config::Version,
    events::{Append, Appended, Cursor, EventPage, EventQuery, Kept},
    fleet::{Drain, Drains, NodeRecord, NodeUid, RolloutReport, RolloutState, SealKey},
    health,
};
use futures_util::future::BoxFuture;
use o1_proto::model::{Event, FailoverStats};
use std::time::SystemTime;
use tokio::sync::watch;

/// What a store answers.
pub type Reply<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The agreement. Times are kept to the millisecond.
pub trait Store: Send + Sync + 'static {
    /// Adds a revision after the latest one: its number is that of the latest plus one, from 1. With it, all or
    /// nothing: the rollouts that it ends, and the request it answers.
    fn append_revision(&self, new: NewRevision) -> Reply<'_, RevisionHeader>;

    /// The revision that was added last.
    fn latest(&self) -> Reply<'_, Option<StoredRevision>>;

    /// The revision of this number.
    fn revision(&self, number: u64) -> Reply<'_, Option<StoredRevision>>;

    /// At most `limit` revisions with numbers below `before`, newest first.
    fn revisions(&self, before: Option<u64>, limit: usize) -> Reply<'_, Vec<RevisionHeader>>;

    /// A rollout is over; what came of it.
    fn end_rollout(&self, revision: u64, state: RolloutState, report: RolloutReport) -> Reply<'_, ()>;

    /// What came of a request for a change, within a day.
    fn config_request(&self, id: String) -> Reply<'_, Option<ConfigRequest>>;

    /// Remembers a request that changed nothing. Those of more than a day before may be dropped.
    fn keep_config_request(&self, request: ConfigRequest, now: SystemTime) -> Reply<'_, ()>;

    /// Every remembered node, by uid.
    fn nodes(&self) -> Reply<'_, Vec<NodeRecord>>;

    /// Adds or replaces what is known of a node.
    fn remember_node(&self, record: NodeRecord) -> Reply<'_, ()>;

    /// Removes a node; one that is not there is no error.
    fn forget_node(&self, uid: NodeUid) -> Reply<'_, ()>;

    /// The nodes that shall take no new sessions, by id.
    fn drains(&self) -> Reply<'_, Drains>;

    /// Keeps the order to drain of the nodes of this id, or ends it; to end what is not there is no error.
    fn keep_drain(&self, node_id: String, drain: Option<Drain>) -> Reply<'_, ()>;

    /// The keys for tokens, in the order in which they were given.
    fn seal_keys(&self) -> Reply<'_, Vec<SealKey>>;

    /// Keeps these keys and no others.
    fn replace_seal_keys(&self, keys: Vec<SealKey>) -> Reply<'_, ()>;

    /// What was decided about failovers, and what operators ordered.
    fn failover_decisions(&self) -> Reply<'_, health::Kept>;

    /// Adds to that, and replaces decisions on the same upstream and answers to the same request: all of it or
    /// nothing. Answers to requests of more than a day before may be dropped.
    fn keep_decisions(&self, change: health::Kept) -> Reply<'_, ()>;

    /// Adds the events that are not there yet: all of them, or none if one is missing before one of them. The first
    /// events of a node that is not known may begin anywhere, those of an epoch at 1, and behind a gap only with
    /// [`o1_proto::model::EventKind::EventsLost`].
    fn append_events(&self, append: Append) -> Reply<'_, Appended>;

    /// Adds an event of the control plane itself and gives it its number; its position.
    fn append_own_event(&self, event: Event, now: SystemTime) -> Reply<'_, u64>;

    /// The newest event that a node ever stored.
    fn event_cursor(&self, node: NodeUid) -> Reply<'_, Option<Cursor>>;

    /// A page of events.
    fn events(&self, query: EventQuery) -> Reply<'_, EventPage>;

    /// What there is at all.
    fn event_range(&self) -> Reply<'_, Kept>;

    /// The newest position, as it grows; never one that is not on the disk.
    fn newest_event(&self) -> watch::Receiver<u64>;

    /// Removes some of the events that are not among the `keep` newest or were stored before `older_than`, oldest
    /// first, but no node's newest; how many. Zero: there is none left to remove.
    fn prune_events(&self, keep: usize, older_than: SystemTime) -> Reply<'_, usize>;

    /// The fold of every event of the upstream that was ever stored for the node.
    fn event_account(&self, node: NodeUid, upstream: String) -> Reply<'_, FailoverStats>;

    /// Adds an entry to the audit and drops those of its kind that are not among the `keep` newest. Its number, which
    /// is larger than any that was ever given.
    fn begin_audit(&self, entry: Entry, keep: usize) -> Reply<'_, u64>;

    /// What came of an entry; one that was dropped is no error.
    fn end_audit(&self, id: u64, outcome: Outcome, detail: String) -> Reply<'_, ()>;

    /// Entries of the audit, newest first.
    fn audit(&self, query: Query) -> Reply<'_, Vec<Entry>>;
}

/// A configuration that was accepted and is about to get its number.
#[derive(Debug, Clone)]
pub struct NewRevision {
    /// As in [`Version::generation`].
    pub generation: u64,
    /// As in [`Version::digest`].
    pub digest: crate::config::Digest,
    /// The document as written.
    pub content: Vec<u8>,
    /// Where it came from: `file:/etc/only1.yaml`.
    pub source: String,
    /// Who made it, and why.
    pub account: Account,
    /// What was before, where nodes can go back to it: the rollout is in waves.
    pub base: Option<u64>,
    /// When it was accepted.
    pub created_at: SystemTime,
    /// The rollout that this revision takes back, and what came of it.
    pub undoes: Option<(u64, RolloutReport)>,
    /// The request it answers: the id and what was asked.
    pub request: Option<(String, Vec<u8>)>,
}

/// Who made a revision, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Who, as far as is known; empty: nobody knows.
    pub actor: String,
    /// Why; may be empty.
    pub comment: String,
    /// The revision whose document it repeats.
    pub rollback_of: Option<u64>,
}

/// What there is to know of a revision without its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionHeader {
    /// Its name.
    pub version: Version,
    /// When it was accepted.
    pub created_at: SystemTime,
    /// Where it came from.
    pub source: String,
    /// Who made it, and why.
    pub account: Account,
    /// What was before, where nodes could go back to it.
    pub base: Option<u64>,
    /// The revision whose rollout was stopped and which this one takes back.
    pub undoes: Option<u64>,
    /// What became of it.
    pub rollout: RolloutState,
    /// The same in full, once it is over.
    pub report: RolloutReport,
}

/// A revision with its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRevision {
    /// What there is to know of it.
    pub header: RevisionHeader,
    /// The document as written.
    pub content: Vec<u8>,
}

/// A request for a change of the configuration that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRequest {
    /// As the caller named it.
    pub id: String,
    /// What was asked, so that an id is not used for two things.
    pub asked: Vec<u8>,
    /// The revision it led to, or that ran already.
    pub revision: u64,
    /// Whether it changed nothing.
    pub no_op: bool,
}
