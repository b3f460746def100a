//! Which store of an upstream serves: what the control plane orders, what the node does by itself, and what the disk
//! says of both.
//!
//! [`machine`] is what may happen next, [`alone`] what a node does unasked, both pure; [`log`] is the truth on disk;
//! a `keeper` for each upstream that has a backup drives them and moves the calls at the upstream's gate
//! ([`crate::stores`]); `replay` sends what was written meanwhile to the primary.
//!
//! It must never see a call: the data path asks the gate, and hands over what is to be kept.

pub mod alone;
mod events;
mod keeper;
pub mod log;
pub mod machine;
mod replay;
mod shared_entries;

use crate::{
    call::Primary,
    context::Context,
    failure::{Failure, Kind},
    plan::{Backup, Plan, Upstream},
    stores::{Journal, Kept},
};
use alone::Link;
use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use keeper::Keeper;
use log::{Entry, Identity, Log, Record, Waiting};
use machine::Machine;
use o1_process::OnExit;
use o1_proto::model::{
    DecisionState, Directive, EventKind, FailoverState, Phase, Refusal, Store, StoreHealth, Verdict,
};
use replay::Replay;
use shared_entries::SharedEntries;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// The failover path of a node.
pub struct Failover {
    shared: Arc<Shared>,
    orders: Mutex<BTreeMap<String, watch::Sender<Option<Directive>>>>,
}

/// What keepers share.
struct Shared {
    context: Context,
    log: Arc<Log>,
    replay: Arc<dyn Replay>,
    control: watch::Sender<Control>,
    /// What each keeper says of itself.
    words: Mutex<BTreeMap<String, Word>>,
    /// Counts changes of what [`Failover::report`] says.
    changed: watch::Sender<u64>,
    /// The next place in each journal.
    places: Mutex<HashMap<String, u64>>,
    /// Entries that more than one call stands behind.
    shared_entries: Mutex<HashMap<String, SharedEntries>>,
    /// Tells this life of this node from all others: the first half of idempotency keys.
    life: String,
    began: Instant,
}

/// What is known of the control plane.
#[derive(Debug, Clone, Copy)]
struct Control {
    configured: bool,
    connected: bool,
    decisions: DecisionState,
    /// Since when nobody decides.
    since: Option<Instant>,
}

impl Control {
    fn link(self, now: Instant) -> Link {
        Link {
            configured: self.configured,
            connected: self.connected,
            decisions: self.decisions,
            undecided: self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
        }
    }

    /// Whether somebody is there who decides.
    fn decides(self) -> bool {
        self.connected && matches!(self.decisions, DecisionState::Active | DecisionState::Maintenance)
    }
}

/// What a keeper says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Word {
    phase: Phase,
    refusal: Option<Refusal>,
    message: String,
    /// A failover is about to be over, and was that long.
    lasted: Option<Duration>,
}

impl Failover {
    /// The failover path over what the disk says. Calls go where it says from here on; keepers start with the plans
    /// that name their upstreams. `life` is different in each life of each node; `configured`: there should be a
    /// control plane.
    #[must_use]
    pub fn start<P: Primary>(
        context: &Context,
        log: Arc<Log>,
        primary: Arc<P>,
        life: String,
        configured: bool,
    ) -> Arc<Self> {
        let now = Instant::now();
        let decisions = DecisionState::Active;
        let control = Control { configured, connected: false, decisions, since: Some(now) };
        let shared = Arc::new(Shared {
            context: context.clone(),
            log,
            replay: primary,
            control: watch::Sender::new(control),
            words: Mutex::default(),
            changed: watch::Sender::new(0),
            places: Mutex::default(),
            shared_entries: Mutex::default(),
            life,
            began: now,
        });
        for name in shared.log.upstreams() {
            Keeper::recovered(&shared, &name).publish();
        }
        shared.note(shared.event(EventKind::NodeStarted, ""));
        let this = Arc::new(Self { shared, orders: Mutex::default() });
        context.stores.set_journal(this.clone());
        let (synced, told) = (this.clone(), this.clone());
        context.snapshots.on_sync(move |upstream, outcome| synced.synced(upstream, outcome));
        context.stores.set_told(move |upstream, sessions| told.told(upstream, sessions));
        let following = this.clone().follow();
        context.tasks.spawn("failover", OnExit::Shutdown, following);
        this
    }

