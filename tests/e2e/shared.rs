//! Sessions that share a process: each gets what it asked for, and the process is asked once. And processes that
//! crash, or that nobody uses.

use crate::config;
use o1_tests::{Backend, Gateway, Legacy, http::Stream, process::is_alive, until};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

const SECONDS: Duration = Duration::from_secs(20);

fn upstream(name: &str, more: &str) -> String {
    let program = env!("CARGO_BIN_EXE_o1-test-server");
    format!("  {name}:\n    primary:\n      - command: [{program}]\n{more}")
}

async fn text(client: &Legacy, tool: &str, arguments: &Value) -> String {
    let reply = client.call(tool, &arguments.to_string()).await;
    let answer = reply.json();
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

async fn heard(client: &Legacy, method: &str) -> Vec<String> {
    let all: Vec<String> = serde_json::from_str(&text(client, "heard", &json!({})).await).unwrap();
    all.into_iter().filter(|one| one.starts_with(method)).collect()
}

/// Lets the process say something on its own, and then that a list changed.
async fn say(client: &Legacy, method: &str, params: &Value) {
    for (method, params) in [(method, params), ("notifications/tools/list_changed", &json!({}))] {
        let line = json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string();
        text(client, "say", &json!({"line": line})).await;
    }
}

/// The methods that a stream brings up to the next change of a list.
async fn next(stream: &mut Stream) -> Vec<String> {
    let mut methods = Vec::new();
    loop {
        let message = stream.message("a message", SECONDS, |_| true).await;
        match message["method"].as_str().unwrap_or_default() {
            "notifications/tools/list_changed" => return methods,
            method => methods.push(method.to_owned()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_are_counted_and_updates_reach_subscribers_only() {
    const UPDATED: &str = "notifications/resources/updated";
    let gateway = Gateway::start(&config([upstream("p", "")])).await;
    let (a, b) = (
        Legacy::open(gateway.address(), "/u/p/mcp").await,
        Legacy::open(gateway.address(), "/u/p/mcp").await,
    );
    let (mut at_a, mut at_b) = (a.listen().await, b.listen().await);
    let uri = r#"{"uri":"test://1"}"#;
    assert_eq!(a.request("resources/subscribe", uri).await.result(), json!({}));
    assert_eq!(b.request("resources/subscribe", uri).await.result(), json!({}));
    assert_eq!(heard(&a, "resources/subscribe").await.len(), 1);
    say(&a, UPDATED, &json!({"uri": "test://1"})).await;
    assert_eq!((next(&mut at_a).await, next(&mut at_b).await), (vec![UPDATED.into()], vec![UPDATED.into()]));
    assert_eq!(a.request("resources/unsubscribe", uri).await.result(), json!({}));
    say(&a, UPDATED, &json!({"uri": "test://1"})).await;
    assert_eq!((next(&mut at_a).await, next(&mut at_b).await), (Vec::<String>::new(), vec![UPDATED.into()]));
    assert!(heard(&a, "resources/unsubscribe").await.is_empty());
    drop(at_b);
    b.http.send("DELETE", "/u/p/mcp", &b.headers(), "").await;
    until("the last subscriber's end to be heard", SECONDS, || async {
        (heard(&a, "resources/unsubscribe").await.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_logs_for_the_most_curious_and_each_session_hears_its_own_level() {
    const LOG: &str = "notifications/message";
    let gateway = Gateway::start(&config([upstream("p", "")])).await;
    let (a, b) = (
        Legacy::open(gateway.address(), "/u/p/mcp").await,
        Legacy::open(gateway.address(), "/u/p/mcp").await,
    );
    let (mut at_a, mut at_b) = (a.listen().await, b.listen().await);
    assert_eq!(a.request("logging/setLevel", r#"{"level":"error"}"#).await.result(), json!({}));
    assert_eq!(b.request("logging/setLevel", r#"{"level":"debug"}"#).await.result(), json!({}));
    assert_eq!(a.request("logging/setLevel", r#"{"level":"warning"}"#).await.result(), json!({}));
    let levels = heard(&a, "logging/setLevel").await;
    assert_eq!(levels, [r#"logging/setLevel {"level":"error"}"#, r#"logging/setLevel {"level":"debug"}"#]);
    for (level, by_a) in [("debug", 0), ("warning", 1)] {
        say(&a, LOG, &json!({"level": level, "data": "x"})).await;
        assert_eq!((next(&mut at_a).await.len(), next(&mut at_b).await.len()), (by_a, 1), "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_nobody_uses_ends_and_comes_back_when_called() {
    let gateway = Gateway::start(&config([upstream("p", "        idle_stop: 1s\n")])).await;
    let client = Legacy::open(gateway.address(), "/u/p/mcp").await;
    let first: i32 = text(&client, "pid", &json!({})).await.parse().unwrap();
    until("the idle process to end", SECONDS, || async { (!is_alive(first)).then_some(()) }).await;
    let second: i32 = text(&client, "pid", &json!({})).await.parse().unwrap();
    assert_ne!(first, second, "the session goes on with another process");
    let listening = client.listen().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(is_alive(second), "somebody listens");
    drop(listening);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_nobody_wanted_yet_is_not_started_only_to_see_whether_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let needed = folder.path().join("needed");
    let env = format!("        env: {{O1_TEST_NEEDS: \"{}\"}}\n", needed.display());
    let backend = Backend::start().await;
    let gateway = Gateway::start(&config([upstream("p", &env), backend.upstream("b")])).await;
    let state = async |name: &str| {
        let status = gateway.control.o1ctl(&["status"]).await;
        let all = status["upstreams"].as_array()?.clone();
        Some(all.into_iter().find(|one| one["name"] == name)?["state"].clone())
    };
    // By then the watch has looked at both.
    until("the other to be reached", SECONDS, || async {
        state("b").await.filter(|state| state == "healthy").map(drop)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((starts(&needed), state("p").await.unwrap()), (0, json!("unknown")));
    Legacy::open(gateway.address(), "/mcp").await.tools().await;
    until("a start", SECONDS, || async { (starts(&needed) > 0).then_some(()) }).await;
}

fn starts(needed: &Path) -> usize {
    std::fs::read_to_string(needed.with_extension("starts")).unwrap_or_default().lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_crashes_at_every_start_is_slowed_down_told_about_and_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let needed = folder.path().join("needed");
    let env = format!("        env: {{O1_TEST_NEEDS: \"{}\"}}\n", needed.display());
    let gateway = Gateway::start(&config([upstream("p", &env), upstream("q", "")])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    client.tools().await;
    until("the crash in the status", SECONDS, || async {
        let status = gateway.control.o1ctl(&["status"]).await;
        let upstream = status["upstreams"].as_array()?.iter().find(|one| one["name"] == "p")?.clone();
        upstream["errors"].to_string().contains("exit status 7").then_some(())
    })
    .await;
    let before = starts(&needed);
    let (began, used) = (tokio::time::Instant::now(), cpu(&gateway));
    let mut failures = 0;
    while began.elapsed() < Duration::from_secs(5) {
        failures += usize::from(client.call("p__echo", "{}").await.error_code().is_some());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (restarts, busy) = (starts(&needed) - before, cpu(&gateway) - used);
    println!("crash loop: {restarts} starts and {busy:?} of processor time in 5 s, {failures} calls refused");
    assert!(restarts <= 20, "{restarts} starts in 5 s");
    assert!(busy < Duration::from_secs(2), "{busy:?}");
    assert!(client.call("q__echo", "{}").await.error_code().is_none(), "the other works");
    std::fs::write(&needed, "").unwrap();
    until("the upstream to recover by itself", Duration::from_secs(60), || async {
        let status = gateway.control.o1ctl(&["status"]).await;
        let upstream = status["upstreams"].as_array()?.iter().find(|one| one["name"] == "p")?.clone();
        (upstream["state"] == "healthy").then_some(())
    })
    .await;
    until("a call to succeed", SECONDS, || async {
        client.call("p__echo", "{}").await.error_code().is_none().then_some(())
    })
    .await;
}

/// Processor time that the data plane itself has used.
fn cpu(gateway: &Gateway) -> Duration {
    let pid = gateway.data.process.pid().as_raw_nonzero();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
