//! Servers that ask their client something in the middle of a call, and official clients that answer, through
//! every pair of eras: the client's and the server's.

use crate::clients::{self, Step};
use o1_tests::{Gateway, peers::Server, until};
use serde_json::{Value, json};
use std::time::Duration;

/// The fixture in each era, and nothing of the other.
const UPSTREAMS: [&str; 2] = ["legacy", "modern"];

struct Fixtures {
    gateway: Gateway,
    _servers: [Server; 2],
}

async fn fixtures() -> Fixtures {
    let servers = [Server::fixture("legacy").await, Server::fixture("modern").await];
    let upstream =
        |(name, server): (&str, &Server)| format!("  {name}:\n    primary:\n      - url: {}\n", server.url);
    let upstreams: String = UPSTREAMS.into_iter().zip(&servers).map(upstream).collect();
    let gateway = Gateway::start(&format!("upstreams:\n{upstreams}")).await;
    until("both fixtures", Duration::from_secs(120), || async {
        let status = gateway.control.o1ctl(&["status"]).await;
        status["upstreams"].as_array()?.iter().all(|one| one["state"] == "healthy").then_some(())
    })
    .await;
    Fixtures { gateway, _servers: servers }
}

/// What a server asks, and what the client's answer makes of it.
fn questions(prefix: &str) -> Vec<Step> {
    let call = |tool: &str, arguments: Value, expect| Step {
        method: "tools/call",
        params: json!({"name": format!("{prefix}{tool}"), "arguments": arguments}),
        expect,
        until: false,
    };
    vec![
        call("test_elicitation", json!({"message": "Who are you?"}), "the username of Ada"),
        call("test_sampling", json!({"prompt": "Bern"}), "LLM response: Sampled for Bern"),
        call("test_roots", json!({}), "file:///o1/root"),
    ]
}

/// One official client on one route; what went wrong.
async fn ask(url: String, client: &str, mode: &str, steps: Vec<Step>) -> Vec<String> {
    let (version, results) = match client {
        "Python" => clients::python(&url, mode, &steps).await,
        _ => clients::typescript(&url, mode, &steps).await,
    };
    let modern = mode.starts_with("2026");
    assert_eq!(version == "2026-07-28", modern, "{client} {mode} speaks {version}");
    crate::tests::judge(&format!("{client} {mode} {url}"), &steps, &results)
}

async fn answered(mode: &str) {
    let fixtures = fixtures().await;
    let mut asked = Vec::new();
    for client in ["Python", "TypeScript"] {
        for upstream in UPSTREAMS {
            let url = fixtures.gateway.url(&format!("/u/{upstream}/mcp"));
            asked.push(ask(url, client, mode, questions("")));
        }
        let all = UPSTREAMS.into_iter().flat_map(|upstream| questions(&format!("{upstream}__"))).collect();
        asked.push(ask(fixtures.gateway.url("/mcp"), client, mode, all));
    }
    let wrong = futures_util::future::join_all(asked).await.concat();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_clients_answer_what_servers_of_either_era_ask() {
    answered("legacy+").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn modern_clients_answer_what_servers_of_either_era_ask() {
    answered("2026-07-28+").await;
}
