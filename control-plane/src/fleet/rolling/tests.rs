//! The registry in the middle of a rollout.

use super::*;
use crate::{
    config::Digest,
    fleet::{Hello, Identity, Message, Out, Reason, Rejection, StreamId, sample_record},
};
use std::time::{Duration, UNIX_EPOCH};

/// A fleet whose nodes 1, 2, … run revision 1 on the streams of the same numbers.
struct Scene {
    registry: Registry,
    start: Instant,
    elapsed: Duration,
}

impl Scene {
    fn new(nodes: u8) -> Self {
        let mut scene =
            Self { registry: Registry::default(), start: Instant::now(), elapsed: Duration::ZERO };
        scene.registry.set_target(Some(revision(1)), scene.now());
        (1..=nodes).for_each(|node| drop(scene.join(node, 1)));
        scene
    }

    fn now(&self) -> Now {
        Now {
            instant: self.start + self.elapsed,
            wall: UNIX_EPOCH + Duration::from_secs(1_000_000) + self.elapsed,
        }
    }

    fn join(&mut self, node: u8, applied: u64) -> Vec<String> {
        let identity = Identity { node_id: format!("n{node}"), ..sample_record("n", node).identity };
        let hello = Hello { identity, applied: Some(version(applied)), refused: None };
        let (outcome, opened) = self.registry.hello(hello, self.now());
        opened.expect("it is welcomed");
        told(&outcome)
    }

    fn roll_out(&mut self, target: u64, base: u64) -> Vec<String> {
        told(&self.registry.roll_out(revision(target), Some(revision(base)), self.now()))
    }

    fn ack(&mut self, stream: u64, nonce: u64, applied: u64) -> Vec<String> {
        let ack = Message::Ack { nonce, applied: Some(version(applied)), apply_time: None };
        told(&self.registry.message(StreamId(stream), ack, self.now()))
    }

    fn nack(&mut self, stream: u64, nonce: u64, rejected: u64) -> Outcome {
        let rejection = Rejection {
            resource: None,
            reason: Reason::LocalDependency,
            field_path: String::new(),
            message: "no".to_owned(),
        };
        let (rejected, running, rejections) = (Some(version(rejected)), None, vec![rejection]);
        let nack = Message::Nack { nonce, rejected, running, rejections };
        self.registry.message(StreamId(stream), nack, self.now())
    }

    fn state(&self) -> (RolloutState, u32, u32) {
        let progress = self.registry.progress(self.now().instant).expect("a rollout");
        (progress.state, progress.wave, progress.waves)
    }

    fn standing(&self) -> Vec<Standing> {
        let progress = self.registry.progress(self.now().instant).expect("a rollout");
        progress.nodes.iter().map(|node| node.standing).collect()
    }

    fn sync(&self, node: u8) -> SyncState {
        let node = self.registry.node(NodeUid::from_bytes([node; 16])).expect("known");
        self.registry.sync(node, self.now().instant)
    }
}

fn version(revision: u64) -> Version {
    Version { generation: 1, revision, digest: Digest::new(vec![u8::try_from(revision).unwrap()]) }
}

fn revision(number: u64) -> Arc<Revision> {
    let name = format!("only-in-{number}");
    let upstream = model::Upstream { name, ..model::Upstream::default() };
    let fleet = model::Fleet { upstreams: vec![upstream], ..model::Fleet::default() };
    Arc::new(Revision {
        version: version(number),
        fleet: Arc::new(fleet),
        accepted_at: UNIX_EPOCH,
        source: String::new(),
    })
}

/// What was sent: `2<-r7`, and `2<-welcome r7`.
fn told(outcome: &Outcome) -> Vec<String> {
    let sends = outcome.sends.iter().filter_map(|(stream, out)| match out {
        Out::Config { revision, .. } => Some(format!("{}<-r{}", stream.0, revision.version.revision)),
        Out::Welcome(welcome) => {
            Some(format!("{}<-welcome r{}", stream.0, welcome.target.as_ref().map_or(0, |one| one.revision)))
        }
        _ => None,
    });
    sends.collect()
}

#[test]
fn each_wave_is_told_when_the_one_before_runs_it() {
    let mut scene = Scene::new(3);
    assert_eq!(scene.roll_out(2, 1), ["1<-r2"]);
    assert_eq!(scene.standing(), [Standing::Sent, Standing::Waiting, Standing::Waiting]);
    assert_eq!((scene.sync(1), scene.sync(3)), (SyncState::Pending, SyncState::Pending), "not stale");
    assert_eq!(scene.state(), (RolloutState::Running, 1, 3));
    assert_eq!(scene.ack(1, 1, 2), ["2<-r2"], "in the same moment");
    assert_eq!(scene.ack(2, 1, 2), ["3<-r2"]);
    assert_eq!(scene.ack(3, 1, 2), Vec::<String>::new());
    assert_eq!(scene.state(), (RolloutState::Succeeded, 3, 3));
    assert_eq!(scene.sync(3), SyncState::Synced);
    assert_eq!(scene.join(4, 1), ["4<-welcome r2", "4<-r2"], "who comes later gets it");
}

