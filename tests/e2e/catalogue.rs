//! Lists on routes of many upstreams: fetched in the background, kept, filtered, renamed, and told of when they
//! change for the client that looks.

use crate::config;
use o1_tests::{Answer, Backend, Gateway, Legacy, Modern, backend::Era, mcp::names, until};
use std::time::Duration;
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(10);
const TOOLS_CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

/// Waits until a client sees exactly these tools.
async fn tools_are(client: &Legacy, expected: &[&str]) {
    until(&format!("the tools {expected:?}"), Duration::from_secs(30), || async {
        (client.tools().await == expected).then_some(())
    })
    .await;
}

/// Messages that come within a time.
async fn heard(stream: &mut o1_tests::http::Stream, within: Duration) -> Vec<String> {
    let mut heard = Vec::new();
    let end = Instant::now() + within;
    while let Ok(Some(event)) = tokio::time::timeout_at(end, stream.event()).await {
        if !event.data.is_empty() {
            heard.push(event.data);
        }
    }
    heard
}

// fastmcp#3350 and its like: every client paid for every server at every start.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_clients_reaches_each_server_a_constant_number_of_times() {
    let (left, right) = (Backend::start().await, Backend::start().await);
    let gateway = Gateway::start(&config([left.upstream("left"), right.upstream("right")])).await;
    let warm = Legacy::open(gateway.address(), "/mcp").await;
    assert_eq!(warm.tools().await, ["left__echo", "right__echo"]);
    Modern::new(gateway.address(), "/mcp").tools().await;
    let counts = |backend: &Backend| {
        ["initialize", "tools/list", "prompts/list", "resources/list", "server/discover", "tools/call"]
            .map(|method| backend.received_of(method).len())
    };
    // Both views have each list once. Whoever has its tools need not wait for the other lists.
    let once = [[1, 2, 2, 2, 2, 0]; 2];
    until("the lists of both views", SOON, || async {
        ([counts(&left), counts(&right)] == once).then_some(())
    })
    .await;
    let storm = (0..200).map(|n| {
        let address = gateway.address();
        async move {
            if n % 4 == 0 {
                let modern = Modern::new(address, "/mcp");
                assert_eq!(modern.request("server/discover", "{}").await.status, 200);
                assert_eq!(modern.tools().await.len(), 2);
            } else {
                let client = Legacy::open(address, "/mcp").await;
                assert_eq!(client.tools().await.len(), 2);
            }
        }
    });
    futures_util::future::join_all(storm).await;
    assert_eq!([counts(&left), counts(&right)], once);
}

