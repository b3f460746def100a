//! What is counted of one upstream, and of each request to it. Never decides anything by it.

use super::{
    BatchSample, Batches, CacheSample, Cached, Endpoint, EndpointSample, Watched, WatchedSample, cell,
};
use crate::{
    calls::{Calls, Outcome},
    failure::{Failure, Kind},
    mcp::Era,
};
use bytes::Bytes;
use o1_proto::model::{Store, Tier};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};
use tokio::time::Instant;

/// Upper bounds of the latency buckets, microseconds.
pub const LATENCY_BOUNDS_US: [u64; 18] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Requests up to this size are held until they are answered, so that it can be told which they were.
const LOOKED_AT: usize = 16 << 10;

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
    /// By store.
    reach: [Mutex<Reach>; 2],
    /// Reads go to the backup.
    on_backup: AtomicBool,
    legacy: AtomicBool,
    modern: AtomicBool,
    /// -1: never listed.
    tools: AtomicI64Unset,
    cache: [Cached; Tier::ALL.len()],
    batches: Batches,
    endpoints: RwLock<BTreeMap<String, Arc<Endpoint>>>,
    watched: RwLock<BTreeMap<(Store, String), Arc<Watched>>>,
    calls: Calls,
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
    /// Whether the store that serves was reached.
    pub reach: Reach,
    /// Seen to speak the legacy era.
    pub legacy: bool,
    /// Seen to speak the modern era.
    pub modern: bool,
    /// Tools in its last complete list.
    pub tools: Option<u32>,
    /// What the cache did for it, in the order of [`Tier::ALL`].
    pub cache: [CacheSample; Tier::ALL.len()],
    /// What was sent for many callers at once.
    pub batches: BatchSample,
    /// Each endpoint it ever had, by label.
    pub endpoints: BTreeMap<String, EndpointSample>,
    /// What probes and breakers say of each endpoint, by store and label.
    pub watched: BTreeMap<(Store, String), WatchedSample>,
}

impl Upstream {
    /// A request goes out to a store. Exactly one of the guard's endings is counted, also when it is just dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>, store: Store, request: &Bytes) -> InFlight {
        self.requests.fetch_add(1, Relaxed);
        self.bytes_out.fetch_add(request.len() as u64, Relaxed);
        self.active.fetch_add(1, Relaxed);
        let request = if request.len() <= LOOKED_AT { request.clone() } else { Bytes::new() };
        InFlight { upstream: self.clone(), store, request, started: Instant::now(), done: false }
    }

    /// Bytes came in.
    pub fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    /// A store answered, whatever it said.
    pub fn reached(&self, store: Store) {
        self.turn(store, true, String::new());
    }

    /// A store did not answer.
    pub fn missed(&self, store: Store, failure: &Failure) {
        self.turn(store, false, failure.chain());
    }

    /// Reads go to this store from now on.
    pub fn set_serving(&self, store: Store) {
        self.on_backup.store(store == Store::Backup, Relaxed);
    }

    /// Whether the store that reads go to was reached.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.reach_of(if self.on_backup.load(Relaxed) { Store::Backup } else { Store::Primary })
    }

    /// Whether a store was reached.
    #[must_use]
    pub fn reach_of(&self, store: Store) -> Reach {
        self.reach_cell(store).lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reach_cell(&self, store: Store) -> &Mutex<Reach> {
        match store {
            Store::Primary => &self.reach[0],
            Store::Backup => &self.reach[1],
        }
    }

    /// It spoke this era.
    pub fn spoke(&self, era: Era) {
        match era {
            Era::Legacy => self.legacy.store(true, Relaxed),
            Era::Modern => self.modern.store(true, Relaxed),
        }
    }

    /// Its complete list has this many tools.
    pub fn listed_tools(&self, count: usize) {
        self.tools.0.store(i64::try_from(count).unwrap_or(i64::MAX), Relaxed);
    }

    /// What one tier of the cache does for it.
    #[must_use]
    pub fn cache(&self, tier: Tier) -> &Cached {
        &self.cache[tier.at()]
    }

    /// What is sent for many callers at once.
    #[must_use]
    pub fn batches(&self) -> &Batches {
        &self.batches
    }

    /// Requests that were sent to it, and those that memory answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        let known = self.cache.iter().map(Cached::sample).map(|tier| tier.hits + tier.stale);
        self.requests.load(Relaxed) + known.sum::<u64>()
    }

    /// The calls that were answered last.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// The numbers of one of its endpoints; they start at zero when it is first named. Takes a lock: look it up
    /// once and keep it. For the label see [`super::labels`].
    #[must_use]
    pub fn endpoint(&self, label: &str) -> Arc<Endpoint> {
        cell(&self.endpoints, label, || label.to_owned())
    }

    /// What probes and its breaker say of an endpoint of a store. As [`Upstream::endpoint`].
    #[must_use]
    pub fn watched(&self, store: Store, label: &str) -> Arc<Watched> {
        let key = (store, label.to_owned());
        cell(&self.watched, &key, || key.clone())
    }

    fn turn(&self, store: Store, reachable: bool, error: String) {
        let mut reach = self.reach_cell(store).lock().unwrap_or_else(PoisonError::into_inner);
        if reach.reachable != Some(reachable) {
            reach.since = Some(SystemTime::now());
            reach.reachable = Some(reachable);
        }
        if reach.error != error {
            reach.error = error;
        }
    }

    pub(super) fn sample(&self) -> Sample {
        let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
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
            cache: self.cache.each_ref().map(Cached::sample),
            batches: self.batches.sample(),
            endpoints: endpoints.iter().map(|(label, one)| (label.clone(), one.sample())).collect(),
            watched: watched.iter().map(|(key, one)| (key.clone(), one.sample())).collect(),
        }
    }
}

