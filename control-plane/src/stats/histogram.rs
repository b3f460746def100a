//! Counts by bucket, and the quantiles that they allow.

use std::{collections::BTreeMap, iter, time::Duration};

/// Values (times are in microseconds) by bucket, not cumulative. Empty, or one count more than bounds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Histogram {
    /// Upper bounds, ascending.
    pub bounds: Vec<u64>,
    /// One for each bound, and a last one for what was above all of them.
    pub counts: Vec<u64>,
    /// Sum of the values.
    pub sum: u64,
}

impl Histogram {
    /// Whether the parts fit together.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let empty = self.bounds.is_empty() && self.counts.is_empty();
        empty
            || (self.counts.len() == self.bounds.len() + 1
                && self.bounds.is_sorted_by(|lower, upper| lower < upper))
    }
}

/// The sum of what several histograms gained, whatever their buckets are.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    /// One for each set of bounds; nodes of one build have the same.
    sums: Vec<Histogram>,
}

impl Merged {
    /// Adds what `later` counts and `earlier`, of the same series, did not yet.
    pub fn add_gain(&mut self, earlier: &Histogram, later: &Histogram) {
        let same = earlier.bounds == later.bounds;
        let before = |index| if same { earlier.counts.get(index).copied().unwrap_or(0) } else { 0 };
        let sums = self.counts_mut(&later.bounds, later.counts.len());
        for (index, (sum, now)) in sums.iter_mut().zip(&later.counts).enumerate() {
            *sum += now.saturating_sub(before(index));
        }
    }

    /// Adds another sum.
    pub fn add(&mut self, other: &Self) {
        let none = Histogram::default();
        for sum in &other.sums {
            self.add_gain(&none, sum);
        }
    }

    fn counts_mut(&mut self, bounds: &[u64], len: usize) -> &mut [u64] {
        let known = self.sums.iter().position(|sum| sum.bounds == bounds);
        let index = known.unwrap_or_else(|| {
            self.sums.push(Histogram { bounds: bounds.to_vec(), counts: vec![0; len], sum: 0 });
            self.sums.len() - 1
        });
        &mut self.sums[index].counts
    }

    /// The time below which this part (0 to 1) of the answers came, taking each bucket as evenly filled; `None`:
    /// there were none.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let spans = self.spans();
        let total: u64 = spans.values().sum();
        if total == 0 {
            return None;
        }
        let wanted = part * as_f64(total);
        let mut edges: Vec<u64> = spans.keys().flat_map(|span| [span.0, span.1]).collect();
        edges.sort_unstable();
        edges.dedup();
        // The count of answers up to an edge is piecewise linear in the edge: find the piece, then the point.
        let mut below = (0, 0.0);
        for edge in edges {
            let filled = count_up_to(&spans, edge);
            if filled >= wanted {
                // What has no width comes at its edge all at once.
                let steep = spans.get(&(edge, edge)).copied().unwrap_or(0);
                let sloped = filled - below.1 - as_f64(steep);
                let share = if sloped > 0.0 { ((wanted - below.1) / sloped).clamp(0.0, 1.0) } else { 1.0 };
                let point = as_f64(below.0) + share * as_f64(edge - below.0);
                return Some(Duration::from_secs_f64(point / 1e6));
            }
            below = (edge, filled);
        }
        Some(Duration::from_micros(below.0))
    }

    /// Counts by (lower, upper] bound, microseconds, empty ones left out. The last bucket of a histogram has no
    /// width: all that is known is its lower bound.
    fn spans(&self) -> BTreeMap<(u64, u64), u64> {
        let mut spans = BTreeMap::new();
        for Histogram { bounds, counts, .. } in &self.sums {
            let last = bounds.last().copied().unwrap_or(0);
            let lowers = iter::once(0).chain(bounds.iter().copied());
            let uppers = bounds.iter().copied().chain(iter::once(last));
            for (span, count) in lowers.zip(uppers).zip(counts).filter(|(_, count)| **count > 0) {
                *spans.entry(span).or_default() += count;
            }
        }
        spans
    }
}

