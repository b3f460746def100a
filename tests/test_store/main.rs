//! An MCP server of both eras over HTTP that keeps what it is told in a file, for tests of failover: a process that can
//! be killed, stopped and started again, with a record of what really took effect.
//!
//! `o1-test-store ADDRESS FILE NAME`. Tools: `put {id}` writes a line and is durable when it answers; `has {id}` and
//! `who` only read. A write that carries `_meta["dev.only1/idempotencyKey"]` takes effect once. What stands in
//! `FILE.mode` says how it behaves: nothing, `503`, `hang`, `slow MILLISECONDS`, `refuse` (tools say no), `deaf N…`
//! (503 for requests whose header `x-node` is one of these), `streams` (a GET is answered by a stream of one log message
//! with the id `up-N`, which says the `Last-Event-ID` it was asked by; otherwise there is no such stream), `no streams`
//! (503 for a GET).

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use o1_tests::http::member;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fs::{File, OpenOptions},
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinSet};

struct Store {
    name: String,
    file: PathBuf,
    state: Mutex<State>,
}

struct State {
    log: File,
    /// By key of the write: what was written.
    keys: BTreeMap<String, String>,
    ids: BTreeSet<String>,
    sessions: BTreeSet<String>,
    minted: u64,
    streamed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, address, file, name] = &arguments[..] else { return ExitCode::from(64) };
    let store = Arc::new(Store::open(file.into(), name));
    let listener = TcpListener::bind(address).await.expect("the address is free");
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let store = store.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(store.clone(), request));
            let mut server = hyper::server::conn::http1::Builder::new();
            let _ = server.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Store {
    fn open(file: PathBuf, name: &str) -> Self {
        let known = std::fs::read_to_string(&file).unwrap_or_default();
        let (mut keys, mut ids) = (BTreeMap::new(), BTreeSet::new());
        // A line that was cut never took effect: it was not answered.
        for line in known.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let line: Value = serde_json::from_str(line).expect("lines are ours");
            let id = line["id"].as_str().expect("each has an id").to_owned();
            if let Some(key) = line["key"].as_str() {
                keys.insert(key.to_owned(), id.clone());
            }
            ids.insert(id);
        }
        let log = OpenOptions::new().create(true).append(true).open(&file).expect("the file can be written");
        let state = State { log, keys, ids, sessions: BTreeSet::new(), minted: 0, streamed: 0 };
        Self { name: name.to_owned(), file, state: Mutex::new(state) }
    }

    fn mode(&self) -> String {
        std::fs::read_to_string(self.file.with_extension("mode")).unwrap_or_default().trim().to_owned()
    }

    fn call(&self, body: &Value) -> Value {
        let params = &body["params"];
        let id = params["arguments"]["id"].as_str().unwrap_or_default();
        let mut state = self.state.lock().expect("no holder panics");
        let text = match params["name"].as_str() {
            Some("who") => self.name.clone(),
            Some("has") => state.ids.contains(id).to_string(),
            Some("put") if self.mode() == "refuse" => {
                return json!({"content": [{"type": "text", "text": "no room"}], "isError": true});
            }
            Some("put") => {
                let key = params["_meta"]["dev.only1/idempotencyKey"].as_str();
                if key.is_none_or(|key| !state.keys.contains_key(key)) {
                    let line = json!({"id": id, "key": key});
                    state.log.write_all(format!("{line}\n").as_bytes()).expect("the disk has room");
                    state.log.sync_data().expect("the disk works");
                    state.ids.insert(id.to_owned());
                    if let Some(key) = key {
                        state.keys.insert(key.to_owned(), id.to_owned());
                    }
                }
                format!("{} has {id}", self.name)
            }
            _ => return json!({"content": [{"type": "text", "text": "no such tool"}], "isError": true}),
        };
        json!({"content": [{"type": "text", "text": text}]})
    }

    fn tools(&self) -> Value {
        let tool = |name: &str| json!({"name": name, "description": format!("of {}", self.name), "inputSchema": {"type": "object"}});
        // What only one of the stores has tells their lists apart.
        json!({"tools": [tool("has"), tool("put"), tool("who"), tool(&format!("only_{}", self.name))]})
    }

    fn stream(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let (session, last) = (header("mcp-session-id"), header("last-event-id"));
        let mut state = self.state.lock().expect("no holder panics");
        if session.is_none_or(|session| !state.sessions.contains(session)) {
            return plain(404, "no such session");
        }
        state.streamed += 1;
        let data = json!({"number": state.streamed, "after": last});
        let params = json!({"level": "info", "logger": self.name, "data": data});
        let message = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params});
        let text = format!("id: up-{}\ndata: {message}\n\n", state.streamed);
        let response = Response::builder().header("content-type", "text/event-stream");
        response.body(Full::new(text.into())).expect("a response of ours")
    }

    fn result(&self, method: &str, body: &Value) -> Option<Value> {
        let capabilities = json!({"tools": {"listChanged": true}, "resources": {}, "logging": {}});
        Some(match method {
            "initialize" => json!({
                "protocolVersion": "2025-11-25", "capabilities": capabilities,
                "serverInfo": {"name": self.name, "version": "1"}
            }),
            "server/discover" => json!({
                "supportedVersions": ["2026-07-28"], "capabilities": capabilities,
                "serverInfo": {"name": self.name, "version": "1"}, "resultType": "complete",
                "ttlMs": 0, "cacheScope": "private"
            }),
            "ping" | "logging/setLevel" => json!({}),
            "tools/list" => self.tools(),
            "resources/list" => json!({"resources": [{"uri": "store://name", "name": "name"}]}),
            "resources/templates/list" => json!({"resourceTemplates": []}),
            "prompts/list" => json!({"prompts": []}),
            "resources/read" => {
                json!({"contents": [{"uri": "store://name", "text": self.name}], "ttlMs": 60_000, "cacheScope": "public"})
            }
            "tools/call" => self.call(body),
            _ => return None,
        })
    }
}

