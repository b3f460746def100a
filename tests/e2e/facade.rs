//! Legacy clients of servers that speak nothing but 2026-07-28.

use crate::config;
use o1_tests::{Answer, Backend, Gateway, Legacy, backend::Era, http::Http, mcp::LEGACY, until};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(10);
/// Both ways to the one server, and its tools' prefix there.
const ROUTES: [(&str, &str); 2] = [("/mcp", "only__"), ("/u/only/mcp", "")];

async fn gateway() -> (Gateway, Backend) {
    gateway_with(&[], "").await
}

/// With tools that are there from the start: lists are kept in the background.
async fn gateway_with(tools: &[&str], more: &str) -> (Gateway, Backend) {
    let backend = Backend::with(Era::Modern).await;
    for tool in tools {
        backend.tool(tool, Answer::Hangup);
    }
    let gateway = Gateway::start(&config([backend.upstream("only") + more])).await;
    (gateway, backend)
}

async fn client(gateway: &Gateway, route: &str, version: &str, capabilities: &str) -> Legacy {
    Legacy::open_with(Http::new(gateway.address()), route, version, capabilities).await
}

/// A result that asks the user for a name.
fn asks(state: &str) -> Answer {
    let question = r#"{"method":"elicitation/create","params":{"mode":"form","message":"Name?","requestedSchema":{"type":"object","properties":{}},"n":1.10}}"#;
    Answer::Result(format!(
        r#"{{"resultType":"input_required","inputRequests":{{"who":{question}}},"requestState":{state}}}"#
    ))
}

