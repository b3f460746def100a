//! Sessions that outlive their node: another one, or a later life of the same, goes on with them.

use crate::config;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use o1_tests::{
    Backend, Balancer, Gateway, Http, Legacy, Pair, load_time,
    mcp::{self, JSON},
    until, until_true,
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

const ROUTES: [&str; 2] = ["/mcp", "/u/only/mcp"];
const PATIENCE: Duration = Duration::from_secs(20);

/// The one tool, as it is called on a route.
fn echo(route: &str) -> &'static str {
    if route == "/mcp" { "only__echo" } else { "echo" }
}

/// What became of one call.
enum Call {
    Answered(u16, String),
    /// The connection broke: it may have run, and the client knows that it does not know.
    Unsure,
}

async fn call(http: &Http, path: &str, headers: &[(String, String)], body: String) -> Call {
    let headers = mcp::borrowed(headers);
    let Ok(response) = http.try_send("POST", path, &headers, body).await else { return Call::Unsure };
    let status = response.status().as_u16();
    match timeout(PATIENCE, response.into_body().collect()).await.expect("the end of a body in time") {
        Ok(whole) => Call::Answered(status, String::from_utf8_lossy(&whole.to_bytes()).into_owned()),
        Err(_) => Call::Unsure,
    }
}

/// What one client saw.
#[derive(Default)]
struct Seen {
    answered: Vec<String>,
    unsure: Vec<String>,
    wrong: Vec<String>,
}

