//! The decisions, told what nodes see, second by second.

mod edges;
mod guards;
mod ordering;
mod random;

use super::*;
use Verdict::{Healthy as Up, Unhealthy as Down, Unknown};
use o1_proto::model::{
    Backup, Directive, Endpoint, EndpointKind, FailoverState, Fleet, Phase, Store, StoreHealth, Upstream,
    Verdict,
};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const NAME: &str = "weather";

/// Decisions, their clock, a store that always works unless it is told otherwise, and nodes that say every 10 s what
/// they see and do what they are told.
struct Scene {
    decisions: Decisions,
    now: Moment,
    nodes: BTreeMap<u8, Puppet>,
    /// What the store has.
    disk: BTreeMap<String, Record>,
    store_works: bool,
    shadow: bool,
    /// Every directive that ever went out.
    sent: Vec<Directive>,
}

#[derive(Clone)]
struct Puppet {
    primary: Verdict,
    backup: Verdict,
    suspect: bool,
    /// It does at once what it is told.
    obeys: bool,
    /// It says what it sees.
    talks: bool,
    state: FailoverState,
}

impl Default for Puppet {
    fn default() -> Self {
        let state = FailoverState::default();
        Self { primary: Up, backup: Up, suspect: false, obeys: true, talks: true, state }
    }
}

fn key(node: u8) -> NodeKey {
    [node; 16]
}

fn fleet(names: &[&str]) -> Fleet {
    let endpoint = Endpoint {
        kind: EndpointKind::Http { url: "http://b/mcp".parse().unwrap(), transport: Default::default() },
        weight: 1,
    };
    let upstream = |name: &&str| Upstream {
        name: (*name).to_owned(),
        backup: (*name != "plain").then(|| Backup::Endpoints(vec![endpoint.clone()])),
        ..Upstream::default()
    };
    Fleet { upstreams: names.iter().map(upstream).collect(), ..Fleet::default() }
}

fn health(verdict: Verdict) -> StoreHealth {
    let error = if verdict == Down { "connection refused".to_owned() } else { String::new() };
    StoreHealth { verdict, error, ..StoreHealth::default() }
}

impl Scene {
    /// So many nodes, all of them well.
    fn of(nodes: u8) -> Self {
        Self::with(nodes, Kept::default(), Vec::new(), false)
    }

    fn with(nodes: u8, kept: Kept, awaited: Vec<u8>, shadow: bool) -> Self {
        let now = Moment { uptime: Duration::ZERO, wall: UNIX_EPOCH + Duration::from_secs(1_000_000) };
        let awaited = awaited.into_iter().map(|node| (key(node), format!("n{node}"))).collect();
        let disk = kept.records.iter().map(|record| (record.upstream.clone(), record.clone())).collect();
        let mut decisions = Decisions::new(kept, awaited, shadow, now);
        decisions.configure(&fleet(&[NAME, "plain"]), now);
        let (nodes_there, sent) = (BTreeMap::new(), Vec::new());
        let mut scene = Self { decisions, now, nodes: nodes_there, disk, store_works: true, shadow, sent };
        for node in 1..=nodes {
            scene.join(node, Puppet::default());
        }
        scene
    }

    /// The process ends without a word and another takes its place, after a while.
    fn restart(&mut self, after: u64, awaited: &[u8]) {
        let kept = Kept { records: self.disk.values().cloned().collect(), ..Kept::default() };
        let wall = self.now.wall + Duration::from_secs(after);
        self.now = Moment { uptime: Duration::ZERO, wall };
        let awaited = awaited.iter().map(|node| (key(*node), format!("n{node}"))).collect();
        self.decisions = Decisions::new(kept, awaited, self.shadow, self.now);
        self.decisions.configure(&fleet(&[NAME, "plain"]), self.now);
    }

    fn join(&mut self, node: u8, puppet: Puppet) {
        self.decisions.connected(key(node), &format!("n{node}"), self.now);
        self.nodes.insert(node, puppet);
        self.report(node);
        self.observe(node);
    }

    fn rejoin(&mut self) {
        for (node, puppet) in self.nodes.clone() {
            self.join(node, puppet);
        }
    }

    fn away(&mut self, node: u8) {
        self.decisions.place(key(node), &format!("n{node}"), Presence::Away, self.now);
        self.nodes.remove(&node);
    }

    fn observe(&mut self, node: u8) {
        let one = &self.nodes[&node];
        if one.talks {
            let seen = vec![(NAME.to_owned(), health(one.primary), health(one.backup))];
            self.decisions.observe(key(node), one.suspect, seen, self.now);
        }
    }

    fn report(&mut self, node: u8) {
        let states = vec![(NAME.to_owned(), self.nodes[&node].state.clone())];
        self.decisions.report(key(node), states, self.now);
    }

