//! Legacy calls of a client session to one of its upstream sessions, which the gateway opens when it is first
//! needed and again when the upstream has lost it.

use super::{
    guard::{self, Guard},
    joint::Joint,
    remembered::Remembered,
    runtime::Runtime,
    settle::settled,
};
use crate::{
    call::{Ask, Backend, Call, Connect, Link, Reply, Route, Session, read_response},
    context::Context,
    failure::{Failure, Kind},
    mcp::{self, Era, Message, json, method},
    plan::Key,
};
use futures_util::FutureExt as _;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// The upstream sessions of one client session.
struct Links<L>(Mutex<Inner<L>>);

struct Inner<L> {
    by_upstream: HashMap<Key, Arc<Slot<L>>>,
    /// What a session with the upstream of a name has to be asked for again. It outlives the upstream's present
    /// credentials and settings: the client does not know that they changed.
    remembered: HashMap<String, Arc<Remembered>>,
}

/// One of them.
struct Slot<L> {
    link: Joint<At<L>>,
    remembered: Arc<Remembered>,
    /// Its upstream is served no more.
    retired: CancellationToken,
}

/// A link, and which endpoint it leads to.
#[derive(Clone)]
pub(super) struct At<L> {
    pub(super) link: L,
    endpoint: usize,
}

impl<L> Default for Links<L> {
    fn default() -> Self {
        Self(Mutex::new(Inner { by_upstream: HashMap::new(), remembered: HashMap::new() }))
    }
}

