//! A legacy session with a Streamable HTTP server.

use super::{
    ACCEPT_BOTH, HttpServer,
    batch::{self, Window},
    resume, silent, unless_lost,
};
use crate::{
    call::{Body, EVENT_STREAM, JSON, Reply, read_messages, read_response},
    failure::{Failure, Kind},
    mcp::{Message, era, header as mcp_header, json, method, rpc},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use o1_process::OnExit;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Cheap to clone.
#[derive(Clone)]
pub struct HttpLink(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) server: HttpServer,
    session: Option<HeaderValue>,
    version: HeaderValue,
    handshake: Message,
    open: AtomicBool,
    /// Who waits to be asked for together; only with a server that has arrays.
    pub(super) window: Option<Window>,
}

impl Inner {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(mcp_header::PROTOCOL_VERSION, self.version.clone());
        if let Some(session) = &self.session {
            headers.insert(mcp_header::SESSION_ID, session.clone());
        }
        headers
    }
}

impl HttpLink {
    /// `initialize`, then `notifications/initialized`.
    pub(crate) async fn open(server: &HttpServer, initialize: &Message) -> Result<Self, Failure> {
        let limit = server.0.connect;
        tokio::time::timeout(limit, Self::handshake_with(server, initialize))
            .await
            .map_err(|_| Failure::new(Kind::Timeout, "the upstream did not complete the handshake in time"))?
    }

    async fn handshake_with(server: &HttpServer, initialize: &Message) -> Result<Self, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, ACCEPT_BOTH);
        headers.insert(header::CONTENT_TYPE, JSON);
        let reply = server.reply(Method::POST, headers, initialize.bytes().clone()).await?;
        let status = reply.status;
        // A session id on an error reply is nobody's session.
        // In memory of its own: the buffer it came in is many times its size, and a link may live for hours.
        let session = reply
            .headers
            .get(mcp_header::SESSION_ID)
            .filter(|_| status.is_success())
            .and_then(|session| HeaderValue::from_bytes(session.as_bytes()).ok());
        // Trouble with the server, our credentials or our pace says nothing about the era.
        if status.is_server_error() || matches!(status.as_u16(), 403 | 408 | 429) {
            return Err(Failure::new(
                Kind::Unreachable,
                format!("the upstream answered `initialize` with HTTP {status}"),
            )
            .with_status(status));
        }
        let answer = match read_response(reply).await {
            Err(failure) if status.is_client_error() => {
                let refused = format!("the upstream refused `initialize` with HTTP {status}");
                return Err(Failure::new(Kind::WrongEra, refused).because(failure));
            }
            answer => answer?,
        };
        let Some(result) = answer.result() else {
            return Err(refused(status, &answer));
        };
        let version = json::find(answer.bytes(), &result, &["protocolVersion"])
            .ok()
            .flatten()
            .and_then(|at| json::string(answer.bytes(), &at).map(std::borrow::Cow::into_owned))
            .filter(|version| era::LEGACY.contains(&version.as_str()))
            .and_then(|version| HeaderValue::from_str(&version).ok())
            // Servers of the other era exist that answer `initialize`, and mean a revision without sessions.
            .ok_or_else(|| {
                Failure::new(Kind::WrongEra, "the upstream negotiated a revision that has no sessions")
            })?;
        let window = (version == batch::REVISION).then(Window::default);
        let link = Self(Arc::new(Inner {
            server: server.clone(),
            session,
            version,
            handshake: answer,
            open: AtomicBool::new(true),
            window,
        }));
        let initialized = Message::parse(&rpc::notification(method::INITIALIZED, None))
            .expect("a notification of our own is a message");
        link.tell(&initialized).await?;
        server.opened(&link);
        Ok(link)
    }

    /// Whether the server answers in this session; an error is an answer, too.
    ///
    /// # Errors
    /// `SessionLost`: it does, and knows the session no more. Anything else: it does not.
    pub(super) async fn ping(&self) -> Result<(), Failure> {
        let limit = self.0.server.0.health.timeout;
        let asked = async {
            let reply = self.post(rpc::request(b"\"o1-ping\"", method::PING, b"{}")).await?;
            let status = reply.status;
            match read_response(reply).await {
                Ok(_) => Ok(()),
                Err(failure) if status.is_success() => Err(failure),
                Err(failure) => {
                    let what = format!("the upstream answered `ping` with HTTP {status}");
                    Err(Failure::new(Kind::of_status(status), what).with_status(status).because(failure))
                }
            }
        };
        tokio::time::timeout(limit, asked).await.map_err(|_| silent())?
    }

    pub(crate) fn handshake(&self) -> &Message {
        &self.0.handshake
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// Sends a request. An event stream that the server closes before it has answered is taken up again where
    /// it stopped (2025-11-25, "resumability").
    pub(crate) async fn ask(&self, message: &Message) -> Result<Reply, Failure> {
        if let Some(reply) = batch::ask(self, message).await? {
            return Ok(reply);
        }
        let reply = self.post(message.bytes().clone()).await?;
        if !reply.is_event_stream() {
            return Ok(reply);
        }
        let Reply { status, headers, body: Body::Bytes(body), stale } = reply else {
            return Ok(reply);
        };
        if !status.is_success() {
            return Ok(Reply { status, headers, body: Body::Bytes(body), stale });
        }
        Ok(Reply::messages(resume::messages(self.clone(), body)))
    }

    pub(crate) async fn tell(&self, message: &Message) -> Result<(), Failure> {
        let reply = self.post(message.bytes().clone()).await?;
        if reply.status.is_success() {
            return Ok(());
        }
        Err(Failure::new(
            Kind::Protocol,
            format!("the upstream answered a notification with HTTP {}", reply.status),
        ))
    }

    /// The GET stream, as messages.
    pub(crate) async fn stream(&self) -> Result<Reply, Failure> {
        let reply = self.get(None).await?;
        Ok(Reply::messages(read_messages(reply)))
    }

    /// A GET, perhaps to take up a stream after event `last`.
    pub(super) async fn get(&self, last: Option<&str>) -> Result<Reply, Failure> {
        let mut headers = self.headers();
        headers.insert(header::ACCEPT, EVENT_STREAM);
        if let Some(last) = last.and_then(|last| HeaderValue::from_str(last).ok()) {
            headers.insert(mcp_header::LAST_EVENT_ID, last);
        }
        let reply = self.0.server.reply(Method::GET, headers, Bytes::new()).await?;
        if reply.status == StatusCode::OK && reply.is_event_stream() {
            return Ok(reply);
        }
        let status = reply.status;
        let none = || Failure::new(Kind::UnknownMethod, "the upstream offers no GET stream");
        // A server without sessions has nothing to say beside answers, however it words that.
        if status == StatusCode::METHOD_NOT_ALLOWED || (self.0.session.is_none() && status.is_client_error())
        {
            return Err(none());
        }
        match unless_lost(reply).await {
            // A 404 may also say that there is no such stream; then the session is known.
            Err(failure) if failure.kind == Kind::SessionLost => {
                let ping = Message::parse(&rpc::request(b"\"o1-ping\"", method::PING, b"{}"))
                    .expect("a request of our own is a message");
                self.post(ping.bytes().clone()).await.and(Err(none()))
            }
            _ => Err(Failure::new(Kind::Protocol, format!("the upstream answered GET with HTTP {status}"))),
        }
    }

    pub(crate) async fn close(&self) {
        if self.0.open.swap(false, Ordering::AcqRel) && self.0.session.is_some() {
            let goodbye = self.0.server.reply(Method::DELETE, self.headers(), Bytes::new());
            // The server may refuse (405) or be gone: either way this session is over for us.
            let _ = tokio::time::timeout(self.0.server.0.connect, goodbye).await;
        }
    }

    pub(super) async fn post(&self, body: Bytes) -> Result<Reply, Failure> {
        let mut headers = self.headers();
        headers.insert(header::ACCEPT, ACCEPT_BOTH);
        headers.insert(header::CONTENT_TYPE, JSON);
        let reply = self.0.server.reply(Method::POST, headers, body).await?;
        if self.0.session.is_none() {
            return Ok(reply);
        }
        unless_lost(reply).await.inspect_err(|failure| {
            if failure.kind == Kind::SessionLost {
                self.0.open.store(false, Ordering::Release);
            }
        })
    }

    fn headers(&self) -> HeaderMap {
        self.0.headers()
    }
}

