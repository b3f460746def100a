//! Is it as it should be? The one place that decides, for status, nodes, `--json` and exit codes alike.

use crate::model::{Node, NodeState, Status, SyncState, Upstream, UpstreamState};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// A picture older than this says nothing about now.
pub const STALE_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything known is as it should be.
    Healthy,
    /// Something needs a look.
    Degraded,
    /// The picture is too old to tell.
    Stale,
}

/// Judges a whole fleet.
#[must_use]
pub fn of_fleet(status: &Status, now: Timestamp) -> Verdict {
    let nodes = status.nodes;
    let refused = status.control_plane.source.as_ref().is_some_and(|source| source.refused);
    let degraded = refused
        || status.control_plane.target.is_none()
        || nodes.connected == 0
        || nodes.unreachable + nodes.stale + nodes.rejected > 0
        || status.upstreams.iter().any(is_degraded);
    unless_stale(status, now, degraded)
}

/// Judges one upstream alone; one that is not there any more is not as it should be.
#[must_use]
pub fn of_upstream(status: &Status, upstream: Option<&Upstream>, now: Timestamp) -> Verdict {
    unless_stale(status, now, upstream.is_none_or(is_degraded))
}

/// Judges nodes alone.
#[must_use]
pub fn of_nodes(status: &Status, nodes: &[Node], now: Timestamp) -> Verdict {
    let nobody = !nodes.iter().any(|node| node.state == NodeState::Connected);
    unless_stale(status, now, nobody || nodes.iter().any(needs_a_look))
}

fn is_degraded(upstream: &Upstream) -> bool {
    matches!(upstream.state, UpstreamState::Degraded | UpstreamState::Unreachable)
}

fn needs_a_look(node: &Node) -> bool {
    match node.state {
        NodeState::Unreachable | NodeState::DuplicateIdentity | NodeState::Unknown => true,
        NodeState::Connected | NodeState::Draining => {
            matches!(node.sync, SyncState::Stale | SyncState::Rejected)
        }
        NodeState::Left => false,
    }
}

fn unless_stale(status: &Status, now: Timestamp, degraded: bool) -> Verdict {
    match (status.as_of, degraded) {
        (Some(as_of), _) if now.duration_since(as_of) > STALE_AFTER => Verdict::Stale,
        (None, _) => Verdict::Stale,
        (Some(_), true) => Verdict::Degraded,
        (Some(_), false) => Verdict::Healthy,
    }
}
