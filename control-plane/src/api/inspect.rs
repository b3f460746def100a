//! `InspectService`: questions that only nodes can answer, passed on, and their answers, passed back.

use super::{
    answers::{Answers, Asker, encode, failure, some, status, stray},
    errors,
};
use crate::{clock::Now, fleet::Hub};
use futures_util::{StreamExt as _, stream};
use o1_proto::wire::{
    ListCallsRequest, ListCallsResponse, ListToolsRequest, ListToolsResponse, TailLogsRequest,
    TailLogsResponse, inspect_service_server::InspectService, list_calls_response::Said as Heard, query::Ask,
    query_answer::Part, tail_logs_response::Said,
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// How long a node may take for an answer that ends by itself, and between two parts of it.
const WITHIN: Duration = Duration::from_secs(10);

/// See the module.
pub struct Inspect(Asker);

impl Inspect {
    pub(super) fn new(hub: Arc<Hub>, stop: CancellationToken) -> Self {
        Self(Asker::new(hub, stop))
    }
}

#[tonic::async_trait]
impl InspectService for Inspect {
    type ListToolsStream = Answers<ListToolsResponse>;
    type ListCallsStream = Answers<ListCallsResponse>;
    type TailLogsStream = Answers<TailLogsResponse>;

    async fn list_tools(
        &self,
        request: Request<ListToolsRequest>,
    ) -> Result<Response<Self::ListToolsStream>, Status> {
        let ListToolsRequest { node_id, query } = request.into_inner();
        let question = encode(Ask::Tools(query.unwrap_or_default()), Some(WITHIN));
        let asked = self.0.hub.ask_one(some(&node_id), &question, Now::read());
        let asked = asked.map_err(|error| errors::ask(&error, &node_id))?;
        let answers = self.0.answers(asked, Some(WITHIN)).map(|(node_id, part)| match part? {
            Part::Tools(part) => Ok(ListToolsResponse { node_id, part: Some(part) }),
            Part::Failure(failure) => Err(status(&failure, &node_id)),
            Part::Logs(_) | Part::Purged(_) | Part::Calls(_) => Err(stray(&node_id)),
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn tail_logs(
        &self,
        request: Request<TailLogsRequest>,
    ) -> Result<Response<Self::TailLogsStream>, Status> {
        let TailLogsRequest { node_id, query } = request.into_inner();
        let query = query.unwrap_or_default();
        if query.upstream.is_empty() {
            return Err(errors::invalid("query.upstream: it is missing"));
        }
        let limit = (!query.follow).then_some(WITHIN);
        let question = encode(Ask::Logs(query), limit);
        let asked = self.0.hub.ask_all(some(&node_id), &question, Now::read());
        let asked = asked.map_err(|error| errors::ask(&error, &node_id))?;
        // One node's trouble is no reason to lose the lines of the others.
        let said = |(node_id, part): (String, Result<Part, Status>)| {
            let said = match part {
                Ok(Part::Logs(part)) => Said::Part(part),
                Ok(Part::Failure(failure)) => Said::Failure(failure),
                Ok(Part::Tools(_) | Part::Purged(_) | Part::Calls(_)) => {
                    Said::Failure(failure(&stray(&node_id)))
                }
                Err(status) => Said::Failure(failure(&status)),
            };
            Ok(TailLogsResponse { node_id, said: Some(said) })
        };
        let answers = asked.into_iter().map(|asked| self.0.answers(asked, limit).map(said));
        Ok(Response::new(Box::pin(stream::select_all(answers.map(Box::pin)))))
    }

    async fn list_calls(
        &self,
        request: Request<ListCallsRequest>,
    ) -> Result<Response<Self::ListCallsStream>, Status> {
        let ListCallsRequest { node_id, query } = request.into_inner();
        let question = encode(Ask::Calls(query.unwrap_or_default()), Some(WITHIN));
        let asked = self.0.hub.ask_all(some(&node_id), &question, Now::read());
        let asked = asked.map_err(|error| errors::ask(&error, &node_id))?;
        let said = |(node_id, part): (String, Result<Part, Status>)| {
            let said = match part {
                Ok(Part::Calls(part)) => Heard::Part(part),
                Ok(Part::Failure(failure)) => Heard::Failure(failure),
                Ok(Part::Tools(_) | Part::Logs(_) | Part::Purged(_)) => {
                    Heard::Failure(failure(&stray(&node_id)))
                }
                Err(status) => Heard::Failure(failure(&status)),
            };
            Ok(ListCallsResponse { node_id, said: Some(said) })
        };
        let answers = asked.into_iter().map(|asked| self.0.answers(asked, Some(WITHIN)).map(said));
        Ok(Response::new(Box::pin(stream::select_all(answers.map(Box::pin)))))
    }
}
