//! How long to wait before the next try: full jitter, `rand(0, min(max, base * 2^n))`, so that a thousand
//! nodes that lost the same peer do not come back in the same millisecond.

use std::time::Duration;

/// Counts the failures of one thing in a row.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// The first wait is below `base`, none is above `max`.
    #[must_use]
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, failures: 0 }
    }

    /// The wait after one more failure.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator that never ends and never repeats invites misuse"
    )]
    pub fn next(&mut self) -> Duration {
        let wait = full_jitter(self.base, self.max, self.failures);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// It worked: the next failure is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random wait between zero and [`ceiling`].
#[must_use]
pub fn full_jitter(base: Duration, max: Duration, failures: u32) -> Duration {
    ceiling(base, max, failures).mul_f64(fastrand::f64())
}

/// The longest wait after `failures` earlier failures: `min(max, base * 2^failures)`.
#[must_use]
pub fn ceiling(base: Duration, max: Duration, failures: u32) -> Duration {
    2_u32.checked_pow(failures).and_then(|factor| base.checked_mul(factor)).map_or(max, |wait| wait.min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(250);
    const MAX: Duration = Duration::from_secs(15);

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum_and_never_overflows() {
        let seconds: Vec<f64> = (0..8).map(|n| ceiling(BASE, MAX, n).as_secs_f64()).collect();
        assert_eq!(seconds, [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]);
        assert_eq!(ceiling(BASE, MAX, u32::MAX), MAX);
        assert_eq!(ceiling(Duration::MAX, MAX, 1), MAX);
    }

    #[test]
    fn waits_stay_below_their_ceiling_and_differ() {
        let mut backoff = Backoff::new(BASE, MAX);
        let waits: Vec<Duration> = (0..50).map(|_| backoff.next()).collect();
        for (n, wait) in (0..).zip(&waits) {
            assert!(*wait <= ceiling(BASE, MAX, n), "wait {n} is {wait:?}");
        }
        assert!(waits.iter().any(|wait| *wait > BASE), "fifty waits never grew: {waits:?}");
        assert_ne!(waits[40], waits[41], "two waits are equal: no jitter");
    }

    #[test]
    fn a_success_starts_over() {
        let mut backoff = Backoff::new(BASE, MAX);
        for _ in 0..20 {
            backoff.next();
        }
        backoff.reset();
        assert!(backoff.next() <= BASE);
    }
}
