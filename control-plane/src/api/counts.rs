//! What is counted of caches, endpoints and batches, between messages and plain values.

use crate::{
    stats::{
        BatchCounters, Batches, CacheCounters, Cached, Endpoint, EndpointCounters, Evictions, Histogram,
        LookUps, Skips,
    },
    status::{EndpointStatus, TierStatus},
};
use o1_proto::{
    convert::{from_duration, from_tier, tier},
    model::Tier,
    wire,
};
use std::{collections::BTreeMap, time::Duration};

const MAX_BUCKETS: usize = 256;

/// Tiers that this build does not know are passed over.
pub(super) fn cache(stats: Vec<wire::CacheStats>) -> Result<[Cached; Tier::ALL.len()], String> {
    let mut tiers = [None; Tier::ALL.len()];
    for (index, one) in stats.into_iter().enumerate() {
        let tier = match tier(one.tier) {
            Ok(Some(tier)) => tier,
            Ok(None) => return Err(format!("cache[{index}].tier: it is missing")),
            Err(_) => continue,
        };
        if tiers[tier.at()].replace(cached(&one)).is_some() {
            return Err(format!("cache[{index}].tier: `{}` is there twice", tier.word()));
        }
    }
    Ok(tiers.map(Option::unwrap_or_default))
}

fn cached(stats: &wire::CacheStats) -> Cached {
    let (skipped, evictions) = (stats.skipped.unwrap_or_default(), stats.evictions.unwrap_or_default());
    Cached {
        counters: CacheCounters {
            look_ups: LookUps {
                hits: stats.hits,
                stale: stats.stale,
                misses: stats.misses,
                coalesced: stats.coalesced,
                stored: stats.stored,
            },
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
        },
        entries: stats.entries,
        bytes: stats.bytes,
    }
}

pub(super) fn endpoints(stats: Vec<wire::EndpointStats>) -> Result<BTreeMap<String, Endpoint>, String> {
    let mut endpoints = BTreeMap::new();
    for (index, one) in stats.into_iter().enumerate() {
        let endpoint = Endpoint {
            counters: EndpointCounters {
                picks: one.picks,
                ejections: one.ejections,
                retries: one.retries,
                queued: one.queued,
                refused: one.refused,
            },
            in_flight: one.in_flight,
            waiting: one.waiting,
            ejected: one.ejected,
            gone: one.gone,
        };
        if endpoints.insert(one.endpoint, endpoint).is_some() {
            return Err(format!("endpoints[{index}].endpoint: it is there twice"));
        }
    }
    Ok(endpoints)
}

pub(super) fn batches(stats: Option<wire::BatchStats>) -> Result<Batches, String> {
    let stats = stats.unwrap_or_default();
    let sizes = Histogram { bounds: stats.size_bounds, counts: stats.sizes, sum: stats.size_sum };
    let waits = Histogram { bounds: stats.wait_bounds_us, counts: stats.waits, sum: stats.wait_sum_us };
    let fits = |one: &Histogram| one.is_well_formed() && one.counts.len() <= MAX_BUCKETS;
    if fits(&sizes) && fits(&waits) {
        Ok(Batches { sizes, waits })
    } else {
        Err(format!("batches: at most {MAX_BUCKETS} counts, one more than bounds, which must ascend"))
    }
}

/// What one node counts.
pub(super) fn cache_stats(cache: [Cached; Tier::ALL.len()]) -> Vec<wire::CacheStats> {
    let of = |(tier, one): (Tier, Cached)| tier_stats(tier, &one.counters, one.entries, one.bytes);
    Tier::ALL.into_iter().zip(cache).map(of).collect()
}

/// What all nodes counted.
pub(super) fn cache_status(tiers: &[TierStatus]) -> Vec<wire::CacheStats> {
    tiers.iter().map(|one| tier_stats(one.tier, &one.counters, one.entries, one.bytes)).collect()
}

fn tier_stats(tier: Tier, counters: &CacheCounters, entries: u64, bytes: u64) -> wire::CacheStats {
    let CacheCounters { look_ups, skipped, evictions } = *counters;
    wire::CacheStats {
        tier: from_tier(Some(tier)),
        hits: look_ups.hits,
        stale: look_ups.stale,
        misses: look_ups.misses,
        coalesced: look_ups.coalesced,
        stored: look_ups.stored,
        skipped: Some(wire::CacheSkips {
            no_life: skipped.no_life,
            error: skipped.error,
            not_complete: skipped.not_complete,
            too_large: skipped.too_large,
            overtaken: skipped.overtaken,
        }),
        evictions: Some(wire::CacheEvictions {
            expired: evictions.expired,
            capacity: evictions.capacity,
            invalidated: evictions.invalidated,
            purged: evictions.purged,
            replaced: evictions.replaced,
            configuration: evictions.configuration,
        }),
        entries,
        bytes,
    }
}

