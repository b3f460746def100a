//! `ConfigService`: is this document valid, what should run from now on, what runs, what ran before.

use super::{audit::Changes, door, encode, errors, orders, paging, rollouts};
use crate::{
    access::{Caller, audit::Deed},
    config::{Change, Changed, Desk, Wish, compile},
    fleet::Hub,
    store::Store,
};
use futures_util::Stream;
use o1_proto::{
    manifest,
    wire::{
        ApplyConfigRequest, ApplyConfigResponse, ConfigDocument, ConfigVersion, GetConfigRequest,
        GetConfigResponse, ListConfigRevisionsRequest, ListConfigRevisionsResponse, RollbackConfigRequest,
        RollbackConfigResponse, ValidateConfigRequest, ValidateConfigResponse, WatchRolloutRequest,
        WatchRolloutResponse, config_service_server::ConfigService,
    },
};
use std::{pin::Pin, sync::Arc};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// What a document is called that has no name.
const NAMELESS: &str = "document";

/// See the module.
pub struct Config {
    store: Arc<dyn Store>,
    desk: Desk,
    hub: Arc<Hub>,
    changes: Changes,
    stop: CancellationToken,
}

impl Config {
    pub(super) fn new(
        store: Arc<dyn Store>,
        desk: Desk,
        hub: Arc<Hub>,
        changes: Changes,
        stop: CancellationToken,
    ) -> Self {
        Self { store, desk, hub, changes, stop }
    }

    /// Asks for a change, and notes who did and what came of it.
    async fn change(&self, caller: &Caller, change: Change) -> Result<Changed, Status> {
        if change.dry_run {
            return carry_out(self.desk.clone(), change).await;
        }
        let (action, subject) = match &change.wish {
            Wish::Document(_, name) => ("ConfigService/ApplyConfig", name.clone()),
            Wish::Revision(number) => ("ConfigService/RollbackConfig", format!("revision {number}")),
        };
        let (why, request_id) = (change.comment.clone(), change.request_id.clone());
        let deed = Deed { action, subject, why, request_id };
        let told = |changed: &Changed| match (changed.no_op, changed.already_done) {
            (_, true) => format!("the same request as before: version {}", changed.version),
            (true, _) => format!("nothing changed: version {}", changed.version),
            _ => format!("version {}", changed.version),
        };
        self.changes.noted(caller, deed, carry_out(self.desk.clone(), change), told).await
    }
}

/// Asks for a change, and says in the log who did and what came of it.
async fn carry_out(desk: Desk, change: Change) -> Result<Changed, Status> {
    let Change { dry_run, actor, comment, request_id, .. } = change.clone();
    let wish = match &change.wish {
        Wish::Document(_, name) => format!("apply {name}"),
        Wish::Revision(number) => format!("roll back to {number}"),
    };
    match desk.change(change).await {
        Ok(changed) => {
            let (version, no_op) = (&changed.version, changed.no_op);
            tracing::info!(actor, wish, comment, request_id, dry_run, %version, no_op, "somebody changed the configuration");
            Ok(changed)
        }
        Err(error) => {
            let status = errors::change(&error);
            tracing::warn!(
                actor,
                wish,
                comment,
                request_id,
                why = status.message(),
                "somebody changed the configuration in vain"
            );
            Err(status)
        }
    }
}

fn if_version(version: Option<&ConfigVersion>) -> Option<(u64, u64)> {
    version.map(|version| (version.generation, version.revision))
}

#[tonic::async_trait]
impl ConfigService for Config {
    async fn validate_config(
        &self,
        request: Request<ValidateConfigRequest>,
    ) -> Result<Response<ValidateConfigResponse>, Status> {
        let document = request.into_inner().document.ok_or_else(|| errors::invalid("document: missing"))?;
        let file = match document.source.as_str() {
            "" => NAMELESS.to_owned(),
            source => source.to_owned(),
        };
        let compiled = spawn_blocking(move || compile(&file, &document.content))
            .await
            .map_err(|_| Status::internal("reading the document failed: see the log of the control plane"))?;
        let (problems, warnings) = match compiled {
            Ok(compiled) => (Vec::new(), compiled.warnings),
            Err(refused) => (refused.problems, refused.warnings),
        };
        Ok(Response::new(ValidateConfigResponse {
            valid: problems.is_empty(),
            problems: problems.iter().map(encode::problem).collect(),
            warnings: warnings.iter().map(encode::problem).collect(),
        }))
    }

