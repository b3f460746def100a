//! The decisions for the whole fleet.

use super::{
    Answer, Kept, Maintenance, Moment, NodeKey, Presence, Record,
    nodes::{Nodes, Said},
    tally::Seen,
    upstream::{Edge, Policy, Upstream, follows, id},
};
use o1_proto::model::{
    DecisionReason, DecisionState, Directive, Event, EventKind, FailoverState, Fleet, Store, StoreHealth,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Something was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// On which upstream.
    pub upstream: String,
    /// Its term; of a shadow: the one that it would have had.
    pub term: u64,
    /// The store that should serve.
    pub target: Store,
    /// 16 hexadecimal digits.
    pub id: String,
    /// Why.
    pub reason: DecisionReason,
    /// What was seen, in words.
    pub because: String,
    /// When.
    pub at: Moment,
    /// Nobody is told.
    pub shadow: bool,
}

impl Decision {
    /// As the log of events has it.
    #[must_use]
    pub fn event(&self) -> Event {
        let shadow = if self.shadow { "shadow, nobody was told: " } else { "" };
        Event {
            at: Some(self.at.wall),
            uptime: self.at.uptime,
            kind: EventKind::Decided,
            upstream: self.upstream.clone(),
            term: self.term,
            decision_id: self.id.clone(),
            reason: format!("{shadow}{}: {}", self.reason.word(), self.because),
            active: Some(self.target),
            ..Event::default()
        }
    }
}

/// What should be kept, and what becomes true once it is.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// For the store.
    pub kept: Kept,
    /// For the log.
    pub decided: Vec<Decision>,
}

impl Change {
    /// Nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Kept { records, maintenance, answers } = &self.kept;
        records.is_empty() && maintenance.is_none() && answers.is_empty() && self.decided.is_empty()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Decisions {
    shadow: bool,
    pub(super) nodes: Nodes,
    pub(super) upstreams: BTreeMap<String, Upstream>,
    /// Configured, and without a backup.
    pub(super) plain: BTreeSet<String>,
    /// Of upstreams that are not configured, or not yet.
    shelf: BTreeMap<String, Record>,
    pub(super) maintenance: Maintenance,
    pub(super) answers: BTreeMap<String, Answer>,
    state: (DecisionState, String),
    unsaved: Change,
    /// What nodes are told; made anew when it changes.
    directives: Arc<[Directive]>,
}

impl Decisions {
    /// Takes up what an earlier process kept, and waits for the nodes that it knew as connected. In `shadow` nothing is
    /// ordered but by hand.
    #[must_use]
    pub fn new(kept: Kept, awaited: Vec<(NodeKey, String)>, shadow: bool, now: Moment) -> Self {
        let mut this = Self {
            shadow,
            nodes: Nodes::awaiting(awaited, now),
            upstreams: BTreeMap::new(),
            plain: BTreeSet::new(),
            shelf: kept.records.into_iter().map(|record| (record.upstream.clone(), record)).collect(),
            maintenance: kept.maintenance.unwrap_or_default(),
            answers: kept.answers.into_iter().map(|one| (one.request_id.clone(), one)).collect(),
            state: (DecisionState::Active, String::new()),
            unsaved: Change::default(),
            directives: Arc::default(),
        };
        this.look(now);
        this
    }

    /// The configuration is this from now on.
    pub fn configure(&mut self, fleet: &Fleet, now: Moment) {
        let (with, plain): (Vec<_>, Vec<_>) = fleet.upstreams.iter().partition(|one| one.backup.is_some());
        self.plain = plain.into_iter().map(|one| one.name.clone()).collect();
        let mut before = std::mem::take(&mut self.upstreams);
        for upstream in with {
            let (name, policy) = (&upstream.name, Policy::of(upstream));
            let one = match before.remove(name) {
                Some(mut known) => {
                    (known.policy, known.dirty) = (policy, true);
                    known
                }
                None => self.take_up(name, policy, now),
            };
            self.upstreams.insert(name.clone(), one);
        }
        for (name, mut gone) in before {
            for (key, said) in std::mem::take(&mut gone.said) {
                if let Some(node) = self.nodes.get_mut(&key) {
                    node.unclaimed.insert(name.clone(), said);
                }
            }
            self.shelf.insert(name, gone.record);
        }
        self.blank_shelf();
        self.publish();
        self.look(now);
    }

    fn take_up(&mut self, name: &str, policy: Policy, now: Moment) -> Upstream {
        let new = || Record { upstream: name.to_owned(), ..Record::default() };
        let mut one = Upstream::new(policy, self.shelf.remove(name).unwrap_or_else(new), now);
        for key in self.nodes.keys() {
            let said = self.nodes.get_mut(&key).and_then(|node| node.unclaimed.remove(name));
            one.said.extend(said.map(|said| (key, said)));
        }
        one
    }