fn envelope(params: &str) -> Value {
    let params: Value = serde_json::from_str(params).unwrap();
    params["_meta"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_session_becomes_requests_that_stand_alone() {
    let (gateway, backend) = gateway().await;
    for (route, prefix) in ROUTES {
        let client =
            client(&gateway, route, "2025-06-18", r#"{"roots":{},"elicitation":{},"tasks":{}}"#).await;
        assert_eq!(client.initialized["protocolVersion"], "2025-06-18", "{route}");
        assert!(!client.session.is_empty(), "{route}");
        assert_eq!(client.initialized["capabilities"]["logging"], json!({}), "{route}");

        let result = client.call(&format!("{prefix}echo"), r#"{"n":1.10,"big":12345678901234567890}"#).await;
        assert_eq!(result.status, 200);
        let expected = r#"{"content":[],"structuredContent":{"n":1.10,"big":12345678901234567890}}"#;
        assert_eq!(result.result_bytes(), expected, "{route}: and nothing of the other era");
        let sent = backend.last("tools/call");
        for (name, value) in [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "echo"),
            ("mcp-session-id", ""),
        ] {
            assert_eq!(sent.header(name), value, "{route}: {name}");
        }
        let meta = envelope(&sent.member("params"));
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(
            meta["io.modelcontextprotocol/clientCapabilities"],
            json!({"roots": {}, "elicitation": {}})
        );
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "o1-tests");
        assert_eq!(meta["io.modelcontextprotocol/logLevel"], "info", "servers log unless told otherwise");

        assert_eq!(client.request("logging/setLevel", r#"{"level":"error"}"#).await.result_bytes(), "{}");
        client.call(&format!("{prefix}echo"), "{}").await;
        let meta = envelope(&backend.last("tools/call").member("params"));
        assert_eq!(meta["io.modelcontextprotocol/logLevel"], "error", "{route}");
        assert_eq!(client.request("ping", "{}").await.result_bytes(), "{}");
        for absent in ["ping", "logging/setLevel", "notifications/initialized"] {
            assert_eq!(backend.received_of(absent).len(), 0, "{route}: {absent} has no place in that era");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_modern_server_are_worded_as_legacy_ones() {
    let (gateway, backend) = gateway().await;
    let data = r#""data":{"uri":"x:y","n":1.10}"#;
    backend.answer(
        "resources/read",
        Answer::Error(format!(r#"{{"code":-32602,"message":"no such resource",{data}}}"#)),
    );
    backend.answer(
        "completion/complete",
        Answer::Error(r#"{"code":-32021,"message":"m","data":{"requiredCapabilities":{"x":{}}}}"#.into()),
    );
    let client = Legacy::open(gateway.address(), "/u/only/mcp").await;
    let missing = client.request("resources/read", r#"{"uri":"x:y"}"#).await;
    assert_eq!((missing.status, missing.error_code()), (200, Some(-32002)));
    assert!(missing.text().contains(data), "{}", missing.text());
    let refused = client.request("completion/complete", "{}").await;
    assert_eq!((refused.status, refused.error_code()), (200, Some(-32602)));
    for hidden in ["server/discover", "subscriptions/listen", "tasks/get"] {
        assert_eq!(client.request(hidden, "{}").await.error_code(), Some(-32601), "{hidden}");
    }
    assert_eq!(client.request("vendor/unknown", "{}").await.error_code(), Some(-32601));
    assert_eq!(backend.received_of("vendor/unknown").len(), 1, "the server says what it does not know");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_travel_in_headers_as_the_schema_says_and_a_changed_schema_is_read_again() {
    let item = |header: &str| {
        let region = format!(r#"{{"type":"string","x-mcp-header":"{header}"}}"#);
        format!(r#"{{"name":"there","inputSchema":{{"type":"object","properties":{{"region":{region}}}}}}}"#)
    };
    for (route, prefix) in ROUTES {
        let (gateway, backend) = gateway_with(&["there"], "").await;
        backend.tool_as("there", &item("Region"), Answer::text("done"));
        let client = Legacy::open(gateway.address(), route).await;
        let tool = format!("{prefix}there");
        let call = || client.call(&tool, r#"{"region":"zürich"}"#);
        // Nobody has listed the tools by this session: the gateway does.
        assert_eq!(call().await.result()["content"][0]["text"], "done", "{route}");
        assert_eq!(backend.last("tools/call").header("mcp-param-region"), "=?base64?esO8cmljaA==?=");

        let before = backend.received_of("tools/call").len();
        let mismatch = Answer::Error(r#"{"code":-32020,"message":"header mismatch"}"#.into());
        backend.tool_as("there", &item("Zone"), Answer::InTurn(vec![mismatch, Answer::text("again")]));
        assert_eq!(call().await.result()["content"][0]["text"], "again", "{route}");
        let calls = backend.received_of("tools/call");
        assert_eq!(calls.len(), before + 2, "{route}: one more try");
        assert_eq!(calls[before + 1].header("mcp-param-zone"), "=?base64?esO8cmljaA==?=");
        assert_eq!(calls[before + 1].header("mcp-param-region"), "");
        assert_ne!(calls[before].member("id"), calls[before + 1].member("id"));

        backend.tool_as("there", &item("Zone"), Answer::Error(r#"{"code":-32020,"message":"never"}"#.into()));
        let before = backend.received_of("tools/call").len();
        assert_eq!(call().await.error_code(), Some(-32600), "{route}");
        assert_eq!(backend.received_of("tools/call").len(), before + 2, "{route}: tried twice, not for ever");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_with_broken_header_annotations_are_not_offered() {
    let (gateway, backend) = gateway().await;
    let schema = r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#;
    let item = format!(r#"{{"name":"broken","inputSchema":{schema}}}"#);
    backend.tool_as("broken", &item, Answer::text("never"));
    let client = Legacy::open(gateway.address(), "/u/only/mcp").await;
    assert_eq!(client.tools().await, ["echo"]);
}

// IBM/mcp-context-forge#6640: legacy clients get more than an error from tools that need input.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_in_a_result_is_put_to_the_client_in_the_middle_of_the_call() {
    let (gateway, backend) = gateway_with(&["ask"], "    timeouts: {idle: 1s}\n").await;
    for (route, prefix) in ROUTES {
        // The state keeps its spelling, escapes and all.
        let state = r#""a\u0062c=="#.to_owned() + "\"";
        backend.tool("ask", Answer::InTurn(vec![asks(&state), Answer::text("thanks")]));
        let client = client(&gateway, route, LEGACY, r#"{"elicitation":{}}"#).await;
        let before = backend.received_of("tools/call").len();
        let params = format!(r#"{{"name":"{prefix}ask","arguments":{{"n":1.10}}}}"#);
        let mut call = client.stream("tools/call", &params).await;
        let question =
            call.message("a question", SOON, |message| message["method"] == "elicitation/create").await;
        assert_eq!(question["params"]["message"], "Name?", "{route}");
        // A person takes longer than a server may be silent.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let id = &question["id"];
        let result = r#"{"action":"accept","content":{"n":1.10}}"#;
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        assert_eq!(client.post(answer).await.status, 202, "{route}");
        let end = call.message("the end", SOON, |message| message["id"] == 1).await;
        assert_eq!(end["result"]["content"][0]["text"], "thanks", "{route}: {end}");

        let calls = backend.received_of("tools/call");
        assert_eq!(calls.len(), before + 2, "{route}");
        let retried = calls[before + 1].member("params");
        assert_eq!(o1_tests::http::member(&retried, "requestState"), Some(state), "{route}: byte-exact");
        let responses = o1_tests::http::member(&retried, "inputResponses").unwrap();
        assert_eq!(responses, format!(r#"{{"who":{result}}}"#), "{route}");
        assert_eq!(o1_tests::http::member(&retried, "arguments").unwrap(), r#"{"n":1.10}"#, "{route}");
        assert_ne!(calls[before].member("id"), calls[before + 1].member("id"), "{route}: a new id");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_asked_only_what_it_declared() {
    let (gateway, backend) = gateway().await;
    backend.tool("ask", asks("\"s\""));
    let client = client(&gateway, "/u/only/mcp", LEGACY, r#"{"sampling":{}}"#).await;
    let refused = client.call("ask", "{}").await.json();
    assert_eq!(refused["error"]["code"], -32602);
    assert_eq!(refused["error"]["data"]["requiredCapabilities"], json!({"elicitation": {}}));
    assert_eq!(backend.received_of("tools/call").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_has_enough_input_is_cut_off() {
    let (gateway, backend) = gateway().await;
    backend.tool("ask", Answer::Result(r#"{"resultType":"input_required","requestState":"s"}"#.into()));
    let client = Legacy::open(gateway.address(), "/u/only/mcp").await;
    let began = Instant::now();
    let refused = client.call("ask", "{}").await;
    assert_eq!(refused.error_code(), Some(-32603), "{}", refused.text());
    assert_eq!(backend.received_of("tools/call").len(), 9, "eight rounds after the first request");
    assert!(began.elapsed() > Duration::from_millis(50 + 100 + 200), "with pauses in between");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_is_given_up_at_the_server_and_a_lost_connection_is_not() {
    let (gateway, backend) = gateway_with(&["slow", "slower"], "").await;
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":TOKEN,"progress":1}}"#;
    let slow = |time: u64| {
        let last = Answer::Later(Duration::from_secs(time), Box::new(Answer::text("late")));
        Answer::Stream(vec![(Duration::ZERO, progress.to_owned())], Box::new(last))
    };
    for (route, prefix) in ROUTES {
        backend.tool("slow", slow(60));
        backend.tool("slower", slow(2));
        let client = Legacy::open(gateway.address(), route).await;
        let params = format!(r#"{{"name":"{prefix}slow","_meta":{{"progressToken":"p"}}}}"#);
        let mut call = client.stream("tools/call", &params).await;
        let said = call.notification("notifications/progress", SOON).await;
        assert_eq!(said["params"]["progressToken"], "p", "{route}");
        let before = backend.cut();
        let note =
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"r"}}"#;
        let began = Instant::now();
        assert_eq!(client.post(note).await.status, 202);
        until("the call to be cut at the server", SOON, || async { (backend.cut() > before).then_some(()) })
            .await;
        assert!(began.elapsed() < Duration::from_secs(2), "{route}: at once, not at a timeout");
        assert!(call.end(SOON).await.is_empty(), "{route}: nothing is said after that");

        backend.tool("slow", slow(1));
        let mut lost = client.stream("tools/call", &params).await;
        lost.notification("notifications/progress", SOON).await;
        let before = backend.cut();
        drop(lost);
        // By the time that a longer call is over, the lost one would have been cut.
        let answer = client.call(&format!("{prefix}slower"), "{}").await;
        assert!(answer.text().contains("late"), "{route}: {}", answer.text());
        assert_eq!(backend.cut(), before, "{route}: it ran to its end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_of_a_session_are_one_at_the_server() {
    let (gateway, backend) = gateway().await;
    let filter = || -> Value {
        let params: Value =
            serde_json::from_str(&backend.last("subscriptions/listen").member("params")).unwrap();
        params["notifications"].clone()
    };
    let lists = json!({"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true});
    let with = |uris: &[&str]| {
        let mut all = lists.clone();
        if !uris.is_empty() {
            all["resourceSubscriptions"] = json!(uris);
        }
        all
    };
    let one_stream = |wanted: Value| {
        let (backend, filter) = (&backend, &filter);
        async move {
            until("one subscription for all that is wanted", SOON, || {
                let settled = backend.streams() == 1 && filter() == wanted;
                async move { settled.then_some(()) }
            })
            .await;
        }
    };
    let client = Legacy::open(gateway.address(), "/u/only/mcp").await;
    let mut stream = client.listen().await;
    until("the lists to be listened to", SOON, || async { (backend.streams() == 1).then_some(()) }).await;
    for uri in ["x:a", "x:b"] {
        let params = format!(r#"{{"uri":"{uri}"}}"#);
        assert_eq!(client.request("resources/subscribe", &params).await.result_bytes(), "{}");
    }
    one_stream(with(&["x:a", "x:b"])).await;

    backend
        .notify(r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:other"}}"#);
    backend.notify(r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:a"}}"#);
    backend.notify(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    let next = stream.message("an update", SOON, |message| message["method"].is_string()).await;
    assert_eq!(next["params"], json!({"uri": "x:a"}), "without the name of the subscription");
    let next = stream.message("a change", SOON, |message| message["method"].is_string()).await;
    assert_eq!(next["method"], "notifications/tools/list_changed");

    assert_eq!(client.request("resources/unsubscribe", r#"{"uri":"x:a"}"#).await.result_bytes(), "{}");
    one_stream(with(&["x:b"])).await;
    let ended = client.http.send("DELETE", &client.path, &client.headers(), "").await;
    assert_eq!(ended.status, 200);
    until("nothing to be left of the session", SOON, || async { (backend.streams() == 0).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_breaks_is_taken_up_again_and_what_was_missed_is_said() {
    let (gateway, mut backend) = gateway().await;
    let client = Legacy::open(gateway.address(), "/u/only/mcp").await;
    let mut stream = client.listen().await;
    assert_eq!(client.request("resources/subscribe", r#"{"uri":"x:a"}"#).await.result_bytes(), "{}");
    backend.stop().await;
    backend.resume().await;
    let updated = stream.notification("notifications/resources/updated", Duration::from_secs(30)).await;
    assert_eq!(updated["params"]["uri"], "x:a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_subscriptions_serves_everything_else() {
    let (gateway, backend) = gateway().await;
    for refusal in [
        Answer::Status(404, "Not Found".into()),
        Answer::Error(r#"{"code":-32601,"message":"Method not found"}"#.into()),
    ] {
        backend.answer("subscriptions/listen", refusal);
        let client = Legacy::open(gateway.address(), "/u/only/mcp").await;
        let _stream = client.listen().await;
        let refused = client.request("resources/subscribe", r#"{"uri":"x:a"}"#).await;
        assert_eq!((refused.status, refused.error_code()), (200, Some(-32601)), "{}", refused.text());
        assert_eq!(client.call("echo", "{}").await.result()["structuredContent"], json!({}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_an_old_client_cannot_know_becomes_text() {
    let (gateway, backend) = gateway().await;
    let link = r#"{"type":"resource_link","uri":"x:y","name":"n"}"#;
    let audio = r#"{"type":"audio","data":"AA==","mimeType":"audio/wav"}"#;
    backend
        .tool("show", Answer::Result(format!(r#"{{"content":[{link},{audio}],"resultType":"complete"}}"#)));
    for (version, types) in [
        ("2025-11-25", ["resource_link", "audio"]),
        ("2025-03-26", ["text", "audio"]),
        ("2024-11-05", ["text", "text"]),
    ] {
        let client = client(&gateway, "/u/only/mcp", version, "{}").await;
        let content = client.call("show", "{}").await.result()["content"].clone();
        assert_eq!([&content[0]["type"], &content[1]["type"]], types, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_speaks_only_the_modern_era_serves_legacy_clients() {
    let program = env!("CARGO_BIN_EXE_o1-test-server");
    let upstream = format!("  only:\n    primary:\n      - command: [{program}, modern]\n");
    let gateway = Gateway::start(&config([upstream])).await;
    for (route, prefix) in ROUTES {
        let client = client(&gateway, route, LEGACY, r#"{"roots":{}}"#).await;
        let call = |tool: &str| format!(r#"{{"name":"{prefix}{tool}"}}"#);

        let mut asking = client.stream("tools/call", &call("ask")).await;
        let question = asking.message("a question", SOON, |message| message["method"] == "roots/list").await;
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"roots":[]}}}}"#, question["id"]);
        assert_eq!(client.post(answer).await.status, 202, "{route}");
        let end = asking.message("the end", SOON, |message| message["result"].is_object()).await;
        assert_eq!(end["result"]["content"][0]["text"], r#"{"where":{"roots":[]}}"#, "{route}");

        let cancelled = || async {
            let said = client.request("tools/call", &call("cancelled")).await.result();
            said["content"][0]["text"].as_str().unwrap().parse::<u32>().unwrap()
        };
        let before = cancelled().await;
        // The client counts its requests: two came before this one.
        let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}"#;
        let hang = format!(r#"{{"name":"{prefix}hang","_meta":{{"progressToken":"p"}}}}"#);
        let mut hung = client.stream("tools/call", &hang).await;
        let said = hung.notification("notifications/progress", SOON).await;
        assert_eq!(said["params"]["progressToken"], "p", "{route}");
        assert_eq!(client.post(note).await.status, 202, "{route}");
        until("the call to be cancelled at the process", SOON, || async {
            (cancelled().await > before).then_some(())
        })
        .await;
        assert!(hung.end(SOON).await.is_empty(), "{route}: nothing is said after that");

        let mut stream = client.listen().await;
        let subscribed = client.request("resources/subscribe", r#"{"uri":"x:y"}"#).await;
        assert_eq!(subscribed.result_bytes(), "{}", "{route}");
        assert_eq!(client.request("tools/call", &call("change")).await.status, 200);
        let updated = stream.notification("notifications/resources/updated", SOON).await;
        assert_eq!(updated["params"], json!({"uri": "x:y"}), "{route}");
    }
}
