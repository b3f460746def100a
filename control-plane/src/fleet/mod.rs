//! The nodes: who they are, whether they are there, what they run, and what to send them next.
//!
//! [`Registry`] and [`Node`] decide (pure: they are told the time and answer with an [`Outcome`]); [`Hub`] holds
//! the lock, carries outcomes to the streams, the log and the store; [`Outbox`] is what waits for one stream.
//! A configuration reaches the nodes in waves: `rollout` says who is next, `rolling` asks it, [`Progress`] is the picture.
//! [`Asked`] is a question that only a node can answer.
//! What is decided about failovers waits in the [`DecisionLog`] until it is on disk.
//! [`Rotation`] makes the keys that nodes seal tokens with, on a [`Schedule`].
//!
//! Whether a node is in sync is derived from what the node says it runs and from nothing else. This module must
//! never wait for a node, and must never send one version twice on one stream.

mod decision_log;
mod drains;
mod hub;
mod identity;
mod node;
mod outbox;
mod outcome;
mod progress;
mod queries;
mod recent;
mod records;
mod registry;
mod rolling;
mod rollout;
mod rotation;
mod seal_keys;

pub use decision_log::{Decided, DecisionLog};
pub use drains::{Drain, Drains};
pub use hub::{AskError, Asked, BusyNode, Hub};
pub use identity::{Identity, NodeUid, Reason, Rejection, ResourceKind, ResourceName};
pub use node::{Node, NodeState, Refusal, SyncState};
pub use outbox::{Goodbye, GoodbyeReason, Out, Outbox, Welcome};
pub use outcome::{Event, Outcome, StreamId, What};
pub use progress::{NodeProgress, Progress, Refuser, Report as RolloutReport, RolloutState, Standing};
pub use queries::{Lost, Parts, Question};
pub use records::{NodeRecord, Records};
pub use registry::{Hello, HelloError, Message, Registry};
pub use rotation::Rotation;
pub use seal_keys::{ROTATION, Schedule, SealKey};

#[cfg(test)]
pub(crate) use records::sample_record;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// How often a node says that it is there.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often a node reports its counters.
pub const STATS: Duration = Duration::from_secs(5);
/// A node that says nothing for this long is unreachable.
pub const LEASE: Duration = Duration::from_secs(15);
/// How long a node may take to answer an update.
pub const ANSWER: Duration = Duration::from_secs(30);
/// How long a node that said goodbye is still shown.
pub const LEFT_SHOWN: Duration = Duration::from_secs(600);
/// How long a node that went away without a word is still shown.
pub const UNREACHABLE_SHOWN: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most nodes that are known at one time.
pub const MAX_NODES: usize = 10_000;
