//! What the cache did for one upstream: look-ups, entries that came and left, requests sent for many callers.
//! Counted where it happens, so that nothing is estimated; never decides anything by it.

use std::{
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

/// Upper bounds of the buckets for the callers of one batch.
pub const SIZE_BOUNDS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];

/// Upper bounds of the buckets for the wait of a batch, microseconds.
pub const WAIT_BOUNDS_US: [u64; 9] = [500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000];

/// Why an entry left the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its life, and what it may serve beyond it, were over.
    Expired,
    /// Others needed the room.
    Capacity,
    /// What it said may have changed.
    Invalidated,
    /// Somebody asked for it.
    Purged,
    /// A newer answer took its place.
    Replaced,
    /// Its upstream, or its tier, is not what it was.
    Configuration,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 6] =
        [Self::Expired, Self::Capacity, Self::Invalidated, Self::Purged, Self::Replaced, Self::Configuration];

    /// Its word in metrics and commands.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Capacity => "capacity",
            Self::Invalidated => "invalidated",
            Self::Purged => "purged",
            Self::Replaced => "replaced",
            Self::Configuration => "configuration",
        }
    }
}

/// Why an answer that was asked for through the cache was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Neither the server nor the operator gave it a life.
    NoLife,
    /// It was an error, or there was none.
    Error,
    /// The server wants to know more first, or works on it.
    NotComplete,
    /// It is too large for its tier.
    TooLarge,
    /// What it says may have changed since it was asked for.
    Overtaken,
}

impl Skip {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::NoLife, Self::Error, Self::NotComplete, Self::TooLarge, Self::Overtaken];

    /// Its word in metrics and commands.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NoLife => "no_life",
            Self::Error => "error",
            Self::NotComplete => "not_complete",
            Self::TooLarge => "too_large",
            Self::Overtaken => "overtaken",
        }
    }
}

/// The numbers of one tier for one upstream. Every look-up that takes part is exactly one of hit, stale, miss and
/// coalesced; every entry is stored once and leaves at most once.
#[derive(Debug, Default)]
pub struct Cached {
    hits: AtomicU64,
    stale: AtomicU64,
    misses: AtomicU64,
    coalesced: AtomicU64,
    skipped: [AtomicU64; Skip::ALL.len()],
    stored: AtomicU64,
    stored_bytes: AtomicU64,
    left: [AtomicU64; Cause::ALL.len()],
    left_bytes: AtomicU64,
}

/// One tier's numbers for one upstream at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheSample {
    /// Answered by an entry within its life.
    pub hits: u64,
    /// Answered by an entry beyond its life.
    pub stale: u64,
    /// Asked the upstream.
    pub misses: u64,
    /// Got the answer that another caller had asked for.
    pub coalesced: u64,
    /// Answers that were not kept, in the order of [`Skip::ALL`].
    pub skipped: [u64; Skip::ALL.len()],
    /// Entries that came.
    pub stored: u64,
    /// Entries that left, in the order of [`Cause::ALL`].
    pub left: [u64; Cause::ALL.len()],
    /// Entries that are there.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Cached {
    /// A look-up was answered by an entry within its life.
    pub fn hit(&self) {
        self.hits.fetch_add(1, Relaxed);
    }

    /// A look-up was answered by an entry beyond its life.
    pub fn stale(&self) {
        self.stale.fetch_add(1, Relaxed);
    }

    /// A look-up found nothing: the upstream is asked.
    pub fn miss(&self) {
        self.misses.fetch_add(1, Relaxed);
    }

    /// A look-up found nothing, and waits for what another caller asked.
    pub fn coalesced(&self) {
        self.coalesced.fetch_add(1, Relaxed);
    }

    /// An answer was not kept.
    pub fn skipped(&self, why: Skip) {
        self.skipped[why as usize].fetch_add(1, Relaxed);
    }

    /// An entry of so many bytes came. Counted before it can leave.
    pub fn stored(&self, bytes: u64) {
        self.stored_bytes.fetch_add(bytes, Release);
        self.stored.fetch_add(1, Release);
    }

    /// An entry left that came with so many bytes.
    pub fn left(&self, cause: Cause, bytes: u64) {
        self.left[cause as usize].fetch_add(1, Release);
        self.left_bytes.fetch_add(bytes, Release);
    }

    pub(super) fn sample(&self) -> CacheSample {
        // What left is read before what came: at no moment more is seen to leave than came.
        let left = self.left.each_ref().map(|one| one.load(Acquire));
        let left_bytes = self.left_bytes.load(Acquire);
        let stored = self.stored.load(Acquire);
        let stored_bytes = self.stored_bytes.load(Acquire);
        CacheSample {
            hits: self.hits.load(Relaxed),
            stale: self.stale.load(Relaxed),
            misses: self.misses.load(Relaxed),
            coalesced: self.coalesced.load(Relaxed),
            skipped: self.skipped.each_ref().map(|one| one.load(Relaxed)),
            stored,
            left,
            entries: stored.saturating_sub(left.iter().sum()),
            bytes: stored_bytes.saturating_sub(left_bytes),
        }
    }
}

