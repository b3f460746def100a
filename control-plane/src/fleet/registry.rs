//! Every node and what to do next about each. Pure: no clock, no lock, no I/O.

use super::{
    ANSWER, Drain, Drains, Event, Goodbye, GoodbyeReason, Identity, MAX_NODES, Node, NodeRecord, NodeState,
    NodeUid, Out, Outcome, Reason, Refusal, Rejection, SealKey, StreamId, Welcome,
    node::{InFlight, Session},
    outcome::What,
    recent::Recent,
    rolling::Rolling,
};
use crate::{
    clock::Now,
    config::{Revision, Version},
};
use o1_proto::model::{DecisionState, FailoverState, StoreHealth};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// The first message of a stream.
#[derive(Debug, Clone)]
pub struct Hello {
    /// Who is there.
    pub identity: Identity,
    /// What it runs.
    pub applied: Option<Version>,
    /// What it refused last.
    pub refused: Option<Refusal>,
}

/// Any other message of a stream.
#[derive(Debug, Clone)]
pub enum Message {
    /// It is there.
    Heartbeat {
        /// Counts heartbeats.
        seq: u64,
        /// What it runs.
        applied: Option<Version>,
        /// Its clock.
        node_time: Option<SystemTime>,
        /// It accepts no new clients.
        draining: bool,
        /// The last order about that which it heard.
        drain_ordered: bool,
    },
    /// It applied an update.
    Ack {
        /// Of the update.
        nonce: u64,
        /// What it runs.
        applied: Option<Version>,
        /// How long that took.
        apply_time: Option<Duration>,
    },
    /// It refused an update.
    Nack {
        /// Of the update.
        nonce: u64,
        /// What it refused; `None`: the update of this nonce.
        rejected: Option<Version>,
        /// What it goes on running.
        running: Option<Version>,
        /// Every reason.
        rejections: Vec<Rejection>,
    },
    /// Where it stands with each upstream that has a backup.
    Failover(Vec<(String, FailoverState)>),
    /// What it sees of the stores of each upstream that has a backup: the primary, then the backup.
    Observations {
        /// Its own network is the likelier fault.
        self_suspect: bool,
        /// By upstream.
        seen: Vec<(String, StoreHealth, StoreHealth)>,
    },
    /// It ends the stream.
    Goodbye {
        /// For good: the process stops.
        shutdown: bool,
        /// For people.
        message: String,
    },
    /// It broke the protocol in this way.
    Violation(String),
}

/// Why a node was not welcomed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelloError {
    /// This process stops.
    Stopping,
    /// [`MAX_NODES`] nodes are there already.
    Full,
    /// It is told to go, and when to come back.
    Goodbye(Goodbye),
}

/// See the module.
#[derive(Debug)]
pub struct Registry {
    /// The most nodes that are known at one time.
    pub(super) capacity: usize,
    pub(super) nodes: BTreeMap<NodeUid, Node>,
    streams: HashMap<StreamId, NodeUid>,
    last_stream: u64,
    /// What nodes should run in the end.
    pub(super) target: Option<Arc<Revision>>,
    /// How it gets there; `None`: it is there.
    pub(super) rolling: Option<Rolling>,
    /// What nodes may run meanwhile.
    pub(super) recent: Recent,
    /// The one that seals first. Empty: there are none yet.
    seal_keys: Arc<[SealKey]>,
    generation: u64,
    /// Whether failovers are decided on; nodes hear of it.
    decisions: DecisionState,
    drains: Drains,
    stopping: bool,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            capacity: MAX_NODES,
            nodes: BTreeMap::new(),
            streams: HashMap::new(),
            last_stream: 0,
            target: None,
            rolling: None,
            recent: Recent::default(),
            seal_keys: Arc::default(),
            generation: 0,
            decisions: DecisionState::default(),
            drains: Drains::new(),
            stopping: false,
        }
    }
}

impl Registry {
    /// A registry that knows the nodes of an earlier process.
    #[must_use]
    pub fn remembering(records: Vec<NodeRecord>, now: Instant) -> Self {
        let nodes = records.into_iter().map(|record| (record.identity.uid, Node::remembered(record, now)));
        Self { nodes: nodes.collect(), ..Self::default() }
    }

