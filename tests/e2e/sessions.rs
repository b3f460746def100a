//! Legacy sessions: how they begin, end, and survive what happens behind them.

use crate::config;
use o1_tests::{Answer, Backend, Gateway, Http, Legacy, mcp::JSON, mcp::initialize, until};
use std::time::Duration;

async fn gateway() -> (Gateway, Backend) {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;
    (gateway, backend)
}

const ROUTES: [&str; 2] = ["/mcp", "/u/only/mcp"];

#[tokio::test(flavor = "multi_thread")]
async fn every_known_revision_is_negotiated_and_every_other_answered_with_the_newest_legacy_one() {
    let (gateway, _backend) = gateway().await;
    for route in ROUTES {
        for (asked, given) in [
            ("2024-11-05", "2024-11-05"),
            ("2025-03-26", "2025-03-26"),
            ("2025-06-18", "2025-06-18"),
            ("2025-11-25", "2025-11-25"),
            ("2026-07-28", "2025-11-25"),
            ("1999-01-01", "2025-11-25"),
        ] {
            let reply =
                Http::new(gateway.address()).send("POST", route, &JSON, initialize(asked, "{}")).await;
            assert_eq!(reply.status, 200, "{route} {asked}");
            assert_eq!(reply.result()["protocolVersion"], given, "{route} {asked}");
            let session = reply.header("mcp-session-id");
            assert!(
                !session.is_empty() && session.bytes().all(|byte| (0x21..=0x7e).contains(&byte)),
                "{session}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_not_opened_here_is_unknown() {
    let (gateway, _backend) = gateway().await;
    let http = Http::new(gateway.address());
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    for route in ROUTES {
        let mut headers = JSON.to_vec();
        headers.push(("mcp-protocol-version", "2025-11-25"));
        assert_eq!(http.send("POST", route, &headers, list).await.status, 400, "{route}: no session");
        for session in ["nobody", "00000000-0000-0000-0000-000000000000", "a b", "%00"] {
            let mut headers = headers.clone();
            headers.push(("mcp-session-id", session));
            let status = http.send("POST", route, &headers, list).await.status;
            assert_eq!(status, 404, "{route}: session {session:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_by_delete_and_is_unknown_afterwards() {
    let (gateway, _backend) = gateway().await;
    for route in ROUTES {
        let client = Legacy::open(gateway.address(), route).await;
        let other = Legacy::open(gateway.address(), route).await;
        assert_ne!(client.session, other.session);
        let mut stream = client.listen().await;
        let deleted = client.http.send("DELETE", route, &client.headers(), "").await;
        assert!([200, 204].contains(&deleted.status), "{route}: {}", deleted.status);
        stream.end(Duration::from_secs(10)).await;
        assert_eq!(client.request("tools/list", "{}").await.status, 404, "{route}");
        assert_eq!(
            client.http.send("DELETE", route, &client.headers(), "").await.status,
            404,
            "{route}: twice"
        );
        assert_eq!(client.try_listen().await.status, 404, "{route}");
        assert_eq!(other.request("tools/list", "{}").await.status, 200, "{route}: another session lives on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_one_stream_and_may_open_it_again() {
    let (gateway, _backend) = gateway().await;
    for route in ROUTES {
        let client = Legacy::open(gateway.address(), route).await;
        let first = client.listen().await;
        assert_eq!(first.headers["content-type"], "text/event-stream", "{route}");
        assert_eq!(client.try_listen().await.status, 409, "{route}: a second stream");
        drop(first);
        until("a stream after the first was closed", Duration::from_secs(10), || async {
            (client.try_listen().await.status == 200).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lost_by_the_server_is_opened_again_unnoticed() {
    let (gateway, backend) = gateway().await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    assert_eq!(client.call("only__echo", r#"{"n":1}"#).await.result()["structuredContent"]["n"], 1);
    let before = backend.received_of("initialize").len();
    backend.forget_sessions();
    let reply = client.call("only__echo", r#"{"n":2}"#).await;
    assert_eq!(reply.json()["result"]["structuredContent"]["n"], 2, "{}", reply.text());
    assert!(backend.received_of("initialize").len() > before, "a new session was opened");
    let calls = backend.received_of("tools/call");
    let ran: Vec<_> = calls.iter().filter(|call| call.body.contains(r#""n":2"#)).collect();
    assert_eq!(ran.len(), 2, "the refused one and the one that ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_transparent_route_a_lost_session_is_opened_again_unnoticed() {
    let (gateway, backend) = gateway().await;
    let client = Legacy::open(gateway.address(), "/u/only/mcp").await;
    assert_eq!(client.call("echo", r#"{"n":1}"#).await.result()["structuredContent"]["n"], 1);
    backend.forget_sessions();
    assert_eq!(client.call("echo", r#"{"n":2}"#).await.result()["structuredContent"]["n"], 2);
    let calls = backend.received_of("tools/call");
    let ran: Vec<_> = calls.iter().filter(|call| call.body.contains(r#""n":2"#)).collect();
    assert_eq!(ran.len(), 2, "the refused one and the one that ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_answered() {
    let (gateway, backend) = gateway().await;
    for route in ROUTES {
        let client = Legacy::open(gateway.address(), route).await;
        let reply = client.request("ping", "{}").await;
        assert_eq!(reply.result_bytes(), "{}", "{route}");
        // Where one server answers, it answers this too.
        assert_eq!(backend.received_of("ping").len(), usize::from(route != "/mcp"), "{route}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_and_strange_responses_are_accepted_without_a_body() {
    let (gateway, _backend) = gateway().await;
    for route in ROUTES {
        let client = Legacy::open(gateway.address(), route).await;
        for body in [
            r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/vendor","params":{"n":1.10}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}"#,
            r#"{"jsonrpc":"2.0","id":4711,"result":{}}"#,
        ] {
            let reply = client.post(body).await;
            assert_eq!((reply.status, reply.text().as_str()), (202, ""), "{route} {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn list_changed_of_a_server_reaches_the_stream_when_the_list_did_change() {
    let (gateway, backend) = gateway().await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    assert_eq!(client.tools().await, ["only__echo"]);
    let mut stream = client.listen().await;
    until("the gateway to listen to the server", Duration::from_secs(10), || async {
        (backend.streams() > 0).then_some(())
    })
    .await;
    backend.tool("added", Answer::text("added"));
    backend.notify(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    stream.notification("notifications/tools/list_changed", Duration::from_secs(10)).await;
    let mut tools = client.tools().await;
    tools.sort();
    assert_eq!(tools, ["only__added", "only__echo"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_is_cancelled_at_the_server() {
    let (gateway, backend) = gateway().await;
    backend.tool("slow", Answer::Later(Duration::from_secs(20), Box::new(Answer::text("late"))));
    let client = Legacy::open(gateway.address(), "/u/only/mcp").await;
    let call = client.http.clone();
    let body = r#"{"jsonrpc":"2.0","id":"c-1","method":"tools/call","params":{"name":"slow"}}"#;
    let headers: Vec<(String, String)> =
        client.headers().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut calls = tokio::task::JoinSet::new();
    calls.spawn(async move {
        let _ = call.try_send("POST", "/u/only/mcp", &o1_tests::mcp::borrowed(&headers), body).await;
    });
    until("the call at the server", Duration::from_secs(10), || async {
        backend.received_of("tools/call").pop()
    })
    .await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"c-1","reason":"enough"}}"#;
    assert_eq!(client.post(cancel).await.status, 202);
    let cancelled = until("the cancellation at the server", Duration::from_secs(10), || async {
        backend.received_of("notifications/cancelled").pop()
    })
    .await;
    // Under the id that the server knows the call by.
    let id = backend.last("tools/call").member("id");
    assert_eq!(o1_tests::http::member(&cancelled.member("params"), "requestId"), Some(id));
}
