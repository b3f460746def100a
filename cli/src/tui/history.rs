//! What was measured lately, in slots of equal length, so that a chart has a time axis and shows where nothing was
//! measured.

use crate::{
    counts::Tier,
    model::{Status, Upstream},
};
use jiff::Timestamp;
use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

/// The length of a slot: nodes report as often.
pub(super) const SLOT: Duration = Duration::from_secs(5);
/// Slots that are kept: twenty minutes, and more than the widest chart shows.
const SLOTS: i64 = 240;
/// Slots over which the hit rate is taken: the 30 s of the other rates.
const WINDOW: i64 = 6;

/// What one picture says of the fleet as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Sample {
    /// Requests in a second, over all upstreams; `None`: no upstream has rates.
    pub rate: Option<f64>,
    /// The highest p99 of an upstream, in seconds.
    pub slowest: Option<f64>,
    /// Look-ups in the cache since the control plane started.
    cache: Option<LookUps>,
}

/// Sums over upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct LookUps {
    /// Those that an entry answered.
    answered: u64,
    all: u64,
    /// Of the names of these upstreams: sums over others cannot be compared.
    of: u64,
}

impl Sample {
    pub(super) fn of(status: &Status) -> Self {
        let rates = || status.upstreams.iter().filter_map(|upstream| upstream.rates.as_ref());
        let rate = rates().next().is_some().then(|| rates().map(|rates| rates.requests_per_second).sum());
        let tiers = || status.upstreams.iter().flat_map(|upstream| &upstream.cache);
        let mut of = DefaultHasher::new();
        status.upstreams.iter().for_each(|upstream| upstream.name.hash(&mut of));
        let none = LookUps { of: of.finish(), ..LookUps::default() };
        let count = |sum: LookUps, tier: &Tier| LookUps {
            answered: sum.answered + tier.hits + tier.stale,
            all: sum.all + tier.look_ups(),
            ..sum
        };
        Self {
            rate,
            slowest: slowest(status).and_then(p99).map(|p99| p99.as_secs_f64()),
            cache: tiers().next().is_some().then(|| tiers().fold(none, count)),
        }
    }
}

/// The upstream with the highest p99.
pub(super) fn slowest(status: &Status) -> Option<&Upstream> {
    let known = status.upstreams.iter().filter(|upstream| p99(upstream).is_some());
    known.max_by_key(|upstream| p99(upstream))
}

fn p99(upstream: &Upstream) -> Option<Duration> {
    upstream.rates.as_ref()?.p99
}

/// Samples by slot, the oldest first; at most one for each.
#[derive(Debug, Clone, Default)]
pub(super) struct History(VecDeque<(i64, Sample)>);

impl History {
    /// Takes what a picture of this moment says. A clock that went back makes the past meaningless.
    pub(super) fn add(&mut self, at: Timestamp, sample: Sample) {
        let slot = at.as_second().div_euclid(SLOT.as_secs().cast_signed());
        match self.0.back() {
            Some((last, _)) if *last > slot => self.0.clear(),
            Some((last, _)) if *last == slot => drop(self.0.pop_back()),
            _ => {}
        }
        self.0.push_back((slot, sample));
        while self.0.front().is_some_and(|(first, _)| *first <= slot - SLOTS) {
            self.0.pop_front();
        }
    }

    /// The newest slots, the newest last: `None` where nothing was measured. Not more than there are.
    pub(super) fn latest(
        &self,
        count: usize,
        of: impl Fn(&Self, i64, &Sample) -> Option<f64>,
    ) -> Vec<Option<f64>> {
        let (Some((first, _)), Some((last, _))) = (self.0.front(), self.0.back()) else { return vec![] };
        let from = (*first).max(last + 1 - i64::try_from(count).unwrap_or(i64::MAX));
        let mut values = vec![None; usize::try_from(last + 1 - from).unwrap_or(0)];
        for (slot, sample) in self.0.iter().filter(|(slot, _)| *slot >= from) {
            let at = usize::try_from(slot - from).ok().and_then(|at| values.get_mut(at));
            if let Some(value) = at {
                *value = of(self, *slot, sample);
            }
        }
        values
    }

