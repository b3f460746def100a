//! The fleet as the rest of the process sees it: the registry and the ledger behind one lock that is held for
//! moments, and the hands that carry out what the registry decides.

use super::{
    Decided, DecisionLog, Drain, Event, Hello, HelloError, Lost, Message, Node, NodeRecord, NodeState,
    NodeUid, Out, Outbox, Outcome, Parts, Progress, Question, Records, Registry, SealKey, StreamId,
    queries::Queries,
};
use crate::{
    clock::Now,
    config::{Revision, Way},
    health::{Decision, Decisions, Kept, Moment, Presence, Record},
    stats::{Ledger, Report, ReportError},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

/// How exactly leases and answers are timed.
const TICK: Duration = Duration::from_millis(500);

/// See the module. Share it in an `Arc`.
#[derive(Debug)]
pub struct Hub {
    fleet: Mutex<Fleet>,
    began: Instant,
    records: Records,
    decisions: DecisionLog,
    /// Counts what a watcher of the fleet would want to see.
    changes: watch::Sender<u64>,
    generation_floor: watch::Sender<u64>,
    /// The rollout that ended last.
    ended: watch::Sender<Option<Progress>>,
}

#[derive(Debug)]
struct Fleet {
    registry: Registry,
    ledger: Ledger,
    decisions: Decisions,
    outboxes: HashMap<StreamId, Outbox>,
    queries: Queries,
}

/// Why a node cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskError {
    /// No node has this id; the ids that there are.
    NoNode(Vec<String>),
    /// The node is not connected, or no node is.
    NotConnected,
    /// Too many questions are open.
    Busy,
}

/// A node that has as many questions open as may be: its id. It was not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusyNode(pub String);

/// A question that a node was asked. Dropping it ends the answer.
#[derive(Debug)]
pub struct Asked {
    /// The id of the node.
    pub node_id: String,
    id: u64,
    parts: Parts,
    hub: Arc<Hub>,
}

impl Asked {
    /// The next part, encoded; `None`: that was all.
    ///
    /// # Errors
    /// The rest will not come.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Lost> {
        self.parts.next().await
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut fleet = self.hub.lock();
        if let Some(stream) = fleet.queries.cancel(self.id) {
            fleet.send(stream, Out::Query { id: self.id, question: Question::Cancel });
        }
    }
}

impl Fleet {
    fn send(&self, stream: StreamId, out: Out) {
        if let Some(outbox) = self.outboxes.get(&stream) {
            outbox.put(out);
        }
    }

    /// Takes what a node says of its upstreams out of a message. True: it is news to those who watch.
    fn listen(&mut self, stream: StreamId, message: &mut Message, now: Moment) -> bool {
        let Some(uid) = self.registry.uid(stream) else { return false };
        let key = *uid.as_bytes();
        match message {
            Message::Failover(states) => self.decisions.report(key, std::mem::take(states), now),
            Message::Observations { self_suspect, seen } => {
                self.decisions.observe(key, *self_suspect, std::mem::take(seen), now)
            }
            _ => false,
        }
    }

    /// The decisions hear where a node is.
    fn place(&mut self, uid: NodeUid, now: Now, moment: Moment) -> bool {
        let Some(node) = self.registry.node(uid) else { return false };
        let presence = match (node.state(now.instant), &node.session) {
            (NodeState::Left, _) => Presence::Left,
            (_, None) => Presence::Away,
            // One that was ordered to drain serves on, and sees what it sees.
            (NodeState::Draining, _) if !node.drains_by_order() => Presence::Draining,
            _ => Presence::Connected,
        };
        self.decisions.place(*uid.as_bytes(), &node.identity.node_id, presence, moment)
    }

    /// What tells a node which stores should serve, if anything was ever decided. It goes behind whatever else the
    /// node is sent: no word comes before the welcome.
    fn direct(&mut self, uid: NodeUid, sends: &mut Vec<(StreamId, Out)>, now: Moment) {
        let directives = self.decisions.directives();
        let session = self.registry.node(uid).and_then(|node| node.session.as_ref());
        if let Some(stream) = session.map(|session| session.id)
            && !directives.is_empty()
        {
            sends.push((stream, Out::Directives(directives)));
            self.decisions.sent(uid.as_bytes(), now);
        }
    }
}

impl Hub {
    /// A fleet of the nodes that an earlier process knew.
    #[must_use]
    pub fn new(known: Vec<NodeRecord>, now: Now) -> Self {
        Self::deciding(known, Kept::default(), false, now)
    }

