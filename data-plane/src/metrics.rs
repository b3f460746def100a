//! Every number the data plane keeps. Counters only grow while the process lives, whatever the configuration
//! does; labels are names from the configuration or words from closed sets, never anything a client sent.

use crate::failure::{Failure, Kind};
use o1_process::metrics::{Exposition, Histogram};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// Upper bounds of the latency buckets, microseconds.
pub const LATENCY_BOUNDS_US: [u64; 18] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// All numbers of one node.
#[derive(Debug, Default)]
pub struct Metrics {
    upstreams: RwLock<BTreeMap<String, Arc<Upstream>>>,
    responses: RwLock<BTreeMap<u16, Arc<AtomicU64>>>,
    failures: RwLock<BTreeMap<&'static str, Arc<AtomicU64>>>,
    /// Open legacy sessions.
    pub sessions: AtomicI64,
    /// Open client connections.
    pub connections: AtomicI64,
}

/// The numbers of one upstream, over all its configurations.
#[derive(Debug, Default)]
pub struct Upstream {
    requests: AtomicU64,
    errors: AtomicU64,
    timeouts: AtomicU64,
    application_errors: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    active: AtomicI64,
    latency: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    latency_sum_us: AtomicU64,
    reach: Mutex<Reach>,
    legacy: AtomicBool,
    modern: AtomicBool,
    /// -1: never listed.
    tools: AtomicI64Unset,
}

#[derive(Debug)]
struct AtomicI64Unset(AtomicI64);

impl Default for AtomicI64Unset {
    fn default() -> Self {
        Self(AtomicI64::new(-1))
    }
}

/// What the last attempt to reach an upstream came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// `None`: nothing was tried yet.
    pub reachable: Option<bool>,
    /// When `reachable` last changed.
    pub since: Option<SystemTime>,
    /// Why it is not reachable; empty otherwise.
    pub error: String,
}

/// One upstream's numbers at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Requests sent.
    pub requests: u64,
    /// Of these without a usable answer.
    pub errors: u64,
    /// Of `errors`, out of time.
    pub timeouts: u64,
    /// Answers that were JSON-RPC errors or tool results with `isError`.
    pub application_errors: u64,
    /// Bytes received from the upstream.
    pub bytes_in: u64,
    /// Bytes sent to it.
    pub bytes_out: u64,
    /// In flight.
    pub active: u64,
    /// By bucket, see [`LATENCY_BOUNDS_US`].
    pub latency: Vec<u64>,
    /// Sum of the same, microseconds.
    pub latency_sum_us: u64,
    /// Whether it was reached.
    pub reach: Reach,
    /// Seen to speak the legacy era.
    pub legacy: bool,
    /// Seen to speak the modern era.
    pub modern: bool,
    /// Tools in its last complete list.
    pub tools: Option<u32>,
}

impl Metrics {
    /// The numbers of an upstream; they start at zero when it is first named.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Arc<Upstream> {
        cell(&self.upstreams, name, || name.to_owned())
    }

    /// Counts an HTTP response to a client.
    pub fn responded(&self, status: u16) {
        cell(&self.responses, &status, || status).fetch_add(1, Relaxed);
    }

    /// Counts a call that this gateway answered with a failure.
    pub fn failed(&self, kind: Kind) {
        cell(&self.failures, kind.code(), || kind.code()).fetch_add(1, Relaxed);
    }

    /// Every upstream's numbers, by name.
    #[must_use]
    pub fn samples(&self) -> Vec<(String, Sample)> {
        let upstreams = self.upstreams.read().unwrap_or_else(PoisonError::into_inner);
        upstreams.iter().map(|(name, one)| (name.clone(), one.sample())).collect()
    }

    /// Prometheus text.
    #[must_use]
    pub fn exposition(&self) -> Exposition {
        let mut out = Exposition::new();
        let samples = self.samples();
        for family in &FAMILIES {
            family.write(self, &samples, &mut out);
        }
        out
    }
}