    /// Every node of which something can be said, by uid.
    pub fn nodes(&self, now: Instant) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(move |node| !node.is_awaited(now))
    }

    /// Every node that is remembered, also those of which this process can say nothing yet.
    pub fn remembered(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// The node whose stream this is, as long as it is open.
    #[must_use]
    pub fn uid(&self, stream: StreamId) -> Option<NodeUid> {
        self.streams.get(&stream).copied()
    }

    /// Nodes hear with the next heartbeat whether failovers are decided on.
    pub fn set_decisions(&mut self, state: DecisionState) {
        self.decisions = state;
    }

    /// The node of this uid.
    #[must_use]
    pub fn node(&self, uid: NodeUid) -> Option<&Node> {
        self.nodes.get(&uid)
    }

    /// What nodes should run in the end.
    #[must_use]
    pub fn target(&self) -> Option<&Arc<Revision>> {
        self.target.as_ref()
    }

    /// The least generation of the next revision: above everything that nodes run and this store never accepted.
    #[must_use]
    pub fn generation_floor(&self) -> u64 {
        self.generation
    }

    /// A stream opens. An error means that the stream is not part of the registry; the outcome counts all the same.
    pub fn hello(&mut self, hello: Hello, now: Now) -> (Outcome, Result<StreamId, HelloError>) {
        let mut out = Outcome::default();
        let uid = hello.identity.uid;
        if self.stopping {
            return (out, Err(HelloError::Stopping));
        }
        if !self.nodes.contains_key(&uid) && !self.make_room(&mut out, now) {
            return (out, Err(HelloError::Full));
        }
        let namesakes = self.namesakes(&hello.identity);
        let node = self.nodes.entry(uid).or_insert_with(|| Node::new(hello.identity.clone()));
        out.changed = true;
        if node.is_duplicate(now.instant) {
            return (out, Err(HelloError::Goodbye(duplicate())));
        }
        if let Some(old) = node.session.take() {
            self.streams.remove(&old.id);
            let reboot = hello.identity.epoch > node.identity.epoch;
            if !reboot && node.swapped(now.instant) {
                out.event(node, What::Duplicate);
                out.sends.push((old.id, Out::Goodbye(duplicate())));
                return (out, Err(HelloError::Goodbye(duplicate())));
            }
            out.event(node, What::Superseded);
            let message = "a newer stream of this node took over";
            out.goodbye(old.id, GoodbyeReason::Superseded, message, (1, 5));
        }
        self.last_stream += 1;
        let id = StreamId(self.last_stream);
        self.streams.insert(id, uid);
        adopt(node, hello, id, now);
        out.event(node, What::Connected(node.applied.clone()));
        out.events.extend(namesakes.into_iter().map(|other| node_event(node, What::SameNodeId(other))));
        self.outgrow(uid, &mut out);
        self.welcome(uid, id, now, &mut out);
        (out, Ok(id))
    }

    /// If this store never accepted what the node runs, the next revision is to be above it.
    fn outgrow(&mut self, uid: NodeUid, out: &mut Outcome) {
        let target = self.target.as_ref().map(|target| &target.version);
        let Some(node) = self.nodes.get(&uid).filter(|node| node.is_foreign(target)) else { return };
        let applied = node.applied.clone().expect("only what runs can be foreign");
        self.generation = self.generation.max(applied.generation.saturating_add(1));
        out.event(node, What::Foreign(applied));
    }

    /// A node whose stream has begun hears what it should run, and gets it.
    fn welcome(&mut self, uid: NodeUid, id: StreamId, now: Now, out: &mut Outcome) {
        let target = self.target_of(uid).cloned();
        let version = target.as_ref().map(|target| target.version.clone());
        out.sends.push((id, Out::Welcome(Welcome { target: version })));
        if !self.seal_keys.is_empty() {
            out.sends.push((id, Out::SealKeys(self.seal_keys.clone())));
        }
        if let Some(node) = self.nodes.get_mut(&uid) {
            if self.drains.contains_key(&node.identity.node_id) {
                out.sends.push((id, Out::Drain(true)));
            }
            pump(node, target.as_ref(), &self.recent, now, out);
            out.remember(node);
        }
        self.noticed(uid, now, out);
        self.show(uid, now, out);
    }

    /// A message arrives. One of a stream that is over says nothing any more.
    pub fn message(&mut self, stream: StreamId, message: Message, now: Now) -> Outcome {
        let mut out = Outcome::default();
        let decisions = self.decisions;
        let target = self.uid(stream).and_then(|uid| self.target_of(uid)).cloned();
        let Some((uid, node)) = self.on(stream) else { return out };
        let mut other = false;
        node.hear(now);
        match message {
            Message::Heartbeat { seq, applied, node_time, draining, drain_ordered } => {
                (node.draining, node.drain_ordered) = (draining, drain_ordered);
                node.clock_skew = node_time.map(|theirs| skew(theirs, now.wall));
                if node.runs(applied) {
                    out.changed = true;
                    out.remember(node);
                    other = target.as_ref().is_some_and(|target| node.runs_other(&target.version));
                }
                if node.forgot(now.instant) {
                    node.needs_whole();
                    out.event(node, What::Differs);
                }
                let target = target.as_ref().map(|target| target.version.clone());
                out.sends.push((stream, Out::HeartbeatAck { seq, target, at: now.wall, decisions }));
                let id = node.identity.node_id.clone();
                if self.drains.contains_key(&id) != drain_ordered {
                    out.sends.push((stream, Out::Drain(!drain_ordered)));
                }
            }
            Message::Ack { nonce, applied, apply_time } => {
                answered(node, nonce, &mut out);
                node.last_apply_time = apply_time;
                if let Some(version) = applied {
                    node.runs(Some(version.clone()));
                    out.event(node, What::Applied(version, apply_time));
                }
                out.remember(node);
            }
            Message::Nack { nonce, rejected, running, rejections } => {
                let update = answered(node, nonce, &mut out);
                node.runs(running);
                let misfit = rejections.iter().any(|one| one.reason == Reason::BaseMismatch);
                if misfit && update.as_ref().is_some_and(|update| !update.whole) {
                    node.needs_whole();
                    out.event(node, What::Differs);
                } else if let Some(version) =
                    rejected.filter(|_| !misfit || update.is_some()).or(update.map(|update| update.version))
                {
                    out.event(node, What::Refused(version.clone(), rejections.clone()));
                    node.refused = Some(Refusal { version, rejections });
                }
                out.remember(node);
            }
            // The hub has passed them on.
            Message::Failover(_) | Message::Observations { .. } => {}
            Message::Goodbye { shutdown, message } => {
                part(node, shutdown, message, now, &mut out);
                self.streams.remove(&stream);
            }
            Message::Violation(what) => {
                out.goodbye(stream, GoodbyeReason::ProtocolError, &what, (5, 30));
                out.event(node, What::Violation(what));
                node.session = None;
                self.streams.remove(&stream);
            }
        }
        if other {
            self.outgrow(uid, &mut out);
        }
        let Some(node) = self.nodes.get_mut(&uid) else { return out };
        pump(node, target.as_ref(), &self.recent, now, &mut out);
        self.noticed(uid, now, &mut out);
        self.show(uid, now, &mut out);
        out
    }

    /// A stream ended without a goodbye. The node counts as connected until its lease is over.
    pub fn closed(&mut self, stream: StreamId) -> Outcome {
        let mut out = Outcome::default();
        if let Some((_, node)) = self.on(stream) {
            node.session = None;
            out.event(node, What::Disconnected);
            out.changed = true;
            self.streams.remove(&stream);
        }
        out
    }

    /// Every node should run this from now on, and that is nothing new.
    pub fn set_target(&mut self, target: Option<Arc<Revision>>, now: Now) -> Outcome {
        let mut out = Outcome { changed: true, ..Outcome::default() };
        target.iter().for_each(|target| self.recent.note(target));
        (self.target, self.rolling) = (target, None);
        let uids: Vec<NodeUid> = self.nodes.keys().copied().collect();
        for uid in uids {
            if let Some(node) = self.nodes.get_mut(&uid) {
                pump(node, self.target.as_ref(), &self.recent, now, &mut out);
            }
            self.show(uid, now, &mut out);
        }
        out
    }

    /// The order about the nodes of this id is this from now on; `None`: they take new sessions.
    pub fn set_drain(&mut self, node_id: &str, drain: Option<Drain>) -> Outcome {
        let told = Out::Drain(drain.is_some());
        match drain {
            Some(drain) => self.drains.insert(node_id.to_owned(), drain),
            None => self.drains.remove(node_id),
        };
        let those = self.nodes.values().filter(|node| node.identity.node_id == node_id);
        let streams = those.filter_map(|node| Some(node.session.as_ref()?.id));
        Outcome { sends: streams.map(|id| (id, told.clone())).collect(), changed: true, ..Outcome::default() }
    }

    /// The order to drain that stands for the nodes of this id.
    #[must_use]
    pub fn drain(&self, node_id: &str) -> Option<&Drain> {
        self.drains.get(node_id)
    }

    /// Nodes should seal and open tokens with other keys from now on.
    pub fn set_seal_keys(&mut self, keys: Arc<[SealKey]>) -> Outcome {
        self.seal_keys = keys;
        let sends = self.streams.keys().map(|stream| (*stream, Out::SealKeys(self.seal_keys.clone())));
        Outcome { sends: sends.collect(), ..Outcome::default() }
    }

    /// Time has passed: leases end, answers are overdue, nodes are forgotten.
    pub fn tick(&mut self, now: Now) -> Outcome {
        let mut out = Outcome::default();
        let uids: Vec<NodeUid> = self.nodes.keys().copied().collect();
        for uid in uids {
            let Some(node) = self.nodes.get_mut(&uid) else { continue };
            if node.is_awaited(now.instant) {
                continue;
            }
            if node.is_over(now) {
                out.forget(node);
                self.nodes.remove(&uid);
                continue;
            }
            let lapsed = node.state(now.instant) == NodeState::Unreachable;
            let lapsing = lapsed && node.shown.is_none_or(|shown| shown.0 != NodeState::Unreachable);
            let overdue = node.in_flight().is_some_and(|update| now.instant >= update.since + ANSWER);
            if overdue {
                out.event(node, What::Unresponsive);
            }
            if lapsing {
                out.event(node, What::Unreachable);
                node.lapsed = true;
                out.remember(node);
            }
            if (overdue || lapsed)
                && let Some(session) = node.session.take()
            {
                self.streams.remove(&session.id);
                let what = if overdue { "no answer to an update" } else { "no heartbeat" };
                out.goodbye(session.id, GoodbyeReason::Unresponsive, &format!("{what} in time"), (0, 5));
            }
            self.show(uid, now, &mut out);
        }
        self.advance(now, &mut out);
        out
    }

    /// The process stops: says goodbye to every stream and opens no more.
    pub fn stop(&mut self) -> Outcome {
        let mut out = Outcome::default();
        self.stopping = true;
        for (stream, _) in self.streams.drain() {
            out.goodbye(stream, GoodbyeReason::Shutdown, "the control plane stops", (0, 2));
        }
        for node in self.nodes.values_mut().filter(|node| node.left.is_none()) {
            node.session = None;
            out.remember(node);
        }
        out
    }

    fn on(&mut self, stream: StreamId) -> Option<(NodeUid, &mut Node)> {
        let uid = *self.streams.get(&stream)?;
        Some((uid, self.nodes.get_mut(&uid)?))
    }

    /// Other nodes that people call the same.
    fn namesakes(&self, identity: &Identity) -> Vec<NodeUid> {
        let is_namesake = |node: &&Node| {
            node.identity.node_id == identity.node_id
                && node.identity.uid != identity.uid
                && node.left.is_none()
        };
        self.nodes.values().filter(is_namesake).map(|node| node.identity.uid).collect()
    }

    /// Forgets the node that has been gone for longest, if the registry is full. False: all of them are there.
    fn make_room(&mut self, out: &mut Outcome, now: Now) -> bool {
        if self.nodes.len() < self.capacity {
            return true;
        }
        let gone = self
            .nodes
            .values()
            .filter(|node| matches!(node.state(now.instant), NodeState::Left | NodeState::Unreachable));
        let Some(uid) = gone.min_by_key(|node| node.last_heard).map(|node| node.identity.uid) else {
            return false;
        };
        if let Some(node) = self.nodes.remove(&uid) {
            out.forget(&node);
        }
        true
    }

    /// Notes what there is to see of a node, and whether that has changed.
    pub(super) fn show(&mut self, uid: NodeUid, now: Now, out: &mut Outcome) {
        let Some(node) = self.nodes.get(&uid).filter(|node| !node.is_awaited(now.instant)) else { return };
        let shown = Some((node.state(now.instant), self.sync(node, now.instant)));
        out.changed |= node.shown != shown;
        if let Some(node) = self.nodes.get_mut(&uid) {
            node.shown = shown;
        }
    }
}

