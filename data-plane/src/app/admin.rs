//! What a node tells operators over HTTP.

use super::{Options, node::resident_bytes};
use crate::{
    context::Context,
    control::{AppliedVersion, Link},
    metrics::Sample,
};
use http::StatusCode;
use o1_process::{Admin, admin::AdminReply, build_info::VERSION};
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
    node_id: String,
    listen: SocketAddr,
    admin: SocketAddr,
    context: Context,
    link: Link,
    started: SystemTime,
}

impl Facts {
    pub(super) fn new(
        options: &Options,
        listen: SocketAddr,
        admin: SocketAddr,
        context: &Context,
        link: &Link,
        started: SystemTime,
    ) -> Self {
        let (node_id, context, link) = (options.node_id.clone(), context.clone(), link.clone());
        Self(Arc::new(Inner { node_id, listen, admin, context, link, started }))
    }
}

pub(super) fn routes(admin: Admin, facts: Facts) -> Admin {
    let (health, status, metrics) = (facts.clone(), facts.clone(), facts);
    admin
        .route("/health", move || AdminReply::json(StatusCode::OK, &Health::of(&health.0)))
        .route("/status", move || AdminReply::json(StatusCode::OK, &Status::of(&status.0)))
        .route("/metrics", move || AdminReply::metrics(metrics.0.context.metrics.exposition()))
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
}

impl Health {
    fn of(facts: &Inner) -> Self {
        let readiness = &facts.context.readiness;
        let link = facts.link.status();
        let count = |wanted: Option<bool>| {
            upstreams(facts).iter().filter(|(_, sample)| sample.reach.reachable == wanted).count()
        };
        let unreachable = count(Some(false));
        let following = link.control_plane.is_none() || link.connected;
        let status = if !readiness.is_ready() {
            "starting"
        } else if unreachable > 0 || !following || link.refused.is_some() {
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
}

impl Status {
    fn of(facts: &Inner) -> Self {
        let link = facts.link.status();
        let metrics = &facts.context.metrics;
        Self {
            node_id: facts.node_id.clone(),
            node_uid: link.node_uid,
            epoch: link.epoch,
            version: VERSION,
            uptime_seconds: facts.started.elapsed().unwrap_or_default().as_secs(),
            listen: facts.listen,
            admin: facts.admin,
            draining: facts.context.readiness.is_draining(),
            sessions: metrics.sessions.load(Ordering::Relaxed),
            connections: metrics.connections.load(Ordering::Relaxed),
            resident_bytes: resident_bytes(),
            control_plane: ControlPlane {
                address: link.control_plane,
                version: link.control_plane_version,
                connected: link.connected,
                since_unix_seconds: unix(link.since),
                last_error: link.last_error,
            },
            config: link.applied.map(|applied| Config {
                generation: applied.version.generation,
                revision: applied.version.revision,
                root_digest: digest(&applied.version),
                durable: applied.durable,
                since_unix_seconds: unix(applied.since),
            }),
            refused: link.refused.map(|refused| Refused {
                generation: refused.version.generation,
                revision: refused.version.revision,
                reasons: refused.reasons,
            }),
            upstreams: upstreams(facts)
                .into_iter()
                .map(|(name, sample)| Upstream::of(name, sample))
                .collect(),
        }
    }
}

impl Upstream {
    fn of(name: String, sample: Sample) -> Self {
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
        }
    }
}

/// The upstreams of the plan in force.
fn upstreams(facts: &Inner) -> Vec<(String, Sample)> {
    let plan = facts.context.current.plan();
    let served = |(name, _): &(String, Sample)| plan.upstream(name).is_some();
    facts.context.metrics.samples().into_iter().filter(served).collect()
}

fn digest(version: &AppliedVersion) -> String {
    version.root_digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
