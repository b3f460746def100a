//! What there is to see of the decisions. Plain values.

use super::{Decisions, Mode, Moment, NodeKey, nodes::Said, upstream::Upstream};
use o1_proto::model::{BreakerState, DecisionReason, FailoverState, FailoverStats, Store, Verdict, Writes};
use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

/// Nodes that are shown one by one.
const MAX_NODES: usize = 32;

/// Where a decision stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Stage {
    /// The primary serves and nobody complains.
    #[default]
    Healthy,
    /// Somebody complains.
    Suspect,
    /// The backup was ordered, and not every connected node is there.
    FailingOver,
    /// The backup serves.
    FailedOver,
    /// The primary was ordered, and not every connected node is there.
    SyncingBack,
    /// Neither store works: everything stays where it is.
    Blocked,
}

impl Stage {
    /// As people and programs read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Suspect => "suspect",
            Self::FailingOver => "failing_over",
            Self::FailedOver => "failed_over",
            Self::SyncingBack => "syncing_back",
            Self::Blocked => "blocked",
        }
    }
}

/// Which store of an upstream serves, over all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailoverStatus {
    /// Where the decision stands.
    pub decision: Stage,
    /// What should be; `None`: nothing was decided yet.
    pub desired: Option<Store>,
    /// Of the last decision; 0: there was none.
    pub term: u64,
    /// Who decides.
    pub mode: Mode,
    /// When `mode` ends by itself.
    pub mode_until: Option<SystemTime>,
    /// Of connected nodes.
    pub nodes_on_primary: u32,
    /// Of connected nodes.
    pub nodes_on_backup: u32,
    /// Connected nodes that acted by themselves.
    pub nodes_provisional: u32,
    /// Connected nodes that did not follow yet.
    pub nodes_lagging: u32,
    /// Nodes whose view is fresh.
    pub observers: u32,
    /// Of these, those that see the primary unhealthy.
    pub observers_unhealthy: u32,
    /// Of these, those that see it healthy.
    pub observers_healthy: u32,
    /// What most see.
    pub primary: Verdict,
    /// What most see.
    pub backup: Verdict,
    /// The worst on connected nodes.
    pub primary_breaker: BreakerState,
    /// Since when the decision stands.
    pub since: Option<SystemTime>,
    /// The failover lasts until then at least; `None`: none is running.
    pub hold_until: Option<SystemTime>,
    /// Since when the primary has been well; `None`: it is not, or no failover is running.
    pub healthy_since: Option<SystemTime>,
    /// How long it must be.
    pub stable: Duration,
    /// Why it was decided; `None`: nothing was.
    pub last_reason: Option<DecisionReason>,
    /// What the last decision saw.
    pub because: String,
    /// Entries that wait on nodes.
    pub journal_pending: u64,
    /// Sums over nodes; times are the latest.
    pub stats: FailoverStats,
    /// As of when; `None`: no node said anything. A node's running failover is as long as the node last said, by its own clock. What it turns out to
    /// have been is never less.
    pub stats_at: Option<SystemTime>,
    /// By label; those that do not follow come before others if not all are shown.
    pub nodes: Vec<NodeFailover>,
    /// `endpoints` or `snapshot`.
    pub backup_kind: &'static str,
    /// What becomes of writes while the backup serves.
    pub writes: Writes,
}

/// What one node said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFailover {
    /// What people call it.
    pub node_id: String,
    /// It is there.
    pub connected: bool,
    /// What it said.
    pub state: FailoverState,
    /// When.
    pub heard_at: SystemTime,
}