/// Calls with arguments that no other call has, until told to stop; never the same call twice.
async fn client(
    address: SocketAddr,
    n: usize,
    stop: Arc<AtomicBool>,
    killed: Arc<AtomicBool>,
    after: Arc<AtomicU64>,
) -> Seen {
    let (path, tool) = match n % 3 {
        0 => ("/mcp", "left__echo"),
        1 => ("/u/right/mcp", "echo"),
        _ => ("/mcp", "right__echo"),
    };
    let modern = n % 4 == 3;
    let http = Http::new(address);
    let session = if modern { None } else { Some(Legacy::open(address, path).await) };
    let (mut seen, mut counted) = (Seen::default(), 0);
    for round in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!(r#"{{"client":{n},"round":{round}}}"#);
        let params = format!(r#"{{"name":"{tool}","arguments":{key}}}"#);
        let (headers, body) = match &session {
            None => mcp::modern("tools/call", &params),
            Some(session) => {
                let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                (session.headers().into_iter().map(own).collect(), session.body("tools/call", &params))
            }
        };
        match call(&http, path, &headers, body).await {
            Call::Answered(200, text) if text.contains(&format!(r#""structuredContent":{key}"#)) => {
                seen.answered.push(key);
                if killed.load(Ordering::Relaxed) && counted < 3 {
                    counted += 1;
                    after.fetch_add(1, Ordering::Relaxed);
                }
            }
            Call::Answered(status, text) => seen.wrong.push(format!("{key}: {status} {text}")),
            Call::Unsure => seen.unsure.push(key),
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_goes_on_at_the_other_node_when_one_is_killed_under_load_and_nothing_runs_twice() {
    const CLIENTS: usize = 48;
    let (left, right) = (Backend::start().await, Backend::start().await);
    let mut pair = Pair::start(&config([left.upstream("left"), right.upstream("right")]), &[]).await;
    let balancer = Balancer::start(&[pair.a.listen, pair.b.listen]).await;
    let (stop, killed, after) = (Arc::<AtomicBool>::default(), Arc::default(), Arc::<AtomicU64>::default());
    let mut load = JoinSet::new();
    for n in 0..CLIENTS {
        load.spawn(client(balancer.address, n, Arc::clone(&stop), Arc::clone(&killed), Arc::clone(&after)));
    }
    until_true("load on both", PATIENCE, || async {
        left.ran("tools/call").len() > 100 && right.ran("tools/call").len() > 100
    })
    .await;
    tokio::time::sleep(load_time() / 3).await;
    pair.a.process.kill();
    killed.store(true, Ordering::Relaxed);
    let began = Instant::now();
    until_true("every client to go on", PATIENCE, || async {
        after.load(Ordering::Relaxed) == 3 * CLIENTS as u64
    })
    .await;
    let went_on = began.elapsed();
    tokio::time::sleep(load_time() / 3).await;
    stop.store(true, Ordering::Relaxed);
    let (mut answered, mut unsure, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(ended) = load.join_next().await {
        let seen = ended.unwrap();
        assert!(seen.unsure.len() <= 2, "a client was cut more than once: {:?}", seen.unsure);
        answered.extend(seen.answered);
        unsure.extend(seen.unsure);
        wrong.extend(seen.wrong);
    }
    println!("{} answered, {} unsure, all went on after {went_on:?}", answered.len(), unsure.len());
    assert!(wrong.is_empty(), "{} wrong answers: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    let mut ran: BTreeMap<String, u32> = BTreeMap::new();
    for call in left.ran("tools/call").into_iter().chain(right.ran("tools/call")) {
        let arguments = o1_tests::http::member(&call.member("params"), "arguments").unwrap();
        *ran.entry(arguments).or_default() += 1;
    }
    for (key, times) in &ran {
        assert_eq!(*times, 1, "{key} ran {times} times");
    }
    for key in &answered {
        assert!(ran.contains_key(key), "{key} was answered and never ran");
    }
    let lost = ran.keys().filter(|key| !answered.contains(key) && !unsure.contains(key)).count();
    assert_eq!(lost, 0, "whatever ran was answered, or its client knows that it may have run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_opened_at_one_node_is_the_same_at_the_other() {
    let backend = Backend::start().await;
    let pair = Pair::start(&config([backend.upstream("only")]), &[]).await;
    for route in ROUTES {
        let capabilities = r#"{"roots":{"listChanged":true},"experimental":{"x":1.50}}"#;
        let here = Legacy::open_with(Http::new(pair.a.listen), route, "2025-06-18", capabilities).await;
        assert!(here.session.len() < 6 << 10, "{route}: {} bytes", here.session.len());
        let before = backend.received_of("initialize").len();
        let there = here.at(pair.b.listen);
        assert_eq!(there.tools().await, [echo(route)], "{route}");
        let answer = there.call(echo(route), r#"{"n":1}"#).await;
        assert_eq!(answer.result()["structuredContent"]["n"], 1, "{route}");
        let opened = backend.received_of("initialize").split_off(before);
        if route == "/mcp" {
            let params = opened.last().expect("the other node opens its own session").member("params");
            assert_eq!(o1_tests::http::member(&params, "capabilities").as_deref(), Some(capabilities));
            assert!(params.contains("\"2025-06-18\""), "{params}");
        } else {
            assert!(opened.is_empty(), "{route}: the very session of the upstream goes on");
        }
        assert_eq!(here.call(echo(route), r#"{"n":2}"#).await.status, 200, "{route}: and here, too");
        assert_eq!(there.http.send("DELETE", route, &there.headers(), "").await.status, 200, "{route}");
        assert_eq!(
            there.request("ping", "{}").await.status,
            404,
            "{route}: ended stays ended where it ended"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_goes_on_with_its_sessions_even_without_a_control_plane() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&config([backend.upstream("only")])).await;
    for route in ROUTES {
        let client = Legacy::open(gateway.address(), route).await;
        gateway.control.process.kill();
        gateway.data.restart().await;
        let client = client.at(gateway.address());
        let answer = client.call(echo(route), r#"{"n":1}"#).await;
        assert_eq!(answer.result()["structuredContent"]["n"], 1, "{route}");
        gateway.control.restart().await;
        gateway.control.synced("n1").await;
        assert_eq!(client.call(echo(route), r#"{"n":2}"#).await.status, 200, "{route}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_and_no_session_notices() {
    let backend = Backend::start().await;
    let pair = Pair::start(&config([backend.upstream("only")]), &["--key-rotation", "1"]).await;
    let early = Legacy::open(pair.a.listen, "/mcp").await;
    let log = pair.control.process.stderr.clone();
    let rotations = || log.text().matches("other keys for the tokens of clients").count();
    let seen = rotations();
    let mut clients = vec![early];
    while rotations() < seen + 3 {
        // Sealed by either node at any moment, opened by the other at once.
        let (here, there) = if clients.len() % 2 == 0 { (&pair.a, &pair.b) } else { (&pair.b, &pair.a) };
        let client = Legacy::open(here.listen, "/mcp").await;
        assert_eq!(client.at(there.listen).request("ping", "{}").await.status, 200, "{}", clients.len());
        clients.push(client);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (n, client) in clients.iter().enumerate() {
        for node in [&pair.a, &pair.b] {
            assert_eq!(client.at(node.listen).request("ping", "{}").await.status, 200, "session {n}");
        }
    }
    for node in [&pair.a, &pair.b] {
        let text = node.process.stderr.text();
        assert!(!text.contains("sealing keys that cannot be used"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_principals_session_is_answered_byte_for_byte_as_an_unknown_one() {
    let backend = Backend::start().await;
    // sha256 of `alpha` and of `beta`.
    let auth = "clients:\n  auth:\n    tokens:\n      - {name: a, sha256: 8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8}\n      - {name: b, sha256: f44e64e75f3948e9f73f8dfa94721c4ce8cbb4f265c4790c702b2d41cfbf2753}\n";
    let pair = Pair::start(&format!("{}{auth}", config([backend.upstream("only")])), &[]).await;
    let headers = |token: &str, session: &str| {
        let mut headers: Vec<(String, String)> =
            JSON.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        headers.push(("authorization".into(), format!("Bearer {token}")));
        if !session.is_empty() {
            headers.push(("mcp-session-id".into(), session.into()));
            headers.push(("mcp-protocol-version".into(), mcp::LEGACY.into()));
        }
        headers
    };
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    for route in ROUTES {
        let (a, b) = (Http::new(pair.a.listen), Http::new(pair.b.listen));
        let opened = a
            .send("POST", route, &mcp::borrowed(&headers("alpha", "")), mcp::initialize(mcp::LEGACY, "{}"))
            .await;
        let session = opened.header("mcp-session-id").to_owned();
        assert!(!session.is_empty(), "{route}: {}", opened.text());
        for http in [&a, &b] {
            for (verb, body) in [("POST", list), ("GET", ""), ("DELETE", "")] {
                let ask = async |token: &str, session: &str| {
                    let mut headers = headers(token, session);
                    if verb == "GET" {
                        headers.retain(|(name, _)| name != "accept");
                        headers.push(("accept".into(), "text/event-stream".into()));
                    }
                    let reply = http.send(verb, route, &mcp::borrowed(&headers), Bytes::from(body)).await;
                    let mut names: Vec<_> =
                        reply.headers.iter().filter(|(name, _)| *name != "date").collect();
                    names.sort_by_key(|(name, _)| name.as_str());
                    (reply.status, reply.text(), format!("{names:?}"))
                };
                let unknown = ask("beta", "0123456789").await;
                assert_eq!(unknown.0, 404, "{route} {verb}");
                assert_eq!(ask("beta", &session).await, unknown, "{route} {verb}: somebody else's");
            }
            let own = http.send("POST", route, &mcp::borrowed(&headers("alpha", &session)), list).await;
            assert_eq!(own.status, 200, "{route}: {}", own.text());
        }
        let other = if route == "/mcp" { "/u/only/mcp" } else { "/mcp" };
        for http in [&a, &b] {
            let reply = http.send("POST", other, &mcp::borrowed(&headers("alpha", &session)), list).await;
            assert_eq!(reply.status, 404, "{route}: on another route it is none");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_lifetime_and_the_client_is_told_to_open_another() {
    let backend = Backend::start().await;
    let limit = "clients: {session_lifetime: 2s}\n";
    let pair = Pair::start(&format!("{}{limit}", config([backend.upstream("only")])), &[]).await;
    for route in ROUTES {
        let client = Legacy::open(pair.a.listen, route).await;
        until("its end, however busy it is", PATIENCE, || async {
            (client.request("ping", "{}").await.status == 404).then_some(())
        })
        .await;
        assert_eq!(client.at(pair.b.listen).request("ping", "{}").await.status, 404, "{route}: everywhere");
        assert_eq!(Legacy::open(pair.a.listen, route).await.request("ping", "{}").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_costs_a_few_kib() {
    let backend = Backend::start().await;
    let count: usize =
        std::env::var("O1_SESSIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000);
    let limit = format!("clients: {{max_sessions: {}}}\n", count * 3);
    let gateway = Gateway::start(&format!("{}{limit}", config([backend.upstream("only")]))).await;
    for route in ROUTES {
        // What a first burst costs once is not what a session costs.
        for _ in 0..200 {
            Legacy::open(gateway.address(), route).await;
        }
        let before = gateway.data.process.resident_bytes();
        let mut opening = JoinSet::new();
        let address = gateway.address();
        for _ in 0..20 {
            let each = count / 20;
            opening.spawn(async move {
                let http = Http::new(address);
                let mut length = 0;
                for _ in 0..each {
                    let client = Legacy::open_with(http.clone(), route, mcp::LEGACY, "{}").await;
                    length = client.session.len();
                }
                length
            });
        }
        let mut length = 0;
        while let Some(opened) = opening.join_next().await {
            length = opened.unwrap();
        }
        let grown = gateway.data.process.resident_bytes().saturating_sub(before);
        let each = grown as usize / count;
        println!(
            "{route}: {count} idle sessions, ids of {length} bytes: {} KiB in all, {} bytes each",
            grown >> 10,
            each
        );
        // Several times what is measured; one forgotten buffer of an HTTP head is more.
        assert!(each < 8 << 10, "{route}: {each} bytes");
    }
}