#[test]
fn one_node_is_told_at_once() {
    let mut scene = Scene::new(1);
    assert_eq!(scene.roll_out(2, 1), ["1<-r2"]);
    scene.ack(1, 1, 2);
    assert_eq!(scene.state(), (RolloutState::Succeeded, 1, 1));
}

#[test]
fn a_refusal_leaves_the_others_alone_and_what_goes_back_goes_to_those_who_need_it() {
    let mut scene = Scene::new(4);
    scene.roll_out(2, 1);
    scene.ack(1, 1, 2);
    let outcome = scene.nack(2, 1, 2);
    let ended = outcome.ended.clone().expect("it is over");
    assert_eq!(told(&outcome), Vec::<String>::new());
    assert_eq!(ended.report().to_string(), "node `n2` refused it: no");
    assert_eq!((ended.report().applied, scene.state().0), (1, RolloutState::RollingBack));
    assert_eq!(scene.join(5, 1), ["5<-welcome r1"], "nobody new gets it");
    assert_eq!(scene.sync(4), SyncState::Pending);
    let served: Vec<_> =
        scene.registry.served().unwrap().upstreams.iter().map(|one| one.name.clone()).collect();
    assert_eq!(served, ["only-in-2", "only-in-1"], "some node serves either");
    let back = told(&scene.registry.roll_out(revision(3), None, scene.now()));
    assert_eq!(back, ["1<-r3", "2<-r3", "3<-r3", "4<-r3", "5<-r3"]);
    for stream in 1..=5 {
        scene.ack(stream, if stream <= 2 { 2 } else { 1 }, 3);
    }
    assert_eq!(scene.state(), (RolloutState::Succeeded, 1, 1));
    assert!((1..=5).all(|node| scene.sync(node) == SyncState::Synced));
}

#[test]
fn a_newer_change_takes_over_and_begins_with_one_node() {
    let mut scene = Scene::new(3);
    scene.roll_out(2, 1);
    scene.ack(1, 1, 2);
    assert_eq!(scene.roll_out(3, 1), ["1<-r3"], "node 2 still has to answer");
    assert_eq!(scene.ack(2, 1, 2), Vec::<String>::new(), "its turn has not come");
    assert_eq!(scene.ack(1, 2, 3), ["2<-r3"]);
    assert_eq!(scene.ack(2, 2, 3), ["3<-r3"], "which never saw the one between");
    scene.ack(3, 1, 3);
    assert_eq!(scene.state().0, RolloutState::Succeeded);
}

#[test]
fn a_node_that_goes_away_is_waited_for_a_while_and_gets_it_when_it_is_back() {
    let mut scene = Scene::new(2);
    scene.roll_out(2, 1);
    scene.ack(1, 1, 2);
    scene.registry.closed(StreamId(2));
    assert_eq!(scene.standing(), [Standing::Applied, Standing::Away]);
    for _ in 0..100 {
        scene.elapsed += Duration::from_millis(500);
        let beat = Message::Heartbeat {
            seq: 1,
            applied: Some(version(2)),
            node_time: None,
            draining: false,
            drain_ordered: false,
        };
        scene.registry.message(StreamId(1), beat, scene.now());
        scene.registry.tick(scene.now());
    }
    assert_eq!(scene.state().0, RolloutState::Succeeded);
    assert_eq!(scene.join(2, 1), ["3<-welcome r2", "3<-r2"]);
}

#[test]
fn after_a_restart_the_rollout_goes_on_with_the_nodes_that_come_back() {
    let before = Scene::new(3);
    let records = before.registry.remembered().map(Node::record).collect();
    let registry = Registry::remembering(records, before.now().instant);
    let mut scene = Scene { registry, ..before };
    assert_eq!(scene.roll_out(2, 1), Vec::<String>::new(), "nobody is back");
    assert_eq!(scene.state().0, RolloutState::Running);
    assert_eq!(scene.join(1, 2), ["1<-welcome r2"], "it has it already");
    assert_eq!(scene.join(3, 1), ["2<-welcome r1"]);
    scene.elapsed += Duration::from_millis(500);
    assert_eq!(told(&scene.registry.tick(scene.now())), ["2<-r2"], "the second wave");
    assert_eq!(scene.nack(2, 1, 2).ended.unwrap().state, RolloutState::RollingBack);
}
