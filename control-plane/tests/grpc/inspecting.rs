//! Questions to nodes, passed on and back.

use crate::harness::*;
use o1_proto::wire::{
    self, CallsPart, CallsQuery, InspectedTool, ListCallsRequest, ListToolsRequest, ListToolsResponse,
    LogLine, LogsPart, LogsQuery, Query, QueryAnswer, QueryFailure, QueryFailureReason, RecentCall,
    TailLogsRequest, TailLogsResponse, ToolsPart, ToolsQuery, inspect_service_client::InspectServiceClient,
    list_calls_response::Said as Heard, query::Ask, query_answer::Part, sync_request, sync_response::Msg,
    tail_logs_response::Said,
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming, transport::Channel};

async fn client(plane: &Plane) -> InspectServiceClient<Channel> {
    InspectServiceClient::new(plane.channel().await)
}

fn tools(node: &str) -> ListToolsRequest {
    let query = ToolsQuery { server: "coding".into(), principal: String::new() };
    ListToolsRequest { node_id: node.into(), query: Some(query) }
}

fn logs(node: &str) -> TailLogsRequest {
    let query = LogsQuery { upstream: "files".into(), tail: 10, follow: true };
    TailLogsRequest { node_id: node.into(), query: Some(query) }
}

/// The query that a node is asked next.
async fn query(node: &mut Node) -> (u64, Ask) {
    match node.next().await {
        Ok(Some(Msg::Query(Query { id, ask: Some(ask), .. }))) => (id, ask),
        other => panic!("no query: {other:?}"),
    }
}

async fn answer(node: &Node, id: u64, part: Part, last: bool) {
    node.say(sync_request::Msg::Answer(QueryAnswer { id, part: Some(part), last })).await;
}

fn named(name: &str) -> Part {
    let tool = InspectedTool { name: name.into(), ..InspectedTool::default() };
    Part::Tools(ToolsPart { tools: vec![tool], upstreams: vec![] })
}

fn line(text: &str) -> Part {
    let line = LogLine { text: text.into(), ..LogLine::default() };
    Part::Logs(LogsPart { lines: vec![line], ..LogsPart::default() })
}

async fn next<T>(stream: &mut Streaming<T>) -> Result<Option<T>, Status> {
    timeout(SOON, stream.message()).await.expect("something in time")
}

fn names(response: Option<ListToolsResponse>) -> Vec<String> {
    response.unwrap().part.unwrap().tools.into_iter().map(|tool| tool.name).collect()
}

#[tokio::test]
async fn the_parts_of_an_answer_come_back_in_order_from_the_node_that_was_asked() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let (mut one, _) = Node::join(plane.listen, running(1, &target)).await;
    let (mut two, _) = Node::join(plane.listen, running(2, &target)).await;
    let mut client = client(&plane).await;
    for (node, id, asked) in [(&mut one, "n1", ""), (&mut two, "n2", "n2")] {
        let mut answers = client.list_tools(tools(asked)).await.unwrap().into_inner();
        let (query, ask) = query(node).await;
        assert!(matches!(ask, Ask::Tools(asked) if asked.server == "coding"));
        answer(node, query, named("a"), false).await;
        answer(node, query, named("b"), true).await;
        let first = next(&mut answers).await.unwrap().unwrap();
        assert_eq!(first.node_id, id);
        assert_eq!(names(Some(first)), ["a"]);
        assert_eq!(names(next(&mut answers).await.unwrap()), ["b"]);
        assert!(next(&mut answers).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn whoever_cannot_be_asked_or_does_not_know_is_told_apart() {
    let plane = Plane::with(&document(3101)).await;
    let mut client = client(&plane).await;
    let refused = client.list_tools(tools("")).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "no node is connected"));
    let target = plane.target().await.unwrap();
    let (mut node, _) = Node::join(plane.listen, running(1, &target)).await;
    let refused = client.list_tools(tools("n7")).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, "no node `n7`; there are: n1"));
    let refused = client.tail_logs(TailLogsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    let mut answers = client.list_tools(tools("n1")).await.unwrap().into_inner();
    let (id, _) = query(&mut node).await;
    let reason = QueryFailureReason::NotFound.into();
    let failure = QueryFailure { reason, message: "no server `coding`".into() };
    answer(&node, id, Part::Failure(failure), true).await;
    let refused = next(&mut answers).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, "node `n1`: no server `coding`"));

    let mut answers = client.list_tools(tools("n1")).await.unwrap().into_inner();
    query(&mut node).await;
    drop(node);
    assert_eq!(next(&mut answers).await.unwrap_err().code(), Code::Unavailable);
    plane.sees(1, |node| node.connected_at.is_some()).await;
    let refused = eventually(async || match client.list_tools(tools("n1")).await {
        Err(refused) => Ok(refused),
        Ok(_) => Err("it is still there".to_owned()),
    })
    .await;
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "node `n1` is not connected"));
}

