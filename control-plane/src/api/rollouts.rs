//! How a revision reaches the nodes, as those see it who watch: pictures until it is over.

use super::{encode, errors, pace::Pace};
use crate::{
    clock::Now,
    fleet::{Hub, NodeProgress, Progress, Refuser, RolloutState, Standing},
    store::{RevisionHeader, Store},
};
use futures_util::{Stream, stream};
use o1_proto::{
    convert::{self, from_system_time},
    wire,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// The time between two pictures when the caller does not say.
const DEFAULT: Duration = Duration::from_millis(500);
/// Nodes of one picture.
const NODES: usize = 100;

/// Pictures of the rollout of a revision.
///
/// # Errors
/// There is no such revision.
pub(super) async fn watch(
    hub: Arc<Hub>,
    store: Arc<dyn Store>,
    stop: CancellationToken,
    request: wire::WatchRolloutRequest,
) -> Result<impl Stream<Item = Result<wire::WatchRolloutResponse, Status>> + use<>, Status> {
    let interval = convert::duration_or(request.min_interval.as_ref(), DEFAULT);
    let latest = store.revisions(None, 1).await.map_err(|error| errors::store(&error))?;
    let latest = latest.first().map_or(0, |header| header.version.revision);
    let revision = if request.revision == 0 { latest } else { request.revision };
    if revision == 0 || revision > latest {
        return Err(errors::no_revision(revision));
    }
    let watch = Watch { pace: Pace::new(hub.changes(), interval), hub, store, stop, revision };
    Ok(stream::unfold(Some(watch), Watch::next))
}

/// One watcher.
struct Watch {
    hub: Arc<Hub>,
    store: Arc<dyn Store>,
    stop: CancellationToken,
    revision: u64,
    pace: Pace,
}

impl Watch {
    /// The next picture. `None` as the state: it is the last one.
    async fn next(this: Option<Self>) -> Option<(Result<wire::WatchRolloutResponse, Status>, Option<Self>)> {
        let mut this = this?;
        let stop = this.stop.clone();
        let heartbeat = tokio::select! {
            heartbeat = this.pace.wait() => heartbeat,
            () = stop.cancelled() => return Some((Err(errors::stopping()), None)),
        };
        let shows = this.pace.shows();
        this.pace.sent(Instant::now(), shows);
        let rollout = match this.picture().await {
            Ok(rollout) => rollout,
            Err(status) => return Some((Err(status), None)),
        };
        let over = is_over(rollout.state());
        let response = wire::WatchRolloutResponse { rollout: Some(rollout), heartbeat };
        Some((Ok(response), (!over).then_some(this)))
    }

    async fn picture(&self) -> Result<wire::Rollout, Status> {
        let progress = self.hub.look(|registry, _| registry.progress(Now::read().instant));
        if let Some(progress) = progress.as_ref().filter(|one| one.version.revision == self.revision) {
            return Ok(live(progress));
        }
        // What is not being rolled out is in the history; what takes a revision back is the next one.
        let found = self.store.revisions(self.revision.checked_add(2), 2).await;
        let found = found.map_err(|error| errors::store(&error))?;
        let header = found.iter().find(|header| header.version.revision == self.revision);
        let header = header.ok_or_else(|| errors::no_revision(self.revision))?;
        let undoing = found.iter().find(|header| header.undoes == Some(self.revision));
        Ok(kept(header, undoing, progress.as_ref()))
    }
}

fn is_over(state: wire::RolloutState) -> bool {
    !matches!(state, wire::RolloutState::Running | wire::RolloutState::RollingBack)
}

/// As the fleet has it.
fn live(progress: &Progress) -> wire::Rollout {
    let stopped = progress.state == RolloutState::RollingBack;
    let mut nodes: Vec<&NodeProgress> = progress.nodes.iter().collect();
    nodes.sort_by_key(|node| match node.standing {
        Standing::Refused => 0,
        Standing::Silent => 1,
        Standing::Sent => 2,
        Standing::Waiting => 3,
        Standing::Away => 4,
        Standing::Applied => 5,
    });
    wire::Rollout {
        version: Some(encode::version(&progress.version)),
        base: progress.base.as_ref().map(encode::version),
        state: encode::rollout_state(progress.state).into(),
        started_at: Some(from_system_time(progress.began)),
        ended_at: progress.ended.filter(|_| progress.state.is_over()).map(from_system_time),
        nodes: nodes.iter().take(NODES).map(|one| node(one)).collect(),
        nodes_left_off: count(nodes.len().saturating_sub(NODES)),
        because: if stopped { progress.report().to_string() } else { String::new() },
        ..counted(progress)
    }
}

/// As the history has it. Where it was taken back, the numbers are those of the way back, which `present` may show.
fn kept(
    header: &RevisionHeader,
    undoing: Option<&RevisionHeader>,
    present: Option<&Progress>,
) -> wire::Rollout {
    let back = present.filter(|one| undoing.is_some_and(|undoing| undoing.version == one.version));
    let is_on_its_way = back.is_some_and(|back| !back.state.is_over());
    let state = match header.rollout {
        RolloutState::RolledBack if is_on_its_way => RolloutState::RollingBack,
        state => state,
    };
    let report = &header.report;
    let counted = back.map_or_else(wire::Rollout::default, counted);
    let refused = count(report.refused.len());
    wire::Rollout {
        version: Some(encode::version(&header.version)),
        state: encode::rollout_state(state).into(),
        started_at: Some(from_system_time(header.created_at)),
        applied: if undoing.is_some() { counted.applied } else { report.applied },
        refused,
        silent: count(report.silent.len()),
        nodes: report.refused.iter().map(refuser).collect(),
        nodes_left_off: 0,
        rolled_back_to: undoing.map(|undoing| encode::version(&undoing.version)),
        because: if undoing.is_some() { report.to_string() } else { String::new() },
        ..counted
    }
}

/// The present wave and the nodes by where they stand.
fn counted(progress: &Progress) -> wire::Rollout {
    wire::Rollout {
        wave: progress.wave,
        waves: progress.waves,
        waiting: progress.count(Standing::Waiting),
        sent: progress.count(Standing::Sent),
        applied: progress.count(Standing::Applied),
        refused: progress.count(Standing::Refused),
        silent: progress.count(Standing::Silent),
        away: progress.count(Standing::Away),
        ..wire::Rollout::default()
    }
}

fn node(node: &NodeProgress) -> wire::RolloutNode {
    let standing = match node.standing {
        Standing::Waiting => wire::RolloutStanding::Waiting,
        Standing::Sent => wire::RolloutStanding::Sent,
        Standing::Applied => wire::RolloutStanding::Applied,
        Standing::Refused => wire::RolloutStanding::Refused,
        Standing::Silent => wire::RolloutStanding::Silent,
        Standing::Away => wire::RolloutStanding::Away,
    };
    wire::RolloutNode {
        node_id: node.node_id.clone(),
        node_uid: node.uid.as_bytes().to_vec(),
        standing: standing.into(),
        wave: node.wave.unwrap_or_default(),
        rejections: node.rejections.iter().cloned().map(encode::rejection).collect(),
    }
}

fn refuser(refuser: &Refuser) -> wire::RolloutNode {
    wire::RolloutNode {
        node_id: refuser.node_id.clone(),
        standing: wire::RolloutStanding::Refused.into(),
        rejections: refuser.rejections.iter().cloned().map(encode::rejection).collect(),
        ..wire::RolloutNode::default()
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
