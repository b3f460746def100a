//! The configuration: changes of it, its history, its rollouts.

use super::{Client, PAGE_SIZE, empty, moment, problem, rejection, version};
use crate::{
    configs::{
        Change, Changed, How, Refuser, ResourceChange, Revision, Rollout, RolloutState, RolloutSummary, Wish,
    },
    connect::{Failure, Link},
    model::Problem,
};
use o1_proto::{convert::from_duration, wire};
use std::time::Duration;
use tokio::time::timeout;
use tonic::Streaming;

impl Client {
    /// Every problem of a document as the control plane sees it.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn validate(&mut self, content: Vec<u8>, name: &str) -> Result<Vec<Problem>, Failure> {
        let document = Some(wire::ConfigDocument { content, source: name.to_owned() });
        let request = wire::ValidateConfigRequest { document };
        let answer = self.link.answer(self.config.validate_config(request)).await?;
        Ok(answer.problems.into_iter().map(problem).collect())
    }

    /// Asks for something else to run.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn change(&mut self, change: Change) -> Result<Changed, Failure> {
        let if_version = change.if_version.map(|(generation, revision)| wire::ConfigVersion {
            generation,
            revision,
            root_digest: Vec::new(),
        });
        let Change { wish, dry_run, request_id, reason, .. } = change;
        let (at, (no_op, already_done), changes, warnings) = match wish {
            Wish::Document(content, source) => {
                let document = Some(wire::ConfigDocument { content, source });
                let request =
                    wire::ApplyConfigRequest { document, if_version, dry_run, request_id, comment: reason };
                let answer = self.link.answer(self.config.apply_config(request)).await?;
                (answer.version, (answer.no_op, answer.already_done), answer.changes, answer.warnings)
            }
            Wish::Revision(to_revision) => {
                let request =
                    wire::RollbackConfigRequest { to_revision, if_version, dry_run, request_id, reason };
                let answer = self.link.answer(self.config.rollback_config(request)).await?;
                (answer.version, (answer.no_op, answer.already_done), answer.changes, Vec::new())
            }
        };
        Ok(Changed {
            version: at.as_ref().map(version).ok_or_else(empty)?,
            no_op,
            already_done,
            changes: changes.into_iter().map(resource_change).collect(),
            warnings: warnings.into_iter().map(problem).collect(),
        })
    }

    /// A revision and its document without its secrets; 0: the one that should run.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn revision(&mut self, revision: u64) -> Result<(Revision, Vec<u8>), Failure> {
        let request = wire::GetConfigRequest { revision };
        let answer = self.link.answer(self.config.get_config(request)).await?;
        let found = answer.revision.map(self::revision).ok_or_else(empty)?;
        Ok((found, answer.document.unwrap_or_default().content))
    }

    /// At most `limit` revisions, newest first.
    ///
    /// # Errors
    /// Why there is no answer, or no complete one.
    pub async fn history(&mut self, limit: usize) -> Result<Vec<Revision>, Failure> {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        while found.len() < limit {
            let page_size = i32::try_from(limit - found.len()).unwrap_or(PAGE_SIZE).min(PAGE_SIZE);
            let request = wire::ListConfigRevisionsRequest { page_size, page_token };
            let answer = self.link.answer(self.config.list_config_revisions(request)).await?;
            let before = found.len();
            found.extend(answer.revisions.into_iter().map(self::revision));
            page_token = answer.next_page_token;
            if page_token.is_empty() || found.len() == before {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// The rollout of a revision, until it is over.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn watch_rollout(&mut self, revision: u64, interval: Duration) -> Result<Rollouts, Failure> {
        let request = wire::WatchRolloutRequest { revision, min_interval: Some(from_duration(interval)) };
        let stream = self.link.answer(self.config.watch_rollout(request)).await?;
        Ok(Rollouts { stream, link: self.link.clone() })
    }
}

/// A running watch of a rollout.
pub struct Rollouts {
    stream: Streaming<wire::WatchRolloutResponse>,
    link: Link,
}

impl Rollouts {
    /// Waits for the next picture, at most `limit`.
    ///
    /// # Errors
    /// The watch is over; why.
    pub async fn next(&mut self, limit: Duration) -> Result<Rollout, Failure> {
        match timeout(limit, self.stream.message()).await {
            Ok(Ok(Some(message))) => message.rollout.map(rollout).ok_or_else(empty),
            Ok(Ok(None)) => Err(Failure::Lost("the control plane ended the watch".to_owned())),
            Ok(Err(error)) => Err(self.link.failure(&error)),
            Err(_) => Err(Failure::NoAnswer(limit)),
        }
    }
}

fn rollout(wire: wire::Rollout) -> Rollout {
    let refuses = |node: &wire::RolloutNode| node.standing() == wire::RolloutStanding::Refused;
    Rollout {
        state: state(wire.state()),
        version: wire.version.as_ref().map(version).unwrap_or_default(),
        wave: wire.wave,
        waves: wire.waves,
        waiting: wire.waiting,
        sent: wire.sent,
        applied: wire.applied,
        silent: wire.silent,
        away: wire.away,
        refused: wire
            .nodes
            .into_iter()
            .filter(refuses)
            .map(|node| Refuser {
                node_id: node.node_id,
                rejections: node.rejections.into_iter().map(rejection).collect(),
            })
            .collect(),
        rolled_back_to: wire.rolled_back_to.as_ref().map(version),
        because: wire.because,
    }
}

pub(super) fn summary(wire: wire::RolloutSummary) -> RolloutSummary {
    RolloutSummary {
        state: state(wire.state()),
        revision: wire.revision,
        wave: wire.wave,
        waves: wire.waves,
        applied: wire.applied,
        nodes: wire.nodes,
        because: wire.because,
    }
}

fn revision(wire: wire::ConfigRevision) -> Revision {
    let number = |number: u64| Some(number).filter(|number| *number > 0);
    let refuser = |one: wire::NodeRejection| Refuser {
        node_id: one.node_id,
        rejections: one.rejections.into_iter().map(rejection).collect(),
    };
    Revision {
        rollout: state(wire.rollout()),
        version: wire.version.as_ref().map(version).unwrap_or_default(),
        created_at: moment(wire.created_at.as_ref()),
        source: wire.source,
        actor: wire.actor,
        comment: wire.comment,
        rollback_of: number(wire.rollback_of),
        undoes: number(wire.undoes),
        refused: wire.rejections.into_iter().map(refuser).collect(),
    }
}

fn state(wire: wire::RolloutState) -> RolloutState {
    match wire {
        wire::RolloutState::Unspecified => RolloutState::Unknown,
        wire::RolloutState::Running => RolloutState::Running,
        wire::RolloutState::RollingBack => RolloutState::RollingBack,
        wire::RolloutState::Succeeded => RolloutState::Succeeded,
        wire::RolloutState::Failed => RolloutState::Failed,
        wire::RolloutState::RolledBack => RolloutState::RolledBack,
        wire::RolloutState::Superseded => RolloutState::Superseded,
    }
}

fn resource_change(wire: wire::ResourceChange) -> ResourceChange {
    let change = match wire.change() {
        wire::Change::Unspecified => How::Unknown,
        wire::Change::Added => How::Added,
        wire::Change::Updated => How::Updated,
        wire::Change::Removed => How::Removed,
    };
    ResourceChange { resource: wire.key.map(super::resource).unwrap_or_default(), change }
}
