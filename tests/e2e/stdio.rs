//! Upstreams that are processes: they answer, restart, and leave nobody behind.

use crate::config;
use o1_tests::{Gateway, Legacy, Modern, process::is_alive, until};
use rustix::process::Signal;
use std::time::Duration;

/// An upstream that runs our small server, with more lines for its endpoint.
fn upstream(name: &str, more: &str) -> String {
    let program = env!("CARGO_BIN_EXE_o1-test-server");
    format!("  {name}:\n    primary:\n      - command: [{program}]\n{more}")
}

async fn text(client: &Legacy, tool: &str, arguments: &str) -> String {
    let reply = client.call(tool, arguments).await;
    reply.json()["result"]["content"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("{}", reply.text()))
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_serves_every_route_with_its_bytes_intact() {
    let gateway = Gateway::start(&config([upstream("p", "        env: {O1_TEST_VALUE: given}\n")])).await;
    let odd = r#"{"z":12345678901234567890123,"a":1.10,"x":"\u00e9"}"#;
    for (route, prefix) in [("/mcp", "p__"), ("/u/p/mcp", "")] {
        let client = Legacy::open(gateway.address(), route).await;
        assert!(client.tools().await.contains(&format!("{prefix}echo")), "{route}");
        let reply = client.call(&format!("{prefix}echo"), odd).await;
        assert_eq!(
            o1_tests::http::member(&reply.result_bytes(), "structuredContent").as_deref(),
            Some(odd),
            "{route}"
        );
        let given = text(&client, &format!("{prefix}environment"), r#"{"name":"O1_TEST_VALUE"}"#).await;
        assert_eq!(given, "given", "{route}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_a_shared_process_get_their_own_answers() {
    let gateway = Gateway::start(&config([upstream("p", "")])).await;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..16 {
        let address = gateway.address();
        callers.spawn(async move {
            let client = Legacy::open(address, "/mcp").await;
            for round in 0..20 {
                // Every client counts its ids from the same number.
                let reply =
                    client.call("p__echo", &format!(r#"{{"caller":{caller},"round":{round}}}"#)).await;
                let echoed = reply.result()["structuredContent"].clone();
                assert_eq!(echoed, serde_json::json!({"caller": caller, "round": round}));
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_is_started_again() {
    let gateway = Gateway::start(&config([upstream("p", "")])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let first = text(&client, "p__pid", "{}").await;
    let reply = client.call("p__exit", "{}").await;
    let answer = reply.json();
    assert!(
        answer["error"].is_object() || answer["result"]["isError"] == true,
        "the lost call fails: {answer}"
    );
    let second = until("an answer of the next process", Duration::from_secs(30), || async {
        let answer = client.call("p__pid", "{}").await.json();
        answer["result"]["content"][0]["text"].as_str().filter(|pid| **pid != first).map(str::to_owned)
    })
    .await;
    assert_ne!(first, second);
    until("the first process to be gone", Duration::from_secs(10), || async {
        (!is_alive(first.parse().unwrap())).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_of_their_own_leave_no_process() {
    let gateway = Gateway::start(&config([upstream("p", "        processes: per_session\n")])).await;
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..10 {
        let mut clients = Vec::new();
        for _ in 0..4 {
            let client = Legacy::open(gateway.address(), "/u/p/mcp").await;
            seen.insert(text(&client, "pid", "{}").await);
            if round % 2 == 0 {
                // A process below the process.
                text(&client, "child", "{}").await;
            }
            clients.push(client);
        }
        for client in &clients {
            let reply = client.http.send("DELETE", "/u/p/mcp", &client.headers(), "").await;
            assert!([200, 204].contains(&reply.status));
        }
    }
    assert_eq!(seen.len(), 40, "each session had its own process");
    until("every process of a session to be gone", Duration::from_secs(30), || async {
        // One may stay that no session owns: who asks for the list of tools.
        (gateway.data.process.descendants().len() <= 1).then_some(())
    })
    .await;
    for pid in &seen {
        assert!(!is_alive(pid.parse().unwrap()) || gateway.data.process.descendants().len() == 1, "{pid}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_outlives_the_data_plane() {
    for signal in [Signal::TERM, Signal::KILL] {
        let mut gateway = Gateway::start(&config([upstream("p", "")])).await;
        let client = Legacy::open(gateway.address(), "/mcp").await;
        let server: i32 = text(&client, "p__pid", "{}").await.parse().unwrap();
        let mut pids = vec![server];
        if signal == Signal::TERM {
            // A process below it goes with its group; after a kill nobody is left who could end the group.
            pids.push(text(&client, "p__child", "{}").await.parse().unwrap());
        }
        gateway.data.process.signal(signal);
        let status = gateway.data.process.exit(Duration::from_secs(30)).await;
        assert_eq!(status.success(), signal == Signal::TERM, "{status}");
        for pid in pids {
            until(&format!("process {pid} to be gone after {signal:?}"), Duration::from_secs(15), || async {
                (!is_alive(pid)).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_upstream_takes_its_process_along() {
    let gateway = Gateway::start(&config([upstream("p", ""), upstream("q", "")])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let (gone, stays) = (text(&client, "p__pid", "{}").await, text(&client, "q__pid", "{}").await);
    gateway.control.edit(&config([upstream("q", "")]));
    until("the process of the removed upstream to be gone", Duration::from_secs(20), || async {
        (!is_alive(gone.parse().unwrap())).then_some(())
    })
    .await;
    assert_eq!(text(&client, "q__pid", "{}").await, stays, "the other keeps its process");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_exist_is_reported_and_hides_no_other() {
    let missing = "  missing:\n    primary:\n      - command: [/nonexistent/program]\n";
    let gateway = Gateway::start(&config([missing.to_owned(), upstream("p", "")])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    assert!(client.tools().await.contains(&"p__echo".to_owned()));
    let modern = Modern::new(gateway.address(), "/u/missing/mcp").request("tools/list", "{}").await;
    assert!(modern.status >= 400 || modern.json()["error"].is_object(), "{}", modern.text());
    until("the reason in the status", Duration::from_secs(40), || async {
        let status = gateway.control.o1ctl(&["status"]).await;
        let upstream =
            status["upstreams"].as_array()?.iter().find(|upstream| upstream["name"] == "missing")?;
        upstream["errors"].to_string().contains("no such program").then_some(())
    })
    .await;
}