    /// One keeper for each upstream of the plan that has something to keep.
    async fn follow(self: Arc<Self>) {
        let context = &self.shared.context;
        let (mut plans, stopping) = (context.current.watch(), context.tasks.stopping());
        let mut kept: HashMap<String, CancellationToken> = HashMap::new();
        for upstream in self.shared.log.upstreams() {
            self.shared.account_for_cut_run(&upstream).await;
        }
        loop {
            let plan = plans.borrow_and_update().clone();
            kept.retain(|name, end| {
                let stays = plan.upstream(name).is_some_and(|one| self.shared.is_kept(one));
                if !stays {
                    end.cancel();
                    lock(&self.shared.words).remove(name);
                }
                stays
            });
            for upstream in plan.upstreams.iter().filter(|one| self.shared.is_kept(one)) {
                if kept.contains_key(&upstream.name) {
                    continue;
                }
                self.shared.account_for_cut_run(&upstream.name).await;
                let end = CancellationToken::new();
                kept.insert(upstream.name.clone(), end.clone());
                let keeper = Keeper::recovered(&self.shared, &upstream.name);
                let run = keeper.run(self.order(&upstream.name).subscribe());
                let name = format!("failover of {}", upstream.name);
                // While calls drain they may still have to turn over; it ends with the process, or with its upstream.
                context.tasks.spawn_last(name, OnExit::Quiet, async move {
                    tokio::select! {
                        biased;
                        () = end.cancelled() => {}
                        () = run => {}
                    }
                });
            }
            context.stores.retain(&plan);
            self.shared.bump();
            tokio::select! {
                changed = plans.changed() => if changed.is_err() { return },
                () = stopping.cancelled() => return,
            }
        }
    }

    fn order(&self, upstream: &str) -> watch::Sender<Option<Directive>> {
        lock(&self.orders).entry(upstream.to_owned()).or_insert_with(|| watch::Sender::new(None)).clone()
    }

    /// The control plane says what should be. Of each upstream only the largest term counts.
    pub fn directed(&self, directives: Vec<Directive>) {
        for directive in directives {
            self.order(&directive.upstream).send_if_modified(|known| {
                let news = known.as_ref().is_none_or(|known| {
                    directive.term > known.term || (directive.term == known.term && directive != *known)
                });
                if news {
                    *known = Some(directive);
                }
                news
            });
        }
        // The answer is the report, also where nothing changes.
        self.shared.bump();
    }

    /// The control plane came, or went.
    pub fn connected(&self, connected: bool) {
        self.shared.control(|control| control.connected = connected);
    }

    /// Whether the control plane decides at present.
    pub fn decisions(&self, decisions: DecisionState) {
        self.shared.control(|control| control.decisions = decisions);
    }

    /// Where the node stands with each upstream that has, or had, a backup.
    #[must_use]
    pub fn report(&self) -> Vec<(String, FailoverState)> {
        let plan = self.shared.context.current.plan();
        let kept = plan.upstreams.iter().filter(|one| self.shared.is_kept(one));
        kept.map(|one| (one.name.clone(), self.shared.state(&one.name))).collect()
    }

    /// Where the node stands with one upstream; `None`: it has nothing to fail over to.
    #[must_use]
    pub fn state(&self, upstream: &str) -> Option<FailoverState> {
        let plan = self.shared.context.current.plan();
        let kept = plan.upstream(upstream).is_some_and(|one| self.shared.is_kept(one));
        kept.then(|| self.shared.state(upstream))
    }

