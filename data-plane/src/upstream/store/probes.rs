//! When each endpoint of a store is probed, and what its probes change.

use super::{Store, breakers::Pass};
use crate::{
    call::Probe,
    failure::{Failure, Kind},
    metrics::Probed,
    upstream::{health::Seen, retry},
};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::Instant;

/// Two probes of an endpoint are this far apart, whatever asks for the next one.
pub(in crate::upstream) const LEAST: Duration = Duration::from_secs(1);

/// A probe on its way.
pub(in crate::upstream) struct Probing {
    store: Arc<Store>,
    at: usize,
    began: Instant,
    /// It stands for the call that may try.
    trial: Option<Pass>,
}

/// What a probe says of its store.
#[derive(Debug)]
pub(in crate::upstream) enum Word {
    /// It was reached.
    Reached,
    /// It was not, and no endpoint of it was of late.
    Missed(Failure),
    /// Nothing.
    None,
}

impl Probing {
    /// Takes what it came to into account.
    pub(in crate::upstream) fn ended(self, found: Result<Probe, Failure>) -> Word {
        let Self { store, at, began, trial } = self;
        let endpoint = &store.endpoints[at];
        // Calls that were answered since the last probe know better.
        let is_alive = endpoint.is_alive.swap(false, Relaxed);
        let (result, seen, failure) = match found {
            Ok(Probe::Unknown) => (Probed::Unknown, Seen::Nothing, None),
            Ok(Probe::Modern | Probe::Legacy | Probe::Answers | Probe::Alive) => {
                (Probed::Good, Seen::Good(Some(began.elapsed())), None)
            }
            Ok(Probe::Ill(status)) => (Probed::Bad, Seen::Bad(store.ill(status)), None),
            Err(failure) if retry::is_outage(&failure) => {
                (Probed::Bad, Seen::Bad(failure.chain()), Some(failure))
            }
            Err(failure) => (Probed::Unknown, Seen::Refused(failure.chain()), Some(failure)),
        };
        endpoint.watched.probed(result);
        let is_overruled = is_alive && result != Probed::Good;
        let seen = if is_overruled { Seen::Nothing } else { seen };
        store.look(at, seen, Tried { pass: trial.as_ref(), result, failure: failure.as_ref() });
        match (result, failure) {
            (Probed::Good, _) => Word::Reached,
            (_, Some(failure)) if !is_overruled && !store.others_work(at) => Word::Missed(failure),
            _ => Word::None,
        }
    }
}

/// What a probe says of a breaker.
#[derive(Clone, Copy)]
pub(super) struct Tried<'a> {
    /// It stood for the call that may try.
    pub(super) pass: Option<&'a Pass>,
    pub(super) result: Probed,
    pub(super) failure: Option<&'a Failure>,
}

impl Store {
    /// Begins a probe of an endpoint.
    pub(in crate::upstream) fn probe(self: &Arc<Self>, at: usize) -> Probing {
        Probing { store: self.clone(), at, began: Instant::now(), trial: self.trial(at) }
    }

    /// The failure of a probe that took too long.
    pub(in crate::upstream) fn silent(&self) -> Failure {
        let limit = self.upstream.health.timeout;
        Failure::new(Kind::Timeout, format!("the upstream did not answer a probe within {limit:?}"))
    }

    fn ill(&self, status: u16) -> String {
        let path = self.upstream.health.path.as_deref().unwrap_or_default();
        format!("GET {path} answered HTTP {status}")
    }

    /// How long until the next probe of an endpoint, if nothing happens.
    pub(in crate::upstream) fn until_probe(&self, at: usize) -> Duration {
        let marks = self.marks();
        let mark = &marks.each[at];
        let wait = mark.health.wait(&self.upstream.health).mul_f64(0.9 + fastrand::f64() * 0.2);
        match mark.breaker.due() {
            None => wait,
            // A probe tries as soon as a call might.
            Some(due) => wait.min(due.saturating_duration_since(Instant::now()).max(LEAST)),
        }
    }

    /// Waits until something asks for a probe of an endpoint now.
    pub(in crate::upstream) async fn poked(&self, at: usize) {
        self.endpoints[at].poke.notified().await;
    }

    /// Asks for probes of those that probes found well: traffic did not.
    pub(in crate::upstream) fn doubt(&self) {
        let marks = self.marks();
        for (endpoint, mark) in self.endpoints.iter().zip(&marks.each) {
            if mark.health.is_well() {
                endpoint.poke.notify_one();
            }
        }
    }

    /// Takes back who was left out long enough, and gives up on tries that take too long.
    pub(in crate::upstream) fn tick(&self) {
        self.take_back();
        if self.is_troubled.load(Relaxed) {
            self.lapse(&mut self.marks());
        }
    }

    /// Its configuration ends: what it hears from now on is nobody's business.
    pub(in crate::upstream) fn end(&self) {
        if !self.is_over.swap(true, Relaxed) {
            for endpoint in &self.endpoints {
                endpoint.watched.breaker(o1_proto::model::BreakerState::Closed);
                endpoint.watched.judged(o1_proto::model::Verdict::Unknown);
            }
        }
    }

    /// Whether another endpoint may work, for all that is known.
    fn others_work(&self, at: usize) -> bool {
        let marks = self.marks();
        marks.each.iter().enumerate().any(|(other, mark)| other != at && !mark.health.is_ill())
    }
}
