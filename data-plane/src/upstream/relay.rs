//! Legacy exchanges on a route of one HTTP upstream: bytes through, only the session id is swapped, because
//! the client's names the endpoint too. An upstream session that is lost is opened again, once, unnoticed.
//!
//! It must never send again what may have run: only what the server refused because it did not know the session.

use super::{
    guard::{self, Guard},
    remembered::Remembered,
    reopen, retry,
    runtime::Runtime,
    store::Place,
};
use crate::{
    call::{Ask, Backend, Call, Remote, Reply, Route, Session},
    context::Context,
    failure::{Failure, Kind},
    joint::Joint,
    mcp::{self, Era, header, method},
};
use http::HeaderValue;
use o1_proto::model::Store;
use std::sync::Arc;

/// What the layer keeps for a session that passes through.
#[derive(Default)]
pub(super) struct Passing {
    pub(super) remembered: Remembered,
    /// The upstream session that took the place of a lost one.
    pub(super) reopened: Joint<Arc<Remote>>,
}

/// True when bytes can pass through: on the route of one HTTP upstream that speaks the client's era. Decided
/// once for a session.
pub(super) async fn fits<B: Backend>(
    runtime: &Runtime<B>,
    route: &Route,
    session: Option<&Arc<Session>>,
) -> bool {
    if !matches!(route, Route::One(_)) || !runtime.upstream.is_http() {
        return false;
    }
    if let Some(decided) = session.and_then(|session| session.relayed.get()) {
        // It was decided at the primary; a backup need not speak what that speaks.
        return *decided
            && (runtime.upstream.store == Store::Primary
                || runtime.speaks(Era::Legacy).await.unwrap_or(true));
    }
    // An upstream that does not answer shall say so itself.
    let fits = runtime.speaks(Era::Legacy).await.unwrap_or(true);
    session.map_or(fits, |session| *session.relayed.get_or_init(|| fits))
}

/// Passes one exchange through.
pub(super) async fn relay<B: Backend>(
    context: &Context,
    runtime: &Arc<Runtime<B>>,
    call: &Call,
    session: Option<&Arc<Session>>,
) -> Result<Reply, Failure> {
    let Some(session) = session else {
        let (remote, place) = anywhere(runtime, call).await?;
        let (reply, _) = pass(context, runtime, call, None, To { remote: &remote, place }).await?;
        return Ok(reply);
    };
    match &call.ask {
        Ask::Message(message) if message.method() == method::INITIALIZE => {
            open(context, runtime, call, session).await
        }
        Ask::End => match here(runtime, session) {
            Some(remote) => match pass(context, runtime, call, Some(session), To::one(&remote)).await {
                Err(failure) if failure.kind == Kind::SessionLost => Ok(Reply::accepted()),
                ended => ended.map(|(reply, _)| reply),
            },
            None => Ok(Reply::accepted()),
        },
        _ => go_on(context, runtime, call, session).await,
    }
}

/// An endpoint for an exchange without a session, and a place there if an answer is waited for.
async fn anywhere<B: Backend>(
    runtime: &Arc<Runtime<B>>,
    call: &Call,
) -> Result<(Remote, Option<Place>), Failure> {
    let place = if is_request(&call.ask) { Some(runtime.store.take(call, &[]).await?) } else { None };
    let endpoint = place.as_ref().map_or_else(|| runtime.store.pass(call), |place| Ok(place.at()))?;
    Ok((Remote { store: runtime.upstream.store, endpoint, id: None }, place))
}

/// The upstream's side of a session, if it is at this store.
fn here<B: Backend>(runtime: &Runtime<B>, session: &Session) -> Option<Arc<Remote>> {
    session.remote().filter(|remote| remote.store == runtime.upstream.store)
}

fn is_response(ask: &Ask) -> bool {
    matches!(ask, Ask::Message(message) if message.kind() == mcp::Kind::Response)
}

fn is_request(ask: &Ask) -> bool {
    matches!(ask, Ask::Message(message) if message.kind() == mcp::Kind::Request)
}

/// The client's own `initialize` opens the upstream's session. An endpoint that is away has opened none: the next
/// one is asked.
async fn open<B: Backend>(
    context: &Context,
    runtime: &Arc<Runtime<B>>,
    call: &Call,
    session: &Arc<Session>,
) -> Result<Reply, Failure> {
    let mut tried = Vec::new();
    loop {
        let place = runtime.store.take(call, &tried).await?;
        if !tried.is_empty() {
            place.retried();
        }
        let remote = Remote { store: runtime.upstream.store, endpoint: place.at(), id: None };
        tried.push(remote.endpoint);
        let to = To { remote: &remote, place: Some(place) };
        let passed = pass(context, runtime, call, Some(session), to).await;
        let away = match &passed {
            Ok((reply, _)) => retry::is_outage_status(reply.status),
            Err(failure) => failure.kind == Kind::Unreachable,
        };
        if away && tried.len() < runtime.endpoints().len() && runtime.store.has_another(&tried) {
            continue;
        }
        let (reply, minted) = passed?;
        if reply.status.is_success() {
            runtime.metrics.spoke(Era::Legacy);
            // A server that mints none has no sessions.
            if minted.is_some() {
                session.set_remote(Remote { id: minted, ..remote });
            }
        }
        return Ok(reply);
    }
}

