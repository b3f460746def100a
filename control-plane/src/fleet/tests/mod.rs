//! The registry, told what happens and when, second by second.

mod drains;

use super::*;
use crate::{
    clock::Now,
    config::{Digest, Revision, Version},
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::Instant;

/// A registry, and the clock it is told.
struct Scene {
    registry: Registry,
    start: Instant,
    elapsed: Duration,
}

impl Scene {
    fn new() -> Self {
        Self { registry: Registry::default(), start: Instant::now(), elapsed: Duration::ZERO }
    }

    fn targeting(revision: u64) -> Self {
        let mut scene = Self::new();
        scene.target(revision);
        scene
    }

    fn now(&self) -> Now {
        Now {
            instant: self.start + self.elapsed,
            wall: UNIX_EPOCH + Duration::from_secs(1_000_000) + self.elapsed,
        }
    }

    /// Time passes in ticks of half a second; what they led to.
    fn pass(&mut self, seconds: f64) -> Vec<String> {
        let end = self.elapsed + Duration::from_secs_f64(seconds);
        let mut seen = Vec::new();
        while self.elapsed < end {
            self.elapsed = (self.elapsed + Duration::from_millis(500)).min(end);
            seen.extend(words(&self.registry.tick(self.now())));
        }
        seen
    }

    fn target(&mut self, revision: u64) -> Vec<String> {
        words(&self.registry.set_target(Some(revision_of(version(revision))), self.now()))
    }

    fn hello(&mut self, hello: Hello) -> (Vec<String>, Result<StreamId, HelloError>) {
        let (outcome, opened) = self.registry.hello(hello, self.now());
        (words(&outcome), opened)
    }

    /// A node that must be welcomed.
    fn join(&mut self, hello: Hello) -> StreamId {
        self.hello(hello).1.expect("welcome")
    }

    fn say(&mut self, stream: StreamId, message: Message) -> Vec<String> {
        words(&self.registry.message(stream, message, self.now()))
    }

    fn ack(&mut self, stream: StreamId, nonce: u64, revision: u64) -> Vec<String> {
        self.say(stream, Message::Ack { nonce, applied: Some(version(revision)), apply_time: None })
    }

    fn nack(&mut self, stream: StreamId, nonce: u64, rejected: u64, running: Option<u64>) -> Vec<String> {
        let (rejected, running) = (Some(version(rejected)), running.map(version));
        self.say(stream, Message::Nack { nonce, rejected, running, rejections: vec![reason()] })
    }

    fn beat(&mut self, stream: StreamId, applied: Option<u64>) -> Vec<String> {
        let applied = applied.map(version);
        self.say(
            stream,
            Message::Heartbeat { seq: 1, applied, node_time: None, draining: false, drain_ordered: false },
        )
    }

    /// Heartbeats every 5 s for a while.
    fn keep_alive(&mut self, stream: StreamId, applied: Option<u64>, seconds: u64) {
        for _ in 0..seconds / 5 {
            self.pass(5.0);
            self.beat(stream, applied);
        }
    }

    fn sees(&self, uid: u8) -> (NodeState, SyncState) {
        let node = self.registry.node(NodeUid::from_bytes([uid; 16])).expect("known");
        let target = self.registry.target().map(|target| &target.version);
        (node.state(self.now().instant), node.sync(target, self.now().instant))
    }

    fn knows(&self, uid: u8) -> bool {
        self.registry.node(NodeUid::from_bytes([uid; 16])).is_some()
    }
}

fn version(revision: u64) -> Version {
    Version { generation: 1, revision, digest: Digest::new(revision.to_be_bytes().to_vec()) }
}

fn revision_of(version: Version) -> Arc<Revision> {
    let accepted_at = SystemTime::UNIX_EPOCH;
    Arc::new(Revision { version, fleet: Arc::default(), accepted_at, source: String::new() })
}

fn reason() -> Rejection {
    Rejection {
        resource: None,
        reason: Reason::LocalDependency,
        field_path: String::new(),
        message: "no".into(),
    }
}

fn node(uid: u8) -> Hello {
    let record = sample_record(&format!("n{uid}"), uid);
    Hello { identity: record.identity, applied: None, refused: None }
}

fn running(uid: u8, revision: u64) -> Hello {
    Hello { applied: Some(version(revision)), ..node(uid) }
}

fn booted(hello: Hello, epoch: u64) -> Hello {
    Hello { identity: Identity { epoch, ..hello.identity }, ..hello }
}

/// What was sent and what happened, in short: `2<-config 1 r7` is the update of nonce 1 on stream 2.
fn words(outcome: &Outcome) -> Vec<String> {
    let sends = outcome.sends.iter().map(|(stream, out)| {
        let what = match out {
            Out::Welcome(_) => "welcome".to_owned(),
            Out::HeartbeatAck { .. } => "ack".to_owned(),
            Out::Directives(set) => format!("directives {}", set.len()),
            Out::SealKeys(keys) => format!("keys {}", keys.len()),
            Out::Config { nonce, revision, .. } => format!("config {nonce} r{}", revision.version.revision),
            Out::Drain(drain) => format!("drain {drain}"),
            Out::Query { id, .. } => format!("query {id}"),
            Out::Goodbye(goodbye) => format!("{:?}", goodbye.reason),
        };
        format!("{}<-{what}", stream.0)
    });
    sends.collect()
}

fn happened(outcome: &Outcome) -> Vec<What> {
    outcome.events.iter().map(|event| event.what.clone()).collect()
}

#[test]
fn a_new_node_is_sent_the_target_once_and_is_synced_when_it_says_so() {
    let mut scene = Scene::targeting(1);
    let (sent, opened) = scene.hello(node(1));
    assert_eq!(sent, ["1<-welcome", "1<-config 1 r1"]);
    assert_eq!(scene.sees(1), (NodeState::Connected, SyncState::Pending));
    let stream = opened.unwrap();
    assert_eq!(scene.beat(stream, None), ["1<-ack"], "no second update while one waits for its answer");
    assert_eq!(scene.ack(stream, 1, 1), Vec::<String>::new());
    assert_eq!(scene.sees(1), (NodeState::Connected, SyncState::Synced));
}

#[test]
fn a_node_that_runs_the_target_is_sent_nothing() {
    let mut scene = Scene::targeting(3);
    assert_eq!(scene.hello(running(1, 3)).0, ["1<-welcome"]);
    assert_eq!(scene.sees(1), (NodeState::Connected, SyncState::Synced));
}

#[test]
fn keys_go_to_every_node_when_it_comes_and_when_they_change_and_before_any_configuration() {
    let mut scene = Scene::targeting(1);
    let keys = |count: usize| (0..count).map(|_| SealKey::mint(UNIX_EPOCH)).collect::<Arc<[_]>>();
    assert!(scene.registry.set_seal_keys(keys(2)).sends.is_empty(), "nobody is there");
    assert_eq!(scene.hello(node(1)).0, ["1<-welcome", "1<-keys 2", "1<-config 1 r1"]);
    scene.join(running(2, 1));
    let mut sent = words(&scene.registry.set_seal_keys(keys(3)));
    sent.sort();
    assert_eq!(sent, ["1<-keys 3", "2<-keys 3"]);
    assert_eq!(scene.hello(running(2, 1)).0, ["2<-Superseded", "3<-welcome", "3<-keys 3"]);
}

#[test]
fn without_a_target_nothing_is_sent() {
    let mut scene = Scene::new();
    assert_eq!(scene.hello(node(1)).0, ["1<-welcome"]);
    assert_eq!(scene.sees(1).1, SyncState::Never);
    assert_eq!(scene.target(1), ["1<-config 1 r1"], "the first configuration reaches who waits for it");
}

#[test]
fn one_update_waits_for_its_answer_and_the_newest_target_follows() {
    let mut scene = Scene::targeting(1);
    let stream = scene.join(node(1));
    for revision in 2..=9 {
        assert_eq!(scene.target(revision), Vec::<String>::new());
    }
    assert_eq!(scene.sees(1).1, SyncState::Pending);
    assert_eq!(scene.ack(stream, 1, 1), ["1<-config 2 r9"], "the ones between were overtaken");
    scene.ack(stream, 2, 9);
    assert_eq!(scene.sees(1).1, SyncState::Synced);
}

#[test]
fn a_refused_version_is_parked_until_there_is_a_newer_one() {
    let mut scene = Scene::targeting(2);
    let stream = scene.join(running(1, 1));
    assert_eq!(scene.nack(stream, 1, 2, Some(1)), Vec::<String>::new());
    assert_eq!(scene.sees(1).1, SyncState::Rejected);
    scene.keep_alive(stream, Some(1), 120);
    assert_eq!(scene.sees(1), (NodeState::Connected, SyncState::Rejected));
    assert_eq!(scene.target(3), ["1<-config 2 r3"]);
    scene.ack(stream, 2, 3);
    assert_eq!(scene.sees(1).1, SyncState::Synced);
}

#[test]
fn the_park_survives_reconnects_by_the_memory_of_either_side() {
    let mut scene = Scene::targeting(2);
    let stream = scene.join(running(1, 1));
    scene.nack(stream, 1, 2, Some(1));
    scene.registry.closed(stream);
    // The node says nothing of it, in the same boot: this side remembers.
    assert_eq!(scene.hello(running(1, 1)).0, ["2<-welcome"]);
    assert_eq!(scene.sees(1).1, SyncState::Rejected);

    // A control plane that knows nothing: the node remembers.
    let mut scene = Scene::targeting(2);
    let refused = Some(Refusal { version: version(2), rejections: vec![reason()] });
    assert_eq!(scene.hello(Hello { refused, ..running(1, 1) }).0, ["1<-welcome"]);
    assert_eq!(scene.sees(1).1, SyncState::Rejected);
}

#[test]
fn a_restarted_node_that_forgot_its_refusal_gets_another_try() {
    let mut scene = Scene::targeting(2);
    let stream = scene.join(running(1, 1));
    scene.nack(stream, 1, 2, Some(1));
    scene.registry.closed(stream);
    assert_eq!(scene.hello(booted(running(1, 1), 4)).0, ["2<-welcome", "2<-config 1 r2"]);
}

#[test]
fn a_version_is_sent_once_on_one_stream_whatever_the_node_says_it_runs() {
    let mut scene = Scene::targeting(2);
    let stream = scene.join(running(1, 1));
    assert_eq!(scene.ack(stream, 1, 1), Vec::<String>::new(), "it acknowledged, and runs something else");
    assert_eq!(scene.beat(stream, Some(1)), ["1<-ack"]);
    assert_eq!(scene.sees(1).1, SyncState::Stale);
    scene.registry.closed(stream);
    assert_eq!(scene.hello(running(1, 1)).0, ["2<-welcome", "2<-config 1 r2"], "a new stream is a new try");
}

#[test]
fn an_answer_that_nobody_waits_for_does_not_count_as_the_answer() {
    let mut scene = Scene::targeting(2);
    let stream = scene.join(running(1, 1));
    let stray = Message::Ack { nonce: 7, applied: Some(version(1)), apply_time: None };
    let outcome = scene.registry.message(stream, stray, scene.now());
    assert!(happened(&outcome).contains(&What::StrayAnswer(7)), "{outcome:?}");
    assert_eq!(scene.sees(1).1, SyncState::Pending);
}

#[test]
fn no_answer_in_thirty_seconds_ends_the_stream() {
    let mut scene = Scene::targeting(2);
    let stream = scene.join(running(1, 1));
    scene.keep_alive(stream, Some(1), 25);
    assert_eq!(scene.sees(1).1, SyncState::Pending);
    assert_eq!(scene.pass(5.0), ["1<-Unresponsive"]);
    assert_eq!(scene.sees(1), (NodeState::Connected, SyncState::Stale), "its lease is not over");
    assert_eq!(scene.ack(stream, 1, 2), Vec::<String>::new());
    assert_eq!(scene.sees(1).1, SyncState::Stale, "what comes on a stream that is over is not heard");
}

#[test]
fn a_silent_node_is_unreachable_when_its_lease_is_over_and_not_before() {
    let mut scene = Scene::targeting(1);
    let stream = scene.join(running(1, 1));
    scene.pass(5.0);
    scene.beat(stream, Some(1));
    assert_eq!(scene.pass(14.5), Vec::<String>::new());
    assert_eq!(scene.sees(1).0, NodeState::Connected);
    assert_eq!(scene.pass(0.5), ["1<-Unresponsive"]);
    assert_eq!(scene.sees(1), (NodeState::Unreachable, SyncState::Synced), "shown with its last sync state");
    assert_eq!(scene.hello(running(1, 1)).0, ["2<-welcome"]);
    assert_eq!(scene.sees(1).0, NodeState::Connected);
}

#[test]
fn a_broken_connection_shows_when_the_lease_is_over() {
    let mut scene = Scene::targeting(1);
    let stream = scene.join(running(1, 1));
    scene.registry.closed(stream);
    assert_eq!(scene.sees(1).0, NodeState::Connected);
    let mut unreachable = 0;
    for _ in 0..60 {
        scene.elapsed += Duration::from_millis(500);
        let outcome = scene.registry.tick(scene.now());
        unreachable += happened(&outcome).iter().filter(|what| **what == What::Unreachable).count();
    }
    assert_eq!((scene.sees(1).0, unreachable), (NodeState::Unreachable, 1), "and is told once");
}

#[test]
fn a_node_that_left_is_shown_for_ten_minutes() {
    let mut scene = Scene::targeting(1);
    let stream = scene.join(running(1, 1));
    scene.say(stream, Message::Goodbye { shutdown: true, message: "drained".into() });
    assert_eq!(scene.sees(1).0, NodeState::Left);
    scene.pass(599.0);
    assert_eq!(scene.sees(1).0, NodeState::Left);
    scene.pass(1.0);
    assert!(!scene.knows(1));
}

#[test]
fn a_node_that_left_and_came_back_is_there() {
    let mut scene = Scene::targeting(1);
    let stream = scene.join(running(1, 1));
    scene.say(stream, Message::Goodbye { shutdown: true, message: String::new() });
    scene.join(booted(running(1, 1), 4));
    assert_eq!(scene.sees(1), (NodeState::Connected, SyncState::Synced));
}

#[test]
fn a_node_that_went_without_a_word_is_shown_for_a_week() {
    let mut scene = Scene::targeting(1);
    let stream = scene.join(running(1, 1));
    scene.registry.closed(stream);
    scene.elapsed += UNREACHABLE_SHOWN - Duration::from_secs(1);
    scene.registry.tick(scene.now());
    assert_eq!(scene.sees(1).0, NodeState::Unreachable);
    scene.elapsed += Duration::from_secs(1);
    scene.registry.tick(scene.now());
    assert!(!scene.knows(1));
}

#[test]
fn a_newer_stream_of_a_node_takes_over() {
    let mut scene = Scene::targeting(2);
    let old = scene.join(running(1, 1));
    let (sent, new) = scene.hello(running(1, 1));
    assert_eq!(sent, ["1<-Superseded", "2<-welcome", "2<-config 1 r2"]);
    assert_eq!(scene.ack(old, 1, 2), Vec::<String>::new());
    assert_eq!(scene.sees(1).1, SyncState::Pending, "the old stream is not heard any more");
    scene.ack(new.unwrap(), 1, 2);
    assert_eq!(scene.sees(1).1, SyncState::Synced);
    assert!(!scene.registry.closed(old).changed, "its end ends nothing");
    assert_eq!(scene.sees(1).0, NodeState::Connected);
}

#[test]
fn reboots_take_over_as_often_as_they_like() {
    let mut scene = Scene::targeting(1);
    for epoch in 4..20 {
        scene.join(booted(running(1, 1), epoch));
    }
    assert_eq!(scene.sees(1).0, NodeState::Connected);
}

#[test]
fn two_live_processes_with_one_identity_are_refused_until_it_is_quiet() {
    let mut scene = Scene::targeting(1);
    for expected in ["1<-welcome", "1<-Superseded", "2<-Superseded"] {
        let (sent, opened) = scene.hello(running(1, 1));
        assert!(opened.is_ok() && sent.contains(&expected.to_owned()), "{sent:?}");
        scene.pass(5.0);
    }
    let (sent, refused) = scene.hello(running(1, 1));
    assert_eq!(sent, ["3<-DuplicateIdentity"]);
    let Err(HelloError::Goodbye(goodbye)) = refused else { panic!("{refused:?}") };
    assert_eq!(goodbye.reason, GoodbyeReason::DuplicateIdentity);
    assert_eq!(scene.sees(1).0, NodeState::DuplicateIdentity);
    scene.pass(59.0);
    assert!(matches!(scene.hello(running(1, 1)).1, Err(HelloError::Goodbye(_))));
    scene.pass(1.0);
    assert!(scene.hello(running(1, 1)).1.is_ok(), "the survivor is welcome");
}

#[test]
fn reconnects_far_apart_are_no_duplicates() {
    let mut scene = Scene::targeting(1);
    for _ in 0..10 {
        scene.join(running(1, 1));
        scene.elapsed += Duration::from_secs(31);
    }
    assert_eq!(scene.sees(1).0, NodeState::Unreachable, "only silent by now");
}

#[test]
fn two_nodes_with_one_id_are_both_shown_and_told_apart() {
    let mut scene = Scene::targeting(1);
    scene.join(running(1, 1));
    let mut twin = running(2, 1);
    twin.identity.node_id = "n1".to_owned();
    let (outcome, opened) = scene.registry.hello(twin, scene.now());
    assert!(opened.is_ok());
    assert!(happened(&outcome).contains(&What::SameNodeId(NodeUid::from_bytes([1; 16]))));
    assert_eq!(scene.registry.nodes(scene.now().instant).count(), 2);
}

#[test]
fn a_node_with_a_history_that_this_store_does_not_have_raises_the_generation() {
    let mut scene = Scene::targeting(2);
    assert_eq!(scene.hello(running(1, 1)).1, Ok(StreamId(1)));
    assert_eq!(scene.registry.generation_floor(), 0, "an older revision is no foreign one");
    assert_eq!(scene.hello(running(2, 7)).0, ["2<-welcome"], "an update would only be refused");
    assert_eq!((scene.sees(2).1, scene.registry.generation_floor()), (SyncState::Stale, 2));
    let other = Version { digest: Digest::new(b"other".to_vec()), ..version(2) };
    scene.join(Hello { applied: Some(other), ..node(3) });
    assert_eq!(scene.registry.generation_floor(), 2, "the same number with another content is foreign too");
}

/// The revision that the update is based on, of the one update in this outcome; `Some(None)`: it is whole.
fn base(outcome: &Outcome) -> Option<Option<u64>> {
    outcome.sends.iter().find_map(|(_, out)| match out {
        Out::Config { base, .. } => Some(base.as_ref().map(|base| base.version.revision)),
        _ => None,
    })
}

#[test]
fn a_node_that_runs_what_is_known_is_sent_what_differs() {
    let mut scene = Scene::targeting(1);
    let (first, opened) = scene.registry.hello(node(1), scene.now());
    assert_eq!(base(&first), Some(None), "it runs nothing");
    scene.ack(opened.unwrap(), 1, 1);
    scene.join(running(2, 1));
    let target = |revision| revision_of(version(revision));
    let both = scene.registry.set_target(Some(target(2)), scene.now());
    assert_eq!(base(&both), Some(Some(1)));
    let (late, _) = scene.registry.hello(running(3, 1), scene.now());
    assert_eq!(base(&late), Some(Some(1)), "what ran before the target is still known");
    let other = Version { digest: Digest::new(b"other".to_vec()), ..version(1) };
    let (odd, _) = scene.registry.hello(Hello { applied: Some(other), ..node(4) }, scene.now());
    assert_eq!(base(&odd), Some(None), "the name is known, the content is not");
    for revision in 3..40 {
        scene.registry.set_target(Some(target(revision)), scene.now());
    }
    let (older, _) = scene.registry.hello(running(5, 2), scene.now());
    assert_eq!(base(&older), Some(None), "not everything is kept");
}

#[test]
fn an_update_that_does_not_fit_is_followed_by_a_whole_one_and_parks_nothing() {
    let mut scene = Scene::targeting(2);
    scene.target(3);
    let stream = scene.join(running(1, 2));
    let misfit = || Rejection { reason: Reason::BaseMismatch, ..reason() };
    let nack = |nonce| Message::Nack {
        nonce,
        rejected: Some(version(3)),
        running: Some(version(2)),
        rejections: vec![misfit()],
    };
    let outcome = scene.registry.message(stream, nack(1), scene.now());
    assert_eq!((words(&outcome), base(&outcome)), (vec!["1<-config 2 r3".to_owned()], Some(None)));
    assert_eq!(happened(&outcome)[0], What::Differs);
    assert_eq!(scene.sees(1).1, SyncState::Pending);
    // One that cannot fit has no other reading: no loop.
    assert_eq!(scene.say(stream, nack(2)), Vec::<String>::new());
    assert_eq!(scene.sees(1).1, SyncState::Rejected);
}

#[test]
fn a_node_whose_heartbeats_contradict_what_it_acknowledged_is_sent_everything_anew() {
    let mut scene = Scene::targeting(1);
    let stream = scene.join(running(1, 1));
    scene.target(2);
    scene.ack(stream, 1, 2);
    assert_eq!(scene.beat(stream, Some(1)), ["1<-ack"], "a heartbeat may have been on its way");
    scene.keep_alive(stream, Some(1), 25);
    scene.pass(5.0);
    let beat = Message::Heartbeat {
        seq: 1,
        applied: Some(version(1)),
        node_time: None,
        draining: false,
        drain_ordered: false,
    };
    let outcome = scene.registry.message(stream, beat, scene.now());
    assert_eq!(
        (words(&outcome), base(&outcome)),
        (vec!["1<-ack".into(), "1<-config 2 r2".into()], Some(None))
    );
    scene.ack(stream, 2, 2);
    assert_eq!(scene.beat(stream, Some(2)), ["1<-ack"]);
    let other = Version { digest: Digest::new(b"other".to_vec()), ..version(2) };
    let beat = Message::Heartbeat {
        seq: 1,
        applied: Some(other),
        node_time: None,
        draining: false,
        drain_ordered: false,
    };
    scene.registry.message(stream, beat, scene.now());
    assert_eq!(scene.registry.generation_floor(), 2, "the digest differs: the next revision is above it");
}

#[test]
fn a_broken_protocol_ends_the_stream_with_a_word() {
    let mut scene = Scene::targeting(1);
    let stream = scene.join(running(1, 1));
    assert_eq!(scene.say(stream, Message::Violation("a second hello".into())), ["1<-ProtocolError"]);
    assert_eq!(scene.beat(stream, Some(1)), Vec::<String>::new());
}

#[test]
fn the_clock_of_a_node_is_compared_with_ours() {
    let mut scene = Scene::targeting(1);
    let stream = scene.join(running(1, 1));
    for ahead in [2_500_i64, -1_500, 0] {
        let span = Duration::from_millis(ahead.unsigned_abs());
        let theirs = if ahead < 0 { scene.now().wall - span } else { scene.now().wall + span };
        let applied = Some(version(1));
        let beat = Message::Heartbeat {
            seq: 1,
            applied,
            node_time: Some(theirs),
            draining: false,
            drain_ordered: false,
        };
        scene.say(stream, beat);
        let node = scene.registry.node(NodeUid::from_bytes([1; 16])).unwrap();
        assert_eq!(node.clock_skew, Some(ahead * 1_000_000));
    }
}

#[test]
fn stopping_says_goodbye_to_all_and_opens_no_more() {
    let mut scene = Scene::targeting(1);
    scene.join(running(1, 1));
    scene.join(running(2, 1));
    let mut sent = words(&scene.registry.stop());
    sent.sort();
    assert_eq!(sent, ["1<-Shutdown", "2<-Shutdown"]);
    assert_eq!(scene.hello(running(3, 1)).1, Err(HelloError::Stopping));
}

#[test]
fn what_is_remembered_is_what_a_later_process_shows() {
    let mut scene = Scene::targeting(2);
    let stream = scene.join(running(1, 1));
    scene.nack(stream, 1, 2, Some(1));
    let outcome = scene.registry.stop();
    let records = outcome.records.into_iter().filter_map(|(_, record)| record).collect();

    let mut later = Scene::new();
    later.registry = Registry::remembering(records, later.now().instant);
    later.target(2);
    assert_eq!(later.registry.nodes(later.now().instant).count(), 0, "nothing can be said of it yet");
    later.pass(15.0);
    assert_eq!(later.sees(1), (NodeState::Unreachable, SyncState::Rejected));
    assert_eq!(later.hello(running(1, 1)).0, ["1<-welcome"], "the park survives the restart");
}

#[test]
fn a_full_registry_forgets_who_is_gone_and_nobody_who_is_there() {
    let mut scene = Scene::new();
    let known = (1..=3).map(|uid| sample_record(&format!("n{uid}"), uid)).collect();
    scene.registry = Registry::remembering(known, scene.now().instant);
    scene.registry.capacity = 3;
    scene.join(node(1));
    scene.join(node(2));
    scene.join(node(4));
    assert!(!scene.knows(3), "the one that never came back makes room");
    assert_eq!(scene.hello(node(5)).1, Err(HelloError::Full));
    scene.elapsed += LEASE;
    assert!(scene.hello(node(5)).1.is_ok(), "by now the others are silent");
    assert_eq!(scene.registry.nodes(scene.now().instant).count(), 3);
}

#[test]
fn only_what_shows_counts_as_a_change() {
    let mut scene = Scene::targeting(1);
    let stream = scene.join(running(1, 1));
    let beat = || Message::Heartbeat {
        seq: 1,
        applied: Some(version(1)),
        node_time: None,
        draining: false,
        drain_ordered: false,
    };
    assert!(!scene.registry.message(stream, beat(), scene.now()).changed, "one more heartbeat");
    assert!(!scene.registry.tick(scene.now()).changed);
    scene.registry.closed(stream);
    scene.elapsed += LEASE;
    assert!(scene.registry.tick(scene.now()).changed, "unreachable now");
    assert!(!scene.registry.tick(scene.now()).changed);
}
