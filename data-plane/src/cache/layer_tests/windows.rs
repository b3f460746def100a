//! Beyond an answer's life, and before a request is sent.

use super::*;
use futures_util::future::join_all;
use o1_proto::model::{Batching, Fleet};

const SECOND: Duration = Duration::from_secs(1);

fn stale(revalidate: u64, error: u64) -> Rig {
    let mut fleet = Fleet { upstreams: vec![upstream(CacheRules::default())], ..Fleet::default() };
    fleet.caching.catalogue.stale_while_revalidate = SECOND * u32::try_from(revalidate).unwrap();
    fleet.caching.catalogue.stale_if_error = SECOND * u32::try_from(error).unwrap();
    Rig::of(fleet)
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_serves_at_once_while_one_new_one_is_fetched() {
    let rig = stale(30, 0);
    rig.says(PUBLIC);
    rig.list("p", 1).await;
    sleep(SECOND * 60).await;
    let began = tokio::time::Instant::now();
    let answers = join_all((0..100).map(|id| rig.list("p", id))).await;
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits");
    assert!(answers.iter().all(|answer| number(answer) == 0 && ttl(answer) == 0));
    sleep(SECOND * 2).await;
    assert_eq!(rig.asked().len(), 2, "one refresh for all");
    assert_eq!(number(&rig.list("p", 1).await), 1);
    assert_eq!(rig.found(Tier::Catalogue), (1, 100, 1, 0));
    assert_eq!(rig.counts(Tier::Catalogue).left[crate::metrics::Cause::Replaced as usize], 1);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_is_not_tried_again_at_once_and_the_window_ends() {
    let rig = stale(30, 0);
    rig.takes(Duration::ZERO);
    rig.says(PUBLIC);
    rig.list("p", 1).await;
    rig.answers(|_, _| Err(Failure::new(Kind::Unreachable, "away")));
    sleep(SECOND * 60).await;
    for _ in 0..100 {
        assert_eq!(number(&rig.list("p", 1).await), 0);
        sleep(Duration::from_millis(100)).await;
    }
    let asked = rig.asked().len();
    assert!((9..=12).contains(&asked), "about once a second: {asked}");
    sleep(SECOND * 20).await;
    assert!(rig.send(rig.modern("p", 1, method::TOOLS_LIST, "")).await.is_err(), "the window is over");
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_serves_where_the_upstream_fails_and_only_there() {
    let page = || Reply {
        status: http::StatusCode::SERVICE_UNAVAILABLE,
        headers: HeaderMap::new(),
        body: Body::Full(Bytes::from_static(b"<html>")),
        stale: None,
    };
    for trouble in [true, false] {
        let rig = stale(0, 30);
        rig.says(PUBLIC);
        rig.list("p", 1).await;
        sleep(SECOND * 60).await;
        rig.answers(move |_, _| if trouble { Ok(page()) } else { Err(Failure::new(Kind::Timeout, "slow")) });
        let answers = join_all((0..10).map(|id| rig.list("p", id))).await;
        assert!(answers.iter().all(|answer| number(answer) == 0 && ttl(answer) == 0));
        assert_eq!(rig.asked().len(), 2, "one attempt for all");
        assert_eq!(rig.found(Tier::Catalogue), (0, 10, 1, 0));
        let refuses = |call: &Call| Reply::json(rpc::error(Some(id_of(call)), -32603, "no", None));
        rig.answers(move |call, _| Ok(refuses(call)));
        assert!(rig.list("p", 1).await.contains("-32603"), "an answer of the server is an answer");
        rig.says(PUBLIC);
        assert_eq!(number(&rig.list("p", 1).await), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_invalidated_never_serves_stale() {
    let rig = stale(300, 300);
    rig.says(PUBLIC);
    rig.list("p", 1).await;
    sleep(SECOND * 60).await;
    rig.cache.invalidate(Some("u"), &super::super::Subject::Everything);
    rig.answers(|_, _| Err(Failure::new(Kind::Unreachable, "away")));
    assert!(rig.send(rig.modern("p", 1, method::TOOLS_LIST, "")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_invalidated_while_it_is_fetched_again_does_not_serve_stale_either() {
    let rig = Arc::new(stale(0, 300));
    rig.says(PUBLIC);
    rig.list("p", 1).await;
    sleep(SECOND * 60).await;
    rig.answers(|_, _| Err(Failure::new(Kind::Unreachable, "away")));
    let asked = rig.begin(rig.modern("p", 1, method::TOOLS_LIST, ""));
    sleep(SECOND / 2).await;
    rig.cache.invalidate(Some("u"), &super::super::Subject::Everything);
    assert!(asked.end().await.is_err());
}

fn batching(window: Duration, max: u32) -> Arc<Rig> {
    let batching = Batching { window, max };
    let rig =
        Rig::of(Fleet { upstreams: vec![upstream(CacheRules::default())], batching, ..Fleet::default() });
    rig.takes(Duration::ZERO);
    Arc::new(rig)
}

#[tokio::test(start_paused = true)]
async fn list_requests_wait_for_others_until_the_window_is_over_or_enough_wait() {
    let window = Duration::from_millis(100);
    let rig = batching(window, 10);
    rig.says(NEVER);
    let began = tokio::time::Instant::now();
    let few = (0..3).map(|id| {
        let rig = &rig;
        async move {
            sleep(Duration::from_millis(20) * u32::try_from(id).unwrap()).await;
            rig.list("p", id).await
        }
    });
    let answers = join_all(few).await;
    assert_eq!(began.elapsed(), window, "the first caller's window");
    assert!(answers.iter().enumerate().all(|(id, answer)| answer.contains(&format!(r#""id":{id},"#))));
    assert_eq!(rig.asked().len(), 1);
    let sample = rig.batches();
    assert_eq!((sample.size_sum, sample.wait_sum_us), (3, 100_000));

    let began = tokio::time::Instant::now();
    join_all((0..10).map(|id| rig.list("p", id))).await;
    assert_eq!(began.elapsed(), Duration::ZERO, "enough wait");
    assert_eq!((rig.asked().len(), rig.batches().size_sum), (2, 13));
    let read = rig.read("p", 1, "x://a").await;
    assert_eq!(began.elapsed(), Duration::ZERO, "only lists wait: {read}");
}

#[tokio::test(start_paused = true)]
async fn the_first_request_does_not_stand_for_others_that_differ() {
    // The predecessor's batches: whatever else was asked in the window got the answer to the first request.
    let rig = batching(Duration::from_millis(100), 100);
    rig.answers(|call, _| {
        let Ask::Message(message) = &call.ask else { panic!("a message") };
        let cursor = message.param_str(&["cursor"]).unwrap().unwrap_or_default().into_owned();
        let is = format!(r#""cursor":"{cursor}","of":"{}",{PRIVATE}"#, call.principal.id);
        Ok(result(call, &is))
    });
    let calls = (0..40_u64).map(|id| {
        let rig = &rig;
        async move {
            let (principal, cursor) = (format!("p{}", id % 2), format!("c{}", id % 4));
            let params = format!(r#","cursor":"{cursor}""#);
            let answer = rig.ask(rig.modern(&principal, id, method::TOOLS_LIST, &params)).await;
            let expected = format!(r#""id":{id},"result":{{"cursor":"{cursor}","of":"{principal}""#);
            assert!(answer.contains(&expected), "{expected} in {answer}");
        }
    });
    join_all(calls).await;
    assert_eq!(rig.asked().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_legacy_session_shares_a_window_with_nobody_else() {
    let rig = batching(Duration::from_millis(100), 10);
    rig.answers(|call, at| Ok(result(call, &format!(r#""n":{at},"tools":[]"#))));
    let (one, other) = (session(1, "p"), session(2, "p"));
    let calls = [(&one, 1), (&one, 2), (&other, 3)];
    let asks = calls.map(|(session, id)| rig.ask(rig.legacy(session, id, method::TOOLS_LIST, "")));
    let answers = join_all(asks).await;
    let numbers: Vec<_> = answers.iter().map(|answer| number(answer)).collect();
    assert!(numbers[0] == numbers[1] && numbers[1] != numbers[2], "{numbers:?}");
    rig.ask(rig.legacy(&one, 4, method::TOOLS_LIST, "")).await;
    assert_eq!((rig.asked().len(), rig.counts(Tier::Catalogue).stored), (3, 0), "nothing is kept for them");
}

#[tokio::test(start_paused = true)]
async fn an_error_in_a_window_reaches_each_waiter_under_its_own_id() {
    let rig = batching(Duration::from_millis(50), 10);
    rig.answers(|call, _| Ok(Reply::json(rpc::error(Some(id_of(call)), -32000, "no", None))));
    for (id, answer) in join_all((0..5).map(|id| rig.list("p", id))).await.into_iter().enumerate() {
        assert!(answer.contains(&format!(r#""id":{id},"error""#)), "{answer}");
    }
    assert_eq!(rig.asked().len(), 1);
}
