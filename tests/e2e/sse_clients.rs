//! Clients of the transport of 2024-11-05, HTTP+SSE.

use crate::config;
use o1_tests::{Backend, Gateway, Http, http::Stream, mcp::initialize, until};
use serde_json::Value;
use std::time::Duration;

const SECONDS: Duration = Duration::from_secs(15);
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// A client: its stream, and where it POSTs.
struct Old {
    http: Http,
    stream: Stream,
    endpoint: String,
}

impl Old {
    async fn open(gateway: &Gateway, path: &str) -> Self {
        let http = Http::new(gateway.address());
        let headers = [("accept", "text/event-stream")];
        let mut stream = Stream::new(http.try_send("GET", path, &headers, "").await.unwrap());
        assert_eq!(stream.status, 200, "{path}");
        let endpoint = stream.event().await.expect("the endpoint").data;
        let mut this = Self { http, stream, endpoint };
        let result = this.ask("initialize", &initialize("2024-11-05", "{}")).await;
        assert_eq!(result["result"]["protocolVersion"], "2024-11-05", "{result}");
        this.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        this
    }

    async fn post(&self, body: &str) {
        let reply = self.http.send("POST", &self.endpoint, &JSON, body.to_owned()).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
    }

    async fn ask(&mut self, what: &str, body: &str) -> Value {
        self.post(body).await;
        let id: Value = serde_json::from_str::<Value>(body).unwrap()["id"].clone();
        self.stream.message(what, SECONDS, |message| message["id"] == id && message["method"].is_null()).await
    }

    async fn call(&mut self, id: u32, tool: &str, arguments: &str) -> Value {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
        );
        self.ask(tool, &body).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_is_served_beside_every_route_and_its_end_ends_the_session() {
    let backend = Backend::start().await;
    let program = env!("CARGO_BIN_EXE_o1-test-server");
    let process = format!("  p:\n    primary:\n      - command: [{program}]\n");
    let old = backend.sse_upstream("o");
    let text = config([backend.upstream("b"), process, old]) + "clients: {sse: true}\n";
    let gateway = Gateway::start(&text).await;
    for (path, tools) in [
        ("/sse", &["b__echo", "p__echo", "o__echo"][..]),
        ("/u/b/sse", &["echo"]),
        ("/u/p/sse", &["echo"]),
        ("/u/o/sse", &["echo"]),
    ] {
        let mut client = Old::open(&gateway, path).await;
        let base = path.strip_suffix("/sse").unwrap();
        assert!(client.endpoint.starts_with(&format!("{base}/message?sessionId=")), "{}", client.endpoint);
        for (n, tool) in tools.iter().enumerate() {
            let id = u32::try_from(n).unwrap() + 1;
            let answer = client.call(id, tool, r#"{"n":7}"#).await;
            assert_eq!(answer["result"]["structuredContent"]["n"], 7, "{path} {tool}: {answer}");
        }
        if path == "/u/b/sse" {
            until("the stream to be carried", SECONDS, || async { (backend.streams() > 0).then_some(()) })
                .await;
            backend.notify(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
            client.stream.notification("notifications/tools/list_changed", SECONDS).await;
        }
        let (endpoint, http) = (client.endpoint.clone(), client.http.clone());
        drop(client);
        until("the session to end", SECONDS, || async {
            let reply = http.send("POST", &endpoint, &JSON, "{}").await;
            (reply.status == 404).then_some(())
        })
        .await;
    }
    until("no session to be left", SECONDS, || async {
        let status = Http::new(gateway.data.admin).get("/status").await.json();
        // The gateway has a session of its own with each, which it lists with.
        let gone = backend.sessions() <= 1 && backend.sse_streams() <= 1;
        (status["sessions"] == 0 && gone).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_off_unless_asked_for_and_checked_like_every_route() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&config([backend.upstream("b")])).await;
    let http = Http::new(gateway.address());
    assert_eq!(http.get("/sse").await.status, 404);
    gateway.control.edit(&(config([backend.upstream("b")]) + "clients: {sse: true}\n"));
    until("the routes to open", SECONDS, || async {
        let reply = http.try_send("GET", "/sse", &[("accept", "text/event-stream")], "").await.ok()?;
        (reply.status() == 200).then_some(())
    })
    .await;
    let stream = [("accept", "text/event-stream")];
    for (header, value, status) in [("host", "evil.example", 421), ("origin", "https://evil.example", 403)] {
        let reply = http.try_send("GET", "/sse", &[stream[0], (header, value)], "").await.unwrap();
        assert_eq!(reply.status().as_u16(), status, "{header}");
    }
    let client = Old::open(&gateway, "/sse").await;
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let elsewhere = format!("/u/b{}", client.endpoint);
    for (path, headers, body, status) in [
        ("/message?sessionId=unknown", &JSON[..], list, 404),
        ("/message", &JSON, list, 404),
        (&elsewhere, &JSON, list, 404),
        (&client.endpoint, &JSON, "{nope", 400),
        (&client.endpoint, &[("content-type", "text/plain")], list, 415),
    ] {
        let reply = http.send("POST", path, headers, body).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
    }
}
