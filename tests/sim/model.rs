//! What is around the machine: a control plane that may decide anything, a network that loses, repeats and delays,
//! a node that may die between any two steps, a disk, a primary that fails, and clients that write.

use crate::{
    Store,
    explore::{Judged, Next},
    machine::{Commit, Heard, Journal, Machine, Step, Target},
};

/// Writes that clients try.
const WRITES: usize = 2;

/// How far is explored.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    terms: u8,
    crashes: u8,
    outages: u8,
}

impl Limits {
    pub const WIDE: Self = Self { terms: 3, crashes: 1, outages: 1 };
    pub const NARROW: Self = Self { terms: 2, crashes: 1, outages: 1 };
}

/// A mistake that somebody could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A write is acknowledged before it is on disk.
    AckBeforeFsync,
    /// The primary becomes active although entries wait.
    RestoreAnyway,
    /// An entry is checked off when it is sent.
    CheckpointOnSend,
    /// Any order is followed, however old.
    NoTermCheck,
    /// Writes are let in while the last entries are replayed.
    NoBarrier,
    /// The primary cannot tell that it had a write already.
    NoIdempotency,
    /// Calls go to the other store before that is on disk.
    RouteBeforeWal,
    /// An order is sent once.
    EdgeTriggered,
}

/// A write as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Client {
    Idle,
    /// Let in at the primary, not answered.
    AtPrimary,
    /// Let in at the backup, not answered.
    AtBackup,
    /// It does not know; it tries again with the same key.
    Unsure,
    Acked,
}

