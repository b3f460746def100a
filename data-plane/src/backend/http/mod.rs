//! A Streamable HTTP endpoint.

mod batch;
mod link;
mod resume;

pub use batch::{Portions, portions};
pub use link::HttpLink;

use crate::{
    call::{Ask, Body, JSON, Probe, Reply, read_all, read_response, read_up_to},
    context::Context,
    failure::{Failure, Kind},
    mcp::{Era, Message, era, header as mcp_header, json, method, own, rpc},
    plan::Upstream,
    tls,
};
use batch::Arrays;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use o1_process::Tasks;
use o1_proto::model;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

/// What a request to a server of either era accepts.
const ACCEPT_BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// One endpoint and its connections. Cheap to clone.
#[derive(Clone)]
pub struct HttpServer(Arc<Inner>);

struct Inner {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
    credentials: HeaderMap,
    connect: Duration,
    health: model::Health,
    /// The last session that was opened.
    open: Mutex<Weak<link::Inner>>,
    tasks: Tasks,
    arrays: Arrays,
}

/// Idle connections are given up before the server does (uvicorn and Node wait 5 s): a request that meets a
/// closing connection would fail.
const POOL_IDLE: Duration = Duration::from_secs(4);
/// A connection that many streams share is asked whether it lives, because nobody else would notice.
const H2_PING_EVERY: Duration = Duration::from_secs(20);
const H2_PING_WITHIN: Duration = Duration::from_secs(10);
/// How much of the answer to a GET of our own is read.
const PROBE_ANSWER_MAX: usize = 64 << 10;

