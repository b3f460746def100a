//! Failovers from outside: what nodes see leads to directives, operators order, and everybody can see it.

use crate::harness::*;
use o1_proto::wire::{
    self, DecisionReason, DecisionState, Directive, FailoverDecision, FailoverPhase, FailoverState,
    FailoverStatus, Observation, OrderStoreRequest, OrderStoreResponse, Store, StoreHealth, UpstreamMode,
    Verdict, admin_service_client::AdminServiceClient, sync_request, sync_response::Msg,
};
use rusqlite::Connection;
use tonic::{Code, Status, transport::Channel};

/// A document with one upstream that has a backup, and one that has none.
pub fn backed() -> String {
    let plain = "  plain:\n    primary:\n      - url: http://127.0.0.1:3301/mcp\n";
    let backup = "    backup:\n      - url: http://127.0.0.1:3201/mcp\n";
    format!("{}{backup}{plain}", document(3101))
}

/// A node that runs what it should.
pub async fn ready(listen: std::net::SocketAddr, uid: u8) -> Node {
    let (mut node, _) = Node::join(listen, hello(uid)).await;
    let update = node.config().await;
    node.ack(&update).await;
    node
}

pub async fn sees(node: &Node, primary: Verdict, backup: Verdict) {
    let health = |verdict: Verdict| {
        let error = if verdict == Verdict::Unhealthy { "connection refused" } else { "" };
        Some(StoreHealth { verdict: verdict.into(), error: error.to_owned(), ..Default::default() })
    };
    let upstream = "weather".to_owned();
    let upstreams = vec![Observation { upstream, primary: health(primary), backup: health(backup) }];
    let seen = wire::Observations { self_suspect: false, upstreams };
    node.say(sync_request::Msg::Observations(seen)).await;
}

pub async fn says(node: &Node, active: Store, phase: FailoverPhase, term: u64) {
    let state = FailoverState {
        upstream: "weather".to_owned(),
        active_store: active.into(),
        phase: phase.into(),
        term,
        stats: Some(wire::FailoverStats { failover_count: term, ..Default::default() }),
        ..Default::default()
    };
    node.say(sync_request::Msg::Failover(wire::FailoverReport { upstreams: vec![state] })).await;
}

/// The next directive of the only upstream that has any.
pub async fn directive(node: &mut Node) -> Directive {
    loop {
        match node.next().await {
            Ok(Some(Msg::Directives(mut set))) => {
                assert_eq!(set.directives.len(), 1, "{set:?}");
                return set.directives.remove(0);
            }
            Ok(Some(Msg::HeartbeatAck(_) | Msg::Config(_))) => {}
            other => panic!("no directive: {other:?}"),
        }
    }
}

async fn admin(plane: &Plane) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(plane.channel().await)
}

pub fn backup() -> OrderStoreRequest {
    OrderStoreRequest {
        upstream: "weather".to_owned(),
        target: Store::Backup.into(),
        reason: "a drill".to_owned(),
        ..Default::default()
    }
}

fn primary() -> OrderStoreRequest {
    OrderStoreRequest { target: Store::Primary.into(), ..backup() }
}

async fn order(plane: &Plane, order: OrderStoreRequest) -> Result<OrderStoreResponse, Status> {
    admin(plane).await.order_store(order).await.map(tonic::Response::into_inner)
}

/// Waits until the upstream is seen like this.
async fn shows(plane: &Plane, expected: impl Fn(&FailoverStatus) -> bool) -> FailoverStatus {
    eventually(async || {
        let upstreams = plane.status().await.upstreams;
        let weather = upstreams.into_iter().find(|upstream| upstream.name == "weather").expect("configured");
        let failover = weather.failover.expect("it has a backup");
        if expected(&failover) { Ok(failover) } else { Err(format!("{failover:?}")) }
    })
    .await
}