#[tokio::test]
async fn every_node_is_asked_for_its_log_and_told_when_nobody_reads_on() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let (mut one, _) = Node::join(plane.listen, running(1, &target)).await;
    let (mut two, _) = Node::join(plane.listen, running(2, &target)).await;
    let mut client = client(&plane).await;
    let mut answers = client.tail_logs(logs("")).await.unwrap().into_inner();
    let ((first, _), (second, _)) = (query(&mut one).await, query(&mut two).await);
    answer(&one, first, line("from one"), false).await;
    answer(&two, second, line("from two"), false).await;
    let mut said = Vec::new();
    for _ in 0..2 {
        let TailLogsResponse { node_id, said: Some(Said::Part(part)) } =
            next(&mut answers).await.unwrap().unwrap()
        else {
            panic!("no part")
        };
        said.push((node_id, part.lines[0].text.clone()));
    }
    said.sort();
    assert_eq!(said, [("n1".into(), "from one".into()), ("n2".to_owned(), "from two".to_owned())]);
    // One goes away; the other's lines still come.
    drop(one);
    match next(&mut answers).await.unwrap().unwrap() {
        TailLogsResponse { node_id, said: Some(Said::Failure(failure)) } => {
            assert_eq!((node_id.as_str(), failure.reason()), ("n1", QueryFailureReason::Gone));
        }
        other => panic!("{other:?}"),
    }
    answer(&two, second, line("still here"), false).await;
    assert!(matches!(next(&mut answers).await.unwrap().unwrap().said, Some(Said::Part(_))));
    drop(answers);
    let (id, ask) = query(&mut two).await;
    assert!(id == second && matches!(ask, Ask::Cancel(_)), "{ask:?}");
}

#[tokio::test]
async fn a_reader_that_does_not_read_delays_nobody() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let (mut node, _) = Node::join(plane.listen, running(1, &target)).await;
    let mut client = client(&plane).await;
    let mut answers = client.tail_logs(logs("n1")).await.unwrap().into_inner();
    let (id, _) = query(&mut node).await;
    // More than every buffer on the way holds.
    let long = "x".repeat(60_000);
    for _ in 0..400 {
        answer(&node, id, line(&long), false).await;
    }
    let cancelled = query(&mut node).await;
    assert!(cancelled.0 == id && matches!(cancelled.1, Ask::Cancel(_)));
    node.beat(1, Some(&target)).await;
    let failure = loop {
        match next(&mut answers).await.unwrap().expect("a word about the end").said {
            Some(Said::Failure(failure)) => break failure,
            Some(Said::Part(_)) => {}
            None => panic!("nothing said"),
        }
    };
    assert_eq!(failure.reason(), QueryFailureReason::Busy);
    assert!(next(&mut answers).await.unwrap().is_none());
}

#[tokio::test]
async fn a_control_plane_that_stops_ends_every_answer() {
    let mut plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let (mut node, _) = Node::join(plane.listen, running(1, &target)).await;
    let mut client = client(&plane).await;
    let mut answers = client.tail_logs(logs("n1")).await.unwrap().into_inner();
    query(&mut node).await;
    plane.begin_stop();
    match next(&mut answers).await {
        Ok(Some(wire::TailLogsResponse { said: Some(Said::Failure(_)), .. })) | Err(_) => {}
        other => panic!("{other:?}"),
    }
    drop((node, answers, client));
    plane.stopped().await;
}

#[tokio::test]
async fn every_node_tells_its_calls_and_one_that_cannot_does_not_hide_the_others() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let (mut one, _) = Node::join(plane.listen, running(1, &target)).await;
    let (mut two, _) = Node::join(plane.listen, running(2, &target)).await;
    let mut client = client(&plane).await;
    let asked = CallsQuery { upstream: "weather".into(), limit: 7, failed: true };
    let request = ListCallsRequest { node_id: String::new(), query: Some(asked.clone()) };
    let mut answers = client.list_calls(request).await.unwrap().into_inner();
    let ((first, ask), (second, _)) = (query(&mut one).await, query(&mut two).await);
    assert_eq!(ask, Ask::Calls(asked));
    let call = RecentCall { name: "forecast".into(), ..RecentCall::default() };
    answer(&one, first, Part::Calls(CallsPart { calls: vec![call], seen: 9, kept: 1 }), true).await;
    let reason = QueryFailureReason::Unsupported.into();
    answer(&two, second, Part::Failure(QueryFailure { reason, message: "older".into() }), true).await;
    let mut said = Vec::new();
    while let Some(answer) = next(&mut answers).await.unwrap() {
        said.push(match answer.said.unwrap() {
            Heard::Part(part) => format!("{}: {} of {}", answer.node_id, part.calls[0].name, part.seen),
            Heard::Failure(failure) => format!("{}: {}", answer.node_id, failure.message),
        });
    }
    said.sort();
    assert_eq!(said, ["n1: forecast of 9", "n2: older"]);
}
