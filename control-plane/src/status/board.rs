//! Takes the picture.

use super::{
    ConfigTarget, ControlPlane, FleetStatus, NodeCounts, NodeStatus, RolloutSummary, Source, UpstreamStatus,
    upstream,
};
use crate::{
    clock::Now,
    config::{Published, Revision, Undone},
    fleet::{Hub, Node, NodeState, NodeUid, Progress, Registry, RolloutState, Standing, SyncState},
    stats::{Ledger, Sample, UpstreamLedger},
};
use o1_proto::model;
use std::{net::SocketAddr, sync::Arc, time::SystemTime};
use tokio::sync::watch;

/// See the module. Clones look at the same fleet.
#[derive(Debug, Clone)]
pub struct Board {
    hub: Arc<Hub>,
    published: watch::Receiver<Published>,
    started_at: SystemTime,
    listen: SocketAddr,
}

impl Board {
    /// A board of a process that serves gRPC on `listen`.
    #[must_use]
    pub fn new(
        hub: Arc<Hub>,
        published: watch::Receiver<Published>,
        started_at: SystemTime,
        listen: SocketAddr,
    ) -> Self {
        Self { hub, published, started_at, listen }
    }

    /// What nodes should run in the end.
    #[must_use]
    pub fn running(&self) -> Option<Arc<Revision>> {
        self.published.borrow().running.clone()
    }

    /// How far its rollout is, node by node; `None`: it was settled before this process began.
    #[must_use]
    pub fn progress(&self, now: Now) -> Option<Progress> {
        self.hub.look(|registry, _| registry.progress(now.instant))
    }

    /// Counts changes of what [`Board::fleet`] shows.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.hub.changes()
    }

    /// The whole fleet now.
    #[must_use]
    pub fn fleet(&self, now: Now) -> FleetStatus {
        let (source, undone) = (self.source(), self.published.borrow().undone.clone());
        self.hub.look_at_all(now, |registry, ledger, decisions, moment| FleetStatus {
            as_of: now.wall,
            control_plane: ControlPlane {
                version: o1_process::VERSION,
                started_at: self.started_at,
                listen: self.listen.to_string(),
                target: registry.target().map(|target| ConfigTarget {
                    version: target.version.clone(),
                    accepted_at: target.accepted_at,
                }),
                rollout: rollout(registry, undone, now),
                source,
                decisions: decisions.state(),
                decisions_because: decisions.because().to_owned(),
            },
            nodes: counts(registry, now),
            upstreams: upstreams(registry, ledger, now)
                .into_iter()
                .map(|row| UpstreamStatus { failover: decisions.status(&row.name, moment), ..row })
                .collect(),
        })
    }

    /// At most `limit` nodes now, in the order of node id and uid, from the one after `after` on; and how many
    /// there are in all.
    #[must_use]
    pub fn nodes(&self, now: Now, after: Option<(&str, NodeUid)>, limit: usize) -> (Vec<NodeStatus>, usize) {
        fn key(node: &Node) -> (&str, NodeUid) {
            (&node.identity.node_id, node.identity.uid)
        }
        self.hub.look(|registry, ledger| {
            let mut all: Vec<&Node> = registry.nodes(now.instant).collect();
            all.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
            let page = all.iter().filter(|node| after.is_none_or(|after| key(node) > after)).take(limit);
            (page.map(|node| node_status(node, registry, ledger, now)).collect(), all.len())
        })
    }

    fn source(&self) -> Source {
        let published = self.published.borrow();
        let source = &published.source;
        Source {
            path: source.path.clone(),
            checked_at: source.checked_at,
            refused: !source.problems.is_empty(),
            problems: source.problems.clone(),
            refused_at: source.refused_at,
        }
    }
}