/// Requests that were sent for callers who waited together: list requests of a window, or one array of requests.
#[derive(Debug, Default)]
pub struct Batches {
    sizes: [AtomicU64; SIZE_BOUNDS.len() + 1],
    size_sum: AtomicU64,
    waits: [AtomicU64; WAIT_BOUNDS_US.len() + 1],
    wait_sum_us: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchSample {
    /// Batches by their callers, see [`SIZE_BOUNDS`].
    pub sizes: [u64; SIZE_BOUNDS.len() + 1],
    /// Callers in all of them.
    pub size_sum: u64,
    /// Batches by how long their first caller waited for others, see [`WAIT_BOUNDS_US`].
    pub waits: [u64; WAIT_BOUNDS_US.len() + 1],
    /// Sum of the same, microseconds.
    pub wait_sum_us: u64,
}

impl Batches {
    /// One was sent for so many callers, the first of whom waited so long for the others.
    pub fn sent(&self, size: usize, waited: Duration) {
        let size = size as u64;
        self.sizes[SIZE_BOUNDS.partition_point(|bound| *bound < size)].fetch_add(1, Relaxed);
        self.size_sum.fetch_add(size, Relaxed);
        let us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.waits[WAIT_BOUNDS_US.partition_point(|bound| *bound < us)].fetch_add(1, Relaxed);
        self.wait_sum_us.fetch_add(us, Relaxed);
    }

    pub(super) fn sample(&self) -> BatchSample {
        BatchSample {
            sizes: self.sizes.each_ref().map(|one| one.load(Relaxed)),
            size_sum: self.size_sum.load(Relaxed),
            waits: self.waits.each_ref().map(|one| one.load(Relaxed)),
            wait_sum_us: self.wait_sum_us.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_lands_in_its_own_place() {
        let cached = Cached::default();
        for (times, count) in [Cached::hit, Cached::stale, Cached::miss, Cached::coalesced].iter().enumerate()
        {
            (0..=times).for_each(|_| count(&cached));
        }
        for (at, why) in Skip::ALL.into_iter().enumerate() {
            (0..=at).for_each(|_| cached.skipped(why));
        }
        let sample = cached.sample();
        assert_eq!((sample.hits, sample.stale, sample.misses, sample.coalesced), (1, 2, 3, 4));
        assert_eq!(sample.skipped, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_is_there_is_what_came_less_what_left() {
        let cached = Cached::default();
        (1..=10).for_each(|bytes| cached.stored(bytes));
        for (at, cause) in Cause::ALL.into_iter().enumerate() {
            cached.left(cause, at as u64 + 1);
        }
        let sample = cached.sample();
        assert_eq!((sample.stored, sample.left), (10, [1; 6]));
        assert_eq!((sample.entries, sample.bytes), (4, 7 + 8 + 9 + 10));
    }

    #[test]
    fn no_reader_ever_sees_more_leave_than_came() {
        let cached = Cached::default();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for _ in 0..50_000 {
                    cached.stored(3);
                    cached.left(Cause::Replaced, 3);
                }
            });
            while !writer.is_finished() {
                let seen = cached.sample();
                assert!(seen.stored >= seen.left.iter().sum(), "{seen:?}");
            }
        });
        assert_eq!((cached.sample().entries, cached.sample().bytes), (0, 0));
    }

    #[test]
    fn a_batch_is_counted_by_its_callers_and_by_its_wait() {
        let batches = Batches::default();
        batches.sent(1, Duration::ZERO);
        batches.sent(10, Duration::from_millis(20));
        batches.sent(5_000, Duration::from_secs(1));
        let sample = batches.sample();
        assert_eq!(sample.sizes, [1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(sample.waits, [1, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!((sample.size_sum, sample.wait_sum_us), (5_011, 1_020_000));
    }
}
