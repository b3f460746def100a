use super::*;
use crate::stats::{Batches, Endpoint, Histogram, LookUps, Reachability};
use std::time::Duration;

const A: NodeUid = NodeUid::from_bytes([1; 16]);
const B: NodeUid = NodeUid::from_bytes([2; 16]);

fn sample(upstream: &str, requests: u64, errors: u64, counts: &[u64]) -> Sample {
    let bounds = [1_000, 2_000, 4_000];
    Sample {
        upstream: upstream.to_owned(),
        counters: Counters { requests, errors, bytes_in: requests * 10, ..Counters::default() },
        active_requests: 0,
        latency: match counts {
            [] => Histogram::default(),
            _ => Histogram { bounds: bounds.to_vec(), counts: counts.to_vec(), sum: 0 },
        },
        reachability: Reachability::Reachable,
        since: None,
        last_error: String::new(),
        legacy: true,
        modern: false,
        tools: None,
        cache: Default::default(),
        endpoints: BTreeMap::new(),
        batches: Batches::default(),
    }
}

/// One with this many look-ups in the resources tier, and attempts at one endpoint.
fn looked(hits: u64, stale: u64, misses: u64, coalesced: u64) -> Sample {
    let mut sample = sample("a", misses, 0, &[]);
    let tier = &mut sample.cache[Tier::Resources.at()];
    tier.counters.look_ups = LookUps { hits, stale, misses, coalesced, stored: misses };
    tier.counters.evictions.expired = misses / 2;
    (tier.entries, tier.bytes) = (misses - misses / 2, 100 * misses);
    sample.endpoints.insert("e".to_owned(), attempted(misses));
    sample.batches.sizes = Histogram { bounds: vec![1], counts: vec![misses, 1], sum: misses + 5 };
    sample
}

fn attempted(picks: u64) -> Endpoint {
    let counters = EndpointCounters { picks, ..EndpointCounters::default() };
    Endpoint { counters, ..Endpoint::default() }
}

fn report(epoch: u64, seq: u64, upstreams: Vec<Sample>) -> Report {
    Report { epoch, seq, upstreams, sessions: 0, resident_bytes: None }
}

/// A ledger whose reports arrive at given seconds.
struct Scene {
    ledger: Ledger,
    start: Instant,
}

