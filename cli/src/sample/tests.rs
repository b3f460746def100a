use super::*;
use serde_json::{Map, from_str, to_string};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

const SOON: Duration = Duration::from_secs(10);
const BOTH: (&str, &str) = ("accept", "application/json, text/event-stream");

struct Server {
    address: SocketAddr,
    tasks: Tasks,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn json(&self) -> Value {
        from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Status, and the code of the error in it.
    fn refusal(&self) -> (u16, Option<i64>) {
        (self.status, self.json()["error"]["code"].as_i64())
    }
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, tasks) = (listener.local_addr().unwrap(), Tasks::new());
        let sample = Arc::new(Sample::new("primary"));
        tasks.spawn("listener", OnExit::Shutdown, listener::serve(sample, listener, tasks.clone()));
        Self { address, tasks }
    }

    async fn send(&self, method: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let mut head = format!("{method} /mcp HTTP/1.1\r\ncontent-length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "host") {
            head.push_str(&format!("host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).await.unwrap();
        stream
    }

    async fn ask(&self, method: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = self.send(method, headers, body).await;
        let mut text = String::new();
        timeout(SOON, stream.read_to_string(&mut text)).await.expect("an answer in time").unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect(head);
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// A modern request with the headers it needs.
    async fn modern(&self, method: &str, params: Value) -> Answer {
        let name = params.get("name").or(params.get("uri")).and_then(Value::as_str).map(str::to_owned);
        let mut headers = modern_headers(method);
        headers.extend(name.as_deref().map(|name| ("mcp-name", name)));
        self.ask("POST", &headers, &to_string(&modern_request(method, params)).unwrap()).await
    }

    async fn legacy(&self, session: &str, body: &Value) -> Answer {
        let headers = [BOTH, ("content-type", "application/json"), ("mcp-session-id", session)];
        self.ask("POST", &headers, &body.to_string()).await
    }

    /// Begins a session and returns its id and the result of the handshake.
    async fn initialize(&self, version: &str) -> (String, Value) {
        let params = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "t" } });
        let body = request("initialize", params);
        let answer = self.ask("POST", &[BOTH, ("content-type", "application/json")], &body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        (answer.header("mcp-session-id").unwrap().to_owned(), answer.json()["result"].clone())
    }
}

fn request(method: &str, params: Value) -> Value {
    let members =
        [("jsonrpc", json!("2.0")), ("id", json!(0)), ("method", json!(method)), ("params", params)];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn modern_request(method: &str, params: Value) -> Value {
    let mut request = request(method, params);
    request["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    request
}

fn modern_headers(method: &str) -> Vec<(&str, &str)> {
    vec![
        BOTH,
        ("content-type", "application/json"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", method),
    ]
}

fn tool(name: &str, arguments: Value) -> Value {
    let members = [("name", json!(name)), ("arguments", arguments)];
    Value::Object(Map::from_iter(members.map(|(name, value)| (name.to_owned(), value))))
}

#[tokio::test]
async fn every_tool_answers_with_text_and_structure() {
    let server = Server::start().await;
    let call = async |name: &str, arguments: Value| {
        let answer = server.modern("tools/call", tool(name, arguments)).await.json()["result"].clone();
        (answer["content"][0]["text"].clone(), answer["structuredContent"].clone(), answer["isError"].clone())
    };
    let sum = call("add", json!({ "a": i64::MAX - 1, "b": 1 })).await;
    assert_eq!(sum, (json!("9223372036854775807"), json!({ "sum": i64::MAX }), json!(false)), "exact");
    assert_eq!(
        call("add", json!({ "a": i64::MAX, "b": 1 })).await.1,
        json!({ "sum": 9_223_372_036_854_775_808_f64 })
    );
    assert_eq!(call("add", json!({ "a": 0.5, "b": 1 })).await.0, "1.5");
    assert_eq!(call("echo", json!({ "message": "a\n\"b\" ✓" })).await.0, "a\n\"b\" ✓");
    let now = call("now", json!({})).await.1["now"].clone();
    assert!(now.as_str().unwrap().parse::<Timestamp>().is_ok(), "{now}");
    let who = call("who", json!({})).await;
    assert_eq!(
        who.1,
        json!({ "instance": "primary", "process": std::process::id() }),
        "so that a failover is seen"
    );
    assert_eq!(call("note_list", json!({})).await.1, json!({ "notes": [] }));
    assert_eq!(call("note_add", json!({ "text": "one" })).await.1, json!({ "count": 1 }));
    assert_eq!(call("note_add", json!({ "text": "two" })).await.1, json!({ "count": 2 }));
    let notes = call("note_list", json!({})).await.1["notes"].clone();
    assert_eq!((&notes[0]["text"], &notes[1]["text"]), (&json!("one"), &json!("two")));
    for (name, arguments) in [
        ("add", json!({ "a": 1 })),
        ("add", json!({ "a": 1e308, "b": 1e308 })),
        ("echo", json!({})),
        ("note_add", json!({ "text": "x".repeat(5000) })),
    ] {
        assert_eq!(call(name, arguments).await.2, json!(true), "{name}: a failed call, not a protocol error");
    }
}

#[tokio::test]
async fn modern_results_say_what_they_are_and_how_long_they_hold() {
    let server = Server::start().await;
    for (method, params, cached) in [
        ("server/discover", json!({}), true),
        ("tools/list", json!({}), true),
        ("resources/list", json!({}), true),
        ("resources/templates/list", json!({}), true),
        ("prompts/list", json!({}), true),
        ("resources/read", json!({ "uri": "sample://about" }), true),
        ("tools/call", tool("now", json!({})), false),
        ("prompts/get", json!({ "name": "greet", "arguments": { "name": "Ada" } }), false),
    ] {
        let answer = server.modern(method, params).await;
        let result = answer.json()["result"].clone();
        assert_eq!(
            (answer.status, &result["resultType"]),
            (200, &json!("complete")),
            "{method}: {}",
            answer.body
        );
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "only1-sample", "{method}");
        assert_eq!(result["ttlMs"].is_u64() && result["cacheScope"] == "public", cached, "{method}");
        assert_eq!(answer.header("mcp-session-id"), None, "{method}");
    }
    let offer = server.modern("server/discover", json!({})).await.json()["result"].clone();
    assert_eq!(offer["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(offer["capabilities"], json!({ "tools": {}, "resources": {}, "prompts": {} }));
}

#[tokio::test]
async fn a_modern_request_climbs_the_whole_ladder() {
    let server = Server::start().await;
    let call = modern_request("tools/call", tool("now", json!({})));
    let good = [modern_headers("tools/call"), vec![("mcp-name", "now")]].concat();
    let ask = async |headers: &[(&str, &str)], body: &Value| {
        server.ask("POST", headers, &body.to_string()).await.refusal()
    };
    let without = |name: &str| good.iter().copied().filter(|(own, _)| *own != name).collect::<Vec<_>>();
    let with = |name: &'static str, value: &'static str| [without(name), vec![(name, value)]].concat();

    assert_eq!(ask(&good, &call).await, (200, None));
    assert_eq!(ask(&with("mcp-name", "=?base64?bm93?="), &call).await, (200, None));
    let mut bare = call.clone();
    bare["params"]["_meta"] = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28" });
    assert_eq!(ask(&good, &bare).await, (400, Some(-32602)), "no capabilities");
    bare["params"]["_meta"] = json!({});
    assert_eq!(ask(&good, &bare).await, (400, Some(-32602)), "no version");
    for (headers, what) in [
        (without("mcp-protocol-version"), "no version, but a modern body"),
        (without("mcp-method"), "no method"),
        (without("mcp-name"), "no name"),
        (with("mcp-method", "tools/list"), "another method"),
        (with("mcp-name", "add"), "another name"),
        (with("mcp-name", "=?base64?bm93?"), "a broken sentinel is a literal"),
        (with("mcp-name", "=?base64?***?="), "broken base64"),
        ([good.clone(), vec![("mcp-name", "now")]].concat(), "twice"),
    ] {
        assert_eq!(ask(&headers, &call).await, (400, Some(-32020)), "{what}");
    }
    let mut later = call.clone();
    later["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2030-01-01");
    let answer = server.ask("POST", &with("mcp-protocol-version", "2030-01-01"), &later.to_string()).await;
    assert_eq!(answer.refusal(), (400, Some(-32022)));
    let data = answer.json()["error"]["data"].clone();
    assert_eq!(data, json!({ "supported": ["2026-07-28"], "requested": "2030-01-01" }));
    assert_eq!(answer.json()["id"], 0, "the error names its request");
}

#[tokio::test]
async fn modern_errors_have_the_status_of_their_kind() {
    let server = Server::start().await;
    for method in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "no/such"] {
        assert_eq!(server.modern(method, json!({})).await.refusal(), (404, Some(-32601)), "{method}");
    }
    assert_eq!(server.modern("tools/call", tool("nope", json!({}))).await.refusal(), (200, Some(-32602)));
    let missing = server.modern("resources/read", json!({ "uri": "sample://nope" })).await;
    assert_eq!(missing.refusal(), (200, Some(-32602)));
    assert_eq!(missing.json()["error"]["data"], json!({ "uri": "sample://nope" }));
    assert_eq!(server.modern("prompts/get", json!({ "name": "greet" })).await.refusal(), (200, Some(-32602)));
    assert_eq!(server.modern("tools/list", json!({ "cursor": "x" })).await.refusal(), (200, Some(-32602)));

    let headers = modern_headers("x");
    for (body, code) in [
        ("{", -32700),
        ("[]", -32600),
        ("[{}]", -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"x"}"#, -32600),
        (r#"{"id":1,"method":"x"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":[]}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, -32600),
    ] {
        assert_eq!(server.ask("POST", &headers, body).await.refusal(), (400, Some(code)), "{body}");
    }
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#;
    assert_eq!(server.ask("POST", &headers, notification).await.status, 202);
    for verb in ["GET", "DELETE"] {
        let answer = server.ask(verb, &headers, "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{verb}");
    }
}

#[tokio::test]
async fn a_legacy_session_lives_from_initialize_to_delete() {
    let server = Server::start().await;
    for (asked, given) in [
        ("2025-03-26", "2025-03-26"),
        ("2025-11-25", "2025-11-25"),
        ("2024-11-05", "2025-11-25"),
        ("2026-07-28", "2025-11-25"), // what rmcp asks for
    ] {
        assert_eq!(server.initialize(asked).await.1["protocolVersion"], given, "{asked}");
    }
    let (session, offer) = server.initialize("2025-06-18").await;
    assert_eq!(offer["serverInfo"]["name"], "only1-sample");
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let answer = server.legacy(&session, &initialized).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    assert_eq!(server.legacy(&session, &request("ping", json!({}))).await.json()["result"], json!({}));
    let listed = server.legacy(&session, &request("tools/list", json!({}))).await.json()["result"].clone();
    let names: Vec<_> = listed["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["add", "echo", "now", "who", "note_add", "note_list"]);
    assert_eq!(listed.get("resultType").or(listed.get("ttlMs")), None, "nothing modern in it");
    let unknown = request("resources/read", json!({ "uri": "x" }));
    assert_eq!(server.legacy(&session, &unknown).await.refusal(), (200, Some(-32002)));
    assert_eq!(server.legacy(&session, &request("no/such", json!({}))).await.refusal(), (200, Some(-32601)));

    let deleted = server.ask("DELETE", &[("mcp-session-id", &session)], "").await;
    assert_eq!(deleted.status, 200);
    assert_eq!(server.legacy(&session, &request("ping", json!({}))).await.refusal(), (404, Some(-32000)));
    assert_eq!(server.ask("DELETE", &[("mcp-session-id", &session)], "").await.status, 404);
}

#[tokio::test]
async fn legacy_requests_that_break_the_rules_are_refused() {
    let server = Server::start().await;
    let (session, _) = server.initialize("2025-11-25").await;
    let ping = request("ping", json!({})).to_string();
    let (json, id) = (("content-type", "application/json"), ("mcp-session-id", session.as_str()));
    let version = ("mcp-protocol-version", "2024-11-05");
    for (headers, status, what) in [
        (vec![BOTH, json], 400, "no session"),
        (vec![BOTH, json, ("mcp-session-id", "guessed")], 404, "an unknown session"),
        (vec![BOTH, json, id, version], 400, "a version we do not speak"),
        (vec![json, id], 406, "accepts nothing"),
        (vec![("accept", "application/json"), json, id], 406, "accepts no stream"),
        (vec![BOTH, id], 415, "no content type"),
        (vec![BOTH, ("content-type", "text/plain"), id], 415, "another content type"),
        (vec![BOTH, json, id, ("origin", "http://evil.example")], 403, "a web page"),
        (vec![BOTH, json, id, ("host", "evil.example")], 403, "a name that was rebound"),
        (vec![("accept", "*/*"), json, id], 200, "accepts anything"),
        (vec![BOTH, json, id, ("origin", "http://localhost:3000")], 200, "a local page"),
    ] {
        assert_eq!(server.ask("POST", &headers, &ping).await.status, status, "{what}");
    }
    let large = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","x":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(server.ask("POST", &[BOTH, json, id], &large).await.status, 413);
    assert_eq!(server.ask("PUT", &[], "").await.status, 405);
}

#[tokio::test]
async fn arrays_are_for_the_one_revision_that_knows_them() {
    let server = Server::start().await;
    let (old, _) = server.initialize("2025-03-26").await;
    let (new, _) = server.initialize("2025-06-18").await;
    let notification = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let mut second = request("no/such", json!({}));
    second["id"] = json!("b");
    let batch = json!([request("ping", json!({})), notification, second, 7]);
    let answers = server.legacy(&old, &batch).await.json();
    let codes: Vec<_> = answers.as_array().unwrap().iter().map(|one| one["error"]["code"].as_i64()).collect();
    assert_eq!(codes, [None, Some(-32601), Some(-32600)]);
    assert_eq!((&answers[0]["id"], &answers[1]["id"]), (&json!(0), &json!("b")));
    assert_eq!(server.legacy(&old, &json!([notification])).await.status, 202);
    assert_eq!(server.legacy(&new, &batch).await.refusal(), (400, Some(-32600)));
    assert_eq!(server.legacy(&old, &json!([])).await.refusal(), (400, Some(-32600)));
}

#[tokio::test]
async fn a_session_has_one_stream_that_ends_with_it() {
    let server = Server::start().await;
    let (session, _) = server.initialize("2025-11-25").await;
    let headers = [("accept", "text/event-stream"), ("mcp-session-id", session.as_str())];
    let mut stream = BufReader::new(server.send("GET", &headers, "").await);
    let mut head = String::new();
    while !head.contains("keep-alive\n") {
        timeout(SOON, stream.read_line(&mut head)).await.expect("a sign of life").unwrap();
    }
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: text/event-stream"), "{head}");
    assert_eq!(server.ask("GET", &headers, "").await.refusal(), (409, Some(-32000)));
    assert_eq!(server.ask("DELETE", &headers[1..], "").await.status, 200);
    let mut rest = String::new();
    timeout(SOON, stream.read_to_string(&mut rest)).await.expect("the end of the stream").unwrap();

    let (session, _) = server.initialize("2025-11-25").await;
    let headers = [("accept", "text/event-stream"), ("mcp-session-id", session.as_str())];
    let _listening = server.send("GET", &headers, "").await;
    server.tasks.begin_stop();
    assert!(server.tasks.stopped_within(SOON).await, "an open stream must not hold up the end");
}
