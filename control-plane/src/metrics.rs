//! Every metric of the control plane as one table, for `/metrics` and `docs/metrics.md` alike: what is served is what
//! is documented.
//!
//! This module must never count anything: each value stands in the picture of the fleet.

use crate::{
    fleet::RolloutState,
    health::Stage,
    status::{FleetStatus, UpstreamStatus},
};
use o1_process::Exposition;
use o1_proto::model::{DecisionState, Store};
use std::time::SystemTime;

/// One metric: its name, labels and meaning. A name that ends in `_total` is a counter, any other a gauge.
struct Family {
    name: &'static str,
    help: &'static str,
    read: Read,
}

/// Where its values stand. A label of the family's own has a closed set of words.
enum Read {
    Fleet(fn(&FleetStatus) -> Option<f64>),
    FleetBy(&'static str, fn(&FleetStatus) -> Vec<(&'static str, f64)>),
    Upstream(fn(&UpstreamStatus) -> Option<f64>),
    UpstreamBy(&'static str, fn(&UpstreamStatus) -> Vec<(&'static str, f64)>),
}

const fn family(name: &'static str, read: Read, help: &'static str) -> Family {
    Family { name, help, read }
}

const FAMILIES: [Family; 20] = [
    family(
        "o1_control_plane_uptime_seconds",
        Read::Fleet(|fleet| {
            let uptime = fleet.as_of.duration_since(fleet.control_plane.started_at).unwrap_or_default();
            Some(uptime.as_secs_f64())
        }),
        "Time since the start, seconds.",
    ),
    family(
        "o1_control_plane_config_revision",
        Read::Fleet(|fleet| {
            fleet.control_plane.target.as_ref().map(|target| number(target.version.revision))
        }),
        "Revision that nodes should run.",
    ),
    family(
        "o1_control_plane_config_generation",
        Read::Fleet(|fleet| {
            fleet.control_plane.target.as_ref().map(|target| number(target.version.generation))
        }),
        "Generation that nodes should run.",
    ),
    family(
        "o1_control_plane_config_refused",
        Read::Fleet(|fleet| Some(flag(fleet.control_plane.source.refused))),
        "1: the newest content of the configuration file is not what runs.",
    ),
    family(
        "o1_control_plane_config_checked_timestamp_seconds",
        Read::Fleet(|fleet| fleet.control_plane.source.checked_at.map(unix)),
        "When the configuration file was last looked at, seconds since 1970.",
    ),
    family(
        "o1_control_plane_rollout",
        Read::FleetBy("state", rollout),
        "1: what became of the last change since the start, by state.",
    ),
    family(
        "o1_control_plane_deciding",
        Read::Fleet(|fleet| Some(flag(fleet.control_plane.decisions == DecisionState::Active))),
        "1: failovers are decided on; 0: they are not, and nodes act alone (o1ctl status says why).",
    ),
    family("o1_control_plane_nodes", Read::FleetBy("state", states), "Nodes by state."),
    family("o1_control_plane_nodes_sync", Read::FleetBy("sync", syncs), "Connected nodes by what they run."),
    family(
        "o1_control_plane_upstream_requests_total",
        Read::Upstream(|upstream| Some(number(upstream.totals.requests))),
        "Requests sent to the upstream, over all nodes.",
    ),
    family(
        "o1_control_plane_upstream_errors_total",
        Read::Upstream(|upstream| Some(number(upstream.totals.errors))),
        "Requests without a usable answer.",
    ),
    family(
        "o1_control_plane_upstream_timeouts_total",
        Read::Upstream(|upstream| Some(number(upstream.totals.timeouts))),
        "Errors that ran out of time.",
    ),
    family(
        "o1_control_plane_upstream_application_errors_total",
        Read::Upstream(|upstream| Some(number(upstream.totals.application_errors))),
        "Answers that say that the call failed.",
    ),
    family(
        "o1_control_plane_upstream_received_bytes_total",
        Read::Upstream(|upstream| Some(number(upstream.totals.bytes_in))),
        "Bytes from the upstream.",
    ),
    family(
        "o1_control_plane_upstream_sent_bytes_total",
        Read::Upstream(|upstream| Some(number(upstream.totals.bytes_out))),
        "Bytes to the upstream.",
    ),
    family(
        "o1_control_plane_upstream_active_requests",
        Read::Upstream(|upstream| Some(number(upstream.active_requests))),
        "Requests in flight.",
    ),
    family(
        "o1_control_plane_upstream_nodes",
        Read::UpstreamBy("sees", |upstream| {
            let (yes, no) = (upstream.nodes_reachable, upstream.nodes_unreachable);
            vec![
                ("reachable", f64::from(yes)),
                ("unreachable", f64::from(no)),
                ("unknown", f64::from(upstream.nodes_unknown)),
            ]
        }),
        "Connected nodes by what they last saw of the upstream.",
    ),
    family(
        "o1_control_plane_failover_nodes",
        Read::UpstreamBy("store", |upstream| {
            let Some(failover) = &upstream.failover else { return Vec::new() };
            vec![
                (Store::Primary.word(), f64::from(failover.nodes_on_primary)),
                (Store::Backup.word(), f64::from(failover.nodes_on_backup)),
            ]
        }),
        "Connected nodes by the store that serves there. Absent: the upstream has no backup.",
    ),
    family(
        "o1_control_plane_failover_blocked",
        Read::Upstream(|upstream| {
            upstream.failover.as_ref().map(|failover| flag(failover.decision == Stage::Blocked))
        }),
        "1: neither store works, and everything stays where it is.",
    ),
    family(
        "o1_control_plane_journal_entries",
        Read::Upstream(|upstream| {
            upstream.failover.as_ref().map(|failover| number(failover.journal_pending))
        }),
        "Writes on the disks of nodes that wait to be replayed to the primary.",
    ),
];

