//! Equal keys, equal endpoints: each endpoint owns many points of a ring, and a key belongs to the first point
//! after it. Where that endpoint does not fit or carries too much, the next on the ring takes over, so that one
//! that leaves moves its own keys and no others.
//!
//! The bound on loads is that of Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads"
//! (2016): nobody carries more than c times the average, whatever keys come.

use super::{Endpoints, Member, shares::Shares};
use std::collections::HashMap;

/// c, as a fraction: 1.25.
const C: (u128, u128) = (5, 4);

/// The most points of a ring. More make no share fairer, only memory fuller.
const POINTS_MAX: u64 = 1 << 17;

#[derive(Debug)]
pub(super) struct Ring {
    /// Sorted.
    points: Box<[u64]>,
    /// Whose they are.
    owners: Box<[u32]>,
    /// Where in `points` each equal stretch of the ring begins; a power of two of stretches.
    stretches: Box<[u32]>,
    /// How far to shift a key to get its stretch.
    shift: u32,
}

impl Ring {
    pub(super) fn new(members: &[Member<'_>], virtual_nodes: u32) -> Self {
        let wanted = |member: &Member<'_>| u64::from(member.weight.max(1)) * u64::from(virtual_nodes.max(1));
        let total: u64 = members.iter().map(wanted).sum();
        let mut marks: HashMap<&[u8], u32> = HashMap::new();
        let mut points = Vec::new();
        for (at, member) in members.iter().enumerate() {
            let owner = u32::try_from(at).unwrap_or(u32::MAX);
            // The same command may stand in a list more than once.
            let copy = marks.entry(member.mark).and_modify(|copy| *copy += 1).or_default();
            let count = if total > POINTS_MAX {
                let scaled = u128::from(wanted(member)) * u128::from(POINTS_MAX) / u128::from(total);
                u64::try_from(scaled).unwrap_or(1).max(1)
            } else {
                wanted(member)
            };
            points.extend((0..count).map(|number| (point(member.mark, *copy, number), owner)));
        }
        points.sort_unstable();
        let bits = points.len().next_power_of_two().ilog2().max(1);
        let shift = u64::BITS - bits;
        let stretches = (0..1_u64 << bits)
            .map(|stretch| points.partition_point(|(point, _)| *point < stretch << shift))
            .map(|start| u32::try_from(start).unwrap_or(u32::MAX))
            .collect();
        let (points, owners): (Vec<_>, Vec<_>) = points.into_iter().unzip();
        Self { points: points.into(), owners: owners.into(), stretches, shift }
    }

    #[inline]
    pub(super) fn pick(&self, shares: &Shares, endpoints: &impl Endpoints, key: u64) -> Option<usize> {
        let bound = Bound::of(shares, endpoints);
        // Where nobody fits, nobody is looked for along the whole ring.
        if bound.weight == 0 {
            return None;
        }
        let bears = |at: usize| endpoints.fits(at) && bound.bears(at, endpoints.load(at) + 1);
        let first = self.after(key);
        let owners = self.owners[first..].iter().chain(&self.owners[..first]);
        owners.map(|owner| *owner as usize).find(|at| bears(*at))
    }

    /// The place of the first point that is not before a key; beyond the last it is the first.
    fn after(&self, key: u64) -> usize {
        let mut at = self.stretches[usize::try_from(key >> self.shift).unwrap_or_default()] as usize;
        while at < self.points.len() && self.points[at] < key {
            at += 1;
        }
        if at == self.points.len() { 0 } else { at }
    }
}

/// One of an endpoint's points.
fn point(mark: &[u8], copy: u32, number: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(mark).update(&copy.to_be_bytes()).update(&number.to_be_bytes());
    u64::from_be_bytes(*hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

/// How many calls each may carry when one more comes.
pub(super) struct Bound<'a> {
    shares: &'a Shares,
    /// Calls in flight, the one that comes among them.
    load: u64,
    /// Weights of those that fit.
    weight: u64,
}

impl<'a> Bound<'a> {
    pub(super) fn of(shares: &'a Shares, endpoints: &impl Endpoints) -> Self {
        if let Some(total) = endpoints.total() {
            return Self { shares, load: total + 1, weight: shares.total() };
        }
        let (mut load, mut weight) = (1, 0);
        for at in (0..shares.len()).filter(|at| endpoints.fits(*at)) {
            load += u64::from(endpoints.load(at));
            weight += shares.weight(at);
        }
        Self { shares, load, weight }
    }

    /// Whether `load` is at most c times its share of all calls, rounded up.
    pub(super) fn bears(&self, at: usize, load: u32) -> bool {
        // load <= ceil(x / y), without the division
        let x = C.0 * u128::from(self.load) * u128::from(self.shares.weight(at));
        let y = C.1 * u128::from(self.weight.max(1));
        u128::from(load.saturating_sub(1)) * y < x
    }
}
