//! What is said of failovers: what should be comes down, where the node stands and what it sees goes up.

use super::{standing::Standing, *};
use futures_util::{FutureExt as _, StreamExt as _};
use o1_proto::{
    convert,
    model::{BreakerState, DecisionReason, DecisionState, FailoverState, Phase, Store, StoreHealth, Verdict},
    wire::{DirectiveSet, FailoverReport, Observations},
};
use scripted::Told;

fn healthy() -> StoreHealth {
    StoreHealth { verdict: Verdict::Healthy, ..StoreHealth::default() }
}

fn unhealthy() -> StoreHealth {
    StoreHealth { verdict: Verdict::Unhealthy, error: "refused".into(), ..StoreHealth::default() }
}

fn node() -> TestNode {
    let node = TestNode::default();
    let state = FailoverState { active: Store::Backup, phase: Phase::Backup, term: 4, ..Default::default() };
    *node.standing.lock().unwrap() = vec![("weather".to_owned(), state)];
    *node.seen.lock().unwrap() = (true, vec![("weather".to_owned(), unhealthy(), healthy())]);
    node
}

/// (upstream, active store, term) of each.
fn stands(report: &FailoverReport) -> Vec<(&str, Option<Store>, u64)> {
    let one = |state: &'_ wire::FailoverState| (convert::store(state.active_store), state.term);
    report.upstreams.iter().map(|state| (state.upstream.as_str(), one(state).0, one(state).1)).collect()
}

fn sees(observations: &Observations) -> Vec<(&str, Verdict, Verdict)> {
    let verdict = |store: &Option<wire::StoreHealth>| convert::store_health(store.clone()).verdict;
    let one = |seen: &'_ wire::Observation| (verdict(&seen.primary), verdict(&seen.backup));
    observations.upstreams.iter().map(|seen| (seen.upstream.as_str(), one(seen).0, one(seen).1)).collect()
}

async fn told(node: &TestNode, accept: impl FnMut(&Told) -> bool) {
    let mut told = node.told.subscribe();
    timeout(SOON, told.wait_for(accept)).await.expect("it is told in time").unwrap();
}

fn directive(upstream: &str, term: u64, target: i32) -> wire::Directive {
    let reason = convert::from_decision_reason(DecisionReason::QuorumUnhealthy);
    wire::Directive { upstream: upstream.into(), term, target, reason, ..Default::default() }
}

#[tokio::test]
async fn a_node_says_where_it_stands_at_first_and_when_that_changes() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start_with(dir.path(), Some(plane.address), node());
    let mut peer = plane.welcome().await;
    assert_eq!(stands(&peer.failover().await), [("weather", Some(Store::Backup), 4)]);
    let observed = peer.observation().await;
    assert!(observed.self_suspect);
    assert_eq!(sees(&observed), [("weather", Verdict::Unhealthy, Verdict::Healthy)]);

    running.node.standing.lock().unwrap()[0].1.active = Store::Primary;
    running.node.change();
    assert_eq!(stands(&peer.failover().await), [("weather", Some(Store::Primary), 4)]);
    *running.node.seen.lock().unwrap() = (false, vec![("weather".to_owned(), healthy(), healthy())]);
    running.node.change();
    let observed = peer.observation().await;
    assert_eq!(sees(&observed), [("weather", Verdict::Healthy, Verdict::Healthy)]);
    assert!(!observed.self_suspect);
    running.leave(peer).await;
}

#[tokio::test]
async fn a_node_without_backups_says_that_it_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    assert_eq!(peer.failover().await, FailoverReport::default());
    assert_eq!(peer.observation().await, Observations::default());
    running.leave(peer).await;
}

