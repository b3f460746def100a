//! Shares, bounds and moves, counted. Chance is seeded: a distribution is judged once, by the number that this seed
//! gives, so no test is ever unlucky.

use super::*;
use o1_proto::model::HashKey;
use std::{cell::Cell, collections::HashSet};

/// A store of a test.
struct Scene {
    loads: Vec<Cell<u32>>,
    out: HashSet<usize>,
}

impl Scene {
    fn of(count: usize) -> Self {
        Self { loads: vec![Cell::new(0); count], out: HashSet::new() }
    }

    fn without(count: usize, out: &[usize]) -> Self {
        Self { out: out.iter().copied().collect(), ..Self::of(count) }
    }

    fn carry(&self, at: usize) {
        self.loads[at].set(self.loads[at].get() + 1);
    }
}

impl Endpoints for Scene {
    fn fits(&self, at: usize) -> bool {
        !self.out.contains(&at)
    }
    fn load(&self, at: usize) -> u32 {
        self.loads[at].get()
    }
    fn total(&self) -> Option<u64> {
        self.out.is_empty().then(|| self.loads.iter().map(|load| u64::from(load.get())).sum())
    }
}

fn balancer(balance: &Balance, weights: &[u32]) -> Balancer {
    let marks: Vec<_> = (0..weights.len()).map(|at| format!("http://host-{at}/mcp")).collect();
    let named: Vec<_> = marks.iter().map(String::as_str).zip(weights.iter().copied()).collect();
    of_names(balance, &named)
}

fn of_names(balance: &Balance, members: &[(&str, u32)]) -> Balancer {
    let members: Vec<_> =
        members.iter().map(|(mark, weight)| Member { weight: *weight, mark: mark.as_bytes() }).collect();
    Balancer::new(balance, &members)
}

fn consistent(virtual_nodes: u32) -> Balance {
    Balance::ConsistentHash { key: HashKey::Session, virtual_nodes }
}

fn key(number: usize) -> u64 {
    hash(b"session", &number.to_be_bytes())
}

/// How often each is chosen in so many picks.
fn counts(balancer: &Balancer, scene: &Scene, picks: usize) -> Vec<u64> {
    let mut rng = Rng::with_seed(7);
    let mut counts = vec![0; scene.loads.len()];
    for number in 0..picks {
        counts[balancer.pick(scene, || key(number), &mut rng).expect("some fit")] += 1;
    }
    counts
}

/// Pearson's statistic against shares by weight, over those with a weight.
fn chi_square(counts: &[u64], weights: &[u32]) -> f64 {
    let float = |number: u64| u32::try_from(number).map(f64::from).expect("a small number");
    let picks: u64 = counts.iter().sum();
    let total = f64::from(weights.iter().sum::<u32>());
    counts
        .iter()
        .zip(weights)
        .filter(|(_, weight)| **weight > 0)
        .map(|(count, weight)| {
            let expected = float(picks) * f64::from(*weight) / total;
            (float(*count) - expected).powi(2) / expected
        })
        .sum()
}

/// 99.9 % of samples are below, for 9 and for 4 degrees of freedom.
const BELOW_9: f64 = 27.88;
const BELOW_4: f64 = 18.47;

#[test]
fn random_is_uniform_whatever_the_weights_and_among_those_that_fit() {
    let weights = [1, 9, 1, 1, 1, 1, 1, 1, 1, 1];
    let random = balancer(&Balance::Random, &weights);
    let all = counts(&random, &Scene::of(10), 100_000);
    assert!(chi_square(&all, &[1; 10]) < BELOW_9, "{all:?}");
    let out = [0, 2, 4, 6, 8];
    let some = counts(&random, &Scene::without(10, &out), 100_000);
    assert!(out.iter().all(|at| some[*at] == 0));
    assert!(chi_square(&some, &[0, 1, 0, 1, 0, 1, 0, 1, 0, 1]) < BELOW_4, "{some:?}");
    let nearly_none = counts(&random, &Scene::without(10, &[0, 1, 2, 3, 4, 5, 6, 7, 8]), 1000);
    assert_eq!(nearly_none[9], 1000);
}

// The predecessor's balancer ignored weights.
#[test]
fn weighted_random_follows_the_weights_also_among_those_that_fit() {
    let weights = [1, 2, 3, 4, 5, 1, 2, 3, 4, 5];
    let random = balancer(&Balance::WeightedRandom, &weights);
    let all = counts(&random, &Scene::of(10), 100_000);
    assert!(chi_square(&all, &weights) < BELOW_9, "{all:?}");
    assert!(chi_square(&all, &[1; 10]) > 1000.0, "the test can fail");
    let some = counts(&random, &Scene::without(10, &[0, 1, 2, 3, 4]), 100_000);
    assert!(chi_square(&some, &[0, 0, 0, 0, 0, 1, 2, 3, 4, 5]) < BELOW_4, "{some:?}");
}