#[tokio::test]
async fn a_node_that_sees_the_primary_down_is_directed_to_the_backup_and_everybody_sees_it() {
    let plane = Plane::with(&backed()).await;
    let mut node = ready(plane.listen, 1).await;
    says(&node, Store::Primary, FailoverPhase::Primary, 0).await;
    sees(&node, Verdict::Unhealthy, Verdict::Healthy).await;
    let found = directive(&mut node).await;
    assert_eq!((found.term, found.target(), found.upstream.as_str()), (1, Store::Backup, "weather"));
    assert_eq!(found.reason(), DecisionReason::QuorumUnhealthy);
    assert!(found.because.contains("1 of 1") && found.because.contains("connection refused"), "{found:?}");
    let seen = shows(&plane, |seen| seen.decision() == FailoverDecision::FailingOver).await;
    assert_eq!((seen.nodes_on_primary, seen.nodes_lagging, seen.observers_unhealthy), (1, 1, 1));
    says(&node, Store::Backup, FailoverPhase::Backup, 1).await;
    let seen = shows(&plane, |seen| seen.decision() == FailoverDecision::FailedOver).await;
    assert_eq!((seen.nodes_on_backup, seen.nodes_lagging, seen.term), (1, 0, 1));
    assert_eq!(
        (seen.desired(), seen.mode(), seen.last_reason()),
        (Store::Backup, UpstreamMode::Auto, found.reason())
    );
    assert_eq!((seen.because, seen.backup_kind.as_str()), (found.because, "endpoints"));
    assert!(seen.hold_until.is_some() && seen.since.is_some());
    assert_eq!(seen.stats.unwrap().failover_count, 1);
    assert_eq!((seen.nodes[0].node_id.as_str(), seen.nodes[0].connected), ("n1", true));
    let control_plane = plane.status().await.control_plane.unwrap();
    assert_eq!(
        (control_plane.decisions(), control_plane.decisions_because.as_str()),
        (DecisionState::Active, "")
    );
    let plain = &plane.status().await.upstreams[0];
    assert_eq!((plain.name.as_str(), plain.failover.is_none()), ("plain", true));
    let page = plane.get("/status").await;
    assert!(
        page.contains("\"decision\":\"failed_over\"") && page.contains("\"decisions\":\"active\""),
        "{page}"
    );
}

#[tokio::test]
async fn a_node_that_comes_later_and_one_that_comes_back_are_told() {
    let plane = Plane::with(&backed()).await;
    let mut first = ready(plane.listen, 1).await;
    order(&plane, backup()).await.unwrap();
    let found = directive(&mut first).await;
    let target = plane.target().await.unwrap();
    for uid in [2, 1] {
        let (mut node, _) = Node::join(plane.listen, running(uid, &target)).await;
        assert_eq!(directive(&mut node).await, found);
    }
    // One that runs something else is told too, and again once it runs what it should.
    let (mut third, _) = Node::join(plane.listen, hello(3)).await;
    let update = third.config().await;
    assert_eq!(directive(&mut third).await, found);
    third.ack(&update).await;
    assert_eq!(directive(&mut third).await, found);
}

