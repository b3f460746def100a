//! What a node tells operators over HTTP. What each route answers is written down in `docs/api.md`.

mod settings;
mod state;
mod stats;

use super::{
    Options,
    node::{Node, resident_bytes},
};
use crate::{
    context::Context,
    control::{self, AppliedVersion, Link, LinkStatus},
    failover::{self, log::Log},
    metrics::Sample,
    stores::{Gate, Source},
};
use http::StatusCode;
use o1_process::{Admin, admin::AdminReply, build_info::VERSION};
use o1_proto::model::{self, FailoverFigures, Store};
use serde::Serialize;
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Where the facts are read from, each time they are asked for.
#[derive(Clone)]
pub(super) struct Facts(Arc<Inner>);

struct Inner {
    options: Options,
    node: Arc<Node>,
    log: Arc<Log>,
    listen: SocketAddr,
    admin: SocketAddr,
    context: Context,
    failover: Arc<failover::Failover>,
    link: Link,
    started: SystemTime,
}

/// What the facts are read from.
type Parts<'a> = (&'a Context, &'a Arc<Node>, &'a Arc<failover::Failover>, &'a Arc<Log>);

impl Facts {
    pub(super) fn new(
        options: &Options,
        (listen, admin): (SocketAddr, SocketAddr),
        (context, node, failover, log): Parts<'_>,
        link: &Link,
    ) -> Self {
        Self(Arc::new(Inner {
            options: options.clone(),
            node: node.clone(),
            log: log.clone(),
            listen,
            admin,
            context: context.clone(),
            failover: failover.clone(),
            link: link.clone(),
            started: SystemTime::now(),
        }))
    }
}

pub(super) fn routes(admin: Admin, facts: &Facts) -> Admin {
    let with = |answer: fn(&Inner) -> AdminReply| {
        let facts = facts.clone();
        move || answer(&facts.0)
    };
    admin
        .route("/health", with(|facts| AdminReply::json(StatusCode::OK, &Health::of(facts))))
        .route("/status", with(|facts| AdminReply::json(StatusCode::OK, &Status::of(facts))))
        .route("/stats", with(|facts| AdminReply::json(StatusCode::OK, &stats(facts))))
        .route("/state", with(|facts| AdminReply::json(StatusCode::OK, &state::State::of(facts))))
        .route(
            "/settings",
            with(|facts| {
                let fleet = facts.node.fleet();
                AdminReply::json(StatusCode::OK, &settings::Settings::of(&facts.options, fleet.as_deref()))
            }),
        )
        .route("/metrics", with(|facts| AdminReply::metrics(facts.context.metrics.exposition())))
}

fn stats(facts: &Inner) -> stats::Stats {
    let link = facts.link.status();
    let connections = facts.context.metrics.connections.load(Ordering::Relaxed);
    stats::Stats::of(&facts.node, (&facts.options.node_id, link.node_uid, link.epoch), connections)
}

/// Whether the components work.
#[derive(Serialize)]
struct Health {
    /// `healthy`, `degraded` or `starting`.
    status: &'static str,
    ready: bool,
    draining: bool,
    /// What is not ready yet.
    pending: Vec<&'static str>,
    control_plane_connected: bool,
    upstreams_reachable: usize,
    upstreams_unreachable: usize,
    upstreams_unknown: usize,
    /// Of each upstream that has a backup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failover: Vec<Failover>,
}

impl Health {
    fn of(facts: &Inner) -> Self {
        let readiness = &facts.context.readiness;
        let link = facts.link.status();
        let count = |wanted: Option<bool>| {
            upstreams(facts).iter().filter(|(_, sample)| sample.reach.reachable == wanted).count()
        };
        let unreachable = count(Some(false));
        let failover = failovers(facts);
        let following = link.control_plane.is_none() || link.connected;
        let status = if !readiness.is_ready() {
            "starting"
        } else if unreachable > 0
            || !following
            || link.refused.is_some()
            || failover.iter().any(|one| one.away)
        {
            "degraded"
        } else {
            "healthy"
        };
        Self {
            status,
            ready: readiness.is_ready() && !readiness.is_draining(),
            draining: readiness.is_draining(),
            pending: readiness.pending(),
            control_plane_connected: link.connected,
            upstreams_reachable: count(Some(true)),
            upstreams_unreachable: unreachable,
            upstreams_unknown: count(None),
            failover,
        }
    }
}