#[test]
fn idle_endpoints_share_by_weight_under_least_connections() {
    let equal = counts(&balancer(&Balance::LeastConnections, &[1; 10]), &Scene::of(10), 100_000);
    assert!(chi_square(&equal, &[1; 10]) < BELOW_9, "{equal:?}");
    let two = counts(&balancer(&Balance::LeastConnections, &[1, 3]), &Scene::of(2), 100_000);
    assert!((24_000..26_000).contains(&two[0]), "{two:?}");
}

#[test]
fn least_connections_takes_the_lesser_load_for_its_weight_of_two() {
    let mut rng = Rng::with_seed(7);
    let two = balancer(&Balance::LeastConnections, &[1, 2]);
    for (loads, expected) in [([1, 0], 1), ([0, 1], 0), ([1, 3], 0), ([2, 3], 1), ([5, 9], 1), ([5, 11], 0)] {
        let scene = Scene::of(2);
        scene.loads.iter().zip(loads).for_each(|(cell, load)| cell.set(load));
        for _ in 0..50 {
            assert_eq!(two.pick(&scene, || 0, &mut rng), Some(expected), "{loads:?}");
        }
    }
    // Calls that never end: the most loaded is never more than a little above the average. Of random choices it
    // would be some 40 above.
    let many = balancer(&Balance::LeastConnections, &[1; 20]);
    let scene = Scene::of(20);
    for _ in 0..4000 {
        scene.carry(many.pick(&scene, || 0, &mut rng).expect("all fit"));
    }
    let most = scene.loads.iter().map(Cell::get).max().expect("there are loads");
    assert!((200..205).contains(&most), "{most}");
}

#[test]
fn round_robin_is_exact_in_every_round() {
    for weights in [&[1, 1, 1][..], &[1, 2], &[5, 1, 1], &[3, 0, 7, 11], &[100, 200, 300], &[1_000_000, 3]] {
        let turns = balancer(&Balance::RoundRobin, weights);
        let weights: Vec<_> = weights.iter().map(|weight| u64::from((*weight).max(1))).collect();
        let common = weights.iter().copied().fold(0, shares::divisor);
        let round: u64 = weights.iter().sum::<u64>() / common;
        for _ in 0..2 {
            let counts = counts(&turns, &Scene::of(weights.len()), usize::try_from(round).unwrap());
            let expected: Vec<_> = weights.iter().map(|weight| weight / common).collect();
            assert_eq!(counts, expected);
        }
    }
}

#[test]
fn round_robin_spreads_the_turns_of_the_heavy_and_passes_over_who_does_not_fit() {
    let mut rng = Rng::with_seed(7);
    let turns = balancer(&Balance::RoundRobin, &[5, 1, 1]);
    let round: Vec<_> = (0..14).filter_map(|_| turns.pick(&Scene::of(3), || 0, &mut rng)).collect();
    let longest = round.chunk_by(|a, b| a == b).map(<[usize]>::len).max();
    assert!(longest <= Some(4), "{round:?}");
    let equal = balancer(&Balance::RoundRobin, &[2; 4]);
    let order: Vec<_> = (0..8).filter_map(|_| equal.pick(&Scene::of(4), || 0, &mut rng)).collect();
    assert_eq!(order, [0, 1, 2, 3, 0, 1, 2, 3]);
    // Whose turn is over leaves it to nobody in particular.
    assert_eq!(counts(&equal, &Scene::without(4, &[1]), 300), [100, 0, 100, 100]);
    let weighted = balancer(&Balance::RoundRobin, &[4, 2, 1]);
    assert_eq!(counts(&weighted, &Scene::without(3, &[0]), 300), [0, 200, 100]);
    let skewed = balancer(&Balance::RoundRobin, &[1_000_000, 1, 1]);
    let left = counts(&skewed, &Scene::without(3, &[0]), 1000);
    assert!(left[0] == 0 && (400..600).contains(&left[1]), "{left:?}");
}

#[test]
fn nothing_is_chosen_where_nothing_fits() {
    for balance in [
        Balance::RoundRobin,
        Balance::LeastConnections,
        Balance::Random,
        Balance::WeightedRandom,
        consistent(10),
    ] {
        let chosen =
            balancer(&balance, &[1, 2]).pick(&Scene::without(2, &[0, 1]), || 1, &mut Rng::with_seed(7));
        assert_eq!(chosen, None, "{balance:?}");
    }
}

const KEYS: usize = 20_000;

/// Where each key goes while nothing is in flight.
fn homes(balancer: &Balancer, scene: &Scene) -> Vec<usize> {
    let mut rng = Rng::with_seed(7);
    (0..KEYS).map(|number| balancer.pick(scene, || key(number), &mut rng).expect("some fit")).collect()
}

/// With 150 points each, shares of a ring differ by about a twelfth (1/√150) from even ones, as a standard
/// deviation; three of them are allowed.
const TOLERANCE: f64 = 3.0 / 12.2;