#[tokio::test]
async fn directives_reach_the_node_and_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start_with(dir.path(), Some(plane.address), node());
    let mut peer = plane.welcome().await;
    peer.failover().await;
    let backup = convert::from_store(Store::Backup);
    let directives =
        vec![directive("files", 0, backup), directive("mail", 3, 99), directive("weather", 7, backup)];
    peer.send(Msg::Directives(DirectiveSet { directives })).await;
    assert_eq!(stands(&peer.failover().await), [("weather", Some(Store::Backup), 4)]);
    let directed = running.node.directed.lock().unwrap().clone();
    let about: Vec<Vec<_>> = directed
        .iter()
        .map(|set| set.iter().map(|one| (one.upstream.as_str(), one.term, one.target)).collect())
        .collect();
    assert_eq!(
        about,
        [[("weather", 7, Store::Backup)]],
        "without a term or a known target there is no order"
    );
    running.leave(peer).await;
}

#[tokio::test]
async fn a_node_knows_whether_somebody_decides() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start_with(dir.path(), Some(plane.address), node());
    let mut peer = plane.accept().await;
    peer.welcome(Duration::from_millis(300), SOON).await;
    let states = [
        (0, DecisionState::WarmingUp), // a build that knows nothing of decisions makes none
        (convert::from_decision_state(DecisionState::Active), DecisionState::Active),
        (convert::from_decision_state(DecisionState::Maintenance), DecisionState::Maintenance),
        (99, DecisionState::WarmingUp),
        (convert::from_decision_state(DecisionState::Frozen), DecisionState::Frozen),
    ];
    for (said, known) in states {
        peer.decisions = said;
        tokio::select! {
            message = peer.next() => panic!("not a heartbeat: {message:?}"),
            () = told(&running.node, |told| told.decisions == Some(known)) => {}
        }
    }
    told(&running.node, |told| told.connected == Some(true)).await;
    drop((peer, plane));
    told(&running.node, |told| told.connected == Some(false)).await;
    running.stop().await;
}

/// What is said next, and how long that took.
async fn said(
    standing: &mut Standing,
    node: &TestNode,
    (outbound, requests): &mut (outbound::Outbound, outbound::Requests),
) -> (Duration, Vec<&'static str>) {
    let begun = Instant::now();
    standing.due().await;
    standing.speak(node, outbound, Instant::now());
    let mut said = Vec::new();
    while let Some(Some(request)) = requests.next().now_or_never() {
        said.push(match request.msg {
            Some(sync_request::Msg::Failover(_)) => "report",
            Some(sync_request::Msg::Observations(_)) => "observations",
            other => panic!("{other:?}"),
        });
    }
    (begun.elapsed(), said)
}

#[tokio::test(start_paused = true)]
async fn a_change_is_said_at_once_and_a_storm_of_them_now_and_then() {
    let ms = Duration::from_millis;
    let (node, mut pipe) = (node(), outbound::channel());
    let mut standing = Standing::new(&node, Instant::now());
    let both = vec!["report", "observations"];
    assert_eq!(said(&mut standing, &node, &mut pipe).await, (ms(0), both.clone()));
    assert_eq!(
        said(&mut standing, &node, &mut pipe).await,
        (ms(10_000), vec!["observations"]),
        "nothing changed"
    );
    node.change();
    assert_eq!(said(&mut standing, &node, &mut pipe).await, (ms(0), vec!["report"]));
    for _ in 0..100 {
        node.change();
    }
    assert_eq!(said(&mut standing, &node, &mut pipe).await, (ms(50), vec!["report"]));
    standing.asked(Instant::now());
    assert_eq!(
        said(&mut standing, &node, &mut pipe).await,
        (ms(0), vec!["report"]),
        "whoever asks is answered"
    );
    tokio::time::sleep(ms(60)).await;
    node.seen.lock().unwrap().1[0].1.breaker = BreakerState::Open;
    node.change();
    assert_eq!(said(&mut standing, &node, &mut pipe).await, (ms(0), both));
    assert_eq!(said(&mut standing, &node, &mut pipe).await, (ms(10_000), vec!["observations"]));
}
