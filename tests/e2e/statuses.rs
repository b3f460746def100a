//! What a node says of an upstream that has a backup, to clients and to operators, while nothing happens to it.

use crate::config;
use o1_tests::{Backend, Gateway, Http, Legacy, Modern, Reply};
use serde_json::{Value, json};

const READ: &str = r#"{"uri":"o1://status/pair"}"#;

/// What is listed of the gateway's own.
fn statuses(listed: &Reply) -> Vec<String> {
    let listed = listed.result();
    let resources = listed["resources"].as_array().expect("resources").iter();
    let uris = resources.map(|one| one["uri"].as_str().expect("a uri").to_owned());
    uris.filter(|uri| uri.starts_with("o1://")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_stands_where_there_is_a_backup_and_an_upstreams_own_route_knows_none() {
    let (primary, backup, other) = (Backend::start().await, Backend::start().await, Backend::start().await);
    let pair = format!("{}    backup:\n      - url: {}\n", primary.upstream("pair"), backup.url());
    let gateway = Gateway::start(&config([pair, other.upstream("other")])).await;
    let legacy = Legacy::open(gateway.address(), "/mcp").await;
    let modern = Modern::new(gateway.address(), "/mcp");
    for (era, listed, read) in [
        (
            "legacy",
            legacy.request("resources/list", "{}").await,
            legacy.request("resources/read", READ).await,
        ),
        (
            "modern",
            modern.request("resources/list", "{}").await,
            modern.request("resources/read", READ).await,
        ),
    ] {
        assert_eq!(statuses(&listed), ["o1://status/pair"], "{era}");
        let text = read.result()["contents"][0]["text"].as_str().expect("text").to_owned();
        let said: Value = serde_json::from_str(&text).expect("json");
        assert_eq!((&said["activeStore"], &said["phase"]), (&json!("primary"), &json!("primary")), "{era}");
        assert!(!text.contains("127.0.0.1"), "{era}: {text}");
    }
    let subscribed = legacy.request("resources/subscribe", READ).await;
    assert_eq!(subscribed.result(), json!({}));

    let alone = Modern::new(gateway.address(), "/u/pair/mcp");
    assert!(statuses(&alone.request("resources/list", "{}").await).is_empty());
    let called = legacy.call("pair__echo", r#"{"n":1}"#).await;
    assert!(called.result()["_meta"]["dev.only1/failover"].is_null(), "nothing happened: {}", called.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_operators_where_an_upstream_with_a_backup_stands() {
    let (primary, backup, other) = (Backend::start().await, Backend::start().await, Backend::start().await);
    let pair = format!("{}    backup:\n      - url: {}\n", primary.upstream("pair"), backup.url());
    let gateway = Gateway::start(&config([other.upstream("other"), pair])).await;
    let admin = Http::new(gateway.data.admin);
    let health: Value = admin.get("/health").await.json();
    assert_eq!(health["failover"].as_array().map(Vec::len), Some(1), "{health}");
    assert_eq!(health["failover"][0]["upstream"], "pair");
    let status: Value = admin.get("/status").await.json();
    let upstreams = status["upstreams"].as_array().expect("upstreams");
    let of = |name: &str| upstreams.iter().find(|one| one["name"] == name).expect("it is served");
    assert_eq!(of("pair")["failover"]["active_store"], "primary");
    assert_eq!(of("pair")["failover"]["backup"]["breaker"], "closed");
    assert!(of("other").get("failover").is_none(), "{status}");
}
