//! Questions over the stream, answered in parts beside everything else.

use super::*;
use o1_proto::{
    convert::from_duration,
    wire::{
        self, CancelQuery, LogsQuery, PurgeQuery, Query, QueryAnswer, QueryFailureReason, ToolState,
        ToolsQuery, query::Ask, query_answer::Part,
    },
};

fn tools(id: u64, server: &str, within: Option<Duration>) -> Msg {
    let ask = Ask::Tools(ToolsQuery { server: server.into(), principal: "ci".into() });
    Msg::Query(Query { id, ask: Some(ask), within: within.map(from_duration) })
}

fn logs(id: u64, upstream: &str, tail: u32, follow: bool) -> Msg {
    let ask = Ask::Logs(LogsQuery { upstream: upstream.into(), tail, follow });
    Msg::Query(Query { id, ask: Some(ask), within: None })
}

fn cancel(id: u64) -> Msg {
    Msg::Query(Query { id, ask: Some(Ask::Cancel(CancelQuery {})), within: None })
}

async fn answer(peer: &mut Peer) -> QueryAnswer {
    match peer.next().await {
        Some(sync_request::Msg::Answer(answer)) => answer,
        other => panic!("not an answer: {other:?}"),
    }
}

/// The texts of the lines in a part.
async fn lines(peer: &mut Peer, id: u64) -> (Vec<String>, bool) {
    match answer(peer).await {
        QueryAnswer { id: found, part: Some(Part::Logs(part)), last } if found == id => {
            (part.lines.into_iter().map(|line| line.text).collect(), last)
        }
        other => panic!("not lines of {id}: {other:?}"),
    }
}

async fn failure(peer: &mut Peer, id: u64) -> QueryFailureReason {
    match answer(peer).await {
        QueryAnswer { id: found, part: Some(Part::Failure(failure)), last: true } if found == id => {
            assert!(!failure.message.is_empty());
            failure.reason()
        }
        other => panic!("not a failure of {id}: {other:?}"),
    }
}

#[tokio::test]
async fn a_long_answer_comes_in_parts_and_an_unknown_thing_is_said_to_be_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    peer.send(tools(1, "", Some(SOON))).await;
    let mut found = Vec::new();
    loop {
        let QueryAnswer { id: 1, part: Some(Part::Tools(part)), last } = answer(&mut peer).await else {
            panic!("not tools");
        };
        found.extend(part.tools);
        if last {
            break;
        }
    }
    assert_eq!(found.len(), 450);
    assert_eq!((found[449].name.as_str(), found[449].upstream.as_str()), ("t449", "ci"));
    assert_eq!((found[0].state(), found[0].pattern.as_str()), (ToolState::Denied, "t*"));
    assert_eq!(found[0].description.chars().count(), 201);
    peer.send(tools(2, "nowhere", Some(SOON))).await;
    assert_eq!(failure(&mut peer, 2).await, QueryFailureReason::NotFound);
    peer.send(Msg::Query(Query { id: 3, ask: None, within: None })).await;
    assert_eq!(failure(&mut peer, 3).await, QueryFailureReason::Unsupported);
    peer.send(logs(4, "http", 10, true)).await;
    match answer(&mut peer).await {
        QueryAnswer { id: 4, part: Some(Part::Logs(part)), last: true } => assert!(part.no_process),
        other => panic!("{other:?}"),
    }
    running.leave(peer).await;
}