fn cell<K: Ord + std::borrow::Borrow<Q>, Q: Ord + ?Sized, V: Default>(
    map: &RwLock<BTreeMap<K, Arc<V>>>,
    key: &Q,
    own: impl FnOnce() -> K,
) -> Arc<V> {
    if let Some(found) = map.read().unwrap_or_else(PoisonError::into_inner).get(key) {
        return found.clone();
    }
    map.write().unwrap_or_else(PoisonError::into_inner).entry(own()).or_default().clone()
}

impl Upstream {
    /// A request goes out. Exactly one of the guard's endings is counted, also when it is just dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>, bytes_out: usize) -> InFlight {
        self.requests.fetch_add(1, Relaxed);
        self.bytes_out.fetch_add(bytes_out as u64, Relaxed);
        self.active.fetch_add(1, Relaxed);
        InFlight { upstream: self.clone(), started: Instant::now(), done: false }
    }

    /// Bytes came in.
    pub fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    /// The upstream answered, whatever it said.
    pub fn reached(&self) {
        self.turn(true, String::new());
    }

    /// The upstream did not answer.
    pub fn missed(&self, failure: &Failure) {
        self.turn(false, failure.chain());
    }

    /// Whether it was reached.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.reach.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It spoke this era.
    pub fn spoke(&self, era: crate::mcp::Era) {
        match era {
            crate::mcp::Era::Legacy => self.legacy.store(true, Relaxed),
            crate::mcp::Era::Modern => self.modern.store(true, Relaxed),
        }
    }

    /// Its complete list has this many tools.
    pub fn listed_tools(&self, count: usize) {
        self.tools.0.store(i64::try_from(count).unwrap_or(i64::MAX), Relaxed);
    }

    fn turn(&self, reachable: bool, error: String) {
        let mut reach = self.reach.lock().unwrap_or_else(PoisonError::into_inner);
        if reach.reachable != Some(reachable) {
            reach.since = Some(SystemTime::now());
            reach.reachable = Some(reachable);
        }
        if reach.error != error {
            reach.error = error;
        }
    }

    fn sample(&self) -> Sample {
        Sample {
            requests: self.requests.load(Relaxed),
            errors: self.errors.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            application_errors: self.application_errors.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            active: u64::try_from(self.active.load(Relaxed)).unwrap_or(0),
            latency: self.latency.iter().map(|bucket| bucket.load(Relaxed)).collect(),
            latency_sum_us: self.latency_sum_us.load(Relaxed),
            reach: self.reach(),
            legacy: self.legacy.load(Relaxed),
            modern: self.modern.load(Relaxed),
            tools: u32::try_from(self.tools.0.load(Relaxed)).ok(),
        }
    }
}

/// One request that is out. Ends once: answered, failed, or dropped because the client went away.
#[derive(Debug)]
pub struct InFlight {
    upstream: Arc<Upstream>,
    started: Instant,
    done: bool,
}

impl InFlight {
    /// The answer is complete.
    pub fn answered(mut self, application_error: bool) {
        let us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < us);
        self.upstream.latency[bucket].fetch_add(1, Relaxed);
        self.upstream.latency_sum_us.fetch_add(us, Relaxed);
        self.upstream.application_errors.fetch_add(u64::from(application_error), Relaxed);
        self.upstream.reached();
        self.end();
    }

    /// There will be no answer.
    pub fn failed(mut self, failure: &Failure) {
        self.upstream.errors.fetch_add(1, Relaxed);
        self.upstream.timeouts.fetch_add(u64::from(failure.kind == Kind::Timeout), Relaxed);
        if matches!(failure.kind, Kind::Unreachable | Kind::Timeout) {
            self.upstream.missed(failure);
        }
        self.end();
    }

    /// Where its bytes are counted.
    #[must_use]
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.done, true) {
            self.upstream.active.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.end();
    }
}

/// One metric: its name, kind, labels and meaning, for `/metrics` and `docs/metrics.md` alike.
pub struct Family {
    /// The full name.
    pub name: &'static str,
    /// What it means, with units.
    pub help: &'static str,
    /// Its labels, as words.
    pub labels: &'static str,
    read: Read,
}

