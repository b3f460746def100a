//! What one node reports.

use super::Histogram;
use o1_proto::model::Tier;
use serde::Serialize;
use std::{collections::BTreeMap, ops::AddAssign, time::SystemTime};

/// One report of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The boot that counts.
    pub epoch: u64,
    /// Grows with each report of a boot.
    pub seq: u64,
    /// At most one for each upstream.
    pub upstreams: Vec<Sample>,
    /// Open client sessions.
    pub sessions: u64,
    /// Resident memory, bytes; `None`: not known.
    pub resident_bytes: Option<u64>,
}

/// One upstream on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its name.
    pub upstream: String,
    /// Since the start of the boot.
    pub counters: Counters,
    /// In flight when sampled.
    pub active_requests: u64,
    /// Times to the complete answer since the start of the boot, microseconds.
    pub latency: Histogram,
    /// What the last attempt came to.
    pub reachability: Reachability,
    /// When that last changed.
    pub since: Option<SystemTime>,
    /// Why it is not reachable.
    pub last_error: String,
    /// It was seen to speak a revision with sessions.
    pub legacy: bool,
    /// It was seen to speak the revision without.
    pub modern: bool,
    /// In its last complete list.
    pub tools: Option<u32>,
    /// What the cache did for it, in the order of [`Tier::ALL`].
    pub cache: [Cached; Tier::ALL.len()],
    /// By label.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// What was sent for many callers at once.
    pub batches: Batches,
}

/// One tier of the cache for one upstream on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cached {
    /// Since the start of the boot.
    pub counters: CacheCounters,
    /// There when sampled.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One endpoint on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Endpoint {
    /// Since the start of the boot.
    pub counters: EndpointCounters,
    /// There when sampled.
    pub in_flight: u64,
    /// Waiting for a place when sampled.
    pub waiting: u64,
    /// Left out when sampled.
    pub ejected: bool,
    /// The node's configuration names it no more.
    pub gone: bool,
}

/// Requests that were sent for callers who waited together, on one node since the start of the boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batches {
    /// Batches by the number of their callers.
    pub sizes: Histogram,
    /// Batches by how long their first caller waited, microseconds.
    pub waits: Histogram,
}

impl Batches {
    /// Without the buckets.
    #[must_use]
    pub fn counters(&self) -> BatchCounters {
        BatchCounters {
            batches: self.sizes.counts.iter().fold(0, |sum, count| sum.saturating_add(*count)),
            callers: self.sizes.sum,
            waited_us: self.waits.sum,
        }
    }
}

/// What only grows: a struct of counts that can be added, and compared with an earlier state of themselves.
macro_rules! counters {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $count:ident,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
        pub struct $name {
            $($(#[$what])* pub $count: u64,)+
        }

        impl $name {
            /// Whether any of these has gone back since `earlier`: then they count from the start again.
            #[must_use]
            pub fn restarted_since(&self, earlier: &Self) -> bool {
                $(self.$count < earlier.$count)||+
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, more: Self) {
                $(self.$count = self.$count.saturating_add(more.$count);)+
            }
        }
    };
}

counters! {
    /// What is counted of the requests to an upstream.
    Counters {
        /// Sent to the upstream.
        requests,
        /// Of these, without a usable answer.
        errors,
        /// Of the errors, out of time.
        timeouts,
        /// Answers that say that the call failed.
        application_errors,
        /// Bytes from the upstream.
        bytes_in,
        /// Bytes to the upstream.
        bytes_out,
    }
}

counters! {
    /// What is counted of one tier of the cache for an upstream.
    LookUps {
        /// Answered by an entry within its life.
        hits,
        /// Answered by an entry beyond its life.
        stale,
        /// Asked the upstream.
        misses,
        /// Waited for what another caller had asked.
        coalesced,
        /// Entries that came.
        stored,
    }
}

counters! {
    /// Answers that were not kept, by reason.
    Skips {
        /// Nobody gave them a life.
        no_life,
        /// Errors, or no answer.
        error,
        /// The server wants to know more first, or works on it.
        not_complete,
        /// Too large for the tier.
        too_large,
        /// What they say may have changed since they were asked for.
        overtaken,
    }
}

counters! {
    /// Entries that left, by cause.
    Evictions {
        /// Their life was over.
        expired,
        /// Others needed the room.
        capacity,
        /// What they said may have changed.
        invalidated,
        /// Somebody asked for it.
        purged,
        /// A newer answer took their place.
        replaced,
        /// Their upstream, or their tier, is not what it was.
        configuration,
    }
}

counters! {
    /// What is counted of one endpoint.
    EndpointCounters {
        /// Attempts that went there.
        picks,
        /// How often it was left out.
        ejections,
        /// Attempts that were not the first of their call.
        retries,
        /// Attempts that had to wait for a place.
        queued,
        /// Attempts that got no place.
        refused,
    }
}

counters! {
    /// What is counted of batches.
    BatchCounters {
        /// Batches.
        batches,
        /// Callers in all of them.
        callers,
        /// Sum of the times that the first callers waited, microseconds.
        waited_us,
    }
}

/// Everything that is counted of one tier of the cache for an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct CacheCounters {
    /// Look-ups, and what came of them.
    #[serde(flatten)]
    pub look_ups: LookUps,
    /// What was not kept.
    pub skipped: Skips,
    /// What left.
    pub evictions: Evictions,
}

impl CacheCounters {
    /// Whether any of these has gone back since `earlier`.
    #[must_use]
    pub fn restarted_since(&self, earlier: &Self) -> bool {
        self.look_ups.restarted_since(&earlier.look_ups)
            || self.skipped.restarted_since(&earlier.skipped)
            || self.evictions.restarted_since(&earlier.evictions)
    }
}

impl AddAssign for CacheCounters {
    fn add_assign(&mut self, more: Self) {
        self.look_ups += more.look_ups;
        self.skipped += more.skipped;
        self.evictions += more.evictions;
    }
}

impl Sample {
    /// Whether any count has gone back since `earlier`: then all of them count from the start again.
    #[must_use]
    pub fn restarted_since(&self, earlier: &Self) -> bool {
        let tiers = || self.cache.iter().zip(&earlier.cache);
        let endpoints = || {
            let both = |(label, now)| Some((now, earlier.endpoints.get(label)?));
            self.endpoints.iter().filter_map(both)
        };
        self.counters.restarted_since(&earlier.counters)
            || tiers().any(|(now, before)| now.counters.restarted_since(&before.counters))
            || endpoints()
                .any(|(now, before): (&Endpoint, &Endpoint)| now.counters.restarted_since(&before.counters))
            || self.batches.counters().restarted_since(&earlier.batches.counters())
    }

    /// Look-ups in the cache, and how many of them an entry answered, stale or not.
    #[must_use]
    pub fn looked_up(&self) -> (u64, u64) {
        let each = || self.cache.iter().map(|tier| tier.counters.look_ups);
        let answered: u64 = each().map(|one| one.hits + one.stale).sum();
        (answered + each().map(|one| one.misses + one.coalesced).sum::<u64>(), answered)
    }
}

/// What the last attempt to reach an upstream came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reachability {
    /// Nothing was tried yet.
    Unknown,
    /// It answered.
    Reachable,
    /// It did not.
    Unreachable,
}
