//! What flows beside calls: servers that ask, notify and log, subscriptions, completions, calls that are given up.

use crate::config;
use o1_tests::{Answer, Backend, Gateway, Legacy, Modern, backend::Era, http::member, until};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

async fn gateway(era: Era) -> (Gateway, Backend, Backend) {
    let (left, right) = (Backend::with(era).await, Backend::with(era).await);
    let gateway = Gateway::start(&config([left.upstream("left"), right.upstream("right")])).await;
    (gateway, left, right)
}

/// Waits until the gateway listens to both backends, so that what they say is heard.
async fn listening(backends: [&Backend; 2]) {
    until("the gateway to listen to both servers", SOON, || async {
        backends.iter().all(|backend| backend.streams() > 0).then_some(())
    })
    .await;
}

/// Waits until the session listens to a server that it uses, beside the view, which listens to every one.
async fn heard(backend: &Backend) {
    until("the stream of the session and that of the view", SOON, || async {
        (backend.streams() >= 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_a_server_reaches_the_client_and_its_answer_finds_the_way_back() {
    let (gateway, left, right) = gateway(Era::Both).await;
    // Both servers count their requests from the same number, as servers do.
    let ask =
        r#"{"jsonrpc":"2.0","id":0,"method":"elicitation/create","params":{"message":"NAME?","x":1.10}}"#;
    for (backend, name) in [(&left, "left"), (&right, "right")] {
        let later = Answer::Later(Duration::from_secs(3), Box::new(Answer::text("thanks")));
        backend
            .tool("ask", Answer::Stream(vec![(Duration::ZERO, ask.replace("NAME", name))], Box::new(later)));
    }
    for (route, tools) in [("/mcp", ["left__ask", "right__ask"]), ("/u/left/mcp", ["ask", "ask"])] {
        let client = Legacy::open(gateway.address(), route).await;
        let mut calls = Vec::new();
        for tool in tools {
            let mut call = client.stream("tools/call", &format!(r#"{{"name":"{tool}"}}"#)).await;
            let question =
                call.message("a question", SOON, |message| message["method"] == "elicitation/create").await;
            calls.push((call, question));
        }
        // Answered in the other order.
        for (mut call, question) in calls.into_iter().rev() {
            assert_eq!(question["params"]["x"].to_string(), "1.1", "the question came whole: {question}");
            let name = question["params"]["message"].as_str().unwrap().trim_end_matches('?').to_owned();
            let id = &question["id"];
            let result = format!(r#"{{"action":"accept","content":{{"n":1.10,"for":"{name}"}}}}"#);
            let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
            assert_eq!(client.post(answer).await.status, 202, "{route}");
            let backend = if name == "left" { &left } else { &right };
            let received = until("the answer at its server", SOON, || async {
                backend
                    .received()
                    .into_iter()
                    .rev()
                    .find(|request| request.body.contains(r#""action":"accept""#))
            })
            .await;
            assert_eq!(received.member("id"), "0", "{route}: under the id that the server gave");
            assert_eq!(received.member("result"), result, "{route}: byte for byte");
            call.message("the end of the call", SOON, |message| message["result"].is_object()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_may_take_longer_to_answer_than_a_server_may_be_silent() {
    let backend = Backend::start().await;
    let ask = r#"{"jsonrpc":"2.0","id":0,"method":"elicitation/create","params":{"message":"m"}}"#;
    let later = Answer::Later(Duration::from_secs(3), Box::new(Answer::text("thanks")));
    backend.tool("ask", Answer::Stream(vec![(Duration::ZERO, ask.to_owned())], Box::new(later)));
    let gateway =
        Gateway::start(&config([backend.upstream("only") + "    timeouts: {idle: 1s, total: 30s}\n"])).await;
    for (route, tool) in [("/mcp", "only__ask"), ("/u/only/mcp", "ask")] {
        let client = Legacy::open(gateway.address(), route).await;
        let mut call = client.stream("tools/call", &format!(r#"{{"name":"{tool}"}}"#)).await;
        call.message("a question", SOON, |message| message["method"] == "elicitation/create").await;
        let end = call.message("the end", SOON, |message| message["method"].is_null()).await;
        assert_eq!(end["result"]["content"][0]["text"], "thanks", "{route}: {end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_to_resources_reach_their_server_and_updates_the_client() {
    let (gateway, left, right) = gateway(Era::Both).await;
    let resource = r#"{"uri":"test://watched","name":"w"}"#;
    let rest = r#""resultType":"complete","ttlMs":0,"cacheScope":"private""#;
    right.answer("resources/list", Answer::Result(format!(r#"{{"resources":[{resource}],{rest}}}"#)));
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let mut stream = client.listen().await;
    listening([&left, &right]).await;
    let subscribed = until("the resource to be known", SOON, || async {
        let reply = client.request("resources/subscribe", r#"{"uri":"test://watched"}"#).await;
        (reply.error_code().is_none()).then_some(reply)
    })
    .await;
    assert_eq!(subscribed.result_bytes(), "{}");
    assert_eq!(right.last("resources/subscribe").member("params"), r#"{"uri":"test://watched"}"#);
    assert_eq!(left.received_of("resources/subscribe").len(), 0);

    let update = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"test://watched","x":1.10}}"#;
    heard(&right).await;
    right.notify(update);
    let received = stream.notification("notifications/resources/updated", SOON).await;
    assert_eq!(received["params"]["uri"], "test://watched");
    assert_eq!(
        client.request("resources/unsubscribe", r#"{"uri":"test://watched"}"#).await.result_bytes(),
        "{}"
    );
    assert_eq!(right.received_of("resources/unsubscribe").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_levels_reach_every_server_and_log_messages_the_client() {
    let (gateway, left, right) = gateway(Era::Both).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let mut stream = client.listen().await;
    listening([&left, &right]).await;
    // One server that the session talks to already, one that it talks to later.
    assert!(client.call("left__echo", "{}").await.result().is_object());
    assert_eq!(client.request("logging/setLevel", r#"{"level":"debug"}"#).await.result_bytes(), "{}");
    assert!(client.call("right__echo", "{}").await.result().is_object());
    for backend in [&left, &right] {
        assert_eq!(backend.last("logging/setLevel").member("params"), r#"{"level":"debug"}"#);
    }
    let message =
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":{"n":1.10}}}"#;
    heard(&left).await;
    left.notify(message);
    let received =
        stream.message("a log message", SOON, |message| message["method"] == "notifications/message").await;
    assert_eq!(received["params"]["level"], "info");
    assert_eq!(client.request("logging/setLevel", r#"{"level":"loud"}"#).await.error_code(), Some(-32602));
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_find_the_server_behind_a_prefixed_prompt() {
    let (gateway, left, right) = gateway(Era::Both).await;
    left.answer(
        "completion/complete",
        Answer::Result(r#"{"completion":{"values":["a"]},"resultType":"complete"}"#.into()),
    );
    left.answer(
        "prompts/list",
        Answer::Result(
            r#"{"prompts":[{"name":"p"}],"resultType":"complete","ttlMs":0,"cacheScope":"private"}"#.into(),
        ),
    );
    let argument = r#""argument":{"name":"n","value":"v"}"#;
    let params = |name: &str| format!(r#"{{"ref":{{"type":"ref/prompt","name":"{name}"}},{argument}}}"#);
    let legacy = Legacy::open(gateway.address(), "/mcp")
        .await
        .request("completion/complete", &params("left__p"))
        .await;
    assert_eq!(legacy.result()["completion"]["values"][0], "a");
    assert_eq!(left.last("completion/complete").member("params"), params("p"));
    let modern =
        Modern::new(gateway.address(), "/mcp").request("completion/complete", &params("left__p")).await;
    assert_eq!(modern.result()["completion"]["values"][0], "a");
    assert_eq!(right.received_of("completion/complete").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_subscription_is_acknowledged_tagged_filtered_and_outlives_a_server() {
    let (gateway, left, mut right) = gateway(Era::Modern).await;
    let modern = Modern::new(gateway.address(), "/mcp");
    assert_eq!(modern.tools().await.len(), 2);
    let mut stream =
        modern.stream("subscriptions/listen", r#"{"notifications":{"toolsListChanged":true}}"#).await;
    let first = stream.event().await.expect("an acknowledgement");
    assert_eq!(
        member(&first.data, "method").as_deref(),
        Some(r#""notifications/subscriptions/acknowledged""#)
    );
    let first: serde_json::Value = serde_json::from_str(&first.data).unwrap();
    assert_eq!(first["params"]["notifications"], serde_json::json!({"toolsListChanged": true}));
    assert_eq!(first["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 7);
    listening([&left, &right]).await;

    left.notify(r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#);
    left.tool("more", Answer::text("more"));
    left.notify(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    let next = stream.message("any notification", SOON, |message| message["method"].is_string()).await;
    assert_eq!(next["method"], "notifications/tools/list_changed", "and nothing that was not asked for");
    assert_eq!(next["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 7);
    assert_eq!(modern.tools().await.len(), 3);

    right.stop().await;
    until("the broken stream to be gone", SOON, || async { (right.streams() == 0).then_some(()) }).await;
    right.resume().await;
    until("the gateway to listen to the server that returned", Duration::from_secs(30), || async {
        (right.streams() > 0).then_some(())
    })
    .await;
    right.tool("other", Answer::text("other"));
    right.notify(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    until("the tool of the server that returned", SOON, || async {
        modern.tools().await.contains(&"right__other".to_owned()).then_some(())
    })
    .await;
    stream.notification("notifications/tools/list_changed", SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_call_that_its_client_gives_up_is_given_up_at_the_server() {
    let (gateway, left, _right) = gateway(Era::Modern).await;
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#;
    let last = Answer::Later(Duration::from_secs(60), Box::new(Answer::text("late")));
    left.tool("slow", Answer::Stream(vec![(Duration::ZERO, progress.to_owned())], Box::new(last)));
    for (route, tool) in [("/mcp", "left__slow"), ("/u/left/mcp", "slow")] {
        let before = left.cut();
        let mut call = Modern::new(gateway.address(), route)
            .stream("tools/call", &format!(r#"{{"name":"{tool}"}}"#))
            .await;
        call.notification("notifications/progress", SOON).await;
        drop(call);
        until("the call to be cut at the server", SOON, || async { (left.cut() > before).then_some(()) })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_answer_in_time_is_a_timeout() {
    let backend = Backend::start().await;
    backend.tool("silent", Answer::Later(Duration::from_secs(60), Box::new(Answer::text("late"))));
    let text = config([backend.upstream("only") + "    timeouts: {idle: 1s, total: 5s}\n"]);
    let gateway = Gateway::start(&text).await;
    let step = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":TOKEN,"progress":1}}"#;
    let steps = vec![(Duration::from_millis(700), step.to_owned()); 3];
    backend.tool("steady", Answer::Stream(steps, Box::new(Answer::text("done"))));
    for (route, prefix) in [("/mcp", "only__"), ("/u/only/mcp", "")] {
        let client = Legacy::open(gateway.address(), route).await;
        let answer = client.call(&format!("{prefix}silent"), "{}").await;
        assert!(answer.json()["error"].is_object(), "{route}: {}", answer.text());
        assert!(answer.text().contains("in time"), "{route}: it says why: {}", answer.text());
        let params = format!(r#"{{"name":"{prefix}steady","_meta":{{"progressToken":1}}}}"#);
        let reply = client.request("tools/call", &params).await;
        assert_eq!(reply.result()["content"][0]["text"], "done", "{route}: progress ends a silence");
    }
}
