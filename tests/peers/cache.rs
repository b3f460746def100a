//! The cache in front of real servers: what a file, a resource or a list says is asked for once, until its life is
//! over or the server says that it changed.

use o1_tests::{Gateway, Legacy, Modern, peers, peers::Server, until, until_true};
use serde_json::Value;
use std::time::Duration;

/// Interpreters start slowly on a busy machine.
const SECONDS: Duration = Duration::from_secs(90);

/// Hits and misses of one tier for an upstream.
async fn counts(gateway: &Gateway, upstream: &str, tier: &str) -> (u64, u64) {
    let metrics = o1_tests::Http::new(gateway.data.admin).get("/metrics").await.text();
    let of = |metric: &str| {
        let labels = [format!("upstream=\"{upstream}\""), format!("tier=\"{tier}\"")];
        let fits = |line: &&str| line.starts_with(metric) && labels.iter().all(|label| line.contains(label));
        let value = metrics.lines().find(fits).and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_else(|| panic!("{metric} of {upstream} {tier} in {metrics}"))
    };
    (of("o1_cache_hits_total"), of("o1_cache_misses_total"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_once_in_its_time_and_again_after_it() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("note.txt");
    std::fs::write(&path, "the first text").unwrap();
    let command =
        format!("{}, {}", peers::node().display(), peers::node_program("mcp-server-filesystem").display());
    let config = format!(
        "upstreams:\n  files:\n    timeouts: {{connect: 90s}}\n    cache: {{tools: {{read_text_file: 3s}}}}\n    primary:\n      - command: [{command}, {}]\n",
        files.path().display()
    );
    let gateway = Gateway::start(&config).await;
    let client = Legacy::open(gateway.address(), "/u/files/mcp").await;
    let arguments = format!(r#"{{"path":"{}"}}"#, path.display());
    let read = || async {
        let reply = client.call("read_text_file", &arguments).await;
        reply.result()["content"][0]["text"].as_str().unwrap_or_default().to_owned()
    };
    // The first call may wait for the process to start.
    assert_eq!(read().await, "the first text");
    std::fs::write(&path, "the second text").unwrap();
    assert_eq!(read().await, "the first text", "kept");
    assert_eq!(counts(&gateway, "files", "tools").await, (1, 1));
    until_true("its life to be over", SECONDS, || async { read().await == "the second text" }).await;
    let (_, misses) = counts(&gateway, "files", "tools").await;
    assert_eq!(misses, 2, "asked twice, however often it was read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_is_dropped_at_once_when_its_server_says_that_it_was_updated() {
    for era in ["legacy", "modern"] {
        let server = Server::fixture(era).await;
        let config = format!(
            "upstreams:\n  watched:\n    cache: {{resources: {{\"test://*\": 10m}}}}\n    primary:\n      - url: {}\n",
            server.url
        );
        let gateway = Gateway::start(&config).await;
        let client = Modern::new(gateway.address(), "/u/watched/mcp");
        let read = || async {
            let reply = client.request("resources/read", r#"{"uri":"test://watched-resource"}"#).await;
            assert!(reply.result()["contents"][0]["text"].is_string(), "{era}: {}", reply.text());
        };
        read().await;
        read().await;
        read().await;
        assert_eq!(counts(&gateway, "watched", "resources").await, (2, 1), "{era}");
        // It is told once the cache's own subscription stands, which nobody outside can see.
        let misses = until("the update to be heard", SECONDS, || async {
            client.call("test_trigger_resource_update", "{}").await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            read().await;
            let (_, misses) = counts(&gateway, "watched", "resources").await;
            (misses > 1).then_some(misses)
        })
        .await;
        assert_eq!(misses, 2, "{era}: dropped once, and asked for once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lists_of_server_everything_are_asked_for_once_under_an_operators_rule() {
    let server = Server::everything().await;
    let config = format!(
        "upstreams:\n  web:\n    cache: {{lists: 10m, share: everybody}}\n    primary:\n      - url: {}\n",
        server.url
    );
    let gateway = Gateway::start(&config).await;
    let client = Modern::new(gateway.address(), "/u/web/mcp");
    let mut seen: Vec<Value> = Vec::new();
    for method in ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] {
        for _ in 0..5 {
            let reply = client.request(method, "{}").await;
            let mut result = reply.result();
            assert!(result["ttlMs"].as_u64().is_some_and(|left| left > 500_000), "{method}: {result}");
            result["ttlMs"] = 0.into();
            seen.push(result);
        }
        assert!(seen.windows(2).all(|two| two[0] == two[1]), "{method}: {seen:?}");
        seen.clear();
    }
    assert_eq!(counts(&gateway, "web", "catalogue").await, (16, 4), "each list once");
}
