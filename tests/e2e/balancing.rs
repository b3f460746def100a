//! Several endpoints of one upstream: who gets which call, what stays where it is, who is left out, what is sent
//! again and what never, and how many calls one endpoint gets at a time.

use crate::config;
use o1_tests::{
    Answer, Backend, Gateway, Http, Legacy, Modern, Reply,
    backend::Era,
    mcp::{borrowed, modern},
    until_true,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};

const OVERLOADED: Option<i64> = Some(-33003);
const PATIENCE: Duration = Duration::from_secs(20);

/// An upstream of these endpoints, by weight; `rest` are more keys of it, indented by four.
fn store(name: &str, endpoints: &[(&Backend, u32)], rest: &str) -> String {
    let mut text = format!("  {name}:\n    primary:\n");
    for (backend, weight) in endpoints {
        text += &format!("      - {{url: {}, weight: {weight}}}\n", backend.url());
    }
    text + rest
}

async fn backends<const N: usize>(era: Era) -> [Backend; N] {
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(Backend::with(era).await);
    }
    all.try_into().unwrap_or_else(|_| unreachable!("there are as many as asked for"))
}

/// How many calls of a tool each received.
fn calls_of(backends: &[Backend], tool: &str) -> Vec<usize> {
    let name = format!(r#""name":"{tool}""#);
    let of = |backend: &Backend| {
        backend.received_of("tools/call").iter().filter(|call| call.body.contains(&name)).count()
    };
    backends.iter().map(of).collect()
}

/// One series of the data plane's metrics, summed over its labels.
async fn metric(gateway: &Gateway, name: &str) -> f64 {
    let text = Http::new(gateway.data.admin).send("GET", "/metrics", &[], "").await.text();
    let of = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        (series.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
    };
    text.lines().filter_map(of).sum()
}

// The predecessor ignored weights.
#[tokio::test(flavor = "multi_thread")]
async fn each_algorithm_gives_the_endpoints_their_shares() {
    let backends: [_; 3] = backends(Era::Modern).await;
    let [a, b, c] = &backends;
    let algorithms = ["round_robin", "least_connections", "random", "weighted_random", "consistent_hash"];
    for (backend, tool) in backends.iter().flat_map(|one| algorithms.map(|tool| (one, tool))) {
        backend.tool(tool, Answer::text("x"));
    }
    let upstream = |algorithm: &str| {
        let name = algorithm.replace('_', "-");
        store(&name, &[(a, 1), (b, 2), (c, 3)], &format!("    balance: {algorithm}\n"))
    };
    let gateway = Gateway::start(&config(algorithms.map(upstream))).await;
    for algorithm in algorithms {
        let client = Modern::new(gateway.address(), &format!("/u/{}/mcp", algorithm.replace('_', "-")));
        for _ in 0..300 {
            assert_eq!(client.call(algorithm, "{}").await.status, 200);
        }
        let counts = calls_of(&backends, algorithm);
        // What is drawn stays within six standard deviations.
        let near = |expected: [usize; 3], off: usize| {
            assert!(
                counts.iter().zip(expected).all(|(got, e)| got.abs_diff(e) <= off),
                "{algorithm} {counts:?}"
            );
        };
        match algorithm {
            "round_robin" => near([50, 100, 150], 2),
            "random" => near([100; 3], 49),
            // One principal and no session: one key.
            "consistent_hash" => {
                assert_eq!(counts.iter().filter(|count| **count > 0).count(), 1, "{counts:?}")
            }
            _ => near([50, 100, 150], 52),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consistent_hashing_goes_by_tool_and_by_header() {
    let backends: [_; 3] = backends(Era::Modern).await;
    let [a, b, c] = &backends;
    let tools: Vec<_> = (0..20).map(|number| format!("t{number}")).collect();
    for backend in &backends {
        tools.iter().for_each(|tool| backend.tool(tool, Answer::text("x")));
    }
    let by = |name: &str, key: &str| {
        let all = [(a, 1), (b, 1), (c, 1)];
        store(name, &all, &format!("    balance: {{algorithm: consistent_hash, key: \"{key}\"}}\n"))
    };
    let gateway = Gateway::start(&config([by("tool", "tool"), by("header", "header:x-tenant")])).await;
    let client = Modern::new(gateway.address(), "/u/tool/mcp");
    for tool in &tools {
        for _ in 0..4 {
            client.call(tool, "{}").await;
        }
        let counts = calls_of(&backends, tool);
        assert_eq!(counts.iter().filter(|count| **count == 4).count(), 1, "{tool} {counts:?}");
    }
    assert!(backends.iter().all(|one| !one.received_of("tools/call").is_empty()), "tools are spread");
    let before: Vec<_> = backends.iter().map(|one| one.received_of("tools/call").len()).collect();
    let mut homes = BTreeSet::new();
    for tenant in 0..20 {
        let http = Http::new(gateway.address()).always("x-tenant", &tenant.to_string());
        let seen = || backends.each_ref().map(|one| one.received_of("tools/call").len());
        let start = seen();
        for _ in 0..3 {
            let (headers, body) = modern("tools/call", r#"{"name":"t0","arguments":{}}"#);
            http.send("POST", "/u/header/mcp", &borrowed(&headers), body).await;
        }
        let home = seen().iter().zip(start).position(|(now, then)| *now == then + 3);
        homes.insert(
            home.unwrap_or_else(|| panic!("tenant {tenant} is at one endpoint: {start:?} {:?}", seen())),
        );
    }
    assert_eq!(homes.len(), 3, "{before:?}");
}

/// The value of the header that tells a backend's sessions apart, for each call of `echo`.
fn sessions_of(backends: &[Backend]) -> BTreeMap<String, BTreeSet<usize>> {
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (at, backend) in backends.iter().enumerate() {
        for call in backend.received_of("tools/call") {
            let arguments: Value = serde_json::from_str(&call.body).expect("a call is JSON");
            let who = arguments["params"]["arguments"]["who"].to_string();
            found.entry(who).or_default().insert(at);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_where_it_was_opened_and_sessions_are_spread() {
    for (path, tool) in [("/u/three/mcp", "echo"), ("/mcp", "three__echo")] {
        let backends: [_; 3] = backends(Era::Legacy).await;
        let [a, b, c] = &backends;
        let gateway = Gateway::start(&config([store("three", &[(a, 1), (b, 1), (c, 1)], "")])).await;
        for who in 0..12 {
            let client = Legacy::open(gateway.address(), path).await;
            for _ in 0..3 {
                let reply = client.call(tool, &format!(r#"{{"who":{who}}}"#)).await;
                assert!(reply.error_code().is_none(), "{path}: {}", reply.text());
            }
        }
        let sessions = sessions_of(&backends);
        assert_eq!(sessions.len(), 12, "{path}");
        assert!(sessions.values().all(|places| places.len() == 1), "{path}: {sessions:?}");
        let used: BTreeSet<_> = sessions.values().flatten().collect();
        assert_eq!(used.len(), 3, "{path}: {sessions:?}");
    }
}

// Calls kept going to dead endpoints in the predecessor.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoint_is_left_out_and_comes_back() {
    let [a, mut b]: [_; 2] = backends(Era::Both).await;
    let rest = "    outlier: {failures: 2, eject: 1s, eject_max: 1s}\n";
    let gateway = Gateway::start(&config([store("two", &[(&a, 1), (&b, 1)], rest)])).await;
    let client = Modern::new(gateway.address(), "/u/two/mcp");
    for _ in 0..4 {
        assert_eq!(client.call("echo", "{}").await.status, 200);
    }
    assert!(!b.received_of("tools/call").is_empty(), "both are used");
    b.stop().await;
    let went = b.received_of("tools/call").len();
    for _ in 0..20 {
        let reply = client.call("echo", "{}").await;
        assert!(reply.error_code().is_none(), "nothing was sent, so it goes elsewhere: {}", reply.text());
        let session = Legacy::open(gateway.address(), "/u/two/mcp").await;
        assert!(session.call("echo", "{}").await.error_code().is_none());
    }
    let session = Legacy::open(gateway.address(), "/mcp").await;
    assert!(session.call("two__echo", "{}").await.error_code().is_none());
    assert!(metric(&gateway, "o1_endpoint_ejections_total").await >= 1.0);
    b.resume().await;
    until_true("the endpoint is used again", PATIENCE, || async {
        client.call("echo", "{}").await;
        b.received_of("tools/call").len() > went
    })
    .await;
}

/// What clients of one gateway did in a test of load.
#[derive(Default)]
struct Load {
    reads: usize,
    failed_reads: Vec<String>,
    calls: usize,
}

async fn work(gateway: &Gateway, worker: usize, go: &AtomicBool) -> Load {
    let client = Modern::new(gateway.address(), "/u/three/mcp");
    let mut done = Load::default();
    while go.load(Ordering::Relaxed) {
        let unique = format!("{worker}-{}", done.calls);
        let read = client.request("resources/read", &format!(r#"{{"uri":"test://{unique}"}}"#)).await;
        if read.status != 200 || read.error_code().is_some() {
            done.failed_reads.push(read.text());
        }
        client.call("write", &format!(r#"{{"key":"{unique}"}}"#)).await;
        done.reads += 1;
        done.calls += 1;
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_of_three_is_killed_under_load_all_reads_succeed_and_nothing_runs_twice() {
    let mut all: [_; 3] = backends(Era::Modern).await;
    for backend in &all {
        backend.tool("write", Answer::Later(Duration::from_millis(5), Box::new(Answer::text("done"))));
        let contents = r#"{"contents":[],"resultType":"complete","ttlMs":0,"cacheScope":"private"}"#;
        let slow = Answer::Later(Duration::from_millis(5), Box::new(Answer::Result(contents.into())));
        backend.answer("resources/read", slow);
    }
    let rest = "    outlier: {failures: 3, eject: 60s}\n    retry: {budget_percent: 20, budget_min: 20}\n";
    let upstream = store("three", &[(&all[0], 1), (&all[1], 1), (&all[2], 1)], rest);
    let gateway = Arc::new(Gateway::start(&config([upstream])).await);
    let go = Arc::new(AtomicBool::new(true));
    let mut workers = JoinSet::new();
    for worker in 0..6 {
        let (gateway, go) = (gateway.clone(), go.clone());
        workers.spawn(async move { work(&gateway, worker, &go).await });
    }
    let reads =
        |all: &[Backend]| all.iter().map(|one| one.received_of("resources/read").len()).sum::<usize>();
    until_true("the load runs", PATIENCE, || async { reads(&all) > 100 }).await;
    all[1].stop().await;
    let then = reads(&all);
    until_true("the load goes on", PATIENCE, || async { reads(&all) > then + 200 }).await;
    go.store(false, Ordering::Relaxed);
    let mut total = Load::default();
    for done in workers.join_all().await {
        total.reads += done.reads;
        total.calls += done.calls;
        total.failed_reads.extend(done.failed_reads);
    }
    assert_eq!(total.failed_reads, Vec::<String>::new(), "of {}", total.reads);
    let mut ran: BTreeMap<String, usize> = BTreeMap::new();
    for call in all.iter().flat_map(|one| one.received_of("tools/call")) {
        let call: Value = serde_json::from_str(&call.body).expect("a call is JSON");
        *ran.entry(call["params"]["arguments"]["key"].to_string()).or_default() += 1;
    }
    assert!(total.calls > 100 && ran.len() > 100);
    let twice: Vec<_> = ran.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "ran twice: {twice:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_fail_requests_exceed_calls_only_by_the_budget_and_all_are_counted() {
    let backends: [_; 2] = backends(Era::Modern).await;
    for backend in &backends {
        backend.answer("resources/read", Answer::Status(503, "stopping".into()));
    }
    let rest = "    outlier: {failures: 0}\n    breaker: {failures: 1000}\n    retry: {attempts: 5, budget_percent: 20, budget_min: 2}\n";
    let upstream = store("two", &[(&backends[0], 1), (&backends[1], 1)], rest);
    let gateway = Gateway::start(&config([upstream])).await;
    let client = Modern::new(gateway.address(), "/u/two/mcp");
    let (began, calls) = (Instant::now(), 200);
    let errors = metric(&gateway, "o1_upstream_errors_total").await;
    for number in 0..calls {
        let reply = client.request("resources/read", &format!(r#"{{"uri":"test://{number}"}}"#)).await;
        assert_eq!((reply.status, reply.text()), (503, "stopping".to_owned()), "the server's own words");
        // A breaker opens when half of what is sent fails. These count for the budget, too.
        for _ in 0..4 {
            assert_eq!(client.call("echo", "{}").await.status, 200);
        }
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).expect("a short time") + 1;
    let sent: usize = backends.iter().map(|one| one.received_of("resources/read").len()).sum();
    assert!(sent > calls, "some are sent again: {sent}");
    assert!(
        sent <= calls + 5 * calls * 20 / 100 + 2 * seconds,
        "{sent} requests for {calls} calls in {seconds} s"
    );
    let counted = metric(&gateway, "o1_upstream_errors_total").await - errors;
    assert!(
        (counted - f64::from(u32::try_from(sent).unwrap())).abs() < 0.5,
        "{counted} counted, {sent} sent"
    );
}

// landscape A.2, rows 62 and 65: one competitor retries by the code of a JSON-RPC error, another sends every error to
// the next upstream. An answer is an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_json_rpc_error_is_never_replayed_not_even_for_what_may_run_twice() {
    let backends: [_; 2] = backends(Era::Modern).await;
    let error = r#"{"code":-32603,"message":"Internal error: try again"}"#;
    for backend in &backends {
        backend.tool("get", Answer::Error(error.into()));
        backend.answer("resources/read", Answer::Error(error.into()));
        backend.tool(
            "failing",
            Answer::Result(r#"{"content":[],"isError":true,"resultType":"complete"}"#.into()),
        );
    }
    let rest = "    retry: {attempts: 5, tools: [\"*\"], budget_percent: 100, budget_min: 100}\n    outlier: {failures: 1}\n";
    let upstream = store("two", &[(&backends[0], 1), (&backends[1], 1)], rest);
    let gateway = Gateway::start(&config([upstream])).await;
    let sent = |method: &str| backends.iter().map(|one| one.received_of(method).len()).sum::<usize>();
    for path in ["/u/two/mcp", "/mcp"] {
        let client = Modern::new(gateway.address(), path);
        let prefix = if path == "/mcp" { "two__" } else { "" };
        let before = (sent("tools/call"), sent("resources/read"));
        for _ in 0..5 {
            assert_eq!(client.call(&format!("{prefix}get"), "{}").await.error_code(), Some(-32603));
            client.call(&format!("{prefix}failing"), "{}").await;
        }
        assert_eq!(sent("tools/call"), before.0 + 10, "{path}");
    }
    let client = Modern::new(gateway.address(), "/u/two/mcp");
    let before = sent("resources/read");
    for _ in 0..5 {
        client.request("resources/read", r#"{"uri":"test://x"}"#).await;
    }
    assert_eq!(sent("resources/read"), before + 5);
    assert!(metric(&gateway, "o1_endpoint_ejections_total").await < 0.5, "an answer leaves nobody out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_broke_off_is_sent_again_only_where_the_operator_named_it() {
    let backends: [_; 2] = backends(Era::Modern).await;
    for backend in &backends {
        let once = vec![Answer::Hangup, Answer::text("fine")];
        backend.tool("get_x", Answer::InTurn(once.clone()));
        backend.tool("set_x", Answer::InTurn(once));
    }
    // Once at each endpoint, so the second of three attempts fails, too.
    let rest = "    retry: {attempts: 3, tools: [\"get_*\"], budget_min: 100}\n";
    let upstream = store("two", &[(&backends[0], 1), (&backends[1], 1)], rest);
    let gateway = Gateway::start(&config([upstream])).await;
    let client = Modern::new(gateway.address(), "/u/two/mcp");
    assert_eq!(client.call("get_x", "{}").await.error_code(), None);
    assert_eq!(calls_of(&backends, "get_x").iter().sum::<usize>(), 3);
    assert!(client.call("set_x", "{}").await.error_code().is_some());
    assert_eq!(calls_of(&backends, "set_x").iter().sum::<usize>(), 1, "it may have run");
}

async fn at_once(count: usize, call: impl AsyncFn() -> Reply) -> Vec<Reply> {
    futures_util::future::join_all((0..count).map(|_| call())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_endpoint_gets_more_calls_at_a_time_than_it_takes_and_the_rest_is_told() {
    let backend = Backend::with(Era::Both).await;
    let slow = Answer::Later(Duration::from_millis(700), Box::new(Answer::text("x")));
    backend.tool("slow", slow);
    let rest = "    concurrency: {max: 2, queue: 3, wait: 20s}\n";
    let gateway = Gateway::start(&config([store("one", &[(&backend, 1)], rest)])).await;
    let client = Modern::new(gateway.address(), "/u/one/mcp");
    let replies = at_once(12, async || client.call("slow", "{}").await).await;
    let (served, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert!(served.len() >= 5 && !refused.is_empty(), "{} served", served.len());
    for reply in refused {
        assert_eq!((reply.status, reply.error_code()), (503, OVERLOADED), "{}", reply.text());
        assert_eq!(reply.header("retry-after"), "1");
    }
    for path in ["/u/one/mcp", "/mcp"] {
        let client = Legacy::open(gateway.address(), path).await;
        let tool = if path == "/mcp" { "one__slow" } else { "slow" };
        let replies = at_once(12, async || client.call(tool, "{}").await).await;
        assert!(replies.iter().all(|reply| reply.status == 200), "{path}");
        let refused = replies.iter().filter(|reply| reply.error_code() == OVERLOADED).count();
        assert!((1..=7).contains(&refused), "{path}: {refused}");
    }
    assert_eq!(backend.most_at_once(), 2);
    assert!(metric(&gateway, "o1_endpoint_refused_total").await > 0.5);
    // Everything that was taken came back.
    assert_eq!(client.call("slow", "{}").await.status, 200);
    until_true("nothing is in flight", PATIENCE, || async {
        metric(&gateway, "o1_endpoint_in_flight").await < 0.5
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waited_for_a_place_has_as_much_time_as_any_other() {
    let backend = Backend::with(Era::Both).await;
    backend.tool("slow", Answer::Later(Duration::from_millis(700), Box::new(Answer::text("x"))));
    let rest = "    concurrency: {max: 1, queue: 3, wait: 20s}\n    timeouts: {total: 1s}\n";
    let gateway = Gateway::start(&config([store("one", &[(&backend, 1)], rest)])).await;
    let modern = Modern::new(gateway.address(), "/u/one/mcp");
    let replies = at_once(3, async || modern.call("slow", "{}").await).await;
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.error_code().is_none()), "{replies:?}");
    let legacy = Legacy::open(gateway.address(), "/u/one/mcp").await;
    let replies = at_once(3, async || legacy.call("slow", "{}").await).await;
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.error_code().is_none()), "{replies:?}");
}
