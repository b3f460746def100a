//! The transport of 2024-11-05, HTTP+SSE, towards upstreams.

use crate::config;
use o1_tests::{Answer, Backend, Gateway, Legacy, Modern, until};
use std::time::Duration;

const SECONDS: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn each_session_has_a_stream_of_its_own_and_ends_it() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&config([backend.sse_upstream("old")])).await;
    // The catalogue has a session of its own.
    assert_eq!(Legacy::open(gateway.address(), "/mcp").await.tools().await, ["old__echo"]);
    for (route, tool) in [("/mcp", "old__echo"), ("/u/old/mcp", "echo")] {
        let before = backend.sse_streams();
        let clients =
            futures_util::future::join_all((0..5).map(|_| Legacy::open(gateway.address(), route))).await;
        let odd = r#"{"z":12345678901234567890123,"a":1.10,"x":"\u00e9"}"#;
        for client in &clients {
            let calls = (0..10).map(|_| client.call(tool, odd));
            for reply in futures_util::future::join_all(calls).await {
                let content = o1_tests::http::member(&reply.result_bytes(), "structuredContent");
                assert_eq!(content.as_deref(), Some(odd), "{route}");
            }
        }
        // The session that the gateway lists with was there before.
        assert_eq!(backend.sse_streams() - before, 5, "{route}");
        for client in &clients {
            client.http.send("DELETE", route, &client.headers(), "").await;
        }
        until("the streams to end", SECONDS, || async { (backend.sse_streams() <= before).then_some(()) })
            .await;
    }
    until("the status to say so", SECONDS, || async {
        let status = gateway.control.o1ctl(&["status"]).await;
        (status["upstreams"][0]["state"] == "healthy").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_and_notifications_arrive_and_a_cancelled_call_is_cancelled() {
    let backend = Backend::start().await;
    let note = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":TOKEN,"progress":1}}"#;
    let steps = vec![(Duration::from_millis(10), note.to_owned())];
    backend.tool("slow", Answer::Stream(steps, Box::new(Answer::text("done"))));
    backend.tool("stuck", Answer::Later(Duration::from_secs(60), Box::new(Answer::text("late"))));
    let gateway = Gateway::start(&config([backend.sse_upstream("old")])).await;
    let client = Legacy::open(gateway.address(), "/u/old/mcp").await;
    let mut listening = client.listen().await;
    let params = r#"{"name":"slow","arguments":{},"_meta":{"progressToken":"mine"}}"#;
    let reply = client.request("tools/call", params).await;
    let messages = reply.messages();
    assert!(messages[0].contains(r#""progressToken":"mine""#), "{messages:?}");
    assert_eq!(reply.result()["content"][0]["text"], "done");
    backend.sse_say(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    listening.notification("notifications/tools/list_changed", SECONDS).await;
    let call = r#"{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"stuck","arguments":{}}}"#;
    let cancel = async {
        until("the call", SECONDS, || async { (backend.received_of("tools/call").len() == 2).then_some(()) })
            .await;
        let began = tokio::time::Instant::now();
        let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x"}}"#;
        assert_eq!(client.post(note).await.status, 202);
        until("the upstream to hear of it", SECONDS, || async {
            backend.received_of("notifications/cancelled").pop()
        })
        .await;
        println!("SSE, legacy: the upstream heard of the cancellation after {:?}", began.elapsed());
    };
    let (reply, ()) = tokio::join!(client.post(call), cancel);
    assert!(reply.messages().is_empty(), "{}", reply.text());
    let id = o1_tests::http::member(&backend.last("tools/call").body, "id").unwrap();
    assert!(backend.last("notifications/cancelled").body.contains(&format!(r#""requestId":{id}"#)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_is_another_session_and_no_call_is_sent_twice() {
    let backend = Backend::start().await;
    backend.tool("hangup", Answer::Hangup);
    let gateway = Gateway::start(&config([backend.sse_upstream("old")])).await;
    for (route, prefix) in [("/mcp", "old__"), ("/u/old/mcp", "")] {
        let client = Legacy::open(gateway.address(), route).await;
        let echo = format!("{prefix}echo");
        assert_eq!(client.call(&echo, r#"{"n":1}"#).await.result()["structuredContent"]["n"], 1);
        let sent = backend.received_of("tools/call").len();
        let lost = client.call(&format!("{prefix}hangup"), "{}").await;
        assert_eq!(lost.error_code(), Some(-33001), "{route}: {}", lost.text());
        assert_eq!(backend.received_of("tools/call").len(), sent + 1, "{route}");
        assert_eq!(client.call(&echo, r#"{"n":2}"#).await.result()["structuredContent"]["n"], 2, "{route}");
        backend.sse_cut();
        until("the session to go on", SECONDS, || async {
            let reply = client.call(&echo, r#"{"n":3}"#).await;
            (reply.error_code().is_none() && reply.result()["structuredContent"]["n"] == 3).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_elsewhere_gets_nothing() {
    let (backend, elsewhere) = (Backend::start().await, Backend::start().await);
    let gateway = Gateway::start(&config([backend.sse_upstream("old")])).await;
    backend.sse_endpoint(&format!("http://{}/message?sessionId=SESSION", elsewhere.address));
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let reply = client.call("old__echo", "{}").await;
    assert!(reply.error_code().is_some(), "{}", reply.text());
    assert!(elsewhere.received().is_empty());
    backend.sse_endpoint(&format!("http://{}/message?sessionId=SESSION", backend.address));
    until("the same origin to be good", SECONDS, || async {
        client.call("old__echo", "{}").await.error_code().is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_client_is_told_or_served_but_never_left_waiting() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&config([backend.sse_upstream("old")])).await;
    let reply = Modern::new(gateway.address(), "/u/old/mcp").call("echo", r#"{"n":1}"#).await;
    let json = reply.json();
    assert!(json["result"]["structuredContent"]["n"] == 1 || json["error"].is_object(), "{json}");
}