    /// From 0 to 1 of the look-ups in the window that ends with this slot; `None`: there were none, or nobody counted.
    pub(super) fn hit_ratio(&self, slot: i64, sample: &Sample) -> Option<f64> {
        let now = sample.cache?;
        let before = self.0.iter().rev().find(|(other, _)| *other <= slot - WINDOW);
        // At the beginning the window is as long as there is something to compare with.
        let before = before.or_else(|| self.0.front().filter(|(first, _)| *first < slot));
        let before = before?.1.cache.filter(|before| before.of == now.of)?;
        // Counts begin anew with the control plane.
        let (answered, all) = (now.answered.checked_sub(before.answered)?, now.all.checked_sub(before.all)?);
        (all > 0 && answered <= all).then(|| answered as f64 / all as f64)
    }

    /// The hit rate now.
    pub(super) fn hits(&self) -> Option<f64> {
        let (slot, sample) = self.0.back()?;
        self.hit_ratio(*slot, sample)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn rate(rate: f64) -> Sample {
        Sample { rate: Some(rate), ..Sample::default() }
    }

    fn rates(history: &History, count: usize) -> Vec<Option<f64>> {
        history.latest(count, |_, _, sample| sample.rate)
    }

    #[test]
    fn a_slot_keeps_its_newest_sample_and_what_was_not_measured_is_absent() {
        let mut history = History::default();
        assert_eq!(rates(&history, 9), []);
        for (second, value) in [(100, 1.0), (104, 2.0), (106, 3.0), (121, 4.0)] {
            history.add(at(second), rate(value));
        }
        assert_eq!(rates(&history, 9), [Some(2.0), Some(3.0), None, None, Some(4.0)]);
        assert_eq!(rates(&history, 2), [None, Some(4.0)]);
        assert_eq!(rates(&history, 0), []);
    }

    #[test]
    fn it_is_bounded_and_begins_anew_when_the_clock_goes_back() {
        let mut history = History::default();
        for second in 0..10_000 {
            history.add(at(second), rate(1.0));
        }
        assert_eq!(history.len(), 240);
        assert_eq!(rates(&history, usize::MAX).len(), 240);
        history.add(at(1_000_000_000), rate(2.0));
        assert_eq!(history.len(), 1, "a jump forward leaves nothing of the past");
        history.add(at(5), rate(3.0));
        assert_eq!(rates(&history, 9), [Some(3.0)]);
    }

    #[test]
    fn the_hit_rate_is_that_of_its_window_and_of_counts_that_grow() {
        let mut history = History::default();
        let of =
            |answered, all, of| Sample { cache: Some(LookUps { answered, all, of }), ..Sample::default() };
        let cache = |answered, all| of(answered, all, 1);
        history.add(at(0), cache(1_000, 1_000));
        assert_eq!(history.hits(), None, "nothing to compare with");
        history.add(at(5), cache(1_001, 1_004));
        assert_eq!(history.hits(), Some(0.25));
        history.add(at(10), cache(1_001, 1_004));
        assert_eq!(history.hits(), Some(0.25));
        history.add(at(40), cache(1_001, 1_004));
        assert_eq!(history.hits(), None, "no look-ups within 30 s");
        history.add(at(45), cache(2, 3));
        assert_eq!(history.hits(), None, "the control plane began anew");
        history.add(at(80), cache(4, 13));
        assert_eq!(history.hits(), Some(0.2));
        history.add(at(85), of(5, 14, 2));
        assert_eq!(history.hits(), None, "of other upstreams");
        history.add(at(90), Sample::default());
        assert_eq!(history.hits(), None, "nobody counts");
    }
}
