//! HTTP as a test wants it: any method, any header, any body, every byte of the answer; streams event by event; and
//! below that a plain socket for what is not HTTP at all.

use crate::wait::in_time;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, value::RawValue};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Longer than any single exchange of a healthy product takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A client of one address, with connections that are kept.
#[derive(Clone)]
pub struct Http {
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    /// Sent with every request.
    always: Vec<(String, String)>,
}

impl Http {
    /// Over HTTP/1.1.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, client: Client::builder(TokioExecutor::new()).build_http(), always: Vec::new() }
    }

    /// Over HTTP/2 without TLS and without an upgrade, "prior knowledge".
    #[must_use]
    pub fn h2c(address: SocketAddr) -> Self {
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        Self { address, client, always: Vec::new() }
    }

    /// The same, with this header in every request.
    #[must_use]
    pub fn always(mut self, name: &str, value: &str) -> Self {
        self.always.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same, with this bearer token in every request.
    #[must_use]
    pub fn bearing(self, token: &str) -> Self {
        self.always("authorization", &format!("Bearer {token}"))
    }

    /// Where it connects to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request; the body of the answer is still to be read. The error is the transport's.
    ///
    /// # Errors
    /// There is no answer.
    ///
    /// # Panics
    /// A header is not one, or nothing happens within [`PATIENCE`].
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = Method::from_bytes(method.as_bytes()).expect("the test names a method");
        *request.uri_mut() = format!("http://{}{path}", self.address).parse().expect("the test names a path");
        let always = self.always.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in always.chain(headers.iter().copied()) {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("the test names a header");
            request.headers_mut().append(name, HeaderValue::from_str(value).expect("the test sends a value"));
        }
        in_time(&format!("an answer to {method} {path}"), PATIENCE, self.client.request(request)).await
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        match self.try_send(method, path, headers, body).await {
            Ok(response) => Reply::read(response).await,
            Err(error) => panic!("{method} {path} at {} was not answered: {error:?}", self.address),
        }
    }

    /// Reads a page.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], "").await
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, every byte.
    pub body: Bytes,
}

impl Reply {
    /// Reads the body to its end.
    ///
    /// # Panics
    /// It breaks off, or does not end within [`PATIENCE`].
    pub async fn read(response: Response<Incoming>) -> Self {
        Self::try_read(response).await.unwrap_or_else(|error| panic!("the body broke off: {error}"))
    }

    /// The same of a body that may break off.
    ///
    /// # Errors
    /// It did.
    ///
    /// # Panics
    /// It does not end within [`PATIENCE`].
    pub async fn try_read(response: Response<Incoming>) -> Result<Self, String> {
        let (parts, body) = response.into_parts();
        let body = in_time("the end of a body", PATIENCE, body.collect()).await;
        let body = body.map_err(|error| format!("{error:?}"))?.to_bytes();
        Ok(Self { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// A header's value; empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON-RPC messages of the body, which is JSON or an event stream; byte for byte.
    #[must_use]
    pub fn messages(&self) -> Vec<String> {
        if self.header("content-type").starts_with("text/event-stream") {
            let mut events = Events::default();
            events.push(&self.body);
            std::iter::from_fn(|| events.next())
                .map(|event| event.data)
                .filter(|data| !data.is_empty())
                .collect()
        } else {
            vec![self.text()]
        }
    }

    /// The message that answers: the last one.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn answer(&self) -> String {
        self.messages().pop().unwrap_or_else(|| panic!("no message in {self:?}"))
    }

    /// The answer, parsed.
    ///
    /// # Panics
    /// It is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let answer = self.answer();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error} in {} {answer}", self.status))
    }

    /// The bytes of the result.
    ///
    /// # Panics
    /// The answer has none.
    #[must_use]
    pub fn result_bytes(&self) -> String {
        member(&self.answer(), "result")
            .unwrap_or_else(|| panic!("no result in {} {}", self.status, self.text()))
    }

    /// The result, parsed.
    ///
    /// # Panics
    /// The answer has none.
    #[must_use]
    pub fn result(&self) -> Value {
        serde_json::from_str(&self.result_bytes()).expect("a member of JSON is JSON")
    }

    /// The result, parsed; null where there is none.
    #[must_use]
    pub fn result_or_null(&self) -> Value {
        let answer = self.messages().pop().unwrap_or_default();
        serde_json::from_str::<Value>(&answer).map_or(Value::Null, |mut answer| answer["result"].take())
    }

    /// The code of the JSON-RPC error, if the answer is one.
    #[must_use]
    pub fn error_code(&self) -> Option<i64> {
        serde_json::from_str::<Value>(&self.messages().pop()?).ok()?["error"]["code"].as_i64()
    }
}

/// The bytes of one member of a JSON object.
#[must_use]
pub fn member(object: &str, name: &str) -> Option<String> {
    let members: std::collections::HashMap<String, Box<RawValue>> = serde_json::from_str(object).ok()?;
    Some(members.get(name)?.get().to_owned())
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `id` field; empty when absent.
    pub id: String,
    /// The `data` fields, joined by line feeds.
    pub data: String,
}

/// Cuts bytes into events.
#[derive(Default)]
struct Events {
    buffer: String,
}

impl Events {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.push_str(&String::from_utf8_lossy(bytes).replace("\r\n", "\n"));
    }

