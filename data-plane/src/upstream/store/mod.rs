//! The endpoints of a store as they are at this moment: what each carries, which are left out, who is next. All
//! that is remembered of an endpoint beside its backend stands here.

mod breakers;
mod probes;
#[cfg(test)]
mod tests;

use super::{
    balance::{self, Balancer, Endpoints, Member},
    breaker::{Answers, Breaker},
    gate::{Gate, Permit},
    outlier::{self, Ejection},
    retry::Budget,
};
use crate::{call::Call, failure::Failure, handle, metrics, plan, stores};
use breakers::Marks;
pub(super) use breakers::Pass;
use fastrand::Rng;
use o1_proto::model::{Balance, StoreHealth};
pub(super) use probes::{LEAST, Word};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};
use tokio::{sync::Notify, time::Instant};

/// One store, alive.
pub(super) struct Store {
    upstream: Arc<plan::Upstream>,
    endpoints: Box<[Endpoint]>,
    balancer: Balancer,
    /// Calls in flight, all endpoints together.
    load: AtomicU64,
    /// How many endpoints are left out.
    out: AtomicU32,
    ejections: Mutex<Vec<Ejection>>,
    marks: Mutex<Marks>,
    /// A breaker is not closed, or probes say that an endpoint does not work.
    is_troubled: AtomicBool,
    /// Its configuration ended.
    is_over: AtomicBool,
    began: Instant,
    /// Where everybody hears how the store is.
    gate: Arc<stores::Gate>,
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
    /// An answer says something new: it failed since it last answered, or nothing is known yet.
    is_doubtful: AtomicBool,
    /// It answered a call since it was last probed.
    is_alive: AtomicBool,
    /// What calls are let in with, see [`super::breaker`].
    number: AtomicU64,
    answers: Answers,
    watched: Arc<metrics::Watched>,
    /// It should be probed now.
    poke: Notify,
}

/// A call's place at an endpoint, from when it is chosen until its answer is complete, however that ends.
pub(super) struct Place {
    load: Load,
    /// `None`: calls at this endpoint are not limited.
    _permit: Option<Permit>,
    _picked: metrics::Picked,
}

/// A call that an endpoint carries.
struct Load(Pass);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store.uncount(self.0.at);
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
    /// By the place of the endpoint; `None`: all.
    allowed: Option<&'a [bool]>,
    /// Some are left out, and enough are not.
    some_out: bool,
    wish: Wish,
}

impl Endpoints for Seen<'_> {
    #[inline]
    fn fits(&self, at: usize) -> bool {
        let endpoint = &self.store.endpoints[at];
        self.allowed.is_none_or(|allowed| allowed[at])
            && (self.wish < Wish::Other || !self.tried.contains(&at))
            && (self.wish < Wish::Sound || !(self.some_out && endpoint.is_out.load(Relaxed)))
            && (self.wish < Wish::Free || endpoint.gate.as_ref().is_none_or(Gate::is_free))
    }

    #[inline]
    fn load(&self, at: usize) -> u32 {
        self.store.endpoints[at].load.load(Relaxed)
    }

    fn total(&self) -> Option<u64> {
        let limited = self.allowed.is_some()
            || (self.wish == Wish::Free && self.store.upstream.concurrency.max.is_some());
        let all = !limited && (self.tried.is_empty() || self.wish == Wish::None);
        (all && (!self.some_out || self.wish < Wish::Sound)).then(|| self.store.load.load(Relaxed))
    }
}

impl Store {
    /// One side of an upstream, nothing in flight. Says at `gate` how it is.
    pub(super) fn new(
        upstream: &Arc<plan::Upstream>,
        metrics: &Arc<metrics::Upstream>,
        gate: Arc<stores::Gate>,
    ) -> Arc<Self> {
        let marks: Vec<_> = upstream.endpoints.iter().map(handle::endpoint_id).collect();
        let weights = upstream.weights.iter().copied().chain(std::iter::repeat(1));
        let members: Vec<_> =
            marks.iter().zip(weights).map(|(mark, weight)| Member { weight, mark }).collect();
        let endpoint = |label: String| Endpoint {
            metrics: metrics.endpoint(&label),
            watched: metrics.watched(upstream.store, &label),
            label,
            gate: Gate::new(&upstream.concurrency),
            load: AtomicU32::new(0),
            is_out: AtomicBool::new(false),
            is_doubtful: AtomicBool::new(true),
            is_alive: AtomicBool::new(false),
            number: AtomicU64::new(Breaker::default().number()),
            answers: Answers::default(),
            poke: Notify::new(),
        };
        // What was said of another configuration's endpoints is void.
        gate.health(upstream.store).tell(StoreHealth::default());
        Arc::new(Self {
            endpoints: metrics::labels(upstream).into_iter().map(endpoint).collect(),
            balancer: Balancer::new(&upstream.balance, &members),
            load: AtomicU64::new(0),
            out: AtomicU32::new(0),
            ejections: Mutex::new(vec![Ejection::default(); members.len()]),
            marks: Mutex::new(Marks::new(members.len())),
            is_troubled: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            began: Instant::now(),
            gate,
            budget: Mutex::new(Budget::new(Instant::now())),
            upstream: upstream.clone(),
        })
    }

    /// The endpoint that a call goes to; `None`: every breaker is open.
    fn pick(&self, call: &Call) -> Option<usize> {
        self.pick_and(call, &[], |_, _| true)
    }

