//! One upstream that has a backup: what is decided, what the nodes make of it, and what follows from both.

use super::{
    FAILING_OVER, FLAP_WINDOW, MAX_HOLD, Moment, NodeKey, Record, SUSTAINED, SYNCING_BACK, Stage,
    nodes::{Nodes, Said},
    record::Mode,
    tally::{Seen, Tally},
};
use o1_proto::model::{
    self, BreakerState, DecisionReason, Directive, FailoverState, Phase, Refusal, Store, Verdict,
};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

/// What the configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    pub min_hold: Duration,
    pub stable: Duration,
    /// How old a view may be.
    pub fresh: Duration,
    /// The backup is the nodes' own copy.
    pub snapshot: bool,
    /// What becomes of writes while it serves.
    pub writes: model::Writes,
}

impl Policy {
    pub fn of(upstream: &model::Upstream) -> Self {
        Self {
            min_hold: upstream.failover.min_hold,
            stable: upstream.failover.stable,
            fresh: (upstream.health.every * 3).max(super::FRESH),
            snapshot: matches!(upstream.backup, Some(model::Backup::Snapshot)),
            writes: upstream.failover.writes.clone(),
        }
    }

    /// How long a failover lasts at least that came after so many others within the window.
    fn hold(&self, others: usize) -> Duration {
        let doublings = u32::try_from(others).unwrap_or(u32::MAX).min(16);
        (self.min_hold.saturating_mul(1 << doublings)).min(MAX_HOLD).max(self.min_hold)
    }
}

/// Where the nodes are.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// Connected nodes.
    pub there: usize,
    pub on_primary: u32,
    pub on_backup: u32,
    pub provisional: u32,
    pub lagging: Vec<NodeKey>,
    pub pending: u64,
    pub dead_letters: u64,
    pub breaker: BreakerState,
    /// The largest term that any node ever spoke of.
    pub max_term: u64,
    /// Nodes on the backup whom no directive that there is will bring back.
    pub strays: Vec<NodeKey>,
    /// Nodes that will not follow a directive for the backup that there is.
    pub deaf: Vec<NodeKey>,
}

/// What should be ordered, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edge {
    pub target: Store,
    pub reason: DecisionReason,
    pub because: String,
    /// Dead letters do not stand in the way.
    pub accept: bool,
}

impl Edge {
    pub fn new(target: Store, reason: DecisionReason, because: String) -> Self {
        Self { target, reason, because, accept: false }
    }
}

#[derive(Debug)]
pub(super) struct Upstream {
    pub policy: Policy,
    pub record: Record,
    /// What is on disk and may be sent.
    pub durable: Option<Directive>,
    pub seen: BTreeMap<NodeKey, Seen>,
    pub said: BTreeMap<NodeKey, Said>,
    pub tally: Tally,
    pub places: Places,
    /// Something was said since both were counted.
    pub dirty: bool,
    down: u32,
    pub healthy_since: Option<Moment>,
    /// Nothing is ordered by itself before; with a backup that is broken, not before the second.
    hold: (Duration, Duration),
    /// Until then nodes are on their way.
    settling: Duration,
    stray_since: Option<Duration>,
    /// When a decision was last said once more under a new term.
    repeated: Option<Duration>,
    /// What would be ordered if orders were sent.
    pub ghost: Option<Store>,
}

impl Upstream {
    /// Takes up what an earlier process, or an earlier configuration, left.
    pub fn new(policy: Policy, record: Record, now: Moment) -> Self {
        let durable = record.directive();
        let mut this = Self {
            policy,
            durable,
            seen: BTreeMap::new(),
            said: BTreeMap::new(),
            tally: Tally::default(),
            places: Places::default(),
            dirty: true,
            down: 0,
            healthy_since: None,
            hold: (Duration::ZERO, Duration::ZERO),
            settling: Duration::ZERO,
            stray_since: None,
            repeated: None,
            ghost: None,
            record,
        };
        if let (Some(since), Some(target)) = (this.record.since, this.record.target) {
            let elapsed = now.wall.duration_since(since).unwrap_or_default();
            let others = this.record.failovers.iter().filter(|at| **at < since).count();
            this.begin(target, this.record.reason, others, now);
            let began = |end: Duration| end.saturating_sub(elapsed).max(now.uptime);
            this.hold = (began(this.hold.0), began(this.hold.1));
            this.settling = began(this.settling);
        }
        this
    }

    /// The store that should serve.
    pub fn desired(&self) -> Store {
        self.ghost.or(self.record.target).unwrap_or_default()
    }

    /// Counts what has changed or has become old.
    pub fn count(&mut self, nodes: &Nodes, now: Moment) {
        if self.dirty || self.tally.until.is_some_and(|until| now.uptime > until) {
            self.tally = Tally::of(&self.seen, nodes, self.policy.fresh, now.uptime);
            self.places = self.look(nodes);
            self.dirty = false;
        }
    }

