//! The inside of the process, for a person who looks for a fault: what waits where, who is told what, and why nothing
//! is decided. Not a contract: fields come and go with the code.

use crate::{
    clock::Now,
    config::Version,
    fleet::{Hub, Node, NodeState, NodeUid, Progress, RolloutState, Standing, SyncState},
    health::{Decisions, FailoverStatus, Moment, NodeFailover},
    status::{
        Board, failover,
        time::{rfc3339, rfc3339_opt},
    },
};
use serde::Serialize;
use std::time::SystemTime;

/// Nodes of a rollout that are listed, those that stand in its way first.
const ROLLOUT_NODES: usize = 100;

#[derive(Serialize)]
pub(super) struct State {
    #[serde(serialize_with = "rfc3339")]
    as_of: SystemTime,
    queues: Queues,
    target: Option<Version>,
    /// The next revision is of this generation at least.
    generation_floor: u64,
    rollout: Option<Rollout>,
    decisions: Deciding,
    nodes: Vec<NodeRow>,
}

/// What is open, and what waits for the disk. Each is bounded.
#[derive(Serialize)]
struct Queues {
    node_streams: usize,
    questions_to_nodes: usize,
    node_records_to_write: usize,
    decision_records_to_write: usize,
    operator_answers_to_write: usize,
    decisions_to_write: usize,
    decisions_to_log: usize,
}

#[derive(Serialize)]
struct Rollout {
    version: Version,
    base: Option<Version>,
    state: RolloutState,
    wave: u32,
    waves: u32,
    #[serde(serialize_with = "rfc3339")]
    began: SystemTime,
    #[serde(serialize_with = "rfc3339_opt")]
    ended: Option<SystemTime>,
    nodes: Vec<RolloutNode>,
    nodes_left_off: usize,
}

#[derive(Serialize)]
struct RolloutNode {
    node_id: String,
    standing: Standing,
    wave: Option<u32>,
    refused_because: Vec<String>,
}

#[derive(Serialize)]
struct Deciding {
    state: &'static str,
    because: String,
    maintenance: bool,
    #[serde(serialize_with = "rfc3339_opt")]
    maintenance_until: Option<SystemTime>,
    maintenance_reason: String,
    /// Of each upstream that has a backup.
    upstreams: Vec<UpstreamRow>,
}

#[derive(Serialize)]
struct UpstreamRow {
    name: String,
    #[serde(serialize_with = "failover")]
    failover: Option<FailoverStatus>,
    nodes: Vec<NodeSaid>,
}

#[derive(Serialize)]
struct NodeSaid {
    node_id: String,
    connected: bool,
    #[serde(serialize_with = "rfc3339")]
    heard_at: SystemTime,
    active: &'static str,
    phase: &'static str,
    term: u64,
    local_term: u64,
    journal_pending: u64,
    message: String,
}

#[derive(Serialize)]
struct NodeRow {
    node_id: String,
    node_uid: NodeUid,
    epoch: u64,
    state: NodeState,
    sync: SyncState,
    stream: bool,
    applied: Option<Version>,
    refused: Option<Version>,
    /// Sent and not answered, and for how long.
    update: Option<Version>,
    update_for_seconds: Option<f64>,
    clock_skew_nanos: Option<i64>,
    #[serde(serialize_with = "rfc3339_opt")]
    last_heard: Option<SystemTime>,
    /// Whether it does everything it was told about failovers.
    follows: bool,
}

impl State {
    pub(super) fn of(board: &Board, hub: &Hub, now: Now) -> Self {
        let names: Vec<String> = board
            .running()
            .map(|running| running.fleet.upstreams.iter().map(|one| one.name.clone()).collect())
            .unwrap_or_default();
        let (target, decisions, nodes) = hub.look_at_all(now, |registry, _, decisions, moment| {
            let row = |node| NodeRow::of(node, registry.sync(node, now.instant), decisions, now);
            (
                registry.target().map(|target| target.version.clone()),
                Deciding::of(decisions, &names, moment),
                registry.remembered().map(row).collect(),
            )
        });
        let generation_floor = *hub.generation_floor().borrow();
        let rollout = board.progress(now).map(Rollout::of);
        Self { as_of: now.wall, queues: Queues::of(hub), target, generation_floor, rollout, decisions, nodes }
    }
}