/// What is happening now.
#[derive(Serialize)]
struct Status {
    node_id: String,
    node_uid: String,
    epoch: u64,
    version: &'static str,
    uptime_seconds: u64,
    listen: SocketAddr,
    admin: SocketAddr,
    draining: bool,
    sessions: i64,
    connections: i64,
    resident_bytes: Option<u64>,
    control_plane: ControlPlane,
    config: Option<Config>,
    refused: Option<Refused>,
    upstreams: Vec<Upstream>,
}

#[derive(Serialize)]
struct ControlPlane {
    address: Option<String>,
    version: Option<String>,
    connected: bool,
    since_unix_seconds: u64,
    last_error: Option<String>,
}

#[derive(Serialize)]
struct Config {
    generation: u64,
    revision: u64,
    root_digest: String,
    durable: bool,
    since_unix_seconds: u64,
}

#[derive(Serialize)]
struct Refused {
    generation: u64,
    revision: u64,
    reasons: Vec<String>,
}

#[derive(Serialize)]
struct Upstream {
    name: String,
    /// Absent: nothing was tried yet.
    reachable: Option<bool>,
    since_unix_seconds: Option<u64>,
    error: Option<String>,
    legacy: bool,
    modern: bool,
    tools: Option<u32>,
    requests: u64,
    errors: u64,
    timeouts: u64,
    application_errors: u64,
    active_requests: u64,
    received_bytes: u64,
    sent_bytes: u64,
    /// Absent: it has no backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    failover: Option<Failover>,
}

/// Where an upstream that has a backup stands.
#[derive(Serialize)]
struct Failover {
    upstream: String,
    /// `primary`, `backup` or `snapshot`.
    active_store: &'static str,
    phase: &'static str,
    term: u64,
    /// What the node did by itself after `term`.
    local_term: u64,
    /// Absent: the primary answers.
    since_unix_seconds: Option<u64>,
    primary: StoreHealth,
    backup: StoreHealth,
    /// Writes that wait for the primary.
    journal_pending: u64,
    /// Writes that it refused for good.
    dead_letters: u64,
    /// Why an order is not followed, or what is waited for.
    message: Option<String>,
    /// The node's own account.
    stats: FailoverFigures,
    #[serde(skip)]
    away: bool,
}

#[derive(Serialize)]
struct StoreHealth {
    /// `healthy`, `unhealthy` or `unknown`.
    verdict: &'static str,
    /// `closed`, `half-open` or `open`.
    breaker: &'static str,
    since_unix_seconds: Option<u64>,
    error: Option<String>,
}

impl Failover {
    fn of(upstream: &crate::plan::Upstream, gate: &Gate, state: &model::FailoverState) -> Self {
        let standing = gate.standing();
        Self {
            upstream: upstream.name.clone(),
            active_store: Source::of(standing.active, upstream).word(),
            phase: standing.phase.word(),
            term: standing.term,
            local_term: standing.local_term,
            since_unix_seconds: standing.since.map(unix),
            primary: StoreHealth::of(gate.health(Store::Primary).now()),
            backup: StoreHealth::of(gate.health(Store::Backup).now()),
            journal_pending: state.journal_pending,
            dead_letters: state.dead_letters,
            message: Some(state.message.clone()).filter(|message| !message.is_empty()),
            stats: FailoverFigures::of(&state.stats, state.stats.total_failover_time(SystemTime::now())),
            away: standing.is_away(),
        }
    }
}

impl StoreHealth {
    fn of(health: model::StoreHealth) -> Self {
        Self {
            verdict: health.verdict.word(),
            breaker: health.breaker.word(),
            since_unix_seconds: health.since.map(unix),
            error: Some(health.error).filter(|error| !error.is_empty()),
        }
    }
}

impl Status {
    fn of(facts: &Inner) -> Self {
        let link = facts.link.status();
        let metrics = &facts.context.metrics;
        Self {
            node_id: facts.options.node_id.clone(),
            node_uid: link.node_uid.clone(),
            epoch: link.epoch,
            version: VERSION,
            uptime_seconds: facts.started.elapsed().unwrap_or_default().as_secs(),
            listen: facts.listen,
            admin: facts.admin,
            draining: facts.context.readiness.is_draining(),
            sessions: metrics.sessions.load(Ordering::Relaxed),
            connections: metrics.connections.load(Ordering::Relaxed),
            resident_bytes: resident_bytes(),
            config: link.applied.as_ref().map(Config::of),
            refused: link.refused.clone().map(Refused::of),
            control_plane: ControlPlane::of(link),
            upstreams: {
                let mut failovers = failovers(facts);
                let of = |(name, sample): (String, Sample)| {
                    let at = failovers.iter().position(|one| one.upstream == name);
                    let failover = at.map(|at| failovers.swap_remove(at));
                    Upstream::of(name, sample, failover)
                };
                upstreams(facts).into_iter().map(of).collect()
            },
        }
    }
}

