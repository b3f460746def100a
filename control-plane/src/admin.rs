//! What operators and their tools ask over HTTP: the same facts as the API, as JSON and as metrics.

use crate::{
    clock::Now,
    status::{Board, FleetStatus, NodeStatus, UpstreamStatus},
};
use http::StatusCode;
use o1_process::{Admin, AdminReply, Exposition, Readiness};
use serde::Serialize;
use std::time::SystemTime;

/// The routes of the admin server.
#[must_use]
pub fn routes(board: Board, readiness: Readiness) -> Admin {
    let (health, status, metrics) = (board.clone(), board.clone(), board);
    let ready = readiness.clone();
    Admin::new("o1-control-plane", readiness)
        .route("/health", move || {
            let report = self::health(&health.fleet(Now::read()), &ready);
            let code = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            AdminReply::json(code, &report)
        })
        .route("/status", move || {
            let now = Now::read();
            let (nodes, _) = status.nodes(now, None, usize::MAX);
            AdminReply::json(StatusCode::OK, &Status { fleet: status.fleet(now), nodes })
        })
        .route("/metrics", move || AdminReply::metrics(exposition(&metrics.fleet(Now::read()))))
}

#[derive(Serialize)]
struct Status {
    fleet: FleetStatus,
    nodes: Vec<NodeStatus>,
}

/// Whether the components work. Degraded is still of use: what runs goes on running.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Health {
    status: &'static str,
    ready: bool,
    checks: Vec<Check>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    what: String,
}

fn health(fleet: &FleetStatus, readiness: &Readiness) -> Health {
    let ready = readiness.is_ready();
    let process = Check {
        name: "process",
        ok: ready,
        what: match (readiness.is_draining(), ready) {
            (true, _) => "stopping".to_owned(),
            (false, true) => "serving".to_owned(),
            (false, false) => format!("waiting for {}", readiness.pending().join(", ")),
        },
    };
    let control_plane = &fleet.control_plane;
    let running = match &control_plane.target {
        Some(target) => format!("revision {} runs", target.version),
        None => "nothing was ever accepted".to_owned(),
    };
    let source = &control_plane.source;
    let config = Check {
        name: "config",
        ok: control_plane.target.is_some() && !source.refused,
        what: match source.problems.as_slice() {
            [] => running,
            [first, rest @ ..] => {
                let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
                format!("{running}; the file is refused: {first}{more}")
            }
        },
    };
    let status = if process.ok && config.ok { "ok" } else { "degraded" };
    Health { status, ready, checks: vec![process, config] }
}

fn exposition(fleet: &FleetStatus) -> Exposition {
    const NONE: [(&str, &str); 0] = [];
    let mut out = Exposition::new();
    let control_plane = &fleet.control_plane;
    let uptime = fleet.as_of.duration_since(control_plane.started_at).unwrap_or_default();
    out.gauge("o1_control_plane_uptime_seconds", "Time since the start.", &[(NONE, uptime.as_secs_f64())]);
    let target = control_plane.target.as_ref();
    let revision: Vec<_> = target.map(|target| (NONE, number(target.version.revision))).into_iter().collect();
    out.gauge("o1_control_plane_config_revision", "Revision that nodes should run.", &revision);
    let generation: Vec<_> =
        target.map(|target| (NONE, number(target.version.generation))).into_iter().collect();
    out.gauge("o1_control_plane_config_generation", "Generation that nodes should run.", &generation);
    out.gauge(
        "o1_control_plane_config_refused",
        "1 if the newest content of the configuration file is not what runs.",
        &[(NONE, if control_plane.source.refused { 1.0 } else { 0.0 })],
    );
    let checked = control_plane.source.checked_at.map(|at| (NONE, unix(at))).into_iter().collect::<Vec<_>>();
    let help = "When the configuration file was last looked at.";
    out.gauge("o1_control_plane_config_checked_timestamp_seconds", help, &checked);
    let nodes = fleet.nodes;
    let by = |label: &'static str,
              rows: &[(&'static str, u32)]|
     -> Vec<([(&'static str, &'static str); 1], f64)> {
        rows.iter().map(|(name, count)| ([(label, *name)], f64::from(*count))).collect()
    };
    let serving = nodes.connected - nodes.draining;
    let states = [("connected", serving), ("draining", nodes.draining), ("unreachable", nodes.unreachable)];
    out.gauge("o1_control_plane_nodes", "Nodes by state.", &by("state", &states));
    let syncs = [
        ("synced", nodes.synced),
        ("pending", nodes.pending),
        ("stale", nodes.stale),
        ("rejected", nodes.rejected),
        ("never", nodes.never),
    ];
    out.gauge("o1_control_plane_nodes_sync", "Connected nodes by what they run.", &by("sync", &syncs));
    upstreams(&mut out, fleet);
    out
}

fn upstreams(out: &mut Exposition, fleet: &FleetStatus) {
    type Read = fn(&UpstreamStatus) -> u64;
    let counters: [(&str, &str, Read); 6] = [
        ("requests", "Requests sent to the upstream.", |upstream| upstream.totals.requests),
        ("errors", "Requests without a usable answer.", |upstream| upstream.totals.errors),
        ("timeouts", "Errors that ran out of time.", |upstream| upstream.totals.timeouts),
        ("application_errors", "Answers that say that the call failed.", |upstream| {
            upstream.totals.application_errors
        }),
        ("received_bytes", "Bytes from the upstream.", |upstream| upstream.totals.bytes_in),
        ("sent_bytes", "Bytes to the upstream.", |upstream| upstream.totals.bytes_out),
    ];
    for (name, help, read) in counters {
        let name = format!("o1_control_plane_upstream_{name}_total");
        out.counter(&name, help, &rows(fleet, |upstream| number(read(upstream))));
    }
    out.gauge(
        "o1_control_plane_upstream_active_requests",
        "Requests in flight.",
        &rows(fleet, |upstream| number(upstream.active_requests)),
    );
    let mut nodes = Vec::new();
    for upstream in &fleet.upstreams {
        for (sees, count) in [
            ("reachable", upstream.nodes_reachable),
            ("unreachable", upstream.nodes_unreachable),
            ("unknown", upstream.nodes_unknown),
        ] {
            nodes.push(([("upstream", upstream.name.as_str()), ("sees", sees)], f64::from(count)));
        }
    }
    let help = "Connected nodes by what they last saw of the upstream.";
    out.gauge("o1_control_plane_upstream_nodes", help, &nodes);
}

fn rows(fleet: &FleetStatus, read: impl Fn(&UpstreamStatus) -> f64) -> Vec<([(&'static str, &str); 1], f64)> {
    fleet.upstreams.iter().map(|one| ([("upstream", one.name.as_str())], read(one))).collect()
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no integers; counts below 2^53 are exact")]
fn number(count: u64) -> f64 {
    count as f64
}