impl Queues {
    fn of(hub: &Hub) -> Self {
        let (node_streams, questions_to_nodes) = hub.open();
        let (records, answers, decided) = hub.decision_log().waits();
        Self {
            node_streams,
            questions_to_nodes,
            node_records_to_write: hub.records().len(),
            decision_records_to_write: records,
            operator_answers_to_write: answers,
            decisions_to_write: decided,
            decisions_to_log: hub.decided().len(),
        }
    }
}

impl Rollout {
    fn of(progress: Progress) -> Self {
        let mut nodes = progress.nodes;
        nodes.sort_by_key(|node| match node.standing {
            Standing::Refused => 0,
            Standing::Silent => 1,
            Standing::Sent => 2,
            Standing::Waiting => 3,
            Standing::Away => 4,
            Standing::Applied => 5,
        });
        let nodes_left_off = nodes.len().saturating_sub(ROLLOUT_NODES);
        nodes.truncate(ROLLOUT_NODES);
        let nodes = nodes.into_iter().map(|node| RolloutNode {
            node_id: node.node_id,
            standing: node.standing,
            wave: node.wave,
            refused_because: node.rejections.iter().map(ToString::to_string).collect(),
        });
        Self {
            version: progress.version,
            base: progress.base,
            state: progress.state,
            wave: progress.wave,
            waves: progress.waves,
            began: progress.began,
            ended: progress.ended,
            nodes: nodes.collect(),
            nodes_left_off,
        }
    }
}

impl Deciding {
    fn of(decisions: &Decisions, upstreams: &[String], moment: Moment) -> Self {
        let row = |name: &String| {
            let mut status = decisions.status(name, moment)?;
            let nodes = std::mem::take(&mut status.nodes).into_iter().map(NodeSaid::of).collect();
            Some(UpstreamRow { name: name.clone(), failover: Some(status), nodes })
        };
        let maintenance = decisions.maintenance();
        Self {
            state: decisions.state().word(),
            because: decisions.because().to_owned(),
            maintenance: maintenance.on,
            maintenance_until: maintenance.until,
            maintenance_reason: maintenance.reason.clone(),
            upstreams: upstreams.iter().filter_map(row).collect(),
        }
    }
}

impl NodeSaid {
    fn of(node: NodeFailover) -> Self {
        Self {
            node_id: node.node_id,
            connected: node.connected,
            heard_at: node.heard_at,
            active: node.state.active.word(),
            phase: node.state.phase.word(),
            term: node.state.term,
            local_term: node.state.local_term,
            journal_pending: node.state.journal_pending,
            message: node.state.message,
        }
    }
}

impl NodeRow {
    fn of(node: &Node, sync: SyncState, decisions: &Decisions, now: Now) -> Self {
        let update = node.update();
        let since = update.map(|(_, since)| now.instant.saturating_duration_since(since).as_secs_f64());
        Self {
            node_id: node.identity.node_id.clone(),
            node_uid: node.identity.uid,
            epoch: node.identity.epoch,
            state: node.state(now.instant),
            sync,
            stream: node.is_streaming(),
            applied: node.applied.clone(),
            refused: node.refused.as_ref().map(|refusal| refusal.version.clone()),
            update: update.map(|(version, _)| version.clone()),
            update_for_seconds: since,
            clock_skew_nanos: node.clock_skew,
            last_heard: node.last_heard,
            follows: decisions.follows(node.identity.uid.as_bytes()),
        }
    }
}