#[tokio::test]
async fn what_is_not_on_disk_is_not_sent() {
    let plane = Plane::with(&backed()).await;
    let mut node = ready(plane.listen, 1).await;
    let target = plane.target().await.unwrap();
    let other = Connection::open(plane.dir.path().join("state/store.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    sees(&node, Verdict::Unhealthy, Verdict::Healthy).await;
    shows(&plane, |seen| seen.term == 1).await;
    for seq in 1..=3 {
        node.beat(seq, Some(&target)).await;
    }
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(directive(&mut node).await.term, 1);
}

#[tokio::test]
async fn an_order_is_carried_out_once_for_each_request() {
    let plane = Plane::with(&backed()).await;
    let mut node = ready(plane.listen, 1).await;
    sees(&node, Verdict::Healthy, Verdict::Healthy).await;
    let dry = order(&plane, OrderStoreRequest { dry_run: true, ..backup() }).await.unwrap();
    assert_eq!((dry.term, dry.no_op), (1, false));
    let asked = OrderStoreRequest { request_id: "r1".to_owned(), ..backup() };
    let first = order(&plane, asked.clone()).await.unwrap();
    assert_eq!((first.term, first.nodes, first.no_op), (1, 1, false));
    let found = directive(&mut node).await;
    assert_eq!(
        (found.term, &found.decision_id, found.reason()),
        (1, &first.decision_id, DecisionReason::Manual)
    );
    assert!(found.because.contains("a drill"), "{found:?}");
    let back = order(&plane, primary()).await.unwrap();
    assert_eq!(back.term, 2);
    assert_eq!(order(&plane, asked.clone()).await.unwrap(), first);
    assert!(order(&plane, primary()).await.unwrap().no_op);
    // Also in the next process.
    let plane = Plane::over(plane.stop().await).await;
    assert_eq!(order(&plane, asked).await.unwrap(), first);
    let seen = shows(&plane, |_| true).await;
    assert_eq!((seen.term, seen.desired()), (2, Store::Primary));
}

#[tokio::test]
async fn orders_that_cannot_be_carried_out_say_why() {
    let plane = Plane::with(&backed()).await;
    let node = ready(plane.listen, 1).await;
    sees(&node, Verdict::Healthy, Verdict::Unhealthy).await;
    shows(&plane, |seen| seen.backup() == Verdict::Unhealthy).await;
    let named = |name: &str| OrderStoreRequest { upstream: name.to_owned(), ..backup() };
    let cases = [
        (named("wether"), Code::NotFound, "did you mean `weather`?"),
        (named("plain"), Code::FailedPrecondition, "has no backup"),
        (OrderStoreRequest { reason: " ".to_owned(), ..backup() }, Code::InvalidArgument, "reason: "),
        (OrderStoreRequest { target: 0, ..backup() }, Code::InvalidArgument, "target: "),
        (backup(), Code::FailedPrecondition, "connection refused"),
        (OrderStoreRequest { if_term: 7, ..backup() }, Code::Aborted, "is 0 by now"),
    ];
    for (asked, code, words) in cases {
        let status = order(&plane, asked).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{status}");
    }
    assert_eq!(order(&plane, OrderStoreRequest { force: true, ..backup() }).await.unwrap().term, 1);
}

#[tokio::test]
async fn a_pin_orders_its_store_and_maintenance_is_seen_by_nodes() {
    let plane = Plane::with(&backed()).await;
    let mut node = ready(plane.listen, 1).await;
    let mut client = admin(&plane).await;
    let pin = wire::SetUpstreamModeRequest {
        upstream: "weather".to_owned(),
        mode: UpstreamMode::PinBackup.into(),
        expires_in: Some(o1_proto::convert::from_duration(std::time::Duration::from_secs(3600))),
        reason: "a drill".to_owned(),
        ..Default::default()
    };
    let answer = client.set_upstream_mode(pin.clone()).await.unwrap().into_inner().failover.unwrap();
    assert_eq!(
        (answer.mode(), answer.desired(), answer.mode_until.is_some()),
        (UpstreamMode::PinBackup, Store::Backup, true)
    );
    assert_eq!(directive(&mut node).await.target(), Store::Backup);
    let refused = order(&plane, primary()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let auto = wire::SetUpstreamModeRequest { mode: UpstreamMode::Auto.into(), expires_in: None, ..pin };
    client.set_upstream_mode(auto).await.unwrap();
    assert_eq!(shows(&plane, |_| true).await.mode(), UpstreamMode::Auto);

    let works =
        wire::SetMaintenanceRequest { enabled: true, reason: "works".to_owned(), ..Default::default() };
    let answer = client.set_maintenance(works).await.unwrap().into_inner();
    assert_eq!(answer.decisions(), DecisionState::Maintenance);
    let control_plane = plane.status().await.control_plane.unwrap();
    assert_eq!(
        (control_plane.decisions(), control_plane.decisions_because.as_str()),
        (DecisionState::Maintenance, "works")
    );
    node.say(sync_request::Msg::Heartbeat(wire::Heartbeat { seq: 1, ..Default::default() })).await;
    let heard = loop {
        match node.next().await {
            Ok(Some(Msg::HeartbeatAck(ack))) => break ack,
            Ok(Some(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(heard.decisions(), DecisionState::Maintenance);
    // It survives the process.
    let plane = Plane::over(plane.stop().await).await;
    assert_eq!(plane.status().await.control_plane.unwrap().decisions(), DecisionState::Maintenance);
}

#[tokio::test]
async fn a_node_that_is_on_the_backup_already_is_followed_if_it_is_alone() {
    let plane = Plane::with(&backed()).await;
    let mut node = ready(plane.listen, 1).await;
    says(&node, Store::Backup, FailoverPhase::Backup, 41).await;
    let found = directive(&mut node).await;
    assert_eq!((found.term, found.target(), found.reason()), (42, Store::Backup, DecisionReason::AdoptLocal));
}

#[tokio::test]
async fn one_of_three_that_sees_the_primary_down_moves_nobody() {
    let plane = Plane::with(&backed()).await;
    let mut nodes = Vec::new();
    for uid in 1..=3 {
        nodes.push(ready(plane.listen, uid).await);
    }
    for node in &nodes[1..] {
        sees(node, Verdict::Healthy, Verdict::Healthy).await;
    }
    sees(&nodes[0], Verdict::Unhealthy, Verdict::Healthy).await;
    let seen =
        shows(&plane, |seen| seen.observers == 3 && seen.decision() == FailoverDecision::Suspect).await;
    assert_eq!((seen.observers_unhealthy, seen.term), (1, 0));
    sees(&nodes[1], Verdict::Unhealthy, Verdict::Healthy).await;
    for node in &mut nodes {
        assert_eq!(directive(node).await.term, 1);
    }
}