enum Read {
    Counter(fn(&Sample) -> Option<f64>),
    Gauge(fn(&Sample) -> Option<f64>),
    Latency,
    Responses,
    Failures,
    Node(fn(&Metrics) -> f64),
}

macro_rules! family {
    ($name:literal, $labels:literal, $read:expr, $help:literal) => {
        Family { name: $name, help: $help, labels: $labels, read: $read }
    };
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus values are floats")]
fn float(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus values are floats")]
fn signed(value: i64) -> f64 {
    value as f64
}

/// Every metric of the data plane.
pub static FAMILIES: [Family; 16] = [
    family!(
        "o1_upstream_requests_total",
        "upstream",
        Read::Counter(|s| Some(float(s.requests))),
        "Requests sent to the upstream; notifications are not counted."
    ),
    family!(
        "o1_upstream_errors_total",
        "upstream",
        Read::Counter(|s| Some(float(s.errors))),
        "Requests without a usable answer: transport failures, HTTP 5xx, timeouts."
    ),
    family!(
        "o1_upstream_timeouts_total",
        "upstream",
        Read::Counter(|s| Some(float(s.timeouts))),
        "Of the errors, those that ran out of time."
    ),
    family!(
        "o1_upstream_application_errors_total",
        "upstream",
        Read::Counter(|s| Some(float(s.application_errors))),
        "Answers that were JSON-RPC errors or tool results with isError. The upstream works, the call did not. Answers over 64 KiB are not looked into."
    ),
    family!(
        "o1_upstream_received_bytes_total",
        "upstream",
        Read::Counter(|s| Some(float(s.bytes_in))),
        "Bytes of answers received from the upstream, without HTTP headers."
    ),
    family!(
        "o1_upstream_sent_bytes_total",
        "upstream",
        Read::Counter(|s| Some(float(s.bytes_out))),
        "Bytes of requests sent to the upstream, without HTTP headers."
    ),
    family!(
        "o1_upstream_active_requests",
        "upstream",
        Read::Gauge(|s| Some(float(s.active))),
        "Requests in flight."
    ),
    family!(
        "o1_upstream_latency_seconds",
        "upstream, le",
        Read::Latency,
        "Time from sending a request to its complete answer, seconds."
    ),
    family!(
        "o1_upstream_reachable",
        "upstream",
        Read::Gauge(|s| s.reach.reachable.map(|yes| float(u64::from(yes)))),
        "1: the last attempt was answered; 0: it was not; absent: nothing was tried yet."
    ),
    family!(
        "o1_upstream_tools",
        "upstream",
        Read::Gauge(|s| s.tools.map(|tools| float(u64::from(tools)))),
        "Tools in the upstream's last complete list; absent: never listed."
    ),
    family!(
        "o1_upstream_speaks_legacy",
        "upstream",
        Read::Gauge(|s| Some(float(u64::from(s.legacy)))),
        "1: it was seen to speak a revision up to 2025-11-25."
    ),
    family!(
        "o1_upstream_speaks_modern",
        "upstream",
        Read::Gauge(|s| Some(float(u64::from(s.modern)))),
        "1: it was seen to speak 2026-07-28."
    ),
    family!("o1_responses_total", "status", Read::Responses, "HTTP responses to clients, by status."),
    family!(
        "o1_failures_total",
        "kind",
        Read::Failures,
        "Calls that the gateway itself answered with a failure, by kind."
    ),
    family!(
        "o1_sessions",
        "",
        Read::Node(|m| signed(m.sessions.load(Relaxed))),
        "Open legacy client sessions."
    ),
    family!(
        "o1_connections",
        "",
        Read::Node(|m| signed(m.connections.load(Relaxed))),
        "Open client connections."
    ),
];

impl Family {
    /// The Prometheus type.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.read {
            Read::Counter(_) | Read::Responses | Read::Failures => "counter",
            Read::Gauge(_) | Read::Node(_) => "gauge",
            Read::Latency => "histogram",
        }
    }

    fn write(&self, metrics: &Metrics, samples: &[(String, Sample)], out: &mut Exposition) {
        let by_upstream = |read: fn(&Sample) -> Option<f64>| -> Vec<_> {
            samples
                .iter()
                .filter_map(|(name, one)| Some(([("upstream", name.as_str())], read(one)?)))
                .collect()
        };
        match &self.read {
            Read::Counter(read) => drop(out.counter(self.name, self.help, &by_upstream(*read))),
            Read::Gauge(read) => drop(out.gauge(self.name, self.help, &by_upstream(*read))),
            Read::Node(read) => drop(out.gauge(self.name, self.help, &[([("", ""); 0], read(metrics))])),
            Read::Latency => {
                let bounds = LATENCY_BOUNDS_US.map(|us| Duration::from_micros(us).as_secs_f64());
                let rows: Vec<_> = samples
                    .iter()
                    .map(|(name, one)| {
                        let sum = Duration::from_micros(one.latency_sum_us).as_secs_f64();
                        let histogram = Histogram { bounds: &bounds, counts: &one.latency, sum };
                        ([("upstream", name.as_str())], histogram)
                    })
                    .collect();
                out.histogram(self.name, self.help, &rows);
            }
            Read::Responses => {
                let counts = metrics.responses.read().unwrap_or_else(PoisonError::into_inner);
                let rows: Vec<_> =
                    counts.iter().map(|(key, n)| (key.to_string(), float(n.load(Relaxed)))).collect();
                let rows: Vec<_> = rows.iter().map(|(key, n)| ([("status", key.as_str())], *n)).collect();
                out.counter(self.name, self.help, &rows);
            }
            Read::Failures => {
                let counts = metrics.failures.read().unwrap_or_else(PoisonError::into_inner);
                let rows: Vec<_> =
                    counts.iter().map(|(key, n)| ([("kind", *key)], float(n.load(Relaxed)))).collect();
                out.counter(self.name, self.help, &rows);
            }
        }
    }
}

