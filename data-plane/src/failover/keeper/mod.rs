//! One upstream's way between its stores: hears orders, acts alone where it may, moves the calls, and writes down
//! each step before it counts.
//!
//! The order of every step is the same: hold calls back, make it durable, move them. Whatever is cut in between
//! begins again from what the log says.

mod cut_over;
mod sync_back;

use super::{
    Record, Shared, Word,
    alone::{self, Sight},
    lock,
    log::failpoint,
    machine::{Commit, Heard, Machine, Step, Target},
};
use crate::{
    plan::{Backup, Plan, Upstream},
    stores::{Barrier, Gate, News, Notice, Standing},
};
use o1_proto::model::{BreakerState, Directive, Event, EventKind, Refusal, Store, Verdict};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// How often it is looked whether time alone is a reason to act.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long to wait before a step that could not be made durable is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(1);
/// How long calls may take to notice that nobody waits for them.
const CUT: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Keeper {
    name: String,
    gate: Arc<Gate>,
    shared: Arc<Shared>,
    machine: Machine,
    /// Reads go to the backup since then, by the breaker.
    diverted: Option<SystemTime>,
    /// Since when the backup has been active, as far as this process knows.
    on_backup: Option<Instant>,
    /// Since when the primary has been healthy without interruption.
    healthy: Option<Instant>,
    /// The breaker of the primary when it was last looked at.
    breaker: BreakerState,
    /// What was last seen of both stores.
    seen: [(Verdict, BreakerState); 2],
    /// Not before: the last attempt failed.
    again: Option<Instant>,
    /// Failures of a sync-back in a row.
    failures: u32,
    /// How often writes were held back in vain.
    lifted: u32,
    /// Writes come in faster than they can be replayed: they wait until what waits is done.
    holds: bool,
    decision: String,
    because: String,
    pinned: bool,
    word: Word,
}

impl Keeper {
    /// As the log has it.
    pub(super) fn recovered(shared: &Arc<Shared>, name: &str) -> Self {
        let machine = shared.machine(name);
        // The moment from which the account counts, so that a failover never turns out shorter than it was said to be.
        // Wall time: a step back makes the failover look shorter, never longer.
        let (since, decision) =
            shared.log.upstream(name, |kept| (kept.stats.current_failover_since, kept.decision_id.clone()));
        let age = since.and_then(|since| since.elapsed().ok()).unwrap_or_default();
        let on_backup = (machine.active == Store::Backup)
            .then(|| Instant::now().checked_sub(age).unwrap_or_else(Instant::now));
        Self {
            name: name.to_owned(),
            gate: shared.context.stores.gate(name),
            shared: shared.clone(),
            machine,
            diverted: None,
            on_backup,
            healthy: None,
            breaker: BreakerState::Closed,
            seen: Default::default(),
            again: None,
            failures: 0,
            lifted: 0,
            holds: false,
            decision,
            because: String::new(),
            pinned: false,
            word: Word::default(),
        }
    }

    /// Follows orders, and acts, for ever.
    pub(super) async fn run(mut self, mut order: watch::Receiver<Option<Directive>>) {
        let mut primary = self.gate.health(Store::Primary).watch();
        let mut backup = self.gate.health(Store::Backup).watch();
        let mut control = self.shared.control.subscribe();
        self.publish();
        loop {
            let given = order.borrow_and_update().clone();
            if let Some(directive) = given {
                self.heed(&directive).await;
            }
            self.look();
            self.act_alone().await;
            let before = self.machine;
            if self.again.is_none_or(|again| Instant::now() >= again) {
                self.again = None;
                match self.machine.step {
                    Step::Resting => {}
                    Step::Draining => self.fail_over().await,
                    Step::Replaying => self.sync_back(&mut order).await,
                    Step::Barrier => self.cut_over().await,
                }
            }
            self.divert();
            self.publish();
            if self.machine != before && self.again.is_none() {
                continue;
            }
            // A keeper lives as long as its senders: none of these ends.
            tokio::select! {
                _ = order.changed() => {}
                _ = primary.changed() => {}
                _ = backup.changed() => {}
                _ = control.changed() => {}
                () = sleep_until(Instant::now() + LOOK_EVERY) => {}
            }
        }
    }

    fn plan(&self) -> Option<(Arc<Plan>, Arc<Upstream>)> {
        self.shared.upstream(&self.name)
    }

    /// Takes an order, if it is news and can be followed.
    async fn heed(&mut self, directive: &Directive) {
        self.pinned = directive.pinned && directive.term >= self.machine.term;
        let heard = self.machine.hear(directive.term, directive.target, directive.accept_dead_letters);
        let target = match heard {
            Heard::Known => return,
            // It was overtaken by what the node did by itself: the report says so, and a newer order will come.
            Heard::Refused(Refusal::StaleTerm) if directive.term == self.machine.term => return,
            Heard::Refused(refusal) => {
                let what = match refusal {
                    Refusal::StaleTerm => "a newer order was accepted already",
                    _ => "this order had another target before",
                };
                return self.refuse(refusal, what);
            }
            Heard::New(target) => target,
        };
        if target.target == Store::Backup && self.machine.active == Store::Primary {
            let usable = self
                .plan()
                .map(|(_, upstream)| (upstream.backup.is_some(), self.shared.is_usable(&upstream)));
            match usable {
                None | Some((false, _)) => {
                    return self.refuse(Refusal::NoBackup, "the configuration here has no backup");
                }
                Some((true, false)) => {
                    return self.refuse(Refusal::BackupUnusable, "there is no snapshot to answer from yet");
                }
                Some((true, true)) => {}
            }
        }
        self.aim(target, &directive.decision_id, &directive.because).await;
    }

