//! Whatever nodes say and whatever fails: terms grow and have one target, nothing follows by itself while it must not,
//! and failovers are bounded.

use super::*;
use o1_proto::model::DecisionState;
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    See(u8, Verdict, Verdict),
    Flee(u8),
    Obey(u8, bool),
    Suspect(u8, bool),
    Away(u8),
    Join(u8),
    Claim(u8, u64, bool),
    Store(bool),
    Restart(u64),
    Order(Store, bool),
    Pin(Mode, Option<u64>),
    Maintenance(bool),
    Pass(u8),
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![3 => Just(Up), 3 => Just(Down), 1 => Just(Unknown)]
}

fn step() -> impl Strategy<Value = Step> {
    let node = 1..=5_u8;
    prop_oneof![
        8 => (node.clone(), verdict(), verdict()).prop_map(|(node, p, b)| Step::See(node, p, b)),
        2 => node.clone().prop_map(Step::Flee),
        2 => (node.clone(), any::<bool>()).prop_map(|(node, yes)| Step::Obey(node, yes)),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, yes)| Step::Suspect(node, yes)),
        1 => node.clone().prop_map(Step::Away),
        2 => node.clone().prop_map(Step::Join),
        1 => (node, 0..50_u64, any::<bool>()).prop_map(|(node, term, backup)| Step::Claim(node, term, backup)),
        1 => (0..100_u64).prop_map(Step::Restart),
        1 => any::<bool>().prop_map(Step::Maintenance),
        8 => (1..120_u8).prop_map(Step::Pass),
    ]
}

/// With operators, and with a disk that fails.
fn any_step() -> impl Strategy<Value = Step> {
    let store = prop_oneof![Just(Store::Primary), Just(Store::Backup)];
    let mode = prop_oneof![Just(Mode::Auto), Just(Mode::PinPrimary), Just(Mode::PinBackup)];
    prop_oneof![
        28 => step(),
        1 => any::<bool>().prop_map(Step::Store),
        1 => (store, any::<bool>()).prop_map(|(store, force)| Step::Order(store, force)),
        1 => (mode, proptest::option::of(1..100_u64)).prop_map(|(mode, expires)| Step::Pin(mode, expires)),
    ]
}

/// Does it, if it can be done; what was decided by itself meanwhile, by the clock of people.
fn act(scene: &mut Scene, step: &Step) -> Vec<(SystemTime, Decision)> {
    let there = |scene: &Scene, node| scene.nodes.contains_key(&node);
    match *step {
        Step::See(node, primary, backup) if there(scene, node) => scene.see(&[node], primary, backup),
        Step::Flee(node) if there(scene, node) => scene.flee(node),
        Step::Obey(node, yes) if there(scene, node) => scene.change(node, |one| one.obeys = yes),
        Step::Suspect(node, yes) if there(scene, node) => scene.change(node, |one| one.suspect = yes),
        Step::Away(node) if there(scene, node) => scene.away(node),
        Step::Join(node) if !there(scene, node) => scene.join(node, Puppet::default()),
        Step::Claim(node, term, backup) if there(scene, node) => scene.change(node, |one| {
            let backup = backup && one.state.term <= term;
            one.state.term = one.state.term.max(term);
            if backup {
                (one.state.active, one.state.phase) = (Store::Backup, Phase::Backup);
            }
        }),
        Step::Store(works) => scene.store_works = works,
        Step::Restart(after) => {
            let awaited: Vec<u8> = scene.nodes.keys().copied().collect();
            scene.restart(after, &awaited);
            scene.rejoin();
        }
        Step::Order(store, force) => drop(scene.order_with(store, |order| order.force = force)),
        Step::Pin(mode, expires) => scene.mode(mode, expires),
        Step::Maintenance(on) => scene.maintenance(on, None),
        Step::Pass(halves) => return pass(scene, halves),
        _ => {}
    }
    Vec::new()
}

fn pass(scene: &mut Scene, halves: u8) -> Vec<(SystemTime, Decision)> {
    let mut all = Vec::new();
    for _ in 0..halves {
        scene.step();
        let desired = scene.status().desired;
        let (decided, _) = scene.decisions.tick(scene.now);
        for decision in decided {
            assert_eq!(scene.decisions.state(), DecisionState::Active, "I11: {decision:?}");
            if decision.target == Store::Backup {
                assert_ne!(scene.status().backup, Down, "a broken backup: {decision:?}");
                if desired != Some(Store::Backup) {
                    all.push((scene.now.wall, decision));
                }
            }
        }
        scene.keep();
        scene.deliver();
    }
    all
}

/// I5: the terms of what went out grow, and each has one target; only a pin may change under the same term.
fn check_terms(sent: &[Directive]) {
    for pair in sent.windows(2) {
        let same = pair[0].term == pair[1].term && pair[0].target == pair[1].target;
        assert!(pair[0].term < pair[1].term || (same && pair[0].pinned != pair[1].pinned), "I5: {pair:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn terms_grow_whatever_happens(steps in proptest::collection::vec(any_step(), 1..120)) {
        let mut scene = Scene::of(3);
        for step in &steps {
            act(&mut scene, step);
            check_terms(&scene.sent);
        }
    }

    #[test]
    fn failovers_that_nobody_orders_are_bounded(steps in proptest::collection::vec(step(), 1..120)) {
        let mut scene = Scene::of(3);
        let mut failovers: Vec<SystemTime> = Vec::new();
        for step in &steps {
            failovers.extend(act(&mut scene, step).into_iter().map(|(at, _)| at));
        }
        check_terms(&scene.sent);
        // I12: within any window, one more than it has holds.
        for (first, from) in failovers.iter().enumerate() {
            for (last, to) in failovers.iter().enumerate().skip(first) {
                let window = to.duration_since(*from).expect("time passes").as_secs();
                prop_assert!(last - first <= usize::try_from(window / 60).expect("small"), "I12: {failovers:?}");
            }
        }
    }
}
