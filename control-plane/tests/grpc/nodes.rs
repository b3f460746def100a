//! What a node and the control plane say to each other.

use crate::harness::*;
use o1_proto::{
    convert, digest,
    wire::{
        self, GoodbyeReason, NodeState, Rejection, RejectionReason, ResourceKey, ResourceKind, SyncState,
        sync_request::Msg, sync_response,
    },
};

fn missing_variable() -> Rejection {
    Rejection {
        resource: Some(ResourceKey { kind: ResourceKind::Upstream.into(), name: "weather".to_owned() }),
        reason: RejectionReason::LocalDependency.into(),
        field_path: "headers.Authorization".to_owned(),
        message: "no such environment variable".to_owned(),
    }
}

#[tokio::test]
async fn a_node_gets_the_configuration_and_is_synced_once_it_says_so() {
    let plane = Plane::with(&document(3101)).await;
    let (mut node, welcome) = Node::join(plane.listen, hello(1)).await;
    assert_eq!(convert::duration(welcome.heartbeat_interval.as_ref()).unwrap().as_secs(), 5);
    assert_eq!(convert::duration(welcome.lease_ttl.as_ref()).unwrap().as_secs(), 15);
    let update = node.config().await;
    assert_eq!(update.to, welcome.target);
    assert_eq!(update.to.as_ref().unwrap().root_digest, digest::root(&update.resources));
    let fleet = convert::decode(&update.resources).expect("a node can read what it is sent");
    assert_eq!(fleet.upstreams[0].name, "weather");
    plane.sees(1, |node| node.sync() == SyncState::Pending).await;
    node.ack(&update).await;
    let seen = plane.sees(1, |node| node.sync() == SyncState::Synced).await;
    assert_eq!((seen.state(), seen.applied), (NodeState::Connected, update.to));
    let counts = plane.status().await.nodes.unwrap();
    assert_eq!((counts.connected, counts.synced, counts.stale), (1, 1, 0));
}

#[tokio::test]
async fn every_node_has_the_same_sealing_keys_before_it_has_a_configuration() {
    let plane = Plane::with(&document(3101)).await;
    let mut seen = Vec::new();
    for uid in 1..=2 {
        let (mut node, _) = Node::join(plane.listen, hello(uid)).await;
        node.config().await;
        seen.push(node.keys.take().expect("keys came first"));
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].keys.len() == 2 && seen[0].keys[0] != seen[0].keys[1], "one that seals, and the next");
    assert!(seen[0].keys.iter().all(|key| key.id.len() == 4 && key.secret.len() == 32));
}

#[tokio::test]
async fn every_node_gets_an_edit() {
    let plane = Plane::with(&document(3101)).await;
    let first = plane.target().await.unwrap();
    let mut nodes = Vec::new();
    for uid in 1..=5 {
        nodes.push(Node::join(plane.listen, running(uid, &first)).await.0);
    }
    plane.write(&document(3102));
    for node in &mut nodes {
        let update = node.config().await;
        assert_eq!(update.to.as_ref().unwrap().revision, 2);
        node.ack(&update).await;
    }
    for uid in 1..=5 {
        plane.sees(uid, |node| node.sync() == SyncState::Synced).await;
    }
}

#[tokio::test]
async fn a_node_that_runs_the_target_is_sent_nothing() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let (mut node, _) = Node::join(plane.listen, running(1, &target)).await;
    node.beat(1, Some(&target)).await;
    plane.sees(1, |node| node.sync() == SyncState::Synced).await;
}

#[tokio::test]
async fn a_refused_configuration_is_shown_with_its_reasons_and_not_sent_again_until_there_is_a_newer_one() {
    let plane = Plane::with(&document(3101)).await;
    let (mut node, _) = Node::join(plane.listen, hello(1)).await;
    let update = node.config().await;
    node.nack(&update, None, vec![missing_variable()]).await;
    let seen = plane.sees(1, |node| node.sync() == SyncState::Rejected).await;
    assert_eq!(seen.rejections, [missing_variable()]);
    assert_eq!(seen.rejected, update.to);
    node.beat(1, None).await;
    // Across reconnects, whether the node speaks of it or not.
    for rejected in [None, update.to.clone()] {
        let rejections = rejected.iter().map(|_| missing_variable()).collect();
        let again = wire::Hello { rejected, rejections, ..hello(1) };
        (node, _) = Node::join(plane.listen, again).await;
        node.beat(2, None).await;
        assert_eq!(plane.sees(1, |node| node.sync() == SyncState::Rejected).await.rejections.len(), 1);
    }
    plane.write(&document(3102));
    let update = node.config().await;
    assert_eq!(update.to.as_ref().unwrap().revision, 2);
    node.ack(&update).await;
    plane.sees(1, |node| node.sync() == SyncState::Synced && node.rejections.is_empty()).await;
}

#[tokio::test]
async fn the_park_survives_a_restart_of_the_control_plane() {
    let plane = Plane::with(&document(3101)).await;
    let (mut node, _) = Node::join(plane.listen, hello(1)).await;
    let update = node.config().await;
    node.nack(&update, None, vec![missing_variable()]).await;
    plane.sees(1, |node| node.sync() == SyncState::Rejected).await;
    let plane = Plane::over(plane.stop().await).await;
    let seen = plane.sees(1, |node| node.state() == NodeState::Unreachable).await;
    assert_eq!((seen.sync(), seen.rejections), (SyncState::Rejected, vec![missing_variable()]));
    let (mut node, _) = Node::join(plane.listen, hello(1)).await;
    node.beat(1, None).await;
}

