//! WHO IS ASKING: the sessions of legacy clients. Seals their ids, finds them again and takes up those of other
//! nodes, gives each its one GET stream and what it missed, ends them when the client says so, falls silent, has
//! lived long enough, or its upstream is gone.
//!
//! It must never look into a message beyond `initialize`, nor know what its upstreams are.

mod ended;
mod lease;
mod replay;
mod table;
mod token;

use crate::{
    call::{Ask, Body, Call, Caller, Handle, Opening, Remote, Reply, Route, Session},
    context::Context,
    failure::{Failure, Kind},
    mcp::{self, Message, era, header, method},
    plan::Plan,
};
use bytes::Bytes;
use ended::Ended;
use futures_util::StreamExt as _;
use http::{HeaderValue, StatusCode};
use lease::Lease;
use o1_process::OnExit;
use replay::Replay;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use table::Table;
use token::{Inside, RemoteMark};
use tokio::time::Instant;

/// How often silent sessions are looked for.
const REAP_EVERY: Duration = Duration::from_secs(5);
/// How many sessions are ended at a time.
const ENDS_AT_ONCE: usize = 32;
/// The largest `initialize`: it is kept as long as its session.
const INITIALIZE_MAX: usize = 64 << 10;

/// The layer.
pub struct Sessions<N> {
    context: Context,
    next: N,
    table: Table,
    ended: Ended,
}

impl<N> Sessions<N> {
    /// The layer below, for questions that are no calls.
    #[must_use]
    pub fn below(&self) -> &N {
        &self.next
    }
}

impl<N: Handle> Sessions<N> {
    /// The layer over `next`. From now on it ends sessions that are silent or whose upstream is gone.
    #[must_use]
    pub fn new(context: &Context, next: N) -> Arc<Self> {
        let sessions = Arc::new(Self {
            context: context.clone(),
            next,
            table: Table::new(&context.metrics),
            ended: Ended::default(),
        });
        let (reaper, stopping, mut plans) =
            (sessions.clone(), context.tasks.stopping(), context.current.watch());
        context.tasks.spawn("sessions", OnExit::Shutdown, async move {
            loop {
                let plan = plans.borrow_and_update().clone();
                tokio::select! {
                    () = reaper.reap(&plan) => {}
                    () = stopping.cancelled() => break,
                }
                tokio::select! {
                    () = tokio::time::sleep(REAP_EVERY) => {}
                    changed = plans.changed() => if changed.is_err() { break },
                    () = stopping.cancelled() => break,
                }
            }
            stopping.cancelled().await;
            for session in reaper.table.drain() {
                session.ended.cancel();
            }
        });
        sessions
    }

    async fn reap(&self, plan: &Arc<Plan>) {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let over = self.table.all().into_iter().filter(|session| {
            let silent = session.idle(now) >= plan.clients.session_idle;
            silent
                || is_over(session.began, wall, plan)
                || session.upstream.is_some_and(|identity| plan.by_identity(&identity).is_none())
        });
        // Several at a time: an upstream that does not answer must not keep the others waiting.
        futures_util::stream::iter(over)
            .for_each_concurrent(ENDS_AT_ONCE, |session| async move { self.end(&session, plan).await })
            .await;
    }

    /// Takes a session out and lets the upstreams know.
    async fn end(&self, session: &Arc<Session>, plan: &Arc<Plan>) {
        self.forget(session);
        let route = match session.upstream {
            None => {
                let server = session.server.as_deref().and_then(|name| plan.server(name));
                Route::Server(server.unwrap_or(&plan.everything).clone())
            }
            Some(identity) => match plan.by_identity(&identity) {
                Some(upstream) => Route::One(upstream.clone()),
                None => return, // its upstream is gone, and with it the upstream's session
            },
        };
        let caller = Caller::Legacy(Some(session.clone()));
        let (principal, headers) = (session.principal.clone(), http::HeaderMap::new());
        let call =
            Call { plan: plan.clone(), route, principal, caller, ask: Ask::End, headers, fresh: false };
        let limit = Duration::from_secs(5);
        if tokio::time::timeout(limit, self.next.handle(call)).await.is_err() {
            tracing::debug!("an upstream did not confirm the end of a session in time");
        }
    }

    /// Takes a session out; its id is as unknown from now on as one that never was.
    fn forget(&self, session: &Session) {
        self.ended.insert(session.serial);
        self.table.remove(session);
        session.ended.cancel();
    }

