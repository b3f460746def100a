//! Probes and circuit breakers: what is noticed without traffic, what fails at once instead of hanging, and what
//! probes must never do to a server.

use crate::config;
use o1_tests::{Answer, Backend, Gateway, Http, Legacy, Modern, backend::Era, until_true};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(20);
/// Much less than the time that a call may take.
const AT_ONCE: Duration = Duration::from_millis(400);

/// Probes and breakers in a hurry.
const QUICK: &str = "    health: {every: 500ms, timeout: 300ms}\n    breaker: {failures: 3, open: 1s, open_max: 2s}\n    \
                     timeouts: {idle: 1s, total: 2s, connect: 1s}\n";

/// The values of one metric, with the labels of each.
async fn series(gateway: &Gateway, name: &str) -> Vec<(String, f64)> {
    let text = Http::new(gateway.data.admin).send("GET", "/metrics", &[], "").await.text();
    let of = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (head, labels) = series.split_once('{')?;
        Some((labels.to_owned(), value.parse().ok()?)).filter(|_| head == name)
    };
    text.lines().filter_map(of).collect()
}

/// The sum of a metric over the series with this in their labels.
async fn sum(gateway: &Gateway, name: &str, label: &str) -> f64 {
    let all = series(gateway, name).await;
    all.iter().filter(|(labels, _)| labels.contains(label)).map(|(_, value)| value).sum()
}

