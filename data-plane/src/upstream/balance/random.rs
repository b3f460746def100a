//! Any that fits, each as likely as the others, or by weight.

use super::{Endpoints, shares::Shares};
use fastrand::Rng;

/// So often one is drawn that may not fit, before those that do are counted.
const DRAWS: usize = 4;

/// Each as likely as the others.
#[inline]
pub(super) fn pick(len: usize, endpoints: &impl Endpoints, rng: &mut Rng) -> Option<usize> {
    for _ in 0..DRAWS {
        let at = rng.usize(..len);
        if endpoints.fits(at) {
            return Some(at);
        }
    }
    let fitting = || (0..len).filter(|at| endpoints.fits(*at));
    let count = fitting().count();
    if count == 0 { None } else { fitting().nth(rng.usize(..count)) }
}

/// Each as likely as its weight says.
#[inline]
pub(super) fn weighted(shares: &Shares, fits: impl Fn(usize) -> bool, rng: &mut Rng) -> Option<usize> {
    for _ in 0..DRAWS {
        let at = shares.owner(rng.u64(..shares.total()));
        if fits(at) {
            return Some(at);
        }
    }
    let fitting = || (0..shares.len()).filter(|at| fits(*at));
    let total: u64 = fitting().map(|at| shares.weight(at)).sum();
    if total == 0 {
        return None;
    }
    let mut point = rng.u64(..total);
    fitting().find(|at| {
        let mine = point < shares.weight(*at);
        point = point.saturating_sub(shares.weight(*at));
        mine
    })
}