async fn answer(store: Arc<Store>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mode = store.mode();
    match mode.as_str() {
        "503" => return Ok(plain(503, "not now")),
        "hang" => std::future::pending().await,
        slow => {
            let node =
                request.headers().get("x-node").and_then(|node| node.to_str().ok()).unwrap_or_default();
            if slow.strip_prefix("deaf ").is_some_and(|deaf| deaf.split(' ').any(|one| one == node)) {
                return Ok(plain(503, "not for you"));
            }
            if let Some(wait) = slow.strip_prefix("slow ").and_then(|wait| wait.parse().ok()) {
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
        }
    }
    let modern = request.headers().get("mcp-protocol-version").is_some_and(|version| version == "2026-07-28");
    let session = request.headers().get("mcp-session-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    match request.method().as_str() {
        "GET" if request.uri().path() == "/health" => return Ok(plain(200, "well")),
        "GET" if mode == "streams" => return Ok(store.stream(&request)),
        "GET" if mode == "no streams" => return Ok(plain(503, "not now")),
        "POST" => {}
        _ => return Ok(plain(405, "POST")),
    }
    let Ok(body) = request.into_body().collect().await else { return Ok(plain(400, "cut")) };
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    let method = body["method"].as_str().unwrap_or_default();
    let Some(id) = member(&text, "id").filter(|_| !method.is_empty()) else { return Ok(plain(202, "")) };
    let mut response = Response::builder().header("content-type", "application/json");
    if !modern && method != "server/discover" {
        let mut state = store.state.lock().expect("no holder panics");
        if method == "initialize" {
            state.minted += 1;
            let minted = format!("{}-{}-{}", store.name, std::process::id(), state.minted);
            response = response.header("mcp-session-id", &minted);
            state.sessions.insert(minted);
        } else if session.is_none_or(|session| !state.sessions.contains(&session)) {
            return Ok(plain(404, "no such session"));
        }
    }
    let answer = match store.result(method, &body) {
        Some(mut result) => {
            if modern {
                result["resultType"] = "complete".into();
            }
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
        }
        None => {
            if modern {
                response = response.status(StatusCode::NOT_FOUND);
            }
            let error = r#"{"code":-32601,"message":"Method not found"}"#;
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
        }
    };
    Ok(response.body(Full::new(answer.into())).expect("a response of ours"))
}

fn plain(status: u16, text: &'static str) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", "text/plain");
    response.body(Full::new(Bytes::from_static(text.as_bytes()))).expect("a response of ours")
}
