//! Orders to forget, passed on to the nodes, and what they say they did.

use crate::harness::*;
use o1_proto::wire::{
    self, PurgeCacheRequest, PurgeCacheResponse, PurgePart, PurgeQuery, Query, QueryAnswer, QueryFailure,
    QueryFailureReason, admin_service_client::AdminServiceClient, purge_cache_response::Said, query::Ask,
    query_answer::Part, sync_request, sync_response::Msg,
};
use std::collections::BTreeMap;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};

fn order(node: &str, upstream: &str) -> PurgeCacheRequest {
    PurgeCacheRequest { node_id: node.into(), upstream: upstream.into(), tier: wire::Tier::Resources.into() }
}

async fn purge(plane: &Plane, order: PurgeCacheRequest) -> Result<Streaming<PurgeCacheResponse>, Status> {
    let mut client = AdminServiceClient::new(plane.channel().await);
    Ok(client.purge_cache(order).await?.into_inner())
}

/// The order that a node is given next.
async fn ordered(node: &mut Node) -> (u64, PurgeQuery) {
    match node.next().await {
        Ok(Some(Msg::Query(Query { id, ask: Some(Ask::Purge(order)), within: Some(_) }))) => (id, order),
        other => panic!("no order with a limit: {other:?}"),
    }
}

async fn answer(node: &Node, id: u64, part: Part) {
    node.say(sync_request::Msg::Answer(QueryAnswer { id, part: Some(part), last: true })).await;
}

fn purged(entries: u64) -> Part {
    Part::Purged(PurgePart { entries, bytes: 100 * entries })
}

fn refusal(reason: QueryFailureReason) -> Part {
    Part::Failure(QueryFailure { reason: reason.into(), message: "no such upstream here".into() })
}

/// Everything that is said, by node: entries, or why not.
async fn outcome(
    mut answers: Streaming<PurgeCacheResponse>,
) -> BTreeMap<String, Result<u64, QueryFailureReason>> {
    let mut said = BTreeMap::new();
    while let Some(one) = timeout(SOON, answers.message()).await.expect("an end in time").unwrap() {
        let done = match one.said.expect("one of the two") {
            Said::Purged(part) => {
                assert_eq!(part.bytes, 100 * part.entries);
                Ok(part.entries)
            }
            Said::Failure(failure) => {
                assert!(!failure.message.is_empty());
                Err(failure.reason())
            }
        };
        assert!(said.insert(one.node_id, done).is_none(), "each node is named once");
    }
    said
}

#[tokio::test]
async fn every_node_is_told_what_to_forget_and_says_what_it_forgot() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let (mut one, _) = Node::join(plane.listen, running(1, &target)).await;
    let (mut two, _) = Node::join(plane.listen, running(2, &target)).await;
    let answers = purge(&plane, order("", "weather")).await.unwrap();
    for (node, entries) in [(&mut one, 3), (&mut two, 0)] {
        let (id, order) = ordered(node).await;
        assert_eq!((order.upstream.as_str(), order.tier()), ("weather", wire::Tier::Resources));
        answer(node, id, purged(entries)).await;
    }
    assert_eq!(outcome(answers).await, [("n1".into(), Ok(3)), ("n2".into(), Ok(0))].into());

    // One of them alone, everything.
    let everything = PurgeCacheRequest { node_id: "n2".into(), ..Default::default() };
    let answers = purge(&plane, everything).await.unwrap();
    let (id, order) = ordered(&mut two).await;
    assert_eq!((order.upstream.as_str(), order.tier()), ("", wire::Tier::Unspecified));
    answer(&two, id, purged(7)).await;
    assert_eq!(outcome(answers).await, [("n2".into(), Ok(7))].into());
    one.beat(1, Some(&target)).await; // it was asked nothing
}

