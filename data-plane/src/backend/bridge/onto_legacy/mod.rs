//! Modern clients in front of a server that speaks only the legacy era (mcp-protocol: "C modern → U legacy").
//!
//! Owns the legacy sessions that carry their calls, and the calls that wait for answers of their clients. It must
//! never send a request twice unless the server is known not to have run it, never let one principal's session
//! serve another, and never rebuild what it only passes on.

mod answer;
mod envelope;
mod exchange;
mod inputs;
mod line;
mod listen;
mod parked;
mod pool;
#[cfg(test)]
mod tests;

use crate::{
    call::{Backend, Link as _, Reply},
    failure::{Failure, Kind},
    mcp::{self, Message, method},
    plan::Key,
    principal::Principal,
    seal::Keyring,
};
use envelope::Asked;
use exchange::Exchange;
use line::Sharers;
use o1_process::Tasks;
use parked::{Holder, Parked};
use pool::Pool;
use std::sync::Arc;

/// What the translators of all endpoints share.
pub(super) struct Shared<B: Backend> {
    tasks: Tasks,
    parked: Arc<Parked<B>>,
}

impl<B: Backend> Shared<B> {
    pub(super) fn new(tasks: &Tasks, keyring: &Arc<Keyring>) -> Self {
        Self { tasks: tasks.clone(), parked: Parked::new(tasks, keyring) }
    }
}

/// The modern face of one endpoint.
pub(super) struct OntoLegacy<B: Backend> {
    upstream: Key,
    parked: Arc<Parked<B>>,
    pool: Arc<Pool<B>>,
}

/// What a call needs to be parked.
pub(super) struct Desk<B: Backend> {
    parked: Arc<Parked<B>>,
    upstream: Key,
    principal: Principal,
}

impl<B: Backend> Desk<B> {
    fn park(&self, exchange: Exchange<B>) -> Result<String, Failure> {
        self.parked.keep(exchange, &Holder { upstream: &self.upstream, principal: &self.principal })
    }
}

impl<B: Backend> OntoLegacy<B> {
    pub(super) fn new(native: Arc<B>, upstream: Key, shared: &Shared<B>) -> Self {
        let pool = Pool::new(native, &shared.tasks);
        Self { upstream, parked: shared.parked.clone(), pool }
    }

    /// Answers a modern message.
    pub(super) async fn ask(&self, message: &Message, principal: &Principal) -> Result<Reply, Failure> {
        if message.kind() != mcp::Kind::Request {
            // Nothing a modern client notifies over HTTP concerns an upstream (2026-07-28, "cancellation").
            return Ok(Reply::accepted());
        }
        let asked = Asked::read(message)?;
        match message.method() {
            method::DISCOVER => {
                let answer = self.discovered(&asked, &principal.id).await?;
                Ok(Reply::json(answer.bytes().clone()))
            }
            method::LISTEN => {
                listen::listen(self.pool.clone(), message, &sharers(&asked, &principal.id)).await
            }
            gone if method::REMOVED.contains(&gone) || gone.starts_with("tasks/") => {
                Err(Failure::new(Kind::UnknownMethod, format!("Method not found: {gone}")))
            }
            _ if asked.state.is_some() => {
                let holder = Holder { upstream: &self.upstream, principal };
                self.parked.find(&asked, &holder)?.resume(asked).await
            }
            _ => {
                let desk = Desk {
                    parked: self.parked.clone(),
                    upstream: self.upstream,
                    principal: principal.clone(),
                };
                let (desk, pool) = (Arc::new(desk), self.pool.clone());
                Ok(Exchange::begin(desk, pool, message, asked, &principal.id).await?.into_reply())
            }
        }
    }

    /// What the server is to a client that declares nothing.
    pub(super) async fn discover(&self) -> Result<Message, Failure> {
        let nobody = Sharers { principal: "".into(), declared: "{}".into() };
        let line = self.pool.line(&nobody).await?;
        Ok(answer::discovered(b"\"o1-discover\"", line.link.handshake(), line.streams().await))
    }

    async fn discovered(&self, asked: &Asked, principal: &str) -> Result<Message, Failure> {
        let line = self.pool.line(&sharers(asked, principal)).await?;
        Ok(answer::discovered(&asked.id, line.link.handshake(), line.streams().await))
    }

    /// Ends every session.
    pub(super) async fn stop(&self) {
        self.pool.close().await;
    }
}

fn sharers(asked: &Asked, principal: &str) -> Sharers {
    Sharers { principal: principal.into(), declared: asked.declared().into() }
}
