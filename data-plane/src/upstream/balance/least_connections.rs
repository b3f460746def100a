//! Power of two choices: of two drawn by weight, the one with fewer calls in flight for its weight. Between equals
//! the draw decides, so that idle endpoints get their shares, too.

use super::{Endpoints, random, shares::Shares};
use fastrand::Rng;

#[inline]
pub(super) fn pick(shares: &Shares, endpoints: &impl Endpoints, rng: &mut Rng) -> Option<usize> {
    let first = random::weighted(shares, |at| endpoints.fits(at), rng)?;
    let other = |at: usize| at != first && endpoints.fits(at);
    let second = match shares.len() {
        2 => Some(1 - first).filter(|at| other(*at)),
        _ => random::weighted(shares, other, rng),
    };
    let Some(second) = second else { return Some(first) };
    // a / wa < b / wb, without fractions
    let scaled =
        |load: usize, weight: usize| u128::from(endpoints.load(load)) * u128::from(shares.weight(weight));
    Some(if scaled(second, first) < scaled(first, second) { second } else { first })
}
