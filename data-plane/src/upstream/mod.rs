//! WHICH ENDPOINT, HOW LONG: picks the endpoint of an upstream for a call, keeps the upstream sessions of a
//! client session, bounds the time a call may take and counts what came of it.
//!
//! It must never look at names or rewrite messages (the router did), and never send a request twice unless
//! the server is known not to have seen it.

mod guard;
mod handles;
mod inspect;
mod linked;
mod messages;
mod passing;
mod relay;
mod remembered;
mod reopen;
mod runtime;
mod settle;
mod watch;

use crate::{
    call::{Ask, Call, Caller, Connect, Handle, Reply, Route, Upstreams},
    context::Context,
    failure::{Failure, Kind},
    joint,
    mcp::{self, Era, Message, method},
    plan,
};
use runtime::{Runtime, Runtimes};
use std::sync::Arc;

/// The layer.
pub struct Upstream<C: Connect> {
    context: Context,
    runtimes: Arc<Runtimes<C>>,
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

    async fn modern(
        &self,
        call: &Call,
        message: &Message,
        runtime: &Arc<Runtime<C::Backend>>,
    ) -> Result<Reply, Failure> {
        use crate::call::Backend as _;
        let handles::Opened { message, headers, endpoint, sealer } =
            handles::open(&self.context, call, message, &runtime.upstream)?;
        let message = &message;
        let at = endpoint.unwrap_or_else(|| runtime.pick());
        let backend = runtime.endpoint_at(at);
        if message.kind() != mcp::Kind::Request {
            return guard::within(runtime, backend.ask(message, &headers, &call.principal)).await;
        }
        let exchange = async {
            let mut reply = backend.ask(message, &headers, &call.principal).await?;
            if matches!(call.route, Route::Server(_)) && message.method() != method::LISTEN {
                reply = settle::settled(reply, message.id().unwrap_or_default(), Era::Modern).await?;
            }
            match sealer {
                Some(sealer) => sealer.seal(reply, at).await,
                None => Ok(reply),
            }
        };
        if message.method() == method::LISTEN {
            let farewell = guard::listen_farewell(message);
            return guard::stream(exchange, runtime, &self.context, None, farewell).await;
        }
        let guard = guard::Guard::new(runtime, message, None, None);
        let reply = guard.answer(exchange).await?;
        if reply.status.is_success() {
            runtime.spoke(Era::Modern).await;
        }
        Ok(reply)
    }
}

impl<C: Connect> Upstreams for Upstream<C> {
    async fn ask(&self, call: Call, upstream: Arc<plan::Upstream>) -> Result<Reply, Failure> {
        let runtime = self.runtimes.get(&upstream)?;
        let asked = match (&call.caller, &call.ask) {
            (Caller::Modern, Ask::Message(message)) => self.modern(&call, message, &runtime).await,
            (Caller::Modern, _) => Err(Failure::new(Kind::InvalidRequest, "modern clients only POST")),
            (Caller::Legacy(session), _) if relay::fits(&runtime, &call.route, session.as_ref()).await => {
                relay::relay(&self.context, &runtime, &call, session.as_ref()).await
            }
            (Caller::Legacy(Some(session)), _) => {
                linked::ask::<C>(&self.context, &runtime, &call, session).await
            }
            (Caller::Legacy(None), _) => Err(Failure::new(
                Kind::MissingSession,
                "this route needs a session: send `initialize` first, then its Mcp-Session-Id",
            )),
        };
        asked.map_err(|failure| failure.at(&upstream.name))
    }

    async fn handshake(&self, call: &Call, upstream: Arc<plan::Upstream>) -> Result<Message, Failure> {
        let runtime = self.runtimes.get(&upstream)?;
        match &call.caller {
            Caller::Modern => runtime.discover().await,
            Caller::Legacy(Some(session)) => {
                use crate::call::Link as _;
                Ok(linked::link::<C>(&runtime, session).await?.handshake().clone())
            }
            Caller::Legacy(None) => Err(Failure::new(Kind::MissingSession, "no session")),
        }
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
