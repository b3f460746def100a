//! WHO IS ASKING: the sessions of legacy clients. Mints their ids, finds them again, gives each its one GET
//! stream, ends them when the client says so, falls silent, or its upstream is gone.
//!
//! It must never look into a message beyond `initialize`, nor know what its upstreams are.

mod lease;
mod table;

use crate::{
    call::{Ask, Call, Caller, Handle, Reply, Route, Session},
    context::Context,
    failure::{Failure, Kind},
    mcp::{self, Message, era, header, method},
    plan::{Key, Plan},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, StatusCode};
use o1_process::OnExit;
use std::{sync::Arc, time::Duration};
use table::Table;
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
}

impl<N: Handle> Sessions<N> {
    /// The layer over `next`. From now on it ends sessions that are silent or whose upstream is gone.
    #[must_use]
    pub fn new(context: &Context, next: N) -> Arc<Self> {
        let sessions = Arc::new(Self { context: context.clone(), next, table: Table::new(&context.metrics) });
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
        let now = Instant::now();
        let over = self.table.all().into_iter().filter(|session| {
            let silent = session.idle(now) >= plan.clients.session_idle;
            silent || session.upstream.is_some_and(|key| plan.upstreams.iter().all(|one| one.key != key))
        });
        // Several at a time: an upstream that does not answer must not keep the others waiting.
        futures_util::stream::iter(over)
            .for_each_concurrent(ENDS_AT_ONCE, |session| async move { self.end(&session, plan).await })
            .await;
    }

    /// Takes a session out and lets the upstreams know.
    async fn end(&self, session: &Arc<Session>, plan: &Arc<Plan>) {
        self.table.remove(&session.id);
        session.ended.cancel();
        let route = match session.upstream {
            None => {
                let server = session.server.as_deref().and_then(|name| plan.server(name));
                Route::Server(server.unwrap_or(&plan.everything).clone())
            }
            Some(key) => match plan.by_key(&key) {
                Some(upstream) => Route::One(upstream.clone()),
                None => return, // its upstream is gone, and with it the upstream's session
            },
        };
        let caller = Caller::Legacy(Some(session.clone()));
        let (principal, headers) = (session.principal.clone(), http::HeaderMap::new());
        let call = Call { plan: plan.clone(), route, principal, caller, ask: Ask::End, headers };
        let limit = Duration::from_secs(5);
        if tokio::time::timeout(limit, self.next.handle(call)).await.is_err() {
            tracing::debug!("an upstream did not confirm the end of a session in time");
        }
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
                Route::One(upstream) if upstream.is_http() => self.next.handle(call).await,
                _ => Err(Failure::new(
                    Kind::MissingSession,
                    "this route needs a session: send `initialize` first, then its Mcp-Session-Id",
                )),
            };
        };
        let session = self.find(&named, &call)?;
        session.touch(Instant::now());
        call.caller = Caller::Legacy(Some(session.clone()));
        match &call.ask {
            Ask::Stream => self.stream(call, session).await,
            Ask::End => {
                let plan = call.plan.clone();
                self.end(&session, &plan).await;
                Ok(Reply { status: StatusCode::OK, ..Reply::accepted() })
            }
            Ask::Message(_) => {
                let relayed = session.relayed.get() == Some(&true);
                let reply = self.next.handle(call).await?;
                session.touch(Instant::now());
                if relayed && reply.status == StatusCode::NOT_FOUND {
                    // The upstream forgot the session; the client will start over with another.
                    self.table.remove(&session.id);
                    session.ended.cancel();
                }
                Ok(reply)
            }
        }
    }

    async fn initialize(&self, mut call: Call, message: &Message) -> Result<Reply, Failure> {
        if self.context.readiness.is_draining() {
            return Err(Failure::new(Kind::Draining, "this node is going away: connect again"));
        }
        if self.table.len() >= call.plan.clients.max_sessions as usize {
            return Err(Failure::new(Kind::TooManySessions, "this node holds as many sessions as it may"));
        }
        let asked = message
            .param_str(&["protocolVersion"])
            .map_err(|malformed| Failure::new(Kind::InvalidParams, malformed.0))?;
        let version = era::negotiate(&asked.unwrap_or_default());
        let upstream: Option<Key> = match &call.route {
            Route::Server(_) => None,
            Route::One(upstream) => Some(upstream.key),
        };
        let server = match &call.route {
            Route::Server(server) => server.name.clone(),
            Route::One(_) => None,
        };
        let session = Arc::new(
            Session::new(table::mint(), call.principal.clone(), kept(message)?, version, upstream).of(server),
        );
        call.caller = Caller::Legacy(Some(session.clone()));
        let mut reply = self.next.handle(call).await?;
        // A server behind a transparent route decides itself whether it has sessions.
        let relayed = session.relayed.get() == Some(&true);
        if reply.status.is_success() && (!relayed || reply.headers.contains_key(header::SESSION_ID)) {
            let id = HeaderValue::from_str(&session.id).expect("our ids are hexadecimal");
            reply.headers.insert(header::SESSION_ID, id);
            self.table.insert(session);
        }
        Ok(reply)
    }

    async fn stream(&self, call: Call, session: Arc<Session>) -> Result<Reply, Failure> {
        let Some(lease) = lease::Lease::take(&session) else {
            return Err(Failure::new(Kind::StreamTaken, "this session has its GET stream already"));
        };
        let reply = self.next.handle(call).await?;
        Ok(lease::held(reply, lease))
    }

    /// A session of this route; any other is as unknown as one that never was.
    fn find(&self, named: &HeaderValue, call: &Call) -> Result<Arc<Session>, Failure> {
        let unknown = || {
            Failure::new(
                Kind::UnknownSession,
                "unknown or ended session: send `initialize` without Mcp-Session-Id",
            )
        };
        let session = named.to_str().ok().and_then(|id| self.table.get(id)).ok_or_else(unknown)?;
        let fits = match &call.route {
            Route::Server(server) => session.upstream.is_none() && session.server == server.name,
            Route::One(upstream) => session.upstream == Some(upstream.key),
        };
        if fits && session.principal.id == call.principal.id { Ok(session) } else { Err(unknown()) }
    }
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
            Caller::Legacy(_) => self.legacy(call).await,
            Caller::Modern => {
                // No session in this era: a stray id is ignored (2026-07-28, Streamable HTTP).
                call.headers.remove(header::SESSION_ID);
                self.next.handle(call).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initialize(name: &str) -> Message {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"clientInfo":{{"name":"{name}"}}}}}}"#
        );
        Message::parse(&Bytes::from(text)).unwrap()
    }

    #[test]
    fn a_session_keeps_its_initialize_and_nothing_of_the_buffer_it_came_in() {
        let small = initialize("client");
        let own = kept(&small).unwrap();
        assert_eq!(own.bytes(), small.bytes());
        assert_ne!(own.bytes().as_ptr(), small.bytes().as_ptr());
        let refused = kept(&initialize(&"x".repeat(INITIALIZE_MAX))).unwrap_err();
        assert_eq!(refused.kind, Kind::InvalidRequest);
    }
}