    /// One evaluation: how long a quorum has lasted, and since when the primary is well.
    pub fn evaluate(&mut self, now: Moment) {
        self.down = if self.tally.is_down() { self.down.saturating_add(1) } else { 0 };
        let well = self.desired() == Store::Backup && self.tally.is_up();
        self.healthy_since = well.then(|| self.healthy_since.unwrap_or(now));
        let strays = !self.places.strays.is_empty();
        self.stray_since = strays.then(|| self.stray_since.unwrap_or(now.uptime));
    }

    fn look(&self, nodes: &Nodes) -> Places {
        let mut places = Places { there: nodes.there(), ..Places::default() };
        for (key, _) in nodes.iter().filter(|(_, node)| node.is_there()) {
            let said = self.said.get(key).map(|said| &said.state);
            if self
                .durable
                .as_ref()
                .is_some_and(|directive| !said.is_some_and(|said| follows(said, directive)))
            {
                places.lagging.push(*key);
            }
            let Some(said) = said else { continue };
            match said.active {
                Store::Primary => places.on_primary += 1,
                Store::Backup => places.on_backup += 1,
            }
            let alone = said.active == Store::Backup && said.local_term > 0;
            places.provisional += u32::from(alone || said.phase == Phase::Provisional);
            let breaker = self.seen.get(key).map_or(said.primary.breaker, |seen| seen.primary.breaker);
            places.breaker = places.breaker.max(breaker);
            let beyond = said.term > self.record.term
                || (said.term == self.record.term && said.local_term > 0)
                || said.refusal == Some(Refusal::TermConflict);
            match said.active {
                Store::Backup if beyond || self.record.target.is_none() => places.strays.push(*key),
                Store::Primary if beyond => places.deaf.push(*key),
                _ => {}
            }
        }
        for said in self.said.values() {
            places.pending = places.pending.saturating_add(said.state.journal_pending);
            places.dead_letters = places.dead_letters.saturating_add(said.state.dead_letters);
            places.max_term = places.max_term.max(said.state.term);
        }
        places
    }

    /// Where the decision stands.
    pub fn stage(&self, now: Moment) -> Stage {
        let both_down = self.tally.backup() == Verdict::Unhealthy;
        match self.desired() {
            Store::Primary if self.is_settling(now) => Stage::SyncingBack,
            Store::Primary if both_down && self.tally.is_down() => Stage::Blocked,
            Store::Primary if self.tally.unhealthy > 0 => Stage::Suspect,
            Store::Primary => Stage::Healthy,
            Store::Backup if both_down && self.tally.primary() == Verdict::Unhealthy => Stage::Blocked,
            Store::Backup if self.is_settling(now) => Stage::FailingOver,
            Store::Backup => Stage::FailedOver,
        }
    }

    /// The last order is on its way, and not every connected node has followed it.
    fn is_settling(&self, now: Moment) -> bool {
        let saved = self.durable.as_ref().is_some_and(|directive| directive.term == self.record.term);
        self.record.target.is_some()
            && now.uptime < self.settling
            && (!saved || !self.places.lagging.is_empty())
    }

    /// When the hold ends.
    pub fn hold_until(&self) -> Duration {
        if self.tally.backup() == Verdict::Unhealthy { self.hold.1 } else { self.hold.0 }
    }

    /// What follows by itself. Whoever asks has made sure that something may.
    pub fn edge(&self, nodes: &Nodes, now: Moment) -> Option<Edge> {
        let backup_works = self.tally.backup() != Verdict::Unhealthy;
        match (self.record.mode.pinned(), self.desired()) {
            (Some(Store::Primary), _) => self.bring_back(nodes, true, now),
            (None, Store::Primary) => {
                let held = now.uptime < self.hold.0;
                let over = (!held && backup_works).then(|| self.fail_over(nodes, now)).flatten();
                over.or_else(|| self.bring_back(nodes, false, now))
            }
            (None, Store::Backup) => {
                self.restore(now).or_else(|| backup_works.then(|| self.repeat(nodes, now)).flatten())
            }
            (Some(Store::Backup), _) => backup_works.then(|| self.repeat(nodes, now)).flatten(),
        }
    }

    fn fail_over(&self, nodes: &Nodes, now: Moment) -> Option<Edge> {
        let strays = &self.places.strays;
        let everybody = usize::try_from(self.places.on_backup) == Ok(self.places.there);
        let because = self.tally.words();
        if self.down >= SUSTAINED {
            let reason = match (strays.is_empty(), self.is_settling(now)) {
                (false, _) => DecisionReason::AdoptLocal,
                (true, true) => DecisionReason::Abort,
                (true, false) => DecisionReason::QuorumUnhealthy,
            };
            return Some(Edge::new(Store::Backup, reason, because));
        }
        (!strays.is_empty() && everybody).then(|| {
            let names = names(strays, nodes);
            let because = format!("every connected node is on the backup already: {names}; {because}");
            Edge::new(Store::Backup, DecisionReason::AdoptLocal, because)
        })
    }

