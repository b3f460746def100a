//! The admin port tells what the API tells, shows no secret, and says which routes there are.

use crate::{
    failing_over::{backed, ready},
    harness::*,
};
use o1_proto::wire::{self, node_service_client::NodeServiceClient};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

async fn json(plane: &Plane, path: &str) -> Value {
    let answer = plane.get(path).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

async fn report(plane: &Plane, uid: u8, requests: u64) {
    let upstream = wire::UpstreamStats {
        upstream: "weather".to_owned(),
        requests,
        errors: 3,
        active_requests: 2,
        bytes_in: 700,
        cache: vec![wire::CacheStats { tier: 1, hits: 5, ..Default::default() }],
        endpoints: vec![wire::EndpointStats {
            endpoint: "http://127.0.0.1:3101/mcp".to_owned(),
            picks: requests,
            in_flight: 2,
            ..Default::default()
        }],
        ..Default::default()
    };
    let report = wire::ReportStatsRequest {
        node: Some(identity(uid)),
        seq: 1,
        upstreams: vec![upstream],
        sessions: 4,
        ..Default::default()
    };
    NodeServiceClient::new(plane.channel().await).report_stats(report).await.unwrap();
}

#[tokio::test]
async fn statistics_are_the_numbers_of_the_api() {
    let plane = Plane::with(&backed()).await;
    let _nodes = [ready(plane.listen, 1).await, ready(plane.listen, 2).await];
    report(&plane, 1, 100).await;
    report(&plane, 2, 20).await;
    let api = plane.status().await;
    let weather = api.upstreams.iter().find(|one| one.name == "weather").unwrap();
    let totals = weather.totals.unwrap();
    let stats = json(&plane, "/stats").await;
    let same = &stats["upstreams"].as_array().unwrap().iter().find(|one| one["name"] == "weather").unwrap();
    assert_eq!((totals.requests, totals.errors, totals.bytes_in), (120, 6, 1400));
    for place in [&stats["total"], same] {
        assert_eq!(place["requests"], totals.requests);
        assert_eq!(place["errors"], totals.errors);
        assert_eq!(place["bytes_in"], totals.bytes_in);
        assert_eq!(place["active_requests"], totals.active_requests);
    }
    assert_eq!(stats["total"]["sessions"], 8);
    assert_eq!(same["cache"][0]["hits"], weather.cache[0].hits);
    assert_eq!(same["endpoints"][0]["in_flight"], weather.endpoints[0].in_flight);
    assert_eq!(same["failover"]["failover_count"], 0, "it has a backup");
    assert_eq!(stats["nodes"][1]["upstreams"][0]["requests"], 20);
}

#[tokio::test]
async fn the_state_says_what_waits_and_who_was_sent_what() {
    let plane = Plane::with(&backed()).await;
    let (mut node, _) = Node::join(plane.listen, hello(1)).await;
    let update = node.config().await;
    let state = json(&plane, "/state").await;
    assert_eq!(state["queues"]["node_streams"], 1);
    assert_eq!(state["target"]["revision"], 1);
    assert_eq!(state["nodes"][0]["update"]["revision"], 1, "sent and not answered: {state}");
    assert_eq!(state["decisions"]["upstreams"][0]["name"], "weather", "the one with a backup");
    node.ack(&update).await;
    plane.sees(1, |node| node.sync() == wire::SyncState::Synced).await;
    let state = json(&plane, "/state").await;
    assert_eq!((&state["nodes"][0]["update"], &state["nodes"][0]["sync"]), (&Value::Null, &"synced".into()));
}

#[tokio::test]
async fn settings_are_complete_and_hold_no_secret() {
    let hash = blake3_hex();
    let plane = Plane::with(&format!(
        "upstreams:
  weather:
    primary:
      - url: http://127.0.0.1:3101/mcp?key=sesame-1
      - command: [server, --password, sesame-2]
        env: {{TOKEN: sesame-3, PLACE: 'file:/etc/token'}}
    headers: {{Authorization: Bearer sesame-4, X-Key: 'env:WEATHER_KEY'}}
clients:
  auth: {{tokens: [{{name: ci, blake3: {hash}}}]}}
"
    ))
    .await;
    let answer = plane.get("/settings").await;
    assert!(!answer.contains("sesame") && !answer.contains(&hash), "{answer}");
    let settings = json(&plane, "/settings").await;
    assert_eq!(settings["flags"]["key_rotation"], 24 * 3600);
    assert_eq!(settings["flags"]["listen"], "127.0.0.1:0");
    let config = &settings["config"];
    assert_eq!(config["revision"], 1);
    let weather = &config["upstreams"][0];
    assert_eq!(weather["primary"][0]["http"]["url"], "http://127.0.0.1:3101/mcp?<redacted>");
    let stdio = &weather["primary"][1]["stdio"];
    assert_eq!(stdio["command"], serde_json::json!(["server", "<redacted>", "<redacted>"]));
    assert_eq!(stdio["env"], serde_json::json!({"TOKEN": "<redacted>", "PLACE": "file:/etc/token"}));
    assert_eq!(weather["headers"]["x-key"], "env:WEATHER_KEY");
    assert_eq!(weather["timeouts"]["idle"], "1m", "defaults too, as one would write them");
    assert_eq!(config["auth"]["required"]["tokens"][0]["hash"], "blake3 <redacted>");
}

fn blake3_hex() -> String {
    "ab".repeat(32)
}

#[tokio::test]
async fn the_index_names_every_route_and_what_is_no_route_is_said_in_words() {
    let plane = Plane::with(&document(3101)).await;
    let index = plane.get("/").await;
    for route in
        ["/health", "/livez", "/readyz", "/status", "/stats", "/metrics", "/state", "/settings", "/version"]
    {
        assert!(index.contains(&format!("\n{route}\n")), "{route}: {index}");
        assert!(plane.get(route).await.starts_with("HTTP/1.1 200 "), "{route}");
    }
    let lost = plane.get("/stat").await;
    assert!(lost.starts_with("HTTP/1.1 404 ") && lost.contains("/stats"), "{lost}");
    let mut stream = TcpStream::connect(plane.admin).await.unwrap();
    stream.write_all(b"POST /stats HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let mut refused = String::new();
    timeout(SOON, stream.read_to_string(&mut refused)).await.unwrap().unwrap();
    assert!(refused.starts_with("HTTP/1.1 405 ") && refused.contains("use GET"), "{refused}");
}
