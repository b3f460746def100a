//! What to do about what was measured: one plain rule each, which names the fact it follows from. A rule that does not
//! apply says nothing.

use super::{Episode, Facts, cell_of, span};
use crate::{
    events::EventKind,
    failover::Mode,
    model::{Node, NodeState, SyncState, Upstream, UpstreamState},
};
use std::collections::BTreeMap;

/// Failovers of one upstream on one node in the time of a report that are too many.
const FLAPPING: usize = 3;
/// Parts of the requests that are too many.
const ERRORS: f64 = 0.01;
const TIMEOUTS: f64 = 0.005;
/// Requests below which a part says nothing.
const ENOUGH: u64 = 100;
/// Look-ups below which a hit ratio says nothing, and a ratio that is low.
const LOOKED_UP: u64 = 1000;
const LOW_HITS: f64 = 0.05;

/// Everything that follows.
#[must_use]
pub fn all(facts: &Facts<'_>, episodes: &[Episode]) -> Vec<String> {
    let mut found = Vec::new();
    let mut decisions = |text: Option<String>| found.extend(text);
    decisions(refused(facts));
    decisions(frozen(facts));
    for node in facts.nodes {
        decisions(of_node(node));
    }
    for upstream in &facts.status.upstreams {
        for rule in [unreached, unbacked, lossy, slow, full, pinned, dead_letters, uncached] {
            decisions(rule(upstream));
        }
    }
    found.extend(flapping(episodes));
    found.extend(snapshots(facts));
    found
}

fn refused(facts: &Facts<'_>) -> Option<String> {
    let source = facts.status.control_plane.source.as_ref().filter(|source| source.refused)?;
    Some(format!(
        "The newest content of `{}` is refused, so the fleet runs what was before: correct it (`o1ctl status` lists \
         every problem).",
        cell_of(&source.path)
    ))
}

fn frozen(facts: &Facts<'_>) -> Option<String> {
    let because = &facts.status.control_plane.decisions_because;
    (!because.is_empty()).then(|| {
        format!(
            "The control plane decides about no failover at present ({}): end that if it is not meant to be.",
            cell_of(because)
        )
    })
}

fn of_node(node: &Node) -> Option<String> {
    let id = cell_of(&node.node_id);
    match (node.state, node.sync) {
        (NodeState::Unreachable, _) => {
            Some(format!("Node {id} is not heard: look at its process, or at http://{}/health.", node.admin))
        }
        (NodeState::DuplicateIdentity, _) => {
            Some(format!("Two live processes claim to be node {id}: give each its own `--state-dir`."))
        }
        (NodeState::Connected | NodeState::Draining, SyncState::Rejected) => {
            Some(format!("Node {id} refuses the configuration: `o1ctl nodes` says why."))
        }
        (NodeState::Connected | NodeState::Draining, _)
            if node.clock_skew_ms.is_some_and(|skew| skew.unsigned_abs() > 1000) =>
        {
            Some(format!(
                "The clock of node {id} is off by {} ms: let all machines take the time from one source (NTP).",
                node.clock_skew_ms.unwrap_or_default()
            ))
        }
        _ => None,
    }
}

fn unreached(upstream: &Upstream) -> Option<String> {
    let down = upstream.state == UpstreamState::Unreachable && upstream.backup.is_some();
    down.then(|| {
        format!(
            "Nobody reaches `{0}` now: `o1ctl explain {0}` says what its primary and its backup lack, and what happens \
             next.",
            upstream.name
        )
    })
}

fn unbacked(upstream: &Upstream) -> Option<String> {
    let down = upstream.state == UpstreamState::Unreachable && upstream.backup.is_none();
    down.then(|| {
        format!(
            "Nobody reaches `{}`, and it has no backup, so its calls fail: a `backup` answers them, and be it \
             `backup: snapshot` for reads.",
            upstream.name
        )
    })
}

