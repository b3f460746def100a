//! Where a node stands between the stores of one upstream, and what may happen next. Pure: no clock, no disk, no
//! network. `tests/sim` explores it exhaustively, from this very file.
//!
//! Two rules carry everything. A step counts once it is durable: whoever drives this writes the record that a method
//! hands out, and only then calls the method that takes it. And terms only grow: an order of the control plane is
//! `(term, 0)`, what the node does by itself afterwards is `(term, 1)`, `(term, 2)`, …; the larger one is right.
//!
//! It must never make the primary active while writes wait for it, and never follow an order that is older than
//! what it did already.

use super::{Phase, Refusal, Store};

/// What is to be durable before the node acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// Of the control plane's order.
    pub term: u64,
    /// What the node did by itself after it.
    pub local: u64,
    /// The store that should be active.
    pub target: Store,
    /// Entries that the primary refused for good do not stand in the way.
    pub accept_dead_letters: bool,
}

/// What is to be durable before calls go there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Commit {
    /// The store that is active from then on.
    pub store: Store,
    /// Of the target that it fulfils.
    pub term: u64,
    /// As in [`Target::local`].
    pub local: u64,
}

/// What to make of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Heard {
    /// Nothing new.
    Known,
    /// It counts once this is durable.
    New(Target),
    /// It is not followed.
    Refused(Refusal),
}

/// How far the node is on its way to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Step {
    /// It is there.
    #[default]
    Resting,
    /// No call is let in; those on their way to the primary end.
    Draining,
    /// The backup serves; entries are replayed to the primary.
    Replaying,
    /// Writes are held back; the last entries are replayed.
    Barrier,
}

/// What waits for the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Journal {
    /// Entries that are neither at the primary nor refused by it.
    pub pending: u64,
    /// Entries that it refused for good.
    pub dead: u64,
}

impl Journal {
    /// Whether the primary may become active with this.
    #[must_use]
    pub fn is_settled(self, accept_dead_letters: bool) -> bool {
        self.pending == 0 && (self.dead == 0 || accept_dead_letters)
    }
}

/// One upstream's. What is in `term` to `active` is durable; `step` is not, and follows from it after a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Machine {
    /// The largest term that was accepted; 0: none.
    pub term: u64,
    /// What the node did by itself after it.
    pub local: u64,
    /// The store that should be active.
    pub target: Store,
    /// The store that is.
    pub active: Store,
    /// See [`Target::accept_dead_letters`].
    pub accept_dead_letters: bool,
    /// On the way from `active` to `target`.
    pub step: Step,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            term: 0,
            local: 0,
            target: Store::Primary,
            active: Store::Primary,
            accept_dead_letters: false,
            step: Step::Resting,
        }
    }
}

impl Machine {
    /// As the log has it: whatever was begun and not committed begins again.
    #[must_use]
    pub fn recovered(durable: Self) -> Self {
        Self { step: way(durable.active, durable.target), ..durable }
    }

    /// An order comes, or comes again.
    #[must_use]
    pub fn hear(&self, term: u64, target: Store, accept_dead_letters: bool) -> Heard {
        if term < self.term || (term == self.term && self.local > 0) {
            return Heard::Refused(Refusal::StaleTerm);
        }
        if term == self.term && target != self.target {
            return Heard::Refused(Refusal::TermConflict);
        }
        let accepts_more = accept_dead_letters && !self.accept_dead_letters;
        if term == self.term && !accepts_more {
            return Heard::Known;
        }
        Heard::New(Target { term, local: 0, target, accept_dead_letters })
    }

    /// The node means to act by itself.
    #[must_use]
    pub fn alone(&self, target: Store) -> Option<Target> {
        (self.target != target).then(|| Target {
            term: self.term,
            local: self.local + 1,
            target,
            accept_dead_letters: false,
        })
    }

    /// A target is durable. True: it turns back something that had begun.
    pub fn aim(&mut self, target: Target) -> bool {
        let begun = self.step != Step::Resting;
        (self.term, self.local) = (target.term, target.local);
        self.accept_dead_letters = target.accept_dead_letters;
        if self.target == target.target && begun {
            return false;
        }
        self.target = target.target;
        self.step = way(self.active, self.target);
        begun && self.step == Step::Resting
    }

    /// No call is on its way to the primary any more: what to write before the backup serves.
    #[must_use]
    pub fn drained(&self) -> Option<Commit> {
        (self.step == Step::Draining).then(|| self.commit(Store::Backup))
    }

    /// Nothing waits for the primary, or so little, `tail`, that it can be replayed while writes are held back: hold
    /// them back.
    pub fn replayed(&mut self, journal: Journal, tail: u64) {
        let rest = Journal { pending: journal.pending.saturating_sub(tail), ..journal };
        if self.step == Step::Replaying && rest.is_settled(self.accept_dead_letters) {
            self.step = Step::Barrier;
        }
    }

    /// Writes are held back and none is on its way: what to write before the primary serves. `None`: something came
    /// in before the barrier and waits.
    #[must_use]
    pub fn settled(&self, journal: Journal) -> Option<Commit> {
        let may = self.step == Step::Barrier && journal.is_settled(self.accept_dead_letters);
        may.then(|| self.commit(Store::Primary))
    }

    /// The barrier took too long, or something waits again: writes go on.
    pub fn lift(&mut self) {
        if self.step == Step::Barrier {
            self.step = Step::Replaying;
        }
    }

    /// A commit is durable: calls go there now.
    pub fn committed(&mut self, commit: Commit) {
        self.active = commit.store;
        self.step = way(self.active, self.target);
    }

    fn commit(&self, store: Store) -> Commit {
        Commit { store, term: self.term, local: self.local }
    }

    /// As people read it. `diverted`: reads go to the backup, by the breaker.
    #[must_use]
    pub fn phase(&self, diverted: bool) -> Phase {
        match (self.step, self.active) {
            (Step::Draining, _) => Phase::DrainingPrimary,
            (Step::Replaying, _) => Phase::SyncingBack,
            (Step::Barrier, _) => Phase::Cutover,
            (Step::Resting, Store::Backup) => Phase::Backup,
            (Step::Resting, Store::Primary) if diverted => Phase::Provisional,
            (Step::Resting, Store::Primary) => Phase::Primary,
        }
    }
}

/// The first step from one store to the other.
fn way(active: Store, target: Store) -> Step {
    match (active, target) {
        (Store::Primary, Store::Backup) => Step::Draining,
        (Store::Backup, Store::Primary) => Step::Replaying,
        _ => Step::Resting,
    }
}
