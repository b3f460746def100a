//! A fleet to show.

mod cache;
mod codes;
mod config;
mod doctor;
mod events;
pub(crate) mod failover;
mod gallery;
mod inspect;
mod json;
mod nodes;
mod status;
mod upstreams;

use crate::counts::{Batches, Endpoint, Evictions, NodeEndpoint, Skips, Tier};
use crate::model::{
    ConfigSource, ConfigVersion, ControlPlane, DrainOrder, Node, NodeCounts, NodeState, NodeUpstream,
    Problem, Rates, Rejection, Status, SyncState, Totals, Upstream, UpstreamState,
};
use crate::output::{codes as explained, doctor as checkup, drain, upstreams as table};
use jiff::Timestamp;
use std::time::Duration;

pub(crate) const NOW: &str = "2026-11-21T17:05:00Z";

pub(crate) fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn version(revision: u64) -> ConfigVersion {
    ConfigVersion { generation: 1, revision, digest: format!("{revision:064x}") }
}

/// Three nodes, two upstreams, nothing wrong.
pub(crate) fn fleet() -> Status {
    Status {
        as_of: Some(moment(NOW)),
        control_plane: ControlPlane {
            version: "0.1.0".into(),
            started_at: Some(moment("2026-11-21T14:50:00Z")),
            listen: "127.0.0.1:7400".into(),
            target: Some(version(7)),
            target_accepted_at: Some(moment("2026-11-21T16:00:00Z")),
            source: Some(ConfigSource {
                path: "/etc/only1.yaml".into(),
                checked_at: Some(moment(NOW)),
                ..ConfigSource::default()
            }),
            ..ControlPlane::default()
        },
        nodes: NodeCounts { connected: 3, synced: 3, ..NodeCounts::default() },
        upstreams: vec![
            upstream("files", UpstreamState::Unknown),
            upstream("weather", UpstreamState::Healthy),
        ],
    }
}

pub(crate) fn upstream(name: &str, state: UpstreamState) -> Upstream {
    let mut upstream = Upstream {
        name: name.into(),
        state,
        nodes_reachable: 3,
        nodes_unreachable: 0,
        nodes_unknown: 0,
        since: Some(moment("2026-11-21T14:50:00Z")),
        errors: vec![],
        totals: Some(Totals {
            requests: 12_345,
            errors: 2,
            timeouts: 1,
            application_errors: 30,
            active_requests: 4,
            bytes_in: 34_600_000,
            bytes_out: 1_200,
        }),
        rates: Some(Rates {
            window: Some(Duration::from_secs(30)),
            requests_per_second: 412.3,
            error_ratio: Some(0.000_1),
            p50: Some(Duration::from_micros(1_240)),
            p99: Some(Duration::from_micros(4_000)),
            hit_ratio: Some(0.814),
        }),
        legacy: true,
        modern: true,
        tools: Some(5),
        primary: "http://127.0.0.1:3101/mcp".into(),
        backup: Some("http://127.0.0.1:3201/mcp".into()),
        cache: vec![tier("tools"), used("resources"), tier("catalogue")],
        endpoints: vec![endpoint("http://127.0.0.1:3101/mcp")],
        batches: Some(Batches { batches: 12, callers: 80, waited_ms: 117.6 }),
        failover: None,
    };
    let down = "connection refused".to_owned();
    match state {
        UpstreamState::Healthy => {}
        UpstreamState::Unknown => {
            (upstream.nodes_reachable, upstream.nodes_unknown) = (0, 3);
            (upstream.since, upstream.totals, upstream.rates, upstream.tools) = (None, None, None, None);
            (upstream.legacy, upstream.modern, upstream.backup) = (false, false, None);
            upstream.cache = vec![tier("tools"), tier("resources"), tier("catalogue")];
            (upstream.endpoints, upstream.batches) = (vec![], Some(Batches::default()));
        }
        UpstreamState::Degraded => {
            (upstream.nodes_reachable, upstream.nodes_unreachable, upstream.errors) = (2, 1, vec![down]);
            upstream.since = Some(moment("2026-11-21T17:02:11Z"));
        }
        UpstreamState::Unreachable => {
            (upstream.nodes_reachable, upstream.nodes_unreachable) = (0, 3);
            upstream.errors = vec![down, "no answer within 10s".to_owned()];
            upstream.since = Some(moment("2026-11-20T17:02:11Z"));
        }
    }
    upstream
}

/// One in which nothing ever happened.
pub(crate) fn tier(word: &'static str) -> Tier {
    Tier {
        tier: word,
        hits: 0,
        stale: 0,
        misses: 0,
        coalesced: 0,
        hit_ratio: None,
        stored: 0,
        skipped: Skips::default(),
        evictions: Evictions::default(),
        entries: 0,
        bytes: 0,
    }
}