    /// What is not configured keeps its term and nothing else, whenever it comes back.
    fn blank_shelf(&mut self) {
        for (name, record) in &mut self.shelf {
            let blank = Record { upstream: name.clone(), term: record.term, ..Record::default() };
            if *record != blank {
                self.unsaved.kept.records.push(blank.clone());
                *record = blank;
            }
        }
    }

    /// A node opened a stream: what it said on an earlier one of what it sees no longer counts.
    pub fn connected(&mut self, key: NodeKey, label: &str, now: Moment) {
        self.nodes.place(key, label, Presence::Connected, now);
        for upstream in self.upstreams.values_mut() {
            upstream.seen.remove(&key);
            upstream.dirty = true;
        }
    }

    /// Where a node is. True: that is news.
    pub fn place(&mut self, key: NodeKey, label: &str, presence: Presence, now: Moment) -> bool {
        let news = self.nodes.place(key, label, presence, now);
        if news {
            self.touch();
        }
        news
    }

    /// These are all the nodes that are known.
    pub fn keep_only(&mut self, is_known: impl Fn(&NodeKey) -> bool) {
        for key in self.nodes.keys().iter().filter(|key| !is_known(key)) {
            self.nodes.forget(key);
            for upstream in self.upstreams.values_mut() {
                upstream.seen.remove(key);
                upstream.said.remove(key);
                upstream.dirty = true;
            }
        }
    }

    /// A node says what it sees of each upstream: the primary, then the backup. True: some of it is news.
    pub fn observe(
        &mut self,
        key: NodeKey,
        self_suspect: bool,
        seen: Vec<(String, StoreHealth, StoreHealth)>,
        now: Moment,
    ) -> bool {
        let mut news = self.nodes.observed(&key, self_suspect);
        if news {
            self.touch();
        }
        let mut seen: BTreeMap<_, _> =
            seen.into_iter().map(|(name, primary, backup)| (name, (primary, backup))).collect();
        for (name, upstream) in &mut self.upstreams {
            let view = seen.remove(name).map(|(primary, backup)| Seen { at: now.uptime, primary, backup });
            let before = match view {
                Some(seen) => upstream.seen.insert(key, seen),
                None => upstream.seen.remove(&key),
            };
            let shown = |seen: &Seen| {
                let of = |one: &StoreHealth| (one.verdict, one.breaker, one.error.clone());
                (of(&seen.primary), of(&seen.backup))
            };
            let changed = before.as_ref().map(shown) != upstream.seen.get(&key).map(shown);
            // A view that was old and is fresh again counts at once.
            let renewed = before.is_some_and(|seen| now.uptime > seen.at + upstream.policy.fresh);
            upstream.dirty |= changed || renewed;
            news |= changed;
        }
        news
    }

    /// A node says where it stands with each upstream. True: some of it is news.
    pub fn report(&mut self, key: NodeKey, states: Vec<(String, FailoverState)>, now: Moment) -> bool {
        let mut news = false;
        let mut states: BTreeMap<_, _> = states.into_iter().collect();
        for (name, upstream) in &mut self.upstreams {
            let before = match states.remove(name) {
                Some(state) => upstream.said.insert(key, Said { state, at: now.wall }),
                None => upstream.said.remove(&key),
            };
            let after = upstream.said.get(&key).map(|said| &said.state);
            let changed = before.as_ref().map(|said| &said.state) != after;
            upstream.dirty |= changed;
            news |= changed;
        }
        if let Some(node) = self.nodes.get_mut(&key) {
            let said = |(name, state)| (name, Said { state, at: now.wall });
            node.unclaimed = states.into_iter().map(said).collect();
        }
        news
    }

    fn touch(&mut self) {
        self.upstreams.values_mut().for_each(|upstream| upstream.dirty = true);
    }

    /// Time has passed: what follows by itself. True: somebody who watches sees a difference.
    pub fn tick(&mut self, now: Moment) -> (Vec<Decision>, bool) {
        self.nodes.tick(now);
        let mut changed = self.look(now);
        let (mut decided, gate) = (Vec::new(), self.state.0);
        let names: Vec<String> = self.upstreams.keys().cloned().collect();
        for name in names {
            let Some(upstream) = self.upstreams.get_mut(&name) else { continue };
            if upstream.expire(now) {
                self.unsaved.kept.records.push(upstream.record.clone());
                changed = true;
            }
            let stage = upstream.stage(now);
            upstream.count(&self.nodes, now);
            upstream.evaluate(now);
            changed |= stage != upstream.stage(now);
            if !matches!(gate, DecisionState::Active | DecisionState::Shadow) {
                continue;
            }
            if let Some(edge) = upstream.edge(&self.nodes, now) {
                let shadow = gate == DecisionState::Shadow;
                decided.extend(self.decide(&name, &edge, shadow, now));
            }
        }
        changed |= !decided.is_empty();
        (decided, changed)
    }