/// Of what runs; or of what was taken back, when what runs does that.
fn rollout(registry: &Registry, undone: Option<Undone>, now: Now) -> Option<RolloutSummary> {
    let progress = registry.progress(now.instant);
    let numbers =
        progress.as_ref().map(|one| (one.wave, one.waves, one.count(Standing::Applied), one.nodes.len()));
    let (wave, waves, applied, nodes) = numbers.unwrap_or_default();
    let is_over = progress.as_ref().is_none_or(|progress| progress.state.is_over());
    let (state, revision, because) = match (undone, &progress) {
        (Some(undone), _) => {
            let state = if is_over { RolloutState::RolledBack } else { RolloutState::RollingBack };
            (state, undone.revision, undone.because)
        }
        (None, Some(progress)) if progress.state == RolloutState::RollingBack => {
            (progress.state, progress.version.revision, progress.report().to_string())
        }
        (None, Some(progress)) => (progress.state, progress.version.revision, String::new()),
        (None, None) => return None,
    };
    let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
    Some(RolloutSummary { state, revision, wave, waves, applied, nodes, because })
}

fn counts(registry: &Registry, now: Now) -> NodeCounts {
    let mut counts = NodeCounts::default();
    for node in registry.nodes(now.instant) {
        match node.state(now.instant) {
            NodeState::Connected => {}
            NodeState::Draining => counts.draining += 1,
            NodeState::Unreachable => {
                counts.unreachable += 1;
                continue;
            }
            NodeState::Left | NodeState::DuplicateIdentity => continue,
        }
        counts.connected += 1;
        *match registry.sync(node, now.instant) {
            SyncState::Synced => &mut counts.synced,
            SyncState::Pending => &mut counts.pending,
            SyncState::Stale => &mut counts.stale,
            SyncState::Rejected => &mut counts.rejected,
            SyncState::Never => &mut counts.never,
        } += 1;
    }
    counts
}

fn upstreams(registry: &Registry, ledger: &Ledger, now: Now) -> Vec<UpstreamStatus> {
    let Some(target) = registry.target() else { return Vec::new() };
    let is_there =
        |node: &&Node| matches!(node.state(now.instant), NodeState::Connected | NodeState::Draining);
    // In the order of uids, as the registry has them.
    let there: Vec<NodeUid> =
        registry.nodes(now.instant).filter(is_there).map(|node| node.identity.uid).collect();
    let row = |configured: &model::Upstream| {
        let known = ledger.upstream(&configured.name);
        let mut there_too = there.iter().peekable();
        // Both are in the order of uids: each is looked at once.
        let is_there = |(uid, _): &(NodeUid, &Sample)| {
            while there_too.next_if(|one| *one < uid).is_some() {}
            there_too.peek().is_some_and(|one| *one == uid)
        };
        let latest = known.into_iter().flat_map(UpstreamLedger::latest);
        let said: Vec<&Sample> = latest.filter(is_there).map(|(_, sample)| sample).collect();
        let totals = known.map(UpstreamLedger::totals).unwrap_or_default();
        let rates = known.and_then(|upstream| upstream.rates(now.instant));
        upstream::row(configured, &said, there.len(), &totals, rates)
    };
    target.fleet.upstreams.iter().map(row).collect()
}

fn node_status(node: &Node, registry: &Registry, ledger: &Ledger, now: Now) -> NodeStatus {
    let latest = ledger.latest(node.identity.uid);
    let sync = registry.sync(node, now.instant);
    let refused = node.refused.as_ref();
    NodeStatus {
        node: node.identity.clone(),
        state: node.state(now.instant),
        sync,
        applied: node.applied.clone(),
        rejected: refused.map(|refusal| refusal.version.clone()),
        rejections: refused
            .filter(|_| sync == SyncState::Rejected)
            .map(|refusal| refusal.rejections.clone())
            .unwrap_or_default(),
        connected_at: node.connected_at,
        last_heard: node.last_heard,
        clock_skew_nanos: node.clock_skew,
        last_apply_time: node.last_apply_time,
        drain: registry.drain(&node.identity.node_id).cloned(),
        sessions: latest.as_ref().map(|latest| latest.sessions),
        resident_bytes: latest.as_ref().and_then(|latest| latest.resident_bytes),
        upstreams: latest.map(|latest| latest.upstreams.into_iter().cloned().collect()).unwrap_or_default(),
    }
}
