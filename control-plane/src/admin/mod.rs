//! What operators and their tools ask over HTTP: the same facts as the API, as JSON and as metrics. What each route
//! answers is written down in `docs/api.md`.

mod settings;
mod state;
mod stats;

use crate::{
    args::Args,
    clock::Now,
    fleet::Hub,
    metrics,
    status::{Board, FleetStatus, NodeStatus},
};
use http::StatusCode;
use o1_process::{Admin, AdminReply, Readiness};
use serde::Serialize;
use std::sync::Arc;

/// The routes of the admin server.
#[must_use]
pub fn routes(board: Board, hub: Arc<Hub>, args: Args, readiness: Readiness) -> Admin {
    let (health, status, scraped) = (board.clone(), board.clone(), board.clone());
    let (stats, state, settings) = (board.clone(), board.clone(), board);
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
        .route("/stats", move || {
            let now = Now::read();
            let (nodes, _) = stats.nodes(now, None, usize::MAX);
            AdminReply::json(StatusCode::OK, &stats::Stats::of(&stats.fleet(now), &nodes))
        })
        .route("/state", move || {
            AdminReply::json(StatusCode::OK, &state::State::of(&state, &hub, Now::read()))
        })
        .route("/settings", move || {
            AdminReply::json(StatusCode::OK, &settings::Settings::of(&args, settings.running().as_deref()))
        })
        .route("/metrics", move || AdminReply::metrics(metrics::exposition(&scraped.fleet(Now::read()))))
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
