use super::*;
use crate::{
    configs::RolloutState,
    output::tests::{NOW, fleet, moment, node, rejecting, upstream, version},
};
use std::time::Duration;

fn event(kind: EventKind, at: &str, node: &str) -> Event {
    Event {
        position: 1,
        at: Some(moment(at)),
        node_id: node.into(),
        node_uid: node.into(),
        epoch: 1,
        seq: 1,
        uptime: None,
        kind,
        upstream: "files".into(),
        term: 3,
        local_term: 0,
        phase_from: None,
        phase_to: None,
        decision_id: "d-3".into(),
        reason: String::new(),
        duration: None,
        entries: 0,
        bytes: 0,
        active_store: None,
        breaker: None,
        stored_at: None,
    }
}

fn happened() -> Vec<Event> {
    let (began, ended) = ("2026-11-21T10:00:01Z", "2026-11-21T10:04:13Z");
    let decided = Event {
        reason: "3 of 3 nodes see the primary unhealthy: connection refused | <b>".into(),
        active_store: Some(crate::failover::Store::Backup),
        ..event(EventKind::Decided, "2026-11-21T10:00:00Z", "")
    };
    let restored = Event {
        duration: Some(Duration::from_secs(252)),
        entries: 12,
        ..event(EventKind::Restored, ended, "n1")
    };
    let written = event(EventKind::EntryJournaled, "2026-11-21T10:01:00Z", "n1");
    vec![
        decided,
        event(EventKind::FailoverCommitted, began, "n1"),
        event(EventKind::FailoverCommitted, began, "n2"),
        written,
        event(EventKind::DeadLettered, "2026-11-21T10:02:00Z", "n1"),
        restored,
        event(EventKind::Restored, "2026-11-21T09:00:00Z", "n3"),
    ]
}

fn calls() -> Vec<NodeCalls> {
    let call = |name: &str, outcome, took| crate::inspect::Call {
        at: Some(moment("2026-11-21T17:00:00Z")),
        node_id: "n1".into(),
        upstream: "weather".into(),
        method: "tools/call".into(),
        name: name.into(),
        outcome,
        took: Some(Duration::from_millis(took)),
        store: None,
    };
    let calls = vec![
        call("forecast", CallOutcome::Ok, 12),
        call("forecast", CallOutcome::Ok, 900),
        call("forecast", CallOutcome::Cached, 5_000),
        call("now|then", CallOutcome::ApplicationError, 40),
    ];
    let seen = crate::inspect::CallsSeen { calls, seen: 9, kept: 4 };
    let old = NodeCalls { node_id: "n2".into(), said: Err("it is too old".into()) };
    vec![NodeCalls { node_id: "n1".into(), said: Ok(seen) }, old]
}

fn written(status: &Status, nodes: &[Node], events: &[Event], revisions: &[Revision]) -> String {
    page(&Facts {
        target: "http://127.0.0.1:7400",
        since: moment("2026-11-20T17:05:00Z"),
        now: moment(NOW),
        zone: &TimeZone::UTC,
        status,
        nodes,
        events,
        truncated: false,
        bounds: Bounds { oldest: 1, newest: 9 },
        revisions,
        calls: &calls(),
        verdict: crate::verdict::of_fleet(status, moment(NOW)),
    })
}

#[test]
fn a_quiet_day_is_told_in_a_few_lines() {
    insta::assert_snapshot!(written(&fleet(), &[Node { clock_skew_ms: Some(5), ..node("n1") }], &[], &[]));
}

#[test]
fn a_bad_day_says_what_happened_and_what_to_do() {
    let mut status = fleet();
    let down = Upstream { backup: None, ..upstream("down", UpstreamState::Unreachable) };
    let backed = Upstream {
        backup: Some("http://127.0.0.1:3201/mcp".into()),
        ..upstream("both", UpstreamState::Unreachable)
    };
    let mut lossy = upstream("lossy", UpstreamState::Degraded);
    if let Some(totals) = &mut lossy.totals {
        (totals.errors, totals.timeouts) = (600, 100);
    }
    lossy.endpoints[0].refused = 7;
    status.upstreams.extend([down, backed, lossy]);
    crate::output::tests::refused(&mut status);
    let revision = Revision {
        version: version(7),
        created_at: Some(moment("2026-11-21T09:30:00Z")),
        source: "api:only1.yaml".into(),
        actor: "127.0.0.1:5".into(),
        comment: "another server".into(),
        rollback_of: None,
        undoes: None,
        rollout: RolloutState::Succeeded,
        refused: vec![],
    };
    let unreachable = Node { state: NodeState::Unreachable, ..node("n3") };
    let text = written(&status, &[node("n1"), rejecting("n2"), unreachable], &happened(), &[revision]);
    insta::assert_snapshot!(text);
    assert!(!text.contains("<b>"), "what servers say is no markup");
}

use crate::model::NodeState;

#[test]
fn a_failover_that_began_before_the_report_or_goes_on_is_told_as_such() {
    let episodes = episodes::of(&happened());
    let seen: Vec<_> =
        episodes.iter().map(|one| (one.node.as_str(), one.from.is_some(), one.is_over, one.lasted)).collect();
    assert_eq!(
        seen,
        [
            ("n1", true, true, Some(Duration::from_secs(252))),
            ("n2", true, false, None),
            ("n3", false, true, None)
        ]
    );
    assert!(episodes[0].why.starts_with("3 of 3 nodes"), "from the decision: {}", episodes[0].why);
}

#[test]
fn what_comes_and_goes_is_noticed_by_upstream_and_node() {
    let often: Vec<_> =
        (0..3).flat_map(|_| ["n1"].map(|node| event(EventKind::FailoverCommitted, NOW, node))).collect();
    let suggestions = |events: &[Event]| written(&fleet(), &[], events, &[]);
    assert!(suggestions(&often).contains("failed over 3 times on one node"));
    let spread = ["n1", "n2", "n3"].map(|node| event(EventKind::FailoverCommitted, NOW, node));
    assert!(!suggestions(&spread).contains("times on one node"), "once each");
}

#[test]
fn what_others_wrote_is_no_markup() {
    assert_eq!(cell_of("![x](http://evil/a|b) <b> `c` \\"), r"\!\[x\](http://evil/a\|b) &lt;b> 'c' \\");
}
