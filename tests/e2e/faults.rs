//! Upstreams that misbehave: on the shared route none of them may speak for the others, end a client's session or
//! make everybody wait.

use crate::config;
use o1_tests::{Backend, Gateway, Http, Legacy, Modern, backend::Answer, until};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Ours for "the upstream does not answer", JSON-RPC's for "what it says makes no sense".
const UNAVAILABLE: i64 = -33001;
const INTERNAL: i64 = -32603;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_becomes_a_typed_error_and_never_the_clients_status() {
    let backend = Backend::start().await;
    for (tool, answer) in [
        ("busy", Answer::Status(503, "try later".into())),
        ("broken", Answer::Status(500, "<html>oops</html>".into())),
        ("gone", Answer::Status(418, "short and stout".into())),
        ("garbage", Answer::Message("{{nope".into())),
        ("cut", Answer::Message(r#"{"jsonrpc":"2.0","id":ID,"result":{"content":["#.into())),
        ("hangup", Answer::Hangup),
    ] {
        backend.tool(tool, answer);
    }
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;
    let legacy = Legacy::open(gateway.address(), "/mcp").await;
    let modern = Modern::new(gateway.address(), "/mcp");
    for tool in ["busy", "broken", "gone", "garbage", "cut", "hangup"] {
        let tool = format!("only__{tool}");
        for (era, reply) in
            [("legacy", legacy.call(&tool, "{}").await), ("modern", modern.call(&tool, "{}").await)]
        {
            assert_eq!(reply.status, 200, "{era} {tool}: {}", reply.text());
            let code = reply.error_code().unwrap_or_default();
            assert!([UNAVAILABLE, INTERNAL].contains(&code), "{era} {tool}: {}", reply.text());
        }
    }
    let reply = legacy.call("only__echo", r#"{"still":"here"}"#).await;
    assert_eq!(reply.result()["structuredContent"]["still"], "here", "the session lives on");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_a_server_that_hangs_wait_once_and_not_in_turns() {
    let (up, hung) = (Backend::start().await, Backend::start().await);
    let never = Answer::Later(Duration::from_secs(120), Box::new(Answer::Hangup));
    hung.answer("initialize", never.clone());
    hung.answer("server/discover", never);
    let text = config([up.upstream("up"), hung.upstream("hung") + "    timeouts: {connect: 2s}\n"]);
    let gateway = Gateway::start(&text).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let began = Instant::now();
    let calls = (0..5).map(|_| client.call("hung__echo", "{}"));
    for reply in futures_util::future::join_all(calls).await {
        assert!(reply.error_code().is_some(), "{}", reply.text());
    }
    // In turns it would be ten.
    assert!(began.elapsed() < Duration::from_secs(7), "five calls took {:?}", began.elapsed());
    assert_eq!(client.call("up__echo", r#"{"n":1}"#).await.result()["structuredContent"]["n"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_sessions_hides_no_other() {
    let (up, refusing) = (Backend::start().await, Backend::start().await);
    refusing.answer("initialize", Answer::Error(r#"{"code":-32603,"message":"not today"}"#.into()));
    let gateway = Gateway::start(&config([up.upstream("up"), refusing.upstream("refusing")])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    assert_eq!(client.tools().await, ["up__echo"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_cancelled_at_a_process_ends_quietly() {
    let program = env!("CARGO_BIN_EXE_o1-test-server");
    let gateway =
        Gateway::start(&config([format!("  p:\n    primary:\n      - command: [{program}]\n")])).await;
    for (route, tool) in [("/mcp", "p__sleep"), ("/u/p/mcp", "sleep")] {
        let client = Legacy::open(gateway.address(), route).await;
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":"slow","method":"tools/call","params":{{"name":"{tool}","arguments":{{"ms":6000}}}}}}"#
        );
        let cancelled =
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"slow"}}"#;
        let cancel = async {
            until("the call to be in flight", Duration::from_secs(10), || async {
                (active(&gateway).await == 1).then_some(())
            })
            .await;
            assert_eq!(client.post(cancelled.to_owned()).await.status, 202);
        };
        let began = Instant::now();
        let (reply, ()) = tokio::join!(client.post(call), cancel);
        assert!(began.elapsed() < Duration::from_secs(5), "{route}: the client is let go at once");
        assert_eq!(
            (reply.status, reply.messages().len()),
            (200, 0),
            "{route}: no answer, as the client wished"
        );
        assert_eq!(client.call(&tool.replace("sleep", "echo"), r#"{"n":1}"#).await.status, 200);
    }
    until("nothing in flight", Duration::from_secs(10), || async {
        (active(&gateway).await == 0).then_some(())
    })
    .await;
}

/// Calls in flight at the only upstream, as the node's own status has it.
async fn active(gateway: &Gateway) -> u64 {
    let status: Value = Http::new(gateway.data.admin).get("/status").await.json();
    status["upstreams"][0]["active_requests"].as_u64().expect("a number")
}