fn count_up_to(spans: &BTreeMap<(u64, u64), u64>, edge: u64) -> f64 {
    let part = |(&(lower, upper), &count): (&(u64, u64), &u64)| {
        if edge >= upper {
            as_f64(count)
        } else if edge <= lower {
            0.0
        } else {
            as_f64(count) * as_f64(edge - lower) / as_f64(upper - lower)
        }
    };
    spans.iter().map(part).sum()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and microseconds below 2^53 are exact, beyond it nobody can tell"
)]
fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram(bounds: &[u64], counts: &[u64]) -> Histogram {
        Histogram { bounds: bounds.to_vec(), counts: counts.to_vec(), sum: 0 }
    }

    fn quantile(histograms: &[Histogram], part: f64) -> Option<u64> {
        let mut merged = Merged::default();
        for one in histograms {
            merged.add_gain(&Histogram::default(), one);
        }
        Some(u64::try_from(merged.quantile(part)?.as_micros()).unwrap())
    }

    #[test]
    fn quantiles_are_interpolated_inside_their_bucket() {
        let even = [histogram(&[100, 200, 400], &[10, 10, 0, 0])];
        let cases: &[(&[Histogram], f64, Option<u64>)] = &[
            (&[], 0.5, None),
            (&[histogram(&[100], &[0, 0])], 0.5, None),
            (&even, 0.25, Some(50)),
            (&even, 0.5, Some(100)),
            (&even, 0.75, Some(150)),
            (&even, 1.0, Some(200)),
            // Above the last bound, the last bound is all that is known.
            (&[histogram(&[100], &[0, 4])], 0.5, Some(100)),
            (&[histogram(&[100], &[1, 3])], 0.99, Some(100)),
            // An empty stretch between two filled buckets.
            (&[histogram(&[100, 200, 300], &[1, 0, 1, 0])], 0.75, Some(250)),
            // Two builds with different buckets: 10 evenly over 0–100 and 10 evenly over 0–200.
            (&[histogram(&[100], &[10, 0]), histogram(&[200], &[10, 0])], 0.75, Some(100)),
            (&[histogram(&[100], &[10, 0]), histogram(&[200], &[10, 0])], 0.375, Some(50)),
        ];
        for (histograms, part, expected) in cases {
            assert_eq!(quantile(histograms, *part), *expected, "{part} of {histograms:?}");
        }
    }

    #[test]
    fn only_the_gain_counts() {
        let mut merged = Merged::default();
        merged.add_gain(&histogram(&[100, 200], &[1000, 5, 0]), &histogram(&[100, 200], &[1000, 15, 0]));
        assert_eq!(merged.quantile(0.5), Some(Duration::from_micros(150)));
    }

    #[test]
    fn parts_that_do_not_fit_together_are_seen() {
        assert!(histogram(&[], &[]).is_well_formed());
        assert!(histogram(&[1, 2], &[0, 0, 0]).is_well_formed());
        for bad in [histogram(&[1, 2], &[0, 0]), histogram(&[2, 1], &[0; 3]), histogram(&[1, 1], &[0; 3])] {
            assert!(!bad.is_well_formed(), "{bad:?}");
        }
        assert!(!histogram(&[], &[1, 2]).is_well_formed());
    }

    proptest! {
        #[test]
        fn a_quantile_lies_in_the_bucket_that_the_sorted_values_say(
            values in prop::collection::vec(0_u64..2_000, 1..200),
            part in 0.01_f64..1.0,
        ) {
            let bounds = [10, 50, 100, 500, 1000];
            let mut counts = [0; 6];
            for value in &values {
                counts[bounds.iter().position(|bound| value <= bound).unwrap_or(5)] += 1;
            }
            let found = quantile(&[histogram(&bounds, &counts)], part).unwrap();
            let mut sorted = values;
            sorted.sort_unstable();
            let rank = ((part * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
            let exact = sorted[rank - 1];
            let upper = bounds.iter().copied().find(|bound| exact <= *bound).unwrap_or(1000);
            let lower = bounds.iter().copied().rev().find(|bound| exact > *bound).unwrap_or(0);
            prop_assert!((lower..=upper).contains(&found), "{found} not in {lower}..={upper}, exactly {exact}");
        }
    }
}
