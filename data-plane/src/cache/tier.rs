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

    /// What is there, once moka did what it put off.
    #[cfg(test)]
    pub(super) fn contents(&self, tier: Tier) -> Vec<(Key, Arc<Entry>)> {
        let held = self.held(tier).load();
        held.cache.run_pending_tasks();
        held.cache.iter().map(|(key, entry)| (*key, entry)).collect()
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
        let entries = limits.entries.clamp(1, u32::MAX >> 1);
        // Half of what a weight can be, so that what is larger than the tier weighs more than it.
        let each = (u32::MAX >> 1) / entries;
        Self { capacity: u64::from(each) * u64::from(entries), each, bytes: limits.bytes.max(1) }
    }

    fn weight(&self, size: u64) -> u32 {
        let share = (u128::from(size) * u128::from(self.capacity)).div_ceil(u128::from(self.bytes));
        u32::try_from(share).unwrap_or(u32::MAX).max(self.each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cache::{
            scope::{Scope, Subject},
            tests::{answer, caching, call, counted, message, request_of, resource, scope},
        },
        mcp::method,
        plan::Upstream,
    };
    use std::time::Duration;

    const LIFE: Duration = Duration::from_secs(60);

    fn key(subject: &Subject) -> Key {
        let text = request_of(subject);
        Key::base(&call("", text.clone()), &message(text), &Upstream::bare("u")).unwrap()
    }

    fn uri(number: usize) -> Subject {
        Subject::Resource(format!("f:/{number}").into())
    }

    fn fill(tiers: &Tiers, scope: &Arc<Scope>, count: usize, size: usize) {
        for number in 0..count {
            tiers.put(key(&uri(number)), resource(scope, &format!("f:/{number}"), size, LIFE));
        }
    }

    /// The predecessor kept every answer in its first tier, whatever it was.
    #[test]
    fn each_kind_of_answer_is_kept_in_its_own_tier_and_counted_there() {
        let (metrics, scope) = scope();
        let tiers = Tiers::new(&Caching::default());
        let kinds = [
            (Tier::Tools, vec![Subject::Tool("t".into())]),
            (Tier::Resources, vec![uri(0), uri(1)]),
            (
                Tier::Catalogue,
                [method::DISCOVER, method::TOOLS_LIST, method::PROMPTS_LIST, method::TEMPLATES_LIST]
                    .map(Subject::List)
                    .into_iter()
                    .chain([Subject::Prompt("p".into())])
                    .collect(),
            ),
        ];
        for (_, subjects) in &kinds {
            subjects.iter().for_each(|one| tiers.put(key(one), answer(&scope, one.clone(), 100, LIFE)));
        }
        for (tier, subjects) in &kinds {
            assert_eq!(tiers.contents(*tier).len(), subjects.len());
            let sample = counted(&metrics, "u", *tier);
            assert_eq!((sample.entries, sample.bytes), (subjects.len() as u64, subjects.len() as u64 * 100));
            for (subject, other) in subjects.iter().flat_map(|one| Tier::ALL.map(|other| (one, other))) {
                assert_eq!(tiers.get(other, &key(subject), Instant::now()).is_some(), other == *tier);
            }
        }
    }

    /// The predecessor's tiers grew for ever: nothing evicted, nothing counted.
    #[test]
    fn as_many_fit_as_the_limits_say_and_one_more_makes_one_leave() {
        for (entries, bytes, size, fit) in [
            (100, 1 << 20, 60, 100),
            (1_000, 8_000, 80, 100),
            (3, 100, 50, 2),
            (1, 60, 60, 1),
            (7, 1_000, 50, 7),
        ] {
            let (metrics, scope) = scope();
            let tiers = Tiers::new(&caching(entries, bytes, Eviction::Lru));
            fill(&tiers, &scope, fit, size);
            assert_eq!(tiers.contents(Tier::Resources).len(), fit, "{entries} {bytes}");
            assert_eq!(counted(&metrics, "u", Tier::Resources).left, [0; 6]);
            tiers.put(key(&uri(fit)), resource(&scope, "f:/more", size, LIFE));
            let keys: Vec<_> = tiers.contents(Tier::Resources).into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys.len(), fit);
            assert!(keys.contains(&key(&uri(fit))) && !keys.contains(&key(&uri(0))), "the oldest leaves");
            let sample = counted(&metrics, "u", Tier::Resources);
            assert_eq!(sample.left[Cause::Capacity as usize], 1);
            assert_eq!((sample.entries, sample.bytes), (fit as u64, (fit * size) as u64));
        }
    }

    #[test]
    fn what_is_larger_than_its_tier_comes_and_leaves() {
        for entries in [1, 5, u32::MAX] {
            let (metrics, scope) = scope();
            let tiers = Tiers::new(&caching(entries, 99, Eviction::TinyLfu));
            fill(&tiers, &scope, 1, 100);
            assert!(tiers.contents(Tier::Resources).is_empty());
            let sample = counted(&metrics, "u", Tier::Resources);
            assert_eq!((sample.stored, sample.left[Cause::Capacity as usize], sample.bytes), (1, 1, 0));
        }
    }

    /// What is asked for often stays while many come that are asked for once.
    #[test]
    fn tiny_lfu_keeps_what_is_asked_for() {
        let (_, scope) = scope();
        let tiers = Tiers::new(&caching(10, 1 << 20, Eviction::TinyLfu));
        let popular = key(&uri(0));
        fill(&tiers, &scope, 10, 60);
        for number in 10..500 {
            assert!(tiers.get(Tier::Resources, &popular, Instant::now()).is_some(), "after {number}");
            tiers.put(key(&uri(number)), resource(&scope, &format!("f:/{number}"), 60, LIFE));
            assert!(tiers.contents(Tier::Resources).len() <= 10);
        }
    }

    #[test]
    fn only_the_very_entry_that_is_meant_is_removed() {
        let (metrics, scope) = scope();
        let tiers = Tiers::new(&Caching::default());
        let (old, new) = (resource(&scope, "f:/0", 100, LIFE), resource(&scope, "f:/0", 200, LIFE));
        let key = key(&uri(0));
        tiers.put(key, old.clone());
        tiers.put(key, new.clone());
        assert!(!tiers.remove(&key, &old, Cause::Expired));
        assert!(
            tiers
                .get(Tier::Resources, &key, Instant::now())
                .is_some_and(|(entry, _)| Arc::ptr_eq(&entry, &new))
        );
        assert!(tiers.remove(&key, &new, Cause::Invalidated));
        assert!(!tiers.remove(&key, &new, Cause::Purged), "it left already");
        let sample = counted(&metrics, "u", Tier::Resources);
        assert_eq!((sample.stored, sample.entries, sample.bytes), (2, 0, 0));
        assert_eq!(
            sample.left,
            Cause::ALL.map(|cause| { u64::from(matches!(cause, Cause::Replaced | Cause::Invalidated)) })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_takes_what_cannot_serve_any_more_and_nothing_else() {
        let (metrics, scope) = scope();
        let tiers = Tiers::new(&Caching::default());
        tiers.put(key(&uri(0)), resource(&scope, "f:/0", 100, Duration::from_secs(1)));
        tiers.put(key(&uri(1)), resource(&scope, "f:/1", 100, LIFE));
        tiers.put(key(&uri(2)), resource(&scope, "f:/2", 100, LIFE));
        scope.invalidate(&uri(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        tiers.sweep(Instant::now());
        assert_eq!(tiers.contents(Tier::Resources).len(), 1);
        let left = counted(&metrics, "u", Tier::Resources).left;
        assert_eq!((left[Cause::Expired as usize], left[Cause::Invalidated as usize]), (1, 1));
    }

    #[test]
    fn other_limits_of_a_tier_empty_that_tier_alone() {
        let (metrics, scope) = scope();
        let mut limits = caching(10, 1 << 20, Eviction::Lru);
        let tiers = Tiers::new(&limits);
        fill(&tiers, &scope, 5, 100);
        tiers.put(key(&Subject::Tool("t".into())), answer(&scope, Subject::Tool("t".into()), 100, LIFE));
        tiers.configure(&limits);
        assert_eq!(tiers.contents(Tier::Resources).len(), 5, "the same again");
        limits.resources.entries = 2;
        tiers.configure(&limits);
        assert_eq!(counted(&metrics, "u", Tier::Resources).left[Cause::Configuration as usize], 5);
        assert_eq!(counted(&metrics, "u", Tier::Tools).entries, 1);
        fill(&tiers, &scope, 5, 100);
        assert_eq!(tiers.contents(Tier::Resources).len(), 2, "the new limit");
    }
}
