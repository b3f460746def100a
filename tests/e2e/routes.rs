//! Who is asked, under which names, and what a caller learns of servers that are not there.

use crate::config;
use o1_tests::{Answer, Backend, Gateway, Http, Legacy, Modern, backend::Era, mcp::JSON, mcp::names, until};
use std::time::Duration;

/// Two backends of an era behind one gateway: `left` and `right`, each with `echo` and a tool of its own.
async fn pair(era: Era) -> (Gateway, Backend, Backend) {
    let (left, right) = (Backend::with(era).await, Backend::with(era).await);
    left.tool("only_left", Answer::text("from the left"));
    right.tool("only_right", Answer::text("from the right"));
    let gateway = Gateway::start(&config([left.upstream("left"), right.upstream("right")])).await;
    (gateway, left, right)
}

const MERGED: [&str; 4] = ["left__echo", "left__only_left", "right__echo", "right__only_right"];

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_client_sees_every_tool_under_its_prefix_and_reaches_its_server() {
    let (gateway, left, right) = pair(Era::Both).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let mut tools = client.tools().await;
    tools.sort();
    assert_eq!(tools, MERGED);

    let reply = client.call("right__only_right", "{}").await;
    assert_eq!(reply.result()["content"][0]["text"], "from the right");
    assert_eq!(left.received_of("tools/call").len(), 0, "only the owner is asked");
    assert!(right.last("tools/call").member("params").contains(r#""name":"only_right""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_client_sees_every_tool_under_its_prefix_and_reaches_its_server() {
    let (gateway, left, right) = pair(Era::Both).await;
    let client = Modern::new(gateway.address(), "/mcp");
    let mut tools = client.tools().await;
    tools.sort();
    assert_eq!(tools, MERGED);

    let reply = client.call("left__only_left", "{}").await;
    assert_eq!(reply.result()["content"][0]["text"], "from the left");
    assert_eq!(right.received_of("tools/call").len(), 0, "only the owner is asked");
    let received = left.last("tools/call");
    assert_eq!(received.header("mcp-name"), "only_left", "header and body lose the prefix together");
    assert_eq!(received.header("mcp-method"), "tools/call");
    assert!(received.member("params").contains(r#""name":"only_left""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_upstream_is_offered_unrenamed_under_its_own_route() {
    let backend = Backend::start().await;
    let item = r#"{"inputSchema":{"type":"object","x-vendor":{"n":1.10}},"x-first":12345678901234567890123,"name":"odd"}"#;
    backend.tool_as("odd", item, Answer::text("odd"));
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;

    for reply in [
        Legacy::open(gateway.address(), "/u/only/mcp").await.request("tools/list", "{}").await,
        Modern::new(gateway.address(), "/u/only/mcp").request("tools/list", "{}").await,
    ] {
        let listed = reply.result_bytes();
        assert!(listed.contains(item), "the item as its server wrote it in {listed}");
    }
    let reply = Modern::new(gateway.address(), "/u/only/mcp").call("odd", "{}").await;
    assert_eq!(reply.result()["content"][0]["text"], "odd");
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_and_resources_find_their_server() {
    let (gateway, left, right) = pair(Era::Both).await;
    let rest = r#""resultType":"complete","ttlMs":0,"cacheScope":"private""#;
    left.answer("prompts/list", Answer::Result(format!(r#"{{"prompts":[{{"name":"greet"}}],{rest}}}"#)));
    left.answer("prompts/get greet", Answer::Result(r#"{"messages":[],"resultType":"complete"}"#.into()));
    let resource = r#"{"uri":"test://right/one","name":"one"}"#;
    right.answer("resources/list", Answer::Result(format!(r#"{{"resources":[{resource}],{rest}}}"#)));
    let contents = r#"{"uri":"test://right/one","text":"one"}"#;
    right.answer(
        "resources/read test://right/one",
        Answer::Result(format!(r#"{{"contents":[{contents}],{rest}}}"#)),
    );
    left.notify(r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#);
    right.notify(r#"{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}"#);

    let client = Legacy::open(gateway.address(), "/mcp").await;
    until("the prompt in the list", Duration::from_secs(10), || async {
        let listed = client.request("prompts/list", "{}").await.result();
        (names(&listed["prompts"]) == ["left__greet"]).then_some(())
    })
    .await;
    assert_eq!(
        client.request("prompts/get", r#"{"name":"left__greet"}"#).await.result()["messages"],
        serde_json::json!([])
    );
    assert!(left.last("prompts/get").member("params").contains(r#""name":"greet""#));

    until("the resource in the list", Duration::from_secs(10), || async {
        let listed = client.request("resources/list", "{}").await.result();
        (listed["resources"][0]["uri"] == "test://right/one").then_some(())
    })
    .await;
    let read = client.request("resources/read", r#"{"uri":"test://right/one"}"#).await;
    assert_eq!(read.result()["contents"][0]["text"], "one");
    assert_eq!(left.received_of("resources/read").len(), 0, "a read goes to the owner alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_nobody_offers_are_refused_without_asking_anybody() {
    let (gateway, left, right) = pair(Era::Both).await;
    let legacy = Legacy::open(gateway.address(), "/mcp").await;
    let modern = Modern::new(gateway.address(), "/mcp");
    for tool in ["nobody__echo", "echo", "left_echo", "__echo", ""] {
        assert_eq!(legacy.call(tool, "{}").await.error_code(), Some(-32602), "legacy {tool}");
        assert_eq!(modern.call(tool, "{}").await.error_code(), Some(-32602), "modern {tool}");
    }
    // Where many servers answer nobody is meant by a method that nobody knows.
    assert_eq!(legacy.request("vendor/compute", "{}").await.error_code(), Some(-32601));
    assert_eq!(modern.request("vendor/compute", "{}").await.error_code(), Some(-32601));
    let unknown = r#"{"uri":"test://nobody"}"#;
    assert_eq!(legacy.request("resources/read", unknown).await.error_code(), Some(-32002));
    assert_eq!(modern.request("resources/read", unknown).await.error_code(), Some(-32602));
    for backend in [&left, &right] {
        for method in ["tools/call", "resources/read", "vendor/compute"] {
            assert_eq!(backend.received_of(method).len(), 0, "{method}");
        }
    }
    // Behind a prefix too: what is on no list does not exist.
    assert_eq!(legacy.call("left__nothing", "{}").await.error_code(), Some(-32602));
    assert_eq!((left.received_of("tools/call").len(), right.received_of("tools/call").len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_that_do_not_exist_are_not_found() {
    let (gateway, _left, _right) = pair(Era::Both).await;
    let http = Http::new(gateway.address());
    for path in
        ["/", "/mc", "/mcp/nothing", "/u/nobody/mcp", "/u/left", "/u/left/mcp/more", "/sse", "/u//mcp"]
    {
        let reply = http.send("POST", path, &JSON, o1_tests::mcp::initialize("2025-11-25", "{}")).await;
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_hides_no_other() {
    let (up, mut down) = (Backend::start().await, Backend::start().await);
    let text = config([up.upstream("up"), down.upstream("down")]);
    down.stop().await;
    let gateway = Gateway::start(&text).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    assert_eq!(client.tools().await, ["up__echo"]);
    let reply = client.call("up__echo", r#"{"a":1}"#).await;
    assert_eq!(reply.result()["structuredContent"]["a"], 1);

    // It comes back: its tools appear without anybody's help.
    down.resume().await;
    until("the tools of the server that returned", Duration::from_secs(30), || async {
        let mut tools = client.tools().await;
        tools.sort();
        (tools == ["down__echo", "up__echo"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_keeps_its_tools_listed_and_says_so_in_the_answer() {
    let mut backend = Backend::start().await;
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    assert_eq!(client.tools().await, ["only__echo"]);
    backend.stop().await;
    let reply = client.call("only__echo", "{}").await;
    let answer = reply.json();
    let failed = answer["error"].is_object() || answer["result"]["isError"] == true;
    assert!(failed, "a call to a dead server fails: {answer}");
    assert!(answer.to_string().contains("only"), "and names it: {answer}");
    assert_eq!(client.tools().await, ["only__echo"]);

    backend.resume().await;
    until("an answer after the return", Duration::from_secs(30), || async {
        let reply = client.call("only__echo", r#"{"n":2}"#).await;
        (reply.json()["result"]["structuredContent"]["n"] == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_can_be_chosen_or_dropped() {
    let (plain, renamed) = (Backend::start().await, Backend::start().await);
    plain.remove_tool("echo");
    plain.tool("bare", Answer::text("bare"));
    let upstreams =
        [plain.upstream("plain") + "    prefix: none\n", renamed.upstream("long") + "    prefix: l\n"];
    let gateway = Gateway::start(&config(upstreams)).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let mut tools = client.tools().await;
    tools.sort();
    assert_eq!(tools, ["bare", "l__echo"]);
    assert_eq!(client.call("bare", "{}").await.result()["content"][0]["text"], "bare");
    assert_eq!(client.call("l__echo", r#"{"x":1}"#).await.result()["structuredContent"]["x"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_the_client_stop_here_and_those_of_the_upstream_are_added() {
    let backend = Backend::start().await;
    let text = config([backend.upstream("only") + "    headers: {X-Api-Key: \"literal-key\"}\n"]);
    let gateway = Gateway::start(&text).await;
    let http = Http::new(gateway.address());
    for path in ["/mcp", "/u/only/mcp"] {
        let tool = if path == "/mcp" { "only__echo" } else { "echo" };
        let (mut headers, body) =
            o1_tests::mcp::modern("tools/call", &format!(r#"{{"name":"{tool}","arguments":{{}}}}"#));
        headers.push(("authorization".into(), "Bearer of-the-client".into()));
        headers.push(("cookie".into(), "of=the-client".into()));
        let reply = http.send("POST", path, &o1_tests::mcp::borrowed(&headers), body).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        let received = backend.last("tools/call");
        assert_eq!(received.header("authorization"), "", "{path}");
        assert_eq!(received.header("cookie"), "", "{path}");
        assert_eq!(received.header("x-api-key"), "literal-key", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_without_tls_is_served_on_the_same_port() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;
    let client = Legacy::open_with(Http::h2c(gateway.address()), "/mcp", "2025-11-25", "{}").await;
    assert_eq!(client.tools().await, ["only__echo"]);
    let reply = client.call("only__echo", r#"{"over":"h2c"}"#).await;
    assert_eq!(reply.result()["structuredContent"]["over"], "h2c");
    let modern = Modern { http: Http::h2c(gateway.address()), path: "/u/only/mcp".into() };
    assert_eq!(modern.call("echo", r#"{"n":1}"#).await.result()["structuredContent"]["n"], 1);
}
