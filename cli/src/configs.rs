//! Changes of the configuration and what becomes of them, as plain values. What serialises is what `--json` prints.

use crate::model::{ConfigVersion, Problem, Rejection};
use jiff::Timestamp;
use serde::Serialize;

/// What a control plane is asked to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub wish: Wish,
    /// Only if this runs: generation and revision.
    pub if_version: Option<(u64, u64)>,
    /// Says what would happen, and does nothing.
    pub dry_run: bool,
    /// The same id within a day is the same change.
    pub request_id: String,
    /// Why; may be empty.
    pub reason: String,
}

/// What should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// This document, under this name.
    Document(Vec<u8>, String),
    /// The document of this revision.
    Revision(u64),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// What should run now; of a dry run, what does.
    pub version: ConfigVersion,
    /// It was so already.
    pub no_op: bool,
    /// The same request came before, and this is what came of it.
    pub already_done: bool,
    /// What differs from what ran.
    pub changes: Vec<ResourceChange>,
    /// Accepted, but worth knowing.
    pub warnings: Vec<Problem>,
}

/// A part of the configuration that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceChange {
    /// `upstream weather`, `clients`.
    pub resource: String,
    /// In which way.
    pub change: How,
}

/// In which way a part differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It was not there.
    Added,
    /// It was different.
    Updated,
    /// It is not there any more.
    Removed,
    /// This version does not know.
    Unknown,
}

/// What became of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// The control plane does not say, or says what this version does not know.
    #[default]
    Unknown,
    /// Nodes are being given it.
    Running,
    /// It was stopped, and nodes are being given what was before.
    RollingBack,
    /// Every node that was there runs it.
    Succeeded,
    /// Some nodes refused it, and there was nothing to go back to.
    Failed,
    /// It was stopped, and what was before runs again.
    RolledBack,
    /// Something newer came in between.
    Superseded,
}

impl RolloutState {
    /// For people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Running => "rolling out",
            Self::RollingBack => "rolling back",
            Self::Succeeded => "rolled out",
            Self::Failed => "refused",
            Self::RolledBack => "rolled back",
            Self::Superseded => "superseded",
        }
    }

    /// Whether nothing more comes of it.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Unknown | Self::Running | Self::RollingBack)
    }
}

/// One revision of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Revision {
    /// Its name.
    pub version: ConfigVersion,
    /// When it was accepted.
    pub created_at: Option<Timestamp>,
    /// Where its document came from.
    pub source: String,
    /// Who made it; empty: the file.
    pub actor: String,
    /// Why; may be empty.
    pub comment: String,
    /// The revision whose document it repeats.
    pub rollback_of: Option<u64>,
    /// The revision that it takes back.
    pub undoes: Option<u64>,
    /// What became of it.
    pub rollout: RolloutState,
    /// Who refused it.
    pub refused: Vec<Refuser>,
}

/// A node that refused a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refuser {
    /// Which.
    pub node_id: String,
    /// Why.
    pub rejections: Vec<Rejection>,
}

/// A rollout at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rollout {
    /// Of what.
    pub version: ConfigVersion,
    /// Whether it goes on.
    pub state: RolloutState,
    /// The present wave, from 1.
    pub wave: u32,
    /// Of so many.
    pub waves: u32,
    /// Nodes whose turn has not come.
    pub waiting: u32,
    /// Nodes that have not answered.
    pub sent: u32,
    /// Nodes that run it; once it was stopped, what was before.
    pub applied: u32,
    /// Nodes that did not answer in time.
    pub silent: u32,
    /// Nodes that are not there, and are not waited for.
    pub away: u32,
    /// Who refused it.
    pub refused: Vec<Refuser>,
    /// What runs again in its place.
    pub rolled_back_to: Option<ConfigVersion>,
    /// Why it was stopped; empty: it was not.
    pub because: String,
}

impl Rollout {
    /// Nodes that are there.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        let refused = u32::try_from(self.refused.len()).unwrap_or(u32::MAX);
        // On the way back, those who refused it are among those who run what was before.
        let refused = if self.because.is_empty() { refused } else { 0 };
        self.waiting + self.sent + self.applied + self.silent + refused
    }
}

/// The rollout as the status of the fleet has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RolloutSummary {
    /// Whether it goes on.
    pub state: RolloutState,
    /// Of which revision.
    pub revision: u64,
    /// The present wave, from 1.
    pub wave: u32,
    /// Of so many.
    pub waves: u32,
    /// Nodes that run it; once it was stopped, what was before.
    pub applied: u32,
    /// Nodes that are there or were.
    pub nodes: u32,
    /// Why it was stopped; empty: it was not.
    pub because: String,
}