    /// Makes a target durable and goes for it.
    async fn aim(&mut self, target: Target, decision: &str, because: &str) {
        let mut next = self.machine;
        let turned_back = next.aim(target);
        let mut batch = vec![Record::Target {
            upstream: self.name.clone(),
            term: target.term,
            local: target.local,
            target: target.target,
            accept_dead_letters: target.accept_dead_letters,
            decision_id: decision.to_owned(),
        }];
        let kind = if turned_back {
            Some(EventKind::FailoverAborted)
        } else {
            (next.step == Step::Draining && self.machine.step != Step::Draining)
                .then_some(EventKind::FailoverStarted)
        };
        if let Some(kind) = kind {
            let mut event = self.event(kind);
            (event.term, event.local_term) = (target.term, target.local);
            (event.decision_id, event.reason) = (decision.to_owned(), because.to_owned());
            event.to = Some(next.phase(false));
            batch.push(Record::Event(event));
        }
        if !matches!(next.step, Step::Replaying | Step::Barrier) {
            batch.extend(self.end_of_run(Some("the order changed")).map(Record::Event));
        }
        failpoint("target_before");
        if let Err(error) = self.shared.log.append(batch).await {
            return self.not_durable(&error.to_string());
        }
        failpoint("target_after");
        tracing::info!(
            upstream = self.name,
            target = target.target.word(),
            term = target.term,
            local_term = target.local,
            because,
            "the active store should be another"
        );
        (self.machine, self.again, self.failures) = (next, None, 0);
        (self.holds, self.lifted) = (false, 0);
        (self.decision, self.because) = (decision.to_owned(), because.to_owned());
        (self.word.refusal, self.word.message) = (None, String::new());
        self.publish();
    }

    /// What the node does without being told.
    async fn act_alone(&mut self) {
        let Some((_, upstream)) = self.plan() else { return };
        if upstream.backup.is_none() {
            // The configuration took the backup away: home, with everything that waits.
            if let Some(target) = self.machine.alone(Store::Primary) {
                self.aim(target, "", "the configuration has no backup any more").await;
            }
            return;
        }
        let link = self.shared.link();
        let act = self.sight(&upstream, |sight| alone::act(&upstream.failover, sight, link));
        if let Some(act) = act
            && let Some(target) = self.machine.alone(act.target)
        {
            self.aim(target, "", act.because).await;
        }
    }