#[test]
fn an_endpoint_that_leaves_moves_its_own_keys_and_no_others() {
    const COUNT: usize = 10;
    let ring = balancer(&consistent(150), &[1; COUNT]);
    let before = homes(&ring, &Scene::of(COUNT));
    for gone in 0..COUNT {
        let after = homes(&ring, &Scene::without(COUNT, &[gone]));
        let moved = before.iter().zip(&after).filter(|(old, new)| old != new).count();
        assert!(before.iter().zip(&after).all(|(old, new)| old == new || *old == gone), "{gone}");
        let most = f64::from(u32::try_from(KEYS / COUNT).unwrap()) * (1.0 + TOLERANCE);
        assert!(f64::from(u32::try_from(moved).unwrap()) <= most, "{gone}: {moved} of {KEYS}");
    }
}

#[test]
fn a_configuration_with_one_less_moves_only_its_keys_whatever_the_order() {
    let name = |at: usize| format!("http://host-{at}/mcp");
    let names: Vec<_> = (0..6).map(name).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), 2)).collect();
    let fewer: Vec<_> = all.iter().rev().copied().filter(|(name, _)| *name != names[2]).collect();
    let (before, after) = (of_names(&consistent(100), &all), of_names(&consistent(100), &fewer));
    let (old, new) = (homes(&before, &Scene::of(6)), homes(&after, &Scene::of(5)));
    for (old, new) in old.iter().zip(&new) {
        assert!(*old == 2 || all[*old].0 == fewer[*new].0);
    }
    assert!(old.contains(&2));
}

#[test]
fn points_on_the_ring_follow_the_weights() {
    let weights = [1, 2, 4];
    let homes = homes(&balancer(&consistent(150), &weights), &Scene::of(3));
    for (at, weight) in [1, 2, 4].into_iter().enumerate() {
        let share = homes.iter().filter(|home| **home == at).count();
        let expected = KEYS * weight / 7;
        assert!(share.abs_diff(expected) < expected / 4, "{at}: {share}, expected {expected}");
    }
    // The same command twice is two endpoints.
    let twice = of_names(&consistent(150), &[("npx", 1), ("npx", 1)]);
    let chosen = counts(&twice, &Scene::of(2), 1000);
    assert!(chosen.iter().all(|count| *count > 300), "{chosen:?}");
    // A ring larger than anybody needs is cut down, and nobody falls off it.
    let huge = balancer(&consistent(10_000), &[1, 1_000_000]);
    assert!(huge.pick(&Scene::without(2, &[1]), || 5, &mut Rng::with_seed(7)) == Some(0));
}

#[test]
fn no_endpoint_carries_more_than_its_bound_whatever_keys_come() {
    for (count, out) in [(2, vec![]), (10, vec![]), (10, vec![3, 4]), (7, vec![0])] {
        let ring = balancer(&consistent(150), &vec![1; count]);
        let scene = Scene::without(count, &out);
        let mut rng = Rng::with_seed(7);
        let alive = u32::try_from(count - out.len()).unwrap();
        // One key for all, then few, then many: nothing ever ends.
        for number in 0..3000_u32 {
            let number_of_key = if number < 1000 { 1 } else { number % 3 + number / 2000 * number };
            let at =
                ring.pick(&scene, || key(number_of_key as usize), &mut rng).expect("the bounds leave room");
            scene.carry(at);
            let average = f64::from(number + 1) / f64::from(alive);
            let bound = (1.25 * average).ceil();
            assert!(f64::from(scene.load(at)) <= bound, "call {number} of {count}: {}", scene.load(at));
        }
    }
}

#[test]
fn a_key_comes_home_when_its_endpoint_has_room_again() {
    let ring = balancer(&consistent(150), &[1; 4]);
    let scene = Scene::of(4);
    let mut rng = Rng::with_seed(7);
    let mut pick = || ring.pick(&scene, || key(9), &mut rng).expect("all fit");
    let home = pick();
    scene.loads[home].set(50);
    let beside = pick();
    assert_ne!(beside, home);
    assert_eq!(pick(), beside, "the next on the ring, not anybody");
    scene.loads[home].set(0);
    assert_eq!(pick(), home);
}

#[test]
fn keys_that_look_alike_are_spread_over_the_ring() {
    let texts: Vec<_> = (0..64_000).map(|number| format!("user-{number}")).collect();
    let numbers: Vec<_> = (0..64_000_u32).map(u32::to_le_bytes).collect();
    let sets: [Vec<&[u8]>; 2] =
        [texts.iter().map(String::as_bytes).collect(), numbers.iter().map(<[u8; 4]>::as_slice).collect()];
    for keys in sets {
        let places: Vec<_> = keys.iter().map(|key| hash(b"principal", key)).collect();
        assert_eq!(places.iter().collect::<HashSet<_>>().len(), keys.len(), "no two at one place");
        // By the highest and by the lowest bits; 99.9 % of samples are below 103.4 for 63 degrees of freedom.
        for shift in [58, 0] {
            let mut counts = vec![0; 64];
            places.iter().for_each(|place| counts[usize::try_from(place >> shift & 63).unwrap()] += 1);
            let distance = chi_square(&counts, &[1; 64]);
            assert!(distance < 103.4, "{distance} by bits from {shift}");
        }
    }
    assert_ne!(hash(b"tool", b"x"), hash(b"prompt", b"x"));
    assert_ne!(hash(b"tool", b"x"), hash(b"tool", b"x\0"));
}
