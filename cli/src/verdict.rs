//! Is it as it should be? The one place that decides, for status, nodes, `--json` and exit codes alike.

use crate::{
    failover::Failover,
    model::{Node, NodeState, Status, SyncState, Upstream, UpstreamState},
};
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
    /// A backup serves, or is about to; whatever else is wrong.
    FailoverActive,
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
    let active = status.upstreams.iter().any(is_failed_over);
    unless_stale(status, now, worse(active, degraded))
}

/// Judges one upstream alone; one that is not there any more is not as it should be.
#[must_use]
pub fn of_upstream(status: &Status, upstream: Option<&Upstream>, now: Timestamp) -> Verdict {
    let active = upstream.is_some_and(is_failed_over);
    unless_stale(status, now, worse(active, upstream.is_none_or(is_degraded)))
}

/// Judges nothing but whether the picture is of now.
#[must_use]
pub fn of_age(status: &Status, now: Timestamp) -> Verdict {
    unless_stale(status, now, Verdict::Healthy)
}

/// Judges nodes alone.
#[must_use]
pub fn of_nodes(status: &Status, nodes: &[Node], now: Timestamp) -> Verdict {
    let there = |node: &Node| matches!(node.state, NodeState::Connected | NodeState::Draining);
    let nobody = !nodes.iter().any(there);
    unless_stale(status, now, worse(false, nobody || nodes.iter().any(needs_a_look)))
}

fn is_degraded(upstream: &Upstream) -> bool {
    let at_rest = upstream.failover.as_ref().is_none_or(Failover::is_at_rest);
    !at_rest || matches!(upstream.state, UpstreamState::Degraded | UpstreamState::Unreachable)
}

fn is_failed_over(upstream: &Upstream) -> bool {
    upstream.failover.as_ref().is_some_and(Failover::is_active)
}

fn worse(active: bool, degraded: bool) -> Verdict {
    match (active, degraded) {
        (true, _) => Verdict::FailoverActive,
        (false, true) => Verdict::Degraded,
        (false, false) => Verdict::Healthy,
    }
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

fn unless_stale(status: &Status, now: Timestamp, otherwise: Verdict) -> Verdict {
    match status.as_of {
        Some(as_of) if now.duration_since(as_of) <= STALE_AFTER => otherwise,
        Some(_) | None => Verdict::Stale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::{NOW, fleet, moment, node, upstream};

    fn judge(change: impl FnOnce(&mut Status)) -> Verdict {
        let mut status = fleet();
        change(&mut status);
        of_fleet(&status, moment(NOW))
    }

    #[test]
    fn each_trouble_alone_makes_a_fleet_degraded() {
        assert_eq!(judge(|_| {}), Verdict::Healthy);
        assert_eq!(judge(|status| status.nodes.pending = 1), Verdict::Healthy);
        assert_eq!(judge(|status| status.upstreams[0].state = UpstreamState::Unknown), Verdict::Healthy);
        type Trouble = fn(&mut Status);
        let troubles: [Trouble; 8] = [
            |status| status.upstreams[1].state = UpstreamState::Degraded,
            |status| status.upstreams[1].state = UpstreamState::Unreachable,
            |status| status.control_plane.source.as_mut().unwrap().refused = true,
            |status| status.control_plane.target = None,
            |status| status.nodes.connected = 0,
            |status| status.nodes.unreachable = 1,
            |status| status.nodes.stale = 1,
            |status| status.nodes.rejected = 1,
        ];
        for (index, trouble) in troubles.into_iter().enumerate() {
            assert_eq!(judge(trouble), Verdict::Degraded, "trouble {index}");
        }
    }

    #[test]
    fn an_old_picture_says_nothing_about_now() {
        let old = |status: &mut Status| status.as_of = Some(moment("2026-11-21T17:04:29Z"));
        assert_eq!(judge(old), Verdict::Stale, "31 s");
        assert_eq!(
            judge(|status| status.as_of = Some(moment("2026-11-21T17:04:30Z"))),
            Verdict::Healthy,
            "30 s"
        );
        assert_eq!(judge(|status| status.as_of = None), Verdict::Stale);
        let both = |status: &mut Status| {
            old(status);
            status.nodes.rejected = 1;
        };
        assert_eq!(judge(both), Verdict::Stale, "trouble of then may be over");
    }

    #[test]
    fn one_upstream_is_judged_alone() {
        let mut status = fleet();
        status.nodes.rejected = 1;
        let judge = |upstream: Option<&Upstream>| of_upstream(&status, upstream, moment(NOW));
        assert_eq!(judge(Some(&upstream("a", UpstreamState::Healthy))), Verdict::Healthy);
        assert_eq!(judge(Some(&upstream("a", UpstreamState::Unreachable))), Verdict::Degraded);
        assert_eq!(judge(None), Verdict::Degraded);
    }

    #[test]
    fn nodes_that_left_on_purpose_are_no_trouble() {
        let judge = |nodes: &[Node]| of_nodes(&fleet(), nodes, moment(NOW));
        let with = |state, sync| Node { state, sync, ..node("n") };
        let good = with(NodeState::Connected, SyncState::Synced);
        assert_eq!(judge(&[good.clone(), with(NodeState::Left, SyncState::Rejected)]), Verdict::Healthy);
        assert_eq!(judge(&[with(NodeState::Draining, SyncState::Synced)]), Verdict::Healthy);
        assert_eq!(judge(&[with(NodeState::Left, SyncState::Synced)]), Verdict::Degraded, "nobody is there");
        assert_eq!(judge(&[]), Verdict::Degraded);
        for (state, sync) in [
            (NodeState::Unreachable, SyncState::Synced),
            (NodeState::DuplicateIdentity, SyncState::Synced),
            (NodeState::Connected, SyncState::Rejected),
            (NodeState::Connected, SyncState::Stale),
        ] {
            assert_eq!(judge(&[good.clone(), with(state, sync)]), Verdict::Degraded, "{state:?} {sync:?}");
        }
    }
}