impl<L> Links<L> {
    fn lock(&self) -> MutexGuard<'_, Inner<L>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type LinkOf<C> = <<C as Connect>::Backend as Backend>::Link;

/// The session's link to an upstream, opened if need be where the balancer says, and there as long as it lives.
pub(super) async fn link<C: Connect>(
    runtime: &Arc<Runtime<C::Backend>>,
    call: &Call,
    session: &Session,
) -> Result<At<LinkOf<C>>, Failure> {
    let slot = slot::<C>(runtime, session);
    let opened = async {
        let opened = open(runtime, call, session, &slot.remembered).await;
        let at = opened.inspect_err(|failure| runtime.note(failure))?;
        runtime.reached();
        runtime.spoke(at.endpoint, Era::Legacy).await;
        Ok(at)
    };
    slot.link.get(|at| at.link.is_open(), opened).await
}

fn slot<C: Connect>(runtime: &Runtime<C::Backend>, session: &Session) -> Arc<Slot<LinkOf<C>>> {
    let (mut links, upstream) = (session.upstream_state::<Links<LinkOf<C>>>().lock(), &runtime.upstream);
    if let Some(slot) = links.by_upstream.get(&upstream.key) {
        return slot.clone();
    }
    // What took its place is here: sessions with what is gone end now.
    links.by_upstream.retain(|_, slot| !slot.retired.is_cancelled());
    let remembered = links.remembered.entry(upstream.name.clone()).or_default().clone();
    let slot = Arc::new(Slot { link: Joint::default(), remembered, retired: runtime.retired.clone() });
    links.by_upstream.insert(upstream.key, slot.clone());
    slot
}

/// Tries the endpoints one after the other: a handshake that failed has done nothing.
async fn open<B: Backend>(
    runtime: &Runtime<B>,
    call: &Call,
    session: &Session,
    remembered: &Remembered,
) -> Result<At<B::Link>, Failure> {
    let mut last = None;
    for endpoint in runtime.store.order(call) {
        let pass = match runtime.store.attempt(endpoint) {
            Ok(pass) => pass,
            Err(failure) => {
                last = last.or(Some(failure));
                continue;
            }
        };
        match runtime.endpoint_at(endpoint).open(&session.initialize).await {
            Ok(link) => {
                pass.answered();
                let ask = |request| {
                    let link = &link;
                    async move {
                        if let Ok(reply) = link.ask(&request).await {
                            let _ = read_response(reply).await;
                        }
                    }
                };
                remembered.replay(session, runtime.upstream.timeouts.connect, ask).await;
                return Ok(At { link, endpoint });
            }
            Err(failure) => {
                pass.failed(&failure);
                last = Some(failure);
            }
        }
    }
    Err(last.unwrap_or_else(|| Failure::new(Kind::Unreachable, "the upstream has no endpoint")))
}

/// A call of a session that lives through a link.
pub(super) async fn ask<C: Connect>(
    context: &Context,
    runtime: &Arc<Runtime<C::Backend>>,
    call: &Call,
    session: &Arc<Session>,
) -> Result<Reply, Failure> {
    match &call.ask {
        Ask::Message(message) if message.method() == method::INITIALIZE => {
            let at = link::<C>(runtime, call, session).await?;
            let id = message.id().unwrap_or_default();
            Ok(Reply::json(answer_of(at.link.handshake(), id, session.version).bytes().clone()))
        }
        Ask::Message(message) if message.kind() == mcp::Kind::Request => {
            request::<C>(context, runtime, call, session, message).await
        }
        Ask::Message(message) => {
            // The link completed its handshake when it was opened; what it never opened, nobody waits for.
            if message.method() != method::INITIALIZED
                && let Some(link) = opened::<C>(runtime, session)
            {
                match guard::within(runtime, link.tell(message)).await {
                    // It was about something in the session that is gone, or another link begins without it.
                    Err(failure) if failure.kind == Kind::SessionLost => {}
                    told => told?,
                }
            }
            Ok(Reply::accepted())
        }
        Ask::Stream => {
            let exchange = async { link::<C>(runtime, call, session).await?.link.stream().await };
            guard::stream(exchange, runtime, context, Some(session), None).await
        }
        Ask::End => {
            if let Some(link) = opened::<C>(runtime, session) {
                link.close().await;
            }
            Ok(Reply::accepted())
        }
    }
}

async fn request<C: Connect>(
    context: &Context,
    runtime: &Arc<Runtime<C::Backend>>,
    call: &Call,
    session: &Arc<Session>,
    message: &Message,
) -> Result<Reply, Failure> {
    let mut reopened = false;
    loop {
        let At { link, endpoint } = link::<C>(runtime, call, session).await?;
        let place = runtime.store.enter(endpoint).await?;
        let on_timeout = cancel(context, &link, message, runtime.upstream.timeouts.connect);
        let exchange = async {
            let reply = link.ask(message).await?;
            match call.route {
                Route::One(_) => Ok(reply),
                Route::Server(_) => settled(reply, message.id().unwrap_or_default(), Era::Legacy).await,
            }
        };
        match Guard::new(runtime, place, message, Some(session), on_timeout).answer(exchange).await {
            // The server did not know the session, so it cannot have run the call.
            Err(failure) if failure.kind == Kind::SessionLost && !reopened => {
                tracing::debug!(upstream = runtime.upstream.name, "upstream session lost, opening another");
                reopened = true;
            }
            answered => {
                if answered.as_ref().is_ok_and(|reply| reply.status.is_success()) {
                    slot::<C>(runtime, session).remembered.observe(session, message);
                }
                return answered;
            }
        }
    }
}

fn cancel<L: Link>(
    context: &Context,
    link: &L,
    message: &Message,
    limit: Duration,
) -> Option<guard::OnTimeout> {
    let note = guard::cancelled(message)?;
    let (tasks, link) = (context.tasks.clone(), link.clone());
    Some(Box::new(move || {
        let mut told = Box::pin(async move {
            let _ = tokio::time::timeout(limit, link.tell(&note)).await;
        });
        // A process is told at once, while its request is still known. An HTTP server takes its time.
        if told.as_mut().now_or_never().is_none() {
            tasks.spawn("cancel a timed-out call", o1_process::OnExit::Quiet, told);
        }
    }))
}

/// The link, if it is open and nobody is opening it.
fn opened<C: Connect>(runtime: &Runtime<C::Backend>, session: &Session) -> Option<LinkOf<C>> {
    let links = session.upstream_state::<Links<LinkOf<C>>>();
    let slot = links.lock().by_upstream.get(&runtime.upstream.key)?.clone();
    let At { link, .. } = slot.link.peek()?;
    link.is_open().then_some(link)
}

/// The handshake as one client's answer: its own id, and the revision negotiated with this client.
fn answer_of(handshake: &Message, id: &[u8], version: &str) -> Message {
    let mut edits = Vec::new();
    if let Some(at) = handshake.id_span() {
        edits.push((at, id.to_vec()));
    }
    if let Some(result) = handshake.result()
        && let Ok(Some(at)) = json::find(handshake.bytes(), &result, &["protocolVersion"])
    {
        edits.push((at, json::quote(version)));
    }
    handshake.spliced(edits)
}