pub(crate) fn used(word: &'static str) -> Tier {
    Tier {
        hits: 797,
        stale: 3,
        misses: 40,
        coalesced: 12,
        hit_ratio: Some(0.939),
        stored: 38,
        skipped: Skips { error: 2, ..Skips::default() },
        evictions: Evictions { expired: 12, capacity: 3, ..Evictions::default() },
        entries: 23,
        bytes: 1_234_000,
        ..tier(word)
    }
}

pub(crate) fn endpoint(label: &str) -> Endpoint {
    Endpoint {
        endpoint: label.into(),
        picks: 12_345,
        in_flight: 4,
        ejections: 0,
        retries: 0,
        queued: 0,
        waiting: 0,
        refused: 0,
        nodes: 3,
        nodes_ejecting: 0,
    }
}

pub(crate) fn node(name: &str) -> Node {
    Node {
        node_id: name.into(),
        node_uid: "00ff".into(),
        epoch: 3,
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        version: "0.1.0".into(),
        started_at: Some(moment("2026-11-21T15:05:03Z")),
        listen: "127.0.0.1:8080".into(),
        admin: "127.0.0.1:9090".into(),
        state: NodeState::Connected,
        sync: SyncState::Synced,
        applied: Some(version(7)),
        rejected: None,
        rejections: vec![],
        connected_at: Some(moment("2026-11-21T15:05:04Z")),
        last_heard: Some(moment("2026-11-21T17:04:58Z")),
        clock_skew_ms: Some(3_000),
        sessions: Some(12),
        resident_bytes: Some(34_600_000),
        last_apply: Some(Duration::from_micros(850)),
        drain: None,
        upstreams: vec![NodeUpstream {
            upstream: "weather".into(),
            reachable: Some(true),
            since: Some(moment("2026-11-21T15:06:00Z")),
            last_error: String::new(),
            totals: Totals { requests: 4_000, ..Totals::default() },
            cache: vec![tier("resources")],
            endpoints: vec![NodeEndpoint {
                endpoint: "http://127.0.0.1:3101/mcp".into(),
                picks: 4_000,
                in_flight: 1,
                ejections: 0,
                ejected: false,
                retries: 2,
                queued: 0,
                waiting: 0,
                refused: 0,
            }],
            batches: Some(Batches::default()),
        }],
    }
}

/// One that refused the target.
pub(crate) fn rejecting(name: &str) -> Node {
    let rejection = |resource: &str, field: &str, message: &str| Rejection {
        resource: resource.into(),
        reason: "local_dependency".into(),
        field: field.into(),
        message: message.into(),
    };
    Node {
        sync: SyncState::Rejected,
        applied: Some(version(6)),
        rejected: Some(version(7)),
        rejections: vec![
            rejection("upstream weather", "headers.authorization", "the variable WEATHER_TOKEN is not set"),
            rejection("", "", "the disk is full"),
        ],
        ..node(name)
    }
}

/// The configuration file has two mistakes.
pub(crate) fn refused(status: &mut Status) {
    let problem = |line, column, rule: &str, path: &str, what: &str, hint: &str| Problem {
        file: "/etc/only1.yaml".into(),
        line,
        column,
        rule: rule.into(),
        path: path.into(),
        what: what.into(),
        hint: hint.into(),
    };
    let source = status.control_plane.source.as_mut().unwrap();
    source.refused = true;
    source.refused_at = Some(moment("2026-11-21T17:01:00Z"));
    source.problems = vec![
        problem(3, 5, "unknown-key", "upstreams.a.primry", "unknown key `primry`", "did you mean `primary`?"),
        problem(0, 0, "file-missing", "", "the file is not there", ""),
    ];
}

/// One report of each kind of what looks after a fleet.
pub(crate) fn looking_after() -> Vec<serde_json::Result<serde_json::Value>> {
    let one = [upstream("weather", UpstreamState::Healthy)];
    let order = DrainOrder { since: Some(moment(NOW)), reason: "it is old".into() };
    let waited = drain::Waited::default();
    let (order, waited) = (Some(&order), Some(&waited));
    let done = drain::Done { node_id: "n1", drain: true, no_op: false, order, waited };
    let checks = [checkup::Check::ok("config", "valid")];
    let report = |word| explained::report(&explained::Found::of(word).unwrap());
    vec![
        serde_json::to_value(table::Report {
            verdict: crate::verdict::Verdict::Healthy,
            as_of: None,
            upstreams: &one,
        }),
        serde_json::to_value(done),
        serde_json::to_value(checkup::Report { state: checkup::State::Ok, checks: &checks }),
        serde_json::to_value(report("-33004")),
        serde_json::to_value(report("prefix-clash")),
    ]
}