/// `docs/metrics.md`, from the same table.
#[must_use]
pub fn reference_page() -> String {
    let mut page = String::from(
        "# Metrics of the data plane\n\nServed as Prometheus text at `/metrics` on the admin port. Generated from \
         `data-plane/src/metrics.rs`;\nregenerate with `O1_BLESS=1 cargo test -p o1-data-plane metrics`.\n\n\
         | metric | type | labels | meaning |\n| --- | --- | --- | --- |\n",
    );
    for family in &FAMILIES {
        let labels = if family.labels.is_empty() { "–" } else { family.labels };
        page.push_str(&format!("| `{}` | {} | {labels} | {} |\n", family.name, family.kind(), family.help));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_metrics_are_the_served_ones() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        if std::env::var_os("O1_BLESS").is_some() {
            std::fs::write(path, reference_page()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            page == reference_page(),
            "docs/metrics.md is stale: O1_BLESS=1 cargo test -p o1-data-plane metrics"
        );
        let metrics = Metrics::default();
        metrics.upstream("a").begin(1).answered(false);
        metrics.upstream("a").listed_tools(3);
        metrics.responded(200);
        metrics.failed(Kind::Timeout);
        let text = metrics.exposition().finish();
        for family in &FAMILIES {
            assert!(text.contains(&format!("# TYPE {} {}", family.name, family.kind())), "{}", family.name);
        }
    }

    #[test]
    fn every_request_ends_exactly_once_however_it_ends() {
        let metrics = Metrics::default();
        let upstream = metrics.upstream("a");
        upstream.begin(10).answered(true);
        upstream.begin(10).failed(&Failure::new(Kind::Timeout, "t"));
        drop(upstream.begin(10));
        let (_, sample) = metrics.samples().remove(0);
        assert_eq!((sample.requests, sample.errors, sample.timeouts, sample.active), (3, 1, 1, 0));
        assert_eq!((sample.application_errors, sample.latency.iter().sum::<u64>()), (1, 1));
        assert_eq!(sample.reach.reachable, Some(false));
    }
}
