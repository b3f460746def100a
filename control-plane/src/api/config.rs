//! `ConfigService`: is this document valid, what runs, what ran before.

use super::{encode, errors, paging};
use crate::{config::compile, store::Store};
use o1_proto::{
    manifest,
    wire::{
        ConfigDocument, GetConfigRequest, GetConfigResponse, ListConfigRevisionsRequest,
        ListConfigRevisionsResponse, ValidateConfigRequest, ValidateConfigResponse,
        config_service_server::ConfigService,
    },
};
use std::{path::PathBuf, sync::Arc};
use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status};

/// See the module.
pub struct Config {
    store: Arc<dyn Store>,
    path: PathBuf,
}

impl Config {
    pub(super) fn new(store: Arc<dyn Store>, path: PathBuf) -> Self {
        Self { store, path }
    }
}

#[tonic::async_trait]
impl ConfigService for Config {
    async fn validate_config(
        &self,
        request: Request<ValidateConfigRequest>,
    ) -> Result<Response<ValidateConfigResponse>, Status> {
        let document = request.into_inner().document.ok_or_else(|| errors::invalid("document: missing"))?;
        let file = match document.source.as_str() {
            "" => self.path.display().to_string(),
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

    async fn get_config(
        &self,
        request: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
        let number = request.into_inner().revision;
        let found = match number {
            0 => self.store.latest().await,
            number => self.store.revision(number).await,
        };
        let stored = found.map_err(|error| errors::store(&error))?.ok_or_else(|| {
            Status::not_found(match number {
                0 => "no configuration has been accepted yet".to_owned(),
                number => format!("there is no revision {number}: ListConfigRevisions shows those that are"),
            })
        })?;
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
