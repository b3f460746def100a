//! The endpoints of a store as they are at this moment: what each carries, which are left out, who is next. All
//! that is remembered of an endpoint beside its backend stands here.

#[cfg(test)]
mod tests;

use super::{
    balance::{self, Balancer, Endpoints, Member},
    gate::{Gate, Permit},
    outlier::{self, Health},
    retry::{self, Budget},
};
use crate::{call::Call, failure::Failure, handle, metrics, plan};
use fastrand::Rng;
use o1_proto::model::Balance;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};
use tokio::time::Instant;

/// One store, alive.
pub(super) struct Store {
    upstream: Arc<plan::Upstream>,
    endpoints: Box<[Endpoint]>,
    balancer: Balancer,
    /// Calls in flight, all endpoints together.
    load: AtomicU64,
    /// How many endpoints are left out.
    out: AtomicU32,
    health: Mutex<Vec<Health>>,
    budget: Mutex<Budget>,
}

/// One of its endpoints.
struct Endpoint {
    /// What it is called where people read it.
    label: String,
    metrics: Arc<metrics::Endpoint>,
    gate: Option<Gate>,
    /// Calls in flight, those that wait for a place among them.
    load: AtomicU32,
    /// Left out.
    is_out: AtomicBool,
    /// It failed since it last answered.
    is_doubtful: AtomicBool,
}

/// A call's place at an endpoint, from when it is chosen until its answer is complete, however that ends.
pub(super) struct Place {
    load: Load,
    /// `None`: calls at this endpoint are not limited.
    _permit: Option<Permit>,
    _picked: metrics::Picked,
}

/// A call that an endpoint carries.
struct Load {
    store: Arc<Store>,
    at: usize,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.store.endpoints[self.at].load.fetch_sub(1, Relaxed);
        self.store.load.fetch_sub(1, Relaxed);
    }
}

/// How much is asked of an endpoint before a call goes to it; less and less where none is to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    /// Anything.
    None,
    /// It did not fail this very call.
    Other,
    /// It is not left out, either.
    Sound,
    /// It has a place at once, too.
    Free,
}

const WISHES: [Wish; 4] = [Wish::Free, Wish::Sound, Wish::Other, Wish::None];

/// The endpoints for one choice.
struct Seen<'a> {
    store: &'a Store,
    tried: &'a [usize],
    /// Some are left out, and enough are not.
    some_out: bool,
    wish: Wish,
}

impl Endpoints for Seen<'_> {
    #[inline]
    fn fits(&self, at: usize) -> bool {
        let endpoint = &self.store.endpoints[at];
        (self.wish < Wish::Other || !self.tried.contains(&at))
            && (self.wish < Wish::Sound || !(self.some_out && endpoint.is_out.load(Relaxed)))
            && (self.wish < Wish::Free || endpoint.gate.as_ref().is_none_or(Gate::is_free))
    }

    #[inline]
    fn load(&self, at: usize) -> u32 {
        self.store.endpoints[at].load.load(Relaxed)
    }

    fn total(&self) -> Option<u64> {
        let limited = self.wish == Wish::Free && self.store.upstream.concurrency.max.is_some();
        let all = !limited && (self.tried.is_empty() || self.wish == Wish::None);
        (all && (!self.some_out || self.wish < Wish::Sound)).then(|| self.store.load.load(Relaxed))
    }
}

impl Store {
    /// The primary of an upstream, nothing in flight.
    pub(super) fn new(upstream: &Arc<plan::Upstream>, metrics: &Arc<metrics::Upstream>) -> Arc<Self> {
        let marks: Vec<_> = upstream.endpoints.iter().map(handle::endpoint_id).collect();
        let weights = upstream.weights.iter().copied().chain(std::iter::repeat(1));
        let members: Vec<_> =
            marks.iter().zip(weights).map(|(mark, weight)| Member { weight, mark }).collect();
        let endpoint = |label: String| Endpoint {
            metrics: metrics.endpoint(&label),
            label,
            gate: Gate::new(&upstream.concurrency),
            load: AtomicU32::new(0),
            is_out: AtomicBool::new(false),
            is_doubtful: AtomicBool::new(false),
        };
        Arc::new(Self {
            endpoints: metrics::labels(upstream).into_iter().map(endpoint).collect(),
            balancer: Balancer::new(&upstream.balance, &members),
            load: AtomicU64::new(0),
            out: AtomicU32::new(0),
            health: Mutex::new(vec![Health::default(); members.len()]),
            budget: Mutex::new(Budget::new(Instant::now())),
            upstream: upstream.clone(),
        })
    }

    /// The endpoint that a call goes to.
    fn pick(&self, call: &Call) -> usize {
        self.pick_and(call, &[], |_, _| true)
    }