/// Any other exchange of a session.
async fn go_on<B: Backend>(
    context: &Context,
    runtime: &Arc<Runtime<B>>,
    call: &Call,
    session: &Arc<Session>,
) -> Result<Reply, Failure> {
    let remote = match here(runtime, session) {
        Some(remote) => remote,
        // What it answers was asked at the store that calls left.
        None if is_response(&call.ask) => return Ok(Reply::accepted()),
        None => reopen::another(runtime, call, session, None).await?,
    };
    match pass(context, runtime, call, Some(session), To::one(&remote)).await {
        // The server did not know the session, so it cannot have run the call.
        Err(failure) if failure.kind == Kind::SessionLost => {}
        passed => return observed(call, session, passed),
    }
    if matches!(call.ask, Ask::Stream) && reopen::is_known(runtime, call, &remote).await? {
        return Err(no_stream());
    }
    let remote = reopen::another(runtime, call, session, Some(&remote)).await?;
    let mut call = call.clone();
    match &call.ask {
        // What it answers was asked in the session that is gone.
        ask if is_response(ask) => return Ok(Reply::accepted()),
        // The ids of events went with it, too.
        Ask::Stream => drop(call.headers.remove(header::LAST_EVENT_ID)),
        _ => {}
    }
    match pass(context, runtime, &call, Some(session), To::one(&remote)).await {
        Err(failure) if failure.kind == Kind::SessionLost => Err(match call.ask {
            Ask::Stream => no_stream(),
            _ => reopen::over("the upstream lost this session and knows no new one either"),
        }),
        passed => observed(&call, session, passed),
    }
}

/// A 404 to a GET may also be how a server says that it has no such stream.
fn no_stream() -> Failure {
    Failure::new(Kind::UnknownMethod, "the upstream offers no GET stream")
}

/// Remembers what the client asked for, once it was answered.
fn observed(
    call: &Call,
    session: &Arc<Session>,
    passed: Result<(Reply, Option<String>), Failure>,
) -> Result<Reply, Failure> {
    let (reply, _) = passed?;
    if let (Ask::Message(message), true) = (&call.ask, reply.status.is_success())
        && message.kind() == mcp::Kind::Request
    {
        session.upstream_state::<Passing>().remembered.observe(session, message);
    }
    Ok(reply)
}

/// Where an exchange goes.
struct To<'a> {
    remote: &'a Remote,
    /// A place there, if it was taken already.
    place: Option<Place>,
}

impl<'a> To<'a> {
    fn one(remote: &'a Remote) -> Self {
        Self { remote, place: None }
    }
}

/// One exchange with one upstream session: the reply, and the id that the server put on it.
async fn pass<B: Backend>(
    context: &Context,
    runtime: &Arc<Runtime<B>>,
    call: &Call,
    session: Option<&Arc<Session>>,
    To { remote, place }: To<'_>,
) -> Result<(Reply, Option<String>), Failure> {
    let backend = runtime.endpoint_at(remote.endpoint);
    let exchange = backend.relay(&call.ask, &call.headers, remote.id.as_deref());
    let mut reply = match &call.ask {
        Ask::Message(message) if message.kind() == mcp::Kind::Request => {
            let told = cancel(context, runtime, call, message, remote);
            let place = match place {
                Some(place) => place,
                None => runtime.store.enter(remote.endpoint).await?,
            };
            let guard = Guard::new(runtime, place, message, session, told);
            guard.answer(exchange).await?
        }
        Ask::Stream => {
            runtime.store.check(remote.endpoint)?;
            guard::stream(exchange, runtime, context, session.map(|one| &**one), None).await?
        }
        _ => {
            runtime.store.check(remote.endpoint)?;
            guard::within(runtime, exchange).await?
        }
    };
    // Visible ASCII by specification; a server that minted anything else has no session.
    let minted = reply.headers.remove(header::SESSION_ID);
    let minted = minted.as_ref().and_then(|minted| HeaderValue::to_str(minted).ok()).map(str::to_owned);
    Ok((reply, minted))
}

/// What to do when the time is over: a legacy server takes a closed connection for nothing, so it is told.
fn cancel<B: Backend>(
    context: &Context,
    runtime: &Arc<Runtime<B>>,
    call: &Call,
    message: &mcp::Message,
    remote: &Remote,
) -> Option<guard::OnTimeout> {
    let (endpoint, id) = (remote.endpoint, remote.id.clone()?);
    let note = guard::cancelled(message)?;
    let (tasks, runtime, headers) = (context.tasks.clone(), runtime.clone(), call.headers.clone());
    Some(Box::new(move || {
        tasks.spawn("cancel a timed-out call", o1_process::OnExit::Quiet, async move {
            let ask = Ask::Message(note);
            let told = runtime.endpoint_at(endpoint).relay(&ask, &headers, Some(&id));
            let _ = tokio::time::timeout(runtime.upstream.timeouts.connect, told).await;
        });
    }))
}
