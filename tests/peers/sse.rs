//! The transport of 2024-11-05 with real peers on both sides: server-everything in its `sse` mode behind the gateway,
//! the inspector in front of it.

use o1_tests::{Gateway, Legacy, peers, peers::Server, until};
use serde_json::Value;
use std::time::Duration;

const SECONDS: Duration = Duration::from_secs(60);

/// One step of the inspector's, over HTTP+SSE; its output.
async fn inspect(url: &str, arguments: &[&str]) -> Value {
    let catalogue = tempfile::tempdir().unwrap();
    let output = peers::run(&peers::node(), "", SECONDS, |command| {
        command.arg(peers::node_program("mcp-inspector"));
        command.args(["--cli", url, "--transport", "sse"]).args(arguments);
        command.env("MCP_CATALOG_PATH", catalogue.path().join("catalogue.json"));
    })
    .await;
    serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_server_and_the_inspector_meet_in_the_old_transport() {
    let old = Server::everything_by_sse().await;
    let config = format!(
        "upstreams:\n  old:\n    primary:\n      - {{url: {}, transport: sse}}\nclients: {{sse: true}}\n",
        old.url
    );
    let gateway = Gateway::start(&config).await;
    for (path, prefix) in [("/mcp", "old__"), ("/u/old/mcp", "")] {
        let client = Legacy::open(gateway.address(), path).await;
        assert!(client.tools().await.contains(&format!("{prefix}echo")), "{path}");
        let reply = client.call(&format!("{prefix}echo"), r#"{"message":"by the old way"}"#).await;
        assert_eq!(reply.result()["content"][0]["text"], "Echo: by the old way", "{path}");
        client.http.send("DELETE", path, &client.headers(), "").await;
    }
    for (path, tool) in [("/sse", "old__echo"), ("/u/old/sse", "echo")] {
        let url = gateway.url(path);
        let listed = inspect(&url, &["--method", "tools/list"]).await;
        assert!(listed["tools"].to_string().contains(&format!("\"{tool}\"")), "{path}: {listed}");
        let arguments = ["--method", "tools/call", "--tool-name", tool, "--tool-arg", "message=inspected"];
        let called = inspect(&url, &arguments).await;
        assert_eq!(called["content"][0]["text"], "Echo: inspected", "{path}: {called}");
    }
    until("every session to be over", SECONDS, || async {
        let status = o1_tests::Http::new(gateway.data.admin).get("/status").await.json();
        (status["sessions"] == 0).then_some(())
    })
    .await;
}
