//! What was counted: the sums over the fleet, as `StatusService` has them, and what each node reported last.

use crate::{
    fleet::NodeUid,
    stats::{BatchCounters, Counters, Sample},
    status::{EndpointStatus, FleetStatus, NodeStatus, RatesView, TierStatus, UpstreamStatus, time::rfc3339},
};
use o1_proto::model::FailoverFigures;
use serde::Serialize;
use std::time::SystemTime;

/// Counters are sums over all nodes and boots since this control plane started; what is in flight, and entries and
/// bytes of the cache, are of the connected nodes.
#[derive(Serialize)]
pub(super) struct Stats<'a> {
    #[serde(serialize_with = "rfc3339")]
    as_of: SystemTime,
    #[serde(serialize_with = "rfc3339")]
    since: SystemTime,
    /// Over all upstreams of the configuration that should run.
    total: Total,
    upstreams: Vec<Upstream<'a>>,
    nodes: Vec<Node<'a>>,
}

#[derive(Serialize)]
struct Total {
    #[serde(flatten)]
    counters: Counters,
    active_requests: u64,
    /// Open legacy sessions, of the nodes that reported.
    sessions: u64,
}

#[derive(Serialize)]
struct Upstream<'a> {
    name: &'a str,
    #[serde(flatten)]
    counters: Counters,
    active_requests: u64,
    rates: Option<RatesView>,
    cache: &'a [TierStatus],
    endpoints: &'a [EndpointStatus],
    batches: BatchCounters,
    /// Absent: it has no backup.
    failover: Option<FailoverFigures>,
}

#[derive(Serialize)]
struct Node<'a> {
    node_id: &'a str,
    node_uid: NodeUid,
    sessions: Option<u64>,
    resident_bytes: Option<u64>,
    upstreams: Vec<NodeUpstream<'a>>,
}

#[derive(Serialize)]
struct NodeUpstream<'a> {
    name: &'a str,
    #[serde(flatten)]
    counters: Counters,
    active_requests: u64,
}

impl<'a> Stats<'a> {
    pub(super) fn of(fleet: &'a FleetStatus, nodes: &'a [NodeStatus]) -> Self {
        let mut total = Total {
            counters: Counters::default(),
            active_requests: 0,
            sessions: nodes.iter().filter_map(|node| node.sessions).sum(),
        };
        for upstream in &fleet.upstreams {
            total.counters += upstream.totals;
            total.active_requests += upstream.active_requests;
        }
        Self {
            as_of: fleet.as_of,
            since: fleet.control_plane.started_at,
            total,
            upstreams: fleet.upstreams.iter().map(|one| Upstream::of(one, fleet.as_of)).collect(),
            nodes: nodes.iter().map(Node::of).collect(),
        }
    }
}

impl<'a> Upstream<'a> {
    fn of(upstream: &'a UpstreamStatus, now: SystemTime) -> Self {
        let figures = upstream.failover.as_ref().map(|failover| FailoverFigures {
            // Of a sum there is none.
            primary_circuit_breaker_state: None,
            ..FailoverFigures::of(
                &failover.stats,
                failover.stats.total_failover_time(failover.stats_at.unwrap_or(now)),
            )
        });
        Self {
            name: &upstream.name,
            counters: upstream.totals,
            active_requests: upstream.active_requests,
            rates: upstream.rates,
            cache: &upstream.cache,
            endpoints: &upstream.endpoints,
            batches: upstream.batches,
            failover: figures,
        }
    }
}

impl<'a> Node<'a> {
    fn of(node: &'a NodeStatus) -> Self {
        let upstream = |sample: &'a Sample| NodeUpstream {
            name: &sample.upstream,
            counters: sample.counters,
            active_requests: sample.active_requests,
        };
        Self {
            node_id: &node.node.node_id,
            node_uid: node.node.uid,
            sessions: node.sessions,
            resident_bytes: node.resident_bytes,
            upstreams: node.upstreams.iter().map(upstream).collect(),
        }
    }
}