/// One request that is out. Ends once: answered, failed, or dropped because the client went away.
#[derive(Debug)]
pub struct InFlight {
    upstream: Arc<Upstream>,
    store: Store,
    /// Empty if it is large.
    request: Bytes,
    started: Instant,
    done: bool,
}

impl InFlight {
    /// The answer is complete.
    pub fn answered(mut self, application_error: bool) {
        let now = Instant::now();
        let us = u64::try_from(now.duration_since(self.started).as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < us);
        self.upstream.latency[bucket].fetch_add(1, Relaxed);
        self.upstream.latency_sum_us.fetch_add(us, Relaxed);
        self.upstream.application_errors.fetch_add(u64::from(application_error), Relaxed);
        self.upstream.reached(self.store);
        self.end();
        self.told(if application_error { Outcome::ApplicationError } else { Outcome::Ok }, now);
    }

    /// There will be no answer.
    pub fn failed(mut self, failure: &Failure) {
        self.upstream.errors.fetch_add(1, Relaxed);
        self.upstream.timeouts.fetch_add(u64::from(failure.kind == Kind::Timeout), Relaxed);
        if matches!(failure.kind, Kind::Unreachable | Kind::Timeout) {
            self.upstream.missed(self.store, failure);
        }
        self.end();
        let outcome = if failure.kind == Kind::Timeout { Outcome::Timeout } else { Outcome::Error };
        self.told(outcome, Instant::now());
    }

    fn told(&self, outcome: Outcome, now: Instant) {
        self.upstream.calls.ended(&self.request, outcome, self.started, now, Some(self.store));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn every_request_ends_exactly_once_however_it_ends() {
        let metrics = Metrics::default();
        let upstream = metrics.upstream("a");
        upstream.begin(Store::Primary, &Bytes::from_static(b"{}")).answered(true);
        upstream.begin(Store::Primary, &Bytes::from_static(b"{}")).failed(&Failure::new(Kind::Timeout, "t"));
        drop(upstream.begin(Store::Primary, &Bytes::from_static(b"{}")));
        let (_, sample) = metrics.samples().remove(0);
        assert_eq!((sample.requests, sample.errors, sample.timeouts, sample.active), (3, 1, 1, 0));
        assert_eq!((sample.application_errors, sample.latency.iter().sum::<u64>()), (1, 1));
        assert_eq!(sample.reach.reachable, Some(false));
    }

    #[test]
    fn each_store_is_reached_by_itself_and_the_one_that_serves_speaks_for_both() {
        let upstream = Metrics::default().upstream("a");
        upstream.missed(Store::Primary, &Failure::new(Kind::Unreachable, "gone"));
        upstream.reached(Store::Backup);
        assert_eq!(upstream.reach().reachable, Some(false));
        upstream.set_serving(Store::Backup);
        assert_eq!(upstream.reach().reachable, Some(true));
        upstream.missed(Store::Primary, &Failure::new(Kind::Unreachable, "still gone"));
        assert_eq!(
            (upstream.reach().error, upstream.reach_of(Store::Primary).error.len()),
            (String::new(), 10)
        );
        upstream.set_serving(Store::Primary);
        assert_eq!(upstream.reach().reachable, Some(false));
    }
}