    async fn apply_config(
        &self,
        request: Request<ApplyConfigRequest>,
    ) -> Result<Response<ApplyConfigResponse>, Status> {
        let caller = door::caller(&request);
        let asked = request.into_inner();
        let document = asked.document.ok_or_else(|| errors::invalid("document: missing"))?;
        let name = if document.source.is_empty() { NAMELESS.to_owned() } else { document.source };
        let change = Change {
            wish: Wish::Document(document.content, orders::bounded("document.source", name)?),
            if_version: if_version(asked.if_version.as_ref()),
            dry_run: asked.dry_run,
            request_id: orders::request_id(asked.request_id)?,
            actor: caller.actor(),
            comment: orders::bounded("comment", asked.comment)?,
        };
        let changed = self.change(&caller, change).await?;
        Ok(Response::new(ApplyConfigResponse {
            version: Some(encode::version(&changed.version)),
            no_op: changed.no_op,
            changes: changed.resources.iter().map(encode::resource_change).collect(),
            warnings: changed.warnings.iter().map(encode::problem).collect(),
            already_done: changed.already_done,
        }))
    }

    async fn rollback_config(
        &self,
        request: Request<RollbackConfigRequest>,
    ) -> Result<Response<RollbackConfigResponse>, Status> {
        let caller = door::caller(&request);
        let asked = request.into_inner();
        if asked.to_revision == 0 {
            return Err(errors::invalid("to_revision: name one; ListConfigRevisions shows those that are"));
        }
        let change = Change {
            wish: Wish::Revision(asked.to_revision),
            if_version: if_version(asked.if_version.as_ref()),
            dry_run: asked.dry_run,
            request_id: orders::request_id(asked.request_id)?,
            actor: caller.actor(),
            comment: orders::reason(asked.reason)?,
        };
        let changed = self.change(&caller, change).await?;
        Ok(Response::new(RollbackConfigResponse {
            version: Some(encode::version(&changed.version)),
            no_op: changed.no_op,
            changes: changed.resources.iter().map(encode::resource_change).collect(),
            already_done: changed.already_done,
        }))
    }

    type WatchRolloutStream = Pin<Box<dyn Stream<Item = Result<WatchRolloutResponse, Status>> + Send>>;

    async fn watch_rollout(
        &self,
        request: Request<WatchRolloutRequest>,
    ) -> Result<Response<Self::WatchRolloutStream>, Status> {
        let (hub, store, stop) = (self.hub.clone(), self.store.clone(), self.stop.clone());
        let pictures = rollouts::watch(hub, store, stop, request.into_inner()).await?;
        Ok(Response::new(Box::pin(pictures)))
    }

    async fn get_config(
        &self,
        request: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
        let number = request.into_inner().revision;
        let found = match number {
            0 => self.store.latest().await,
            number => self.store.revision(number).await,
        };
        let stored =
            found.map_err(|error| errors::store(&error))?.ok_or_else(|| errors::no_revision(number))?;
        let content = manifest::redact(&stored.content);
        Ok(Response::new(GetConfigResponse {
            document: Some(ConfigDocument { content, source: stored.header.source.clone() }),
            revision: Some(encode::revision(&stored.header)),
        }))
    }

    async fn list_config_revisions(
        &self,
        request: Request<ListConfigRevisionsRequest>,
    ) -> Result<Response<ListConfigRevisionsResponse>, Status> {
        let request = request.into_inner();
        let size = paging::size(request.page_size)?;
        let before = paging::key("revision", &request.page_token)?
            .map(|key| key.parse().map_err(|_| paging::unknown(&request.page_token)))
            .transpose()?;
        let found = self.store.revisions(before, size + 1).await.map_err(|error| errors::store(&error))?;
        let mut revisions: Vec<_> = found.iter().map(encode::revision).collect();
        let next_page_token = if paging::cut(&mut revisions, size) {
            let last = &found[revisions.len() - 1];
            paging::token("revision", &last.version.revision.to_string())
        } else {
            String::new()
        };
        Ok(Response::new(ListConfigRevisionsResponse { revisions, next_page_token }))
    }
}
