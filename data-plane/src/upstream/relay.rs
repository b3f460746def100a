//! Legacy exchanges on a route of one HTTP upstream: bytes through, only the session id is swapped, because
//! the client's names the endpoint too.

use super::{
    guard::{self, Guard},
    runtime::Runtime,
};
use crate::{
    call::{Ask, Backend, Call, Reply, Route, Session},
    context::Context,
    failure::Failure,
    mcp::{self, Era, header, method},
};
use http::HeaderValue;
use std::sync::{Arc, OnceLock};

/// The upstream's side of a client session.
#[derive(Default)]
pub(super) struct Relayed(OnceLock<(usize, String)>);

/// True when bytes can pass through: on the route of one HTTP upstream that speaks the client's era. Decided
/// once for a session.
pub(super) async fn fits<B: Backend>(runtime: &Runtime<B>, route: &Route, session: Option<&Session>) -> bool {
    if !matches!(route, Route::One(_)) || !runtime.upstream.is_http() {
        return false;
    }
    if let Some(decided) = session.and_then(|session| session.relayed.get()) {
        return *decided;
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
    session: Option<&Session>,
) -> Result<Reply, Failure> {
    let opened = session.and_then(|session| session.upstream_state::<Relayed>().0.get());
    let (endpoint, id) = match opened {
        Some((endpoint, id)) => (*endpoint, Some(id.as_str())),
        None => (runtime.pick(), None),
    };
    let backend = runtime.endpoint_at(endpoint);
    let exchange = backend.relay(&call.ask, &call.headers, id);
    let mut reply = match &call.ask {
        Ask::Message(message) if message.kind() == mcp::Kind::Request => {
            Guard::new(runtime, message, cancel(context, runtime, call, message, opened.cloned()))
                .answer(exchange)
                .await?
        }
        Ask::Stream => guard::stream(exchange, runtime, context, session, None).await?,
        _ => guard::within(runtime, exchange).await?,
    };
    let minted = reply.headers.remove(header::SESSION_ID);
    if let (Ask::Message(message), Some(session), true) = (&call.ask, session, reply.status.is_success())
        && message.method() == method::INITIALIZE
    {
        runtime.metrics.spoke(Era::Legacy);
        // Visible ASCII by specification; a server that minted anything else has no session.
        if let Some(minted) = minted.as_ref().and_then(|minted| HeaderValue::to_str(minted).ok()) {
            let _ = session.upstream_state::<Relayed>().0.set((endpoint, minted.to_owned()));
            let ours = HeaderValue::from_str(&session.id).expect("our ids are hexadecimal");
            reply.headers.insert(header::SESSION_ID, ours);
        }
    }
    Ok(reply)
}

/// What to do when the time is over: a legacy server takes a closed connection for nothing, so it is told.
fn cancel<B: Backend>(
    context: &Context,
    runtime: &Arc<Runtime<B>>,
    call: &Call,
    message: &mcp::Message,
    opened: Option<(usize, String)>,
) -> Option<guard::OnTimeout> {
    let (endpoint, id) = opened?;
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