impl ControlPlane {
    fn of(link: LinkStatus) -> Self {
        Self {
            address: link.control_plane,
            version: link.control_plane_version,
            connected: link.connected,
            since_unix_seconds: unix(link.since),
            last_error: link.last_error,
        }
    }
}

impl Config {
    fn of(applied: &control::Applied) -> Self {
        Self {
            generation: applied.version.generation,
            revision: applied.version.revision,
            root_digest: digest(&applied.version),
            durable: applied.durable,
            since_unix_seconds: unix(applied.since),
        }
    }
}

impl Refused {
    fn of(refused: control::RefusedVersion) -> Self {
        Self {
            generation: refused.version.generation,
            revision: refused.version.revision,
            reasons: refused.reasons,
        }
    }
}

impl Upstream {
    fn of(name: String, sample: Sample, failover: Option<Failover>) -> Self {
        Self {
            name,
            reachable: sample.reach.reachable,
            since_unix_seconds: sample.reach.since.map(unix),
            error: Some(sample.reach.error).filter(|error| !error.is_empty()),
            legacy: sample.legacy,
            modern: sample.modern,
            tools: sample.tools,
            requests: sample.requests,
            errors: sample.errors,
            timeouts: sample.timeouts,
            application_errors: sample.application_errors,
            active_requests: sample.active,
            received_bytes: sample.bytes_in,
            sent_bytes: sample.bytes_out,
            failover,
        }
    }
}

/// The upstreams of the plan in force.
fn upstreams(facts: &Inner) -> Vec<(String, Sample)> {
    let plan = facts.context.current.plan();
    let served = |(name, _): &(String, Sample)| plan.upstream(name).is_some();
    facts.context.metrics.samples().into_iter().filter(served).collect()
}

/// Where each upstream of the plan in force stands that has a backup.
fn failovers(facts: &Inner) -> Vec<Failover> {
    let plan = facts.context.current.plan();
    let with_backup = plan.upstreams.iter().filter(|one| one.backup.is_some());
    let one = |one: &Arc<crate::plan::Upstream>| {
        let state = facts.failover.state(&one.name).unwrap_or_default();
        Failover::of(one, &facts.context.stores.gate(&one.name), &state)
    };
    with_backup.map(one).collect()
}

fn digest(version: &AppliedVersion) -> String {
    version.root_digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan,
        stores::{Standing, Stores},
    };
    use o1_proto::model::{BreakerState, Phase, Verdict};
    use std::time::Duration;

    #[test]
    fn an_upstream_with_a_backup_says_where_it_stands_and_how_both_stores_are() {
        let upstream =
            plan::Upstream { backup: Some(plan::Backup::Snapshot), ..plan::Upstream::bare("files") };
        let gate = Stores::default().gate("files");
        let home =
            serde_json::to_value(Failover::of(&upstream, &gate, &model::FailoverState::default())).unwrap();
        assert_eq!((&home["active_store"], &home["phase"]), (&"primary".into(), &"primary".into()));
        let since = Some(UNIX_EPOCH + Duration::from_secs(9));
        let (active, phase) = (Store::Backup, Phase::SyncingBack);
        gate.set(Standing { active, reads: active, phase, since, term: 3, ..Standing::default() });
        let down = model::StoreHealth {
            verdict: Verdict::Unhealthy,
            breaker: BreakerState::HalfOpen,
            since,
            error: "refused".into(),
            ..model::StoreHealth::default()
        };
        gate.health(Store::Primary).tell(down);
        let away = Failover::of(&upstream, &gate, &model::FailoverState::default());
        assert!(away.away);
        let mut away = serde_json::to_value(away).unwrap();
        let stats = away["stats"].take();
        assert_eq!((&stats["failover_count"], &stats["active_store"]), (&0.into(), &"primary".into()));
        assert_eq!(
            away,
            serde_json::json!({
                "upstream": "files", "active_store": "snapshot", "phase": "syncing_back", "term": 3,
                "local_term": 0, "since_unix_seconds": 9, "journal_pending": 0, "dead_letters": 0,
                "message": null, "stats": null,
                "primary": { "verdict": "unhealthy", "breaker": "half-open", "since_unix_seconds": 9, "error": "refused" },
                "backup": { "verdict": "unknown", "breaker": "closed", "since_unix_seconds": null, "error": null },
            })
        );
    }
}
