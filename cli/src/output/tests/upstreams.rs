use super::{NOW, endpoint, failover, fleet, moment, upstream};
use crate::{
    counts::Endpoint,
    model::{Upstream, UpstreamState},
    output::{
        json,
        upstreams::{Report, page},
    },
    verdict::Verdict,
};

fn all() -> Vec<Upstream> {
    let mut busy = upstream("busy", UpstreamState::Degraded);
    busy.endpoints = vec![
        Endpoint { waiting: 2, queued: 90, refused: 1, ..endpoint("http://127.0.0.1:3101/mcp") },
        Endpoint { nodes_ejecting: 1, ejections: 4, retries: 3, in_flight: 0, ..endpoint("npx") },
    ];
    let files =
        Upstream { failover: Some(failover::failed_over()), ..upstream("files", UpstreamState::Unreachable) };
    vec![busy, files, upstream("new", UpstreamState::Unknown), upstream("weather", UpstreamState::Healthy)]
}

#[test]
fn each_upstream_is_shown_with_its_endpoints() {
    insta::assert_snapshot!(page(&all(), &fleet(), None).paint(false));
    insta::assert_snapshot!(page(&all(), &fleet(), Some(80)).paint(false));
}

#[test]
fn a_fleet_without_upstreams_says_why() {
    let mut status = fleet();
    assert_eq!(page(&[], &status, None).paint(false), "no upstreams: the configuration names none\n");
    status.control_plane.target = None;
    assert_eq!(
        page(&[], &status, None).paint(false),
        "no upstreams: the control plane waits for a valid configuration\n"
    );
}

#[test]
fn the_shape_of_upstreams_is_stable() {
    let upstreams = [upstream("weather", UpstreamState::Healthy)];
    let report = Report { verdict: Verdict::Healthy, as_of: Some(moment(NOW)), upstreams: &upstreams };
    insta::assert_snapshot!(json::pretty(&report));
}