    pub(super) fn decide(&mut self, name: &str, edge: &Edge, shadow: bool, now: Moment) -> Option<Decision> {
        let upstream = self.upstreams.get_mut(name)?;
        let term = upstream.next_term();
        upstream.decide(edge, shadow, now);
        let decision = Decision {
            upstream: name.to_owned(),
            term,
            target: edge.target,
            id: id(name, term, now.wall),
            reason: edge.reason,
            because: edge.because.clone(),
            at: now,
            shadow,
        };
        if !shadow {
            self.unsaved.kept.records.push(upstream.record.clone());
        }
        self.unsaved.decided.push(decision.clone());
        Some(decision)
    }

    /// What should be kept since this was asked last. A directive goes out once its record is kept, not before.
    pub fn take_change(&mut self) -> Change {
        std::mem::take(&mut self.unsaved)
    }

    pub(super) fn unsaved(&mut self) -> &mut Kept {
        &mut self.unsaved.kept
    }

    /// This is on disk. True: nodes are to be told.
    pub fn kept(&mut self, records: &[Record], now: Moment) -> bool {
        let mut news = false;
        for record in records {
            let Some(upstream) = self.upstreams.get_mut(&record.upstream) else { continue };
            // One of an upstream that has left and come back since says nothing any more.
            let stands = upstream.record.target.is_some() && record.term <= upstream.record.term;
            // The same term with other words is news, too: a pin that begins or ends.
            let differs = |known: &Directive| {
                known.term < record.term
                    || (known.term == record.term && record.directive().as_ref() != Some(known))
            };
            let newer = stands && upstream.durable.as_ref().is_none_or(differs);
            if let Some(directive) = record.directive().filter(|_| newer) {
                upstream.durable = Some(directive);
                upstream.dirty = true;
                upstream.count(&self.nodes, now);
                news = true;
            }
        }
        if news {
            self.publish();
        }
        news
    }

    fn publish(&mut self) {
        self.directives = self.upstreams.values().filter_map(|upstream| upstream.durable.clone()).collect();
    }

    /// What nodes are told, by upstream.
    #[must_use]
    pub fn directives(&self) -> Arc<[Directive]> {
        self.directives.clone()
    }

    /// A node was sent its directives.
    pub fn sent(&mut self, key: &NodeKey, now: Moment) {
        self.nodes.sent(key, now);
    }

    /// Connected nodes that do not do what they were told a while ago.
    #[must_use]
    pub fn due(&self, now: Moment) -> Vec<NodeKey> {
        let lagging = self.upstreams.values().flat_map(|upstream| &upstream.places.lagging);
        let lagging: BTreeSet<NodeKey> = lagging.copied().collect();
        lagging.into_iter().filter(|key| self.nodes.is_due(key, now)).collect()
    }

    /// Whether decisions are made at present.
    #[must_use]
    pub fn state(&self) -> DecisionState {
        self.state.0
    }

    /// Why not; empty: they are.
    #[must_use]
    pub fn because(&self) -> &str {
        &self.state.1
    }

    /// Whether an operator said that nothing shall happen by itself.
    #[must_use]
    pub fn maintenance(&self) -> &Maintenance {
        &self.maintenance
    }

    /// Looks at whether decisions may be made. True: that has changed.
    pub(super) fn look(&mut self, now: Moment) -> bool {
        if self.maintenance.on && self.maintenance.until.is_some_and(|until| now.wall >= until) {
            self.maintenance = Maintenance::default();
            self.unsaved.kept.maintenance = Some(Maintenance::default());
        }
        let warming = self.nodes.warming().filter(|_| !self.upstreams.is_empty());
        let state = if self.maintenance.on {
            (DecisionState::Maintenance, self.maintenance.reason.clone())
        } else if let Some(because) = warming {
            (DecisionState::WarmingUp, because)
        } else if let Some(because) = self.nodes.frozen(now) {
            (DecisionState::Frozen, because)
        } else if self.shadow {
            (DecisionState::Shadow, "it was started with --shadow: it decides and tells nobody".to_owned())
        } else {
            (DecisionState::Active, String::new())
        };
        let changed = self.state != state;
        self.state = state;
        changed
    }

    /// Whether a node does everything that it was told.
    #[must_use]
    pub fn follows(&self, key: &NodeKey) -> bool {
        self.upstreams.values().all(|upstream| {
            let said = upstream.said.get(key).map(|said| &said.state);
            upstream.durable.as_ref().is_none_or(|told| said.is_some_and(|said| follows(said, told)))
        })
    }
}