// toolhive#3036, toolhive#3875, agentgateway#1266: one server that fails must not block the others.
// decocms/studio#6777: servers are asked side by side.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_hang_cost_a_short_wait_once_and_hide_nobody() {
    let (quick, hangs, breaks) = (Backend::start().await, Backend::start().await, Backend::start().await);
    let never = || Answer::Later(Duration::from_secs(600), Box::new(Answer::text("never")));
    for method in ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] {
        hangs.answer(method, never());
    }
    breaks.answer("tools/list", Answer::Status(500, "broken".into()));
    let mut text = config([quick.upstream("quick"), hangs.upstream("hangs"), breaks.upstream("breaks")]);
    text.push_str("clients: {catalogue: {wait: 1s}}\n");
    let gateway = Gateway::start(&text).await;
    let began = Instant::now();
    let client = Legacy::open(gateway.address(), "/mcp").await;
    assert_eq!(client.tools().await, ["quick__echo"]);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(client.tools().await, ["quick__echo"]);
        assert_eq!(client.call("quick__echo", r#"{"a":1}"#).await.result()["structuredContent"]["a"], 1);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "who hangs is waited for once: {:?}", began.elapsed());
}

// A server that says so for each list it is asked for would be asked for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_all_the_time_that_its_lists_changed_is_asked_now_and_then() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    assert_eq!(client.call("only__echo", "{}").await.status, 200);
    let mut stream = client.listen().await;
    until("the stream of the session and that of the view", SOON, || async {
        (backend.streams() >= 2).then_some(())
    })
    .await;
    let (before, began) = (backend.received_of("tools/list").len(), Instant::now());
    while began.elapsed() < Duration::from_secs(4) {
        backend.notify(TOOLS_CHANGED);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let asked = backend.received_of("tools/list").len() - before;
    assert!(asked < 60, "hundreds of changes that were none: asked {asked} times");
    assert_eq!(heard(&mut stream, Duration::from_millis(500)).await, [""; 0], "and nobody is told");
    backend.tool("new", Answer::text("new"));
    backend.notify(TOOLS_CHANGED);
    stream.notification("notifications/tools/list_changed", SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_servers_tools_stay_or_go_as_configured() {
    let (mut kept, mut hidden, stays) =
        (Backend::start().await, Backend::start().await, Backend::start().await);
    let hide = hidden.upstream("hidden") + "    unreachable_tools: hide\n";
    let gateway = Gateway::start(&config([hide, kept.upstream("kept"), stays.upstream("stays")])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let mut stream = client.listen().await;
    assert_eq!(client.tools().await, ["hidden__echo", "kept__echo", "stays__echo"]);
    kept.stop().await;
    hidden.stop().await;
    for tool in ["kept__echo", "hidden__echo"] {
        let answer = client.call(tool, "{}").await.json();
        assert!(
            answer["error"]["message"]
                .as_str()
                .is_some_and(|said| said.contains("kept") || said.contains("hidden")),
            "{answer}"
        );
    }
    stream.notification("notifications/tools/list_changed", Duration::from_secs(30)).await;
    tools_are(&client, &["kept__echo", "stays__echo"]).await;
    // Exactly as if it did not exist, until it is back.
    assert_eq!(client.call("hidden__echo", "{}").await.error_code(), Some(-32602));
    // A client of another kind, that nobody asked this server for: it is still listed.
    let http = o1_tests::Http::new(gateway.address());
    let other = Legacy::open_with(http, "/mcp", "2025-11-25", r#"{"roots":{}}"#).await;
    assert_eq!(other.tools().await, ["kept__echo", "stays__echo"]);
    hidden.resume().await;
    stream.notification("notifications/tools/list_changed", Duration::from_secs(30)).await;
    tools_are(&client, &["hidden__echo", "kept__echo", "stays__echo"]).await;
}

// hermes-agent#88661
#[tokio::test(flavor = "multi_thread")]
async fn one_slow_call_unregisters_no_tool() {
    let backend = Backend::start().await;
    backend.tool("slow", Answer::Later(Duration::from_secs(30), Box::new(Answer::text("late"))));
    let upstream =
        backend.upstream("one") + "    unreachable_tools: hide\n    timeouts: {idle: 300ms, total: 400ms}\n";
    let gateway = Gateway::start(&config([upstream])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let mut stream = client.listen().await;
    assert_eq!(client.tools().await, ["one__echo", "one__slow"]);
    assert_eq!(client.call("one__slow", "{}").await.error_code(), Some(-33002));
    let said = heard(&mut stream, Duration::from_secs(2)).await;
    assert!(said.iter().all(|one| !one.contains("list_changed")), "{said:?}");
    assert_eq!(client.tools().await, ["one__echo", "one__slow"]);
    assert_eq!(client.call("one__echo", r#"{"a":1}"#).await.result()["structuredContent"]["a"], 1);
}

// bifrost#6885, claude-code#79826, toolhive#5786, openlinker#1932
#[tokio::test(flavor = "multi_thread")]
async fn list_changed_comes_once_and_only_to_clients_whose_list_changed() {
    let (left, right) = (Backend::start().await, Backend::start().await);
    let mut text = config([left.upstream("left"), right.upstream("right")]);
    text.push_str("servers:\n  lefty: {upstreams: [left], tools: {deny: [hidden_*]}}\n");
    let gateway = Gateway::start(&text).await;
    let (all, lefty) =
        (Legacy::open(gateway.address(), "/mcp").await, Legacy::open(gateway.address(), "/mcp/lefty").await);
    let mut streams = [all.listen().await, lefty.listen().await];
    let modern = Modern::new(gateway.address(), "/mcp/lefty");
    let listen = r#"{"notifications":{"toolsListChanged":true}}"#;
    let mut subscription = modern.stream("subscriptions/listen", listen).await;
    subscription.notification("notifications/subscriptions/acknowledged", SOON).await;
    assert_eq!(all.tools().await, ["left__echo", "right__echo"]);
    assert_eq!(lefty.tools().await, ["left__echo"]);
    // The session's own connection says so too.
    assert!(all.call("left__echo", "{}").await.result().is_object());
    assert!(all.call("right__echo", "{}").await.result().is_object());
    until("streams of both servers", SOON, || async {
        (left.streams() >= 2 && right.streams() >= 2).then_some(())
    })
    .await;
    // Nothing changed, whatever servers say.
    for _ in 0..10 {
        left.notify(TOOLS_CHANGED);
        right.notify(TOOLS_CHANGED);
    }
    let quiet = Duration::from_secs(2);
    assert_eq!(heard(&mut streams[0], quiet).await, Vec::<String>::new());
    // A tool that one client may see, announced many times.
    right.tool("fresh", Answer::text("fresh"));
    left.tool("hidden_one", Answer::text("hidden"));
    for _ in 0..5 {
        right.notify(TOOLS_CHANGED);
        left.notify(TOOLS_CHANGED);
    }
    let heard_by_all = heard(&mut streams[0], quiet).await;
    assert_eq!(heard_by_all.len(), 1, "{heard_by_all:?}");
    assert!(heard_by_all[0].contains("notifications/tools/list_changed"));
    assert_eq!(heard(&mut streams[1], quiet).await, Vec::<String>::new(), "its list is the same");
    assert_eq!(heard(&mut subscription, Duration::from_millis(100)).await, Vec::<String>::new());
    assert_eq!(all.tools().await, ["left__echo", "left__hidden_one", "right__echo", "right__fresh"]);
    assert_eq!(lefty.tools().await, ["left__echo"]);
    left.tool("seen", Answer::text("seen"));
    left.notify(TOOLS_CHANGED);
    streams[1].notification("notifications/tools/list_changed", SOON).await;
    let told = subscription.notification("notifications/tools/list_changed", SOON).await;
    assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_configuration_is_told_to_whom_it_concerns() {
    let (left, right) = (Backend::start().await, Backend::start().await);
    let upstreams = config([left.upstream("left"), right.upstream("right")]);
    let with =
        |tools: &str| format!("{upstreams}servers:\n  one: {{upstreams: [left], tools: {{{tools}}}}}\n");
    left.tool("other", Answer::text("other"));
    let gateway = Gateway::start(&with("allow: [echo]")).await;
    let (one, all) =
        (Legacy::open(gateway.address(), "/mcp/one").await, Legacy::open(gateway.address(), "/mcp").await);
    let mut streams = [one.listen().await, all.listen().await];
    assert_eq!(one.tools().await, ["left__echo"]);
    assert_eq!(all.tools().await.len(), 3);
    // agentgateway#1510: policy applies to lists that are kept already.
    gateway.control.edit(&with("allow: [other], rename: {other: another}"));
    streams[0].notification("notifications/tools/list_changed", SOON).await;
    assert_eq!(one.tools().await, ["another"]);
    assert_eq!(one.call("another", "{}").await.result()["content"][0]["text"], "other");
    for gone in ["left__echo", "left__other", "nothing"] {
        let refused = one.call(gone, "{}").await;
        assert_eq!(refused.json()["error"]["message"], format!("Unknown tool: {gone}"));
    }
    assert_eq!(heard(&mut streams[1], Duration::from_secs(1)).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_server_offers_what_it_selects_under_its_own_names_in_both_eras() {
    let (files, other) = (Backend::start().await, Backend::start().await);
    for tool in ["read", "write", "read_secret"] {
        files.tool(tool, Answer::text(tool));
    }
    let mut text = config([files.upstream("files"), other.upstream("other")]);
    text.push_str(
        "servers:\n  coding:\n    upstreams: [other, files]\n    tools:\n      allow: [\"read*\", other__echo]\n      deny: [\"*_secret\"]\n      rename: {files__read: look}\n      describe: {read: Looks at a file.}\n",
    );
    let gateway = Gateway::start(&text).await;
    let (legacy, modern) =
        (Legacy::open(gateway.address(), "/mcp/coding").await, Modern::new(gateway.address(), "/mcp/coding"));
    for listed in
        [legacy.request("tools/list", "{}").await.result(), modern.request("tools/list", "{}").await.result()]
    {
        assert_eq!(names(&listed["tools"]), ["other__echo", "look"], "in the order of the server");
        assert_eq!(listed["tools"][1]["description"], "Looks at a file.");
        assert_eq!(listed["tools"][1]["inputSchema"]["type"], "object");
    }
    assert_eq!(legacy.call("look", "{}").await.result()["content"][0]["text"], "read");
    assert_eq!(modern.call("look", "{}").await.result()["content"][0]["text"], "read");
    assert_eq!(files.last("tools/call").header("mcp-name"), "read", "header and body agree after the rename");
    for tool in ["files__read", "files__write", "files__read_secret", "read", "files__nothing"] {
        let expected = format!("Unknown tool: {tool}");
        assert_eq!(legacy.call(tool, "{}").await.json()["error"]["message"], expected);
        assert_eq!(modern.call(tool, "{}").await.json()["error"]["message"], expected);
    }
    assert_eq!(files.received_of("tools/call").len(), 2);
    let missing = o1_tests::Http::new(gateway.address());
    let reply = missing
        .send("POST", "/mcp/nobody", &o1_tests::mcp::JSON, o1_tests::mcp::initialize("2025-11-25", "{}"))
        .await;
    assert_eq!(reply.status, 404);
    // A session belongs to its route.
    let mut stray = Legacy::open(gateway.address(), "/mcp").await;
    stray.path = "/mcp/coding".into();
    assert_eq!(stray.request("tools/list", "{}").await.status, 404);
}

// metamcp#249, litellm#26733, claude-code#19882, Kuadrant/mcp-gateway#33
#[tokio::test(flavor = "multi_thread")]
async fn over_long_names_are_shortened_and_still_reach_their_tool() {
    let backend = Backend::start().await;
    let long = "x".repeat(70);
    backend.tool(&long, Answer::text("long"));
    let gateway = Gateway::start(&config([backend.upstream("files")])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let tools = client.tools().await;
    let short = tools.iter().find(|name| name.starts_with("files__x")).expect("the long one is listed");
    assert_eq!(short.len(), 64);
    assert_eq!(client.call(short, "{}").await.result()["content"][0]["text"], "long");
    assert!(backend.last("tools/call").member("params").contains(&long));
    let whole = client.call(&format!("files__{long}"), "{}").await;
    assert_eq!(whole.error_code(), Some(-32602), "there is one name for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_only_one_session_has_is_that_sessions_own() {
    let backend = Backend::with(Era::Legacy).await;
    let gateway = Gateway::start(&config([backend.upstream("one")])).await;
    let (mine, others) =
        (Legacy::open(gateway.address(), "/mcp").await, Legacy::open(gateway.address(), "/mcp").await);
    let mut stream = mine.listen().await;
    assert_eq!(mine.tools().await, ["one__echo"]);
    assert!(mine.call("one__echo", "{}").await.result().is_object());
    let session = backend.last("tools/call").header("mcp-session-id").to_owned();
    backend.session_tools(&session, r#"{"tools":[{"name":"mine","inputSchema":{"type":"object"}}]}"#);
    backend.tool("mine", Answer::text("mine"));
    backend.remove_tool("mine");
    until("the session's stream", SOON, || async { (backend.streams() >= 2).then_some(()) }).await;
    backend.notify(TOOLS_CHANGED);
    stream.notification("notifications/tools/list_changed", SOON).await;
    assert_eq!(mine.tools().await, ["one__mine"]);
    assert_eq!(mine.call("one__mine", "{}").await.result()["content"][0]["text"], "mine");
    assert_eq!(others.tools().await, ["one__echo"]);
    assert_eq!(others.call("one__mine", "{}").await.error_code(), Some(-32602));
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_are_read_where_a_list_a_template_or_the_operator_says() {
    let (a, b, c) = (Backend::start().await, Backend::start().await, Backend::start().await);
    let rest = r#""resultType":"complete","ttlMs":0,"cacheScope":"private""#;
    let lists = |backend: &Backend, resources: &str, templates: &str| {
        backend.answer("resources/list", Answer::Result(format!(r#"{{"resources":[{resources}],{rest}}}"#)));
        let templates = format!(r#"{{"resourceTemplates":[{templates}],{rest}}}"#);
        backend.answer("resources/templates/list", Answer::Result(templates));
        let contents = format!(r#"{{"contents":[],"at":"{}",{rest}}}"#, backend.address);
        backend.answer("resources/read", Answer::Result(contents));
    };
    lists(&a, r#"{"uri":"test://x/1","name":"one"}"#, r#"{"uriTemplate":"test://{+any}","name":"any"}"#);
    lists(&b, "", r#"{"uriTemplate":"test://x/{id}/data","name":"data"}"#);
    lists(&c, "", "");
    let hinted = c.upstream("c") + "    resources: [\"hint:\"]\n";
    let gateway = Gateway::start(&config([a.upstream("a"), b.upstream("b"), hinted])).await;
    let legacy = Legacy::open(gateway.address(), "/mcp").await;
    let modern = Modern::new(gateway.address(), "/mcp");
    for (uri, owner) in [("test://x/1", &a), ("test://x/7/data", &b), ("test://y", &a), ("hint:me", &c)] {
        let params = format!(r#"{{"uri":"{uri}"}}"#);
        for reply in
            [legacy.request("resources/read", &params).await, modern.request("resources/read", &params).await]
        {
            assert_eq!(reply.result()["at"], owner.address.to_string(), "{uri}");
        }
        assert!(legacy.request("resources/subscribe", &params).await.result().is_object());
        assert!(owner.last("resources/subscribe").body.contains(uri));
    }
    let unknown = legacy.request("resources/read", r#"{"uri":"none://x"}"#).await.json();
    assert_eq!(
        (&unknown["error"]["code"], &unknown["error"]["data"]["uri"]),
        (&(-32002).into(), &"none://x".into())
    );
    let unknown = modern.request("resources/read", r#"{"uri":"none://x"}"#).await.json();
    assert_eq!(
        (&unknown["error"]["code"], &unknown["error"]["data"]["uri"]),
        (&(-32602).into(), &"none://x".into())
    );
    assert_eq!([&a, &b, &c].map(|one| one.received_of("resources/read").len()), [4, 2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_come_in_pages_and_a_cursor_is_worth_nothing_after_a_change() {
    let backend = Backend::start().await;
    for n in 0..9 {
        backend.tool(&format!("t{n}"), Answer::text("t"));
    }
    let text = config([backend.upstream("one")]) + "clients: {catalogue: {page: 4}}\n";
    let gateway = Gateway::start(&text).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let (mut all, mut params, mut last) = (Vec::new(), "{}".to_owned(), String::new());
    loop {
        let page = client.request("tools/list", &params).await.result();
        all.extend(names(&page["tools"]));
        let Some(next) = page["nextCursor"].as_str() else { break };
        last = next.to_owned();
        params = format!(r#"{{"cursor":"{next}"}}"#);
    }
    let mut expected: Vec<_> = (0..9).map(|n| format!("one__t{n}")).collect();
    expected.insert(0, "one__echo".into());
    assert_eq!(all, expected);
    let again = format!(r#"{{"cursor":"{last}"}}"#);
    assert_eq!(client.request("tools/list", &again).await.result()["tools"].as_array().unwrap().len(), 2);
    backend.tool("a_new_one", Answer::text("t"));
    backend.notify(TOOLS_CHANGED);
    until("the cursor to be refused", SOON, || async {
        (client.request("tools/list", &again).await.error_code() == Some(-32602)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_in_one_session_fail_each_for_itself() {
    let (loses, mut restarts, mut dies) =
        (Backend::start().await, Backend::start().await, Backend::start().await);
    let upstreams = [dies.upstream("dies"), loses.upstream("loses"), restarts.upstream("restarts")];
    let gateway = Gateway::start(&config(upstreams)).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let tools = ["dies__echo", "loses__echo", "restarts__echo"];
    assert_eq!(client.tools().await, tools);
    let right = async |tool: &str, n: u32| {
        let reply = client.call(tool, &format!(r#"{{"n":{n}}}"#)).await;
        reply.json()["result"]["structuredContent"]["n"] == n
    };
    for tool in tools {
        assert!(right(tool, 1).await, "{tool}");
    }
    loses.forget_sessions();
    restarts.stop().await;
    restarts.forget_sessions();
    restarts.resume().await;
    dies.stop().await;
    assert!(right("loses__echo", 2).await, "a lost session is opened again unnoticed");
    until("the restarted server", Duration::from_secs(20), || async {
        right("restarts__echo", 3).await.then_some(())
    })
    .await;
    let answer = client.call("dies__echo", "{}").await.json();
    assert_eq!(answer["error"]["code"], -33001, "{answer}");
    assert!(right("loses__echo", 4).await && right("restarts__echo", 5).await);
    assert_eq!(client.tools().await, tools);
}
