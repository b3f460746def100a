//! `InspectService`: questions that only nodes can answer, passed on, and their answers, passed back.

use super::{
    answers::{Answers, Asker, encode, picked, some, status, stray},
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
        let answers = self.0.answers(Ok(asked), Some(WITHIN)).map(|(node_id, part)| match part? {
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
        let said = |(node_id, part): (String, Result<Part, Status>)| {
            let said = picked(&node_id, part, |part| match part {
                Part::Logs(part) => Some(part),
                _ => None,
            });
            let said = said.map_or_else(Said::Failure, Said::Part);
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
            let said = picked(&node_id, part, |part| match part {
                Part::Calls(part) => Some(part),
                _ => None,
            });
            let said = said.map_or_else(Heard::Failure, Heard::Part);
            Ok(ListCallsResponse { node_id, said: Some(said) })
        };
        let answers = asked.into_iter().map(|asked| self.0.answers(asked, Some(WITHIN)).map(said));
        Ok(Response::new(Box::pin(stream::select_all(answers.map(Box::pin)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Hello, Identity, NodeUid, Out, Outbox, Question, StreamId};
    use futures_util::FutureExt as _;
    use o1_proto::wire::{CallsPart, QueryAnswer, QueryFailureReason};
    use prost::Message as _;
    use std::collections::BTreeMap;
    use tokio::time::timeout;

    const NODES: u16 = 300;
    /// How many questions one node is asked at a time.
    const AT_ONCE: usize = 16;

    /// A fleet of that many, each with its stream and what it is sent.
    fn fleet() -> (Arc<Hub>, Vec<(StreamId, Outbox)>) {
        let hub = Arc::new(Hub::new(vec![], Now::read()));
        let join = |number: u16| {
            let mut uid = [0; 16];
            uid[..2].copy_from_slice(&number.to_be_bytes());
            let identity = Identity {
                node_id: format!("n{number}"),
                uid: NodeUid::from_bytes(uid),
                epoch: 1,
                labels: BTreeMap::new(),
                build_version: String::new(),
                started_at: None,
                listen: String::new(),
                admin: String::new(),
            };
            let outbox = Outbox::new();
            let hello = Hello { identity, applied: None, refused: None };
            (hub.hello(hello, &outbox, Now::read()).expect("a welcome"), outbox)
        };
        let nodes = (1..=NODES).map(join).collect();
        (hub, nodes)
    }

    fn calls(node_id: &str) -> Request<ListCallsRequest> {
        Request::new(ListCallsRequest { node_id: node_id.to_owned(), query: None })
    }

    /// Every question that waits for the node is answered; how many.
    fn answer(hub: &Hub, (stream, outbox): &(StreamId, Outbox)) -> usize {
        let mut answered = 0;
        while let Some(Some(out)) = outbox.next().now_or_never() {
            let Out::Query { id, question: Question::Ask(_) } = out else { continue };
            let part = Some(Part::Calls(CallsPart::default()));
            hub.answer(*stream, id, QueryAnswer { id, part, last: true }.encode_to_vec(), true);
            answered += 1;
        }
        answered
    }

    /// What each node said: nothing, or why it did not answer.
    async fn said(
        answers: Response<Answers<ListCallsResponse>>,
    ) -> BTreeMap<String, Option<QueryFailureReason>> {
        let one = |response: Result<ListCallsResponse, Status>| {
            let ListCallsResponse { node_id, said } = response.expect("no failure of the whole call");
            match said.expect("one of the two") {
                Heard::Part(_) => (node_id, None),
                Heard::Failure(failure) => (node_id, Some(failure.reason())),
            }
        };
        let all = answers.into_inner().map(one).collect::<Vec<_>>();
        let all = timeout(2 * WITHIN, all).await.expect("an end in time");
        let by_node: BTreeMap<_, _> = all.iter().cloned().collect();
        assert_eq!(by_node.len(), all.len(), "each node is named once");
        by_node
    }

    #[tokio::test]
    async fn one_busy_node_of_a_large_fleet_is_named_and_the_others_answer() {
        let (hub, nodes) = fleet();
        let inspect = Inspect::new(hub.clone(), CancellationToken::new());
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(inspect.list_calls(calls("n1")).await.unwrap());
        }
        let tools = inspect.list_tools(Request::new(ListToolsRequest::default())).await;
        drop(tools.expect("another one knows its tools too"));
        let answers = inspect.list_calls(calls("")).await.unwrap();
        assert_eq!(answer(&hub, &nodes[0]), AT_ONCE, "and not once more");
        assert!(nodes[1..].iter().all(|node| answer(&hub, node) == 1));
        let all = said(answers).await;
        assert_eq!(all.len(), usize::from(NODES));
        for (node, failure) in all {
            assert_eq!(failure, (node == "n1").then_some(QueryFailureReason::Busy), "{node}");
        }
        // Its own answers came, and so it has room again.
        for answers in held {
            assert_eq!(said(answers).await, [("n1".to_owned(), None)].into());
        }
        let answers = inspect.list_calls(calls("")).await.unwrap();
        assert!(nodes.iter().all(|node| answer(&hub, node) == 1));
        assert!(said(answers).await.values().all(Option::is_none));
    }
}
