//! The breakers of a store's endpoints: who may be chosen, who is refused, what each result changes. Where nothing is
//! wrong it costs no lock.
//!
//! Beside them endpoints are left out for a while (see [`outlier`](super::super::outlier)). Both hear of each result
//! once and neither asks the other: being left out says who is not chosen while there is another, an open breaker
//! says who gets nothing. So a store of which too much is left out uses all again, but for those that are open.

use super::{Endpoint, Store, probes::Tried};
use crate::{
    failure::{Failure, Kind},
    metrics::Probed,
    upstream::{
        breaker::{self, At, Breaker, Ready},
        health::{self, Health, Seen},
        retry,
    },
};
use o1_proto::model::{BreakerState, StoreHealth, Verdict};
use std::{
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::SystemTime,
};
use tokio::time::Instant;

/// What is known of all endpoints, and what was last said of the store.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub(super) each: Vec<Mark>,
    told: StoreHealth,
}

/// What is known of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Mark {
    pub(super) breaker: Breaker,
    pub(super) health: Health,
    /// What callers and the log are told of the last outage.
    last: (String, String),
    /// As everybody knows it.
    shown: (BreakerState, Verdict),
}

impl Marks {
    pub(super) fn new(endpoints: usize) -> Self {
        Self { each: (0..endpoints).map(|_| Mark::default()).collect(), told: StoreHealth::default() }
    }
}

/// Leave to send one thing to an endpoint. Without a word on how that went it changes nothing when dropped.
pub(in crate::upstream) struct Pass {
    pub(super) store: Arc<Store>,
    pub(super) at: usize,
    number: u64,
    /// It is the one that may try.
    tries: bool,
}

impl Pass {
    /// The endpoint answered.
    pub(in crate::upstream) fn answered(&self) {
        self.store.settle(self.at, Some(self.number), None);
    }

    /// It did not.
    pub(in crate::upstream) fn failed(&self, failure: &Failure) {
        self.store.settle(self.at, Some(self.number), Some(failure));
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.tries {
            self.store.marks().each[self.at].breaker.give_back(self.number);
        }
    }
}

/// How gladly an endpoint is chosen for a call; `None`: it is not.
fn rank(mark: &Mark, was_tried: bool, now: Instant) -> Option<u32> {
    let ill = mark.health.verdict() == Verdict::Unhealthy;
    match mark.breaker.ready(now) {
        Ready::No => None,
        Ready::Yes if was_tried => Some(3),
        Ready::Yes => Some(u32::from(ill)),
        // No probe can try this one: a call has to, though others work.
        Ready::Overdue if !ill && !was_tried => Some(0),
        Ready::Overdue | Ready::Try => Some(2),
    }
}

impl Store {
    /// Which endpoints there are to choose from; `None`: all.
    pub(super) fn allowed(&self, tried: &[usize]) -> Option<Vec<bool>> {
        if !self.is_troubled.load(Relaxed) {
            return None;
        }
        let ranks = self.ranks(tried);
        let best = ranks.iter().flatten().min();
        Some(ranks.iter().map(|rank| rank.is_some() && rank.as_ref() == best).collect())
    }

    /// How gladly each endpoint is chosen.
    pub(super) fn ranks(&self, tried: &[usize]) -> Vec<Option<u32>> {
        let mut marks = self.marks();
        self.lapse(&mut marks);
        let now = Instant::now();
        let ranked = marks.each.iter().enumerate();
        ranked.map(|(at, mark)| rank(mark, tried.contains(&at), now)).collect()
    }

    /// Whether a call that was sent to these can go anywhere else.
    pub(in crate::upstream) fn has_another(&self, tried: &[usize]) -> bool {
        let left = |at: usize| !tried.contains(&at);
        match self.allowed(tried) {
            None => (0..self.endpoints.len()).any(left),
            Some(allowed) => allowed.iter().enumerate().any(|(at, allowed)| *allowed && left(at)),
        }
    }

    /// Leave to send something to an endpoint.
    ///
    /// # Errors
    /// `Unreachable`, unsent: its breaker is open.
    pub(in crate::upstream) fn attempt(self: &Arc<Self>, at: usize) -> Result<Pass, Failure> {
        self.pass_at(at).ok_or_else(|| self.refusal(at))
    }

    pub(super) fn pass_at(self: &Arc<Self>, at: usize) -> Option<Pass> {
        let pass = |number, tries| Pass { store: self.clone(), at, number, tries };
        if !self.is_troubled.load(Relaxed) {
            return Some(pass(self.endpoints[at].number.load(Relaxed), false));
        }
        let mut marks = self.marks();
        let number = marks.each[at].breaker.admit(self.at_now())?;
        let tries = !marks.each[at].breaker.is_closed();
        if tries {
            self.show(&mut marks);
        }
        Some(pass(number, tries))
    }

    /// The same for what nobody waits for, which tries nothing.
    ///
    /// # Errors
    /// `Unreachable`, unsent: its breaker is not closed.
    pub(in crate::upstream) fn check(&self, at: usize) -> Result<(), Failure> {
        let is_shut = self.is_troubled.load(Relaxed) && !self.marks().each[at].breaker.is_closed();
        if is_shut { Err(self.refusal(at)) } else { Ok(()) }
    }

    /// The leave of a probe to try an endpoint that calls may not go to; `None`: there is nothing to try now.
    pub(super) fn trial(self: &Arc<Self>, at: usize) -> Option<Pass> {
        self.pass_at(at).filter(|pass| pass.tries)
    }

