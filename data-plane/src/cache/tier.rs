//! Where entries are kept: three tiers, each with a bound on its entries and on their bytes.
//!
//! Owns what is in memory and the count of what comes and leaves. Each entry that comes leaves exactly once, with
//! one cause, counted where it happens: in moka's eviction listener. It must never decide what may be kept, hand
//! out what does not hold, or remove anything but the very entry that was meant.

use super::{
    entry::{Age, Entry},
    key::{Hashed, Key},
};
use crate::{metrics::Cause, purge::Purged};
use arc_swap::ArcSwap;
use moka::{notification::RemovalCause, policy::EvictionPolicy, sync::Cache};
use o1_proto::model::{Caching, Eviction, Tier, TierLimits};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// Keys that may change at the same time.
const SHARDS: usize = 16;

/// The tiers of a node.
#[derive(Debug)]
pub struct Tiers([ArcSwap<Held>; Tier::ALL.len()]);

impl Tiers {
    /// Empty ones.
    #[must_use]
    pub fn new(caching: &Caching) -> Self {
        Self(Tier::ALL.map(|tier| ArcSwap::from_pointee(Held::new(caching.tier(tier)))))
    }

    /// Takes other limits. A tier whose limits are others than before begins anew.
    pub fn configure(&self, caching: &Caching) {
        for tier in Tier::ALL {
            let limits = caching.tier(tier);
            if self.held(tier).load().limits != *limits {
                self.held(tier).store(Arc::new(Held::new(limits)));
            }
        }
    }

    /// The entry of a key, if it may serve at `now`, with how. One that may not leaves.
    #[must_use]
    pub fn get(&self, tier: Tier, key: &Key, now: Instant) -> Option<(Arc<Entry>, Age)> {
        let held = self.held(tier).load();
        let entry = held.cache.get(key)?;
        match held.over(&entry, now) {
            Ok(age) => Some((entry, age)),
            Err(cause) => {
                held.remove(key, &entry, cause);
                None
            }
        }
    }

    /// Keeps an entry in its tier, in place of what was there. An entry may be put once.
    pub fn put(&self, key: Key, entry: Arc<Entry>) {
        self.held(entry.tier()).load().put(key, entry);
    }

    /// Removes an entry, if it is still what is kept under `key`, and says whether it was.
    pub fn remove(&self, key: &Key, entry: &Arc<Entry>, cause: Cause) -> bool {
        self.held(entry.tier()).load().remove(key, entry, cause)
    }

    /// Removes what cannot serve any more, and settles what moka put off, so that counters show what there is.
    pub fn sweep(&self, now: Instant) {
        for held in &self.0 {
            let held = held.load();
            held.remove_where(|entry| held.over(entry, now).err());
            held.cache.run_pending_tasks();
        }
    }

    /// Removes what is there of an upstream, by its name, or of all; in one tier, or in all. Tell the scopes first,
    /// so that nothing lands that was asked for before.
    pub fn purge(&self, upstream: Option<&str>, tier: Option<Tier>) -> Purged {
        let mut purged = Purged::default();
        for tier in Tier::ALL.into_iter().filter(|one| tier.is_none_or(|tier| tier == *one)) {
            let held = self.held(tier).load();
            let meant = |entry: &Entry| upstream.is_none_or(|name| name == entry.terms().scope.name());
            let taken = held.remove_where(|entry| meant(entry).then_some(Cause::Purged));
            purged.entries += taken.entries;
            purged.bytes += taken.bytes;
        }
        purged
    }

    fn held(&self, tier: Tier) -> &ArcSwap<Held> {
        &self.0[tier.at()]
    }
}

/// One tier with the limits it was made with.
#[derive(Debug)]
struct Held {
    limits: TierLimits,
    cache: Cache<Key, Arc<Entry>, Hashed>,
    /// Held while an entry is put or removed, so that nobody removes the successor of what was meant.
    changing: [Mutex<()>; SHARDS],
}

