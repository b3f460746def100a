//! MCP clients of both eras in raw JSON: what is sent is what the test wrote.

use crate::http::{Http, Reply, Stream};
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

/// The newest legacy revision.
pub const LEGACY: &str = "2025-11-25";
/// The modern revision.
pub const MODERN: &str = "2026-07-28";
/// What every POST says.
pub const JSON: [(&str, &str); 2] =
    [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];

/// A client of a legacy session.
pub struct Legacy {
    /// The connection.
    pub http: Http,
    /// The route, `/mcp`.
    pub path: String,
    /// The session the server named; empty: none.
    pub session: String,
    /// The answer to `initialize`.
    pub initialized: Value,
    next: AtomicU64,
}

impl Legacy {
    /// Opens a session.
    ///
    /// # Panics
    /// The server refuses.
    pub async fn open(address: SocketAddr, path: &str) -> Self {
        Self::open_with(Http::new(address), path, LEGACY, "{}").await
    }

    /// Opens a session of a revision, with the client's capabilities.
    ///
    /// # Panics
    /// The server refuses.
    pub async fn open_with(http: Http, path: &str, version: &str, capabilities: &str) -> Self {
        let body = initialize(version, capabilities);
        let reply = http.send("POST", path, &JSON, body).await;
        assert_eq!(reply.status, 200, "initialize: {}", reply.text());
        let session = reply.header("mcp-session-id").to_owned();
        let initialized = reply.result();
        let this = Self { http, path: path.to_owned(), session, initialized, next: AtomicU64::new(1) };
        let accepted = this.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        assert_eq!(accepted.status, 202, "initialized: {}", accepted.text());
        this
    }

    /// The headers of this session.
    #[must_use]
    pub fn headers(&self) -> Vec<(&str, &str)> {
        let mut headers = JSON.to_vec();
        headers.push(("mcp-protocol-version", self.version()));
        if !self.session.is_empty() {
            headers.push(("mcp-session-id", &self.session));
        }
        headers
    }

    /// The negotiated revision.
    #[must_use]
    pub fn version(&self) -> &str {
        self.initialized["protocolVersion"].as_str().unwrap_or(LEGACY)
    }

    /// Posts these very bytes.
    pub async fn post(&self, body: impl Into<bytes::Bytes>) -> Reply {
        self.http.send("POST", &self.path, &self.headers(), body).await
    }

    /// A request; `params` as JSON text.
    pub async fn request(&self, method: &str, params: &str) -> Reply {
        self.post(self.body(method, params)).await
    }

    /// A request whose answer is read as it comes.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn stream(&self, method: &str, params: &str) -> Stream {
        let body = self.body(method, params);
        Stream::new(self.http.try_send("POST", &self.path, &self.headers(), body).await.expect("an answer"))
    }

    /// Calls a tool; `arguments` as JSON text.
    pub async fn call(&self, tool: &str, arguments: &str) -> Reply {
        self.request("tools/call", &format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#)).await
    }

    /// The stream of what the server says by itself.
    ///
    /// # Panics
    /// The server refuses.
    pub async fn listen(&self) -> Stream {
        let response = self.try_listen().await;
        assert_eq!(response.status, 200, "GET {}", self.path);
        response
    }

    /// The same, whatever the status.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn try_listen(&self) -> Stream {
        let mut headers = self.headers();
        headers.retain(|(name, _)| *name != "accept" && *name != "content-type");
        headers.push(("accept", "text/event-stream"));
        Stream::new(self.http.try_send("GET", &self.path, &headers, "").await.expect("an answer"))
    }

    /// The stream from where it stopped, after the event of this id, whatever the status.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn listen_after(&self, id: &str) -> Stream {
        let mut headers = self.headers();
        headers.retain(|(name, _)| *name != "accept" && *name != "content-type");
        headers.extend([("accept", "text/event-stream"), ("last-event-id", id)]);
        Stream::new(self.http.try_send("GET", &self.path, &headers, "").await.expect("an answer"))
    }

    /// The same session at another address.
    #[must_use]
    pub fn at(&self, address: SocketAddr) -> Self {
        Self {
            http: Http::new(address),
            path: self.path.clone(),
            session: self.session.clone(),
            initialized: self.initialized.clone(),
            next: AtomicU64::new(1000),
        }
    }

    /// Names of the listed tools.
    pub async fn tools(&self) -> Vec<String> {
        names(&self.request("tools/list", "{}").await.result()["tools"])
    }

    /// The next request of a method, without sending it.
    #[must_use]
    pub fn body(&self, method: &str, params: &str) -> String {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
    }
}