    /// What the node sees of the stores of each upstream that has a backup, and whether its own network is the
    /// likelier fault: most of at least four primaries fail at once.
    #[must_use]
    pub fn observations(&self) -> (bool, Vec<(String, StoreHealth, StoreHealth)>) {
        let plan = self.shared.context.current.plan();
        let health =
            |upstream: &Upstream, store| self.shared.context.stores.gate(&upstream.name).health(store).now();
        let all: Vec<_> = plan.upstreams.iter().map(|one| health(one, Store::Primary)).collect();
        let failing = all.iter().filter(|one| one.verdict == Verdict::Unhealthy).count();
        let observed = plan.upstreams.iter().zip(all.iter()).filter(|(one, _)| one.backup.is_some());
        let observed =
            observed.map(|(one, primary)| (one.name.clone(), primary.clone(), health(one, Store::Backup)));
        (all.len() >= 4 && failing * 2 > all.len(), observed.collect())
    }

    /// Woken when [`Failover::report`] or [`Failover::observations`] may say something else.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// The process was asked to end.
    pub fn stopping(&self) {
        self.shared.note(self.shared.event(EventKind::NodeStopping, ""));
    }

    /// A snapshot was written, or could not be.
    fn synced(&self, upstream: &str, synced: &Result<(Duration, u64), String>) {
        let event = match synced {
            Ok((took, bytes)) => {
                let event = self.shared.event(EventKind::BackupSyncCompleted, upstream);
                o1_proto::model::Event { duration: Some(*took), bytes: *bytes, ..event }
            }
            Err(why) => {
                let event = self.shared.event(EventKind::BackupSyncFailed, upstream);
                o1_proto::model::Event { reason: why.clone(), ..event }
            }
        };
        self.shared.note(event);
        self.shared.bump();
    }

    /// Client sessions were told of a change.
    fn told(&self, upstream: &str, sessions: u64) {
        let event = self.shared.event(EventKind::ClientsNotified, upstream);
        self.shared.note(o1_proto::model::Event { entries: sessions, ..event });
    }
}

impl Shared {
    /// Whether something has to be kept of this upstream: it has a backup, or had one and is not done with it.
    fn is_kept(&self, upstream: &Upstream) -> bool {
        let unsettled = || {
            self.log.upstream(&upstream.name, |kept| kept.active == Store::Backup || !kept.journal.is_empty())
        };
        upstream.backup.is_some() || unsettled()
    }

    fn upstream(&self, name: &str) -> Option<(Arc<Plan>, Arc<Upstream>)> {
        let plan = self.context.current.plan();
        let upstream = plan.upstream(name)?.clone();
        Some((plan, upstream))
    }

    /// Whether the backup could answer at all.
    fn is_usable(&self, upstream: &Upstream) -> bool {
        match &upstream.backup {
            None => false,
            Some(Backup::Endpoints(_)) => true,
            Some(Backup::Snapshot) => self.context.snapshots.is_usable(&upstream.name),
        }
    }

    fn state(&self, name: &str) -> FailoverState {
        let gate = self.context.stores.gate(name);
        let word = lock(&self.words).get(name).cloned().unwrap_or_default();
        let mut state = self.log.upstream(name, |kept| FailoverState {
            active: kept.active,
            phase: word.phase,
            term: kept.term,
            local_term: kept.local,
            journal_pending: kept.journal.len() as u64,
            dead_letters: kept.dead.len() as u64,
            since: kept.since,
            refusal: word.refusal,
            message: word.message,
            backup: gate.health(Store::Backup).now(),
            primary: gate.health(Store::Primary).now(),
            stats: kept.stats.clone(),
        });
        state.stats.primary_circuit_breaker_state = state.primary.breaker;
        if let (Some(lasted), Some(_)) = (word.lasted, state.stats.current_failover_since) {
            // What is about to be written down is so already, for those who add up.
            state.stats.finished_failover_time = state.stats.finished_failover_time.saturating_add(lasted);
            state.stats.current_failover_since = None;
        }
        if let Some(info) = self.context.snapshots.info(name) {
            state.stats.backup_file_size_bytes = info.bytes;
        }
        state
    }

    fn control(&self, change: impl FnOnce(&mut Control)) {
        self.control.send_modify(|control| {
            change(control);
            control.since = match (control.decides(), control.since) {
                (true, _) => None,
                (false, None) => Some(Instant::now()),
                (false, since) => since,
            };
        });
    }

