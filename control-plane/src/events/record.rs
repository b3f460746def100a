//! Events as they are kept: who saw them, where they stand, and the bytes that came.

use crate::fleet::NodeUid;
use o1_proto::model::Event;
use std::time::SystemTime;

/// A place in the events of one node. Order is the order in which they happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor {
    /// Counts the node's boots.
    pub epoch: u64,
    /// Counts the events of the epoch, from 1.
    pub seq: u64,
}

/// Whose events they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Which node.
    pub uid: NodeUid,
    /// What people call it.
    pub node_id: String,
    /// Of which of its lives.
    pub epoch: u64,
}

/// An event that came from a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// As far as this build understands it.
    pub event: Event,
    /// Its type by number, which may be one of a later contract.
    pub number: i32,
    /// As it came, with what this build does not know.
    pub body: Vec<u8>,
}

/// Events that a node says follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Whose they are.
    pub writer: Writer,
    /// Ascending.
    pub events: Vec<NewEvent>,
    /// When they came.
    pub now: SystemTime,
}

/// What became of them. All of them were stored, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// Everything up to here is on the disk, each event once.
    Through(Cursor),
    /// Nothing was stored: an event is missing.
    Gap {
        /// The event that was due.
        expected: Cursor,
        /// What is on the disk; `None`: nothing yet, and the gap is inside the batch.
        durable: Option<Cursor>,
    },
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Among all events, from 1 without gaps.
    pub position: u64,
    /// Which node saw it; `None`: the control plane itself.
    pub uid: Option<NodeUid>,
    /// What people called it then; empty for the control plane itself.
    pub node_id: String,
    /// Where it stands among the events of its node.
    pub cursor: Cursor,
    /// When it was stored.
    pub stored_at: SystemTime,
    /// As it came.
    pub body: Vec<u8>,
}

/// Which events a reader wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// Empty: of every one.
    pub upstream: String,
    /// Empty: of every one.
    pub node_id: String,
    /// By number; empty: every type.
    pub types: Vec<i32>,
    /// Not older, by the clock of who saw it.
    pub since: Option<SystemTime>,
}

/// In which order, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Behind this position, oldest first.
    After(u64),
    /// Before this position, newest first; `None`: from the newest one.
    Before(Option<u64>),
}

/// A question for events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// Which.
    pub filter: EventFilter,
    /// From where.
    pub order: Order,
    /// How many at most. A page may end earlier, so that it fits into memory and into a message.
    pub limit: usize,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// In the order that was asked for.
    pub events: Vec<StoredEvent>,
    /// There is more behind the last one.
    pub more: bool,
    /// What there is at all, at this moment.
    pub kept: Kept,
}

/// What there is at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// From here on nothing is missing; 0: there is nothing.
    pub oldest: u64,
    /// The position that was given last; 0: none yet.
    pub newest: u64,
}
