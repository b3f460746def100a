//! What a decision about the fleet leads to. Plain values: the [`Hub`](super::Hub) carries them out.

use super::{Identity, NodeRecord, NodeUid, Out, Progress, Rejection};
use crate::config::Version;
use std::time::Duration;

/// One stream of one node, for as long as this process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Everything a decision leads to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What to send to whom.
    pub sends: Vec<(StreamId, Out)>,
    /// What to write into the log.
    pub events: Vec<Event>,
    /// What to remember of a node, or that it can be forgotten.
    pub records: Vec<(NodeUid, Option<NodeRecord>)>,
    /// Whether somebody who watches the fleet sees a difference.
    pub changed: bool,
    /// The rollout ended just now, like this.
    pub ended: Option<Progress>,
}

/// Something that happened to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The node.
    pub node: Identity,
    /// What happened.
    pub what: What,
}

/// What happened to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It said hello, and runs this.
    Connected(Option<Version>),
    /// Its stream ended without a goodbye.
    Disconnected,
    /// It was sent this.
    Sent(Version),
    /// It runs this, and needed so long to get there.
    Applied(Version, Option<Duration>),
    /// It refused this.
    Refused(Version, Vec<Rejection>),
    /// It said nothing for longer than its lease.
    Unreachable,
    /// It did not answer an update in time.
    Unresponsive,
    /// It said goodbye.
    Left(String),
    /// A newer stream of it took over.
    Superseded,
    /// Two live processes claim its identity.
    Duplicate,
    /// Another node, of this uid, has the same id.
    SameNodeId(NodeUid),
    /// It runs something that this store has never seen.
    Foreign(Version),
    /// What it runs is not what it should be by its name: it is sent everything anew.
    Differs,
    /// It answered an update that it was not sent.
    StrayAnswer(u64),
    /// It broke the protocol.
    Violation(String),
    /// It is no longer shown.
    Forgotten,
}

impl Event {
    /// Writes one line into the log.
    pub fn log(&self) {
        let (node_id, node_uid) = (self.node.node_id.as_str(), self.node.uid);
        match &self.what {
            What::Connected(applied) => {
                let applied = applied.as_ref().map(tracing::field::display);
                tracing::info!(node_id, %node_uid, epoch = self.node.epoch, applied, "node connected");
            }
            What::Disconnected => tracing::info!(node_id, %node_uid, "node disconnected"),
            What::Sent(version) => tracing::debug!(node_id, %node_uid, %version, "configuration sent"),
            What::Applied(version, took) => {
                let took = took.map(tracing::field::debug);
                tracing::info!(node_id, %node_uid, %version, took, "node applied the configuration");
            }
            What::Refused(version, rejections) => {
                let reasons: Vec<String> = rejections.iter().map(ToString::to_string).collect();
                let reasons = reasons.join("; ");
                tracing::warn!(node_id, %node_uid, %version, reasons, "node refused the configuration");
            }
            What::Unreachable => tracing::warn!(node_id, %node_uid, "node unreachable, its lease is over"),
            What::Unresponsive => {
                tracing::warn!(node_id, %node_uid, "node did not answer an update in time, closing its stream");
            }
            What::Left(said) => tracing::info!(node_id, %node_uid, said, "node left"),
            What::Superseded => {
                tracing::info!(node_id, %node_uid, "a newer stream of the node took over");
            }
            What::Duplicate => tracing::error!(
                node_id, %node_uid,
                "two live processes claim one node, refusing both: give each its own state directory"
            ),
            What::SameNodeId(other) => tracing::warn!(
                node_id, %node_uid, %other,
                "two nodes have the same node id: give each its own --node-id"
            ),
            What::Foreign(applied) => tracing::warn!(
                node_id, %node_uid, %applied,
                "node runs a configuration that this store never accepted: was the state directory replaced?"
            ),
            What::Differs => tracing::warn!(
                node_id, %node_uid,
                "node does not run what it was sent: the whole configuration is sent"
            ),
            What::StrayAnswer(nonce) => {
                tracing::warn!(node_id, %node_uid, nonce, "node answered an update that does not wait for it");
            }
            What::Violation(what) => tracing::warn!(node_id, %node_uid, what, "node broke the protocol"),
            What::Forgotten => tracing::info!(node_id, %node_uid, "node forgotten"),
        }
    }
}