#[tokio::test]
async fn a_newer_stream_of_a_node_takes_over() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let (mut old, _) = Node::join(plane.listen, running(1, &target)).await;
    let (mut new, _) = Node::join(plane.listen, running(1, &target)).await;
    old.goodbye_because(GoodbyeReason::Superseded).await;
    new.beat(1, Some(&target)).await;
    assert_eq!(plane.nodes().await.len(), 1);
}

#[tokio::test]
async fn two_live_processes_with_one_identity_are_both_told() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let (mut last, _) = Node::join(plane.listen, running(1, &target)).await;
    for _ in 0..2 {
        let (next, _) = Node::join(plane.listen, running(1, &target)).await;
        last.goodbye_because(GoodbyeReason::Superseded).await;
        last = next;
    }
    let mut fourth = Node::open(plane.listen, Msg::Hello(running(1, &target))).await.unwrap();
    for node in [&mut last, &mut fourth] {
        let goodbye = node.goodbye_because(GoodbyeReason::DuplicateIdentity).await;
        assert!(convert::duration(goodbye.reconnect_min.as_ref()).unwrap().as_secs() >= 30);
    }
    plane.sees(1, |node| node.state() == NodeState::DuplicateIdentity).await;
}

#[tokio::test]
async fn a_node_that_says_goodbye_has_left() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let (mut node, _) = Node::join(plane.listen, running(1, &target)).await;
    let reason = GoodbyeReason::Shutdown.into();
    node.say(Msg::Goodbye(wire::Goodbye { reason, ..Default::default() })).await;
    assert_eq!(node.next().await.unwrap(), None);
    plane.sees(1, |node| node.state() == NodeState::Left).await;
    assert_eq!(plane.status().await.nodes.unwrap().connected, 0);
}

#[tokio::test]
async fn whoever_breaks_the_protocol_is_told_how() {
    let plane = Plane::with(&document(3101)).await;
    let heartbeat = Msg::Heartbeat(wire::Heartbeat::default());
    let cases = [
        (heartbeat, "the first message of a stream must be hello"),
        (Msg::Hello(wire::Hello::default()), "node: missing"),
        (Msg::Hello(named("no spaces please")), "node.node_id: "),
        (Msg::Hello(named(&"x".repeat(65))), "node.node_id: "),
    ];
    for (first, expected) in cases {
        let mut node = Node::open(plane.listen, first).await.unwrap();
        let status = node.next().await.expect_err("refused");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().starts_with(expected), "{status}");
    }
    let (mut node, _) = Node::join(plane.listen, hello(1)).await;
    node.config().await;
    node.say(Msg::Hello(hello(1))).await;
    let goodbye = node.goodbye_because(GoodbyeReason::ProtocolError).await;
    assert!(goodbye.message.contains("hello"), "{goodbye:?}");
}

fn named(node_id: &str) -> wire::Hello {
    let node = wire::NodeIdentity { node_id: node_id.to_owned(), ..identity(1) };
    wire::Hello { node: Some(node), ..Default::default() }
}

#[tokio::test]
async fn a_node_with_a_foreign_history_gets_the_same_configuration_under_a_newer_name() {
    let plane = Plane::with(&document(3101)).await;
    let ours = plane.target().await.unwrap();
    let foreign = wire::ConfigVersion { revision: 41, root_digest: vec![9; 32], ..ours.clone() };
    let (mut stray, _) = Node::join(plane.listen, running(1, &foreign)).await;
    let update = stray.config().await;
    let to = update.to.clone().unwrap();
    assert_eq!((to.generation, to.revision), (2, 2));
    assert_eq!(to.root_digest, ours.root_digest);
    stray.ack(&update).await;
    plane.sees(1, |node| node.sync() == SyncState::Synced).await;
    // And it stays that way: the next edit and the next process go on in this generation.
    plane.write(&document(3102));
    let update = stray.config().await;
    let to = update.to.unwrap();
    assert_eq!((to.generation, to.revision), (2, 3));
    let plane = Plane::over(plane.stop().await).await;
    assert_eq!(plane.target().await, Some(to));
    plane.write(&document(3103));
    assert_eq!(plane.reaches(4).await.generation, 2);
}

#[tokio::test]
async fn every_stream_hears_goodbye_when_the_control_plane_stops() {
    let mut plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let mut nodes = Vec::new();
    for uid in 1..=3 {
        nodes.push(Node::join(plane.listen, running(uid, &target)).await.0);
    }
    plane.begin_stop();
    for node in &mut nodes {
        let goodbye = node.goodbye_because(GoodbyeReason::Shutdown).await;
        let wait =
            [goodbye.reconnect_min, goodbye.reconnect_max].map(|wait| convert::duration(wait.as_ref()));
        assert_eq!(wait.map(|wait| wait.unwrap().as_secs()), [0, 2]);
    }
    plane.stopped().await;
}

#[tokio::test]
async fn a_node_that_does_not_read_is_not_waited_for() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let (lazy, _) = Node::join(plane.listen, running(1, &target)).await;
    // Ten thousand questions, and not one answer is read: memory and the other nodes must not notice.
    for seq in 0..10_000 {
        let applied = Some(target.clone());
        lazy.say(Msg::Heartbeat(wire::Heartbeat { seq, applied, ..Default::default() })).await;
    }
    let (mut eager, _) = Node::join(plane.listen, running(2, &target)).await;
    eager.beat(1, Some(&target)).await;
    let mut lazy = lazy;
    let mut acknowledged = 0;
    let last = loop {
        match lazy.next().await.unwrap() {
            Some(sync_response::Msg::HeartbeatAck(ack)) if ack.seq == 9_999 => break ack,
            Some(sync_response::Msg::HeartbeatAck(_)) => acknowledged += 1,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(last.target, Some(target));
    assert!(acknowledged < 9_999, "the newest acknowledgement replaces those that wait");
}
