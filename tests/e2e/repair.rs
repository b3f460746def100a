//! Upstreams that lose sessions, refuse new ones, are away, or never had any.

use crate::config;
use o1_tests::{
    Answer, Backend, Gateway, Legacy,
    backend::Lost,
    http::{Stream, member},
    until,
};
use std::time::Duration;

const ROUTES: [&str; 2] = ["/mcp", "/u/only/mcp"];
const SOON: Duration = Duration::from_secs(10);

async fn gateway() -> (Gateway, Backend) {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;
    (gateway, backend)
}

fn tool(route: &str, name: &str) -> String {
    if route == "/mcp" { format!("only__{name}") } else { name.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_is_opened_again_with_all_that_the_client_had_asked_for() {
    for lost in [Lost::NotFound, Lost::BadRequest] {
        let (gateway, backend) = gateway().await;
        backend.lose_by(lost);
        let resources = r#"{"resources":[{"uri":"test://a","name":"a"},{"uri":"test://b","name":"b"}]}"#;
        backend.answer("resources/list", Answer::Result(resources.into()));
        for route in ROUTES {
            let http = o1_tests::Http::new(gateway.address());
            let client =
                Legacy::open_with(http, route, "2025-06-18", r#"{"roots":{"listChanged":true}}"#).await;
            for (method, params) in [
                ("logging/setLevel", r#"{"level":"debug"}"#),
                ("resources/subscribe", r#"{"uri":"test://a"}"#),
                ("resources/subscribe", r#"{"uri":"test://b"}"#),
                ("resources/unsubscribe", r#"{"uri":"test://a"}"#),
            ] {
                assert_eq!(client.request(method, params).await.status, 200, "{route} {method}");
            }
            let first = backend.last("initialize");
            backend.forget_sessions();
            let before = backend.received().len();
            let answer = client.call(&tool(route, "echo"), r#"{"once":true}"#).await;
            let context = format!("{route} {lost:?}: {}", answer.text());
            assert_eq!(answer.result()["structuredContent"]["once"], true, "{context}");

            let since = backend.received().split_off(before);
            let opened: Vec<_> = since.iter().filter(|one| one.method == "initialize").collect();
            assert_eq!(opened.len(), 1, "{context}");
            assert_eq!(opened[0].member("params"), first.member("params"), "{context}");
            let at = |method: &str| {
                since.iter().rposition(|one| one.method == method).unwrap_or_else(|| panic!("{method}"))
            };
            let (level, subscribed) = (&since[at("logging/setLevel")], &since[at("resources/subscribe")]);
            assert_eq!(member(&level.member("params"), "level").as_deref(), Some("\"debug\""), "{context}");
            let uri = member(&subscribed.member("params"), "uri");
            assert_eq!(uri.as_deref(), Some("\"test://b\""), "{context}");
            let subscriptions = since.iter().filter(|one| one.method == "resources/subscribe").count();
            assert_eq!(subscriptions, 1, "{context}: what it no longer wants is not subscribed to again");
            let call = &since[at("tools/call")];
            for earlier in ["notifications/initialized", "logging/setLevel", "resources/subscribe"] {
                assert!(at(earlier) < at("tools/call"), "{context}: {earlier} first");
                assert_eq!(since[at(earlier)].header("mcp-session-id"), call.header("mcp-session-id"));
            }
            let ran = backend.ran("tools/call");
            let times = ran.iter().filter(|one| one.body.contains("once")).count();
            assert_eq!(times, ROUTES.iter().position(|one| *one == route).unwrap() + 1, "{context}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_that_find_the_session_lost_open_one_other() {
    let (gateway, backend) = gateway().await;
    for route in ROUTES {
        let client = Legacy::open(gateway.address(), route).await;
        client.call(&tool(route, "echo"), "{}").await;
        backend.forget_sessions();
        let before = (backend.received_of("initialize").len(), backend.ran("tools/call").len());
        let name = tool(route, "echo");
        let calls = (0..30).map(|n| {
            let (client, name) = (&client, &name);
            async move {
                client.call(name, &format!(r#"{{"n":{n}}}"#)).await.result()["structuredContent"]["n"] == n
            }
        });
        assert!(futures_util::future::join_all(calls).await.into_iter().all(|right| right), "{route}");
        assert_eq!(backend.received_of("initialize").len(), before.0 + 1, "{route}");
        assert_eq!(backend.ran("tools/call").len(), before.1 + 30, "{route}: each ran once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_may_have_run_is_reported_and_never_sent_again() {
    let (gateway, backend) = gateway().await;
    backend.tool("dies", Answer::Hangup);
    for (n, route) in ROUTES.into_iter().enumerate() {
        let client = Legacy::open(gateway.address(), route).await;
        let reply = client.call(&tool(route, "dies"), "{}").await;
        assert_eq!(reply.error_code(), Some(-33001), "{route}: {}", reply.text());
        assert!(reply.text().contains("may have run"), "{route}: {}", reply.text());
        // And the session, which the server lost meanwhile, goes on.
        backend.forget_sessions();
        assert_eq!(
            client.call(&tool(route, "echo"), r#"{"n":1}"#).await.result()["structuredContent"]["n"],
            1
        );
        assert_eq!(backend.ran("tools/call").len(), 2 * (n + 1), "{route}");
    }
}

// agentgateway#3622: one upstream of several loses its session, and the client's session is half alive.
#[tokio::test(flavor = "multi_thread")]
async fn one_upstream_of_several_loses_its_session_and_the_others_do_not_notice() {
    let (left, right) = (Backend::start().await, Backend::start().await);
    let gateway = Gateway::start(&config([left.upstream("left"), right.upstream("right")])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    assert_eq!(client.call("right__echo", "{}").await.status, 200);
    let right_opened = right.received_of("initialize").len();
    for round in 0..3 {
        left.forget_sessions();
        for tool in ["left__echo", "right__echo"] {
            let answer = client.call(tool, &format!(r#"{{"n":{round}}}"#)).await;
            assert_eq!(answer.result()["structuredContent"]["n"], round, "{tool}");
        }
    }
    assert_eq!(right.received_of("initialize").len(), right_opened);
    left.forget_sessions();
    left.answer("initialize", Answer::Status(500, "broken".into()));
    let reply = client.call("left__echo", "{}").await;
    assert_eq!(reply.error_code(), Some(-33001), "a typed error for it alone: {}", reply.text());
    assert_eq!(client.call("right__echo", r#"{"n":9}"#).await.result()["structuredContent"]["n"], 9);
}

// neotoma#1923, #2312: 404, or clients never initialise again.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_upstream_opens_no_other_session_the_client_hears_404_and_starts_over() {
    let (gateway, backend) = gateway().await;
    let client = Legacy::open(gateway.address(), "/u/only/mcp").await;
    backend.forget_sessions();
    backend.answer("initialize", Answer::Error(r#"{"code":-32603,"message":"not today"}"#.into()));
    let reply = client.call("echo", "{}").await;
    assert_eq!(reply.status, 404, "{}", reply.text());
    assert_eq!(client.call("echo", "{}").await.status, 404, "it is over, not half alive");
    assert_eq!(client.try_listen().await.status, 404);
    assert_eq!(backend.ran("tools/call").len(), 0);
    let (gateway_b, backend_b) = self::gateway().await;
    let other = Legacy::open(gateway_b.address(), "/u/only/mcp").await;
    backend_b.forget_sessions();
    assert_eq!(other.call("echo", r#"{"n":1}"#).await.result()["structuredContent"]["n"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_upstream_is_merely_away_the_client_keeps_its_session() {
    let (gateway, mut backend) = gateway().await;
    for route in ROUTES {
        let client = Legacy::open(gateway.address(), route).await;
        assert_eq!(client.call(&tool(route, "echo"), "{}").await.status, 200);
        backend.stop().await;
        let reply = client.call(&tool(route, "echo"), r#"{"n":1}"#).await;
        assert_eq!((reply.status, reply.error_code()), (200, Some(-33001)), "{route}: {}", reply.text());
        // Restarted: it knows nobody.
        backend.forget_sessions();
        backend.resume().await;
        let answer = until("the upstream to be back", SOON, || async {
            let reply = client.call(&tool(route, "echo"), r#"{"n":2}"#).await;
            assert_eq!(reply.status, 200, "{route}: {}", reply.text());
            reply.error_code().is_none().then_some(reply)
        })
        .await;
        assert_eq!(answer.result()["structuredContent"]["n"], 2, "{route}");
    }
}

// Kuadrant#1382: an upstream without sessions is connected to again and again.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_sessions_is_not_connected_to_in_a_loop() {
    let (gateway, backend) = gateway().await;
    backend.lose_by(Lost::Stateless);
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let _stream = client.listen().await;
    let before = backend.received().len();
    for n in 0..20 {
        assert_eq!(
            client.call("only__echo", &format!(r#"{{"n":{n}}}"#)).await.result()["structuredContent"]["n"],
            n
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let since = backend.received().split_off(before);
    let opened = since.iter().filter(|one| one.method == "initialize").count();
    let streams = since.iter().filter(|one| one.http_method == "GET").count();
    // One for the catalogue and one for the client.
    assert!(opened <= 2 && streams <= 2, "{opened} handshakes, {streams} streams");

    let passing = Legacy::open(gateway.address(), "/u/only/mcp").await;
    assert_eq!(passing.session, "", "where the upstream has no sessions, neither has the route");
    let before = backend.received_of("initialize").len();
    assert_eq!(passing.call("echo", r#"{"n":1}"#).await.result()["structuredContent"]["n"], 1);
    assert_eq!(backend.received_of("initialize").len(), before);
}

// agentgateway#1582: a GET that is not offered is 405, not 404.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_a_stream_says_405_and_keeps_its_session_however_it_words_that() {
    for refusal in [405, 404] {
        let (gateway, backend) = gateway().await;
        backend.refuse_streams(refusal);
        let client = Legacy::open(gateway.address(), "/u/only/mcp").await;
        let opened = backend.received_of("initialize").len();
        assert_eq!(client.try_listen().await.status, 405, "the upstream says {refusal}");
        assert_eq!(client.call("echo", r#"{"n":1}"#).await.result()["structuredContent"]["n"], 1);
        assert_eq!(backend.received_of("initialize").len(), opened, "{refusal}: no other session");

        let client = Legacy::open(gateway.address(), "/mcp").await;
        let stream: Stream = client.listen().await;
        assert_eq!(client.call("only__echo", r#"{"n":1}"#).await.result()["structuredContent"]["n"], 1);
        let opened = backend.received_of("initialize").len();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(client.call("only__echo", r#"{"n":2}"#).await.result()["structuredContent"]["n"], 2);
        assert_eq!(backend.received_of("initialize").len(), opened, "{refusal}: no loop");
        drop(stream);
    }
}