pub(super) fn endpoint_stats(endpoints: BTreeMap<String, Endpoint>) -> Vec<wire::EndpointStats> {
    let of = |(endpoint, one): (String, Endpoint)| wire::EndpointStats {
        endpoint,
        picks: one.counters.picks,
        in_flight: one.in_flight,
        ejections: one.counters.ejections,
        ejected: one.ejected,
        retries: one.counters.retries,
        queued: one.counters.queued,
        waiting: one.waiting,
        refused: one.counters.refused,
        gone: one.gone,
    };
    endpoints.into_iter().map(of).collect()
}

pub(super) fn endpoint_status(status: EndpointStatus) -> wire::EndpointStatus {
    wire::EndpointStatus {
        endpoint: status.endpoint,
        picks: status.counters.picks,
        in_flight: status.in_flight,
        ejections: status.counters.ejections,
        retries: status.counters.retries,
        queued: status.counters.queued,
        waiting: status.waiting,
        refused: status.counters.refused,
        nodes: status.nodes,
        nodes_ejecting: status.nodes_ejecting,
    }
}

pub(super) fn batch_stats(batches: Batches) -> wire::BatchStats {
    let Batches { sizes, waits } = batches;
    wire::BatchStats {
        sizes: sizes.counts,
        size_bounds: sizes.bounds,
        size_sum: sizes.sum,
        waits: waits.counts,
        wait_bounds_us: waits.bounds,
        wait_sum_us: waits.sum,
    }
}

pub(super) fn batch_totals(totals: BatchCounters) -> wire::BatchTotals {
    let BatchCounters { batches, callers, waited_us } = totals;
    wire::BatchTotals { batches, callers, waited: Some(from_duration(Duration::from_micros(waited_us))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field of every message has a value of its own, so that two of them cannot be mistaken for each other.
    #[test]
    fn every_count_survives_the_way_in_and_out() {
        let tier = |tier: Tier, from: u64| wire::CacheStats {
            tier: from_tier(Some(tier)),
            hits: from + 1,
            stale: from + 2,
            misses: from + 3,
            coalesced: from + 4,
            stored: from + 5,
            skipped: Some(wire::CacheSkips {
                no_life: from + 6,
                error: from + 7,
                not_complete: from + 8,
                too_large: from + 9,
                overtaken: from + 10,
            }),
            evictions: Some(wire::CacheEvictions {
                expired: from + 11,
                capacity: from + 12,
                invalidated: from + 13,
                purged: from + 14,
                replaced: from + 15,
                configuration: from + 16,
            }),
            entries: from + 17,
            bytes: from + 18,
        };
        let sent: Vec<_> = Tier::ALL.into_iter().map(|one| tier(one, 100 * one.at() as u64)).collect();
        assert_eq!(cache_stats(cache(sent.clone()).unwrap()), sent);
        let endpoint = wire::EndpointStats {
            endpoint: "http://e".into(),
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
        assert_eq!(endpoint_stats(endpoints(vec![endpoint.clone()]).unwrap()), [endpoint]);
        let sent = wire::BatchStats {
            sizes: vec![1, 2],
            size_bounds: vec![10],
            size_sum: 30,
            waits: vec![4, 5, 6],
            wait_bounds_us: vec![7, 8],
            wait_sum_us: 9,
        };
        let read = batches(Some(sent.clone())).unwrap();
        assert_eq!(read.counters(), BatchCounters { batches: 3, callers: 30, waited_us: 9 });
        assert_eq!(batch_stats(read), sent);
    }

    #[test]
    fn counts_that_contradict_themselves_are_refused_and_later_tiers_passed_over() {
        let tier = |tier: i32| wire::CacheStats { tier, hits: 1, ..Default::default() };
        assert!(cache(vec![tier(1), tier(1)]).unwrap_err().starts_with("cache[1].tier: "));
        assert!(cache(vec![tier(0)]).unwrap_err().starts_with("cache[0].tier: "));
        assert_eq!(cache(vec![tier(77)]).unwrap(), [Cached::default(); 3]);
        let endpoint = wire::EndpointStats { endpoint: "a".into(), ..Default::default() };
        assert!(endpoints(vec![endpoint.clone(), endpoint]).unwrap_err().starts_with("endpoints[1]."));
        let sizes = wire::BatchStats { sizes: vec![1], size_bounds: vec![1], ..Default::default() };
        assert!(batches(Some(sizes)).unwrap_err().starts_with("batches: "));
    }
}