/// An `initialize` request with id 0.
#[must_use]
pub fn initialize(version: &str, capabilities: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{{"name":"o1-tests","version":"1"}}}}}}"#
    )
}

/// A client of the modern era: every request stands alone.
pub struct Modern {
    /// The connection.
    pub http: Http,
    /// The route, `/mcp`.
    pub path: String,
}

impl Modern {
    /// Nothing is sent yet.
    #[must_use]
    pub fn new(address: SocketAddr, path: &str) -> Self {
        Self { http: Http::new(address), path: path.to_owned() }
    }

    /// A request; `params` as the JSON text of an object, to which the envelope is added.
    pub async fn request(&self, method: &str, params: &str) -> Reply {
        let (headers, body) = modern(method, params);
        self.http.send("POST", &self.path, &borrowed(&headers), body).await
    }

    /// The same where there may be no answer.
    ///
    /// # Errors
    /// What the connection says.
    pub async fn try_request(&self, method: &str, params: &str) -> Result<Reply, String> {
        let (headers, body) = modern(method, params);
        let sent = self.http.try_send("POST", &self.path, &borrowed(&headers), body).await;
        Reply::try_read(sent.map_err(|error| error.to_string())?).await
    }

    /// A request whose answer is read as it comes.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn stream(&self, method: &str, params: &str) -> Stream {
        let (headers, body) = modern(method, params);
        Stream::new(
            self.http.try_send("POST", &self.path, &borrowed(&headers), body).await.expect("an answer"),
        )
    }

    /// Calls a tool; `arguments` as JSON text.
    pub async fn call(&self, tool: &str, arguments: &str) -> Reply {
        self.request("tools/call", &format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#)).await
    }

    /// Names of the listed tools.
    pub async fn tools(&self) -> Vec<String> {
        names(&self.request("tools/list", "{}").await.result()["tools"])
    }
}

/// Headers and body of a modern request with id 7: the envelope joins `params`, the headers repeat the body.
///
/// # Panics
/// `params` is not an object.
#[must_use]
pub fn modern(method: &str, params: &str) -> (Vec<(String, String)>, String) {
    let parsed: Value = serde_json::from_str(params).expect("params are an object");
    let mut headers: Vec<_> =
        JSON.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect();
    headers.push(("mcp-protocol-version".to_owned(), MODERN.to_owned()));
    headers.push(("mcp-method".to_owned(), method.to_owned()));
    if let Some(name) = ["name", "uri", "taskId"].iter().find_map(|key| parsed[key].as_str()) {
        headers.push(("mcp-name".to_owned(), name.to_owned()));
    }
    let envelope = META.strip_prefix('{').and_then(|meta| meta.strip_suffix('}')).expect("META is an object");
    if let Some((before, after)) = params.split_once(r#""_meta":{"#) {
        // The caller's own `_meta` stays, behind the envelope.
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{before}"_meta":{{{envelope},{after}}}"#
        );
        return (headers, body);
    }
    let comma = if parsed.as_object().is_some_and(serde_json::Map::is_empty) { "" } else { "," };
    let params = params.trim().strip_suffix('}').expect("params are an object");
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}{comma}"_meta":{META}}}}}"#);
    (headers, body)
}

/// The envelope of a modern request.
pub const META: &str = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"o1-tests","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;

/// Headers as the client takes them.
#[must_use]
pub fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// The names in a list of tools or prompts.
#[must_use]
pub fn names(list: &Value) -> Vec<String> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item["name"].as_str()).map(str::to_owned).collect()
}
