//! Counters on their way up: absolute values, so that a report that is lost, late or sent twice does no harm.

use super::{Node, reach::Api, stream};
use crate::metrics::{BatchSample, CacheSample, Cause, EndpointSample, SIZE_BOUNDS, Skip, WAIT_BOUNDS_US};
use o1_proto::{
    convert::{from_system_time, from_tier},
    model::Tier,
    wire::{self, NodeIdentity, ReportStatsRequest, node_service_client::NodeServiceClient},
};
use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Request;

const REPORT_LIMIT: Duration = Duration::from_secs(5);
/// How soon after an upstream was lost or found this is reported.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a node has counted since it started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeStats {
    /// Open legacy client sessions.
    pub sessions: u64,
    /// Resident memory; `None`: not known.
    pub resident_bytes: Option<u64>,
    /// One entry for each upstream of the running configuration.
    pub upstreams: Vec<UpstreamStats>,
}

/// What one upstream did on this node. Counters only grow while the process runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UpstreamStats {
    /// Its name.
    pub upstream: String,
    /// Requests that were sent to it; notifications are not counted.
    pub requests: u64,
    /// Of these, the ones without a usable answer: transport failures, 5xx, timeouts.
    pub errors: u64,
    /// Of `errors`, those that ran out of time.
    pub timeouts: u64,
    /// Answers that were JSON-RPC errors or tool results with `isError`.
    pub application_errors: u64,
    /// Received from the upstream, without HTTP headers.
    pub bytes_in: u64,
    /// Sent to it, without HTTP headers.
    pub bytes_out: u64,
    /// In flight now.
    pub active_requests: u64,
    /// Answers by time to the complete answer: one count for each of `latency_bounds_us`, and a last one for
    /// those above every bound.
    pub latency_buckets: Vec<u64>,
    /// Upper bounds, ascending, microseconds.
    pub latency_bounds_us: Vec<u64>,
    /// Sum of the same times, microseconds.
    pub latency_sum_us: u64,
    /// Whether the last attempt was answered.
    pub reachability: Reachability,
    /// When `reachability` last changed; `None` while unknown.
    pub since: Option<SystemTime>,
    /// Why it is not reachable, without secrets.
    pub last_error: Option<String>,
    /// It was seen to speak a protocol revision up to 2025-11-25.
    pub legacy: bool,
    /// It was seen to speak 2026-07-28.
    pub modern: bool,
    /// Tools in its last complete list; `None`: never listed.
    pub tools: Option<u32>,
    /// What the cache did for it, in the order of [`Tier::ALL`].
    pub cache: [CacheSample; Tier::ALL.len()],
    /// What was sent for many callers at once.
    pub batches: BatchSample,
    /// Each endpoint it ever had, by label.
    pub endpoints: Vec<EndpointStats>,
}

/// What one endpoint of an upstream did on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointStats {
    /// See [`crate::metrics::labels`].
    pub endpoint: String,
    /// Its numbers.
    pub sample: EndpointSample,
    /// The running configuration names it no more.
    pub gone: bool,
}

/// Whether an upstream answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reachability {
    /// Nothing was tried yet.
    #[default]
    Unknown,
    /// The last attempt was answered.
    Reachable,
    /// The last attempt was not.
    Unreachable,
}

/// Sends reports; outlives connections, because the sequence does.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    /// Of the last report, in this epoch.
    seq: u64,
    failing: bool,
}

