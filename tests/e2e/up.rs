//! `o1ctl up` as a newcomer meets it: one command, a client that works, an end that leaves nothing.

use o1_tests::{Legacy, Modern, Process, binaries::binary, process::is_alive, until};
use rustix::process::Signal;
use std::{net::SocketAddr, time::Duration};

const START: Duration = Duration::from_secs(40);

/// Starts it on free ports; the address for clients that it prints.
async fn up(more: &[&str], home: &std::path::Path) -> (Process, SocketAddr) {
    let process = Process::start("o1ctl up", &binary("o1ctl"), |command| {
        command.args(["up", "--listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0"]).args(more);
        command.env("HOME", home).env_remove("XDG_STATE_HOME");
    });
    until("the last line of the welcome", START, || async {
        process.stdout.find(|line| line.starts_with("Ctrl-C stops").then_some(()))
    })
    .await;
    let pasted = process.stdout.find(|line| serde_json::from_str::<serde_json::Value>(line.trim()).ok());
    let pasted = pasted.expect("a client configuration to paste");
    let url = pasted["mcpServers"]["only1"]["url"].as_str().unwrap();
    let address = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/mcp")).unwrap();
    (process, address.parse().unwrap())
}

/// Ctrl-C: it ends well, and with it everything that it started.
async fn stops_cleanly(mut process: Process) {
    let children = process.descendants();
    assert!(children.len() >= 2, "both planes are its children: {children:?}");
    process.signal(Signal::INT);
    let status = process.exit(Duration::from_secs(40)).await;
    assert!(status.success(), "{status}");
    for child in children {
        assert!(!is_alive(child), "process {child} was left behind");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_serves_both_eras_from_one_command() {
    let home = tempfile::tempdir().unwrap();
    let (process, address) = up(&[], home.path()).await;
    let client = Legacy::open(address, "/mcp").await;
    let tools = client.tools().await;
    assert!(!tools.is_empty() && tools.iter().all(|tool| tool.contains("__")), "{tools:?}");
    let modern = Modern::new(address, "/mcp");
    assert_eq!(modern.tools().await, tools);
    stops_cleanly(process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_of_ones_own_is_served_and_its_processes_end_with_it() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("only1.yaml");
    let program = env!("CARGO_BIN_EXE_o1-test-server");
    std::fs::write(&config, format!("upstreams: {{own: {{primary: [{{command: [{program}]}}]}}}}\n"))
        .unwrap();
    let (process, address) = up(&["--config", config.to_str().unwrap()], home.path()).await;
    let client = Legacy::open(address, "/mcp").await;
    let reply = client.call("own__echo", r#"{"n":1.10}"#).await;
    assert!(reply.result_bytes().contains(r#"{"n":1.10}"#), "{}", reply.text());
    stops_cleanly(process).await;
}