impl Held {
    fn new(limits: &TierLimits) -> Self {
        let scale = Scale::new(limits);
        let policy = match limits.eviction {
            Eviction::TinyLfu => EvictionPolicy::tiny_lfu(),
            Eviction::Lru => EvictionPolicy::lru(),
        };
        let cache = Cache::builder()
            .max_capacity(scale.capacity)
            .weigher(move |_: &Key, entry: &Arc<Entry>| scale.weight(entry.size()))
            .eviction_policy(policy)
            .eviction_listener(|_, entry: Arc<Entry>, cause| left(&entry, cause))
            .build_with_hasher(Hashed::default());
        Self { limits: limits.clone(), cache, changing: Default::default() }
    }

    /// How an entry may serve, or why it may not.
    fn over(&self, entry: &Entry, now: Instant) -> Result<Age, Cause> {
        if entry.terms().scope.is_retired() {
            return Err(Cause::Configuration);
        }
        if !entry.holds() {
            return Err(Cause::Invalidated);
        }
        match entry.age(now, &self.limits) {
            Age::Dead => Err(Cause::Expired),
            age => Ok(age),
        }
    }

    fn put(&self, key: Key, entry: Arc<Entry>) {
        let _changing = self.changing(&key);
        // Before it can leave.
        entry.terms().scope.counts(entry.tier()).stored(entry.size());
        self.cache.insert(key, entry);
    }

    fn remove(&self, key: &Key, entry: &Arc<Entry>, cause: Cause) -> bool {
        let _changing = self.changing(key);
        let same = self.cache.get(key).is_some_and(|found| Arc::ptr_eq(&found, entry));
        if same {
            entry.leave(cause);
        }
        // Capacity may be faster; then it was that.
        same && self.cache.remove(key).is_some()
    }

    fn remove_where(&self, why: impl Fn(&Entry) -> Option<Cause>) -> Purged {
        let mut taken = Purged::default();
        for (key, entry) in &self.cache {
            if let Some(cause) = why(&entry)
                && self.remove(&key, &entry, cause)
            {
                taken.entries += 1;
                taken.bytes += entry.size();
            }
        }
        taken
    }

    fn changing(&self, key: &Key) -> std::sync::MutexGuard<'_, ()> {
        self.changing[key.shard(SHARDS)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last user of a tier with former limits lets its entries go, also those that were put while it was replaced.
impl Drop for Held {
    fn drop(&mut self) {
        self.remove_where(|_| Some(Cause::Configuration));
    }
}

fn left(entry: &Entry, cause: RemovalCause) {
    let cause = match cause {
        RemovalCause::Size => Cause::Capacity,
        RemovalCause::Replaced => Cause::Replaced,
        RemovalCause::Expired => Cause::Expired,
        RemovalCause::Explicit => entry.leaving().unwrap_or(Cause::Configuration),
    };
    entry.terms().scope.counts(entry.tier()).left(cause, entry.size());
}

/// One weight for two bounds: an entry weighs its share of the bytes or of the entries, whichever is greater, in
/// parts so small that both bounds are met exactly.
#[derive(Debug, Clone, Copy)]
struct Scale {
    capacity: u64,
    each: u32,
    bytes: u64,
}

impl Scale {
    fn new(limits: &TierLimits) -> Self {
        let entries = limits.entries.max(1);
        // Half of what a weight can be, so that what is larger than the tier weighs more than it.
        let each = ((u32::MAX >> 1) / entries).max(1);
        Self { capacity: u64::from(each) * u64::from(entries), each, bytes: limits.bytes.max(1) }
    }

    fn weight(&self, size: u64) -> u32 {
        let share = (u128::from(size) * u128::from(self.capacity)).div_ceil(u128::from(self.bytes));
        u32::try_from(share).unwrap_or(u32::MAX).max(self.each)
    }
}