#[tokio::test]
async fn a_log_is_followed_until_nobody_wants_it_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let log = running.node.log.clone();
    for n in 0..5 {
        log.push(7, format!("line {n}"));
    }
    let mut peer = plane.welcome().await;
    peer.send(logs(1, "files", 2, false)).await;
    assert_eq!(lines(&mut peer, 1).await, (vec!["line 3".to_owned(), "line 4".to_owned()], true));
    peer.send(logs(2, "files", 0, false)).await;
    assert_eq!(lines(&mut peer, 2).await, (vec![], true));
    peer.send(logs(3, "files", 1, true)).await;
    assert_eq!(lines(&mut peer, 3).await, (vec!["line 4".to_owned()], false));
    log.push(7, "line 5".into());
    assert_eq!(lines(&mut peer, 3).await, (vec!["line 5".to_owned()], false));
    peer.send(cancel(3)).await;
    // Answers come in order here, so the end of another shows that the first has ended.
    peer.send(logs(4, "files", 0, true)).await;
    peer.send(logs(5, "files", 1, false)).await;
    assert_eq!(lines(&mut peer, 5).await, (vec!["line 5".to_owned()], true));
    log.push(7, "line 6".into());
    assert_eq!(lines(&mut peer, 4).await, (vec!["line 6".to_owned()], false));
    running.leave(peer).await;
}

#[tokio::test]
async fn only_a_few_queries_are_answered_at_a_time_and_each_has_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    for id in 0..16 {
        peer.send(tools(id, "slow", Some(Duration::from_millis(300)))).await;
    }
    peer.send(tools(16, "", Some(SOON))).await;
    assert_eq!(failure(&mut peer, 16).await, QueryFailureReason::Busy);
    // When their time is over there is room again, without a word about them.
    let mut id = 17;
    loop {
        peer.send(tools(id, "nowhere", None)).await;
        match failure(&mut peer, id).await {
            QueryFailureReason::NotFound => break,
            other => assert_eq!(other, QueryFailureReason::Busy),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        id += 1;
    }
    running.leave(peer).await;
}

#[tokio::test]
async fn an_order_to_forget_is_carried_out_and_one_that_is_not_understood_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    let purge = |id, upstream: &str, tier: i32| {
        let ask = Ask::Purge(PurgeQuery { upstream: upstream.into(), tier });
        Msg::Query(Query { id, ask: Some(ask), within: Some(from_duration(SOON)) })
    };
    for (id, upstream, tier) in [(1, "", 0), (2, "files", wire::Tier::Tools.into())] {
        peer.send(purge(id, upstream, tier)).await;
        match answer(&mut peer).await {
            QueryAnswer { id: found, part: Some(Part::Purged(part)), last: true } => {
                assert_eq!((found, part.entries, part.bytes), (id, 2, 4096));
            }
            other => panic!("{other:?}"),
        }
    }
    peer.send(purge(3, "nowhere", 0)).await;
    assert_eq!(failure(&mut peer, 3).await, QueryFailureReason::NotFound);
    // A tier of a later contract is not every tier.
    peer.send(purge(4, "", 77)).await;
    assert_eq!(failure(&mut peer, 4).await, QueryFailureReason::Unsupported);
    running.leave(peer).await;
}

#[tokio::test]
async fn the_calls_of_late_are_told_and_only_as_many_as_are_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    let calls = |id, upstream: &str, limit, failed| {
        let ask = Ask::Calls(wire::CallsQuery { upstream: upstream.into(), limit, failed });
        Msg::Query(Query { id, ask: Some(ask), within: Some(from_duration(SOON)) })
    };
    for (id, limit, failed, expected) in
        [(1, 0, false, &["read", "write"][..]), (2, 1, false, &["read"]), (3, 0, true, &["write"])]
    {
        peer.send(calls(id, "", limit, failed)).await;
        match answer(&mut peer).await {
            QueryAnswer { part: Some(Part::Calls(part)), last: true, .. } => {
                let told: Vec<_> = part.calls.iter().map(|call| call.name.as_str()).collect();
                assert_eq!((told.as_slice(), part.seen, part.kept), (expected, 7, 2));
            }
            other => panic!("{other:?}"),
        }
    }
    peer.send(calls(4, "nowhere", 0, false)).await;
    assert_eq!(failure(&mut peer, 4).await, QueryFailureReason::NotFound);
    running.leave(peer).await;
}