/// The node is what its hello says.
fn adopt(node: &mut Node, hello: Hello, id: StreamId, now: Now) {
    // A node that was restarted and no longer speaks of a refusal asks for another try.
    let restarted = hello.identity.epoch != node.identity.epoch;
    if hello.refused.is_some() || restarted {
        node.refused = hello.refused;
    }
    node.identity = hello.identity;
    node.runs(hello.applied);
    node.session = Some(Session { id, nonce: 0, in_flight: None, last_sent: None, whole: false });
    (node.draining, node.drain_ordered) = (false, false);
    node.left = None;
    node.connected_at = Some(now.wall);
    node.hear(now);
}

/// The node ends its stream: for good, or for now.
fn part(node: &mut Node, for_good: bool, message: String, now: Now, out: &mut Outcome) {
    node.session = None;
    out.changed = true;
    if for_good {
        node.left = Some(now.instant);
        out.event(node, What::Left(message));
        out.records.push((node.identity.uid, None));
    } else {
        out.event(node, What::Disconnected);
    }
}

/// Sends the target if it is due: one update at a time, the newest one, and of that what differs from what the node runs.
pub(super) fn pump(
    node: &mut Node,
    target: Option<&Arc<Revision>>,
    recent: &Recent,
    now: Now,
    out: &mut Outcome,
) {
    let Some(target) = target.filter(|target| node.wants(&target.version)) else { return };
    let Some(session) = &mut node.session else { return };
    session.nonce += 1;
    session.last_sent = Some((target.version.clone(), now.instant));
    let base =
        node.applied.as_ref().filter(|_| !session.whole).and_then(|applied| recent.of(applied)).cloned();
    let version = target.version.clone();
    session.in_flight = Some(InFlight { version, since: now.instant, whole: base.is_none() });
    out.sends.push((session.id, Out::Config { nonce: session.nonce, revision: target.clone(), base }));
    out.event(node, What::Sent(target.version.clone()));
}

