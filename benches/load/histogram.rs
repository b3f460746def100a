//! Latencies with a bounded relative error, in constant memory, as HDR histograms keep them: 64 equal steps
//! within each power of two, so no value is off by more than 1.6 %. Pure.

use std::time::Duration;

/// Steps within a power of two, as a power of two.
const STEP_BITS: u32 = 6;
const STEPS: usize = 1 << STEP_BITS;
/// Up to 2^36 ns, more than a minute; what is longer counts as that.
const POWERS: usize = 36 - STEP_BITS as usize + 1;

/// How long things took.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; STEPS * (POWERS + 1)], total: 0 }
    }
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let at = place(nanos).min(self.counts.len() - 1);
        self.counts[at] += 1;
        self.total += 1;
    }

    /// Counts what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *ours += theirs;
        }
        self.total += other.total;
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What `share` of them (0.99: 99 %) took at most; zero when nothing was counted.
    #[expect(clippy::cast_precision_loss, reason = "a count is far below 2^52")]
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = self.total as f64 * share;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen > 0 && seen as f64 >= rank {
                return Duration::from_nanos(highest(at));
            }
        }
        Duration::ZERO
    }
}

/// Where a value is counted.
fn place(nanos: u64) -> usize {
    let power = (u64::BITS - nanos.leading_zeros()).saturating_sub(STEP_BITS + 1);
    let step = nanos >> power;
    usize::try_from(step).unwrap_or(usize::MAX).saturating_add(power as usize * STEPS)
}

/// The largest value that is counted at a place.
fn highest(at: usize) -> u64 {
    let power = (at / STEPS).saturating_sub(1);
    let step = (at - power * STEPS) as u64;
    ((step + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_off_by_more_than_the_width_of_its_step() {
        for nanos in
            (0..2_000).chain((11..36).flat_map(|power| [(1 << power) - 1, 1 << power, 3 << (power - 1)]))
        {
            let stands_for = highest(place(nanos));
            assert!(stands_for >= nanos, "{nanos} is counted as {stands_for}");
            assert!(stands_for - nanos <= nanos / STEPS as u64, "{nanos} is counted as {stands_for}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let (mut odd, mut even) = (Histogram::default(), Histogram::default());
        for micros in 1..=1_000_u64 {
            if micros % 2 == 0 { &mut even } else { &mut odd }.record(Duration::from_micros(micros));
        }
        odd.merge(&even);
        assert_eq!(odd.total(), 1_000);
        for (share, micros) in [(0.5, 500), (0.99, 990), (0.999, 999), (1.0, 1_000)] {
            let (found, exact) = (odd.quantile(share), Duration::from_micros(micros));
            assert!(found >= exact && found < exact.mul_f64(1.02), "{share}: {found:?}");
        }
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }
}
