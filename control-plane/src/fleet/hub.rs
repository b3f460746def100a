//! The fleet as the rest of the process sees it: the registry and the ledger behind one lock that is held for
//! moments, and the hands that carry out what the registry decides.

use super::{
    Event, Hello, HelloError, Lost, Message, Node, NodeRecord, NodeState, NodeUid, Out, Outbox, Outcome,
    Parts, Question, Records, Registry, SealKey, StreamId, queries::Queries,
};
use crate::{
    clock::Now,
    config::Revision,
    stats::{Ledger, Report, ReportError},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

/// How exactly leases and answers are timed.
const TICK: Duration = Duration::from_millis(500);

/// See the module. Share it in an `Arc`.
#[derive(Debug)]
pub struct Hub {
    fleet: Mutex<Fleet>,
    records: Records,
    /// Counts what a watcher of the fleet would want to see.
    changes: watch::Sender<u64>,
    generation_floor: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Fleet {
    registry: Registry,
    ledger: Ledger,
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
}

impl Hub {
    /// A fleet of the nodes that an earlier process knew.
    #[must_use]
    pub fn new(known: Vec<NodeRecord>, now: Now) -> Self {
        let fleet = Fleet { registry: Registry::remembering(known, now.instant), ..Fleet::default() };
        Self {
            fleet: Mutex::new(fleet),
            records: Records::default(),
            changes: watch::Sender::new(0),
            generation_floor: watch::Sender::new(0),
        }
    }

    /// A stream opens; what it is sent goes to `outbox`.
    ///
    /// # Errors
    /// Why the node was not welcomed; the stream is not part of the fleet.
    pub fn hello(&self, hello: Hello, outbox: &Outbox, now: Now) -> Result<StreamId, HelloError> {
        let mut fleet = self.lock();
        let (outcome, opened) = fleet.registry.hello(hello, now);
        if let Ok(stream) = opened {
            fleet.outboxes.insert(stream, outbox.clone());
        }
        let floor = fleet.registry.generation_floor();
        self.carry_out(fleet, outcome);
        self.generation_floor.send_if_modified(|known| std::mem::replace(known, floor) != floor);
        opened
    }

    /// A message arrives.
    pub fn message(&self, stream: StreamId, message: Message, now: Now) {
        let mut fleet = self.lock();
        let outcome = fleet.registry.message(stream, message, now);
        self.carry_out(fleet, outcome);
    }

    /// A stream is over, however it ended.
    pub fn closed(&self, stream: StreamId) {
        let mut fleet = self.lock();
        fleet.outboxes.remove(&stream);
        fleet.queries.closed(stream);
        let outcome = fleet.registry.closed(stream);
        self.carry_out(fleet, outcome);
    }

    /// Nodes should run something else from now on.
    pub fn set_target(&self, target: Option<Arc<Revision>>, now: Now) {
        let mut fleet = self.lock();
        if let Some(target) = &target {
            fleet
                .ledger
                .keep_only(|name| target.fleet.upstreams.iter().any(|upstream| upstream.name == name));
        }
        let outcome = fleet.registry.set_target(target, now);
        self.carry_out(fleet, outcome);
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

    /// Asks every connected node, or the one of this id.
    ///
    /// # Errors
    /// Why nobody can be asked.
    pub fn ask_all(
        self: &Arc<Self>,
        only: Option<&str>,
        question: &[u8],
        now: Now,
    ) -> Result<Vec<Asked>, AskError> {
        let ask = |(node_id, stream)| self.ask_on(node_id, stream, question);
        self.askable(only, now)?.into_iter().map(ask).collect()
    }

    /// Asks the connected node whose id comes first, or the one of this id.
    ///
    /// # Errors
    /// Why nobody can be asked.
    pub fn ask_one(
        self: &Arc<Self>,
        only: Option<&str>,
        question: &[u8],
        now: Now,
    ) -> Result<Asked, AskError> {
        let (node_id, stream) = self.askable(only, now)?.into_iter().next().ok_or(AskError::NotConnected)?;
        self.ask_on(node_id, stream, question)
    }

    fn ask_on(
        self: &Arc<Self>,
        node_id: String,
        stream: StreamId,
        question: &[u8],
    ) -> Result<Asked, AskError> {
        let mut fleet = self.lock();
        let (id, parts) = fleet.queries.open(stream).map_err(|_| AskError::Busy)?;
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

    /// Looks at the fleet. Holds the lock meanwhile: look, do not linger.
    pub fn look<T>(&self, look: impl FnOnce(&Registry, &Ledger) -> T) -> T {
        let fleet = self.lock();
        look(&fleet.registry, &fleet.ledger)
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
            let mut fleet = self.lock();
            let outcome = fleet.registry.tick(Now::read());
            self.carry_out(fleet, outcome);
        }
        let mut fleet = self.lock();
        let outcome = fleet.registry.stop();
        self.carry_out(fleet, outcome);
    }

    fn carry_out(&self, mut fleet: MutexGuard<'_, Fleet>, outcome: Outcome) {
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
        drop(fleet);
        outcome.events.iter().for_each(Event::log);
        if outcome.changed {
            self.bump();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