fn lossy(upstream: &Upstream) -> Option<String> {
    let totals = upstream.totals.filter(|totals| totals.requests >= ENOUGH)?;
    let ratio = totals.errors as f64 / totals.requests as f64;
    (ratio > ERRORS).then(|| {
        format!(
            "{} of the requests to `{}` got no usable answer ({} of {}): `o1ctl status {} --verbose` says from which \
             node, `o1ctl logs` what its processes wrote.",
            span::percent(ratio),
            upstream.name,
            totals.errors,
            totals.requests,
            upstream.name
        )
    })
}

fn slow(upstream: &Upstream) -> Option<String> {
    let totals = upstream.totals.filter(|totals| totals.requests >= ENOUGH)?;
    let ratio = totals.timeouts as f64 / totals.requests as f64;
    (ratio > TIMEOUTS).then(|| {
        format!(
            "{} of the requests to `{}` ran out of time ({}): give slow tools times of their own \
             (`timeouts.tools`), or let them send progress.",
            span::percent(ratio),
            upstream.name,
            totals.timeouts
        )
    })
}

fn full(upstream: &Upstream) -> Option<String> {
    let refused: u64 = upstream.endpoints.iter().map(|one| one.refused).sum();
    (refused > 0).then(|| {
        format!(
            "`{}` had no place for {refused} calls: raise `concurrency` if the server can take more, or add an \
             endpoint.",
            upstream.name
        )
    })
}

fn pinned(upstream: &Upstream) -> Option<String> {
    let failover = upstream.failover.as_ref().filter(|one| one.mode != Mode::Auto)?;
    let until = if failover.mode_until.is_some() { "for some time" } else { "until somebody ends that" };
    Some(format!(
        "`{}` is pinned {until}, so nothing happens by itself: `o1ctl unpin {} --reason TEXT` ends it.",
        upstream.name, upstream.name
    ))
}

fn dead_letters(upstream: &Upstream) -> Option<String> {
    let count = upstream.failover.as_ref()?.dead_letters();
    (count > 0).then(|| {
        format!(
            "The primary of `{}` refused {count} journaled writes for good: `o1ctl events --upstream {} --type \
             dead_lettered` says why; do them again by hand.",
            upstream.name, upstream.name
        )
    })
}

fn uncached(upstream: &Upstream) -> Option<String> {
    let looked: u64 = upstream.cache.iter().map(crate::counts::Tier::look_ups).sum();
    let hits: u64 = upstream.cache.iter().map(|tier| tier.hits + tier.stale).sum();
    let ratio = hits as f64 / looked.max(1) as f64;
    (looked >= LOOKED_UP && ratio < LOW_HITS).then(|| {
        format!(
            "The cache answered {} of {looked} look-ups for `{}`: `o1ctl cache stats --upstream {}` says what was \
             not kept and why.",
            span::percent(ratio),
            upstream.name,
            upstream.name
        )
    })
}

fn flapping(episodes: &[Episode]) -> Vec<String> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for one in episodes {
        *counts.entry((&one.upstream, &one.node)).or_default() += 1;
    }
    let mut worst: BTreeMap<&str, usize> = BTreeMap::new();
    for ((upstream, _), count) in counts {
        let most = worst.entry(upstream).or_default();
        *most = count.max(*most);
    }
    let often = worst.into_iter().filter(|(_, count)| *count >= FLAPPING);
    often
        .map(|(upstream, count)| {
            format!(
                "`{upstream}` failed over {count} times on one node: find out why its primary comes and goes; \
                 `failover.stable` and `failover.min_hold` keep it on the backup for longer.",
            )
        })
        .collect()
}

fn snapshots(facts: &Facts<'_>) -> Option<String> {
    let failed = facts.events.iter().filter(|event| event.kind == EventKind::BackupSyncFailed).count();
    (failed > 0).then(|| {
        format!("{failed} snapshots could not be written: look for a full disk on the nodes (`o1ctl doctor` there).")
    })
}
