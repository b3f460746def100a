//! Every metric of the data plane as one table, for `/metrics` and `docs/metrics.md` alike: what is served is what is
//! documented.

use super::{
    CacheSample, Cause, EndpointSample, LATENCY_BOUNDS_US, Metrics, Probed, SIZE_BOUNDS, Sample, Skip,
    WAIT_BOUNDS_US, WatchedSample,
};
use o1_process::metrics::{Exposition, Histogram};
use o1_proto::model::{Store, Tier};
use std::{
    sync::{PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

/// One metric: its name, kind, labels and meaning.
pub struct Family {
    /// The full name.
    pub name: &'static str,
    /// What it means, with units.
    pub help: &'static str,
    kind: Kind,
    read: Read,
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Where its values stand.
enum Read {
    Upstream(fn(&Sample) -> Option<f64>),
    Tier(fn(&CacheSample) -> u64),
    Causes,
    Skips,
    Endpoint(fn(&EndpointSample) -> u64),
    Watched(fn(&WatchedSample) -> Option<u64>),
    Probes,
    Latency,
    BatchSizes,
    BatchWaits,
    Responses,
    Failures,
    Node(fn(&Metrics) -> f64),
}

use Kind::{Counter, Gauge};

const fn family(name: &'static str, kind: Kind, read: Read, help: &'static str) -> Family {
    Family { name, help, kind, read }
}

const fn histogram(name: &'static str, read: Read, help: &'static str) -> Family {
    Family { name, help, kind: Kind::Histogram, read }
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
pub static FAMILIES: [Family; 39] = [
    family(
        "o1_upstream_requests_total",
        Counter,
        Read::Upstream(|s| Some(float(s.requests))),
        "Requests sent to the upstream; notifications are not counted.",
    ),
    family(
        "o1_upstream_errors_total",
        Counter,
        Read::Upstream(|s| Some(float(s.errors))),
        "Requests without a usable answer: transport failures, HTTP 5xx, timeouts.",
    ),
    family(
        "o1_upstream_timeouts_total",
        Counter,
        Read::Upstream(|s| Some(float(s.timeouts))),
        "Of the errors, those that ran out of time.",
    ),
    family(
        "o1_upstream_application_errors_total",
        Counter,
        Read::Upstream(|s| Some(float(s.application_errors))),
        "Answers that were JSON-RPC errors or tool results with isError. The upstream works, the call did not. Answers over 64 KiB are not looked into.",
    ),
    family(
        "o1_upstream_received_bytes_total",
        Counter,
        Read::Upstream(|s| Some(float(s.bytes_in))),
        "Bytes of answers received from the upstream, without HTTP headers.",
    ),
    family(
        "o1_upstream_sent_bytes_total",
        Counter,
        Read::Upstream(|s| Some(float(s.bytes_out))),
        "Bytes of requests sent to the upstream, without HTTP headers.",
    ),
    family(
        "o1_upstream_active_requests",
        Gauge,
        Read::Upstream(|s| Some(float(s.active))),
        "Requests in flight.",
    ),
    histogram(
        "o1_upstream_latency_seconds",
        Read::Latency,
        "Time from sending a request to its complete answer, seconds.",
    ),
    family(
        "o1_upstream_reachable",
        Gauge,
        Read::Upstream(|s| s.reach.reachable.map(|yes| float(u64::from(yes)))),
        "1: the last attempt was answered; 0: it was not; absent: nothing was tried yet.",
    ),
    family(
        "o1_upstream_tools",
        Gauge,
        Read::Upstream(|s| s.tools.map(|tools| float(u64::from(tools)))),
        "Tools in the upstream's last complete list; absent: never listed.",
    ),
    family(
        "o1_upstream_speaks_legacy",
        Gauge,
        Read::Upstream(|s| Some(float(u64::from(s.legacy)))),
        "1: it was seen to speak a revision up to 2025-11-25.",
    ),
    family(
        "o1_upstream_speaks_modern",
        Gauge,
        Read::Upstream(|s| Some(float(u64::from(s.modern)))),
        "1: it was seen to speak 2026-07-28.",
    ),
    family(
        "o1_cache_hits_total",
        Counter,
        Read::Tier(|c| c.hits),
        "Look-ups answered by an entry within its life. Each look-up is one of hit, stale, miss, coalesced.",
    ),
    family(
        "o1_cache_stale_total",
        Counter,
        Read::Tier(|c| c.stale),
        "Look-ups answered by an entry beyond its life, inside a stale window.",
    ),
    family(
        "o1_cache_misses_total",
        Counter,
        Read::Tier(|c| c.misses),
        "Look-ups that found nothing and asked the upstream.",
    ),
    family(
        "o1_cache_coalesced_total",
        Counter,
        Read::Tier(|c| c.coalesced),
        "Look-ups that found nothing and waited for what another caller had asked.",
    ),
    family(
        "o1_cache_skipped_total",
        Counter,
        Read::Skips,
        "Answers asked for through the cache and not kept, by reason.",
    ),
    family("o1_cache_stored_total", Counter, Read::Tier(|c| c.stored), "Entries that came."),
    family("o1_cache_evictions_total", Counter, Read::Causes, "Entries that left, by cause."),
    family("o1_cache_entries", Gauge, Read::Tier(|c| c.entries), "Entries that are there."),
    family("o1_cache_bytes", Gauge, Read::Tier(|c| c.bytes), "Bytes of the entries that are there."),
    histogram(
        "o1_batch_size",
        Read::BatchSizes,
        "Callers for whom one request, or one array of requests, was sent to the upstream.",
    ),
    histogram(
        "o1_batch_wait_seconds",
        Read::BatchWaits,
        "Time that the first caller of a batch waited for others, seconds.",
    ),
    family(
        "o1_endpoint_picks_total",
        Counter,
        Read::Endpoint(|e| e.picks),
        "Attempts that went to the endpoint.",
    ),
    family("o1_endpoint_in_flight", Gauge, Read::Endpoint(|e| e.in_flight), "Attempts that are there."),
    family(
        "o1_endpoint_ejections_total",
        Counter,
        Read::Endpoint(|e| e.ejections),
        "How often the endpoint was left out because it failed.",
    ),
    family(
        "o1_endpoint_ejected",
        Gauge,
        Read::Endpoint(|e| u64::from(e.ejected)),
        "1: the endpoint is left out; 0: it is used.",
    ),
    family(
        "o1_endpoint_retries_total",
        Counter,
        Read::Endpoint(|e| e.retries),
        "Of the attempts, those that were not the first of their call.",
    ),
    family(
        "o1_endpoint_queued_total",
        Counter,
        Read::Endpoint(|e| e.queued),
        "Attempts that had to wait for a place at the endpoint.",
    ),
    family(
        "o1_endpoint_waiting",
        Gauge,
        Read::Endpoint(|e| e.waiting),
        "Attempts that wait for a place at the endpoint.",
    ),
    family(
        "o1_endpoint_refused_total",
        Counter,
        Read::Endpoint(|e| e.refused),
        "Attempts that got no place at the endpoint: too many waited, or they waited too long.",
    ),
    family("o1_probes_total", Counter, Read::Probes, "Probes of the endpoint that ended, by result."),
    family(
        "o1_endpoint_healthy",
        Gauge,
        Read::Watched(|w| w.healthy.map(u64::from)),
        "1: probes and calls say that the endpoint works; 0: that it does not; absent: nothing is known.",
    ),
    family(
        "o1_breaker_state",
        Gauge,
        Read::Watched(|w| Some(w.breaker)),
        "The circuit breaker of the endpoint. 0: closed; 1: half-open; 2: open.",
    ),
    family(
        "o1_breaker_opened_total",
        Counter,
        Read::Watched(|w| Some(w.opened)),
        "How often the circuit breaker of the endpoint opened.",
    ),
    family("o1_responses_total", Counter, Read::Responses, "HTTP responses to clients, by status."),
    family(
        "o1_failures_total",
        Counter,
        Read::Failures,
        "Calls that the gateway itself answered with a failure, by kind.",
    ),
    family(
        "o1_sessions",
        Gauge,
        Read::Node(|m| signed(m.sessions.load(Relaxed))),
        "Open legacy client sessions.",
    ),
    family(
        "o1_connections",
        Gauge,
        Read::Node(|m| signed(m.connections.load(Relaxed))),
        "Open client connections.",
    ),
];

impl Family {
    /// The Prometheus type.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }

    /// Its labels, as words.
    #[must_use]
    pub fn labels(&self) -> &'static str {
        match self.read {
            Read::Upstream(_) => "upstream",
            Read::Tier(_) => "upstream, tier",
            Read::Causes => "upstream, tier, cause",
            Read::Skips => "upstream, tier, reason",
            Read::Endpoint(_) => "upstream, endpoint",
            Read::Watched(_) => "upstream, store, endpoint",
            Read::Probes => "upstream, store, endpoint, result",
            Read::Latency | Read::BatchSizes | Read::BatchWaits => "upstream, le",
            Read::Responses => "status",
            Read::Failures => "kind",
            Read::Node(_) => "–",
        }
    }

    pub(super) fn write(&self, metrics: &Metrics, samples: &[(String, Sample)], out: &mut Exposition) {
        match &self.read {
            Read::Upstream(read) => self.rows(
                samples.iter().filter_map(|(name, one)| Some(([("upstream", name.as_str())], read(one)?))),
                out,
            ),
            Read::Tier(read) => self.rows(
                tiers(samples)
                    .map(|(name, tier, one)| ([("upstream", name), ("tier", tier)], float(read(one)))),
                out,
            ),
            Read::Causes => self.split("cause", Cause::ALL.map(Cause::word), |one| one.left, samples, out),
            Read::Skips => self.split("reason", Skip::ALL.map(Skip::word), |one| one.skipped, samples, out),
            Read::Endpoint(read) => self.rows(
                samples
                    .iter()
                    .flat_map(|(name, one)| one.endpoints.iter().map(move |(label, one)| (name, label, one)))
                    .map(|(name, label, one)| {
                        ([("upstream", name.as_str()), ("endpoint", label.as_str())], float(read(one)))
                    }),
                out,
            ),
            Read::Watched(read) => {
                let rows = watched(samples);
                self.rows(rows.filter_map(|(labels, one)| Some((labels, float(read(one)?)))), out);
            }
            Read::Probes => {
                let results = |one: &WatchedSample| Probed::ALL.map(Probed::word).into_iter().zip(one.probes);
                let rows = watched(samples).flat_map(|([upstream, store, endpoint], one)| {
                    results(one)
                        .map(move |(word, n)| ([upstream, store, endpoint, ("result", word)], float(n)))
                });
                self.rows(rows, out);
            }
            Read::Latency => {
                self.buckets(&LATENCY_BOUNDS_US.map(seconds), samples, out, |one| {
                    (&one.latency, seconds(one.latency_sum_us))
                });
            }
            Read::BatchSizes => {
                self.buckets(&SIZE_BOUNDS.map(float), samples, out, |one| {
                    (&one.batches.sizes, float(one.batches.size_sum))
                });
            }
            Read::BatchWaits => {
                self.buckets(&WAIT_BOUNDS_US.map(seconds), samples, out, |one| {
                    (&one.batches.waits, seconds(one.batches.wait_sum_us))
                });
            }
            Read::Responses => {
                let rows: Vec<_> =
                    metrics.responses.counts().map(|(status, n)| (status.to_string(), float(n))).collect();
                self.rows(rows.iter().map(|(key, n)| ([("status", key.as_str())], *n)), out);
            }
            Read::Failures => {
                let counts = metrics.failures.read().unwrap_or_else(PoisonError::into_inner);
                let rows = counts.iter().map(|(key, n)| ([("kind", *key)], float(n.load(Relaxed))));
                self.rows(rows, out);
            }
            Read::Node(read) => self.rows([([("", ""); 0], read(metrics))], out),
        }
    }

    fn rows<'l, const N: usize>(
        &self,
        rows: impl IntoIterator<Item = ([(&'l str, &'l str); N], f64)>,
        out: &mut Exposition,
    ) {
        let rows: Vec<_> = rows.into_iter().collect();
        match self.kind {
            Kind::Counter => out.counter(self.name, self.help, &rows),
            Kind::Gauge | Kind::Histogram => out.gauge(self.name, self.help, &rows),
        };
    }

    /// One row for each upstream, tier and word.
    fn split<const N: usize>(
        &self,
        label: &str,
        words: [&str; N],
        read: fn(&CacheSample) -> [u64; N],
        samples: &[(String, Sample)],
        out: &mut Exposition,
    ) {
        let rows = tiers(samples).flat_map(|(name, tier, one)| {
            let values = words.into_iter().zip(read(one));
            values.map(move |(word, n)| ([("upstream", name), ("tier", tier), (label, word)], float(n)))
        });
        self.rows(rows, out);
    }

    fn buckets<'s>(
        &self,
        bounds: &[f64],
        samples: &'s [(String, Sample)],
        out: &mut Exposition,
        read: fn(&'s Sample) -> (&'s [u64], f64),
    ) {
        let rows: Vec<_> = samples
            .iter()
            .map(|(name, one)| {
                let (counts, sum) = read(one);
                ([("upstream", name.as_str())], Histogram { bounds, counts, sum })
            })
            .collect();
        out.histogram(self.name, self.help, &rows);
    }
}

fn tiers(samples: &[(String, Sample)]) -> impl Iterator<Item = (&str, &'static str, &CacheSample)> {
    samples.iter().flat_map(|(name, one)| {
        Tier::ALL.into_iter().map(move |tier| (name.as_str(), tier.word(), &one.cache[tier.at()]))
    })
}

type Label<'l> = (&'l str, &'l str);

fn watched(samples: &[(String, Sample)]) -> impl Iterator<Item = ([Label<'_>; 3], &WatchedSample)> {
    samples.iter().flat_map(|(name, one)| {
        one.watched.iter().map(move |((store, label), one)| {
            ([("upstream", name.as_str()), ("store", store.word()), ("endpoint", label.as_str())], one)
        })
    })
}

fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

/// `docs/metrics.md`, from the same table.
#[must_use]
pub fn reference_page() -> String {
    let mut page = String::from(
        "# Metrics of the data plane\n\nServed as Prometheus text at `/metrics` on the admin port. Generated from \
         `data-plane/src/metrics/families.rs`;\nregenerate with `O1_BLESS=1 cargo test -p o1-data-plane metrics`.\n\n\
         | metric | type | labels | meaning |\n| --- | --- | --- | --- |\n",
    );
    for family in &FAMILIES {
        let (name, kind, labels, help) = (family.name, family.kind(), family.labels(), family.help);
        page.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
    }
    let words = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    page.push_str(&format!(
        "\nLabels with a closed set of words: `tier` {}; `cause` {}; `reason` {}; `result` {}; `store` \
         {}.\nAn `endpoint` is its URL or program, \
         without what may be a secret; the second of two that look the same ends in ` #2`.\n",
        words(&Tier::ALL.map(Tier::word)),
        words(&Cause::ALL.map(Cause::word)),
        words(&Skip::ALL.map(Skip::word)),
        words(&Probed::ALL.map(Probed::word)),
        words(&[Store::Primary, Store::Backup].map(Store::word)),
    ));
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure;
    use bytes::Bytes;

    /// Everything that can be counted, once.
    fn driven() -> Metrics {
        let metrics = Metrics::default();
        let upstream = metrics.upstream("a");
        let failure = failure::Failure::new(failure::Kind::Timeout, "t");
        std::mem::forget(upstream.begin(Store::Primary, &Bytes::from_static(b"1")));
        upstream.begin(Store::Primary, &Bytes::from_static(b"1")).failed(&failure);
        upstream.begin(Store::Primary, &Bytes::from_static(b"1")).answered(true);
        upstream.received(5);
        upstream.listed_tools(3);
        upstream.spoke(crate::mcp::Era::Legacy);
        upstream.spoke(crate::mcp::Era::Modern);
        for tier in Tier::ALL {
            let cached = upstream.cache(tier);
            cached.hit();
            cached.stale();
            cached.miss();
            cached.coalesced();
            Skip::ALL.into_iter().for_each(|why| cached.skipped(why));
            Cause::ALL.into_iter().for_each(|cause| {
                cached.stored(3);
                cached.left(cause, 3);
            });
            cached.stored(7);
        }
        upstream.batches().sent(4, Duration::from_millis(3));
        let endpoint = upstream.endpoint("http://e");
        std::mem::forget((endpoint.picked(), endpoint.queued()));
        endpoint.ejected();
        endpoint.retried();
        endpoint.refused();
        let watched = upstream.watched(Store::Backup, "http://e");
        Probed::ALL.into_iter().for_each(|result| watched.probed(result));
        watched.judged(o1_proto::model::Verdict::Healthy);
        watched.breaker(o1_proto::model::BreakerState::Open);
        metrics.responded(200);
        metrics.failed(failure::Kind::Timeout);
        metrics.sessions.fetch_add(1, Relaxed);
        metrics.connections.fetch_add(1, Relaxed);
        metrics
    }

    /// The value behind a name with labels.
    fn value(text: &str, series: &str) -> Option<f64> {
        let line =
            text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    #[test]
    fn the_documented_metrics_are_the_served_ones() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let page = std::fs::read_to_string(path).unwrap();
        // What follows is the control plane's own.
        let (ours, after) =
            page.split_at(page.find("\n# Metrics of the control plane").unwrap_or(page.len()));
        let is_blessed = std::env::var_os("O1_BLESS").is_some();
        if is_blessed {
            std::fs::write(path, reference_page() + after).unwrap();
        }
        assert!(
            is_blessed || ours == reference_page(),
            "docs/metrics.md is stale: O1_BLESS=1 cargo test -p o1-data-plane metrics"
        );
        let text = driven().exposition().finish();
        for family in &FAMILIES {
            assert!(text.contains(&format!("# TYPE {} {}", family.name, family.kind())), "{}", family.name);
        }
    }

    #[test]
    fn no_series_stands_at_zero_once_everything_happened() {
        let text = driven().exposition().finish();
        // A bucket may be empty, and a request in this test takes no time.
        let may_be_zero = ["# ", "o1_upstream_latency_seconds_sum"];
        let idle: Vec<_> = text
            .lines()
            .filter(|line| !may_be_zero.iter().any(|head| line.starts_with(head)))
            .filter(|line| !line.contains("_bucket{") && line.ends_with(" 0"))
            .collect();
        assert_eq!(idle, Vec::<&str>::new(), "nothing counts these");
        for family in &FAMILIES {
            let suffix = if matches!(family.kind, Kind::Histogram) { "_count" } else { "" };
            let head = format!("{}{suffix}", family.name);
            let series = text
                .lines()
                .filter(|line| line.strip_prefix(&head).is_some_and(|rest| rest.starts_with(['{', ' '])));
            assert!(series.count() > 0, "{} has no series", family.name);
        }
    }

    #[test]
    fn names_end_as_their_kind_and_unit_say() {
        let mut names = std::collections::BTreeSet::new();
        for Family { name, kind, help, .. } in &FAMILIES {
            assert!(names.insert(*name), "{name} stands twice");
            assert_eq!(name.ends_with("_total"), matches!(kind, Counter), "{name}");
            assert!(name.starts_with("o1_") && !help.is_empty() && help.ends_with('.'), "{name}");
            assert_eq!(name.contains("_seconds"), help.contains("seconds"), "{name}");
        }
    }

    #[test]
    fn each_label_says_what_was_counted() {
        let metrics = driven();
        let upstream = metrics.upstream("a");
        (0..4).for_each(|_| upstream.cache(Tier::Resources).hit());
        upstream.cache(Tier::Tools).left(Cause::Purged, 7);
        upstream.cache(Tier::Catalogue).skipped(Skip::TooLarge);
        let text = metrics.exposition().finish();
        let of = |series: &str| value(&text, series);
        assert_eq!(of(r#"o1_cache_hits_total{upstream="a",tier="resources"}"#), Some(5.0));
        assert_eq!(of(r#"o1_cache_hits_total{upstream="a",tier="tools"}"#), Some(1.0));
        assert_eq!(of(r#"o1_cache_evictions_total{upstream="a",tier="tools",cause="purged"}"#), Some(2.0));
        assert_eq!(of(r#"o1_cache_evictions_total{upstream="a",tier="tools",cause="expired"}"#), Some(1.0));
        assert_eq!(of(r#"o1_cache_entries{upstream="a",tier="tools"}"#), Some(0.0));
        assert_eq!(of(r#"o1_cache_entries{upstream="a",tier="catalogue"}"#), Some(1.0));
        assert_eq!(of(r#"o1_cache_bytes{upstream="a",tier="catalogue"}"#), Some(7.0));
        let skipped = r#"o1_cache_skipped_total{upstream="a",tier="catalogue",reason="too_large"}"#;
        assert_eq!(of(skipped), Some(2.0));
        assert_eq!(of(r#"o1_batch_size_sum{upstream="a"}"#), Some(4.0));
        assert_eq!(of(r#"o1_batch_size_bucket{upstream="a",le="2"}"#), Some(0.0));
        assert_eq!(of(r#"o1_batch_size_bucket{upstream="a",le="5"}"#), Some(1.0));
        assert_eq!(of(r#"o1_batch_wait_seconds_sum{upstream="a"}"#), Some(0.003));
        assert_eq!(of(r#"o1_endpoint_ejected{upstream="a",endpoint="http://e"}"#), Some(1.0));
        let of = |name: &str| of(&format!(r#"{name}{{upstream="a",store="backup",endpoint="http://e"}}"#));
        assert_eq!((of("o1_endpoint_healthy"), of("o1_breaker_state")), (Some(1.0), Some(2.0)));
        assert_eq!(of("o1_breaker_opened_total"), Some(1.0));
    }
}
