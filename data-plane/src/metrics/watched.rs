//! What is counted of one endpoint of one store by those who watch over it: probes, and its breaker. Never decides
//! anything by it.

use o1_proto::model::{BreakerState, Verdict};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// What a probe came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    /// The endpoint works.
    Good,
    /// It does not.
    Bad,
    /// It is there and refuses the gateway, or there was nothing to ask without starting something.
    Unknown,
}

impl Probed {
    /// Every result.
    pub const ALL: [Self; 3] = [Self::Good, Self::Bad, Self::Unknown];

    /// Its word in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Unknown => "unknown",
        }
    }
}

/// The numbers of one endpoint of one store, over all its configurations.
#[derive(Debug)]
pub struct Watched {
    probes: [AtomicU64; Probed::ALL.len()],
    /// -1: nothing is known.
    healthy: AtomicI64,
    breaker: AtomicU64,
    opened: AtomicU64,
}

impl Default for Watched {
    fn default() -> Self {
        Self {
            probes: Default::default(),
            healthy: AtomicI64::new(-1),
            breaker: AtomicU64::new(0),
            opened: AtomicU64::new(0),
        }
    }
}

/// The same at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WatchedSample {
    /// Probes by what they came to, in the order of [`Probed::ALL`].
    pub probes: [u64; Probed::ALL.len()],
    /// Whether it works; `None`: nothing is known.
    pub healthy: Option<bool>,
    /// 0: closed, 1: half-open, 2: open.
    pub breaker: u64,
    /// How often the breaker opened.
    pub opened: u64,
}

impl Watched {
    /// A probe ended.
    pub fn probed(&self, result: Probed) {
        self.probes[result as usize].fetch_add(1, Relaxed);
    }

    /// What the endpoint is taken for from now on.
    pub fn judged(&self, verdict: Verdict) {
        let healthy = match verdict {
            Verdict::Unknown => -1,
            Verdict::Healthy => 1,
            Verdict::Unhealthy => 0,
        };
        self.healthy.store(healthy, Relaxed);
    }

    /// What its breaker is from now on.
    pub fn breaker(&self, state: BreakerState) {
        let state = match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        let before = self.breaker.swap(state, Relaxed);
        self.opened.fetch_add(u64::from(state == 2 && before != 2), Relaxed);
    }

    pub(super) fn sample(&self) -> WatchedSample {
        let healthy = self.healthy.load(Relaxed);
        WatchedSample {
            probes: self.probes.each_ref().map(|one| one.load(Relaxed)),
            healthy: (healthy >= 0).then_some(healthy > 0),
            breaker: self.breaker.load(Relaxed),
            opened: self.opened.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_lands_in_its_own_place() {
        let watched = Watched::default();
        assert_eq!(watched.sample().healthy, None);
        for (times, result) in Probed::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| watched.probed(result));
        }
        for (verdict, healthy) in
            [(Verdict::Healthy, Some(true)), (Verdict::Unhealthy, Some(false)), (Verdict::Unknown, None)]
        {
            watched.judged(verdict);
            assert_eq!(watched.sample().healthy, healthy, "{verdict:?}");
        }
        let states = [BreakerState::Open, BreakerState::HalfOpen, BreakerState::Open, BreakerState::Open];
        states.into_iter().for_each(|state| watched.breaker(state));
        let sample = watched.sample();
        assert_eq!((sample.probes, sample.breaker, sample.opened), ([1, 2, 3], 2, 2));
    }
}