    /// The same, with what was decided about failovers; in `shadow` nothing more is ordered but by hand.
    #[must_use]
    pub fn deciding(known: Vec<NodeRecord>, kept: Kept, shadow: bool, now: Now) -> Self {
        let there = known.iter().filter(|record| !record.away);
        let awaited =
            there.map(|record| (*record.identity.uid.as_bytes(), record.identity.node_id.clone())).collect();
        let start = Moment { uptime: Duration::ZERO, wall: now.wall };
        let fleet = Fleet {
            registry: Registry::remembering(known, now.instant),
            ledger: Ledger::default(),
            decisions: Decisions::new(kept, awaited, shadow, start),
            outboxes: HashMap::new(),
            queries: Queries::default(),
        };
        Self {
            fleet: Mutex::new(fleet),
            began: now.instant,
            records: Records::default(),
            decisions: DecisionLog::default(),
            changes: watch::Sender::new(0),
            generation_floor: watch::Sender::new(0),
            ended: watch::Sender::new(None),
        }
    }

    /// A stream opens; what it is sent goes to `outbox`.
    ///
    /// # Errors
    /// Why the node was not welcomed; the stream is not part of the fleet.
    pub fn hello(&self, hello: Hello, outbox: &Outbox, now: Now) -> Result<StreamId, HelloError> {
        let (mut fleet, moment) = (self.lock(), self.moment(now));
        let (uid, label) = (hello.identity.uid, hello.identity.node_id.clone());
        let (mut outcome, opened) = fleet.registry.hello(hello, now);
        if let Ok(stream) = opened {
            fleet.outboxes.insert(stream, outbox.clone());
            fleet.decisions.connected(*uid.as_bytes(), &label, moment);
            fleet.direct(uid, &mut outcome.sends, moment);
        }
        self.carry_out(fleet, outcome);
        opened
    }

    /// A message arrives.
    pub fn message(&self, stream: StreamId, mut message: Message, now: Now) {
        let (mut fleet, moment) = (self.lock(), self.moment(now));
        let uid = fleet.registry.uid(stream);
        let news = fleet.listen(stream, &mut message, moment);
        let applied = matches!(message, Message::Ack { .. });
        let mut outcome = fleet.registry.message(stream, message, now);
        outcome.changed |= news;
        if let Some(uid) = uid {
            outcome.changed |= fleet.place(uid, now, moment);
            if applied {
                fleet.direct(uid, &mut outcome.sends, moment);
            }
        }
        self.carry_out(fleet, outcome);
    }

    /// A stream is over, however it ended.
    pub fn closed(&self, stream: StreamId) {
        let now = Now::read();
        let mut fleet = self.lock();
        fleet.outboxes.remove(&stream);
        fleet.queries.closed(stream);
        let uid = fleet.registry.uid(stream);
        let outcome = fleet.registry.closed(stream);
        if let Some(uid) = uid {
            fleet.place(uid, now, self.moment(now));
        }
        self.carry_out(fleet, outcome);
    }

    /// Nodes should run this from now on, in this way.
    pub fn set_target(&self, target: Option<Arc<Revision>>, way: Way, now: Now) {
        let mut fleet = self.lock();
        let outcome = match (target, way) {
            (Some(target), Way::AtOnce) => fleet.registry.roll_out(target, None, now),
            (Some(target), Way::Waves(base)) => fleet.registry.roll_out(target, Some(base), now),
            (target, _) => fleet.registry.set_target(target, now),
        };
        self.serve(&mut fleet, now);
        self.carry_out(fleet, outcome);
    }

    /// The ledger and the decisions hear which upstreams some node may serve.
    fn serve(&self, fleet: &mut Fleet, now: Now) {
        let Some(served) = fleet.registry.served() else { return };
        fleet.ledger.keep_only(|name| served.upstreams.iter().any(|upstream| upstream.name == name));
        fleet.decisions.configure(&served, self.moment(now));
        self.decisions.put(fleet.decisions.take_change());
    }

    /// The rollout that ended last, of this process.
    #[must_use]
    pub fn ended(&self) -> watch::Receiver<Option<Progress>> {
        self.ended.subscribe()
    }

    /// Nodes should seal and open tokens with other keys from now on.
    pub fn set_seal_keys(&self, keys: Arc<[SealKey]>) {
        let mut fleet = self.lock();
        let outcome = fleet.registry.set_seal_keys(keys);
        self.carry_out(fleet, outcome);
    }

    /// A node reports its counters. Answers with the number of the newest report that counts.
    ///
    /// # Errors
    /// The node is not known, or has been restarted since.
    pub fn report(&self, uid: NodeUid, report: Report, now: Now) -> Result<u64, ReportError> {
        let mut fleet = self.lock();
        if fleet.registry.node(uid).is_none() {
            return Err(ReportError::UnknownNode);
        }
        let accepted = fleet.ledger.accept(uid, report, now.instant)?;
        drop(fleet);
        self.bump();
        Ok(accepted)
    }

