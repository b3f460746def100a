//! Calls of modern clients, each to the endpoint that the balancer names or that a handle in it does; to another one
//! where the first did not work and nothing can run twice.
//!
//! It must never send a call again of whose answer the client has seen a byte.

use super::{
    guard::{self, Guard},
    handles::{self, Opened},
    retry,
    runtime::Runtime,
    settle,
};
use crate::{
    call::{Backend, Body, Call, Reply, Route},
    context::Context,
    failure::{Failure, Kind},
    mcp::{self, Era, Message, method},
};
use futures_util::{StreamExt as _, stream};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// How long the first message of an answer is waited for before the answer is passed on: until then it can still
/// turn out that there is none, and another endpoint be asked.
const BEGINS: Duration = Duration::from_secs(5);

/// Answers one message.
pub(super) async fn ask<B: Backend>(
    context: &Context,
    runtime: &Arc<Runtime<B>>,
    call: &Call,
    message: &Message,
) -> Result<Reply, Failure> {
    let opened = handles::open(context, call, message, &runtime.upstream)?;
    if message.kind() == mcp::Kind::Request && message.method() != method::LISTEN {
        return request(runtime, call, &opened).await;
    }
    let at = match opened.endpoint {
        Some(at) => runtime.store.check(at).map(|()| at)?,
        None => runtime.store.pass(call)?,
    };
    if message.kind() != mcp::Kind::Request {
        let told = runtime.endpoint_at(at).ask(&opened.message, &opened.headers, &call.principal);
        return guard::within(runtime, told).await;
    }
    let farewell = guard::listen_farewell(&opened.message);
    guard::stream(exchange(runtime, call, &opened, at), runtime, context, None, farewell).await
}

/// A request that has an answer.
async fn request<B: Backend>(
    runtime: &Arc<Runtime<B>>,
    call: &Call,
    opened: &Opened,
) -> Result<Reply, Failure> {
    let mut tried = Vec::new();
    runtime.store.called();
    let mut place = match opened.endpoint {
        Some(at) => runtime.store.enter(at).await?,
        None => runtime.store.take(call, &tried).await?,
    };
    // From here on: a wait for a place is no silence of the endpoint.
    let deadline = Instant::now() + runtime.upstream.limits(&opened.message).total;
    loop {
        let at = place.at();
        let guard = Guard::new(runtime, place, &opened.message, None, None).by(deadline);
        let answered = guard.answer(exchange(runtime, call, opened, at)).await;
        tried.push(at);
        if is_again(runtime, opened, &answered, &tried, deadline) {
            tracing::debug!(upstream = runtime.upstream.name, "an endpoint did not work, asking another");
            drop(answered);
            place = timeout_at(deadline, runtime.store.take(call, &tried)).await.map_err(|_| no_time())??;
            place.retried();
            continue;
        }
        let reply = answered?;
        if reply.status.is_success() {
            runtime.spoke(at, Era::Modern).await;
        }
        return Ok(reply);
    }
}

fn no_time() -> Failure {
    Failure::new(Kind::Timeout, "the upstream did not work, and no time is left to ask it again")
}

/// Whether a request that was sent to these is sent once more. Where there is no other endpoint, only if the
/// connection broke: asking again at once who is not there, or silent, would only double the wait.
fn is_again<B: Backend>(
    runtime: &Runtime<B>,
    opened: &Opened,
    answered: &Result<Reply, Failure>,
    tried: &[usize],
    deadline: Instant,
) -> bool {
    let (rules, message) = (&runtime.upstream.retry, &opened.message);
    let (outage, unsent, broke) = match answered {
        Ok(reply) => (retry::is_outage_status(reply.status), false, false),
        Err(failure) => {
            let (unsent, gone) = (failure.is_unsent(), failure.kind == Kind::Unreachable);
            (retry::is_outage(failure), unsent, gone && !unsent)
        }
    };
    let another = runtime.store.has_another(tried);
    outage
        && (another || broke)
        && tried.len() < rules.attempts as usize
        && is_free(opened)
        && (unsent || retry::may_run_twice(rules, message))
        && Instant::now() + retry::LEAST_TIME < deadline
        && runtime.store.may_retry()
}

/// Whether a request may go to any endpoint: it continues nothing that only one knows of.
fn is_free(opened: &Opened) -> bool {
    let has = |key| !matches!(opened.message.param(&[key]), Ok(None));
    opened.endpoint.is_none() && !has("requestState") && !has("inputResponses")
}

/// One attempt at one endpoint.
async fn exchange<B: Backend>(
    runtime: &Runtime<B>,
    call: &Call,
    Opened { message, headers, endpoint, sealer }: &Opened,
    at: usize,
) -> Result<Reply, Failure> {
    let mut reply = runtime.endpoint_at(at).ask(message, headers, &call.principal).await?;
    if message.method() != method::LISTEN {
        if matches!(call.route, Route::Server(_)) {
            reply = settle::settled(reply, message.id().unwrap_or_default(), Era::Modern).await?;
        }
        if endpoint.is_none() && runtime.upstream.retry.attempts > 1 {
            reply = begun(reply).await?;
        }
    }
    match sealer.clone() {
        Some(sealer) => sealer.seal(reply, at).await,
        None => Ok(reply),
    }
}

/// A reply that comes as messages, once it has its first one.
async fn begun(reply: Reply) -> Result<Reply, Failure> {
    let Reply { status, headers, body: Body::Messages(mut messages), stale } = reply else {
        return Ok(reply);
    };
    let messages = match tokio::time::timeout(BEGINS, messages.next()).await {
        Err(_) => messages,
        // A stream that has ended is not asked again.
        Ok(None) => stream::empty().boxed(),
        Ok(Some(first)) => stream::once(std::future::ready(Ok(first?))).chain(messages).boxed(),
    };
    Ok(Reply { status, headers, body: Body::Messages(messages), stale })
}