#[tokio::test]
async fn one_nodes_trouble_is_said_and_is_not_that_of_the_others() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let mut nodes = Vec::new();
    for uid in 1..=5 {
        nodes.push(Node::join(plane.listen, running(uid, &target)).await.0);
    }
    let begun = Instant::now();
    let answers = purge(&plane, order("", "weather")).await.unwrap();
    let mut ids = Vec::new();
    for node in &mut nodes {
        ids.push(ordered(node).await.0);
    }
    answer(&nodes[0], ids[0], purged(1)).await;
    answer(&nodes[1], ids[1], refusal(QueryFailureReason::NotFound)).await;
    answer(&nodes[2], ids[2], refusal(QueryFailureReason::Unsupported)).await;
    // The fourth is slow, the fifth goes away.
    drop(nodes.remove(4));
    let said = outcome(answers).await;
    let expected = [
        ("n1".into(), Ok(1)),
        ("n2".into(), Err(QueryFailureReason::NotFound)),
        ("n3".into(), Err(QueryFailureReason::Unsupported)),
        ("n4".into(), Err(QueryFailureReason::Timeout)),
        ("n5".into(), Err(QueryFailureReason::Gone)),
    ];
    assert_eq!(said, expected.into());
    assert!(begun.elapsed() < SOON, "nobody waits for the slow one for ever: {:?}", begun.elapsed());
    match nodes[3].next().await {
        Ok(Some(Msg::Query(Query { id, ask: Some(Ask::Cancel(_)), .. }))) => assert_eq!(id, ids[3]),
        other => panic!("the slow one is not told that nobody waits: {other:?}"),
    }
}

#[tokio::test]
async fn nodes_that_are_away_are_named() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let (mut one, _) = Node::join(plane.listen, running(1, &target)).await;
    let (mut two, _) = Node::join(plane.listen, running(2, &target)).await;
    two.beat(1, Some(&target)).await;
    drop(two);
    plane.sees(2, |node| node.connected_at.is_some()).await;
    let answers = eventually(async || {
        let mut answers = purge(&plane, order("", "")).await.map_err(|status| status.to_string())?;
        // The one that is away is said at once, before anybody answers.
        let (id, _) = ordered(&mut one).await;
        let first = timeout(std::time::Duration::from_millis(500), answers.message()).await;
        answer(&one, id, purged(2)).await;
        match first {
            Ok(Ok(Some(PurgeCacheResponse { node_id, said: Some(Said::Failure(failure)) }))) => {
                Ok((node_id, failure, outcome(answers).await))
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let (node_id, failure, rest) = answers;
    assert_eq!((node_id.as_str(), failure.reason()), ("n2", QueryFailureReason::Gone));
    assert_eq!(rest, [("n1".into(), Ok(2))].into());

    // It alone, and nobody at all.
    let said = outcome(purge(&plane, order("n2", "")).await.unwrap()).await;
    assert_eq!(said, [("n2".into(), Err(QueryFailureReason::Gone))].into());
    drop(one);
    let said = eventually(async || {
        let said = outcome(purge(&plane, order("", "")).await.map_err(|status| status.to_string())?).await;
        if said.values().all(Result::is_err) { Ok(said) } else { Err(format!("{said:?}")) }
    })
    .await;
    assert_eq!(said.len(), 2, "{said:?}");
}

#[tokio::test]
async fn what_nobody_knows_is_refused_before_anybody_is_asked() {
    let plane = Plane::with(&document(3101)).await;
    let refused = purge(&plane, order("", "")).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "no node is connected"));
    let target = plane.target().await.unwrap();
    let (mut node, _) = Node::join(plane.listen, running(1, &target)).await;
    let refused = purge(&plane, order("", "wether")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(refused.message(), "no upstream is named `wether`; did you mean `weather`?");
    let refused = purge(&plane, order("", "xyz")).await.unwrap_err();
    assert_eq!(refused.message(), "no upstream is named `xyz`; there are: weather");
    let refused = purge(&plane, order("n7", "weather")).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, "no node `n7`; there are: n1"));
    let refused = purge(&plane, PurgeCacheRequest { tier: 77, ..Default::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("tier: "), "{refused}");
    node.beat(1, Some(&target)).await; // it was asked nothing

    // An upstream that the configuration names no more, and a node still serves.
    let mut client = wire::node_service_client::NodeServiceClient::new(plane.channel().await);
    let old = wire::UpstreamStats { upstream: "old".into(), ..Default::default() };
    let report = wire::ReportStatsRequest {
        node: Some(identity(1)),
        seq: 1,
        upstreams: vec![old],
        ..Default::default()
    };
    client.report_stats(report).await.unwrap();
    let answers = purge(&plane, order("", "old")).await.unwrap();
    let (id, _) = ordered(&mut node).await;
    answer(&node, id, purged(1)).await;
    assert_eq!(outcome(answers).await, [("n1".into(), Ok(1))].into());
}
