//! The contract between the upstream layer, which chooses endpoints and guards attempts, and the backend
//! layer, which speaks MCP to one server.

use super::{Ask, Reply};
use crate::{
    failure::Failure,
    mcp::{Era, Message},
    plan::Upstream,
    principal::Principal,
};
use http::HeaderMap;
use std::{future::Future, sync::Arc};

/// Makes backends. Cheap: a backend connects or starts a process when it is first needed.
pub trait Connect: Send + Sync + 'static {
    /// What it makes.
    type Backend: Backend;

    /// The backend for one endpoint, by its place in [`Upstream::endpoints`].
    fn backend(&self, upstream: &Arc<Upstream>, endpoint: usize) -> Self::Backend;
}

/// One MCP server.
pub trait Backend: Send + Sync + 'static {
    /// A legacy session with it.
    type Link: Link;

    /// Opens a legacy session with the client's `initialize` and completes the handshake.
    fn open(&self, initialize: &Message) -> impl Future<Output = Result<Self::Link, Failure>> + Send;

    /// Sends a modern message. `headers` are the client's, checked against the message; `principal` is who
    /// asks, for what outlives the exchange.
    fn ask(
        &self,
        message: &Message,
        headers: &HeaderMap,
        principal: &Principal,
    ) -> impl Future<Output = Result<Reply, Failure>> + Send;

    /// The server's answer to `server/discover`.
    fn discover(&self) -> impl Future<Output = Result<Message, Failure>> + Send;

    /// Passes a legacy exchange through as it is. `session` is the upstream's session id; the reply's headers
    /// name the one it minted. Only for HTTP endpoints.
    fn relay(
        &self,
        ask: &Ask,
        headers: &HeaderMap,
        session: Option<&str>,
    ) -> impl Future<Output = Result<Reply, Failure>> + Send;

    /// Whether the server speaks an era by itself, without anybody translating.
    ///
    /// # Errors
    /// It cannot be asked now, which says nothing about its eras.
    fn speaks(&self, era: Era) -> impl Future<Output = Result<bool, Failure>> + Send;

    /// Changes when another process may answer than before: what was found out about the old one is void.
    fn generation(&self) -> u64;

    /// Finds out whether the server is there, without opening a session for it, without starting a process and without
    /// side effects.
    fn probe(&self) -> impl Future<Output = Result<Probe, Failure>> + Send;

    /// Ends what it holds: processes, pools.
    fn stop(&self) -> impl Future<Output = ()> + Send;
}

/// What a probe found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// It is there and speaks the modern era.
    Modern,
    /// It is there and completed a legacy handshake.
    Legacy,
    /// It answers, and not in the modern era.
    Answers,
    /// It is there, which says nothing about eras.
    Alive,
    /// It answered where the operator says that its health is, by this HTTP status, which is no success.
    Ill(u16),
    /// Nothing to ask without starting something only to ask it.
    Unknown,
}

/// A legacy session with one server, opened by the gateway for one client session. Cheap to clone.
pub trait Link: Clone + Send + Sync + 'static {
    /// The server's answer to `initialize`.
    fn handshake(&self) -> &Message;

    /// Sends a request; ids and tokens come back as they were sent.
    fn ask(&self, message: &Message) -> impl Future<Output = Result<Reply, Failure>> + Send;

    /// Sends a notification, or a response to a request of the server.
    fn tell(&self, message: &Message) -> impl Future<Output = Result<(), Failure>> + Send;

    /// What the server says beside answers.
    fn stream(&self) -> impl Future<Output = Result<Reply, Failure>> + Send;

    /// True when a request of the server, which comes by [`Link::stream`], can only be told to belong to a call
    /// while that call is the only one. Where this is false it comes with the answer of its call.
    fn one_at_a_time(&self) -> bool {
        false
    }

    /// False when the session is known to be over.
    fn is_open(&self) -> bool;

    /// Ends the session.
    fn close(&self) -> impl Future<Output = ()> + Send;
}
