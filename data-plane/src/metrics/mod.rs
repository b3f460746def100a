//! Every number the data plane keeps. Counters only grow while the process lives, whatever the configuration
//! does; labels are names from the configuration or words from closed sets, never anything a client sent.
//! Whoever counts often looks its cell up once and keeps it: counting itself takes no lock.

mod cache;
mod endpoint;
mod families;
mod upstream;
mod watched;

pub use cache::{BatchSample, Batches, CacheSample, Cached, Cause, SIZE_BOUNDS, Skip, WAIT_BOUNDS_US};
pub use endpoint::{Endpoint, EndpointSample, Picked, Queued, labels};
pub use families::{FAMILIES, Family, reference_page};
pub use upstream::{InFlight, LATENCY_BOUNDS_US, Reach, Sample, Upstream};
pub use watched::{Probed, Watched, WatchedSample};

use crate::{
    calls::{Found, Wanted},
    failure::Kind,
};
use o1_process::metrics::Exposition;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

/// All numbers of one node.
#[derive(Debug, Default)]
pub struct Metrics {
    upstreams: RwLock<BTreeMap<String, Arc<Upstream>>>,
    responses: Responses,
    failures: RwLock<BTreeMap<&'static str, Arc<AtomicU64>>>,
    /// Open legacy sessions.
    pub sessions: AtomicI64,
    /// Open client connections.
    pub connections: AtomicI64,
}

/// HTTP responses by status, a place for each there can be: every response is counted, so nobody looks one up.
#[derive(Debug)]
struct Responses([AtomicU64; 900]);

const FIRST_STATUS: usize = 100;

impl Default for Responses {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; 900])
    }
}

impl Responses {
    /// The statuses that there were, with how often.
    fn counts(&self) -> impl Iterator<Item = (usize, u64)> {
        let counts = self.0.iter().enumerate().map(|(at, count)| (FIRST_STATUS + at, count.load(Relaxed)));
        counts.filter(|(_, count)| *count > 0)
    }
}

impl Metrics {
    /// The numbers of an upstream; they start at zero when it is first named.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Arc<Upstream> {
        cell(&self.upstreams, name, || name.to_owned())
    }

    /// Counts an HTTP response to a client.
    pub fn responded(&self, status: u16) {
        if let Some(count) = self.responses.0.get(usize::from(status).wrapping_sub(FIRST_STATUS)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Counts a call that this gateway answered with a failure.
    pub fn failed(&self, kind: Kind) {
        cell(&self.failures, kind.code(), || kind.code()).fetch_add(1, Relaxed);
    }

    /// Calls that this gateway answered with a failure, by kind.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<&'static str, u64> {
        let failures = self.failures.read().unwrap_or_else(PoisonError::into_inner);
        failures.iter().map(|(kind, count)| (*kind, count.load(Relaxed))).collect()
    }

    /// Every upstream's numbers, by name.
    #[must_use]
    pub fn samples(&self) -> Vec<(String, Sample)> {
        let upstreams = self.upstreams.read().unwrap_or_else(PoisonError::into_inner);
        upstreams.iter().map(|(name, one)| (name.clone(), one.sample())).collect()
    }

    /// The calls that were answered last, latest first, of the upstreams that are meant.
    #[must_use]
    pub fn calls(&self, wanted: &Wanted) -> Found {
        let upstreams = self.upstreams.read().unwrap_or_else(PoisonError::into_inner);
        let meant = |name: &str| wanted.upstream.as_deref().is_none_or(|one| one == name);
        let mut found = Found::default();
        for (name, upstream) in upstreams.iter().filter(|(name, _)| meant(name)) {
            let (calls, kept) = upstream.calls().latest(wanted.failed, wanted.limit);
            found.seen += upstream.answered();
            found.kept += kept;
            found.calls.extend(calls.into_iter().map(|call| (name.clone(), call)));
        }
        found.calls.sort_by_key(|(_, call)| std::cmp::Reverse(call.at));
        found.calls.truncate(wanted.limit);
        found
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