    fn sight<T>(&self, upstream: &Upstream, see: impl FnOnce(&Sight<'_>) -> T) -> T {
        let now = Instant::now();
        let (primary, backup) =
            (self.gate.health(Store::Primary).now(), self.gate.health(Store::Backup).now());
        see(&Sight {
            machine: self.machine,
            primary: &primary,
            backup: &backup,
            backup_usable: self.shared.is_usable(upstream),
            backup_is_own: matches!(upstream.backup, Some(Backup::Snapshot)),
            healthy_for: self.healthy.map(|since| now.saturating_duration_since(since)),
            held_for: self.on_backup.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
            pinned: self.pinned,
        })
    }

    /// Notes what changed about the primary.
    fn look(&mut self) {
        let (verdict, breaker) = self.gate.health(Store::Primary).words();
        let is_well = verdict == Verdict::Healthy && breaker == BreakerState::Closed;
        let seen = [(verdict, breaker), self.gate.health(Store::Backup).words()];
        if std::mem::replace(&mut self.seen, seen) != seen {
            // Whoever decides should hear of it now.
            self.shared.bump();
        }
        self.healthy = is_well.then(|| self.healthy.unwrap_or_else(Instant::now));
        if std::mem::replace(&mut self.breaker, breaker) != breaker {
            let error = self.gate.health(Store::Primary).now().error;
            let event = self.event(EventKind::BreakerChanged);
            self.shared.note(Event { breaker: Some(breaker), reason: error, ..event });
        }
    }

    /// Reads go to the backup while the breaker of the active primary is open.
    fn divert(&mut self) {
        let Some((_, upstream)) = self.plan() else { return };
        let diverts = self.sight(&upstream, |sight| alone::diverts(&upstream.failover, sight));
        if diverts == self.diverted.is_some() {
            return;
        }
        self.diverted = diverts.then(SystemTime::now);
        if self.machine.active == Store::Backup {
            return; // The backup took over for good: nothing ends.
        }
        let kind = if diverts { EventKind::ProvisionalStarted } else { EventKind::ProvisionalEnded };
        let error = self.gate.health(Store::Primary).now().error;
        let because = if diverts {
            format!("the circuit breaker of the primary is open: {error}")
        } else {
            String::new()
        };
        let event = self.event(kind);
        self.shared.note(Event { reason: because.clone(), to: Some(self.machine.phase(diverts)), ..event });
        tracing::warn!(
            upstream = self.name,
            diverted = diverts,
            error,
            "reads change over, by the circuit breaker"
        );
        self.publish();
        let news = if diverts {
            News::FailedOver { active: Store::Primary }
        } else {
            News::Restored { after: Duration::ZERO, synced_back: 0 }
        };
        self.tell(news, because);
    }

    /// F2 to F4: no call is let in, those at the primary end or are cut, then the backup serves.
    async fn fail_over(&mut self) {
        let Some((_, upstream)) = self.plan() else { return };
        self.publish();
        failpoint("draining");
        let deadline = Instant::now() + upstream.failover.drain;
        if !self.gate.drained(Store::Primary, deadline).await {
            tracing::warn!(
                upstream = self.name,
                "calls at the primary did not end in time: their outcome is unknown"
            );
            self.gate.cut(Store::Primary);
            self.gate.drained(Store::Primary, Instant::now() + CUT).await;
        }
        let Some(commit) = self.machine.drained() else { return };
        let began = Instant::now();
        let mut event = self.event(EventKind::FailoverCommitted);
        event.to = Some(o1_proto::model::Phase::Backup);
        (event.decision_id, event.reason) = (self.decision.clone(), self.because.clone());
        event.active = Some(Store::Backup);
        event.entries = self.shared.journal(&self.name).pending;
        if !self.commit(commit, vec![event]).await {
            return;
        }
        (self.on_backup, self.diverted) = (Some(began), None);
        self.publish();
        // Streams and stragglers of the primary go with it.
        self.gate.cut(Store::Primary);
        tracing::warn!(
            upstream = self.name,
            term = commit.term,
            because = self.because,
            "failed over to the backup"
        );
        self.tell(News::FailedOver { active: Store::Backup }, self.because.clone());
    }

    /// Makes a commit durable, with what happened by it. False: it is not, and everything stays where it is.
    async fn commit(&mut self, commit: Commit, events: Vec<Event>) -> bool {
        let Commit { store, term, local } = commit;
        let active = Record::Active { upstream: self.name.clone(), store, term, local };
        let batch = std::iter::once(active).chain(events.into_iter().map(Record::Event)).collect();
        failpoint("commit_before");
        if let Err(error) = self.shared.log.append(batch).await {
            self.not_durable(&error.to_string());
            return false;
        }
        failpoint("commit_after");
        self.machine.committed(commit);
        true
    }

    fn not_durable(&mut self, error: &str) {
        self.again = Some(Instant::now() + AGAIN);
        self.refuse(Refusal::NotDurable, &format!("the step could not be made durable: {error}"));
    }

    fn refuse(&mut self, refusal: Refusal, what: &str) {
        if self.word.refusal != Some(refusal) || self.word.message != what {
            tracing::warn!(upstream = self.name, why = what, "an order is not followed");
            (self.word.refusal, self.word.message) = (Some(refusal), what.to_owned());
        }
    }

    fn event(&self, kind: EventKind) -> Event {
        let event = self.shared.event(kind, &self.name);
        Event { from: Some(self.machine.phase(self.diverted.is_some())), ..event }
    }

    fn tell(&self, news: News, because: String) {
        self.shared.context.stores.tell(Notice {
            upstream: self.name.clone(),
            news,
            at: SystemTime::now(),
            because,
        });
    }

    /// Moves the calls to where they belong, and says so.
    pub(super) fn publish(&mut self) {
        let diverted = self.diverted.is_some() && self.machine.active == Store::Primary;
        // While a step waits to be tried again nobody has to wait with it.
        let stuck = self.again.is_some();
        let barrier = match self.machine.step {
            Step::Draining if !stuck => Barrier::Everything,
            Step::Barrier if !stuck => Barrier::Writes,
            Step::Replaying if self.holds && !stuck => Barrier::Writes,
            _ => Barrier::Open,
        };
        let reads = if diverted { Store::Backup } else { self.machine.active };
        let since = match self.machine.active {
            Store::Backup => self.shared.log.upstream(&self.name, |kept| kept.since),
            Store::Primary => self.diverted.filter(|_| diverted),
        };
        let standing = Standing {
            active: self.machine.active,
            reads,
            barrier,
            phase: self.machine.phase(diverted),
            term: self.machine.term,
            local_term: self.machine.local,
            since,
        };
        self.word.phase = standing.phase;
        if *self.gate.standing() != standing {
            self.shared.context.metrics.upstream(&self.name).set_serving(reads);
            self.gate.set(standing);
        }
        let news = {
            let mut words = lock(&self.shared.words);
            words.insert(self.name.clone(), self.word.clone()).as_ref() != Some(&self.word)
        };
        if news {
            self.shared.bump();
        }
    }
}
