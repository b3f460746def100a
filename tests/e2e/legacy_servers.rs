//! Modern clients in front of servers that speak only the revisions with `initialize`.

use crate::config;
use o1_tests::{Answer, Backend, Gateway, Modern, backend::Era, http::Reply, mcp, until};
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const ROUTE: &str = "/u/old/mcp";

async fn gateway() -> (Gateway, Backend) {
    let old = Backend::with(Era::Legacy).await;
    let gateway = Gateway::start(&config([old.upstream("old")])).await;
    (gateway, old)
}

/// A modern request of a client that declares these capabilities.
async fn request(client: &Modern, method: &str, params: &str, declared: &str) -> Reply {
    let (headers, body) = declaring(method, params, declared);
    client.http.send("POST", &client.path, &mcp::borrowed(&headers), body).await
}

fn declaring(method: &str, params: &str, declared: &str) -> (Vec<(String, String)>, String) {
    let (headers, body) = mcp::modern(method, params);
    let key = r#""io.modelcontextprotocol/clientCapabilities":"#;
    (headers, body.replace(&format!("{key}{{}}"), &format!("{key}{declared}")))
}

/// A tool that asks the user for a name and answers a while later.
fn asks_for_a_name(old: &Backend, tool: &str, method: &str) {
    let schema = r#"{"type":"object","properties":{"name":{"type":"string"}}}"#;
    let params = format!(r#"{{"message":"who?","requestedSchema":{schema},"x":1.10}}"#);
    let ask = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"{method}","params":{params}}}"#);
    let later = Answer::Later(Duration::from_millis(1500), Box::new(Answer::text("hello")));
    old.tool(tool, Answer::Stream(vec![(Duration::ZERO, ask)], Box::new(later)));
}

const ASKS: &str = r#"{"elicitation":{}}"#;

