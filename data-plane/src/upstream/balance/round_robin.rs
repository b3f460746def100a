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
        // Beyond that a turn times the stride would not fit, and no such store exists.
        let stride = if shares.are_equal() || total > u64::from(u32::MAX) {
            1
        } else {
            let golden = total * 618 / 1000;
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
            let at = shares.owner(turn * self.stride % shares.total());
            if endpoints.fits(at) {
                return Some(at);
            }
        }
        // Nearly all of the line belongs to those that do not fit.
        random::weighted(shares, |at| endpoints.fits(at), rng)
    }
}
