//! What outlives the process: every accepted configuration, the nodes that were ever seen, the keys that nodes seal
//! tokens with, and what was decided about failovers.
//!
//! [`Store`] is the agreement, the behaviour suite beside it is what it means, and every implementation must
//! pass all of it. Once a method has returned, a power failure does not take back what it did.
//!
//! This module must never decide anything: it keeps what it is told and hands it back.

mod error;
mod failover;
pub mod sqlite;

#[cfg(test)]
mod suite;

pub use error::StoreError;
pub use sqlite::Sqlite;

use crate::{
    config::Version,
    fleet::{NodeRecord, NodeUid, SealKey},
    health::Kept,
};
use futures_util::future::BoxFuture;
use std::time::SystemTime;

/// What a store answers.
pub type Reply<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The agreement. Times are kept to the millisecond.
pub trait Store: Send + Sync + 'static {
    /// Adds a revision after the latest one: its number is that of the latest plus one, from 1.
    fn append_revision(&self, new: NewRevision) -> Reply<'_, RevisionHeader>;

    /// The revision that was added last.
    fn latest(&self) -> Reply<'_, Option<StoredRevision>>;

    /// The revision of this number.
    fn revision(&self, number: u64) -> Reply<'_, Option<StoredRevision>>;

    /// At most `limit` revisions with numbers below `before`, newest first.
    fn revisions(&self, before: Option<u64>, limit: usize) -> Reply<'_, Vec<RevisionHeader>>;

    /// Every remembered node, by uid.
    fn nodes(&self) -> Reply<'_, Vec<NodeRecord>>;

    /// Adds or replaces what is known of a node.
    fn remember_node(&self, record: NodeRecord) -> Reply<'_, ()>;

    /// Removes a node; one that is not there is no error.
    fn forget_node(&self, uid: NodeUid) -> Reply<'_, ()>;

    /// The keys for tokens, in the order in which they were given.
    fn seal_keys(&self) -> Reply<'_, Vec<SealKey>>;

    /// Keeps these keys and no others.
    fn replace_seal_keys(&self, keys: Vec<SealKey>) -> Reply<'_, ()>;

    /// What was decided about failovers, and what operators ordered.
    fn failover_decisions(&self) -> Reply<'_, Kept>;

    /// Adds to that, and replaces decisions on the same upstream and answers to the same request: all of it or
    /// nothing. Answers to requests of more than a day before may be dropped.
    fn keep_decisions(&self, change: Kept) -> Reply<'_, ()>;
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
    /// When it was accepted.
    pub created_at: SystemTime,
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
}

/// A revision with its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRevision {
    /// What there is to know of it.
    pub header: RevisionHeader,
    /// The document as written.
    pub content: Vec<u8>,
}