    /// What a call gets that goes nowhere.
    pub(super) fn refusal(&self, at: usize) -> Failure {
        let marks = self.marks();
        let (public, chain) = &marks.each[at].last;
        let what =
            "the upstream keeps failing: its circuit breaker is open and nothing is sent; last failure";
        Failure::new(Kind::Unreachable, format!("{what}: {public}")).unsent().because(chain.clone())
    }

    /// What came of something that was sent to an endpoint. Without a number it was sent just now.
    pub(super) fn settle(&self, at: usize, number: Option<u64>, failure: Option<&Failure>) {
        let endpoint = &self.endpoints[at];
        match failure {
            None => {
                endpoint.answers.count(self.began.elapsed());
                endpoint.is_alive.store(true, Relaxed);
                if endpoint.is_doubtful.load(Relaxed) && endpoint.is_doubtful.swap(false, Relaxed) {
                    self.ejections()[at].succeeded();
                    self.learn(at, number, &Ok(()));
                }
            }
            Some(failure) => {
                let outage = retry::is_outage(failure);
                if outage {
                    endpoint.is_doubtful.store(true, Relaxed);
                    self.eject(at, failure);
                }
                if outage || (retry::is_answer(failure) && endpoint.is_doubtful.load(Relaxed)) {
                    self.learn(at, number, &Err(failure));
                }
                if matches!(failure.kind, Kind::Unreachable | Kind::Timeout) {
                    endpoint.poke.notify_one();
                }
            }
        }
    }

    fn learn(&self, at: usize, number: Option<u64>, result: &Result<(), &Failure>) {
        let mut marks = self.marks();
        let now = self.at_now();
        let answered = self.endpoints[at].answers.recent(now.now - self.began);
        let mark = &mut marks.each[at];
        let number = number.unwrap_or_else(|| mark.breaker.number());
        match result {
            Err(failure) if retry::is_outage(failure) => {
                mark.last = (failure.public().to_owned(), failure.chain());
                mark.breaker.failed(number, answered, now);
            }
            Err(_) => mark.breaker.succeeded(number),
            Ok(()) => {
                mark.breaker.succeeded(number);
                if !mark.health.is_settled() {
                    mark.health.saw(Seen::Good(None), &self.upstream.health, SystemTime::now());
                }
            }
        }
        self.show(&mut marks);
    }

    /// Takes what a probe saw into account.
    pub(super) fn look(&self, at: usize, seen: Seen, tried: Tried<'_>) {
        let mut marks = self.marks();
        let now = self.at_now();
        let mark = &mut marks.each[at];
        let was_bad = mark.health.is_bad();
        if let Some(failure) = tried.failure.filter(|failure| retry::is_outage(failure)) {
            mark.last = (failure.public().to_owned(), failure.chain());
        }
        match (tried.pass, tried.result) {
            (Some(pass), Probed::Bad) => mark.breaker.failed(pass.number, 0, now),
            (Some(pass), Probed::Good) => mark.breaker.succeeded(pass.number),
            // Whoever refuses us can say so to clients itself.
            (Some(pass), Probed::Unknown) if tried.failure.is_some_and(retry::is_answer) => {
                mark.breaker.succeeded(pass.number);
            }
            // It was dead, for probes too, and is not any more.
            (None, Probed::Good) if was_bad => mark.breaker.hurry(now.now),
            _ => {}
        }
        mark.health.saw(seen, &self.upstream.health, SystemTime::now());
        self.show(&mut marks);
    }

    /// Gives up on tries that take too long.
    pub(super) fn lapse(&self, marks: &mut Marks) {
        let now = self.at_now();
        let lapsed = marks.each.iter_mut().filter_map(|mark| mark.breaker.lapse(now).then_some(())).count();
        if lapsed > 0 {
            self.show(marks);
        }
    }

    /// Tells everybody what changed.
    fn show(&self, marks: &mut Marks) {
        for (endpoint, mark) in self.endpoints.iter().zip(&mut marks.each) {
            endpoint.number.store(mark.breaker.number(), Relaxed);
            let (state, verdict) = (mark.breaker.state(), mark.health.verdict());
            // The next answer changes something.
            if !mark.health.is_settled() || !mark.breaker.is_quiet() {
                endpoint.is_doubtful.store(true, Relaxed);
            }
            if self.is_over.load(Relaxed) {
                continue;
            }
            endpoint.watched.breaker(state);
            endpoint.watched.judged(verdict);
            let before = std::mem::replace(&mut mark.shown, (state, verdict));
            if before.0 != state {
                self.log(endpoint, state, &mark.last.1);
            }
        }
        let troubled = marks
            .each
            .iter()
            .any(|one| !one.breaker.is_closed() || one.health.verdict() == Verdict::Unhealthy);
        self.is_troubled.store(troubled, Relaxed);
        let all: Vec<_> = marks.each.iter().map(|one| (&one.health, one.breaker.state())).collect();
        marks.told = health::store(&all, &marks.told, SystemTime::now());
        if !self.is_over.load(Relaxed) {
            self.gate.health(self.upstream.store).tell(marks.told.clone());
        }
    }

    fn log(&self, endpoint: &Endpoint, state: BreakerState, error: &str) {
        let (upstream, store) = (&self.upstream.name, self.upstream.store.word());
        let endpoint = &endpoint.label;
        match state {
            BreakerState::Open => tracing::warn!(upstream, store, endpoint, error, "circuit breaker open"),
            BreakerState::HalfOpen => tracing::debug!(upstream, store, endpoint, "circuit breaker half-open"),
            BreakerState::Closed => tracing::info!(upstream, store, endpoint, "circuit breaker closed"),
        }
    }

    pub(super) fn at_now(&self) -> At<'_> {
        let (rules, began) = (&self.upstream.breaker, self.began);
        At { rules, now: Instant::now(), began, jitter: breaker::jitter() }
    }

    pub(super) fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
