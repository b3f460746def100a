//! One after the other, by weight: over as many calls as the weights add up to, each endpoint gets exactly its
//! weight, spread evenly instead of in a row.

use super::{
    Endpoints, random,
    shares::{Shares, divisor},
};
use fastrand::Rng;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    next: AtomicU64,
    /// How far along the line of the shares one turn goes.
    stride: u64,
}

impl Turns {
    /// A stride without a common divisor with the line comes to each point once before it comes to any again. One
    /// near the golden section leaves no endpoint waiting much longer than its share says.
    pub(super) fn new(shares: &Shares) -> Self {
        let total = shares.total();
        let golden = u64::try_from(u128::from(total) * 618_033_989 / 1_000_000_000).unwrap_or(1);
        let stride = if shares.are_equal() {
            1
        } else {
            (golden.max(1)..=total).find(|stride| divisor(total, *stride) == 1).unwrap_or(1)
        };
        Self { next: AtomicU64::new(0), stride }
    }

    /// The turn of one that does not fit passes to nobody in particular: it is over, and the next comes. So the
    /// others keep their shares among themselves.
    #[inline]
    pub(super) fn pick(&self, shares: &Shares, endpoints: &impl Endpoints, rng: &mut Rng) -> Option<usize> {
        for _ in 0..2 * shares.len() {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % shares.total();
            let point = u128::from(turn) * u128::from(self.stride) % u128::from(shares.total());
            let at = shares.owner(u64::try_from(point).unwrap_or_default());
            if endpoints.fits(at) {
                return Some(at);
            }
        }
        // Nearly all of the line belongs to those that do not fit.
        random::weighted(shares, |at| endpoints.fits(at), rng)
    }
}
