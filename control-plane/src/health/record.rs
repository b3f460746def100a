//! What of the decisions outlives the process. Plain values.

use o1_proto::model::{DecisionReason, Directive, Store};
use std::time::SystemTime;

/// Who decides about an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// The quorum.
    #[default]
    Auto,
    /// An operator: the primary.
    PinPrimary,
    /// An operator: the backup.
    PinBackup,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Auto, Self::PinPrimary, Self::PinBackup];

    /// As people and programs read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::PinPrimary => "pin_primary",
            Self::PinBackup => "pin_backup",
        }
    }

    /// The store that it is pinned to.
    #[must_use]
    pub const fn pinned(self) -> Option<Store> {
        match self {
            Self::Auto => None,
            Self::PinPrimary => Some(Store::Primary),
            Self::PinBackup => Some(Store::Backup),
        }
    }
}

/// The last decision on one upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Of which upstream.
    pub upstream: String,
    /// Never used again, whatever becomes of the upstream; 0: none was ever used.
    pub term: u64,
    /// `None`: nothing was decided since the upstream came into the configuration.
    pub target: Option<Store>,
    /// Who decides.
    pub mode: Mode,
    /// When `mode` ends by itself.
    pub mode_until: Option<SystemTime>,
    /// Names the decision in the log.
    pub decision_id: String,
    /// Why.
    pub reason: DecisionReason,
    /// For people: what the decision saw.
    pub because: String,
    /// Since when `target` is what it is.
    pub since: Option<SystemTime>,
    /// When `term` was given out.
    pub issued_at: Option<SystemTime>,
    /// Dead letters do not stand in the way.
    pub accept_dead_letters: bool,
    /// Failovers of the last hour that nobody ordered by hand: they lengthen the hold.
    pub failovers: Vec<SystemTime>,
}

impl Record {
    /// What nodes are told; `None`: nothing.
    #[must_use]
    pub fn directive(&self) -> Option<Directive> {
        Some(Directive {
            upstream: self.upstream.clone(),
            term: self.term,
            target: self.target?,
            decision_id: self.decision_id.clone(),
            reason: self.reason,
            issued_at: self.issued_at,
            because: self.because.clone(),
            accept_dead_letters: self.accept_dead_letters,
            pinned: self.mode != Mode::Auto,
        })
    }
}

/// Whether an operator said that nothing shall happen by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maintenance {
    /// He did.
    pub on: bool,
    /// When it ends by itself.
    pub until: Option<SystemTime>,
    /// What he said.
    pub reason: String,
}

/// What came of an order that an operator gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ordered {
    /// The term that holds now.
    pub term: u64,
    /// Of the decision behind it; empty: nothing was ever decided.
    pub decision_id: String,
    /// Connected nodes that are told.
    pub nodes: u32,
    /// Entries that are replayed first.
    pub journal_pending: u64,
    /// For people.
    pub warnings: Vec<String>,
    /// It was so already.
    pub no_op: bool,
}

/// An order that was carried out and is not carried out again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// As the operator chose it.
    pub request_id: String,
    /// What was ordered, in words: the same id for something else is a mistake.
    pub order: String,
    /// When.
    pub at: SystemTime,
    /// What came of it.
    pub ordered: Ordered,
}

/// What a store keeps; as a change, what it should keep from now on beside the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// One for each upstream that anything was ever decided on.
    pub records: Vec<Record>,
    /// `None`: never set; as a change: as it is.
    pub maintenance: Option<Maintenance>,
    /// Of about a day.
    pub answers: Vec<Answer>,
}