impl Reporter {
    /// Reports at once, then every `every` ± 10 %, and soon after an upstream was lost or found or the node was ordered
    /// to drain or not to, until dropped. A report that fails is not repeated: the next one says more.
    pub async fn run(
        &mut self,
        mut client: NodeServiceClient<Api>,
        me: &NodeIdentity,
        node: &dyn Node,
        every: Duration,
    ) -> Infallible {
        loop {
            self.seq += 1;
            // Before the numbers: an order that comes meanwhile is followed by another report.
            let ordered = node.drain_ordered();
            let stats = node.stats();
            let said = (reachability(&stats), ordered);
            let mut report = Request::new(encode(stats, me.clone(), self.seq, SystemTime::now()));
            report.set_timeout(REPORT_LIMIT);
            let problem = match timeout(REPORT_LIMIT, client.report_stats(report)).await {
                Ok(Ok(_)) => None,
                Ok(Err(status)) => Some(stream::describe(&status)),
                Err(_) => Some(format!("no answer within {REPORT_LIMIT:?}")),
            };
            self.log(problem.as_deref());
            let next = Instant::now() + every.mul_f64(0.9 + 0.2 * fastrand::f64());
            while Instant::now() < next && (reachability(&node.stats()), node.drain_ordered()) == said {
                sleep_until(next.min(Instant::now() + LOOK_EVERY)).await;
            }
        }
    }

    fn log(&mut self, problem: Option<&str>) {
        match problem {
            Some(problem) if self.failing => tracing::debug!(problem, "statistics are still refused"),
            Some(problem) => tracing::warn!(problem, "the control plane does not take statistics"),
            None if self.failing => tracing::info!("the control plane takes statistics again"),
            None => {}
        }
        self.failing = problem.is_some();
    }
}

/// What an operator wants to know before the next report is due.
fn reachability(stats: &NodeStats) -> Vec<(String, Reachability)> {
    stats.upstreams.iter().map(|one| (one.upstream.clone(), one.reachability)).collect()
}

fn encode(stats: NodeStats, me: NodeIdentity, seq: u64, now: SystemTime) -> ReportStatsRequest {
    ReportStatsRequest {
        node: Some(me),
        seq,
        sampled_at: Some(from_system_time(now)),
        upstreams: stats.upstreams.into_iter().map(encode_upstream).collect(),
        sessions: stats.sessions,
        resident_bytes: stats.resident_bytes.unwrap_or(0),
    }
}

fn encode_upstream(stats: UpstreamStats) -> wire::UpstreamStats {
    wire::UpstreamStats {
        upstream: stats.upstream,
        requests: stats.requests,
        errors: stats.errors,
        timeouts: stats.timeouts,
        application_errors: stats.application_errors,
        bytes_in: stats.bytes_in,
        bytes_out: stats.bytes_out,
        active_requests: stats.active_requests,
        latency_buckets: stats.latency_buckets,
        latency_bounds_us: stats.latency_bounds_us,
        latency_sum_us: stats.latency_sum_us,
        reachability: match stats.reachability {
            Reachability::Unknown => wire::Reachability::Unknown,
            Reachability::Reachable => wire::Reachability::Reachable,
            Reachability::Unreachable => wire::Reachability::Unreachable,
        }
        .into(),
        since: stats.since.map(from_system_time),
        last_error: stats.last_error.unwrap_or_default(),
        legacy: stats.legacy,
        modern: stats.modern,
        tools: stats.tools,
        cache: Tier::ALL.into_iter().zip(stats.cache).map(|(tier, one)| encode_cache(tier, one)).collect(),
        endpoints: stats.endpoints.into_iter().map(encode_endpoint).collect(),
        batches: Some(encode_batches(stats.batches)),
    }
}

fn encode_cache(tier: Tier, stats: CacheSample) -> wire::CacheStats {
    let skipped = |why: Skip| stats.skipped[why as usize];
    let left = |cause: Cause| stats.left[cause as usize];
    wire::CacheStats {
        tier: from_tier(Some(tier)),
        hits: stats.hits,
        stale: stats.stale,
        misses: stats.misses,
        coalesced: stats.coalesced,
        stored: stats.stored,
        skipped: Some(wire::CacheSkips {
            no_life: skipped(Skip::NoLife),
            error: skipped(Skip::Error),
            not_complete: skipped(Skip::NotComplete),
            too_large: skipped(Skip::TooLarge),
            overtaken: skipped(Skip::Overtaken),
        }),
        evictions: Some(wire::CacheEvictions {
            expired: left(Cause::Expired),
            capacity: left(Cause::Capacity),
            invalidated: left(Cause::Invalidated),
            purged: left(Cause::Purged),
            replaced: left(Cause::Replaced),
            configuration: left(Cause::Configuration),
        }),
        entries: stats.entries,
        bytes: stats.bytes,
    }
}