    /// The ids of the nodes that can be asked, sorted, and the streams to ask them on.
    ///
    /// # Errors
    /// `only` names a node that is not known, or not connected; without it, none is connected.
    fn askable(&self, only: Option<&str>, now: Now) -> Result<Vec<(String, StreamId)>, AskError> {
        let fleet = self.lock();
        let (mut found, mut known) = (Vec::new(), Vec::new());
        for node in fleet.registry.nodes(now.instant) {
            let id = &node.identity.node_id;
            let there = matches!(node.state(now.instant), NodeState::Connected | NodeState::Draining);
            known.push(id.clone());
            if let Some(session) = &node.session
                && there
                && only.is_none_or(|only| only == id)
            {
                found.push((id.clone(), session.id));
            }
        }
        known.sort();
        found.sort();
        match only {
            _ if !found.is_empty() => Ok(found),
            Some(only) if !known.iter().any(|id| id == only) => Err(AskError::NoNode(known)),
            _ => Err(AskError::NotConnected),
        }
    }

    /// The ids of the nodes that should be there and cannot be asked, sorted: all of them, or the ones of this id.
    #[must_use]
    pub fn away(&self, only: Option<&str>, now: Now) -> Vec<String> {
        let fleet = self.lock();
        let is_away = |node: &&Node| match node.state(now.instant) {
            NodeState::Unreachable | NodeState::DuplicateIdentity => true,
            NodeState::Connected | NodeState::Draining => node.session.is_none(),
            NodeState::Left => false,
        };
        let nodes = fleet.registry.remembered().filter(is_away).map(|node| &node.identity.node_id);
        let mut ids: Vec<_> = nodes.filter(|id| only.is_none_or(|only| only == *id)).cloned().collect();
        ids.sort();
        ids
    }

    /// Asks every connected node, or the one of this id. That one of them is busy is no reason not to ask the others.
    ///
    /// # Errors
    /// Why nobody can be asked.
    pub fn ask_all(
        self: &Arc<Self>,
        only: Option<&str>,
        question: &[u8],
        now: Now,
    ) -> Result<Vec<Result<Asked, BusyNode>>, AskError> {
        let ask = |(node_id, stream)| self.ask_on(node_id, stream, question);
        Ok(self.askable(only, now)?.into_iter().map(ask).collect())
    }

    /// Asks the connected node whose id comes first of those that are not busy, or the one of this id.
    ///
    /// # Errors
    /// Why nobody can be asked.
    pub fn ask_one(
        self: &Arc<Self>,
        only: Option<&str>,
        question: &[u8],
        now: Now,
    ) -> Result<Asked, AskError> {
        let mut askable = self.askable(only, now)?.into_iter();
        askable.find_map(|(id, stream)| self.ask_on(id, stream, question).ok()).ok_or(AskError::Busy)
    }

    fn ask_on(
        self: &Arc<Self>,
        node_id: String,
        stream: StreamId,
        question: &[u8],
    ) -> Result<Asked, BusyNode> {
        let mut fleet = self.lock();
        let Ok((id, parts)) = fleet.queries.open(stream) else { return Err(BusyNode(node_id)) };
        fleet.send(stream, Out::Query { id, question: Question::Ask(question.to_vec()) });
        drop(fleet);
        Ok(Asked { node_id, id, parts, hub: self.clone() })
    }

    /// A part of an answer arrives, encoded.
    pub fn answer(&self, stream: StreamId, id: u64, part: Vec<u8>, last: bool) {
        let mut fleet = self.lock();
        if fleet.queries.part(stream, id, part, last) {
            fleet.send(stream, Out::Query { id, question: Question::Cancel });
        }
    }

    /// The order about the nodes of this id is this from now on, and is on disk: they hear of it.
    pub fn set_drain(&self, node_id: &str, drain: Option<Drain>) {
        let mut fleet = self.lock();
        let outcome = fleet.registry.set_drain(node_id, drain);
        self.carry_out(fleet, outcome);
    }