impl Drop for Inner {
    /// A session that was opened and then wanted no more (its client gave up, its upstream left the
    /// configuration) ends at the server too. Not when the process stops: another node may go on with it.
    fn drop(&mut self) {
        let tasks = self.server.0.tasks.clone();
        let ours = *self.open.get_mut() && self.session.is_some() && !tasks.stopping().is_cancelled();
        if !ours || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (server, headers) = (self.server.clone(), self.headers());
        tasks.spawn("end an upstream session", OnExit::Quiet, async move {
            let goodbye = server.reply(Method::DELETE, headers, Bytes::new());
            let _ = tokio::time::timeout(server.0.connect, goodbye).await;
        });
    }
}

/// A server that knows only later revisions refuses `initialize` as such; any other error is its own trouble.
fn refused(status: StatusCode, answer: &Message) -> Failure {
    let code = answer
        .error()
        .and_then(|error| json::find(answer.bytes(), &error, &["code"]).ok().flatten())
        .and_then(|at| std::str::from_utf8(&answer.bytes()[at]).ok()?.parse::<i32>().ok());
    let foreign = status.is_client_error()
        || matches!(code, Some(rpc::METHOD_NOT_FOUND | rpc::UNSUPPORTED_VERSION | rpc::HEADER_MISMATCH));
    let said = answer
        .error()
        .and_then(|error| json::find(answer.bytes(), &error, &["message"]).ok().flatten())
        .and_then(|at| json::string(answer.bytes(), &at))
        .unwrap_or_default();
    let kind = if foreign { Kind::WrongEra } else { Kind::Protocol };
    Failure::new(kind, "the upstream refused `initialize`").because(said.into_owned())
}