impl HttpServer {
    pub(super) fn new(
        upstream: &Upstream,
        url: &Uri,
        credentials: &HeaderMap,
        tls: Option<&ClientConfig>,
        context: &Context,
    ) -> Result<Self, Failure> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(upstream.timeouts.connect));
        connector.set_keepalive(Some(Duration::from_secs(30)));
        let tls = match (tls, url.scheme_str()) {
            (Some(tls), _) => tls.clone(),
            (None, Some("https")) => system_tls()?,
            (None, _) => no_tls(),
        };
        // ALPN chooses HTTP/2 or HTTP/1.1 over TLS; without TLS it is HTTP/1.1.
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(upstream.pool_idle)
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(H2_PING_EVERY)
            .http2_keep_alive_timeout(H2_PING_WITHIN)
            .http2_adaptive_window(true)
            .build(connector);
        let connect = upstream.timeouts.connect;
        let (url, credentials, tasks) = (url.clone(), credentials.clone(), context.tasks.clone());
        let arrays = Arrays::new(&upstream.name, context);
        let (health, open) = (upstream.health.clone(), Mutex::default());
        Ok(Self(Arc::new(Inner { client, url, credentials, connect, health, open, tasks, arrays })))
    }

    /// A modern message with the client's own headers.
    pub(super) async fn ask(&self, message: &Message, headers: &HeaderMap) -> Result<Reply, Failure> {
        let mut headers = forwarded(headers);
        headers.remove(mcp_header::SESSION_ID);
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.entry(header::ACCEPT).or_insert(ACCEPT_BOTH);
        self.reply(Method::POST, headers, message.bytes().clone()).await
    }

    /// A legacy exchange, bytes through. What the server refuses because it does not know `session` has not run.
    pub(super) async fn relay(
        &self,
        ask: &Ask,
        headers: &HeaderMap,
        session: Option<&str>,
    ) -> Result<Reply, Failure> {
        let mut headers = forwarded(headers);
        headers.remove(mcp_header::SESSION_ID);
        let named = session.and_then(|session| HeaderValue::from_str(session).ok());
        let is_named = named.is_some();
        if let Some(session) = named {
            headers.insert(mcp_header::SESSION_ID, session);
        }
        let (verb, body) = match ask {
            Ask::Message(message) => (Method::POST, message.bytes().clone()),
            Ask::Stream => (Method::GET, Bytes::new()),
            Ask::End => (Method::DELETE, Bytes::new()),
        };
        let reply = self.reply(verb, headers, body).await?;
        if is_named { unless_lost(reply).await } else { Ok(reply) }
    }

    pub(super) async fn discover(&self) -> Result<Message, Failure> {
        self.discover_within(self.0.connect).await
    }

    async fn discover_within(&self, limit: Duration) -> Result<Message, Failure> {
        let reply = self.own_discover(limit).await?;
        let status = reply.status;
        let answer = match tokio::time::timeout(limit, read_response(reply)).await {
            Err(_) => return Err(silent()),
            Ok(Err(_)) if status.is_client_error() => return Err(not_modern()),
            Ok(answer) => answer?,
        };
        if is_modern(&answer) { Ok(answer) } else { Err(not_modern()) }
    }

    /// Whether the server works, as far as can be told without opening a session.
    pub(super) async fn probe(&self) -> Result<Probe, Failure> {
        if let Some(found) = self.probe_path().await {
            return found;
        }
        // A server with sessions is asked within one that is open anyhow.
        if let Some(link) = self.open_link() {
            match link.ping().await {
                Ok(()) => return Ok(Probe::Legacy),
                Err(failure) if failure.kind == Kind::SessionLost => {}
                Err(failure) => return Err(failure),
            }
        }
        match self.discover_within(self.0.health.timeout).await {
            Ok(_) => Ok(Probe::Modern),
            Err(failure) if failure.kind == Kind::WrongEra => Ok(Probe::Answers),
            Err(failure) => Err(failure),
        }
    }

    /// How long a probe may take.
    pub(super) fn probe_limit(&self) -> Duration {
        self.0.health.timeout
    }

    /// Where the operator named a path: a GET there, at the same origin.
    pub(super) async fn probe_path(&self) -> Option<Result<Probe, Failure>> {
        let path = self.0.health.path.as_ref()?;
        Some(self.get_path(path).await)
    }

    async fn get_path(&self, path: &str) -> Result<Probe, Failure> {
        let mut parts = self.0.url.clone().into_parts();
        parts.path_and_query = path.parse().ok();
        let url = Uri::from_parts(parts).map_err(|error| {
            Failure::new(Kind::Internal, "`health.path` of this upstream makes no URL").because(error)
        })?;
        let response = self.send(&url, Method::GET, HeaderMap::new(), Bytes::new()).await?;
        let status = response.status();
        // An unread answer costs the connection, a long one is not worth its bytes.
        let _ = read_up_to(response.into_body().map_err(Into::into).boxed_unsync(), PROBE_ANSWER_MAX).await;
        Ok(if status.is_success() { Probe::Alive } else { Probe::Ill(status.as_u16()) })
    }

    /// Remembers a session that is open, for probes.
    fn opened(&self, link: &HttpLink) {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&link.0);
    }

    /// The last session that was opened, if it still is.
    fn open_link(&self) -> Option<HttpLink> {
        let link = self.0.open.lock().unwrap_or_else(PoisonError::into_inner).upgrade().map(HttpLink)?;
        link.is_open().then_some(link)
    }

    /// Whether the server speaks an era: it answers `server/discover`, or completes a handshake of ours.
    pub(super) async fn speaks(&self, era: Era) -> Result<bool, Failure> {
        let asked = match era {
            Era::Modern => self.discover().await.map(|_| ()),
            Era::Legacy => {
                match HttpLink::open(self, &own::initialize(b"\"o1-initialize\"", era::LEGACY[0], "{}")).await
                {
                    Ok(link) => {
                        link.close().await;
                        Ok(())
                    }
                    Err(failure) => Err(failure),
                }
            }
        };
        match asked {
            Ok(()) => Ok(true),
            Err(failure) if failure.kind == Kind::WrongEra => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    async fn own_discover(&self, limit: Duration) -> Result<Reply, Failure> {
        let params = format!(r#"{{"_meta":{}}}"#, own::envelope(era::MODERN[0], "{}"));
        let message = Message::parse(&rpc::request(b"\"o1-discover\"", method::DISCOVER, params.as_bytes()))
            .expect("a request of our own is a message");
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, ACCEPT_BOTH);
        headers.insert(mcp_header::PROTOCOL_VERSION, HeaderValue::from_static(era::MODERN[0]));
        headers.insert(mcp_header::METHOD, HeaderValue::from_static(method::DISCOVER));
        match tokio::time::timeout(limit, self.ask(&message, &headers)).await {
            Err(_) => Err(silent()),
            // Trouble with the server, our credentials or our pace says nothing about the era.
            Ok(Ok(reply))
                if reply.status.is_server_error() || matches!(reply.status.as_u16(), 403 | 408 | 429) =>
            {
                let what = format!("the upstream answered HTTP {}", reply.status);
                Err(Failure::new(Kind::Unreachable, what).with_status(reply.status))
            }
            Ok(reply) => reply,
        }
    }

    pub(super) fn url(&self) -> &Uri {
        &self.0.url
    }

    pub(super) async fn reply(
        &self,
        verb: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, Failure> {
        self.reply_at(&self.0.url, verb, headers, body).await
    }

    /// A reply from another address of the same server.
    pub(super) async fn reply_at(
        &self,
        url: &Uri,
        verb: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, Failure> {
        let response = self.send(url, verb, headers, body).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(Failure::new(
                Kind::Unreachable,
                "the upstream refused the gateway's credentials (HTTP 401): check `headers` of this upstream",
            )
            .with_status(StatusCode::UNAUTHORIZED));
        }
        let (parts, body) = response.into_parts();
        let mut headers = HeaderMap::with_capacity(4);
        for (name, value) in &parts.headers {
            if returned(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        let body = Body::Bytes(body.map_err(Into::into).boxed_unsync());
        Ok(Reply { status: parts.status, headers, body, stale: None })
    }

    async fn send(
        &self,
        url: &Uri,
        verb: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = verb;
        *request.uri_mut() = url.clone();
        *request.headers_mut() = headers;
        for (name, value) in &self.0.credentials {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        self.0.client.request(request).await.map_err(|error| {
            // No address, no connection, no TLS, nobody in the pool: not a byte of the request was written.
            if error.is_connect() {
                return Failure::new(Kind::Unreachable, "the upstream cannot be reached")
                    .unsent()
                    .because(error);
            }
            let public = "the upstream closed the connection before it answered; the call may have run";
            Failure::new(Kind::Unreachable, public).because(error)
        })
    }
}

fn system_tls() -> Result<ClientConfig, Failure> {
    tls::client(None, None).map_err(|fault| {
        Failure::new(Kind::Internal, "the system's certificate store cannot be read").because(fault.what)
    })
}

/// For plain URLs, where reading the system's authorities would be for nothing: trusts nobody.
fn no_tls() -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows the default versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

/// Whether an answer to `server/discover` comes from a modern server: it lists a modern revision, or refuses our
/// request with an error that only modern servers know.
fn is_modern(answer: &Message) -> bool {
    let text = answer.bytes();
    let lists = |versions: json::Span| {
        json::items(text, &versions).is_ok_and(|versions| {
            versions
                .iter()
                .any(|at| json::string(text, at).is_some_and(|version| era::MODERN.contains(&&*version)))
        })
    };
    if let Some(result) = answer.result() {
        return json::find(text, &result, &["supportedVersions"]).ok().flatten().is_some_and(lists);
    }
    let within = |path: &[&str]| json::find(text, &answer.error()?, path).ok()?;
    let code = within(&["code"]).and_then(|at| std::str::from_utf8(&text[at]).ok()?.parse().ok());
    match code {
        // It names what it speaks instead; that may be the other era alone.
        Some(rpc::UNSUPPORTED_VERSION) => within(&["data", "supported"]).is_none_or(lists),
        Some(rpc::HEADER_MISMATCH | rpc::MISSING_CAPABILITY) => true,
        _ => false,
    }
}

fn not_modern() -> Failure {
    Failure::new(Kind::WrongEra, "the upstream does not speak revision 2026-07-28")
}

fn silent() -> Failure {
    Failure::new(Kind::Timeout, "the upstream did not answer in time")
}

/// The request headers that an upstream may see.
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(headers.len() + 2);
    for (name, value) in headers {
        if mcp_header::reaches_upstream(name) {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

/// Response headers that a client may see.
fn returned(name: &HeaderName) -> bool {
    matches!(name.as_str(), "content-type" | "cache-control" | "x-accel-buffering" | "retry-after" | "allow")
        || name.as_str().starts_with("mcp-")
}

/// A reply, unless it says that the session which the request named is gone.
async fn unless_lost(reply: Reply) -> Result<Reply, Failure> {
    let lost = || Failure::new(Kind::SessionLost, "the upstream no longer knows this session");
    match (reply.status, reply.body) {
        (StatusCode::NOT_FOUND, _) => Err(lost()),
        (StatusCode::BAD_REQUEST, Body::Bytes(body)) => {
            let body = read_all(body).await?;
            if says_session_lost(&body) {
                return Err(lost());
            }
            Ok(Reply { status: reply.status, headers: reply.headers, body: Body::Full(body), stale: None })
        }
        (status, body) => Ok(Reply { status, headers: reply.headers, body, stale: None }),
    }
}

/// True when the body of a 400 says that our session is gone: server-everything answers that instead of 404, a
/// JSON-RPC error to POST and plain text to GET.
fn says_session_lost(body: &Bytes) -> bool {
    let Ok(message) = Message::parse(body) else {
        // Such answers carry `"id":null`, which makes them no message.
        let text = String::from_utf8_lossy(body).to_ascii_lowercase();
        return text.contains("session") && (text.contains("-32000") || !text.starts_with('{'));
    };
    message.error().is_some_and(|at| {
        String::from_utf8_lossy(&message.bytes()[at]).to_ascii_lowercase().contains("session")
    })
}