// agentgateway#2982: a modern client got "Missing session ID" from a stateful server.
#[tokio::test(flavor = "multi_thread")]
async fn modern_calls_reach_a_stateful_server_in_one_session_that_the_gateway_opened() {
    let (gateway, old) = gateway().await;
    let address = gateway.address();
    let calls = (0..20).map(|n| async move {
        let client = Modern::new(address, ROUTE);
        let reply = client.call("echo", &format!(r#"{{"n":{n},"x":1.10}}"#)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let result = reply.result();
        assert_eq!(
            (&result["structuredContent"]["n"], &result["resultType"]),
            (&n.into(), &"complete".into())
        );
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "raw");
        assert!(reply.text().contains(r#"{"n":N,"x":1.10}"#.replace('N', &n.to_string()).as_str()));
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(old.received_of("initialize").len(), 1, "one session for all");
    let mut ids = Vec::new();
    for call in old.received_of("tools/call") {
        assert!(call.header("mcp-session-id").starts_with("backend-session-"));
        assert_eq!(
            (call.header("mcp-method"), call.header("mcp-name")),
            ("", ""),
            "headers of the other era"
        );
        assert!(!call.body.contains("io.modelcontextprotocol/"), "{}", call.body);
        ids.push(call.member("id"));
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20, "ids are unique in a session");
}

// stacklok/toolhive#5796: a server that gives out no session ids was unusable.
// IBM/mcp-context-forge#5484: servers with and without sessions behind one address.
#[tokio::test(flavor = "multi_thread")]
async fn servers_with_and_without_sessions_stand_side_by_side() {
    let (with, without) = (Backend::with(Era::Legacy).await, Backend::with(Era::Legacy).await);
    without.give_no_sessions();
    let gateway = Gateway::start(&config([with.upstream("with"), without.upstream("without")])).await;
    for (name, backend) in [("with", &with), ("without", &without)] {
        let client = Modern::new(gateway.address(), &format!("/u/{name}/mcp"));
        let discovered = client.request("server/discover", "{}").await.result();
        assert_eq!(discovered["supportedVersions"], serde_json::json!(["2026-07-28"]));
        // What never comes is not announced: this server offers no stream of its own.
        assert_eq!(discovered["capabilities"]["tools"]["listChanged"] == true, name == "with");
        let listed = client.request("tools/list", "{}").await.result();
        assert_eq!((&listed["ttlMs"], &listed["cacheScope"]), (&0.into(), &"private".into()));
        let called = client.call("echo", r#"{"a":1}"#).await;
        assert_eq!(called.result()["structuredContent"]["a"], 1, "{name}");
        assert_eq!(backend.last("tools/call").header("mcp-session-id").is_empty(), name == "without");
    }
    let client = Modern::new(gateway.address(), "/mcp");
    until("both in one list", SOON, || async {
        let tools = client.tools().await;
        (tools == ["with__echo", "without__echo"]).then_some(())
    })
    .await;
    for tool in ["with__echo", "without__echo"] {
        assert_eq!(client.call(tool, r#"{"b":2}"#).await.result()["structuredContent"]["b"], 2, "{tool}");
    }
}

// stacklok/toolhive#6059, #6074: what a server asks in the middle of a call never reached modern clients.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_in_a_call_becomes_input_required_and_its_answer_ends_the_same_call() {
    let (gateway, old) = gateway().await;
    asks_for_a_name(&old, "ask", "elicitation/create");
    let client = Modern::new(gateway.address(), ROUTE);
    let asked = request(&client, "tools/call", r#"{"name":"ask","arguments":{}}"#, ASKS).await.result();
    assert_eq!(asked["resultType"], "input_required");
    let question = &asked["inputRequests"]["name"];
    assert_eq!(
        (&question["method"], &question["params"]["message"]),
        (&"elicitation/create".into(), &"who?".into())
    );
    let state = asked["requestState"].as_str().unwrap().to_owned();
    let answer = r#"{"action":"accept","content":{"name":"Ada","n":1.10}}"#;
    let retry = |name: &str, state: &str| {
        format!(
            r#"{{"name":"{name}","arguments":{{}},"inputResponses":{{"name":{answer}}},"requestState":"{state}"}}"#
        )
    };
    // Neither changed, nor for another tool.
    old.tool("other", Answer::Echo);
    for wrong in [retry("ask", &format!("{state}x")), retry("other", &state), retry("ask", "")] {
        assert_eq!(request(&client, "tools/call", &wrong, ASKS).await.error_code(), Some(-32602), "{wrong}");
    }
    // An answer that is none can be given once more.
    let invalid = retry("ask", &state).replace(answer, "12345");
    assert_eq!(request(&client, "tools/call", &invalid, ASKS).await.error_code(), Some(-32602));
    let ended = request(&client, "tools/call", &retry("ask", &state), ASKS).await.result();
    assert_eq!((&ended["content"][0]["text"], &ended["resultType"]), (&"hello".into(), &"complete".into()));
    let delivered = old.received().into_iter().find(|request| request.body.contains("\"result\"")).unwrap();
    assert_eq!((delivered.member("id").as_str(), delivered.member("result").as_str()), ("0", answer));
    // A state is good once, and nothing runs twice.
    let again = request(&client, "tools/call", &retry("ask", &state), ASKS).await;
    assert_eq!(again.error_code(), Some(-32602));
    assert_eq!(old.received_of("tools/call").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_never_asked_what_it_did_not_declare() {
    let (gateway, old) = gateway().await;
    asks_for_a_name(&old, "ask", "sampling/createMessage");
    let client = Modern::new(gateway.address(), ROUTE);
    let refused = request(&client, "tools/call", r#"{"name":"ask","arguments":{}}"#, ASKS).await;
    assert_eq!((refused.status, refused.error_code()), (400, Some(-32021)));
    let body: Value = serde_json::from_str(&refused.text()).unwrap();
    assert_eq!(body["error"]["data"]["requiredCapabilities"], serde_json::json!({"sampling": {}}));
    assert!(old.last("initialize").body.contains(r#""capabilities":{"elicitation":{}}"#));
    until("the call to be cancelled at the server", SOON, || async {
        old.received_of("notifications/cancelled").pop()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_server_lost_is_opened_again_and_no_call_runs_twice() {
    let (gateway, old) = gateway().await;
    let client = Modern::new(gateway.address(), ROUTE);
    assert_eq!(client.call("echo", r#"{"n":1}"#).await.status, 200);
    old.forget_sessions();
    let reply = client.call("echo", r#"{"n":2}"#).await;
    assert_eq!(reply.result()["structuredContent"]["n"], 2, "{}", reply.text());
    assert_eq!(old.received_of("initialize").len(), 2);
    let second = |request: &&o1_tests::backend::Received| request.body.contains(r#"{"n":2}"#);
    let sent = old.received_of("tools/call");
    let sessions: Vec<_> = sent.iter().filter(second).map(|call| call.header("mcp-session-id")).collect();
    // Something else of the gateway may have found out first that the session is gone.
    let refused = sessions.iter().filter(|session| **session == "backend-session-1").count();
    assert!(refused <= 1 && sessions.len() == refused + 1, "again only where it was refused: {sessions:?}");
    assert_eq!(*sessions.last().unwrap(), "backend-session-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_its_stream_cancels_the_call_at_the_server() {
    let (gateway, old) = gateway().await;
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":TOKEN,"progress":1}}"#;
    let later = Answer::Later(Duration::from_secs(60), Box::new(Answer::text("late")));
    old.tool("slow", Answer::Stream(vec![(Duration::ZERO, progress.to_owned())], Box::new(later)));
    let client = Modern::new(gateway.address(), ROUTE);
    let (headers, body) = mcp::modern("tools/call", r#"{"name":"slow","arguments":{}}"#);
    let body = body.replace(r#""_meta":{"#, r#""_meta":{"progressToken":"mine","#);
    let mut stream = o1_tests::http::Stream::new(
        client.http.try_send("POST", ROUTE, &mcp::borrowed(&headers), body).await.unwrap(),
    );
    let note =
        stream.message("progress", SOON, |message| message["method"] == "notifications/progress").await;
    assert_eq!(note["params"]["progressToken"], "mine", "the client's own token");
    drop(stream);
    let cancelled = until("the call to be cancelled", SOON, || async {
        old.received_of("notifications/cancelled").pop()
    })
    .await;
    let id = old.last("tools/call").member("id");
    assert!(cancelled.member("params").contains(&format!(r#""requestId":{id}"#)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_acknowledged_tagged_and_held_to_its_filter() {
    let (gateway, old) = gateway().await;
    let client = Modern::new(gateway.address(), ROUTE);
    let filter =
        r#"{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["test://w"],"x":true}}"#;
    let mut stream = client.stream("subscriptions/listen", filter).await;
    let first = stream.message("the acknowledgement", SOON, |_| true).await;
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    let honoured = serde_json::json!({"toolsListChanged": true, "resourceSubscriptions": ["test://w"]});
    assert_eq!(first["params"]["notifications"], honoured);
    assert_eq!(old.received_of("resources/subscribe").len(), 1);
    until("the gateway to listen", SOON, || async { (old.streams() > 0).then_some(()) }).await;
    let note = |method: &str, params: &str| {
        old.notify(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{params}}}"#));
    };
    note("prompts/list_changed", "{}");
    note("resources/updated", r#"{"uri":"test://other"}"#);
    note("message", r#"{"level":"error","data":"x"}"#);
    note("resources/updated", r#"{"uri":"test://w","v":1.10}"#);
    let updated = stream.message("something", SOON, |_| true).await;
    assert_eq!(updated["method"], "notifications/resources/updated", "{updated}");
    assert_eq!(updated["params"]["uri"], "test://w");
    assert_eq!(updated["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 7);
    note("tools/list_changed", "{}");
    let changed = stream.message("something", SOON, |_| true).await;
    assert_eq!(changed["method"], "notifications/tools/list_changed", "{changed}");
    drop(stream);
    until("the subscription to end at the server", SOON, || async {
        old.received_of("resources/unsubscribe").pop()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_come_to_requests_that_asked_for_them_from_their_level_on() {
    let (gateway, old) = gateway().await;
    let log = |level: &str| {
        let params = format!(r#"{{"level":"{level}","data":"{level}"}}"#);
        (Duration::ZERO, format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{params}}}"#))
    };
    let steps = vec![log("debug"), log("warning"), log("error")];
    old.tool("logs", Answer::Stream(steps, Box::new(Answer::text("done"))));
    let client = Modern::new(gateway.address(), ROUTE);
    let plain = client.call("logs", "{}").await;
    assert!(!plain.text().contains("notifications/message"), "{}", plain.text());
    assert!(old.received_of("logging/setLevel").is_empty());
    let (headers, body) = mcp::modern("tools/call", r#"{"name":"logs","arguments":{}}"#);
    let body = body.replace(r#""_meta":{"#, r#""_meta":{"io.modelcontextprotocol/logLevel":"warning","#);
    let logged = client.http.send("POST", ROUTE, &mcp::borrowed(&headers), body).await.text();
    for (level, wanted) in [("debug", false), ("warning", true), ("error", true)] {
        assert_eq!(logged.contains(&format!(r#""data":"{level}""#)), wanted, "{level}: {logged}");
    }
    assert!(old.last("logging/setLevel").body.contains(r#"{"level":"warning"}"#));
}

// stacklok/toolhive#5831: health checks by ping marked modern servers as dead.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_looked_after_in_its_own_era() {
    let (old, new) = (Backend::with(Era::Legacy).await, Backend::with(Era::Modern).await);
    let gateway = Gateway::start(&config([old.upstream("old"), new.upstream("new")])).await;
    until("both to be looked at", SOON, || async {
        (!old.received().is_empty() && !new.received().is_empty()).then_some(())
    })
    .await;
    let client = Modern::new(gateway.address(), "/u/new/mcp");
    assert_eq!(client.call("echo", "{}").await.status, 200);
    for request in new.received() {
        assert!(matches!(request.method.as_str(), "server/discover" | "tools/call"), "{request:?}");
    }
    assert!(old.received_of("initialize").is_empty(), "no session only to look at a server");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_era_removed_is_unknown_whatever_the_server_knows() {
    let (gateway, old) = gateway().await;
    let client = Modern::new(gateway.address(), ROUTE);
    for method in ["ping", "logging/setLevel", "resources/subscribe", "tasks/list"] {
        let reply = client.request(method, "{}").await;
        assert_eq!((reply.status, reply.error_code()), (404, Some(-32601)), "{method}");
        assert!(old.received_of(method).is_empty(), "{method}");
    }
    old.answer("resources/read", Answer::Error(r#"{"code":-32002,"message":"not found"}"#.into()));
    let missing = client.request("resources/read", r#"{"uri":"test://gone"}"#).await;
    assert_eq!(missing.error_code(), Some(-32602));
    assert!(missing.text().contains(r#""data":{"uri":"test://gone"}"#), "{}", missing.text());
}