impl Decisions {
    /// What there is to see of an upstream; `None`: it has no backup.
    #[must_use]
    pub fn status(&self, name: &str, now: Moment) -> Option<FailoverStatus> {
        let upstream = self.upstreams.get(name)?;
        let (record, tally, places) = (&upstream.record, &upstream.tally, &upstream.places);
        let failed_over = upstream.desired() == Store::Backup;
        let stats_at = upstream.said.values().map(|said| said.at).max();
        let left = upstream.hold_until().saturating_sub(now.uptime);
        let since_hold = now.uptime.saturating_sub(upstream.hold_until());
        let hold_until = now.wall.checked_add(left).and_then(|at| at.checked_sub(since_hold));
        Some(FailoverStatus {
            decision: upstream.stage(now),
            desired: upstream.ghost.or(record.target),
            term: record.term,
            mode: record.mode,
            mode_until: record.mode_until,
            nodes_on_primary: places.on_primary,
            nodes_on_backup: places.on_backup,
            nodes_provisional: places.provisional,
            nodes_lagging: count(places.lagging.len()),
            observers: count(tally.fresh),
            observers_unhealthy: count(tally.unhealthy),
            observers_healthy: count(tally.healthy),
            primary: tally.primary(),
            backup: tally.backup(),
            primary_breaker: places.breaker,
            since: record.since,
            hold_until: hold_until.filter(|_| failed_over),
            healthy_since: upstream.healthy_since.map(|since| since.wall),
            stable: upstream.policy.stable,
            last_reason: record.target.map(|_| record.reason),
            because: record.because.clone(),
            journal_pending: places.pending,
            stats: sum(upstream.said.values(), stats_at.unwrap_or(now.wall)),
            stats_at,
            nodes: self.rows(upstream),
            backup_kind: if upstream.policy.snapshot { "snapshot" } else { "endpoints" },
            writes: upstream.policy.writes.clone(),
        })
    }

    fn rows(&self, upstream: &Upstream) -> Vec<NodeFailover> {
        let lagging: BTreeSet<&NodeKey> = upstream.places.lagging.iter().collect();
        let mut heard: Vec<(&NodeKey, &Said)> = upstream.said.iter().collect();
        heard.sort_by_key(|(key, _)| !lagging.contains(key));
        heard.truncate(MAX_NODES);
        let row = |(key, said): (&NodeKey, &Said)| {
            let node = self.nodes.get(key);
            NodeFailover {
                node_id: node.map(|node| node.label.clone()).unwrap_or_default(),
                connected: node.is_some_and(super::nodes::Node::is_there),
                state: said.state.clone(),
                heard_at: said.at,
            }
        };
        let mut rows: Vec<_> = heard.into_iter().map(row).collect();
        rows.sort_by(|a, b| a.node_id.cmp(&b.node_id));
        rows
    }
}

/// The accounts of nodes as one: counts and durations add up, times are the latest, a file is as big as the biggest.
fn sum<'a>(said: impl Iterator<Item = &'a Said>, as_of: SystemTime) -> FailoverStats {
    let (mut sum, mut total) = (FailoverStats::default(), Duration::ZERO);
    for (one, at) in said.map(|said| (&said.state.stats, said.at)) {
        sum.failover_active |= one.failover_active;
        sum.failover_count = sum.failover_count.saturating_add(one.failover_count);
        total = total.saturating_add(one.total_failover_time(at));
        sum.last_failover_time = sum.last_failover_time.max(one.last_failover_time);
        sum.last_restoration_time = sum.last_restoration_time.max(one.last_restoration_time);
        let earliest = [sum.current_failover_since, one.current_failover_since];
        sum.current_failover_since = earliest.into_iter().flatten().min();
        sum.backup_syncs_completed = sum.backup_syncs_completed.saturating_add(one.backup_syncs_completed);
        sum.backup_sync_failures = sum.backup_sync_failures.saturating_add(one.backup_sync_failures);
        sum.last_backup_sync = sum.last_backup_sync.max(one.last_backup_sync);
        sum.total_backup_sync_time = sum.total_backup_sync_time.saturating_add(one.total_backup_sync_time);
        sum.backup_file_size_bytes = sum.backup_file_size_bytes.max(one.backup_file_size_bytes);
        sum.sync_back_operations = sum.sync_back_operations.saturating_add(one.sync_back_operations);
        sum.entries_synced_back = sum.entries_synced_back.saturating_add(one.entries_synced_back);
        sum.sync_back_failures = sum.sync_back_failures.saturating_add(one.sync_back_failures);
        sum.total_sync_back_time = sum.total_sync_back_time.saturating_add(one.total_sync_back_time);
        sum.entries_in_failover = sum.entries_in_failover.saturating_add(one.entries_in_failover);
        sum.dead_letter_entries = sum.dead_letter_entries.saturating_add(one.dead_letter_entries);
        sum.provisional_failovers = sum.provisional_failovers.saturating_add(one.provisional_failovers);
        sum.active_store = sum.active_store.max(one.active_store);
    }
    let running = sum.current_failover_since.and_then(|since| as_of.duration_since(since).ok());
    sum.finished_failover_time = total.saturating_sub(running.unwrap_or_default());
    sum
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
