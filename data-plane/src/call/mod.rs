//! What travels through the data path: a call goes down, a reply or a failure comes back.
//!
//! Also the contracts between neighbouring layers, so that no layer needs to import another.

mod backend;
mod body;
mod session;

pub use backend::{Backend, Connect, Link, Probe};
pub use body::{
    Body, BoxError, Event, Events, MESSAGE_MAX, Messages, broken, read_all, read_messages, read_response,
    read_up_to,
};
pub use session::{AtWork, Opening, Remote, Serial, Session, SessionId};

use crate::{
    failure::Failure,
    mcp::Message,
    plan::{Plan, Server, Upstream},
    principal::Principal,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::{future::Future, sync::Arc, time::SystemTime};

/// One thing a client asks for.
#[derive(Debug, Clone)]
pub struct Call {
    /// The configuration in force when the call came in.
    pub plan: Arc<Plan>,
    /// Which address it came in on.
    pub route: Route,
    /// Who asks.
    pub principal: Arc<Principal>,
    /// In which era, and in which session.
    pub caller: Caller,
    /// What for.
    pub ask: Ask,
    /// The client's headers that an upstream may see: no credentials, nothing hop by hop.
    pub headers: HeaderMap,
    /// Only the upstream may answer, nobody's memory: the caller asks because something may have changed.
    pub fresh: bool,
}

/// Which address a call came in on.
#[derive(Debug, Clone)]
pub enum Route {
    /// `/mcp` and `/mcp/<server>`: many upstreams, names prefixed.
    Server(Arc<Server>),
    /// `/u/<upstream>/mcp`: one upstream, nothing renamed, bytes through.
    One(Arc<Upstream>),
}

impl Route {
    /// What tokens for clients of this route are bound to: `/mcp`, `/mcp/<server>`, `/u/<upstream>`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Server(server) => match &server.name {
                None => "/mcp".to_owned(),
                Some(name) => format!("/mcp/{name}"),
            },
            Self::One(upstream) => format!("/u/{}", upstream.name),
        }
    }
}

/// In which era a client asks.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Revision 2026-07-28: all there is to know stands in the message.
    Modern,
    /// A revision with sessions. `None`: the client has none (yet).
    Legacy(Option<Arc<Session>>),
}

/// What a client asks for.
#[derive(Debug, Clone)]
pub enum Ask {
    /// POST: a request, a notification or a response.
    Message(Message),
    /// GET: what the server has to say beside answers (legacy). The header `last-event-id` may resume one.
    Stream,
    /// DELETE: the session ends (legacy).
    End,
}

impl Call {
    /// The session, if the caller has one.
    #[must_use]
    pub fn session(&self) -> Option<&Arc<Session>> {
        match &self.caller {
            Caller::Legacy(session) => session.as_ref(),
            Caller::Modern => None,
        }
    }

    /// The same call with another message, towards the same upstreams.
    #[must_use]
    pub fn with_message(&self, message: Message) -> Self {
        Self { ask: Ask::Message(message), ..self.clone() }
    }
}

/// What comes back.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status, decided by whoever answers.
    pub status: StatusCode,
    /// Headers for the client.
    pub headers: HeaderMap,
    /// The messages.
    pub body: Body,
    /// When the primary gave this answer, if it comes from a snapshot of such answers; `None`: it is a server's own.
    pub stale: Option<SystemTime>,
}

impl Reply {
    /// A JSON body with 200.
    #[must_use]
    pub fn json(bytes: bytes::Bytes) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, JSON);
        Self { status: StatusCode::OK, headers, body: Body::Full(bytes), stale: None }
    }

    /// 202, the answer to notifications and responses.
    #[must_use]
    pub fn accepted() -> Self {
        Self { status: StatusCode::ACCEPTED, headers: HeaderMap::new(), body: Body::Empty, stale: None }
    }

    /// Messages as they come, with 200. The listener chooses JSON or SSE.
    #[must_use]
    pub fn messages(messages: Messages) -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Body::Messages(messages),
            stale: None,
        }
    }

    /// True when the body is an event stream.
    #[must_use]
    pub fn is_event_stream(&self) -> bool {
        self.headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"))
    }
}

/// `application/json`.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// `text/event-stream`.
pub const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// The one interface of the data path: a layer handles a call, perhaps by asking the next.
pub trait Handle: Send + Sync + 'static {
    /// Answers a call.
    fn handle(&self, call: Call) -> impl Future<Output = Result<Reply, Failure>> + Send;
}

/// What the failover path asks of the data path: what was written while the primary was away, in order and past the
/// gate.
pub trait Primary: Send + Sync + 'static {
    /// Sends a call to the primary of an upstream, whichever store is active.
    fn ask_primary(
        &self,
        call: Call,
        upstream: Arc<Upstream>,
    ) -> impl Future<Output = Result<Reply, Failure>> + Send;
}

/// What the router asks of the layer below it: calls to one upstream, and what that upstream said of itself.
pub trait Upstreams: Send + Sync + 'static {
    /// Sends a call to one upstream.
    fn ask(&self, call: Call, upstream: Arc<Upstream>)
    -> impl Future<Output = Result<Reply, Failure>> + Send;

    /// The upstream's answer to `initialize` or `server/discover`, in the caller's era. Opens the upstream
    /// session if need be; costs nothing once it is open.
    fn handshake(
        &self,
        call: &Call,
        upstream: Arc<Upstream>,
    ) -> impl Future<Output = Result<Message, Failure>> + Send;

    /// Changes when another process of the upstream may answer than before. Always 0 where there are none.
    fn generation(&self, _upstream: &Upstream) -> u64 {
        0
    }
}
