//! Nodes that take no new sessions, by themselves or by order, and nodes that leave.

use super::*;

#[test]
fn a_drain_shows_and_ends() {
    let mut scene = Scene::targeting(1);
    let stream = scene.join(running(1, 1));
    let beat = |draining| Message::Heartbeat {
        seq: 1,
        applied: Some(version(1)),
        node_time: None,
        draining,
        drain_ordered: false,
    };
    scene.say(stream, beat(true));
    assert_eq!(scene.sees(1).0, NodeState::Draining);
    scene.say(stream, beat(false));
    assert_eq!(scene.sees(1).0, NodeState::Connected);
}

#[test]
fn an_order_to_drain_is_repeated_until_the_node_says_that_it_heard_it_and_outlives_its_process() {
    let order = || Some(Drain { since: SystemTime::UNIX_EPOCH, reason: "it is old".to_owned() });
    let beat = |drain_ordered| Message::Heartbeat {
        seq: 1,
        applied: Some(version(1)),
        node_time: None,
        draining: drain_ordered,
        drain_ordered,
    };
    let mut scene = Scene::targeting(1);
    let (stream, other) = (scene.join(running(1, 1)), scene.join(running(2, 1)));
    assert_eq!(words(&scene.registry.set_drain("n1", order())), ["1<-drain true"]);
    assert_eq!(scene.say(stream, beat(false)), ["1<-ack", "1<-drain true"], "it did not hear it");
    assert_eq!(scene.say(stream, beat(true)), ["1<-ack"]);
    assert_eq!(scene.say(other, beat(false)), ["2<-ack"]);
    let drains = |scene: &Scene| scene.registry.node(NodeUid::from_bytes([1; 16])).unwrap().drains_by_order();
    assert!(drains(&scene) && scene.sees(1).0 == NodeState::Draining);
    // Another process of the same node.
    let stream = scene.join(booted(running(1, 1), 2));
    assert!(!drains(&scene), "it has said nothing yet");
    assert_eq!(scene.say(stream, beat(false)), ["3<-ack", "3<-drain true"]);
    assert_eq!(words(&scene.registry.set_drain("n1", None)), ["3<-drain false"]);
    assert_eq!(scene.say(stream, beat(true)), ["3<-ack", "3<-drain false"], "nor did it hear that");
    assert_eq!(scene.say(stream, beat(false)), ["3<-ack"]);
    assert_eq!(scene.sees(1).0, NodeState::Connected);
}

#[test]
fn a_node_that_shall_drain_hears_so_with_its_welcome() {
    let mut scene = Scene::targeting(1);
    scene.registry.set_drain("n1", Some(Drain { since: SystemTime::UNIX_EPOCH, reason: "r".to_owned() }));
    assert_eq!(scene.hello(running(1, 1)).0, ["1<-welcome", "1<-drain true"]);
    assert_eq!(scene.hello(running(2, 1)).0, ["2<-welcome"]);
}

#[test]
fn a_node_that_left_is_not_remembered() {
    let mut scene = Scene::targeting(1);
    let stream = scene.join(running(1, 1));
    let goodbye = Message::Goodbye { shutdown: true, message: String::new() };
    let outcome = scene.registry.message(stream, goodbye, scene.now());
    assert!(matches!(outcome.records.as_slice(), [(_, None)]), "{:?}", outcome.records);
    assert!(scene.registry.stop().records.is_empty());
}
