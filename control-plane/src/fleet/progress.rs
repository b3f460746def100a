//! How far a rollout is, for those who watch it and for the history.

use super::{NodeUid, Rejection};
use crate::config::Version;
use serde::{Deserialize, Serialize};
use std::{fmt, time::SystemTime};

/// Refusals and names that the history keeps of one rollout.
const KEPT: usize = 20;

/// What became of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
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
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Running, Self::RollingBack, Self::Succeeded, Self::Failed, Self::RolledBack, Self::Superseded];

    /// As the store writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::RollingBack => "rolling_back",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Superseded => "superseded",
        }
    }

    /// Whether nothing more comes of it.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Running | Self::RollingBack)
    }
}

/// Where one node stands with a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Its turn has not come.
    Waiting,
    /// It was sent it.
    Sent,
    /// It runs it.
    Applied,
    /// It refused it.
    Refused,
    /// It was sent it and did not answer in time.
    Silent,
    /// It is not there, and will get it when it is back.
    Away,
}

/// One node in a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProgress {
    /// What people call it.
    pub node_id: String,
    /// Which.
    pub uid: NodeUid,
    /// Where it stands.
    pub standing: Standing,
    /// The wave in which it was told; `None`: it was not, or needed not be.
    pub wave: Option<u32>,
    /// Why it refused it.
    pub rejections: Vec<Rejection>,
}

/// A rollout at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Of what.
    pub version: Version,
    /// What it replaces, where it can go back.
    pub base: Option<Version>,
    /// Whether it goes on.
    pub state: RolloutState,
    /// The present wave, from 1.
    pub wave: u32,
    /// Of so many.
    pub waves: u32,
    /// When it began.
    pub began: SystemTime,
    /// When it ended.
    pub ended: Option<SystemTime>,
    /// Every node that is or was there, sorted by id.
    pub nodes: Vec<NodeProgress>,
}

/// What the history keeps of a rollout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Nodes that ran it at its end.
    pub applied: u32,
    /// Who refused it, at most [`KEPT`].
    pub refused: Vec<Refuser>,
    /// Who fell silent with it, at most [`KEPT`].
    pub silent: Vec<String>,
    /// Who was away, at most [`KEPT`].
    pub away: Vec<String>,
}

/// A node that refused a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuser {
    /// What people call it.
    pub node_id: String,
    /// Every reason it gave, at most [`KEPT`].
    pub rejections: Vec<Rejection>,
}

impl Progress {
    /// How many nodes stand there.
    #[must_use]
    pub fn count(&self, standing: Standing) -> u32 {
        let there = self.nodes.iter().filter(|node| node.standing == standing);
        u32::try_from(there.count()).unwrap_or(u32::MAX)
    }

    /// What the history should keep.
    #[must_use]
    pub fn report(&self) -> Report {
        let those = |standing| self.nodes.iter().filter(move |node| node.standing == standing).take(KEPT);
        let names = |standing| those(standing).map(|node| node.node_id.clone()).collect();
        let refuser = |node: &NodeProgress| Refuser {
            node_id: node.node_id.clone(),
            rejections: node.rejections.iter().take(KEPT).cloned().collect(),
        };
        Report {
            applied: self.count(Standing::Applied),
            refused: those(Standing::Refused).map(refuser).collect(),
            silent: names(Standing::Silent),
            away: names(Standing::Away),
        }
    }
}

impl fmt::Display for Report {
    /// Why it was stopped: ``node `n2` refused it: weather: headers.X: no such variable``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.refused.first() else {
            let (silent, applied) = (self.silent.join(", "), self.applied);
            return write!(f, "nodes fell silent when they were sent it ({silent}), and {applied} run it");
        };
        write!(f, "node `{}` refused it", first.node_id)?;
        for (at, rejection) in first.rejections.iter().take(3).enumerate() {
            write!(f, "{}{rejection}", if at == 0 { ": " } else { "; " })?;
        }
        if first.rejections.len() > 3 {
            write!(f, "; and {} more", first.rejections.len() - 3)?;
        }
        match self.refused.len() - 1 {
            0 => Ok(()),
            others => write!(f, ", and {others} more did"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Reason;

    fn refuser(node_id: &str, reasons: usize) -> Refuser {
        let rejection = |number| Rejection {
            resource: None,
            reason: Reason::InvalidField,
            field_path: format!("field{number}"),
            message: "no".to_owned(),
        };
        Refuser { node_id: node_id.to_owned(), rejections: (0..reasons).map(rejection).collect() }
    }

    #[test]
    fn a_report_says_why_in_one_line() {
        let report = |refused: Vec<Refuser>| Report { refused, ..Report::default() }.to_string();
        assert_eq!(report(vec![refuser("n2", 1)]), "node `n2` refused it: field0: no");
        assert_eq!(
            report(vec![refuser("n2", 5), refuser("n3", 1)]),
            "node `n2` refused it: field0: no; field1: no; field2: no; and 2 more, and 1 more did"
        );
        let silent = Report { applied: 1, silent: vec!["n1".into(), "n2".into()], ..Report::default() };
        assert_eq!(silent.to_string(), "nodes fell silent when they were sent it (n1, n2), and 1 run it");
    }

    #[test]
    fn states_have_words_of_their_own_and_serde_uses_them() {
        for state in RolloutState::ALL {
            let written = serde_json::to_string(&state).unwrap();
            assert_eq!(written, format!("\"{}\"", state.word()));
        }
    }
}
