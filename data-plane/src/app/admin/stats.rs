//! What the node counted since it started: what it reports to the control plane, as JSON.

use super::{super::node::Node, unix};
use crate::{
    control::{EndpointStats, Node as _, NodeStats, UpstreamStats},
    metrics::{CacheSample, Cause, Skip},
};
use o1_proto::model::Tier;
use serde::Serialize;
use std::{collections::BTreeMap, time::SystemTime};

#[derive(Serialize)]
pub(super) struct Stats {
    node_id: String,
    node_uid: String,
    epoch: u64,
    as_of_unix_seconds: u64,
    sessions: u64,
    connections: i64,
    resident_bytes: Option<u64>,
    upstreams: Vec<Upstream>,
}

#[derive(Serialize)]
struct Upstream {
    name: String,
    requests: u64,
    errors: u64,
    timeouts: u64,
    application_errors: u64,
    bytes_in: u64,
    bytes_out: u64,
    active_requests: u64,
    latency: Latency,
    cache: BTreeMap<&'static str, Cache>,
    endpoints: Vec<Endpoint>,
    batches: Batches,
}

/// Answers by time to the complete answer: one count for each bound, and a last one for those above every bound.
#[derive(Serialize)]
struct Latency {
    bounds_us: Vec<u64>,
    counts: Vec<u64>,
    sum_us: u64,
}

#[derive(Serialize)]
struct Cache {
    hits: u64,
    stale: u64,
    misses: u64,
    coalesced: u64,
    stored: u64,
    skipped: BTreeMap<&'static str, u64>,
    evictions: BTreeMap<&'static str, u64>,
    entries: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Endpoint {
    endpoint: String,
    picks: u64,
    in_flight: u64,
    ejections: u64,
    ejected: bool,
    retries: u64,
    queued: u64,
    waiting: u64,
    refused: u64,
    gone: bool,
}

#[derive(Serialize)]
struct Batches {
    batches: u64,
    callers: u64,
    waited_us: u64,
}

impl Stats {
    pub(super) fn of(node: &Node, (node_id, node_uid, epoch): (&str, String, u64), connections: i64) -> Self {
        let NodeStats { sessions, resident_bytes, upstreams } = node.stats();
        Self {
            node_id: node_id.to_owned(),
            node_uid,
            epoch,
            as_of_unix_seconds: unix(SystemTime::now()),
            sessions,
            connections,
            resident_bytes,
            upstreams: upstreams.into_iter().map(Upstream::of).collect(),
        }
    }
}

impl Upstream {
    fn of(stats: UpstreamStats) -> Self {
        Self {
            name: stats.upstream,
            requests: stats.requests,
            errors: stats.errors,
            timeouts: stats.timeouts,
            application_errors: stats.application_errors,
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
            active_requests: stats.active_requests,
            latency: Latency {
                bounds_us: stats.latency_bounds_us,
                counts: stats.latency_buckets,
                sum_us: stats.latency_sum_us,
            },
            cache: Tier::ALL.into_iter().map(Tier::word).zip(stats.cache.map(Cache::of)).collect(),
            endpoints: stats.endpoints.into_iter().map(Endpoint::of).collect(),
            batches: Batches {
                batches: stats.batches.sizes.iter().sum(),
                callers: stats.batches.size_sum,
                waited_us: stats.batches.wait_sum_us,
            },
        }
    }
}

impl Cache {
    fn of(sample: CacheSample) -> Self {
        Self {
            hits: sample.hits,
            stale: sample.stale,
            misses: sample.misses,
            coalesced: sample.coalesced,
            stored: sample.stored,
            skipped: Skip::ALL.into_iter().map(Skip::word).zip(sample.skipped).collect(),
            evictions: Cause::ALL.into_iter().map(Cause::word).zip(sample.left).collect(),
            entries: sample.entries,
            bytes: sample.bytes,
        }
    }
}

impl Endpoint {
    fn of(stats: EndpointStats) -> Self {
        let EndpointStats { endpoint, sample, gone } = stats;
        Self {
            endpoint,
            picks: sample.picks,
            in_flight: sample.in_flight,
            ejections: sample.ejections,
            ejected: sample.ejected,
            retries: sample.retries,
            queued: sample.queued,
            waiting: sample.waiting,
            refused: sample.refused,
            gone,
        }
    }
}