    async fn legacy(&self, mut call: Call) -> Result<Reply, Failure> {
        let named = call.headers.remove(header::SESSION_ID);
        if let Ask::Message(message) = &call.ask
            && message.kind() == mcp::Kind::Request
            && message.method() == method::INITIALIZE
        {
            let message = message.clone();
            return self.initialize(call, &message).await;
        }
        let Some(named) = named else {
            // Servers without sessions exist; only a route that passes bytes through can leave it to them.
            return match &call.route {
                Route::One(_) => self.next.handle(call).await,
                Route::Server(_) => Err(Failure::new(
                    Kind::MissingSession,
                    "this route needs a session: send `initialize` first, then its Mcp-Session-Id",
                )),
            };
        };
        let session = self.find(&named, &call)?;
        session.touch(Instant::now());
        call.caller = Caller::Legacy(Some(session.clone()));
        match &call.ask {
            Ask::End => {
                let plan = call.plan.clone();
                self.end(&session, &plan).await;
                return Ok(Reply { status: StatusCode::OK, ..Reply::accepted() });
            }
            Ask::Stream => self.stream(call, session.clone()).await,
            Ask::Message(_) => self.next.handle(call).await,
        }
        .inspect(|_| session.touch(Instant::now()))
        .inspect_err(|failure| {
            if failure.kind == Kind::UnknownSession {
                // The upstream forgot the session and refuses another; the client will start over.
                self.forget(&session);
            }
        })
    }

    async fn initialize(&self, mut call: Call, message: &Message) -> Result<Reply, Failure> {
        if self.context.readiness.is_draining() {
            return Err(Failure::new(Kind::Draining, "this node takes no new sessions: connect again"));
        }
        self.has_room(&call.plan)?;
        let asked = message
            .param_str(&["protocolVersion"])
            .map_err(|malformed| Failure::new(Kind::InvalidParams, malformed.0))?;
        let version = era::negotiate(&asked.unwrap_or_default());
        let session = Arc::new(opened(table::mint(), SystemTime::now(), kept(message)?, version, &call));
        // Before anything is opened for a client that cannot be given an id.
        self.id(&session, &call)?;
        call.caller = Caller::Legacy(Some(session.clone()));
        let mut reply = self.next.handle(call.clone()).await?;
        // A server behind a transparent route decides itself whether it has sessions.
        let relayed = session.relayed.get() == Some(&true);
        if reply.status.is_success() && (!relayed || session.remote().is_some()) {
            let id = self.id(&session, &call)?;
            let value = HeaderValue::from_str(&id).expect("a token is visible ASCII");
            reply.headers.insert(header::SESSION_ID, value);
            self.table.insert(id.into(), session);
        }
        Ok(reply)
    }

    /// The id of a session, which another node can go on with.
    fn id(&self, session: &Session, call: &Call) -> Result<String, Failure> {
        let remote = session.remote().zip(match &call.route {
            Route::One(upstream) => Some(upstream),
            Route::Server(_) => None,
        });
        let remote = remote.and_then(|(remote, upstream)| {
            let endpoint = upstream.side(remote.store)?.endpoint_mark(remote.endpoint)?;
            Some(RemoteMark { endpoint, id: remote.id.clone() })
        });
        let inside = Inside {
            serial: session.serial,
            began: session.began,
            route: call.route.name(),
            version: session.version,
            params: Bytes::copy_from_slice(session.initialize.params().unwrap_or(b"{}")),
            remote,
        };
        inside.seal(&self.context.keyring, &call.principal)
    }

    fn has_room(&self, plan: &Plan) -> Result<(), Failure> {
        if self.table.len() >= plan.clients.max_sessions as usize {
            return Err(Failure::new(Kind::TooManySessions, "this node holds as many sessions as it may"));
        }
        Ok(())
    }

    async fn stream(&self, mut call: Call, session: Arc<Session>) -> Result<Reply, Failure> {
        let replay: &Replay = session.stream_state();
        let last = call.headers.get(header::LAST_EVENT_ID).and_then(|last| last.to_str().ok());
        let last = last.map(str::to_owned);
        let is_theirs =
            session.relayed.get() == Some(&true) && last.as_ref().is_some_and(|last| !replay::is_own(last));
        if !is_theirs {
            // It says nothing to an upstream.
            call.headers.remove(header::LAST_EVENT_ID);
        }
        let lease = if is_theirs && replay.is_fed() { None } else { Lease::take(&session) };
        let Some(lease) = lease else {
            if is_theirs {
                // The stream of a call, taken up beside the session's own: the upstream knows which.
                return self.next.handle(call).await;
            }
            return Err(Failure::new(Kind::StreamTaken, "this session has its GET stream already"));
        };
        let mut reply = Reply { status: StatusCode::OK, ..Reply::accepted() };
        if !replay.is_fed() {
            reply = self.next.handle(call).await?;
            let Body::Messages(messages) = reply.body else {
                // It passes through, with the upstream's own ids.
                return Ok(lease::held(reply, lease));
            };
            let (feeding, ended) = (replay.feed(messages), session.ended.clone());
            self.context.tasks.spawn("session stream", OnExit::Quiet, async move {
                tokio::select! {
                    () = feeding => {}
                    () = ended.cancelled() => {}
                }
            });
        }
        // Earlier revisions know no events without data.
        let primed = session.version == era::LEGACY[0];
        let events = replay.stream(last.as_deref(), primed, lease);
        Ok(Reply { body: Body::Events(events), ..reply })
    }

