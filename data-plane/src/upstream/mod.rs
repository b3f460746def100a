//! WHICH ENDPOINT, HOW LONG: picks the endpoint of an upstream for a call, keeps the upstream sessions of a
//! client session, bounds the time a call may take and counts what came of it.
//!
//! It must never look at names or rewrite messages (the router did), and never send a request twice that may have
//! run and may not run twice.

pub mod balance;
mod breaker;
mod gate;
mod gated;
mod guard;
mod handles;
mod health;
mod inspect;
mod linked;
mod marked;
mod messages;
mod modern;
mod outlier;
mod passing;
mod relay;
mod remembered;
mod reopen;
mod retry;
mod runtime;
mod settle;
mod store;
mod watch;

use crate::{
    call::{Ask, Call, Caller, Connect, Handle, Primary, Reply, Route, Upstreams},
    context::Context,
    failure::{Failure, Kind},
    joint,
    mcp::Message,
    plan,
};
use o1_proto::model::Store;
use runtime::Runtimes;
use std::sync::Arc;

/// The layer. Cheap to clone.
pub struct Upstream<C: Connect> {
    context: Context,
    runtimes: Arc<Runtimes<C>>,
}

impl<C: Connect> Clone for Upstream<C> {
    fn clone(&self) -> Self {
        Self { context: self.context.clone(), runtimes: self.runtimes.clone() }
    }
}

impl<C: Connect> Upstream<C> {
    /// The layer over `connect`. Follows the plan from now on: new upstreams are tried in the background,
    /// removed ones end once their calls have.
    #[must_use]
    pub fn new(context: &Context, connect: C) -> Self {
        let runtimes = Arc::new(Runtimes::new(context, connect));
        watch::start(context, &runtimes);
        Self { context: context.clone(), runtimes }
    }

    /// Sends a call to this very store.
    async fn at(&self, call: &Call, upstream: &Arc<plan::Upstream>) -> Result<Reply, Failure> {
        let runtime = self.runtimes.get(upstream)?;
        let asked = match (&call.caller, &call.ask) {
            (Caller::Modern, Ask::Message(message)) => {
                modern::ask(&self.context, &runtime, call, message).await
            }
            (Caller::Modern, _) => Err(Failure::new(Kind::InvalidRequest, "modern clients only POST")),
            (Caller::Legacy(session), _) if relay::fits(&runtime, &call.route, session.as_ref()).await => {
                relay::relay(&self.context, &runtime, call, session.as_ref()).await
            }
            (Caller::Legacy(Some(session)), _) => {
                linked::ask::<C>(&self.context, &runtime, call, session).await
            }
            (Caller::Legacy(None), _) => Err(Failure::new(
                Kind::MissingSession,
                "this route needs a session: send `initialize` first, then its Mcp-Session-Id",
            )),
        };
        asked.map_err(|failure| failure.at(&upstream.name))
    }
}

impl<C: Connect> Primary for Upstream<C> {
    async fn ask_primary(&self, call: Call, upstream: Arc<plan::Upstream>) -> Result<Reply, Failure> {
        self.at(&call, &upstream).await
    }
}

impl<C: Connect> Upstreams for Upstream<C> {
    async fn ask(&self, call: Call, upstream: Arc<plan::Upstream>) -> Result<Reply, Failure> {
        // One that lost its backup while that served is led home first.
        if upstream.backup.is_none() && !self.context.stores.is_away(&upstream.name) {
            return self.at(&call, &upstream).await;
        }
        // Boxed: it has room for what only some upstreams need.
        Box::pin(self.gated(call, upstream)).await
    }

    async fn handshake(&self, call: &Call, upstream: Arc<plan::Upstream>) -> Result<Message, Failure> {
        let reads = if upstream.backup.is_some() {
            self.context.stores.gate(&upstream.name).standing().reads
        } else {
            Store::Primary
        };
        let side = upstream.side(reads).ok_or_else(|| gated::not_in_the_snapshot(&upstream))?;
        let runtime = self.runtimes.get(side)?;
        match &call.caller {
            Caller::Modern => runtime.discover(call).await,
            Caller::Legacy(Some(session)) => {
                use crate::call::Link as _;
                Ok(linked::link::<C>(&runtime, call, session).await?.link.handshake().clone())
            }
            Caller::Legacy(None) => Err(Failure::new(Kind::MissingSession, "no session")),
        }
    }

    fn generation(&self, upstream: &plan::Upstream) -> u64 {
        let backup = upstream.backup_store().map_or(0, |backup| self.runtimes.generation(backup));
        self.runtimes.generation(upstream).wrapping_add(backup)
    }
}

impl<C: Connect> Handle for Upstream<C> {
    /// For calls that name their upstream by their route.
    async fn handle(&self, call: Call) -> Result<Reply, Failure> {
        match &call.route {
            Route::One(upstream) => {
                let upstream = upstream.clone();
                self.ask(call, upstream).await
            }
            Route::Server(_) => {
                Err(Failure::new(Kind::Internal, "the router names an upstream for each call"))
            }
        }
    }
}