/// A write as the log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Entry {
    None,
    Pending,
    Checked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Write {
    client: Client,
    entry: Entry,
    /// How often it took effect at the primary.
    effects: u8,
    /// Sent to the primary by a sync-back; what came of it is not heard yet.
    replaying: bool,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// What is on the node's disk.
    disk: Machine,
    /// What the process has in memory; `None`: it is dead.
    node: Option<Node>,
    writes: [Write; WRITES],
    primary_up: bool,
    /// What the control plane wants: term (from 1) and target.
    issued: Vec<Store>,
    /// Orders that are sent once and still on their way.
    on_the_way: Vec<bool>,
    crashes: u8,
    outages: u8,
    broken: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Node {
    machine: Machine,
    /// Where calls go.
    route: Store,
    /// A commit that was found to be right and is being written.
    committing: Option<Commit>,
}

type Emit<'a> = &'a mut dyn FnMut(Next<State>);

impl State {
    pub fn first() -> Self {
        let write = Write { client: Client::Idle, entry: Entry::None, effects: 0, replaying: false };
        let machine = Machine::default();
        Self {
            disk: machine,
            node: Some(Node { machine, route: Store::Primary, committing: None }),
            writes: [write; WRITES],
            primary_up: true,
            issued: Vec::new(),
            on_the_way: Vec::new(),
            crashes: 0,
            outages: 0,
            broken: None,
        }
    }

    fn journal(&self) -> Journal {
        let pending = self.writes.iter().filter(|write| write.entry == Entry::Pending).count();
        Journal { pending: pending as u64, dead: 0 }
    }

    /// Everything that can happen next.
    pub fn steps(&self, mutant: Option<Mutant>, limits: Limits, emit: Emit<'_>) {
        self.control_plane(mutant, limits, emit);
        self.world(limits, emit);
        if let Some(node) = self.node {
            self.orders(node, mutant, emit);
            self.move_on(node, mutant, emit);
            for at in 0..WRITES {
                self.client(node, at, mutant, emit);
                self.replay(node, at, mutant, emit);
            }
            if self.crashes < limits.crashes {
                emit(Next { step: "the node dies", state: self.crashed() });
            }
        } else {
            let mut next = self.clone();
            let machine = Machine::recovered(self.disk);
            next.node = Some(Node { machine, route: machine.active, committing: None });
            emit(Next { step: "the node starts", state: next });
        }
    }

    fn control_plane(&self, mutant: Option<Mutant>, limits: Limits, emit: Emit<'_>) {
        if self.issued.len() < usize::from(limits.terms) {
            for target in [Store::Primary, Store::Backup] {
                let mut next = self.clone();
                next.issued.push(target);
                next.on_the_way.push(true);
                emit(Next { step: "the control plane decides", state: next });
            }
        }
        if mutant == Some(Mutant::EdgeTriggered) {
            for at in 0..self.on_the_way.len() {
                if self.on_the_way[at] {
                    let mut next = self.clone();
                    next.on_the_way[at] = false;
                    emit(Next { step: "an order is lost", state: next });
                }
            }
        }
    }

    fn world(&self, limits: Limits, emit: Emit<'_>) {
        let mut next = self.clone();
        if self.primary_up && self.outages < limits.outages {
            (next.primary_up, next.outages) = (false, self.outages + 1);
            emit(Next { step: "the primary fails", state: next });
        } else if !self.primary_up {
            next.primary_up = true;
            emit(Next { step: "the primary is back", state: next });
        }
    }

    /// Orders arrive: the newest at any time, older ones late or again. And the breaker acts alone, once.
    fn orders(&self, node: Node, mutant: Option<Mutant>, emit: Emit<'_>) {
        for (at, target) in self.issued.iter().enumerate() {
            if mutant == Some(Mutant::EdgeTriggered) && !self.on_the_way[at] {
                continue;
            }
            let term = at as u64 + 1;
            let heard = node.machine.hear(term, *target, false);
            let aimed = match (heard, mutant) {
                (Heard::New(aimed), _) => aimed,
                (_, Some(Mutant::NoTermCheck)) => {
                    Target { term, local: 0, target: *target, accept_dead_letters: false }
                }
                _ => continue,
            };
            let mut base = self.clone();
            base.on_the_way[at] = mutant != Some(Mutant::EdgeTriggered);
            base.aimed(node, aimed, "an order is followed", emit);
        }
        if !self.primary_up
            && node.machine.local == 0
            && let Some(aimed) = node.machine.alone(Store::Backup)
        {
            self.clone().aimed(node, aimed, "the node acts alone", emit);
        }
    }

    fn aimed(self, mut node: Node, aimed: Target, step: &'static str, emit: Emit<'_>) {
        // A commit that is being written is finished first: one driver, one step at a time.
        if node.committing.is_some() {
            return;
        }
        let mut next = self;
        if (aimed.term, aimed.local) <= (next.disk.term, next.disk.local) {
            next.broken = Some("I5");
        }
        next.disk.aim(aimed);
        node.machine.aim(aimed);
        next.node = Some(node);
        emit(Next { step, state: next });
    }

    /// Drain, commit, barrier, restore.
    fn move_on(&self, mut node: Node, mutant: Option<Mutant>, emit: Emit<'_>) {
        let mut next = self.clone();
        if let Some(commit) = node.committing {
            next.disk.committed(commit);
            next.disk.step = Step::Resting;
            node.machine.committed(commit);
            (node.route, node.committing) = (commit.store, None);
            next.node = Some(node);
            emit(Next { step: "a commit is durable", state: next });
            return;
        }
        if let Some(commit) = node.machine.drained() {
            // Who does not end in time is cut: the client does not know what came of it.
            for write in &mut next.writes {
                if write.client == Client::AtPrimary {
                    write.client = Client::Unsure;
                }
            }
            node.committing = Some(commit);
            if mutant == Some(Mutant::RouteBeforeWal) {
                node.route = commit.store;
            }
            next.node = Some(node);
            emit(Next { step: "the primary is drained", state: next });
            return;
        }
        match node.machine.step {
            Step::Replaying => {
                let mut machine = node.machine;
                machine.replayed(self.journal(), 1);
                if mutant == Some(Mutant::RestoreAnyway) {
                    machine.step = Step::Barrier;
                }
                if machine != node.machine {
                    node.machine = machine;
                    next.node = Some(node);
                    emit(Next { step: "writes are held back", state: next });
                }
            }
            Step::Barrier => {
                let held = self.writes.iter().all(|write| write.client != Client::AtBackup);
                let mut commit = node.machine.settled(self.journal());
                if mutant == Some(Mutant::RestoreAnyway) {
                    let (term, local) = (node.machine.term, node.machine.local);
                    commit = Some(Commit { store: Store::Primary, term, local });
                }
                if let Some(commit) = commit.filter(|_| held || mutant == Some(Mutant::NoBarrier)) {
                    node.committing = Some(commit);
                    next.node = Some(node);
                    emit(Next { step: "nothing waits any more", state: next });
                } else {
                    node.machine.lift();
                    next.node = Some(node);
                    emit(Next { step: "the barrier is lifted", state: next });
                }
            }
            Step::Resting | Step::Draining => {}
        }
    }

    /// One write of a client.
    fn client(&self, node: Node, at: usize, mutant: Option<Mutant>, emit: Emit<'_>) {
        let write = self.writes[at];
        let with = |change: &dyn Fn(&mut Write)| {
            let mut next = self.clone();
            change(&mut next.writes[at]);
            next
        };
        match write.client {
            Client::Idle | Client::Unsure => {
                let barred = match node.machine.step {
                    // Calls that the mutant sends on before the commit are let in, too.
                    Step::Draining => mutant != Some(Mutant::RouteBeforeWal) || node.committing.is_none(),
                    Step::Barrier => mutant != Some(Mutant::NoBarrier),
                    _ => false,
                };
                if barred {
                    return;
                }
                let mut next = self.clone();
                if node.route != self.disk.active {
                    next.broken = Some("I3");
                }
                next.writes[at].client = match node.route {
                    Store::Primary => Client::AtPrimary,
                    Store::Backup => Client::AtBackup,
                };
                emit(Next { step: "a write is let in", state: next });
            }
            Client::AtPrimary => {
                if self.primary_up {
                    let done = with(&|write| {
                        write.client = Client::Acked;
                        write.takes_effect(mutant);
                    });
                    emit(Next { step: "the primary answers", state: done });
                    let lost = with(&|write| {
                        write.client = Client::Unsure;
                        write.takes_effect(mutant);
                    });
                    emit(Next { step: "the primary's answer is lost", state: lost });
                }
                emit(Next { step: "a write fails", state: with(&|write| write.client = Client::Unsure) });
            }
            Client::AtBackup => {
                let keep = |write: &mut Write| {
                    // A key that waits already is kept once; one that was replayed is sent once more.
                    write.entry = Entry::Pending;
                };
                if mutant == Some(Mutant::AckBeforeFsync) {
                    let early = with(&|write| write.client = Client::Acked);
                    emit(Next { step: "a write is acknowledged before it is kept", state: early });
                    return;
                }
                let kept = with(&|write| {
                    keep(write);
                    write.client = Client::Acked;
                });
                emit(Next { step: "a write is kept and acknowledged", state: kept });
                let unheard = with(&|write| {
                    keep(write);
                    write.client = Client::Unsure;
                });
                emit(Next { step: "a write is kept and its answer lost", state: unheard });
            }
            Client::Acked => {}
        }
    }

    /// An entry on its way to the primary.
    fn replay(&self, node: Node, at: usize, mutant: Option<Mutant>, emit: Emit<'_>) {
        if !matches!(node.machine.step, Step::Replaying | Step::Barrier) || node.committing.is_some() {
            return;
        }
        let write = self.writes[at];
        let first = self.writes.iter().position(|write| write.entry == Entry::Pending);
        let mut next = self.clone();
        let target = &mut next.writes[at];
        if write.replaying {
            target.replaying = false;
            if self.primary_up {
                target.takes_effect(mutant);
                let mut unheard = next.clone();
                unheard.writes[at].replaying = false;
                emit(Next { step: "an entry takes effect and nobody hears", state: unheard });
                if mutant != Some(Mutant::CheckpointOnSend) {
                    next.writes[at].entry = Entry::Checked;
                }
                emit(Next { step: "an entry takes effect and is checked off", state: next });
            } else {
                emit(Next { step: "an entry does not arrive", state: next });
            }
        } else if first == Some(at) {
            target.replaying = true;
            if mutant == Some(Mutant::CheckpointOnSend) {
                target.entry = Entry::Checked;
            }
            emit(Next { step: "an entry is sent", state: next });
        }
    }

    fn crashed(&self) -> Self {
        let mut next = self.clone();
        next.node = None;
        next.crashes += 1;
        for write in &mut next.writes {
            // What was on its way is cut; what the client was not told, it does not know.
            if matches!(write.client, Client::AtPrimary | Client::AtBackup) {
                write.client = Client::Unsure;
            }
            write.replaying = false;
        }
        next
    }
}

impl Write {
    /// The primary runs it, unless it can tell that it did.
    fn takes_effect(&mut self, mutant: Option<Mutant>) {
        if self.effects == 0 || mutant == Some(Mutant::NoIdempotency) {
            self.effects += 1;
        }
    }
}

impl Judged for State {
    fn breaks(&self) -> Option<&'static str> {
        if self.broken.is_some() {
            return self.broken;
        }
        for write in &self.writes {
            if write.effects > 1 {
                return Some("I2");
            }
            // With an outcome that is not heard yet it may still be true.
            if write.entry == Entry::Checked && write.effects == 0 && !write.replaying {
                return Some("I6");
            }
            if write.client == Client::Acked
                && write.effects == 0
                && write.entry != Entry::Pending
                && !write.replaying
            {
                return Some("I1");
            }
        }
        if self.disk.active == Store::Primary && self.journal().pending > 0 {
            return Some("I4");
        }
        None
    }

    /// The node is where the newest word wants it, and nothing waits.
    fn is_home(&self) -> bool {
        let Some(node) = self.node else { return false };
        let newest = self.issued.len() as u64;
        let wanted = if self.disk.local > 0 && self.disk.term == newest {
            Some(Store::Backup)
        } else {
            self.issued.last().copied()
        };
        let there = wanted.is_none_or(|wanted| node.machine.active == wanted && self.disk.term == newest);
        let drained = node.machine.active == Store::Backup || self.journal().pending == 0;
        there && drained && node.machine.step == Step::Resting && node.committing.is_none()
    }
}
