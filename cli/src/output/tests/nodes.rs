use super::{fleet, moment, node, rejecting};
use crate::{
    model::{Node, NodeState, SyncState},
    output::nodes,
};

#[test]
fn every_state_of_a_node_is_told_apart_and_explained() {
    let with = |name: &str, state, sync| Node { state, sync, ..node(name) };
    let unknown = Node {
        applied: None,
        last_heard: None,
        sessions: None,
        resident_bytes: None,
        version: String::new(),
        ..with("n6", NodeState::Connected, SyncState::Never)
    };
    let nodes = [
        node("n1"),
        with("n2", NodeState::Draining, SyncState::Pending),
        with("n3", NodeState::Unreachable, SyncState::Stale),
        rejecting("n4"),
        with("n5", NodeState::DuplicateIdentity, SyncState::Synced),
        unknown,
        with("n7", NodeState::Left, SyncState::Synced),
    ];
    insta::assert_snapshot!(nodes::page(&nodes, &fleet(), None).paint(false), @"
        NODE  STATE                  SYNC      REVISION      VERSION  LISTEN          LAST HEARD  UPTIME  SESSIONS  MEMORY
        n1    ✅ connected           synced    7             0.1.0    127.0.0.1:8080  2s ago      2h      12        35 MB
        n2    ⚠️ draining            pending   7             0.1.0    127.0.0.1:8080  2s ago      2h      12        35 MB
        n3    ❌ unreachable         stale     7             0.1.0    127.0.0.1:8080  2s ago      –       12        35 MB
          it may still serve with the configuration it has; look at its log, and at http://127.0.0.1:9090/health
        n4    ✅ connected           REJECTED  6 (target 7)  0.1.0    127.0.0.1:8080  2s ago      2h      12        35 MB
          refused revision 7 and still serves revision 6:
            upstream weather, headers.authorization: the variable WEATHER_TOKEN is not set (local_dependency)
            the disk is full (local_dependency)
        n5    ❌ duplicate identity  synced    7             0.1.0    127.0.0.1:8080  2s ago      –       12        35 MB
          two live processes use the state directory, or a copy of it: stop one, or give it its own
        n6    ✅ connected           never     – (target 7)  –        127.0.0.1:8080  –           2h      –         –
        n7    · left                 synced    7             0.1.0    127.0.0.1:8080  2s ago      –       12        35 MB
        ");
}

#[test]
fn uptime_is_measured_by_the_clock_of_the_node() {
    let mut one = node("n1");
    one.clock_skew_ms = Some(-3_600_000);
    one.started_at = Some(moment("2026-11-21T16:00:00Z")); // its clock says 16:05 now
    let text = nodes::page(&[one], &fleet(), None).paint(false);
    assert!(text.contains("  5m  "), "{text}");
}

#[test]
fn an_empty_fleet_says_how_to_start_a_node() {
    assert_eq!(
        nodes::page(&[], &fleet(), None).paint(false),
        "no node has ever connected: start one with o1-data-plane --control URL\n"
    );
}