    /// The endpoint that a call goes to, one that it was not sent to already if there is one: the first choice that
    /// `take` does not refuse; `take` is told what the choice was made from.
    fn pick_and(
        &self,
        call: &Call,
        tried: &[usize],
        take: impl Fn(&Seen<'_>, usize) -> bool,
    ) -> Option<usize> {
        let allowed = self.allowed(tried);
        let allowed = allowed.as_deref();
        if allowed.is_some_and(|allowed| !allowed.contains(&true)) {
            return None;
        }
        let some_out = self.some_out();
        let mut rng = Rng::new();
        let key = || match &self.upstream.balance {
            Balance::ConsistentHash { key, .. } => balance::of(key, call),
            _ => 0,
        };
        for wish in WISHES {
            let seen = Seen { store: self, tried, allowed, some_out, wish };
            // Refused: others were quicker. Each time there is one choice less to lose.
            for _ in 0..self.endpoints.len() {
                match self.balancer.pick(&seen, key, &mut rng) {
                    Some(at) if take(&seen, at) => return Some(at),
                    Some(_) => {}
                    None => break,
                }
            }
        }
        // Everybody carries as much as may be because of calls that came this very moment.
        let seen = Seen { store: self, tried, allowed, some_out, wish: Wish::None };
        let left: Vec<_> = (0..self.endpoints.len()).filter(|at| seen.fits(*at)).collect();
        let at = *left.get(rng.usize(..left.len().max(1)))?;
        take(&seen, at);
        Some(at)
    }

    /// All endpoints, the one for this call first, those that are left out last.
    pub(super) fn order(&self, call: &Call) -> Vec<usize> {
        self.order_from(self.pick(call).unwrap_or_default())
    }

    /// All endpoints from this one on, in turn, those that are left out and those that may take nothing last.
    pub(super) fn order_from(&self, first: usize) -> Vec<usize> {
        let count = self.endpoints.len();
        let some_out = self.some_out();
        let mut order: Vec<_> = (0..count).map(|at| (first + at) % count).collect();
        let is_out = |at: usize| some_out && self.endpoints[at].is_out.load(Relaxed);
        if self.is_troubled.load(Relaxed) {
            let ranks = self.ranks(&[]);
            order.sort_by_key(|at| (ranks[*at].unwrap_or(u32::MAX), is_out(*at)));
        } else {
            order.sort_by_key(|at| is_out(*at));
        }
        order
    }

    /// The endpoint for something that is no call in flight: a message that nobody answers, a stream without end.
    ///
    /// # Errors
    /// `Unreachable`, unsent: every breaker is open.
    pub(super) fn pass(&self, call: &Call) -> Result<usize, Failure> {
        let at = self.pick(call).unwrap_or_default();
        self.check(at)?;
        drop(self.endpoints[at].metrics.picked());
        Ok(at)
    }

    /// A place at the endpoint that a call goes to, perhaps after a wait.
    ///
    /// # Errors
    /// `Overloaded`; `Unreachable`, unsent: every breaker is open.
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
        // Another call may be quicker to be the one that tries.
        for _ in 0..=self.endpoints.len() {
            let Some(at) = self.pick_and(call, tried, count) else { break };
            match self.pass_at(at) {
                Some(pass) => return self.place(Load(pass)).await,
                None => self.uncount(at),
            }
        }
        Err(self.refusal(0))
    }

    fn uncount(&self, at: usize) {
        self.endpoints[at].load.fetch_sub(1, Relaxed);
        self.load.fetch_sub(1, Relaxed);
    }

    /// A place at this very endpoint, perhaps after a wait.
    ///
    /// # Errors
    /// `Overloaded`; `Unreachable`, unsent: its breaker is open.
    pub(super) async fn enter(self: &Arc<Self>, at: usize) -> Result<Place, Failure> {
        let pass = self.attempt(at)?;
        self.endpoints[at].load.fetch_add(1, Relaxed);
        self.load.fetch_add(1, Relaxed);
        self.place(Load(pass)).await
    }

    async fn place(self: &Arc<Self>, load: Load) -> Result<Place, Failure> {
        let endpoint = &self.endpoints[load.0.at];
        let permit = match &endpoint.gate {
            Some(gate) => Some(gate.enter(&endpoint.metrics).await?),
            None => None,
        };
        Ok(Place { _permit: permit, _picked: endpoint.metrics.picked(), load })
    }

    /// Leaves an endpoint out for a while if it failed too often.
    fn eject(&self, at: usize, failure: &Failure) {
        let endpoint = &self.endpoints[at];
        let mut ejections = self.ejections();
        let now = Instant::now();
        // First who comes back: this one may be among them, and then it is left out anew.
        self.take_back_from(&ejections, now);
        if outlier::failed(&mut ejections, at, &self.upstream.outlier, now) {
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
    fn take_back(&self) {
        if self.out.load(Relaxed) > 0 {
            self.take_back_from(&self.ejections(), Instant::now());
        }
    }

    fn take_back_from(&self, ejections: &[Ejection], now: Instant) {
        for (endpoint, ejection) in self.endpoints.iter().zip(ejections) {
            if !ejection.is_out(now) && endpoint.is_out.swap(false, Relaxed) {
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

    fn ejections(&self) -> MutexGuard<'_, Vec<Ejection>> {
        self.ejections.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.load.0.at
    }

    /// It is not the first of its call.
    pub(super) fn retried(&self) {
        self.load.0.store.endpoints[self.load.0.at].metrics.retried();
    }

    /// The answer is complete.
    pub(super) fn answered(&self) {
        self.load.0.answered();
    }

    /// There will be no answer.
    pub(super) fn failed(&self, failure: &Failure) {
        self.load.0.failed(failure);
    }
}
