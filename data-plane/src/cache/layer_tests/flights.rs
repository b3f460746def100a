//! One exchange for many callers.

use super::*;
use futures_util::future::join_all;

/// A thousand calls of ten principals at once: how often the upstream was asked, and whether each got its own id.
async fn storm(members: &'static str) -> (usize, Arc<Rig>) {
    let rig = Arc::new(Rig::new(CacheRules::default()));
    rig.says(members);
    let calls = (0..1000_u64).map(|at| {
        let rig = rig.clone();
        async move {
            let answer = rig.list(&format!("p{}", at % 10), at).await;
            assert!(answer.contains(&format!(r#""id":{at},"#)), "the caller's own id in {answer}");
        }
    });
    join_all(calls).await;
    (rig.asked().len(), rig)
}

#[tokio::test(start_paused = true)]
async fn a_storm_for_a_public_list_asks_once() {
    let (asked, rig) = storm(PUBLIC).await;
    assert_eq!(asked, 1);
    assert_eq!(rig.found(Tier::Catalogue), (0, 0, 1, 999));
}

#[tokio::test(start_paused = true)]
async fn a_storm_for_a_private_list_asks_once_for_each_principal() {
    let (asked, rig) = storm(PRIVATE).await;
    assert_eq!(asked, 10);
    assert_eq!(rig.found(Tier::Catalogue), (0, 0, 10, 990));
    let mut principals = rig.asked();
    principals.sort();
    principals.dedup();
    assert_eq!(principals.len(), 10, "each principal asked for itself");
}

#[tokio::test(start_paused = true)]
async fn a_storm_for_what_is_never_kept_asks_once_for_each_principal_too() {
    let (asked, rig) = storm(NEVER).await;
    assert_eq!(asked, 10);
    assert_eq!(rig.counts(Tier::Catalogue).stored, 0);
    rig.list("p0", 1).await;
    assert_eq!(rig.asked().len(), 11, "nothing was kept");
}

#[tokio::test(start_paused = true)]
async fn principals_never_see_each_others_answers() {
    // joshrotenberg/mcp-proxy, landscape row 76: keys without the caller gave user B the answer of user A.
    let rig = Arc::new(Rig::new(CacheRules { tools: rules("whoami"), ..CacheRules::default() }));
    rig.answers(|call, _| Ok(result(call, &format!(r#""is":"{}",{PRIVATE}"#, call.principal.id))));
    for round in 0..3 {
        let calls = (0..40_u64).map(|at| {
            let rig = &rig;
            async move {
                let principal = format!("p{}", at % 4);
                let tool = rig.modern(&principal, at, method::TOOLS_CALL, r#","name":"whoami""#);
                for answer in [rig.ask(tool).await, rig.read(&principal, at, "x://me").await] {
                    assert!(answer.contains(&format!(r#""is":"{principal}""#)), "{principal} got {answer}");
                }
            }
        });
        join_all(calls).await;
        assert_eq!(rig.asked().len(), 8, "one each, and from memory after that: round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_goes_away_leaves_its_flight_to_the_others() {
    let rig = Arc::new(Rig::new(CacheRules::default()));
    let leader = rig.begin(rig.modern("p", 1, method::TOOLS_LIST, ""));
    sleep(Duration::from_millis(100)).await;
    let others: Vec<_> = (2..12).map(|id| rig.begin(rig.modern("p", id, method::TOOLS_LIST, ""))).collect();
    sleep(Duration::from_millis(100)).await;
    drop(leader);
    for (at, other) in others.into_iter().enumerate() {
        let answer = text(other.end().await.unwrap()).await;
        assert!(answer.contains(&format!(r#""id":{},"#, at + 2)), "{answer}");
    }
    assert_eq!((rig.asked().len(), rig.dropped()), (1, 0));
    assert_eq!(rig.found(Tier::Catalogue), (0, 0, 1, 10));
}

#[tokio::test(start_paused = true)]
async fn when_everybody_is_gone_the_exchange_ends() {
    let rig = Arc::new(Rig::new(CacheRules::default()));
    let callers: Vec<_> = (0..5).map(|id| rig.begin(rig.modern("p", id, method::TOOLS_LIST, ""))).collect();
    sleep(Duration::from_millis(100)).await;
    assert_eq!((rig.asked().len(), rig.dropped()), (1, 0));
    drop(callers);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(rig.dropped(), 1, "the upstream sees that nobody waits");
    rig.list("p", 9).await;
    assert_eq!(rig.asked().len(), 2, "and the next asks anew");
}

#[tokio::test(start_paused = true)]
async fn errors_are_shared_and_not_kept() {
    let rig = Arc::new(Rig::new(CacheRules::default()));
    let error = |call: &Call| Reply::json(rpc::error(Some(id_of(call)), -32000, "no", None));
    rig.answers(move |call, _| Ok(error(call)));
    let calls = (0..50).map(|id| rig.list("p", id));
    for (id, answer) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(
            answer,
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"no"}}}}"#)
        );
    }
    assert_eq!(rig.asked().len(), 1);
    rig.answers(|_, _| Err(Failure::new(Kind::Unreachable, "away").because("refused")));
    let calls = (0..50).map(|id| rig.send(rig.modern("p", id, method::TOOLS_LIST, "")));
    for failed in join_all(calls).await {
        let failure = failed.unwrap_err();
        assert_eq!((failure.kind, failure.chain().as_str()), (Kind::Unreachable, "away: refused"));
    }
    assert_eq!(rig.asked().len(), 2);
    rig.says(PRIVATE);
    rig.list("p", 1).await;
    let counts = rig.counts(Tier::Catalogue);
    assert_eq!((counts.misses, counts.coalesced, counts.stored), (3, 98, 1));
}

#[tokio::test(start_paused = true)]
async fn another_principals_error_is_not_passed_on() {
    let rig = Arc::new(Rig::new(CacheRules::default()));
    rig.answers(|call, _| {
        let words = format!("not for {}", call.principal.id);
        Ok(Reply::json(rpc::error(Some(id_of(call)), -32000, &words, None)))
    });
    let calls = (0..20_u64).map(|at| {
        let rig = &rig;
        async move {
            let principal = format!("p{}", at % 2);
            let answer = rig.list(&principal, at).await;
            assert!(answer.contains(&format!("not for {principal}")), "{answer}");
        }
    });
    join_all(calls).await;
    assert_eq!(rig.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_asks_for_input_is_for_its_one_caller() {
    let rig = Arc::new(Rig::new(CacheRules { tools: rules("*"), ..CacheRules::default() }));
    rig.answers(|call, at| {
        let asks = format!(r#""resultType":"input_required","requestState":"of request {at}""#);
        Ok(result(call, &asks))
    });
    let calls = (0..10).map(|id| rig.ask(rig.modern("p", id, method::TOOLS_CALL, r#","name":"t""#)));
    let mut answers = join_all(calls).await;
    answers.iter_mut().for_each(|answer| *answer = answer[answer.find("of request").unwrap()..].to_owned());
    answers.sort();
    answers.dedup();
    assert_eq!((answers.len(), rig.asked().len()), (10, 10), "nobody gets the state of another");
    assert_eq!(rig.found(Tier::Tools), (0, 0, 10, 0));
    let retry = rig.modern("p", 1, method::TOOLS_CALL, r#","name":"t","inputResponses":{}"#);
    rig.ask(retry).await;
    assert_eq!(rig.found(Tier::Tools), (0, 0, 10, 0), "a step of a longer exchange takes no part");
}

#[tokio::test(start_paused = true)]
async fn a_write_between_two_reads_separates_them() {
    let rig = Arc::new(Rig::new(CacheRules::default()));
    rig.says(NEVER);
    let first = rig.begin(rig.modern("p", 1, method::RESOURCES_READ, r#","uri":"x://a""#));
    sleep(Duration::from_millis(100)).await;
    rig.takes(Duration::from_millis(100));
    rig.ask(rig.modern("p", 2, method::TOOLS_CALL, r#","name":"write""#)).await;
    rig.takes(Duration::from_secs(1));
    let second = rig.begin(rig.modern("p", 3, method::RESOURCES_READ, r#","uri":"x://a""#));
    sleep(Duration::from_millis(100)).await;
    let third = rig.begin(rig.modern("p", 4, method::RESOURCES_READ, r#","uri":"x://a""#));
    let mut numbers = Vec::new();
    for read in [first, second, third] {
        numbers.push(number(&text(read.end().await.unwrap()).await));
    }
    assert_eq!(numbers, [0, 2, 2], "who wrote reads what was asked afterwards, and others join that");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_or_is_given_up_separates_reads_too() {
    for given_up in [false, true] {
        let rig = Arc::new(Rig::new(CacheRules::default()));
        rig.says(NEVER);
        let first = rig.begin(rig.modern("p", 1, method::RESOURCES_READ, r#","uri":"x://a""#));
        sleep(Duration::from_millis(100)).await;
        rig.takes(Duration::from_millis(100));
        rig.answers(|_, _| Err(Failure::new(Kind::Timeout, "it may have run")));
        let write = rig.begin(rig.modern("p", 2, method::TOOLS_CALL, r#","name":"write""#));
        sleep(Duration::from_millis(50)).await;
        if given_up {
            drop(write);
            sleep(Duration::from_millis(10)).await;
        } else {
            assert!(write.end().await.is_err());
        }
        rig.says(NEVER);
        let second = rig.read("p", 3, "x://a").await;
        assert_eq!(number(&second), 2, "given up: {given_up}");
        first.end().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn no_caller_joins_a_flight_that_an_invalidation_overtook_and_its_answer_is_not_kept() {
    let rig = Arc::new(Rig::new(CacheRules::default()));
    rig.says(PUBLIC);
    let first = rig.begin(rig.modern("p", 1, method::TOOLS_LIST, ""));
    sleep(Duration::from_millis(500)).await;
    rig.cache.invalidate(Some("u"), &super::super::Subject::List(method::TOOLS_LIST));
    let second = rig.begin(rig.modern("p", 2, method::TOOLS_LIST, ""));
    assert_eq!(number(&text(first.end().await.unwrap()).await), 0);
    assert_eq!(number(&rig.list("p", 3).await), 1, "the overtaken answer landed and is not found");
    assert_eq!(number(&text(second.end().await.unwrap()).await), 1);
    assert_eq!(rig.asked().len(), 2);
    assert_eq!(rig.counts(Tier::Catalogue).skipped[crate::metrics::Skip::Overtaken as usize], 1);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_wait_for_one_flight() {
    let rig = Arc::new(Rig::new(CacheRules::default()));
    let seats = super::super::flight::SEATS_MAX as u64;
    let calls = (0..seats + 3).map(|id| rig.list("p", id));
    join_all(calls).await;
    assert_eq!(rig.asked().len(), 1 + 3);
    assert_eq!(rig.found(Tier::Catalogue), (0, 0, 4, seats - 1));
}

#[tokio::test(start_paused = true)]
async fn who_must_not_be_answered_from_memory_is_not_and_leaves_it_newer() {
    let rig = Arc::new(Rig::new(CacheRules::default()));
    rig.says(PUBLIC);
    assert_eq!(number(&rig.list("p", 1).await), 0);
    let fresh = Call { fresh: true, ..rig.modern("q", 2, method::TOOLS_LIST, "") };
    assert_eq!(number(&rig.ask(fresh).await), 1);
    assert_eq!(number(&rig.list("p", 3).await), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_of_a_legacy_leader_does_not_end_the_wait_of_others() {
    let rig = Arc::new(Rig::new(CacheRules { lists: Some(Life::Tier), ..CacheRules::default() }));
    let (one, other) = (session(1, "p"), session(2, "p"));
    let cancel = |session: &Arc<Session>| {
        let text = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
        rig.call(Caller::Legacy(Some(session.clone())), "p", text)
    };
    let leader = rig.begin(rig.legacy(&one, 5, method::TOOLS_LIST, ""));
    sleep(Duration::from_millis(100)).await;
    let follower = rig.begin(rig.legacy(&other, 5, method::TOOLS_LIST, ""));
    sleep(Duration::from_millis(100)).await;
    assert!(rig.send(cancel(&one)).await.is_ok());
    assert_eq!(rig.asked().len(), 1, "the cancellation stays here while another waits");
    follower.end().await.unwrap();
    leader.end().await.unwrap();

    rig.cache.invalidate(None, &super::super::Subject::Everything);
    let alone = rig.begin(rig.legacy(&one, 5, method::TOOLS_LIST, ""));
    sleep(Duration::from_millis(100)).await;
    rig.takes(Duration::ZERO);
    rig.answers(|_, _| Ok(Reply::accepted()));
    rig.send(cancel(&one)).await.unwrap();
    assert_eq!(rig.asked().len(), 3, "nobody else waits: the upstream is told");
    rig.says(PRIVATE);
    let late = rig.ask(rig.legacy(&other, 6, method::TOOLS_LIST, "")).await;
    assert_eq!(number(&late), 3, "and nobody joins what was cancelled");
    drop(alone);
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_by_a_legacy_leader_that_is_gone_does_not_end_the_wait_of_others() {
    let rig = Arc::new(Rig::new(CacheRules { lists: Some(Life::Tier), ..CacheRules::default() }));
    let (one, other) = (session(1, "p"), session(2, "p"));
    let leader = rig.begin(rig.legacy(&one, 5, method::TOOLS_LIST, ""));
    sleep(Duration::from_millis(100)).await;
    let follower = rig.begin(rig.legacy(&other, 5, method::TOOLS_LIST, ""));
    sleep(Duration::from_millis(100)).await;
    drop(leader);
    sleep(Duration::from_millis(100)).await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
    assert!(rig.send(rig.call(Caller::Legacy(Some(one)), "p", cancel)).await.is_ok());
    assert_eq!(rig.asked().len(), 1, "the cancellation stays here while another waits");
    follower.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_fails_because_the_leaders_session_ends_does_not_fail_for_others() {
    let rig = Arc::new(Rig::new(CacheRules { lists: Some(Life::Tier), ..CacheRules::default() }));
    let (one, other) = (session(1, "p"), session(2, "p"));
    let ended = one.ended.clone();
    rig.answers(move |call, at| match at {
        0 => {
            ended.cancel();
            Err(Failure::new(Kind::Unreachable, "its process was cut"))
        }
        _ => Ok(result(call, PRIVATE)),
    });
    let first = rig.begin(rig.legacy(&one, 1, method::TOOLS_LIST, ""));
    sleep(Duration::from_millis(100)).await;
    let second = rig.send(rig.legacy(&other, 2, method::TOOLS_LIST, "")).await;
    assert_eq!(first.end().await.unwrap_err().kind, Kind::Unreachable);
    assert!(text(second.expect("its own session lives")).await.contains(r#""id":2"#));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_leaders_session_is_not_the_end_of_the_others() {
    let rig = Arc::new(Rig::new(CacheRules { lists: Some(Life::Tier), ..CacheRules::default() }));
    let (one, other) = (session(1, "p"), session(2, "p"));
    rig.answers(|call, at| match at {
        0 => Err(Failure::new(Kind::SessionLost, "gone")),
        _ => Ok(result(call, PRIVATE)),
    });
    let first = rig.begin(rig.legacy(&one, 1, method::TOOLS_LIST, ""));
    sleep(Duration::from_millis(100)).await;
    let second = rig.ask(rig.legacy(&other, 2, method::TOOLS_LIST, "")).await;
    assert!(second.contains(r#""id":2"#));
    assert_eq!(first.end().await.unwrap_err().kind, Kind::SessionLost);
    assert_eq!(rig.found(Tier::Catalogue), (0, 0, 2, 0));
}
