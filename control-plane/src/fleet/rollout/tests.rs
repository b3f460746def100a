//! The rollout, told what nodes say and when.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

/// A fleet of nodes, and a rollout that is asked until it waits.
struct Scene {
    rollout: Rollout,
    nodes: Vec<Seen>,
    start: Instant,
    elapsed: Duration,
}

impl Scene {
    fn new(in_waves: bool, nodes: u8) -> Self {
        let seen = |uid| Seen { uid: uid_of(uid), presence: Presence::There, runs: false, refuses: false };
        let nodes = (0..nodes).map(seen).collect();
        Self { rollout: Rollout::new(in_waves), nodes, start: Instant::now(), elapsed: Duration::ZERO }
    }

    /// Who is told now, and how it ended, if it did.
    fn go(&mut self) -> (Vec<u8>, Option<End>) {
        let mut told = Vec::new();
        loop {
            match self.rollout.step(&self.nodes, self.start + self.elapsed) {
                Step::Wait => return (told, None),
                Step::Admit(uids) => told.extend(uids.iter().map(|uid| uid.as_bytes()[0])),
                Step::End(end) => return (told, Some(end)),
            }
        }
    }

    fn told(&mut self) -> Vec<u8> {
        let (told, end) = self.go();
        assert_eq!(end, None);
        told
    }

    fn runs(&mut self, nodes: impl IntoIterator<Item = u8>) {
        nodes.into_iter().for_each(|node| self.nodes[usize::from(node)].runs = true);
    }

    fn is(&mut self, node: u8, presence: Presence) {
        self.nodes[usize::from(node)].presence = presence;
    }

    fn pass(&mut self, time: Duration) {
        self.elapsed += time;
    }
}

fn uid_of(node: u8) -> NodeUid {
    NodeUid::from_bytes([node; 16])
}

#[test]
fn waves_are_one_a_tenth_and_all_of_them() {
    // Nodes → how many of them are told in each wave.
    let cases: [(u8, &[usize]); 8] = [
        (1, &[1]),
        (2, &[1, 1]),
        (3, &[1, 1, 1]),
        (10, &[1, 1, 8]),
        (11, &[1, 1, 9]),
        (21, &[1, 2, 18]),
        (100, &[1, 9, 90]),
        (200, &[1, 19, 180]),
    ];
    for (nodes, expected) in cases {
        let mut scene = Scene::new(true, nodes);
        let mut sizes = Vec::new();
        let end = loop {
            let (told, end) = scene.go();
            if end.is_some() {
                break end;
            }
            sizes.push(told.len());
            scene.runs(told);
            let (wave, waves) = scene.rollout.waves(usize::from(nodes));
            assert_eq!(
                (wave, waves),
                (u32::try_from(sizes.len()).unwrap(), u32::try_from(expected.len()).unwrap())
            );
        };
        assert_eq!((sizes.as_slice(), end), (expected, Some(End::Succeeded)), "{nodes} nodes");
        assert!(scene.rollout.is_admitted(uid_of(250)), "who comes later gets it");
    }
}

#[test]
fn at_once_everybody_is_told_and_nothing_stops_it() {
    let mut scene = Scene::new(false, 3);
    assert_eq!(scene.told(), [0, 1, 2]);
    scene.nodes[1].refuses = true;
    scene.runs([0]);
    assert_eq!(scene.told(), [0_u8; 0]);
    scene.runs([2]);
    assert_eq!(scene.go(), (vec![], Some(End::Failed)));
    let mut scene = Scene::new(false, 2);
    scene.told();
    scene.runs([0, 1]);
    assert_eq!(scene.go().1, Some(End::Succeeded));
}

#[test]
fn a_refusal_stops_it_and_nobody_else_is_told() {
    for (runs, refuses) in [(vec![], 0_u8), (vec![0], 1), (vec![0, 1], 2)] {
        let mut scene = Scene::new(true, 30);
        for node in runs {
            scene.told();
            scene.runs([node]);
        }
        scene.told();
        scene.nodes[usize::from(refuses)].refuses = true;
        assert_eq!(scene.go(), (vec![], Some(End::Refused)));
        scene.runs([0, 1, 2]);
        assert_eq!(scene.go(), (vec![], None), "it is over");
        assert!(!scene.rollout.is_admitted(uid_of(29)) && scene.rollout.is_admitted(uid_of(0)));
    }
}

#[test]
fn who_is_away_is_not_waited_for() {
    let mut scene = Scene::new(true, 3);
    scene.is(1, Presence::Away);
    assert_eq!(scene.told(), [0]);
    scene.runs([0]);
    assert_eq!(scene.told(), [2]);
    scene.runs([2]);
    assert_eq!(scene.go().1, Some(End::Succeeded));
    let mut nobody = Scene::new(true, 1);
    nobody.is(0, Presence::Away);
    assert_eq!(nobody.go().1, Some(End::Succeeded), "and it gets it when it comes");
}

#[test]
fn who_was_there_a_moment_ago_is_expected_first() {
    // As after a restart of the control plane: nobody is back, and nobody may be skipped for that.
    let mut scene = Scene::new(true, 30);
    (0..30).for_each(|node| scene.is(node, Presence::Expected));
    assert_eq!(scene.told(), [0_u8; 0]);
    scene.is(7, Presence::There);
    assert_eq!(scene.told(), [7]);
    scene.runs([7]);
    assert_eq!(scene.told(), [0_u8; 0], "the second wave is as large as the fleet will be");
    scene.is(8, Presence::There);
    scene.is(9, Presence::There);
    assert_eq!(scene.told(), [8, 9]);
    scene.runs([8, 9]);
    scene.is(10, Presence::There);
    assert_eq!(scene.told(), [10], "the last wave needs nobody in particular");
    scene.runs([10]);
    assert_eq!(scene.told(), [0_u8; 0]);
    (0..30).filter(|node| !(7..=10).contains(node)).for_each(|node| scene.is(node, Presence::Away));
    assert_eq!(scene.go().1, Some(End::Succeeded));
}

