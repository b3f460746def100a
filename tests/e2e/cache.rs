//! What is answered from memory or together with others, and what never is.

use crate::config;
use o1_tests::{
    Answer, Backend, Gateway, Http, Legacy, Modern, Reply,
    mcp::{borrowed, modern},
    until,
};
use std::time::Duration;
use tokio::{task::JoinSet, time::Instant};

const SOON: Duration = Duration::from_secs(20);

fn hash(token: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Static tokens `t0`, `t1` … of as many principals.
fn tokens(count: usize) -> String {
    let token = |at| format!("      - {{name: p{at}, sha256: {}}}\n", hash(&format!("t{at}")));
    format!("clients:\n  auth:\n    tokens:\n{}", (0..count).map(token).collect::<String>())
}

/// An upstream with rules for its cache.
fn ruled(backend: &Backend, name: &str, rules: &str) -> String {
    format!("{}    cache: {rules}\n", backend.upstream(name))
}

/// A modern request with an id.
async fn ask(http: &Http, path: &str, id: usize, method: &str, params: &str) -> Reply {
    let (headers, body) = modern(method, params);
    let body = body.replacen(r#""id":7"#, &format!(r#""id":{id}"#), 1);
    http.send("POST", path, &borrowed(&headers), body).await
}

fn listed(scope: &str, ttl: u64) -> Answer {
    Answer::Result(format!(
        r#"{{"tools":[{{"name":"x","inputSchema":{{"type":"object"}}}}],"resultType":"complete","ttlMs":{ttl},"cacheScope":"{scope}"}}"#
    ))
}

fn contents(text: &str, scope: &str, ttl: u64) -> Answer {
    Answer::Result(format!(
        r#"{{"contents":[{{"uri":"x://a","text":"{text}"}}],"resultType":"complete","ttlMs":{ttl},"cacheScope":"{scope}"}}"#
    ))
}

fn text_of(reply: &Reply) -> String {
    reply.result()["contents"][0]["text"].as_str().unwrap_or_else(|| panic!("{}", reply.text())).to_owned()
}

/// One family of `/metrics`, by the labels that it must have, summed up.
async fn metric(gateway: &Gateway, family: &str, labels: &[&str]) -> u64 {
    let page = Http::new(gateway.data.admin).get("/metrics").await.text();
    let lines = page.lines().filter(|line| {
        line.starts_with(&format!("{family}{{")) && labels.iter().all(|label| line.contains(label))
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

/// Hits, stale, misses, coalesced of a tier.
async fn found(gateway: &Gateway, tier: &str) -> [u64; 4] {
    let tier = format!("tier=\"{tier}\"");
    let mut found = [0; 4];
    for (at, word) in ["hits", "stale", "misses", "coalesced"].into_iter().enumerate() {
        found[at] = metric(gateway, &format!("o1_cache_{word}_total"), &[&tier]).await;
    }
    found
}

/// A thousand calls of ten principals at once. Says how many reached the server.
async fn storm(scope: &str) -> (usize, [u64; 4]) {
    let backend = Backend::start().await;
    backend.answer("tools/list", Answer::Later(Duration::from_secs(2), Box::new(listed(scope, 60_000))));
    let gateway = Gateway::start(&format!("{}{}", config([backend.upstream("x")]), tokens(10))).await;
    let mut calls = JoinSet::new();
    for principal in 0..10 {
        let http = Http::h2c(gateway.address()).bearing(&format!("t{principal}"));
        for at in 0..100 {
            let http = http.clone();
            calls.spawn(async move {
                let id = principal * 100 + at;
                let reply = ask(&http, "/u/x/mcp", id, "tools/list", "{}").await;
                assert_eq!(reply.json()["id"], id, "each waiter gets its own id");
                assert_eq!(reply.result()["tools"][0]["name"], "x");
            });
        }
    }
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
    (backend.received_of("tools/list").len(), found(&gateway, "catalogue").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_for_a_private_list_reaches_the_server_once_for_each_principal() {
    let (asked, [hits, stale, misses, coalesced]) = storm("private").await;
    assert_eq!(asked, 10);
    assert_eq!((misses, stale, hits + coalesced), (10, 0, 990), "{hits} hits, {coalesced} coalesced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_for_a_public_list_reaches_the_server_once() {
    let (asked, [hits, stale, misses, coalesced]) = storm("public").await;
    assert_eq!(asked, 1);
    assert_eq!((misses, stale, hits + coalesced), (1, 0, 999), "{hits} hits, {coalesced} coalesced");
}

// joshrotenberg/mcp-proxy (landscape row 76): keys without the caller gave one user what another had read.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_read_never_crosses_principals_and_a_public_one_does() {
    let backend = Backend::start().await;
    let turns = ["first", "second", "third"].map(|text| contents(text, "private", 60_000));
    backend.answer("resources/read x://private", Answer::InTurn(turns.to_vec()));
    let turns = ["first", "second"].map(|text| contents(text, "public", 60_000));
    backend.answer("resources/read x://public", Answer::InTurn(turns.to_vec()));
    let gateway = Gateway::start(&format!("{}{}", config([backend.upstream("x")]), tokens(2))).await;
    let [a, b] = ["t0", "t1"].map(|token| Http::new(gateway.address()).bearing(token));
    for (http, id, uri, expected) in [
        (&a, 1, "x://private", "first"),
        (&b, 2, "x://private", "second"),
        (&a, 3, "x://private", "first"),
        (&b, 4, "x://private", "second"),
        (&a, 5, "x://public", "first"),
        (&b, 6, "x://public", "first"),
    ] {
        for route in ["/u/x/mcp", "/mcp"] {
            let reply = ask(http, route, id, "resources/read", &format!(r#"{{"uri":"{uri}"}}"#)).await;
            assert_eq!(
                (text_of(&reply).as_str(), &reply.json()["id"]),
                (expected, &id.into()),
                "{route} {uri}"
            );
            assert_eq!(reply.header("content-type"), "application/json");
        }
    }
    assert_eq!(backend.received_of("resources/read").len(), 3);
    assert_eq!(found(&gateway, "resources").await, [9, 0, 3, 0]);
}

// agentgateway (landscape row 74): every list left it with `ttlMs: 0` and `private`.
#[tokio::test(flavor = "multi_thread")]
async fn callers_are_told_what_is_left_and_then_the_server_is_asked_again() {
    let backend = Backend::start().await;
    backend.answer("resources/read x://a", contents("text", "public", 3_000));
    let gateway = Gateway::start(&config([backend.upstream("x")])).await;
    let client = Modern::new(gateway.address(), "/u/x/mcp");
    let read = || async { client.request("resources/read", r#"{"uri":"x://a"}"#).await.result() };
    let (began, mut told) = (Instant::now(), vec![read().await["ttlMs"].as_u64().unwrap()]);
    while backend.received_of("resources/read").len() == 1 {
        assert!(began.elapsed() < SOON, "its life is three seconds");
        let result = read().await;
        assert_eq!(result["cacheScope"], "public");
        told.push(result["ttlMs"].as_u64().unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() >= Duration::from_secs(3), "not before its life was over: {:?}", began.elapsed());
    let again = told.pop().unwrap();
    assert_eq!((told[0], again), (3_000, 3_000), "a new answer has all of its life before it");
    assert!(told.len() > 3 && told.is_sorted_by(|one, next| one > next), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_are_answered_from_memory_where_the_operator_names_them() {
    let backend = Backend::start().await;
    for tool in ["read_file", "write_file"] {
        backend.tool(tool, Answer::Echo);
    }
    let rules = r#"{tools: {"read_*": 1m}}"#;
    let gateway = Gateway::start(&config([ruled(&backend, "x", rules)])).await;
    let modern = Modern::new(gateway.address(), "/u/x/mcp");
    let many = Modern::new(gateway.address(), "/mcp");
    for arguments in [r#"{"path":"a"}"#, r#"{"path":"b"}"#] {
        for _ in 0..3 {
            for (client, prefix) in [(&modern, ""), (&many, "x__")] {
                let reply = client.call(&format!("{prefix}read_file"), arguments).await;
                let echoed = o1_tests::http::member(&reply.result_bytes(), "structuredContent");
                assert_eq!(echoed.as_deref(), Some(arguments), "never the answer to other arguments");
                client.call(&format!("{prefix}write_file"), arguments).await;
            }
        }
    }
    let calls = backend.received_of("tools/call");
    let of = |tool: &str| calls.iter().filter(|call| call.header("mcp-name") == tool).count();
    assert_eq!((of("read_file"), of("write_file")), (2, 12));
    assert_eq!(found(&gateway, "tools").await, [10, 0, 2, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_clients_are_answered_from_memory_by_rule_on_every_route() {
    let backend = Backend::start().await;
    backend.tool("read_file", Answer::Echo);
    backend.answer("resources/read x://a", Answer::Result(r#"{"contents":[]}"#.into()));
    backend.answer("resources/read y://a", Answer::Result(r#"{"contents":[]}"#.into()));
    backend.answer("resources/list", Answer::Result(r#"{"resources":[{"uri":"x://a","name":"a"}]}"#.into()));
    let rules = r#"{tools: {read_file: default}, resources: {"x://*": 1m}, lists: 1m}"#;
    let gateway = Gateway::start(&config([ruled(&backend, "x", rules)])).await;
    for (route, prefix) in [("/u/x/mcp", ""), ("/mcp", "x__")] {
        for _ in 0..2 {
            let client = Legacy::open(gateway.address(), route).await;
            for _ in 0..2 {
                let reply = client.call(&format!("{prefix}read_file"), r#"{"n":1.10}"#).await;
                assert!(reply.result_bytes().contains(r#"{"n":1.10}"#), "{}", reply.text());
                let read = client.request("resources/read", r#"{"uri":"x://a"}"#).await;
                assert_eq!(read.result_bytes(), r#"{"contents":[]}"#, "nothing is added for a legacy client");
                client.request("resources/read", r#"{"uri":"y://a"}"#).await;
            }
        }
    }
    let reads = |uri: &str| {
        backend.received_of("resources/read").into_iter().filter(|read| read.body.contains(uri)).count()
    };
    assert_eq!((backend.received_of("tools/call").len(), reads("x://a"), reads("y://a")), (1, 1, 8));
    assert_eq!(found(&gateway, "tools").await, [7, 0, 1, 0]);
    let before = backend.received_of("tools/list").len();
    let client = Legacy::open(gateway.address(), "/u/x/mcp").await;
    for _ in 0..3 {
        client.tools().await;
    }
    assert!(backend.received_of("tools/list").len() <= before + 1, "lists, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_share_only_as_far_as_the_operator_lets_them() {
    for (share, expected) in [("principal", 1), ("session", 2), ("everybody", 1)] {
        let backend = Backend::start().await;
        backend.tool("read", Answer::Echo);
        let rules = format!("{{tools: {{read: 1m}}, share: {share}}}");
        let gateway = Gateway::start(&config([ruled(&backend, "x", &rules)])).await;
        for _ in 0..2 {
            let client = Legacy::open(gateway.address(), "/u/x/mcp").await;
            client.call("read", "{}").await;
            client.call("read", "{}").await;
        }
        assert_eq!(backend.received_of("tools/call").len(), expected, "{share}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_of_an_upstream_begins_with_an_empty_memory() {
    let (backend, other) = (Backend::start().await, Backend::start().await);
    for one in [&backend, &other] {
        one.answer("resources/read x://a", contents("text", "public", 600_000));
    }
    let gateway = Gateway::start(&config([backend.upstream("x"), other.upstream("y")])).await;
    let read = |upstream: &str| {
        let client = Modern::new(gateway.address(), &format!("/u/{upstream}/mcp"));
        async move { client.request("resources/read", r#"{"uri":"x://a"}"#).await.result() }
    };
    let asked = |one: &Backend| one.received_of("resources/read").len();
    for _ in 0..2 {
        read("x").await;
        read("y").await;
    }
    assert_eq!((asked(&backend), asked(&other)), (1, 1));
    gateway
        .control
        .edit(&config([ruled(&backend, "x", r#"{resources: {"x://*": 1m}}"#), other.upstream("y")]));
    until("the new rule", SOON, || async {
        (read("x").await["ttlMs"].as_u64().unwrap() <= 60_000).then_some(())
    })
    .await;
    read("y").await;
    assert_eq!((asked(&backend), asked(&other)), (2, 1), "only what changed is asked again");
    until("the old entry to leave", SOON, || async {
        let left =
            metric(&gateway, "o1_cache_evictions_total", &["cause=\"configuration\"", "upstream=\"x\""]);
        (left.await == 1).then_some(())
    })
    .await;
    assert_eq!(metric(&gateway, "o1_cache_entries", &["tier=\"resources\""]).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_asked_once_for_many() {
    let program = env!("CARGO_BIN_EXE_o1-test-server");
    let upstream =
        format!("  p:\n    primary:\n      - command: [{program}]\n    cache: {{tools: {{sleep: 1m}}}}\n");
    let gateway = Gateway::start(&config([upstream])).await;
    let client = Modern::new(gateway.address(), "/u/p/mcp");
    // The process answers one call after the other: twenty of these take it half a minute.
    let began = Instant::now();
    let calls = (0..20).map(|_| client.call("sleep", r#"{"ms":1500}"#));
    for reply in futures_util::future::join_all(calls).await {
        assert_eq!(reply.result()["content"][0]["text"], "slept");
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let [hits, _, misses, coalesced] = found(&gateway, "tools").await;
    assert_eq!((misses, hits + coalesced), (1, 19));
    let legacy = Legacy::open(gateway.address(), "/u/p/mcp").await;
    legacy.call("sleep", r#"{"ms":1500}"#).await;
    assert_eq!(found(&gateway, "tools").await[2], 2, "another era, another question");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_its_request_to_the_others_and_the_last_ends_it() {
    let backend = Backend::start().await;
    backend.answer(
        "resources/read x://a",
        Answer::Later(Duration::from_secs(3), Box::new(contents("text", "private", 0))),
    );
    let gateway = Gateway::start(&config([backend.upstream("x")])).await;
    let read = |http: Http, id| {
        let mut task = JoinSet::new();
        task.spawn(async move { ask(&http, "/u/x/mcp", id, "resources/read", r#"{"uri":"x://a"}"#).await });
        task
    };
    let received = |count| {
        let backend = &backend;
        until("the read at the server", SOON, move || async move {
            (backend.received_of("resources/read").len() == count).then_some(())
        })
    };
    let leader = read(Http::new(gateway.address()), 1);
    received(1).await;
    // On one connection: when what comes later is answered, what came before has been looked at.
    let http = Http::h2c(gateway.address());
    let mut follower = read(http.clone(), 2);
    for id in 3..6 {
        ask(&http, "/u/x/mcp", id, "prompts/get", r#"{"name":"none"}"#).await;
    }
    drop(leader);
    let reply = follower.join_next().await.unwrap().unwrap();
    assert_eq!((text_of(&reply).as_str(), &reply.json()["id"]), ("text", &2.into()));
    assert_eq!((backend.received_of("resources/read").len(), backend.cut()), (1, 0));

    let alone = read(Http::new(gateway.address()), 1);
    received(2).await;
    drop(alone);
    until("the server to see that nobody waits", SOON, || async { (backend.cut() == 1).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_a_window_are_asked_for_together() {
    let backend = Backend::start().await;
    let batching = "batching: {window: 100ms, max: 1000}\n";
    let gateway = Gateway::start(&format!("{}{batching}", config([backend.upstream("x")]))).await;
    let http = Http::h2c(gateway.address());
    let lists = (0..50).map(|id| ask(&http, "/u/x/mcp", id, "tools/list", "{}"));
    for (id, reply) in futures_util::future::join_all(lists).await.into_iter().enumerate() {
        assert_eq!((&reply.json()["id"], reply.status), (&id.into(), 200));
    }
    let asked = backend.received_of("tools/list").len();
    assert!(asked < 50, "asked {asked} times");
    assert_eq!(metric(&gateway, "o1_cache_misses_total", &[]).await, asked as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_does_not_answer_well_is_passed_on_as_it_is() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&config([backend.upstream("x")])).await;
    let client = Modern::new(gateway.address(), "/u/x/mcp");
    backend.answer("tools/list", Answer::Status(503, "later".into()));
    let refused = client.request("tools/list", "{}").await;
    assert_eq!((refused.status, refused.text().as_str()), (503, "later"));
    backend.answer("tools/list", Answer::Error(r#"{"code":-32000,"message":"no"}"#.into()));
    assert_eq!(client.request("tools/list", "{}").await.error_code(), Some(-32000));
    backend.answer("tools/list", listed("private", 60_000));
    assert_eq!(client.tools().await, ["x"]);
    assert_eq!(backend.received_of("tools/list").len(), 3, "no failure was kept");
    backend.answer_by_sse();
    let note = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}"#;
    let steps = vec![(Duration::ZERO, note.to_owned())];
    let unkept = Answer::Stream(steps, Box::new(contents("text", "private", 0)));
    backend.answer("resources/read x://a", unkept);
    let reply = client.request("resources/read", r#"{"uri":"x://a"}"#).await;
    assert_eq!(
        (reply.messages().len(), text_of(&reply).as_str()),
        (2, "text"),
        "with all that came before it"
    );
}
