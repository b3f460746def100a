//! What nodes answer to a question that was passed on, part by part. Shared by the services that ask nodes.

use super::errors;
use crate::fleet::{AskError, Asked, BusyNode, Hub};
use futures_util::{Stream, stream};
use o1_proto::{
    convert::from_duration,
    wire::{Query, QueryAnswer, QueryFailure, QueryFailureReason, query::Ask, query_answer::Part},
};
use prost::Message as _;
use std::{future::pending, pin::Pin, sync::Arc, time::Duration};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// A response in parts.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Whom to ask, and until when; clones are the same.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) hub: Arc<Hub>,
    stop: CancellationToken,
}

impl Asker {
    pub(super) fn new(hub: Arc<Hub>, stop: CancellationToken) -> Self {
        Self { hub, stop }
    }

    /// The parts of one node's answer, with the id of the node; each within `limit`. After an error there are no more;
    /// that the node was too busy to be asked is one.
    pub(super) fn answers(
        &self,
        asked: Result<Asked, BusyNode>,
        limit: Option<Duration>,
    ) -> impl Stream<Item = (String, Result<Part, Status>)> + Send + use<> {
        let stop = self.stop.clone();
        stream::unfold(Some(asked), move |asked| {
            let stop = stop.clone();
            async move {
                let mut asked = match asked? {
                    Ok(asked) => asked,
                    Err(BusyNode(node_id)) => {
                        let busy = errors::ask(&AskError::Busy, &node_id);
                        return Some(((node_id, Err(busy)), None));
                    }
                };
                let next = next(&mut asked, limit, &stop).await.transpose()?;
                let node_id = asked.node_id.clone();
                let rest = next.is_ok().then_some(Ok(asked));
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
                limit.unwrap_or_default().as_secs()
            )));
        }
        () = stop.cancelled() => return Err(errors::stopping()),
    };
    let Some(part) = part else { return Ok(None) };
    let answer = QueryAnswer::decode(part.as_slice())
        .map_err(|error| Status::internal(format!("node `{node_id}`: {error}")))?;
    Ok(answer.part)
}

/// A question as it is passed on.
pub(super) fn encode(ask: Ask, within: Option<Duration>) -> Vec<u8> {
    Query { id: 0, ask: Some(ask), within: within.map(from_duration) }.encode_to_vec()
}

/// `None`: nothing was said.
pub(super) fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// What a node says it cannot do, as the failure of a call.
pub(super) fn status(failure: &QueryFailure, node_id: &str) -> Status {
    let message = errors::fitting(format!("node `{node_id}`: {}", failure.message));
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

/// What one of several nodes said: the part that was asked for, or why there is none. One node's trouble is no reason to
/// lose what the others say.
pub(super) fn picked<T>(
    node_id: &str,
    part: Result<Part, Status>,
    pick: impl FnOnce(Part) -> Option<T>,
) -> Result<T, QueryFailure> {
    match part.map_err(|status| failure(&status))? {
        Part::Failure(failure) => Err(failure),
        part => pick(part).ok_or_else(|| failure(&stray(node_id))),
    }
}

/// A node that answers what nobody asked.
pub(super) fn stray(node_id: &str) -> Status {
    Status::internal(format!("node `{node_id}` answered another question"))
}
