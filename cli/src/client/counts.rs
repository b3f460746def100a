//! Counts of caches, endpoints and batches, and orders to forget.

use super::Client;
use crate::{
    connect::Failure,
    counts::{Batches, Endpoint, Evictions, NodeEndpoint, Purge, Purged, Skips, Tier},
};
use o1_proto::{convert, model, wire};
use tonic::Streaming;

impl Client {
    /// Makes nodes forget answers of an upstream (`None`: of all) in a tier (`None`: in all): the node of this id, or,
    /// where it is empty, every node. What came of it, by node.
    ///
    /// # Errors
    /// Why nobody was asked, or why the answers of all ended early.
    pub async fn purge(
        &mut self,
        node: &str,
        upstream: Option<&str>,
        tier: Option<model::Tier>,
    ) -> Result<Vec<Purge>, Failure> {
        let request = wire::PurgeCacheRequest {
            node_id: node.to_owned(),
            upstream: upstream.unwrap_or_default().to_owned(),
            tier: convert::from_tier(tier),
        };
        let mut stream = self.link.answer(self.admin.purge_cache(request)).await?;
        // Each node's word is read as if it were a call of its own, so that the limit is the usual one.
        let next = async |stream: &mut Streaming<wire::PurgeCacheResponse>| {
            stream.message().await.map(tonic::Response::new)
        };
        let mut purges = Vec::new();
        while let Some(said) = self.link.answer(next(&mut stream)).await? {
            purges.push(purge(said));
        }
        purges.sort_by(|a, b| a.node_id.cmp(&b.node_id));
        Ok(purges)
    }
}

fn purge(wire: wire::PurgeCacheResponse) -> Purge {
    use wire::purge_cache_response::Said;
    let done = match wire.said {
        Some(Said::Purged(part)) => Purged::Purged { entries: part.entries, bytes: part.bytes },
        Some(Said::Failure(failure)) => match failure.reason() {
            wire::QueryFailureReason::NotFound => Purged::Absent,
            wire::QueryFailureReason::Unsupported => {
                Purged::Failed { error: format!("{}: update it", failure.message) }
            }
            _ => Purged::Failed { error: failure.message },
        },
        None => Purged::Failed { error: "something that this version of o1ctl does not know".to_owned() },
    };
    Purge { node_id: wire.node_id, done }
}

/// Tiers that this version does not know are left out.
pub(super) fn tiers(wire: Vec<wire::CacheStats>) -> Vec<Tier> {
    wire.into_iter().filter_map(tier).collect()
}

fn tier(wire: wire::CacheStats) -> Option<Tier> {
    let tier = convert::tier(wire.tier).ok()??;
    let (skipped, evictions) = (wire.skipped.unwrap_or_default(), wire.evictions.unwrap_or_default());
    let mut found = Tier {
        tier: tier.word(),
        hits: wire.hits,
        stale: wire.stale,
        misses: wire.misses,
        coalesced: wire.coalesced,
        hit_ratio: None,
        stored: wire.stored,
        skipped: Skips {
            no_life: skipped.no_life,
            error: skipped.error,
            not_complete: skipped.not_complete,
            too_large: skipped.too_large,
            overtaken: skipped.overtaken,
        },
        evictions: Evictions {
            expired: evictions.expired,
            capacity: evictions.capacity,
            invalidated: evictions.invalidated,
            purged: evictions.purged,
            replaced: evictions.replaced,
            configuration: evictions.configuration,
        },
        entries: wire.entries,
        bytes: wire.bytes,
    };
    let look_ups = found.look_ups();
    found.hit_ratio = (look_ups > 0).then(|| (found.hits + found.stale) as f64 / look_ups as f64);
    Some(found)
}

pub(super) fn endpoint(wire: wire::EndpointStatus) -> Endpoint {
    Endpoint {
        endpoint: wire.endpoint,
        picks: wire.picks,
        in_flight: wire.in_flight,
        ejections: wire.ejections,
        retries: wire.retries,
        queued: wire.queued,
        waiting: wire.waiting,
        refused: wire.refused,
        nodes: wire.nodes,
        nodes_ejecting: wire.nodes_ejecting,
    }
}

/// `None`: the node's configuration names it no more.
pub(super) fn node_endpoint(wire: wire::EndpointStats) -> Option<NodeEndpoint> {
    (!wire.gone).then_some(NodeEndpoint {
        endpoint: wire.endpoint,
        picks: wire.picks,
        in_flight: wire.in_flight,
        ejections: wire.ejections,
        ejected: wire.ejected,
        retries: wire.retries,
        queued: wire.queued,
        waiting: wire.waiting,
        refused: wire.refused,
    })
}

pub(super) fn batches(wire: wire::BatchTotals) -> Batches {
    let waited = convert::duration(wire.waited.as_ref()).unwrap_or_default();
    Batches { batches: wire.batches, callers: wire.callers, waited_ms: waited.as_secs_f64() * 1e3 }
}

pub(super) fn node_batches(wire: &wire::BatchStats) -> Batches {
    Batches {
        batches: wire.sizes.iter().sum(),
        callers: wire.size_sum,
        waited_ms: wire.wait_sum_us as f64 / 1e3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_ratio_is_of_all_look_ups_and_of_nothing_it_is_unknown() {
        let resources = |hits, stale, misses, coalesced| wire::CacheStats {
            tier: wire::Tier::Resources.into(),
            hits,
            stale,
            misses,
            coalesced,
            ..Default::default()
        };
        let found = tiers(vec![
            resources(5, 1, 1, 1),
            resources(0, 0, 0, 0),
            wire::CacheStats { tier: 77, ..Default::default() },
        ]);
        let ratios: Vec<_> = found.iter().map(|one| (one.tier, one.hit_ratio)).collect();
        assert_eq!(ratios, [("resources", Some(0.75)), ("resources", None)]);
    }

    #[test]
    fn an_endpoint_that_is_gone_is_not_shown() {
        let endpoint = |gone| wire::EndpointStats { gone, picks: 3, ..Default::default() };
        assert_eq!(node_endpoint(endpoint(false)).unwrap().picks, 3);
        assert_eq!(node_endpoint(endpoint(true)), None);
    }
}