/// One scrape.
#[must_use]
pub fn exposition(fleet: &FleetStatus) -> Exposition {
    let mut out = Exposition::new();
    for Family { name, help, read } in &FAMILIES {
        let upstreams = || fleet.upstreams.iter().map(|one| (one.name.as_str(), one));
        match read {
            Read::Fleet(read) => {
                let rows: Vec<([(&str, &str); 0], f64)> =
                    read(fleet).map(|value| ([], value)).into_iter().collect();
                put(&mut out, name, help, &rows);
            }
            Read::FleetBy(label, read) => {
                let rows: Vec<_> =
                    read(fleet).into_iter().map(|(word, value)| ([(*label, word)], value)).collect();
                put(&mut out, name, help, &rows);
            }
            Read::Upstream(read) => {
                let rows: Vec<_> = upstreams()
                    .filter_map(|(upstream, one)| Some(([("upstream", upstream)], read(one)?)))
                    .collect();
                put(&mut out, name, help, &rows);
            }
            Read::UpstreamBy(label, read) => {
                let row = |(upstream, one)| {
                    let rows = read(one).into_iter();
                    rows.map(move |(word, value)| ([("upstream", upstream), (*label, word)], value))
                };
                put(&mut out, name, help, &upstreams().flat_map(row).collect::<Vec<_>>());
            }
        }
    }
    out
}

fn put<'l, L: AsRef<[(&'l str, &'l str)]>>(out: &mut Exposition, name: &str, help: &str, rows: &[(L, f64)]) {
    if name.ends_with("_total") {
        out.counter(name, help, rows)
    } else {
        out.gauge(name, help, rows)
    };
}

fn rollout(fleet: &FleetStatus) -> Vec<(&'static str, f64)> {
    let Some(rollout) = &fleet.control_plane.rollout else { return Vec::new() };
    RolloutState::ALL.map(|state| (state.word(), flag(state == rollout.state))).to_vec()
}

fn states(fleet: &FleetStatus) -> Vec<(&'static str, f64)> {
    let nodes = fleet.nodes;
    let serving = nodes.connected - nodes.draining;
    let counts = [("connected", serving), ("draining", nodes.draining), ("unreachable", nodes.unreachable)];
    counts.map(|(word, count)| (word, f64::from(count))).to_vec()
}

fn syncs(fleet: &FleetStatus) -> Vec<(&'static str, f64)> {
    let nodes = fleet.nodes;
    let counts = [
        ("synced", nodes.synced),
        ("pending", nodes.pending),
        ("stale", nodes.stale),
        ("rejected", nodes.rejected),
        ("never", nodes.never),
    ];
    counts.map(|(word, count)| (word, f64::from(count))).to_vec()
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no integers; counts below 2^53 are exact")]
fn number(count: u64) -> f64 {
    count as f64
}

/// The part of `docs/metrics.md` about this program, from the same table.
#[must_use]
pub fn reference_page() -> String {
    let mut page = format!(
        "{HEADING}\n\nThe same at the admin port of `o1-control-plane`: what it knows of the whole fleet. Generated from \
         `control-plane/src/metrics.rs`;\nregenerate with `O1_BLESS=1 cargo test -p o1-control-plane metrics`.\n\n\
         | metric | type | labels | meaning |\n| --- | --- | --- | --- |\n"
    );
    for Family { name, help, read } in &FAMILIES {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let labels = match read {
            Read::Fleet(_) => "–".to_owned(),
            Read::FleetBy(label, _) => (*label).to_owned(),
            Read::Upstream(_) => "upstream".to_owned(),
            Read::UpstreamBy(label, _) => format!("upstream, {label}"),
        };
        page.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
    }
    let states = RolloutState::ALL.map(|state| format!("`{}`", state.word())).join(", ");
    page.push_str(&format!("\nStates of a rollout: {states}.\n"));
    page
}

const HEADING: &str = "# Metrics of the control plane";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_metrics_are_the_served_ones() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, ours) = page.split_at(page.find(HEADING).unwrap_or(page.len()));
        if std::env::var_os("O1_BLESS").is_some() {
            std::fs::write(path, format!("{before}{}", reference_page())).unwrap();
        } else {
            let stale = "docs/metrics.md is stale: O1_BLESS=1 cargo test -p o1-control-plane metrics";
            assert!(ours == reference_page(), "{stale}");
        }
    }

    #[test]
    fn names_end_as_their_unit_says() {
        let mut names = std::collections::BTreeSet::new();
        for Family { name, help, .. } in &FAMILIES {
            assert!(names.insert(*name), "{name} stands twice");
            assert!(name.starts_with("o1_control_plane_") && help.ends_with('.'), "{name}");
            assert_eq!(name.ends_with("_seconds"), help.contains("seconds"), "{name}");
        }
    }
}
