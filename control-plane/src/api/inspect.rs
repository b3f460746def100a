//! `InspectService`: questions that only nodes can answer, passed on, and their answers, passed back.

use super::errors;
use crate::{
    clock::Now,
    fleet::{Asked, Hub},
};
use futures_util::{Stream, StreamExt as _, stream};
use o1_proto::{
    convert::from_duration,
    wire::{
        ListToolsRequest, ListToolsResponse, Query, QueryAnswer, QueryFailure, QueryFailureReason,
        TailLogsRequest, TailLogsResponse, inspect_service_server::InspectService, query::Ask,
        query_answer::Part, tail_logs_response::Said,
    },
};
use prost::Message as _;
use std::{future::pending, pin::Pin, sync::Arc, time::Duration};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

/// How long a node may take for an answer that ends by itself, and between two parts of it.
const WITHIN: Duration = Duration::from_secs(10);

/// See the module.
pub struct Inspect {
    hub: Arc<Hub>,
    stop: CancellationToken,
}

impl Inspect {
    pub(super) fn new(hub: Arc<Hub>, stop: CancellationToken) -> Self {
        Self { hub, stop }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl InspectService for Inspect {
    type ListToolsStream = Answers<ListToolsResponse>;
    type TailLogsStream = Answers<TailLogsResponse>;

    async fn list_tools(
        &self,
        request: Request<ListToolsRequest>,
    ) -> Result<Response<Self::ListToolsStream>, Status> {
        let ListToolsRequest { node_id, query } = request.into_inner();
        let question = encode(Ask::Tools(query.unwrap_or_default()), Some(WITHIN));
        let asked = self.hub.ask_one(some(&node_id), &question, Now::read());
        let asked = asked.map_err(|error| errors::ask(&error, &node_id))?;
        let answers = self.answers(asked, Some(WITHIN)).map(|(node_id, part)| match part? {
            Part::Tools(part) => Ok(ListToolsResponse { node_id, part: Some(part) }),
            Part::Failure(failure) => Err(status(&failure, &node_id)),
            Part::Logs(_) => Err(Status::internal(format!("node `{node_id}` answered another question"))),
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
        let asked = self.hub.ask_all(some(&node_id), &question, Now::read());
        let asked = asked.map_err(|error| errors::ask(&error, &node_id))?;
        // One node's trouble is no reason to lose the lines of the others.
        let said = |(node_id, part): (String, Result<Part, Status>)| {
            let said = match part {
                Ok(Part::Logs(part)) => Said::Part(part),
                Ok(Part::Failure(failure)) => Said::Failure(failure),
                Ok(Part::Tools(_)) => Said::Failure(failure(&Status::internal("another question's answer"))),
                Err(status) => Said::Failure(failure(&status)),
            };
            Ok(TailLogsResponse { node_id, said: Some(said) })
        };
        let answers = asked.into_iter().map(|asked| self.answers(asked, limit).map(said));
        Ok(Response::new(Box::pin(stream::select_all(answers.map(Box::pin)))))
    }
}

impl Inspect {
    /// The parts of one node's answer, with the id of the node. After an error there are no more.
    fn answers(
        &self,
        asked: Asked,
        limit: Option<Duration>,
    ) -> impl Stream<Item = (String, Result<Part, Status>)> + Send + use<> {
        let stop = self.stop.clone();
        stream::unfold(Some(asked), move |asked| {
            let stop = stop.clone();
            async move {
                let mut asked = asked?;
                let next = next(&mut asked, limit, &stop).await.transpose()?;
                let node_id = asked.node_id.clone();
                let rest = next.is_ok().then_some(asked);
                Some(((node_id, next), rest))
            }
        })
    }
}

async fn next(
    asked: &mut Asked,
    limit: Option<Duration>,
    stop: &CancellationToken,
) -> Result<Option<Part>, Status> {
    let late = async {
        match limit {
            Some(limit) => sleep(limit).await,
            None => pending().await,
        }
    };
    let node_id = asked.node_id.clone();
    let part = tokio::select! {
        part = asked.next() => part.map_err(|lost| errors::lost(lost, &node_id))?,
        () = late => {
            return Err(Status::deadline_exceeded(format!(
                "node `{node_id}` did not answer within {} s; is it of an older version?",
                WITHIN.as_secs()
            )));
        }
        () = stop.cancelled() => return Err(errors::stopping()),
    };
    let Some(part) = part else { return Ok(None) };
    let answer = QueryAnswer::decode(part.as_slice())
        .map_err(|error| Status::internal(format!("node `{node_id}`: {error}")))?;
    Ok(answer.part)
}

fn encode(ask: Ask, within: Option<Duration>) -> Vec<u8> {
    Query { id: 0, ask: Some(ask), within: within.map(from_duration) }.encode_to_vec()
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// What a node says it cannot do, as the failure of a call.
fn status(failure: &QueryFailure, node_id: &str) -> Status {
    let message = format!("node `{node_id}`: {}", failure.message);
    match failure.reason() {
        QueryFailureReason::NotFound => Status::not_found(message),
        QueryFailureReason::Busy => Status::resource_exhausted(message),
        QueryFailureReason::Unsupported => Status::failed_precondition(message),
        QueryFailureReason::Gone => Status::unavailable(message),
        QueryFailureReason::Timeout => Status::deadline_exceeded(message),
        QueryFailureReason::Unspecified => Status::unknown(message),
    }
}

/// The failure of a call, as what one node could not do.
fn failure(status: &Status) -> QueryFailure {
    let reason = match status.code() {
        Code::Unavailable => QueryFailureReason::Gone,
        Code::ResourceExhausted => QueryFailureReason::Busy,
        Code::DeadlineExceeded => QueryFailureReason::Timeout,
        _ => QueryFailureReason::Unspecified,
    };
    QueryFailure { reason: reason.into(), message: status.message().to_owned() }
}