/// Whether the metric stands at a value for every endpoint of a store.
async fn stands(gateway: &Gateway, name: &str, store: &str, value: f64) -> bool {
    let all = series(gateway, name).await;
    let store = format!(r#"store="{store}""#);
    let mut of = all.iter().filter(|(labels, _)| labels.contains(&store)).peekable();
    of.peek().is_some() && of.all(|(_, seen)| (seen - value).abs() < 0.1)
}

async fn breaker(gateway: &Gateway, state: f64) {
    until_true("the state of the breaker", PATIENCE, || {
        stands(gateway, "o1_breaker_state", "primary", state)
    })
    .await;
}

async fn healthy(gateway: &Gateway, store: &str, is: bool) {
    let value = f64::from(u8::from(is));
    until_true("the verdict", PATIENCE, || stands(gateway, "o1_endpoint_healthy", store, value)).await;
}

async fn reachable(gateway: &Gateway) -> Value {
    let status: Value = Http::new(gateway.data.admin).get("/status").await.json();
    status["upstreams"][0]["reachable"].clone()
}

/// Waits for so many more probes.
async fn probes(gateway: &Gateway, more: u32) {
    let before = sum(gateway, "o1_probes_total", "").await;
    until_true("more probes", PATIENCE, || async {
        sum(gateway, "o1_probes_total", "").await >= before + f64::from(more)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_a_server_that_hangs_soon_fail_at_once_and_go_on_when_it_is_back_without_one() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&config([backend.upstream("only") + QUICK])).await;
    let modern = Modern::new(gateway.address(), "/u/only/mcp");
    let relayed = Legacy::open(gateway.address(), "/u/only/mcp").await;
    let shared = Legacy::open(gateway.address(), "/mcp").await;
    assert!(modern.call("echo", "{}").await.error_code().is_none());
    assert!(shared.call("only__echo", "{}").await.error_code().is_none());
    healthy(&gateway, "primary", true).await;
    backend.freeze();
    let slow = futures_util::future::join_all((0..3).map(|_| modern.call("echo", "{}"))).await;
    assert!(slow.iter().all(|reply| reply.error_code().is_some()));
    let went = backend.received_of("tools/call").len();
    for who in ["modern", "relayed", "shared"] {
        let began = Instant::now();
        let reply = match who {
            "modern" => modern.call("echo", "{}").await,
            "relayed" => relayed.call("echo", "{}").await,
            _ => shared.call("only__echo", "{}").await,
        };
        assert!(began.elapsed() < AT_ONCE, "{who}: {:?}", began.elapsed());
        assert!(reply.text().contains("circuit breaker is open"), "{who}: {}", reply.text());
    }
    assert_eq!(backend.received_of("tools/call").len(), went, "nothing was sent");
    healthy(&gateway, "primary", false).await;
    assert_eq!(reachable(&gateway).await, false);
    backend.thaw();
    breaker(&gateway, 0.0).await;
    healthy(&gateway, "primary", true).await;
    let late = backend.received_of("tools/call").len();
    assert_eq!(late, went, "no call was needed for that");
    for reply in [
        modern.call("echo", "{}").await,
        relayed.call("echo", "{}").await,
        shared.call("only__echo", "{}").await,
    ] {
        assert!(reply.error_code().is_none(), "{}", reply.text());
    }
    assert!(sum(&gateway, "o1_breaker_opened_total", "").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_proxy_open_the_breaker_and_nothing_that_a_server_answers_does() {
    let backend = Backend::start().await;
    for (tool, answer) in [
        ("error", Answer::Error(r#"{"code":-32603,"message":"no"}"#.into())),
        ("failed", Answer::Result(r#"{"content":[],"isError":true}"#.into())),
        ("unauthorized", Answer::Status(401, "who are you".into())),
        ("forbidden", Answer::Status(403, "not you".into())),
        ("slowly", Answer::Status(429, "slowly".into())),
        ("broken", Answer::Status(500, "oops".into())),
        ("unavailable", Answer::Status(503, "later".into())),
    ] {
        backend.tool(tool, answer);
    }
    let gateway = Gateway::start(&config([backend.upstream("only") + QUICK])).await;
    let modern = Modern::new(gateway.address(), "/u/only/mcp");
    let legacy = Legacy::open(gateway.address(), "/mcp").await;
    for tool in ["error", "failed", "unauthorized", "forbidden", "slowly", "broken"] {
        for _ in 0..12 {
            modern.call(tool, "{}").await;
            legacy.call(&format!("only__{tool}"), "{}").await;
        }
        let opened = sum(&gateway, "o1_breaker_opened_total", "").await;
        assert!(opened == 0.0, "{tool} opened it");
    }
    assert!(modern.call("echo", "{}").await.error_code().is_none());
    for _ in 0..3 {
        modern.call("unavailable", "{}").await;
    }
    let reply = modern.call("echo", "{}").await;
    assert!(reply.text().contains("circuit breaker is open"), "{}", reply.text());
    // Probes find it alive.
    breaker(&gateway, 0.0).await;
    assert!(modern.call("echo", "{}").await.error_code().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_that_dies_is_noticed_and_so_is_its_backup_and_that_they_are_back() {
    let (mut primary, mut backup) = (Backend::start().await, Backend::start().await);
    let text = format!("{}    backup:\n      - url: {}\n{QUICK}", primary.upstream("only"), backup.url());
    let gateway = Gateway::start(&config([text])).await;
    healthy(&gateway, "primary", true).await;
    healthy(&gateway, "backup", true).await;
    backup.stop().await;
    healthy(&gateway, "backup", false).await;
    assert_eq!(reachable(&gateway).await, true, "the primary is");
    assert!(stands(&gateway, "o1_endpoint_healthy", "primary", 1.0).await);
    primary.stop().await;
    healthy(&gateway, "primary", false).await;
    until_true("the primary unreachable", PATIENCE, || async { reachable(&gateway).await == false }).await;
    backup.resume().await;
    healthy(&gateway, "backup", true).await;
    assert_eq!(reachable(&gateway).await, false, "the backup does not speak for the primary");
    primary.resume().await;
    healthy(&gateway, "primary", true).await;
    until_true("the primary reachable", PATIENCE, || async { reachable(&gateway).await == true }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_for_health_is_asked_with_the_upstreams_headers_and_has_to_succeed() {
    let backend = Backend::start().await;
    let rest = "    health: {every: 200ms, timeout: 150ms, path: /healthz}\n    headers: {authorization: Bearer x}\n";
    let gateway = Gateway::start(&config([backend.upstream("only") + rest])).await;
    healthy(&gateway, "primary", true).await;
    assert!(backend.healths().iter().all(|one| one.http_method == "GET"));
    assert!(backend.healths().iter().all(|one| one.header("authorization") == "Bearer x"));
    for status in [500, 404, 302] {
        backend.health(status);
        healthy(&gateway, "primary", false).await;
        backend.health(204);
        healthy(&gateway, "primary", true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_open_no_session_and_ask_within_one_that_is_open() {
    let backend = Backend::with(Era::Legacy).await;
    let rest = "    health: {every: 150ms, timeout: 100ms}\n";
    let gateway = Gateway::start(&config([backend.upstream("only") + rest])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    assert!(client.call("only__echo", "{}").await.error_code().is_none());
    healthy(&gateway, "primary", true).await;
    let opened = backend.received_of("initialize").len();
    let (pings, sessions) = (backend.received_of("ping").len(), backend.sessions());
    probes(&gateway, 10).await;
    assert_eq!((backend.received_of("initialize").len(), backend.sessions()), (opened, sessions));
    assert!(backend.received_of("ping").len() >= pings + 5, "in the session");
    assert!(backend.received_of("ping").iter().all(|ping| !ping.header("mcp-session-id").is_empty()));
    // A session that is lost is no dead server, and a probe opens no other.
    backend.forget_sessions();
    probes(&gateway, 10).await;
    assert_eq!((backend.received_of("initialize").len(), backend.sessions()), (opened, 0));
    assert!(stands(&gateway, "o1_endpoint_healthy", "primary", 1.0).await);
    assert!(client.call("only__echo", "{}").await.error_code().is_none(), "the client's goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_start_no_process_and_see_one_that_runs() {
    let program = env!("CARGO_BIN_EXE_o1-test-server");
    let text = format!(
        "  p:\n    primary:\n      - {{command: [{program}], idle_stop: 1s}}\n    health: {{every: 200ms, timeout: 100ms}}\n"
    );
    let gateway = Gateway::start(&config([text])).await;
    let client = Legacy::open(gateway.address(), "/u/p/mcp").await;
    assert!(client.call("echo", "{}").await.error_code().is_none());
    healthy(&gateway, "primary", true).await;
    until_true("a probe that sees it", PATIENCE, || async {
        sum(&gateway, "o1_probes_total", r#"result="good""#).await > 0.0
    })
    .await;
    let none = || std::future::ready(gateway.data.process.descendants().is_empty());
    until_true("the end of the idle process, probed or not", PATIENCE, none).await;
    for _ in 0..5 {
        probes(&gateway, 2).await;
        assert_eq!(gateway.data.process.descendants(), Vec::<i32>::new());
    }
    assert!(stands(&gateway, "o1_endpoint_healthy", "primary", 1.0).await, "nothing is wrong with it");
    assert!(client.call("echo", "{}").await.error_code().is_none());
}