    /// Nodes see this from now on, the primary and the backup.
    fn see(&mut self, nodes: &[u8], primary: Verdict, backup: Verdict) {
        for node in nodes {
            let one = self.nodes.get_mut(node).expect("it is there");
            (one.primary, one.backup) = (primary, backup);
            self.observe(*node);
        }
    }

    fn change(&mut self, node: u8, change: impl FnOnce(&mut Puppet)) {
        change(self.nodes.get_mut(&node).expect("it is there"));
        self.report(node);
        self.observe(node);
    }

    /// The node acts alone.
    fn flee(&mut self, node: u8) {
        self.change(node, |one| {
            (one.state.active, one.state.phase) = (Store::Backup, Phase::Backup);
            one.state.local_term += 1;
        });
    }

    fn keep(&mut self) {
        if !self.store_works {
            return;
        }
        let change = self.decisions.take_change();
        for record in &change.kept.records {
            self.disk.insert(record.upstream.clone(), record.clone());
        }
        self.decisions.kept(&change.kept.records, self.now);
    }

    /// What it is told reaches each node that obeys.
    fn deliver(&mut self) {
        let directives = self.decisions.directives();
        for directive in directives.iter() {
            if !self.sent.contains(directive) {
                self.sent.push(directive.clone());
            }
        }
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            let Some(directive) = directives.iter().find(|one| one.upstream == NAME) else { continue };
            let state = &self.nodes[&node].state;
            if self.nodes[&node].obeys && (directive.term, 0) > (state.term, state.local_term) {
                let phase = match directive.target {
                    Store::Primary => Phase::Primary,
                    Store::Backup => Phase::Backup,
                };
                self.change(node, |one| {
                    (one.state.term, one.state.local_term) = (directive.term, 0);
                    (one.state.active, one.state.phase) = (directive.target, phase);
                });
            }
        }
    }

    /// Time passes; what was decided by itself, as `term store reason`.
    fn pass(&mut self, seconds: f64) -> Vec<String> {
        let end = self.now.uptime + Duration::from_secs_f64(seconds);
        let mut decided = Vec::new();
        while self.now.uptime < end {
            self.step();
            let (found, _) = self.decisions.tick(self.now);
            decided.extend(found.iter().map(words));
            self.keep();
            self.deliver();
        }
        decided
    }

    fn step(&mut self) {
        self.now.uptime += Duration::from_millis(500);
        self.now.wall += Duration::from_millis(500);
        if self.now.uptime.as_millis().is_multiple_of(10_000) {
            for node in self.nodes.keys().copied().collect::<Vec<_>>() {
                self.observe(node);
            }
        }
    }

    fn status(&self) -> FailoverStatus {
        self.decisions.status(NAME, self.now).expect("it has a backup")
    }

    fn stage(&self) -> Stage {
        self.status().decision
    }

    /// It failed over, and all nodes followed.
    fn failed_over(&mut self) {
        let all: Vec<u8> = self.nodes.keys().copied().collect();
        self.see(&all, Down, Up);
        assert_eq!(self.pass(1.0), ["1 backup quorum_unhealthy"]);
        self.pass(1.0);
        assert_eq!(self.stage(), Stage::FailedOver);
    }

    fn order(&mut self, target: Store) -> Result<Ordered, OrderError> {
        self.order_with(target, |_| {})
    }

    fn order_with(&mut self, target: Store, change: impl FnOnce(&mut Order)) -> Result<Ordered, OrderError> {
        let mut order = Order {
            upstream: NAME.to_owned(),
            target,
            if_term: 0,
            force: false,
            dry_run: false,
            reason: "a drill".to_owned(),
            request_id: String::new(),
        };
        change(&mut order);
        let ordered = self.decisions.order(&order, self.now).map(|(ordered, _)| ordered);
        self.keep();
        self.deliver();
        ordered
    }

    fn mode(&mut self, mode: Mode, expires_in: Option<u64>) {
        let order = ModeOrder {
            upstream: NAME.to_owned(),
            mode,
            expires_in: expires_in.map(Duration::from_secs),
            reason: "a drill".to_owned(),
            request_id: String::new(),
        };
        self.decisions.set_mode(&order, self.now).expect("it is configured");
        self.keep();
        self.deliver();
    }

    fn maintenance(&mut self, on: bool, seconds: Option<u64>) {
        let until = seconds.map(|seconds| self.now.wall + Duration::from_secs(seconds));
        let maintenance = Maintenance { on, until, reason: "works".to_owned() };
        self.decisions.set_maintenance(maintenance, "", self.now).expect("no request id, no conflict");
    }
}

fn words(decision: &Decision) -> String {
    let shadow = if decision.shadow { "shadow " } else { "" };
    format!("{shadow}{} {} {}", decision.term, decision.target.word(), decision.reason.word())
}

fn none() -> Vec<String> {
    Vec::new()
}