    /// The endpoint that a call goes to, one that it was not sent to already if there is one: the first choice that `take` does not refuse; `take` is told what the choice was made from.
    fn pick_and(&self, call: &Call, tried: &[usize], take: impl Fn(&Seen<'_>, usize) -> bool) -> usize {
        let some_out = self.some_out();
        let mut rng = Rng::new();
        let key = || match &self.upstream.balance {
            Balance::ConsistentHash { key, .. } => balance::of(key, call),
            _ => 0,
        };
        for wish in WISHES {
            let seen = Seen { store: self, tried, some_out, wish };
            // Refused: others were quicker. Each time there is one choice less to lose.
            for _ in 0..self.endpoints.len() {
                match self.balancer.pick(&seen, key, &mut rng) {
                    Some(at) if take(&seen, at) => return at,
                    Some(_) => {}
                    None => break,
                }
            }
        }
        // Everybody carries as much as may be because of calls that came this very moment.
        let at = rng.usize(..self.endpoints.len());
        take(&Seen { store: self, tried, some_out, wish: Wish::None }, at);
        at
    }

    /// All endpoints, the one for this call first, those that are left out last.
    pub(super) fn order(&self, call: &Call) -> Vec<usize> {
        self.order_from(self.pick(call))
    }

    /// All endpoints from this one on, in turn, those that are left out last.
    pub(super) fn order_from(&self, first: usize) -> Vec<usize> {
        let count = self.endpoints.len();
        let some_out = self.some_out();
        let mut order: Vec<_> = (0..count).map(|at| (first + at) % count).collect();
        order.sort_by_key(|at| some_out && self.endpoints[*at].is_out.load(Relaxed));
        order
    }

    /// The endpoint for something that is no call in flight: a message that nobody answers, a stream without end.
    pub(super) fn pass(&self, call: &Call) -> usize {
        let at = self.pick(call);
        drop(self.endpoints[at].metrics.picked());
        at
    }

    /// A place at the endpoint that a call goes to, perhaps after a wait.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(super) async fn take(self: &Arc<Self>, call: &Call, tried: &[usize]) -> Result<Place, Failure> {
        let count = |seen: &Seen<'_>, at: usize| {
            let load = self.endpoints[at].load.fetch_add(1, Relaxed) + 1;
            let bears = seen.wish == Wish::None || self.balancer.bears(seen, at, load);
            if bears {
                self.load.fetch_add(1, Relaxed);
            } else {
                self.endpoints[at].load.fetch_sub(1, Relaxed);
            }
            bears
        };
        let at = self.pick_and(call, tried, count);
        self.place(Load { store: self.clone(), at }).await
    }

    /// A place at this very endpoint, perhaps after a wait.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(super) async fn enter(self: &Arc<Self>, at: usize) -> Result<Place, Failure> {
        self.endpoints[at].load.fetch_add(1, Relaxed);
        self.load.fetch_add(1, Relaxed);
        self.place(Load { store: self.clone(), at }).await
    }

    async fn place(self: &Arc<Self>, load: Load) -> Result<Place, Failure> {
        let endpoint = &self.endpoints[load.at];
        let permit = match &endpoint.gate {
            Some(gate) => Some(gate.enter(&endpoint.metrics).await?),
            None => None,
        };
        Ok(Place { _permit: permit, _picked: endpoint.metrics.picked(), load })
    }

    /// An endpoint answered.
    pub(super) fn answered(&self, at: usize) {
        if self.endpoints[at].is_doubtful.swap(false, Relaxed) {
            self.health()[at].succeeded();
        }
    }

    /// An endpoint did not answer.
    pub(super) fn failed(&self, at: usize, failure: &Failure) {
        if !retry::is_outage(failure) {
            return;
        }
        let endpoint = &self.endpoints[at];
        let mut health = self.health();
        let now = Instant::now();
        // First who comes back: this one may be among them, and then it is left out anew.
        self.take_back_from(&health, now);
        endpoint.is_doubtful.store(true, Relaxed);
        if outlier::failed(&mut health, at, &self.upstream.outlier, now) {
            endpoint.metrics.ejected();
            tracing::warn!(
                upstream = self.upstream.name,
                endpoint = endpoint.label,
                error = failure.chain(),
                "endpoint left out for a while"
            );
            endpoint.is_out.store(true, Relaxed);
            self.out.fetch_add(1, Relaxed);
        }
    }

    /// Takes back who was left out long enough.
    pub(super) fn take_back(&self) {
        if self.out.load(Relaxed) > 0 {
            self.take_back_from(&self.health(), Instant::now());
        }
    }

    fn take_back_from(&self, health: &[Health], now: Instant) {
        for (endpoint, health) in self.endpoints.iter().zip(health) {
            if !health.is_out(now) && endpoint.is_out.swap(false, Relaxed) {
                self.out.fetch_sub(1, Relaxed);
                endpoint.metrics.returned();
            }
        }
    }

    /// Whether some endpoints are left out, and enough are not.
    fn some_out(&self) -> bool {
        if self.out.load(Relaxed) == 0 {
            return false;
        }
        self.take_back();
        let out = self.out.load(Relaxed) as usize;
        out > 0 && !outlier::panics(self.endpoints.len(), out, &self.upstream.outlier)
    }

    /// A call came that may be sent again.
    pub(super) fn called(&self) {
        self.budget().call(Instant::now());
    }

    /// Whether there is one more retry in the budget; if so, it is taken.
    pub(super) fn may_retry(&self) -> bool {
        self.budget().take(&self.upstream.retry, Instant::now())
    }

    fn health(&self) -> MutexGuard<'_, Vec<Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Store {
    /// Who is left out when its configuration ends is not left out any more.
    fn drop(&mut self) {
        self.endpoints.iter().filter(|one| one.is_out.load(Relaxed)).for_each(|one| one.metrics.returned());
    }
}

impl Place {
    /// Which endpoint.
    pub(super) fn at(&self) -> usize {
        self.load.at
    }

    /// It is not the first of its call.
    pub(super) fn retried(&self) {
        self.load.store.endpoints[self.load.at].metrics.retried();
    }

    /// The answer is complete.
    pub(super) fn answered(&self) {
        self.load.store.answered(self.load.at);
    }

    /// There will be no answer.
    pub(super) fn failed(&self, failure: &Failure) {
        self.load.store.failed(self.load.at, failure);
    }
}
