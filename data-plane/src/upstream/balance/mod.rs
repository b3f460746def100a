//! Which endpoint of a store the next call goes to: plain decisions about weights, loads and a key.
//!
//! Nothing here waits, reads a clock or knows what an endpoint is; chance comes in as a generator that tests seed.
//! It must never hand out an endpoint that does not fit: whoever asks says which do, and asks again with less to
//! wish for when there is none.

mod consistent_hash;
mod key;
mod least_connections;
mod random;
mod round_robin;
mod shares;
#[cfg(test)]
mod tests;

pub use key::{hash, of};

use consistent_hash::Ring;
use fastrand::Rng;
use o1_proto::model::Balance;
use round_robin::Turns;
use shares::Shares;

/// One endpoint as balancers know it.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Its share of the calls; at least 1.
    pub weight: u32,
    /// What it is, on every node and wherever it stands in the list.
    pub mark: &'a [u8],
}

/// The endpoints of a store at this moment, by their places in it.
pub trait Endpoints {
    /// Whether a call may go to it.
    fn fits(&self, at: usize) -> bool;
    /// Its calls in flight.
    fn load(&self, at: usize) -> u32;
    /// The calls in flight of all of them, where it is known that every one fits.
    fn total(&self) -> Option<u64>;
}

/// Chooses for one store. What it remembers is whose turn it is; it may be asked from many threads at once.
#[derive(Debug)]
pub struct Balancer {
    shares: Shares,
    way: Way,
}

#[derive(Debug)]
enum Way {
    RoundRobin(Turns),
    LeastConnections,
    Random,
    WeightedRandom,
    ConsistentHash(Ring),
}

impl Balancer {
    /// For these endpoints, at least one.
    #[must_use]
    pub fn new(balance: &Balance, members: &[Member<'_>]) -> Self {
        let shares = Shares::new(members.iter().map(|member| member.weight));
        let way = match balance {
            Balance::RoundRobin => Way::RoundRobin(Turns::new(&shares)),
            Balance::LeastConnections => Way::LeastConnections,
            Balance::Random => Way::Random,
            Balance::WeightedRandom => Way::WeightedRandom,
            Balance::ConsistentHash { virtual_nodes, .. } => {
                Way::ConsistentHash(Ring::new(members, *virtual_nodes))
            }
        };
        Self { shares, way }
    }

    /// The place of an endpoint that fits; `None`: none does. `key` is asked for only by consistent hashing; equal
    /// keys get equal endpoints while these fit and are not overloaded.
    #[inline]
    pub fn pick(
        &self,
        endpoints: &impl Endpoints,
        key: impl FnOnce() -> u64,
        rng: &mut Rng,
    ) -> Option<usize> {
        match &self.way {
            Way::RoundRobin(turns) => turns.pick(&self.shares, endpoints, rng),
            Way::LeastConnections => least_connections::pick(&self.shares, endpoints, rng),
            Way::Random => random::pick(self.shares.len(), endpoints, rng),
            Way::WeightedRandom => random::weighted(&self.shares, |at| endpoints.fits(at), rng),
            Way::ConsistentHash(ring) => ring.pick(&self.shares, endpoints, key()),
        }
    }

    /// Whether an endpoint may carry `load` calls in flight, this one among them. Only consistent hashing, which
    /// sends calls to where others went before, has such a bound.
    pub fn bears(&self, endpoints: &impl Endpoints, at: usize, load: u32) -> bool {
        match &self.way {
            Way::ConsistentHash(_) => consistent_hash::Bound::of(&self.shares, endpoints).bears(at, load),
            _ => true,
        }
    }
}
