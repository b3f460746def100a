use super::*;
use crate::stats::{Histogram, Reachability};
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
            _ => Histogram { bounds_us: bounds.to_vec(), counts: counts.to_vec(), sum_us: 0 },
        },
        reachability: Reachability::Reachable,
        since: None,
        last_error: String::new(),
        legacy: true,
        modern: false,
        tools: None,
    }
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
