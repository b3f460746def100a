//! The admin port of a node: the numbers that it reports, its inside, and its settings without their secrets.

use crate::config;
use o1_tests::{Backend, Gateway, Http, Modern, until};
use serde_json::Value;
use std::time::Duration;

async fn json(http: &Http, path: &str) -> Value {
    let answer = http.get(path).await;
    assert_eq!(answer.status, 200, "{path}");
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_over_http_what_the_control_plane_knows_of_it() {
    let backend = Backend::start().await;
    let upstream = backend.upstream("only");
    let gateway = Gateway::start(&config([upstream])).await;
    let modern = Modern::new(gateway.address(), "/mcp");
    for _ in 0..3 {
        assert!(modern.call("only__echo", "{}").await.result()["content"].is_array());
    }
    let http = Http::new(gateway.data.admin);
    let stats = json(&http, "/stats").await;
    let here = &stats["upstreams"][0];
    assert_eq!((&here["name"], &here["active_requests"]), (&"only".into(), &0.into()));
    assert!(here["requests"].as_u64().unwrap() >= 3 && here["errors"] == 0, "{here}");
    let counts: u64 = here["latency"]["counts"].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
    assert_eq!(Some(counts), here["requests"].as_u64(), "each of them was answered");
    assert!(here["endpoints"][0]["picks"].as_u64() >= Some(3), "{here}");
    assert!(here["cache"]["catalogue"]["evictions"]["expired"].is_u64(), "{here}");
    // The same on the other side, once it was reported.
    let control = Http::new(gateway.control.admin);
    until("the report", Duration::from_secs(20), || async {
        let fleet = json(&control, "/stats").await;
        (fleet["upstreams"][0]["requests"] == here["requests"]).then_some(())
    })
    .await;

    let state = json(&http, "/state").await;
    assert_eq!((&state["ready"], &state["control_plane"]["connected"]), (&true.into(), &true.into()));
    assert_eq!(state["plan"]["revision"], 1);
    assert_eq!(state["upstreams"][0]["gate"]["writes"], "primary");
    assert_eq!(state["upstreams"][0]["endpoints"][0]["breaker"], "closed", "{state}");

    let settings = json(&http, "/settings").await;
    assert_eq!(settings["flags"]["node_id"], "n1");
    assert_eq!(settings["config"]["upstreams"][0]["name"], "only");
    let index = http.get("/").await.text();
    for route in
        ["/health", "/livez", "/readyz", "/status", "/stats", "/metrics", "/state", "/settings", "/version"]
    {
        assert!(index.lines().any(|line| line == route), "{route}: {index}");
    }
    assert_eq!(http.get("/nowhere").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_among_the_settings_of_a_node() {
    let backend = Backend::start().await;
    let upstream = format!("{}    headers: {{Authorization: Bearer sesame-1}}\n", backend.upstream("only"));
    let gateway = Gateway::start(&config([upstream])).await;
    let http = Http::new(gateway.data.admin);
    for path in ["/settings", "/state", "/stats", "/status"] {
        let text = http.get(path).await.text();
        assert!(!text.contains("sesame"), "{path}: {text}");
    }
    let settings = json(&http, "/settings").await;
    assert_eq!(settings["config"]["upstreams"][0]["headers"]["authorization"], "<redacted>");
}