    fn next(&mut self) -> Option<Event> {
        loop {
            let end = self.buffer.find("\n\n")?;
            let block: String = self.buffer.drain(..end + 2).collect();
            let field = |line: &str, name: &str| {
                line.strip_prefix(name)?
                    .strip_prefix(':')
                    .map(|value| value.trim_start_matches(' ').to_owned())
            };
            let data: Vec<_> = block.lines().filter_map(|line| field(line, "data")).collect();
            let id = block.lines().find_map(|line| field(line, "id"));
            // A block of comments only, which keeps the connection alive, is no event.
            if id.is_some() || !data.is_empty() {
                return Some(Event { id: id.unwrap_or_default(), data: data.join("\n") });
            }
        }
    }
}

/// An open event stream.
pub struct Stream {
    /// The status it was opened with.
    pub status: u16,
    /// The headers it was opened with.
    pub headers: HeaderMap,
    body: Incoming,
    events: Events,
}

impl Stream {
    /// Reads events from an answer.
    #[must_use]
    pub fn new(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status.as_u16(), headers: parts.headers, body, events: Events::default() }
    }

    /// The next event; `None` at the end of the stream, however it ends.
    pub async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.next() {
                return Some(event);
            }
            let frame = self.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                self.events.push(data);
            }
        }
    }

    /// The next message that satisfies the question; other messages are passed over.
    ///
    /// # Panics
    /// There is none in time, or the stream ends.
    pub async fn message(&mut self, what: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let find = async {
            while let Some(event) = self.event().await {
                if let Ok(message) = serde_json::from_str::<Value>(&event.data)
                    && wanted(&message)
                {
                    return message;
                }
            }
            panic!("the stream ended before {what}")
        };
        in_time(what, within, find).await
    }

    /// Waits for a notification of this method.
    ///
    /// # Panics
    /// It does not come in time.
    pub async fn notification(&mut self, method: &str, within: Duration) -> Value {
        self.message(method, within, |message| message["method"] == method).await
    }

    /// Reads until the stream ends.
    ///
    /// # Panics
    /// It does not end in time.
    pub async fn end(&mut self, within: Duration) -> Vec<Event> {
        let mut all = Vec::new();
        in_time("the end of a stream", within, async {
            while let Some(event) = self.event().await {
                all.push(event);
            }
        })
        .await;
        all
    }
}

/// Sends bytes on a socket of their own and reads what comes back until the peer closes or falls silent for
/// `silence`. A reset ends the reading: the peer is free to close on garbage.
///
/// # Panics
/// There is no connection.
pub async fn raw(address: SocketAddr, bytes: &[u8], silence: Duration) -> String {
    let mut socket = TcpStream::connect(address).await.expect("the listener accepts connections");
    // A peer that has read enough may close while this still writes.
    let _ = tokio::time::timeout(PATIENCE, socket.write_all(bytes)).await;
    let mut all = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(Ok(read @ 1..)) = tokio::time::timeout(silence, socket.read(&mut buffer)).await {
        all.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// The status in a raw answer; 0 when there is none.
#[must_use]
pub fn raw_status(answer: &str) -> u16 {
    answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}
