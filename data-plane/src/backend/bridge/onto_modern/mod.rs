//! A legacy session in front of a server that speaks only 2026-07-28.

use crate::{
    call::{self, Backend, Reply},
    failure::{Failure, Kind},
    mcp::Message,
};
use std::{convert::Infallible, marker::PhantomData, sync::Arc};

/// The session. There is none yet: each is refused.
pub struct Link<B> {
    none: Infallible,
    _server: PhantomData<fn() -> B>,
}

impl<B> Clone for Link<B> {
    fn clone(&self) -> Self {
        match self.none {}
    }
}

impl<B: Backend> Link<B> {
    /// A session for the client that sent `initialize`.
    #[expect(clippy::unused_async, reason = "a session will ask the server")]
    pub(super) async fn open(_backend: Arc<B>, _initialize: &Message) -> Result<Self, Failure> {
        Err(Failure::new(Kind::WrongEra, "the upstream speaks only revision 2026-07-28"))
    }
}

impl<B: Backend> call::Link for Link<B> {
    fn handshake(&self) -> &Message {
        match self.none {}
    }

    async fn ask(&self, _message: &Message) -> Result<Reply, Failure> {
        match self.none {}
    }

    async fn tell(&self, _message: &Message) -> Result<(), Failure> {
        match self.none {}
    }

    async fn stream(&self) -> Result<Reply, Failure> {
        match self.none {}
    }

    fn is_open(&self) -> bool {
        match self.none {}
    }

    async fn close(&self) {
        match self.none {}
    }
}