impl Scene {
    fn new() -> Self {
        Self { ledger: Ledger::default(), start: Instant::now() }
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn send(&mut self, node: NodeUid, second: u64, report: Report) -> Result<u64, ReportError> {
        self.ledger.accept(node, report, self.at(second))
    }

    fn requests(&self) -> u64 {
        self.totals("a").requests
    }

    fn totals(&self, upstream: &str) -> Counters {
        self.everything(upstream).counters
    }

    fn everything(&self, upstream: &str) -> Totals {
        self.ledger.upstream(upstream).map(UpstreamLedger::totals).unwrap_or_default()
    }

    fn rates(&self, second: u64) -> Option<Rates> {
        self.ledger.upstream("a")?.rates(self.at(second))
    }
}

#[test]
fn a_report_that_arrives_twice_or_late_counts_once() {
    let mut scene = Scene::new();
    let second = report(1, 2, vec![sample("a", 20, 0, &[])]);
    assert_eq!(scene.send(A, 0, second.clone()), Ok(2));
    assert_eq!(scene.send(A, 1, second), Ok(2));
    assert_eq!(scene.send(A, 2, report(1, 1, vec![sample("a", 10, 0, &[])])), Ok(2));
    assert_eq!(scene.requests(), 20);
}

#[test]
fn totals_add_up_over_nodes_and_boots() {
    let mut scene = Scene::new();
    scene.send(A, 0, report(1, 1, vec![sample("a", 100, 0, &[])])).unwrap();
    scene.send(B, 0, report(7, 1, vec![sample("a", 5, 0, &[])])).unwrap();
    scene.send(A, 5, report(2, 1, vec![sample("a", 1, 0, &[])])).unwrap();
    assert_eq!(scene.requests(), 106);
    assert_eq!(scene.send(A, 6, report(1, 99, vec![])), Err(ReportError::EpochOver { current: 2 }));
    scene.ledger.forget(A);
    assert_eq!(scene.requests(), 106, "a forgotten node takes nothing back");
    assert_eq!(scene.totals("a").bytes_in, 1060);
}

#[test]
fn totals_never_go_back() {
    let mut scene = Scene::new();
    let steps = [
        (1, 1, Some(100)), // counts
        (1, 2, None),      // the upstream is gone from the configuration
        (1, 3, Some(10)),  // and back, counting from the start
        (1, 4, Some(3)),   // and again, faster than a report
        (2, 1, Some(2)),   // a new boot
    ];
    let mut seen = Vec::new();
    for (second, (epoch, seq, requests)) in (0..).zip(steps) {
        let samples = requests.map(|requests| sample("a", requests, 0, &[]));
        scene.send(A, second, report(epoch, seq, samples.into_iter().collect())).unwrap();
        seen.push(scene.requests());
    }
    assert_eq!(seen, [100, 100, 110, 113, 115]);
}

#[test]
fn upstreams_that_are_no_longer_configured_are_dropped_from_the_sums() {
    let mut scene = Scene::new();
    scene.send(A, 0, report(1, 1, vec![sample("a", 1, 0, &[]), sample("b", 1, 0, &[])])).unwrap();
    scene.send(A, 1, report(2, 1, vec![])).unwrap();
    scene.ledger.keep_only(|name| name == "b");
    assert_eq!((scene.requests(), scene.totals("b").requests), (0, 1));
}

#[test]
fn there_is_no_rate_before_the_second_report_and_none_after_the_last_has_aged() {
    let mut scene = Scene::new();
    scene.send(A, 0, report(1, 1, vec![sample("a", 100, 0, &[])])).unwrap();
    assert_eq!(scene.rates(1), None);
    scene.send(A, 5, report(1, 2, vec![sample("a", 150, 5, &[])])).unwrap();
    let rates = scene.rates(6).unwrap();
    assert_eq!(rates.window, Duration::from_secs(5));
    assert_eq!((rates.requests_per_second, rates.error_ratio), (10.0, Some(0.1)));
    assert_eq!((rates.p50, rates.p99), (None, None), "no answers were timed");
    assert_eq!(scene.rates(31), None, "the first report has aged");
}

#[test]
fn an_idle_upstream_has_a_rate_of_zero_and_no_error_ratio() {
    let mut scene = Scene::new();
    for seq in 1..=2 {
        scene.send(A, seq * 5, report(1, seq, vec![sample("a", 7, 3, &[])])).unwrap();
    }
    let rates = scene.rates(10).unwrap();
    assert_eq!((rates.requests_per_second, rates.error_ratio), (0.0, None));
}

#[test]
fn rates_are_summed_over_nodes_and_slide() {
    let mut scene = Scene::new();
    for tick in 0..=20 {
        // A makes 10 a second, then nothing from 50 s on; B makes 2 a second.
        let a = 10 * (tick * 5).min(50);
        scene.send(A, tick * 5, report(1, tick + 1, vec![sample("a", a, 0, &[])])).unwrap();
        scene.send(B, tick * 5, report(1, tick + 1, vec![sample("a", tick * 10, 0, &[])])).unwrap();
        let expected = match tick {
            1..=10 => 12.0,
            16.. => 2.0,
            _ => continue,
        };
        let rates = scene.rates(tick * 5).unwrap();
        assert!((rates.requests_per_second - expected).abs() < 1e-9, "at {} s: {rates:?}", tick * 5);
        assert!(rates.window <= Duration::from_secs(30), "{rates:?}");
    }
}

#[test]
fn a_restarted_counter_starts_a_new_window() {
    let mut scene = Scene::new();
    scene.send(A, 0, report(1, 1, vec![sample("a", 1000, 0, &[])])).unwrap();
    scene.send(A, 5, report(2, 1, vec![sample("a", 10, 0, &[])])).unwrap();
    assert_eq!(scene.rates(5), None);
    scene.send(A, 10, report(2, 2, vec![sample("a", 20, 0, &[])])).unwrap();
    assert_eq!(scene.rates(10).unwrap().requests_per_second, 2.0);
}

#[test]
fn latency_is_what_was_gained_in_the_window_over_all_nodes() {
    let mut scene = Scene::new();
    for (node, counts) in [(A, [100, 0, 0, 0]), (B, [0, 100, 0, 0])] {
        scene.send(node, 0, report(1, 1, vec![sample("a", 0, 0, &[1_000_000, 0, 0, 0])])).unwrap();
        let mut later = counts;
        later[0] += 1_000_000;
        scene.send(node, 5, report(1, 2, vec![sample("a", 100, 0, &later)])).unwrap();
    }
    let rates = scene.rates(5).unwrap();
    assert_eq!(rates.p50, Some(Duration::from_millis(1)));
    assert_eq!(rates.p99, Some(Duration::from_micros(1_980)));
}

#[test]
fn an_upstream_that_comes_back_in_the_same_boot_counts_on() {
    let mut scene = Scene::new();
    let mut seen = Vec::new();
    for (seq, requests) in (1..).zip([Some(100), None, Some(104), None, Some(110)]) {
        let samples = requests.map(|requests| sample("a", requests, 0, &[]));
        scene.send(A, seq, report(1, seq, samples.into_iter().collect())).unwrap();
        let shown = scene.ledger.upstream("a").unwrap().latest().count();
        seen.push((scene.requests(), shown, scene.ledger.latest(A).unwrap().upstreams.len()));
    }
    assert_eq!(seen, [(100, 1, 1), (100, 0, 0), (104, 1, 1), (104, 0, 0), (110, 1, 1)]);
    assert_eq!(scene.rates(5), None, "what happened while nobody looked is no rate");
}

#[test]
fn caches_endpoints_and_batches_add_up_over_nodes_boots_and_retries() {
    let mut scene = Scene::new();
    let first = report(1, 1, vec![looked(90, 2, 10, 3)]);
    scene.send(A, 0, first.clone()).unwrap();
    scene.send(A, 1, first).unwrap();
    scene.send(B, 1, report(4, 1, vec![looked(5, 0, 1, 0)])).unwrap();
    // Another boot of A, whose upstream has another endpoint.
    let mut again = looked(1, 0, 2, 0);
    again.endpoints.insert("f".to_owned(), attempted(7));
    scene.send(A, 2, report(2, 1, vec![again])).unwrap();
    let totals = scene.everything("a");
    let resources = totals.cache[Tier::Resources.at()];
    assert_eq!(resources.look_ups, LookUps { hits: 96, stale: 2, misses: 13, coalesced: 3, stored: 13 });
    assert_eq!(resources.evictions.expired, 5 + 1);
    assert_eq!(totals.cache[Tier::Tools.at()], CacheCounters::default());
    assert_eq!((totals.endpoints["e"].picks, totals.endpoints["f"].picks), (13, 7));
    assert_eq!((totals.batches.batches, totals.batches.callers), (13 + 3, 13 + 15));
    scene.ledger.forget(A);
    scene.ledger.forget(B);
    assert_eq!(scene.everything("a"), totals, "forgotten nodes take nothing back");
}

#[test]
fn any_count_that_goes_back_starts_the_series_again() {
    type Reset = fn(&mut Sample);
    let resets: [Reset; 4] = [
        |one| one.counters.requests = 0,
        |one| one.cache[Tier::Resources.at()].counters.evictions.expired = 0,
        |one| one.endpoints.get_mut("e").unwrap().counters.picks = 0,
        |one| one.batches.sizes.sum = 0,
    ];
    for (index, reset) in resets.into_iter().enumerate() {
        let mut scene = Scene::new();
        scene.send(A, 0, report(1, 1, vec![looked(90, 0, 10, 0)])).unwrap();
        let mut later = looked(91, 0, 10, 0);
        reset(&mut later);
        scene.send(A, 1, report(1, 2, vec![later])).unwrap();
        let hits = scene.everything("a").cache[Tier::Resources.at()].look_ups.hits;
        assert_eq!(hits, 90 + 91, "reset {index}");
    }
}

#[test]
fn the_hit_ratio_is_that_of_the_window_and_of_every_node() {
    let mut scene = Scene::new();
    scene.send(A, 0, report(1, 1, vec![looked(1_000, 0, 0, 0)])).unwrap();
    scene.send(B, 0, report(1, 1, vec![looked(0, 0, 1_000, 0)])).unwrap();
    scene.send(A, 5, report(1, 2, vec![looked(1_004, 2, 0, 0)])).unwrap();
    assert_eq!(scene.rates(5).unwrap().hit_ratio, Some(1.0), "stale answers are hits");
    scene.send(B, 5, report(1, 2, vec![looked(0, 0, 1_001, 1)])).unwrap();
    assert_eq!(scene.rates(5).unwrap().hit_ratio, Some(0.75), "6 of 8; whoever waited was not hit");
    for (second, node) in [(40, A), (40, B), (45, A), (45, B)] {
        let last = if node == A { looked(1_004, 2, 0, 0) } else { looked(0, 0, 1_001, 1) };
        scene.send(node, second, report(1, second, vec![last])).unwrap();
    }
    assert_eq!(scene.rates(45).unwrap().hit_ratio, None, "nothing was looked up lately");
}

#[test]
fn endpoints_of_long_ago_are_forgotten_and_those_of_now_are_never_short() {
    let mut scene = Scene::new();
    for epoch in 1..=1_500 {
        let mut one = sample("a", 0, 0, &[]);
        for label in ["always".to_owned(), format!("once {epoch}")] {
            one.endpoints.insert(label, attempted(1));
        }
        scene.send(A, epoch, report(epoch, 1, vec![one])).unwrap();
    }
    let endpoints = scene.everything("a").endpoints;
    assert_eq!((endpoints["always"].picks, endpoints["once 1500"].picks), (1_500, 1));
    assert!(endpoints.len() <= 1_001, "{}", endpoints.len());
}
