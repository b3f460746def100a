use super::{NOW, endpoint, fleet, moment, node, refused, rejecting, upstream, version};
use crate::{
    model::{Node, NodeState, NodeUpstream, Status, SyncState, Totals, UpstreamState},
    output::status::{View, page},
};
use jiff::tz::TimeZone;

static UTC: TimeZone = TimeZone::UTC;

fn view() -> View<'static> {
    View { only: None, nodes: None, verbose: false, columns: None, now: moment(NOW), zone: &UTC }
}

fn text(status: &Status) -> String {
    page(status, &view()).paint(false)
}

#[test]
fn a_healthy_fleet_fits_on_a_few_lines() {
    insta::assert_snapshot!(text(&fleet()), @"
        only1 · control plane 127.0.0.1:7400 up 2h 15m · config rev 7, applied by 3 of 3 nodes

        UPSTREAM  STATE       NODES  ERAS  TOOLS  REQ/S  P50    P99    ERRORS  CACHE  SINCE
        files     · unknown   0/3    –     –      –      –      –      –       –      –
        weather   ✅ healthy  3/3    both  5      412    1.2ms  4.0ms  <0.1%   81%    2h 15m

        NODES  3 connected · 3 synced
        ");
}

#[test]
fn trouble_explains_itself_and_says_what_to_do() {
    let mut status = fleet();
    status.upstreams = vec![
        upstream("a", UpstreamState::Degraded),
        upstream("b-with-a-long-name", UpstreamState::Healthy),
        upstream("日本", UpstreamState::Unreachable),
    ];
    status.nodes = crate::model::NodeCounts {
        connected: 4,
        unreachable: 1,
        synced: 1,
        pending: 1,
        stale: 1,
        rejected: 1,
        draining: 1,
    };
    refused(&mut status);
    insta::assert_snapshot!(text(&status), @"
        only1 · control plane 127.0.0.1:7400 up 2h 15m · config rev 7, applied by 1 of 5 nodes

        UPSTREAM            STATE           NODES  ERAS  TOOLS  REQ/S  P50    P99    ERRORS  CACHE  SINCE
        a                   ⚠️ degraded     2/3    both  5      412    1.2ms  4.0ms  <0.1%   81%    2m 49s
          1 of 3 nodes does not reach it since 17:02:11
            connection refused
          which ones: o1ctl status a --verbose
        b-with-a-long-name  ✅ healthy      3/3    both  5      412    1.2ms  4.0ms  <0.1%   81%    2h 15m
        日本                ❌ unreachable  0/3    both  5      412    1.2ms  4.0ms  <0.1%   81%    1d
          no node reaches it since 2026-11-20 17:02:11; requests to it fail
            connection refused
            no answer within 10s
          check that it runs and answers: http://127.0.0.1:3101/mcp

        ⚠️ CONFIG REFUSED since 17:01:00: the content of /etc/only1.yaml is not used, revision 7 keeps running
          /etc/only1.yaml:3:5: error: unknown key `primry` [unknown-key at upstreams.a.primry]
              hint: did you mean `primary`?
          /etc/only1.yaml: error: the file is not there [file-missing]

        NODES  4 connected (1 draining), 1 unreachable · 1 synced, 1 pending, 1 stale, 1 REJECTED
          which ones, and why: o1ctl nodes
        ");
}

#[test]
fn a_control_plane_without_a_configuration_or_nodes_says_what_is_missing() {
    let mut status = fleet();
    status.control_plane.target = None;
    status.upstreams.clear();
    status.nodes = crate::model::NodeCounts::default();
    refused(&mut status);
    insta::assert_snapshot!(text(&status), @"
        only1 · control plane 127.0.0.1:7400 up 2h 15m · no valid configuration yet

        no upstreams: the control plane waits for a valid configuration

        ⚠️ CONFIG REFUSED since 17:01:00: the content of /etc/only1.yaml is not used, nothing runs
          /etc/only1.yaml:3:5: error: unknown key `primry` [unknown-key at upstreams.a.primry]
              hint: did you mean `primary`?
          /etc/only1.yaml: error: the file is not there [file-missing]

        NODES  none
          clients are not served: start a node with o1-data-plane --control URL
        ");
}

#[test]
fn verbose_shows_totals_stores_and_what_each_node_sees() {
    let mut status = fleet();
    status.upstreams =
        vec![upstream("files", UpstreamState::Unknown), upstream("weather", UpstreamState::Degraded)];
    let blind = Node {
        upstreams: vec![NodeUpstream {
            upstream: "weather".into(),
            reachable: Some(false),
            since: Some(moment("2026-11-21T17:02:11Z")),
            last_error: "connection refused".into(),
            totals: Totals::default(),
            cache: vec![],
            endpoints: vec![],
            batches: None,
        }],
        ..node("n2")
    };
    let gone =
        Node { state: NodeState::Unreachable, sync: SyncState::Stale, upstreams: vec![], ..node("n3") };
    let nodes = [node("n1"), blind, gone, rejecting("n4")];
    let page = page(&status, &View { nodes: Some(&nodes), verbose: true, ..view() });
    insta::assert_snapshot!(page.paint(false), @"
        only1 · control plane 127.0.0.1:7400 up 2h 15m · config rev 7, applied by 3 of 3 nodes

        UPSTREAM  STATE        NODES  ERAS  TOOLS  REQ/S  P50    P99    ERRORS  CACHE  SINCE
        files     · unknown    0/3    –     –      –      –      –      –       –      –
          no node has tried it yet: the first request to it will
          primary: http://127.0.0.1:3101/mcp · backup: none
        weather   ⚠️ degraded  2/3    both  5      412    1.2ms  4.0ms  <0.1%   81%    2m 49s
          1 of 3 nodes does not reach it since 17:02:11
            connection refused
          primary: http://127.0.0.1:3101/mcp · backup: http://127.0.0.1:3201/mcp
          12345 requests, 2 errors (timeouts: 1), 30 application errors, 4 in flight, 35 MB in, 1.2 kB out
          endpoint http://127.0.0.1:3101/mcp: 12345 picks, 4 in flight
          cache resources: 797 hits, 3 stale, 40 misses, 12 coalesced; 23 entries, 1.2 MB
          node n1 reaches it since 15:06:00
          node n2 does not reach it since 17:02:11: connection refused
          node n4 reaches it since 15:06:00

        NODES  3 connected · 3 synced

        NODE  STATE           SYNC      REVISION      VERSION  LISTEN          LAST HEARD  UPTIME  SESSIONS  MEMORY
        n1    ✅ connected    synced    7             0.1.0    127.0.0.1:8080  2s ago      2h      12        35 MB
        n2    ✅ connected    synced    7             0.1.0    127.0.0.1:8080  2s ago      2h      12        35 MB
        n3    ❌ unreachable  stale     7             0.1.0    127.0.0.1:8080  2s ago      –       12        35 MB
          it may still serve with the configuration it has; look at its log, and at http://127.0.0.1:9090/health
        n4    ✅ connected    REJECTED  6 (target 7)  0.1.0    127.0.0.1:8080  2s ago      2h      12        35 MB
          refused revision 7 and still serves revision 6:
            upstream weather, headers.authorization: the variable WEATHER_TOKEN is not set (local_dependency)
            the disk is full (local_dependency)
        ");
}

#[test]
fn a_narrow_window_loses_the_columns_that_are_needed_least() {
    let shown = |columns| page(&fleet(), &View { columns: Some(columns), ..view() }).paint(false);
    insta::assert_snapshot!(shown(80), @"
        only1 · control plane 127.0.0.1:7400 up 2h 15m · config rev 7, applied by 3 of 3 nodes

        UPSTREAM  STATE       NODES  TOOLS  REQ/S  P50    P99    ERRORS  CACHE  SINCE
        files     · unknown   0/3    –      –      –      –      –       –      –
        weather   ✅ healthy  3/3    5      412    1.2ms  4.0ms  <0.1%   81%    2h 15m

        NODES  3 connected · 3 synced
        ");
    insta::assert_snapshot!(shown(74), @"
        only1 · control plane 127.0.0.1:7400 up 2h 15m · config rev 7, applied by 3 of 3 nodes

        UPSTREAM  STATE       NODES  REQ/S  P50    P99    ERRORS  CACHE  SINCE
        files     · unknown   0/3    –      –      –      –       –      –
        weather   ✅ healthy  3/3    412    1.2ms  4.0ms  <0.1%   81%    2h 15m

        NODES  3 connected · 3 synced
        ");
    assert_eq!(shown(120), text(&fleet()));
    assert!(shown(80).lines().skip(1).all(|line| line.chars().count() <= 80));
}

#[test]
fn endpoints_that_are_left_out_or_full_say_so() {
    let mut status = fleet();
    status.upstreams = vec![upstream("weather", UpstreamState::Healthy)];
    let mut lame = endpoint("http://127.0.0.1:3102/mcp");
    (lame.ejections, lame.nodes_ejecting, lame.retries) = (2, 1, 3);
    (lame.waiting, lame.queued, lame.refused) = (5, 6, 7);
    let mut back = endpoint("http://127.0.0.1:3103/mcp");
    back.ejections = 1;
    status.upstreams[0].endpoints.extend([lame, back]);
    let page = page(&status, &View { verbose: true, only: Some("weather"), ..view() });
    insta::assert_snapshot!(page.paint(false), @"
        only1 · control plane 127.0.0.1:7400 up 2h 15m · config rev 7, applied by 3 of 3 nodes

        UPSTREAM  STATE       NODES  ERAS  TOOLS  REQ/S  P50    P99    ERRORS  CACHE  SINCE
        weather   ✅ healthy  3/3    both  5      412    1.2ms  4.0ms  <0.1%   81%    2h 15m
          primary: http://127.0.0.1:3101/mcp · backup: http://127.0.0.1:3201/mcp
          12345 requests, 2 errors (timeouts: 1), 30 application errors, 4 in flight, 35 MB in, 1.2 kB out
          endpoint http://127.0.0.1:3101/mcp: 12345 picks, 4 in flight
          endpoint http://127.0.0.1:3102/mcp: 12345 picks, 4 in flight, 5 waiting, 3 retries, 6 had to wait, 7 got no place; left out by 1 of 3 nodes, 2 times in all
          endpoint http://127.0.0.1:3103/mcp: 12345 picks, 4 in flight; was left out once
          cache resources: 797 hits, 3 stale, 40 misses, 12 coalesced; 23 entries, 1.2 MB
        ");
}

#[test]
fn one_upstream_is_shown_without_the_others_and_the_nodes() {
    let weather = page(&fleet(), &View { only: Some("weather"), ..view() });
    insta::assert_snapshot!(weather.paint(false), @"
        only1 · control plane 127.0.0.1:7400 up 2h 15m · config rev 7, applied by 3 of 3 nodes

        UPSTREAM  STATE       NODES  ERAS  TOOLS  REQ/S  P50    P99    ERRORS  CACHE  SINCE
        weather   ✅ healthy  3/3    both  5      412    1.2ms  4.0ms  <0.1%   81%    2h 15m
        ");
    let gone = page(&fleet(), &View { only: Some("gone"), ..view() }).paint(false);
    assert!(gone.ends_with("the configuration names no upstream `gone` any more\n"), "{gone}");
}

#[test]
fn figures_that_are_not_known_are_dashes_never_zeros() {
    let mut status = fleet();
    status.control_plane.started_at = None;
    status.upstreams.truncate(1);
    let text = text(&status);
    let row = text.lines().find(|line| line.starts_with("files")).unwrap();
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!(cells, ["files", "·", "unknown", "0/3", "–", "–", "–", "–", "–", "–", "–", "–"]);
    assert!(text.contains(" up – · config rev 7"), "{text}");
}

#[test]
fn an_old_picture_says_so_before_anything_else() {
    let later = moment("2026-11-21T17:07:05Z");
    let text = page(&fleet(), &View { now: later, ..view() }).paint(false);
    assert_eq!(
        text.lines().nth(1),
        Some("⚠️ stale: this picture is 2m 5s old, or the clocks of the two machines differ")
    );
}

#[test]
fn without_colour_every_state_still_has_a_word_of_its_own() {
    let states =
        [UpstreamState::Unknown, UpstreamState::Healthy, UpstreamState::Degraded, UpstreamState::Unreachable];
    let mut status = fleet();
    status.upstreams = states.map(|state| upstream("x", state)).into();
    status.control_plane.target = Some(version(8));
    let plain: String = text(&status).chars().filter(char::is_ascii).collect();
    for word in ["unknown", "healthy", "degraded", "unreachable"] {
        assert!(plain.contains(word), "{word} is missing in {plain}");
    }
}
