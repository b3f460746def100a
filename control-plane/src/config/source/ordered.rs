//! Changes that callers of the API ask for, and the ends of rollouts.

use super::{Acceptance, Kind, Source};
use crate::{
    clock::Now,
    config::{
        Compiled,
        change::{Change, ChangeError, Changed, Wish, differences},
        compile,
    },
    fleet::RolloutState,
    store::{Account, ConfigRequest, StoredRevision},
};
use std::error::Error as _;
use tokio::task::spawn_blocking;

/// Who takes back what a node refused.
const SELF: &str = "control plane";

impl Source {
    /// Does what a caller asks for, or says why not.
    pub(super) async fn change(&mut self, change: Change) -> Result<Changed, ChangeError> {
        if let Some(file) = &self.file {
            return Err(ChangeError::OwnedBy(file.path.clone()));
        }
        let asked = change.wish.mark();
        if let Some(answer) = self.answered(&change.request_id, &asked).await? {
            return Ok(answer);
        }
        let running = self.running.clone();
        let version = running.as_ref().map(|running| running.revision.version.clone());
        let present = version.as_ref().map(|version| (version.generation, version.revision));
        if change.if_version.is_some() && change.if_version != present {
            return Err(ChangeError::Conflict(version));
        }
        let (content, source, rollback_of) = match change.wish {
            Wish::Document(content, name) => (content, format!("api:{name}"), None),
            Wish::Revision(number) => {
                let found = self.store.revision(number).await?;
                let StoredRevision { header, content } = found.ok_or(ChangeError::NoRevision(number))?;
                (content, header.source, Some(number))
            }
        };
        let (content, compiled) = compiled(source.trim_start_matches("api:"), content).await?;
        let before = running.as_ref().map(|running| running.revision.fleet.clone()).unwrap_or_default();
        let resources = differences(&before, &compiled.fleet);
        let warnings = compiled.warnings.clone();
        let no_op = running.as_ref().is_some_and(|running| {
            running.content == content && running.revision.version.digest == compiled.digest
        });
        let request = Some((change.request_id, asked)).filter(|(id, _)| !id.is_empty());
        let now = Now::read().wall;
        if no_op
            && !change.dry_run
            && let (Some((id, asked)), Some(version)) = (request.clone(), &version)
        {
            let request = ConfigRequest { id, asked, revision: version.revision, no_op };
            self.store.keep_config_request(request, now).await?;
        }
        if !no_op && !change.dry_run {
            let account = Account { actor: change.actor, comment: change.comment, rollback_of };
            let new = Acceptance { compiled, content, source, account, kind: Kind::New, request };
            self.accept(new, now).await?;
        }
        let version = self.running.as_ref().map(|running| running.revision.version.clone());
        let version = version.ok_or(ChangeError::Conflict(None))?;
        Ok(Changed { version, no_op, already_done: false, resources, warnings })
    }

    /// What was answered to the same request before.
    async fn answered(&self, id: &str, asked: &[u8]) -> Result<Option<Changed>, ChangeError> {
        if id.is_empty() {
            return Ok(None);
        }
        let Some(known) = self.store.config_request(id.to_owned()).await? else { return Ok(None) };
        if known.asked != asked {
            return Err(ChangeError::OtherRequest);
        }
        let stored = self.store.revision(known.revision).await?;
        let header = stored.ok_or(ChangeError::NoRevision(known.revision))?.header;
        let (resources, warnings) = (Vec::new(), Vec::new());
        let (version, no_op, already_done) = (header.version, known.no_op, true);
        Ok(Some(Changed { version, no_op, already_done, resources, warnings }))
    }

    /// The rollout of what runs has ended: that is written down, or what was before comes back.
    pub(super) async fn ended(&mut self) {
        let Some(progress) = self.heard.ended.borrow_and_update().clone() else { return };
        let Some(running) = self.running.clone() else { return };
        if running.revision.version != progress.version {
            return; // something newer came in between, and said so
        }
        let report = progress.report();
        if progress.state == RolloutState::RollingBack {
            tracing::warn!(version = %progress.version, why = %report, "rollout stopped, going back");
            self.undo = Some(report);
            self.take_back().await;
            return;
        }
        if progress.state == RolloutState::Succeeded {
            self.settled = Some(running);
        }
        let (version, state) = (&progress.version, progress.state.word());
        tracing::info!(%version, state, applied = report.applied, away = report.away.len(), "rollout ended");
        if let Err(error) = self.store.end_rollout(version.revision, progress.state, report).await {
            let cause = error.source().map(ToString::to_string);
            tracing::error!(%error, cause, "the end of the rollout could not be stored: a restart repeats it");
        }
    }

    /// What the fleet took last, under a new name: nodes take nothing that is older than what they run.
    pub(super) async fn take_back(&mut self) {
        let (Some(report), Some(base)) = (self.undo.clone(), self.settled.clone()) else { return };
        let why = report.to_string();
        let new = Acceptance {
            compiled: base.compiled(),
            content: base.content.clone(),
            source: base.revision.source.clone(),
            account: Account {
                actor: SELF.to_owned(),
                comment: why.clone(),
                rollback_of: Some(base.revision.version.revision),
            },
            kind: Kind::Undo(report),
            request: None,
        };
        let now = Now::read().wall;
        match self.accept(new, now).await {
            Ok(()) => self.note_refusal(&why, now),
            Err(error) => {
                let cause = error.source().map(ToString::to_string);
                tracing::error!(%error, cause, "what ran before could not be stored again: trying on");
            }
        }
    }
}

/// Reading a large document takes a while.
async fn compiled(name: &str, content: Vec<u8>) -> Result<(Vec<u8>, Compiled), ChangeError> {
    let name = name.to_owned();
    let read = spawn_blocking(move || {
        let compiled = compile(&name, &content);
        (content, compiled)
    });
    let (content, compiled) = read.await.map_err(|_| ChangeError::Stopping)?;
    compiled.map(|compiled| (content, compiled)).map_err(|refused| ChangeError::Invalid(refused.problems))
}
