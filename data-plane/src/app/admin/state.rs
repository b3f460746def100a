//! The inside of the node, for a person who looks for a fault: what it is connected to, which plan serves, where each
//! upstream stands and what waits. Not a contract: fields come and go with the code.

use super::{Config, ControlPlane, Failover, Inner, Refused, failovers, unix, upstreams};
use crate::{
    metrics::{Sample, WatchedSample},
    snapshot,
    stores::Barrier,
};
use o1_proto::model::Store;
use serde::Serialize;
use std::{collections::BTreeMap, time::SystemTime};

const BREAKERS: [&str; 3] = ["closed", "half-open", "open"];

#[derive(Serialize)]
pub(super) struct State {
    as_of_unix_seconds: u64,
    ready: bool,
    draining: bool,
    waiting_for: Vec<&'static str>,
    control_plane: ControlPlane,
    config: Option<Config>,
    refused: Option<Refused>,
    /// What calls are served by. It differs from `config` only while a plan is being exchanged.
    plan: Plan,
    events: Events,
    /// Calls that this gateway answered with a failure, by kind.
    failures: BTreeMap<&'static str, u64>,
    sessions: i64,
    connections: i64,
    upstreams: Vec<Upstream>,
}

#[derive(Serialize)]
struct Plan {
    generation: Option<u64>,
    revision: Option<u64>,
    upstreams: usize,
    servers: usize,
}

/// The durable log of events on its way to the control plane.
#[derive(Serialize)]
struct Events {
    newest_seq: Option<u64>,
    oldest_kept_seq: Option<u64>,
    /// False: the disk refused the log, and the node serves by what it knows.
    log_is_sound: bool,
}

#[derive(Serialize)]
struct Upstream {
    name: String,
    reachable: Option<bool>,
    error: Option<String>,
    active_requests: u64,
    endpoints: Vec<Endpoint>,
    /// Absent: it has no backup.
    failover: Option<Failover>,
    gate: Gate,
    /// Absent: nothing was ever written.
    snapshot: Option<Snapshot>,
}

#[derive(Serialize)]
struct Endpoint {
    endpoint: String,
    store: &'static str,
    /// Absent: nothing is known.
    healthy: Option<bool>,
    breaker: &'static str,
    breaker_opened: u64,
    in_flight: u64,
    waiting: u64,
    ejected: bool,
}

/// Where calls go.
#[derive(Serialize)]
struct Gate {
    reads: &'static str,
    writes: &'static str,
    held_back: &'static str,
}

#[derive(Serialize)]
struct Snapshot {
    written_at_unix_seconds: u64,
    bytes: u64,
    entries: usize,
    usable: bool,
    problem: Option<String>,
}

impl State {
    pub(super) fn of(facts: &Inner) -> Self {
        let link = facts.link.status();
        let (readiness, metrics) = (&facts.context.readiness, &facts.context.metrics);
        let plan = facts.context.current.plan();
        let version = plan.version.as_ref();
        let mut failovers = failovers(facts);
        let row = |(name, sample): (String, Sample)| {
            let at = failovers.iter().position(|one| one.upstream == name);
            let failover = at.map(|at| failovers.swap_remove(at));
            Upstream::of(facts, name, &sample, failover)
        };
        Self {
            as_of_unix_seconds: unix(SystemTime::now()),
            ready: readiness.is_ready() && !readiness.is_draining(),
            draining: readiness.is_draining(),
            waiting_for: readiness.pending(),
            plan: Plan {
                generation: version.map(|version| version.generation),
                revision: version.map(|version| version.revision),
                upstreams: plan.upstreams.len(),
                servers: plan.servers.len(),
            },
            events: Events {
                newest_seq: facts.log.newest().map(|(_, seq)| seq),
                oldest_kept_seq: facts.log.oldest().map(|(_, seq)| seq),
                log_is_sound: *facts.log.is_sound().borrow(),
            },
            failures: metrics.failures(),
            sessions: metrics.sessions.load(std::sync::atomic::Ordering::Relaxed),
            connections: metrics.connections.load(std::sync::atomic::Ordering::Relaxed),
            upstreams: upstreams(facts).into_iter().map(row).collect(),
            config: link.applied.as_ref().map(Config::of),
            refused: link.refused.clone().map(Refused::of),
            control_plane: ControlPlane::of(link),
        }
    }
}

impl Upstream {
    fn of(facts: &Inner, name: String, sample: &Sample, failover: Option<Failover>) -> Self {
        let standing = facts.context.stores.gate(&name).standing();
        let held_back = match standing.barrier {
            Barrier::Open => "nothing",
            Barrier::Writes => "writes",
            Barrier::Everything => "everything",
        };
        let gate = Gate { reads: standing.reads.word(), writes: standing.active.word(), held_back };
        let endpoint = |((store, label), watched): (&(Store, String), &WatchedSample)| {
            let counted = sample.endpoints.get(label).copied().unwrap_or_default();
            Endpoint {
                endpoint: label.clone(),
                store: store.word(),
                healthy: watched.healthy,
                breaker: usize::try_from(watched.breaker)
                    .ok()
                    .and_then(|at| BREAKERS.get(at))
                    .unwrap_or(&"?"),
                breaker_opened: watched.opened,
                in_flight: counted.in_flight,
                waiting: counted.waiting,
                ejected: counted.ejected,
            }
        };
        Self {
            reachable: sample.reach.reachable,
            error: Some(sample.reach.error.clone()).filter(|error| !error.is_empty()),
            active_requests: sample.active,
            endpoints: sample.watched.iter().map(endpoint).collect(),
            failover,
            gate,
            snapshot: Snapshot::of(facts, &name),
            name,
        }
    }
}

impl Snapshot {
    fn of(facts: &Inner, name: &str) -> Option<Self> {
        let info = facts.context.snapshots.info(name)?;
        let problem = match facts.context.snapshots.state(name) {
            snapshot::State::Unusable(why) => Some(why),
            snapshot::State::Absent | snapshot::State::Usable => None,
        };
        Some(Self {
            written_at_unix_seconds: unix(info.written_at),
            bytes: info.bytes,
            entries: info.entries,
            usable: problem.is_none(),
            problem,
        })
    }
}