#[test]
fn a_silent_node_is_replaced_and_many_of_them_stop_it() {
    let mut scene = Scene::new(true, 30);
    assert_eq!(scene.told(), [0]);
    scene.is(0, Presence::Away);
    scene.pass(PATIENCE / 2);
    assert_eq!(scene.told(), [0_u8; 0], "it may be back");
    for next in 1..=2 {
        scene.pass(PATIENCE);
        assert_eq!(scene.told(), [next]);
    }
    scene.pass(PATIENCE);
    assert_eq!(scene.go(), (vec![], Some(End::Silent)), "three are no accident");

    let mut scene = Scene::new(true, 2);
    scene.told();
    scene.pass(PATIENCE);
    assert_eq!(scene.told(), [1]);
    scene.runs([0]);
    assert_eq!(scene.told(), [0_u8; 0]);
    assert!(!scene.rollout.is_silent(uid_of(0)), "it was late, and is not silent");
    scene.runs([1]);
    assert_eq!(scene.go().1, Some(End::Succeeded));
}

#[test]
fn after_a_restart_it_goes_on_where_nodes_say_they_are() {
    let mut scene = Scene::new(true, 30);
    scene.runs([4, 5, 6]);
    assert_eq!(scene.told().len(), 27, "two waves are through");
    let mut scene = Scene::new(true, 30);
    scene.runs([4]);
    scene.nodes[5].refuses = true;
    assert_eq!(scene.go(), (vec![], Some(End::Refused)));
}

/// What may happen to a node.
#[derive(Debug, Clone, Copy)]
enum Happens {
    Acks(u8),
    Refuses(u8),
    Goes(u8),
    Drops(u8),
    Comes(u8),
    Time(u8),
}

fn happens(nodes: u8) -> impl Strategy<Value = Happens> {
    let node = 0..nodes;
    prop_oneof![
        12 => node.clone().prop_map(Happens::Acks),
        1 => node.clone().prop_map(Happens::Refuses),
        1 => node.clone().prop_map(Happens::Goes),
        1 => node.clone().prop_map(Happens::Drops),
        2 => node.prop_map(Happens::Comes),
        2 => (1..40_u8).prop_map(Happens::Time),
    ]
}

proptest! {
    #[test]
    fn nobody_is_told_before_the_wave_before_runs_it_and_it_ends(
        (nodes, story) in (1..60_u8).prop_flat_map(|nodes| (Just(nodes), prop::collection::vec(happens(nodes), 0..300)))
    ) {
        let mut scene = Scene::new(true, nodes);
        let mut ended = None;
        let (mut told, mut refused) = (BTreeSet::new(), false);
        for what in story {
            let was_open = scene.rollout.everyone;
            let (new, end) = scene.go();
            prop_assert!(ended.is_none() || (new.is_empty() && end.is_none()), "nothing follows the end");
            prop_assert!(!refused || new.is_empty(), "nobody is told after a refusal");
            ended = ended.or(end);
            prop_assert!(!refused || ended == Some(End::Refused) || ended == Some(End::Silent));
            for node in &new {
                prop_assert!(told.insert(*node), "nobody is told twice");
                prop_assert_eq!(scene.nodes[usize::from(*node)].presence, Presence::There);
            }
            if !scene.rollout.everyone && !new.is_empty() {
                // What runs it and what is told now are a wave at most.
                let running = count(&scene.nodes, |node| node.presence == Presence::There && node.runs);
                let all = count(&scene.nodes, |node| node.presence != Presence::Away);
                prop_assert!(running + new.len() <= goal(scene.rollout.wave, all));
            }
            if scene.rollout.everyone && !was_open {
                // Everybody is told only when a tenth of those there run it, or nobody else is there to try it first.
                let there = |node: &Seen| node.presence == Presence::There;
                let running = count(&scene.nodes, |node| there(node) && node.runs);
                let all = count(&scene.nodes, |node| node.presence != Presence::Away);
                let untold = count(&scene.nodes, |node| there(node) && !node.runs && !told.contains(&node.uid.as_bytes()[0]));
                prop_assert!(running >= goal(2, all).min(all.saturating_sub(1)) || untold == 0 || all <= 2);
            }
            let at = |node: u8| usize::from(node);
            match what {
                Happens::Acks(node) if scene.rollout.is_admitted(uid_of(node)) && ended.is_none_or(|end| !end.is_stop()) => {
                    let seen = &mut scene.nodes[at(node)];
                    seen.runs |= seen.presence == Presence::There && !seen.refuses;
                }
                Happens::Refuses(node) if told.contains(&node) && !scene.nodes[at(node)].runs => {
                    scene.nodes[at(node)].refuses = true;
                    refused |= ended.is_none();
                }
                Happens::Acks(_) | Happens::Refuses(_) => {}
                Happens::Goes(node) => scene.is(node, Presence::Away),
                Happens::Drops(node) => scene.is(node, Presence::Expected),
                Happens::Comes(node) => scene.is(node, Presence::There),
                Happens::Time(seconds) => scene.pass(Duration::from_secs(seconds.into())),
            }
        }
        // Whatever was: leases end, and then so does it.
        for node in 0..nodes {
            if scene.nodes[usize::from(node)].presence == Presence::Expected {
                scene.is(node, Presence::Away);
            }
        }
        for _ in 0..=nodes {
            ended = ended.or(scene.go().1);
            scene.pass(PATIENCE);
        }
        prop_assert!(ended.is_some());
    }
}
