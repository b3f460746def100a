//! What holds without a control plane: everything that clients see.

use crate::config;
use o1_tests::{Backend, Gateway, Legacy, Modern, load_time, until};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};

const CLIENTS: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_control_plane_under_load_fails_no_request() {
    let (left, right) = (Backend::start().await, Backend::start().await);
    let mut gateway = Gateway::start(&config([left.upstream("left"), right.upstream("right")])).await;
    let before = gateway.control.node("n1").await.unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let mut load = JoinSet::new();
    for n in 0..CLIENTS {
        load.spawn(client(gateway.address(), n, Arc::clone(&stop), Arc::clone(&done)));
    }
    until("load", Duration::from_secs(30), || async { (done.load(Ordering::Relaxed) > 200).then_some(()) })
        .await;

    // Killed a third into the time, back after two thirds.
    let third = load_time() / 3;
    tokio::time::sleep(third).await;
    gateway.control.process.kill();
    let killed = done.load(Ordering::Relaxed);
    tokio::time::sleep(third).await;
    let without = done.load(Ordering::Relaxed) - killed;
    gateway.control.restart().await;
    let node = gateway
        .control
        .node_until("n1", "connected again", |node| node["state"] == "connected" && node["sync"] == "synced")
        .await;
    tokio::time::sleep(third).await;

    stop.store(true, Ordering::Relaxed);
    let mut failures = Vec::new();
    while let Some(ended) = load.join_next().await {
        failures.extend(ended.unwrap());
    }
    let all = done.load(Ordering::Relaxed);
    println!("{all} requests, {without} of them without a control plane, {} failed", failures.len());
    assert!(
        failures.is_empty(),
        "{} of {all} failed: {:#?}",
        failures.len(),
        &failures[..failures.len().min(5)]
    );
    assert!(without > 50, "there was load while the control plane was dead: {without}");

    assert_eq!(node["applied"], before["applied"], "it runs what it ran");
    assert_eq!(node["epoch"], before["epoch"], "and never restarted");
    let log = gateway.data.process.stderr.text();
    let applied = log.lines().filter(|line| line.contains("applied a configuration")).count();
    assert_eq!(applied, 1, "nothing was pushed again:\n{log}");
}

/// One client that calls until told to stop; what failed, in words.
async fn client(
    address: std::net::SocketAddr,
    n: usize,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> Vec<String> {
    let mut failures = Vec::new();
    let legacy = Legacy::open(address, "/mcp").await;
    let modern = Modern::new(address, "/mcp");
    let tool = if n.is_multiple_of(2) { "left__echo" } else { "right__echo" };
    let mut round = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let arguments = format!(r#"{{"client":{n},"round":{round}}}"#);
        let reply = match n % 4 {
            0 | 1 => legacy.call(tool, &arguments).await,
            2 => modern.call(tool, &arguments).await,
            _ if round.is_multiple_of(10) => legacy.request("tools/list", "{}").await,
            _ => legacy.call(tool, &arguments).await,
        };
        let right = if reply.status != 200 {
            false
        } else if reply.text().contains("\"tools\"") {
            reply.text().contains("left__echo")
        } else {
            reply.json()["result"]["structuredContent"]["round"] == round
        };
        if !right {
            failures.push(format!("client {n} round {round}: {} {}", reply.status, reply.text()));
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    failures
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_without_a_control_plane_serves_its_last_configuration() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&config([backend.upstream("only")])).await;
    assert_eq!(Modern::new(gateway.address(), "/mcp").tools().await, ["only__echo"]);
    gateway.control.process.kill();
    let began = Instant::now();
    gateway.data.restart().await;
    println!("ready without a control plane after {:?}", began.elapsed());
    let client = Legacy::open(gateway.address(), "/mcp").await;
    assert_eq!(client.tools().await, ["only__echo"]);
    assert_eq!(client.call("only__echo", r#"{"n":1}"#).await.result()["structuredContent"]["n"], 1);

    // And takes up the thread when one is there again.
    gateway.control.restart().await;
    let back = |node: &serde_json::Value| node["sync"] == "synced" && node["state"] == "connected";
    let node = gateway.control.node_until("n1", "connected", |node| back(node) && node["epoch"] != 1).await;
    assert_eq!(node["epoch"], 2, "its second boot");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_disturbed_when_the_control_plane_comes_and_goes() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&config([backend.upstream("only")])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let mut stream = client.listen().await;
    for n in 0..3 {
        gateway.control.restart().await;
        gateway.control.synced("n1").await;
        assert_eq!(
            client.call("only__echo", &format!("{{\"n\":{n}}}")).await.result()["structuredContent"]["n"],
            n
        );
    }
    backend.tool("late", o1_tests::Answer::text("late"));
    backend.notify(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    stream.notification("notifications/tools/list_changed", Duration::from_secs(10)).await;
}
