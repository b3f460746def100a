//! Weights as stretches of a line: each endpoint owns as many points of it as its weight says.

/// The line.
#[derive(Debug)]
pub(super) struct Shares {
    /// Where the stretch of each endpoint ends, in the order of their places.
    ends: Box<[u64]>,
}

impl Shares {
    /// Weights without their greatest common divisor: 2 and 4 are 1 and 2.
    pub(super) fn new(weights: impl Iterator<Item = u32>) -> Self {
        let weights: Vec<u64> = weights.map(|weight| u64::from(weight.max(1))).collect();
        let common = weights.iter().copied().fold(0, divisor).max(1);
        let mut end = 0;
        let ends = weights.iter().map(|weight| {
            end += weight / common;
            end
        });
        Self { ends: ends.collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Points of the whole line.
    pub(super) fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or_default()
    }

    /// True when all are the same.
    pub(super) fn are_equal(&self) -> bool {
        self.total() == self.len() as u64
    }

    pub(super) fn weight(&self, at: usize) -> u64 {
        self.ends[at] - at.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// Who owns a point below [`Shares::total`].
    #[inline]
    pub(super) fn owner(&self, point: u64) -> usize {
        if self.are_equal() {
            return usize::try_from(point).unwrap_or_default();
        }
        self.ends.partition_point(|end| *end <= point)
    }
}

/// The greatest common divisor.
pub(super) fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}