    fn link(&self) -> Link {
        let control = *self.control.borrow();
        control.link(Instant::now())
    }

    fn bump(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn machine(&self, name: &str) -> Machine {
        let kept = self.log.upstream(name, |kept| Machine {
            term: kept.term,
            local: kept.local,
            target: kept.target,
            active: kept.active,
            accept_dead_letters: kept.accept_dead_letters,
            ..Machine::default()
        });
        Machine::recovered(kept)
    }

    fn journal(&self, name: &str) -> machine::Journal {
        self.log.upstream(name, |kept| machine::Journal {
            pending: kept.journal.len() as u64,
            dead: kept.dead.len() as u64,
        })
    }

    /// One more call stands behind the entry that waits for the same write, if one does.
    fn join(&self, upstream: &str, identity: Identity) -> Option<u64> {
        self.standing_behind(upstream, |entries, journal| entries.join(journal.find(identity)?))
    }

    /// One call less stands behind an entry: it was refused. Whether none is left, so that it goes.
    fn leave(&self, upstream: &str, seq: u64) -> bool {
        self.standing_behind(upstream, |entries, _| entries.leave(seq))
    }

    /// Changes who stands behind the entries of an upstream, and forgets those that wait no longer.
    fn standing_behind<T>(
        &self,
        upstream: &str,
        change: impl FnOnce(&mut SharedEntries, &Waiting) -> T,
    ) -> T {
        let mut shared = lock(&self.shared_entries);
        let entries = shared.entry(upstream.to_owned()).or_default();
        self.log.upstream(upstream, |kept| {
            let oldest = kept.journal.iter().next().map_or(u64::MAX, |(seq, _)| seq);
            entries.forget_before(oldest);
            change(entries, &kept.journal)
        })
    }

    /// The next place in a journal.
    fn place(&self, upstream: &str) -> u64 {
        let mut places = lock(&self.places);
        let next = places
            .entry(upstream.to_owned())
            .or_insert_with(|| self.log.upstream(upstream, |kept| kept.next_seq.max(1)));
        let place = *next;
        *next += 1;
        place
    }
}

impl Journal for Failover {
    fn keep<'a>(
        &'a self,
        upstream: &'a str,
        tool: &'a str,
        params: Bytes,
        principal: &'a str,
        key: Option<String>,
    ) -> BoxFuture<'a, Result<Kept, Failure>> {
        let shared = &self.shared;
        let keep = async move {
            if let Some(key) = &key
                && let Some(seq) = shared.join(upstream, Identity::new(key, tool, principal, &params))
            {
                // The client tries the same write again: once is enough.
                return Ok(Kept { seq, key: key.clone() });
            }
            let seq = shared.place(upstream);
            let key = key.unwrap_or_else(|| format!("{}/{upstream}/{seq}", shared.life));
            let entry = Entry {
                key: key.clone(),
                at: SystemTime::now(),
                tool: tool.to_owned(),
                params,
                principal: principal.to_owned(),
            };
            let event = shared.event(EventKind::EntryJournaled, upstream);
            let batch =
                vec![Record::Entry { upstream: upstream.to_owned(), seq, entry }, Record::Event(event)];
            log::failpoint("journal_before");
            shared.log.append(batch).await.map_err(|error| {
                let what = "the write cannot be kept for the primary now";
                Failure::new(Kind::Unreachable, what).because(error.to_string()).unsent()
            })?;
            log::failpoint("journal_after");
            shared.bump();
            Ok(Kept { seq, key })
        };
        keep.boxed()
    }

    fn withdraw(&self, upstream: &str, seq: u64, why: &str) {
        if !self.shared.leave(upstream, seq) {
            return; // Another call was, or may still be, told that it is kept.
        }
        tracing::debug!(upstream, seq, why, "a journaled write was refused and is not replayed");
        let record = Record::Withdrawn { upstream: upstream.to_owned(), seq };
        if !self.shared.log.append_soon(vec![record]) {
            tracing::warn!(upstream, seq, "a refused write could not be withdrawn and will be replayed");
        }
        self.shared.bump();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