/// An answer to the update of this nonce: what the update was, if it was the one that waits for an answer.
fn answered(node: &mut Node, nonce: u64, out: &mut Outcome) -> Option<InFlight> {
    let session = node.session.as_mut()?;
    if session.nonce == nonce
        && let Some(update) = session.in_flight.take()
    {
        return Some(update);
    }
    out.event(node, What::StrayAnswer(nonce));
    None
}

fn duplicate() -> Goodbye {
    Goodbye {
        reason: GoodbyeReason::DuplicateIdentity,
        message: "two live processes claim this node: give each its own state directory".to_owned(),
        reconnect: (Duration::from_secs(30), Duration::from_secs(60)),
    }
}

fn node_event(node: &Node, what: What) -> Event {
    Event { node: node.identity.clone(), what }
}

/// Nanoseconds by which `theirs` is ahead of `ours`.
fn skew(theirs: SystemTime, ours: SystemTime) -> i64 {
    let nanos = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
    match theirs.duration_since(ours) {
        Ok(ahead) => nanos(ahead),
        Err(behind) => -nanos(behind.duration()),
    }
}

impl Node {
    fn in_flight(&self) -> Option<&InFlight> {
        self.session.as_ref()?.in_flight.as_ref()
    }
}

impl Outcome {
    fn event(&mut self, node: &Node, what: What) {
        self.events.push(node_event(node, what));
    }

    fn goodbye(&mut self, to: StreamId, reason: GoodbyeReason, message: &str, reconnect: (u64, u64)) {
        let reconnect = (Duration::from_secs(reconnect.0), Duration::from_secs(reconnect.1));
        self.sends.push((to, Out::Goodbye(Goodbye { reason, message: message.to_owned(), reconnect })));
    }

    fn remember(&mut self, node: &Node) {
        self.records.push((node.identity.uid, Some(node.record())));
    }

    fn forget(&mut self, node: &Node) {
        self.changed = true;
        self.event(node, What::Forgotten);
        self.records.push((node.identity.uid, None));
    }
}