fn encode_endpoint(stats: EndpointStats) -> wire::EndpointStats {
    let EndpointStats { endpoint, sample, gone } = stats;
    let EndpointSample { picks, in_flight, ejections, ejected, retries, queued, waiting, refused } = sample;
    wire::EndpointStats {
        endpoint,
        picks,
        in_flight,
        ejections,
        ejected,
        retries,
        queued,
        waiting,
        refused,
        gone,
    }
}

fn encode_batches(stats: BatchSample) -> wire::BatchStats {
    wire::BatchStats {
        sizes: stats.sizes.to_vec(),
        size_bounds: SIZE_BOUNDS.to_vec(),
        size_sum: stats.size_sum,
        waits: stats.waits.to_vec(),
        wait_bounds_us: WAIT_BOUNDS_US.to_vec(),
        wait_sum_us: stats.wait_sum_us,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // In each test every count has a value of its own, so that two of them cannot be mistaken for each other.

    #[test]
    fn a_report_says_of_each_tier_what_was_counted() {
        let mut stats = UpstreamStats::default();
        stats.cache[Tier::Resources.at()] = CacheSample {
            hits: 1,
            stale: 2,
            misses: 3,
            coalesced: 4,
            skipped: [5, 6, 7, 8, 9],
            stored: 10,
            left: [11, 12, 13, 14, 15, 16],
            entries: 17,
            bytes: 18,
        };
        let sent = encode_upstream(stats);
        let tiers: Vec<_> = sent.cache.iter().map(wire::CacheStats::tier).collect();
        assert_eq!(tiers, [wire::Tier::Tools, wire::Tier::Resources, wire::Tier::Catalogue]);
        let resources = wire::CacheStats {
            tier: wire::Tier::Resources.into(),
            hits: 1,
            stale: 2,
            misses: 3,
            coalesced: 4,
            stored: 10,
            skipped: Some(wire::CacheSkips {
                no_life: 5,
                error: 6,
                not_complete: 7,
                too_large: 8,
                overtaken: 9,
            }),
            evictions: Some(wire::CacheEvictions {
                expired: 11,
                capacity: 12,
                invalidated: 13,
                purged: 14,
                replaced: 15,
                configuration: 16,
            }),
            entries: 17,
            bytes: 18,
        };
        assert_eq!(sent.cache[1], resources);
    }

    #[test]
    fn a_report_says_of_endpoints_and_batches_what_was_counted() {
        let mut stats = UpstreamStats::default();
        let sample = EndpointSample {
            picks: 1,
            in_flight: 2,
            ejections: 3,
            ejected: true,
            retries: 4,
            queued: 5,
            waiting: 6,
            refused: 7,
        };
        stats.endpoints.push(EndpointStats { endpoint: "http://e".to_owned(), sample, gone: true });
        (stats.batches.sizes[3], stats.batches.size_sum) = (21, 22);
        (stats.batches.waits[4], stats.batches.wait_sum_us) = (23, 24);
        let sent = encode_upstream(stats);
        let endpoint = wire::EndpointStats {
            endpoint: "http://e".to_owned(),
            picks: 1,
            in_flight: 2,
            ejections: 3,
            ejected: true,
            retries: 4,
            queued: 5,
            waiting: 6,
            refused: 7,
            gone: true,
        };
        assert_eq!(sent.endpoints, [endpoint]);
        let batches = sent.batches.unwrap();
        assert_eq!((batches.sizes.len(), batches.sizes[3], batches.size_sum), (11, 21, 22));
        assert_eq!((batches.waits.len(), batches.waits[4], batches.wait_sum_us), (10, 23, 24));
        assert_eq!((batches.size_bounds.len(), batches.wait_bounds_us.len()), (10, 9));
    }
}