    /// Orders nodes back that went to the backup by themselves and that nobody followed.
    fn bring_back(&self, nodes: &Nodes, pinned: bool, now: Moment) -> Option<Edge> {
        let since = self.stray_since?;
        // The others need as long to see what these saw.
        let waited = pinned || now.uptime >= since + self.policy.fresh;
        let well = pinned || (self.tally.is_enough() && self.tally.primary() == Verdict::Healthy);
        if !waited || !well || !self.may_repeat(now) {
            return None;
        }
        let reason = match (pinned, self.record.target) {
            (true, _) => DecisionReason::Manual,
            (false, None) => DecisionReason::Initial,
            (false, Some(_)) => DecisionReason::QuorumRecovered,
        };
        let names = names(&self.places.strays, nodes);
        let because = if pinned {
            format!("pinned to the primary, and on the backup by themselves: {names}")
        } else {
            format!("on the backup by themselves: {names}; {}", self.tally.words())
        };
        Some(Edge::new(Store::Primary, reason, because))
    }

    fn restore(&self, now: Moment) -> Option<Edge> {
        let well = now.uptime.saturating_sub(self.healthy_since?.uptime);
        (well >= self.policy.stable && now.uptime >= self.hold_until()).then(|| {
            let because = format!("healthy for {} s; {}", well.as_secs(), self.tally.words());
            Edge::new(Store::Primary, DecisionReason::QuorumRecovered, because)
        })
    }

    /// Says once more, under a term that they cannot refuse, what nodes turned away from.
    fn repeat(&self, nodes: &Nodes, now: Moment) -> Option<Edge> {
        (!self.places.deaf.is_empty() && self.may_repeat(now)).then(|| {
            let names = names(&self.places.deaf, nodes);
            let because = format!("the failover goes on; these turned away from it: {names}");
            Edge::new(Store::Backup, DecisionReason::AdoptLocal, because)
        })
    }

    fn may_repeat(&self, now: Moment) -> bool {
        self.repeated.is_none_or(|last| now.uptime >= last + self.policy.min_hold)
    }

    /// The term that the next decision gets.
    pub fn next_term(&self) -> u64 {
        self.record.term.max(self.places.max_term).saturating_add(1)
    }

    /// The order is what holds from now on; a shadow of it otherwise.
    pub fn decide(&mut self, edge: &Edge, shadow: bool, now: Moment) {
        let before = self.desired();
        let by_hand = edge.reason == DecisionReason::Manual;
        let anew = before != edge.target;
        if !anew {
            self.repeated = Some(now.uptime);
        }
        if shadow {
            self.ghost = Some(edge.target);
        } else {
            self.ghost = None;
            self.record.term = self.next_term();
            self.record.target = Some(edge.target);
            self.record.reason = edge.reason;
            self.record.because.clone_from(&edge.because);
            self.record.decision_id = id(&self.record.upstream, self.record.term, now.wall);
            self.record.issued_at = Some(now.wall);
            self.record.accept_dead_letters = edge.accept;
        }
        if anew || self.record.since.is_none() {
            let recent = |at: &SystemTime| now.wall.duration_since(*at).unwrap_or_default() < FLAP_WINDOW;
            self.record.failovers.retain(recent);
            let others = self.record.failovers.len();
            self.begin(edge.target, edge.reason, others, now);
            if !shadow {
                self.record.since = Some(now.wall);
                if edge.target == Store::Backup && !by_hand {
                    self.record.failovers.push(now.wall);
                }
            }
        }
        if anew {
            self.healthy_since = None;
            self.down = 0;
        }
        self.dirty = true;
    }

    /// The timers of a decision that is made now.
    fn begin(&mut self, target: Store, reason: DecisionReason, others: usize, now: Moment) {
        let by_hand = reason == DecisionReason::Manual;
        let (hold, least) = match target {
            // Whoever orders by hand means it for a while.
            _ if by_hand => (self.policy.min_hold, self.policy.min_hold),
            Store::Backup => (self.policy.hold(others), self.policy.min_hold),
            Store::Primary => (Duration::ZERO, Duration::ZERO),
        };
        self.hold = (now.uptime + hold, now.uptime + least);
        let settling = if target == Store::Backup { FAILING_OVER } else { SYNCING_BACK };
        self.settling = now.uptime + settling;
    }

    /// The mode ends by itself. True: just now.
    pub fn expire(&mut self, now: Moment) -> bool {
        let over = self.record.mode_until.is_some_and(|until| now.wall >= until);
        if over {
            self.record.mode = Mode::Auto;
            self.record.mode_until = None;
        }
        over
    }
}

/// Whether a node does what it was directed to.
pub(super) fn follows(said: &FailoverState, directive: &Directive) -> bool {
    said.term >= directive.term
        && match directive.target {
            Store::Primary => matches!(said.phase, Phase::Primary | Phase::Provisional),
            Store::Backup => said.phase == Phase::Backup,
        }
}

fn names(keys: &[NodeKey], nodes: &Nodes) -> String {
    let label = |key| nodes.get(key).map_or("?", |node| node.label.as_str());
    let shown: Vec<&str> = keys.iter().take(3).map(label).collect();
    let more = if keys.len() > 3 { format!(" and {} more", keys.len() - 3) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// 16 hexadecimal digits that no other decision is likely to have.
pub(super) fn id(upstream: &str, term: u64, at: SystemTime) -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (upstream, term, at).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