    /// The ids of all nodes that are known, sorted.
    #[must_use]
    pub fn node_ids(&self) -> Vec<String> {
        let fleet = self.lock();
        let mut ids: Vec<_> = fleet.registry.remembered().map(|node| node.identity.node_id.clone()).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Streams of nodes, and questions to nodes, that are open.
    #[must_use]
    pub fn open(&self) -> (usize, usize) {
        let fleet = self.lock();
        (fleet.outboxes.len(), fleet.queries.open_now())
    }

    /// Looks at the fleet. Holds the lock meanwhile: look, do not linger.
    pub fn look<T>(&self, look: impl FnOnce(&Registry, &Ledger) -> T) -> T {
        let fleet = self.lock();
        look(&fleet.registry, &fleet.ledger)
    }

    /// Looks at the fleet and at what is decided about failovers, under the same rule.
    pub fn look_at_all<T>(
        &self,
        now: Now,
        look: impl FnOnce(&Registry, &Ledger, &Decisions, Moment) -> T,
    ) -> T {
        let fleet = self.lock();
        look(&fleet.registry, &fleet.ledger, &fleet.decisions, self.moment(now))
    }

    /// Somebody orders something about failovers. It is true once [`DecisionLog::settled`] returns.
    pub fn order<T>(&self, now: Now, order: impl FnOnce(&mut Decisions, Moment) -> T) -> T {
        let mut fleet = self.lock();
        let answer = order(&mut fleet.decisions, self.moment(now));
        let state = fleet.decisions.state();
        fleet.registry.set_decisions(state);
        self.decisions.put(fleet.decisions.take_change());
        drop(fleet);
        self.bump();
        answer
    }

    /// These decisions are on disk: nodes may hear of them.
    pub(super) fn decisions_kept(&self, records: &[Record], now: Now) {
        let (mut fleet, moment) = (self.lock(), self.moment(now));
        let mut outcome = Outcome { changed: true, ..Outcome::default() };
        if fleet.decisions.kept(records, moment) {
            let uids: Vec<NodeUid> = fleet.registry.remembered().map(|node| node.identity.uid).collect();
            for uid in uids {
                fleet.direct(uid, &mut outcome.sends, moment);
            }
        }
        self.carry_out(fleet, outcome);
    }

    /// What was decided about failovers and waits for the store.
    #[must_use]
    pub fn decision_log(&self) -> &DecisionLog {
        &self.decisions
    }

    /// What was decided about failovers and waits for its place in the log of events.
    #[must_use]
    pub fn decided(&self) -> &Decided {
        self.decisions.decided()
    }

    fn moment(&self, now: Now) -> Moment {
        Moment { uptime: now.instant.saturating_duration_since(self.began), wall: now.wall }
    }

    /// Counts changes that a watcher of the fleet would want to see.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Something else changed that a watcher would want to see.
    pub fn bump(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// The least generation of the next revision.
    #[must_use]
    pub fn generation_floor(&self) -> watch::Receiver<u64> {
        self.generation_floor.subscribe()
    }

    /// What waits for the store.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Lets time pass in the registry until the process stops, and says goodbye to every node then.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => break,
            }
            self.tick(Now::read());
        }
        let mut fleet = self.lock();
        let outcome = fleet.registry.stop();
        self.carry_out(fleet, outcome);
    }

    pub(super) fn tick(&self, now: Now) {
        let (mut fleet, moment) = (self.lock(), self.moment(now));
        let mut outcome = fleet.registry.tick(now);
        let uids: Vec<NodeUid> = fleet.registry.remembered().map(|node| node.identity.uid).collect();
        for uid in uids {
            outcome.changed |= fleet.place(uid, now, moment);
        }
        let Fleet { registry, decisions, .. } = &mut *fleet;
        decisions.keep_only(|key| registry.node(NodeUid::from_bytes(*key)).is_some());
        let (decided, changed) = decisions.tick(moment);
        outcome.changed |= changed;
        registry.set_decisions(decisions.state());
        self.decisions.put(decisions.take_change());
        for key in decisions.due(moment) {
            fleet.direct(NodeUid::from_bytes(key), &mut outcome.sends, moment);
        }
        self.carry_out(fleet, outcome);
        decided.iter().for_each(log);
    }

    fn carry_out(&self, mut fleet: MutexGuard<'_, Fleet>, mut outcome: Outcome) {
        if let Some(ended) = outcome.ended.take() {
            // What only the configuration before had is no longer served, unless it comes back.
            self.serve(&mut fleet, Now::read());
            self.ended.send_replace(Some(ended));
        }
        for (stream, out) in outcome.sends {
            fleet.send(stream, out);
        }
        for (uid, record) in &outcome.records {
            if record.is_none() && fleet.registry.node(*uid).is_none() {
                fleet.ledger.forget(*uid);
            }
        }
        // Still under the lock: the newest record of a node must come last.
        self.records.put(outcome.records);
        let floor = fleet.registry.generation_floor();
        drop(fleet);
        self.generation_floor.send_if_modified(|known| std::mem::replace(known, floor) != floor);
        outcome.events.iter().for_each(Event::log);
        if outcome.changed {
            self.bump();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes one line into the log.
fn log(decision: &Decision) {
    let Decision { upstream, term, target, id, reason, because, shadow, .. } = decision;
    let (target, reason) = (target.word(), reason.word());
    if *shadow {
        tracing::warn!(
            upstream,
            term,
            target,
            reason,
            because,
            "would have been ordered, but this is a shadow"
        );
    } else {
        tracing::warn!(upstream, term, target, reason, because, decision_id = id, "a store was ordered");
    }
}