    /// A session of this route and principal; any other is as unknown as one that never was.
    fn find(&self, named: &HeaderValue, call: &Call) -> Result<Arc<Session>, Failure> {
        let named = named.to_str().map_err(|_| unknown())?;
        let Some(session) = self.table.get(named) else { return self.take_up(named, call) };
        let fits = match &call.route {
            Route::Server(server) => session.upstream.is_none() && session.server == server.name,
            Route::One(upstream) => session.upstream == Some(upstream.identity),
        };
        if fits && session.principal.id == call.principal.id { Ok(session) } else { Err(unknown()) }
    }

    /// A session that another node, or another life of this one, opened.
    fn take_up(&self, named: &str, call: &Call) -> Result<Arc<Session>, Failure> {
        let inside = Inside::open(&self.context.keyring, &call.principal, named)
            .filter(|inside| inside.route == call.route.name())
            .filter(|inside| !self.ended.contains(&inside.serial))
            .filter(|inside| !is_over(inside.began, SystemTime::now(), &call.plan))
            .ok_or_else(unknown)?;
        self.has_room(&call.plan)?;
        let initialize = inside.initialize().ok_or_else(unknown)?;
        let session = opened(inside.serial, inside.began, initialize, inside.version, call);
        let _ = session.relayed.set(inside.remote.is_some());
        if let (Some(mark), Route::One(upstream)) = (inside.remote, &call.route)
            && let (Some((store, endpoint)), id @ Some(_)) =
                (upstream.anywhere_marked(mark.endpoint), mark.id)
        {
            session.set_remote(Remote { store, endpoint, id });
        }
        tracing::debug!(route = inside.route, "took up a session of another node");
        Ok(self.table.insert(named.into(), Arc::new(session)))
    }
}

fn unknown() -> Failure {
    let what = "unknown or ended session: send `initialize` without Mcp-Session-Id";
    Failure::new(Kind::UnknownSession, what)
}

/// Whether a session has lived for as long as it may.
fn is_over(began: SystemTime, now: SystemTime, plan: &Plan) -> bool {
    now.duration_since(began).is_ok_and(|age| age >= plan.clients.session_lifetime)
}

/// A session on the route of a call.
fn opened(
    serial: crate::call::Serial,
    began: SystemTime,
    initialize: Message,
    version: &'static str,
    call: &Call,
) -> Session {
    let (upstream, server) = match &call.route {
        Route::Server(server) => (None, server.name.clone()),
        Route::One(upstream) => (Some(upstream.identity), None),
    };
    let principal = call.principal.clone();
    Session::new(Opening { serial, began, principal, initialize, version, upstream, server })
}

/// An `initialize` in memory of its own, to be kept: the buffer it came in may be many times its size.
fn kept(initialize: &Message) -> Result<Message, Failure> {
    let bytes = initialize.bytes();
    if bytes.len() > INITIALIZE_MAX {
        let what = format!("an `initialize` has at most {} KiB", INITIALIZE_MAX >> 10);
        return Err(Failure::new(Kind::InvalidRequest, what));
    }
    Ok(Message::parse(&Bytes::copy_from_slice(bytes)).expect("a copy of a message is a message"))
}

impl<N: Handle> Handle for Sessions<N> {
    async fn handle(&self, mut call: Call) -> Result<Reply, Failure> {
        match call.caller {
            // Boxed: a connection keeps room for the largest call it may carry.
            Caller::Legacy(_) => Box::pin(self.legacy(call)).await,
            Caller::Modern => {
                // No session in this era: a stray id is ignored (2026-07-28, Streamable HTTP).
                call.headers.remove(header::SESSION_ID);
                self.next.handle(call).await
            }
        }
    }
}

#[cfg(test)]
mod tests;
