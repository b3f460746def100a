//! One request that is out: how long it may take, and what is counted when it ends.

use super::{inspect::Inspect, messages, passing, runtime::Runtime, store::Place};
use crate::{
    call::{AtWork, Backend, Body, Reply, Session},
    context::Context,
    failure::{Failure, Kind},
    mcp::{Message, era, json::quote, method, rpc},
    metrics::InFlight,
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use std::{future::Future, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a server that asked the client something may be silent: it waits for a person.
const ASKED: Duration = Duration::from_secs(600);

/// Tells the server that nobody waits any more.
pub(super) type OnTimeout = Box<dyn FnOnce() + Send>;

/// A request, from before it is sent until its answer is complete.
pub(super) struct Guard {
    /// `None` once its end was counted.
    inflight: Option<InFlight>,
    /// At its endpoint.
    place: Place,
    /// The raw id, for an error of our own in the middle of an event stream.
    pub(super) id: Vec<u8>,
    pub(super) idle: Duration,
    pub(super) deadline: Instant,
    on_timeout: Option<OnTimeout>,
    /// What is wrong with the answer although it comes.
    verdict: Option<Failure>,
    /// Keeps the upstream's processes until the answer is complete.
    _hold: Arc<dyn Send + Sync>,
    /// Keeps the client's session, too.
    _at_work: Option<AtWork>,
}

impl Guard {
    pub(super) fn new<B: Backend>(
        runtime: &Arc<Runtime<B>>,
        place: Place,
        message: &Message,
        session: Option<&Arc<Session>>,
        on_timeout: Option<OnTimeout>,
    ) -> Self {
        let limits = runtime.upstream.limits(message);
        Self {
            inflight: Some(runtime.metrics.begin(runtime.upstream.store, message.bytes())),
            place,
            id: message.id().unwrap_or_default().to_vec(),
            idle: limits.idle,
            deadline: Instant::now() + limits.total,
            on_timeout,
            verdict: None,
            _hold: runtime.clone(),
            _at_work: session.map(Session::at_work),
        }
    }

    /// The same, over at `deadline` at the latest: a call that is sent again has no more time than any other.
    pub(super) fn by(mut self, deadline: Instant) -> Self {
        self.deadline = self.deadline.min(deadline);
        self
    }

    /// Waits for the head of the answer and watches over the rest of it.
    pub(super) async fn answer(
        self,
        exchange: impl Future<Output = Result<Reply, Failure>>,
    ) -> Result<Reply, Failure> {
        match tokio::time::timeout_at(self.next_limit(), exchange).await {
            Err(_) => Err(self.out_of_time()),
            Ok(Err(failure)) => {
                self.fail(&failure);
                Err(failure)
            }
            Ok(Ok(reply)) => Ok(self.watch(reply)),
        }
    }

    /// The moment at which the present silence, or the call as a whole, has lasted too long.
    pub(super) fn next_limit(&self) -> Instant {
        self.deadline.min(Instant::now() + self.idle)
    }

    /// The server asked the client something and is silent from now on for another reason than before.
    pub(super) fn wait_for_client(&mut self) {
        self.idle = self.idle.max(ASKED);
    }

    /// Bytes of the answer arrived.
    pub(super) fn received(&self, bytes: usize) {
        if let Some(inflight) = &self.inflight {
            inflight.upstream().received(bytes);
        }
    }

    /// The answer is complete.
    pub(super) fn finish(mut self, application_error: bool) {
        if self.verdict.is_some() {
            return; // counted by the drop
        }
        self.place.answered();
        if let Some(inflight) = self.inflight.take() {
            inflight.answered(application_error);
        }
    }

    /// There will be no answer. A session that is lost is opened again; a server that lives in another era
    /// did nothing wrong.
    pub(super) fn fail(mut self, failure: &Failure) {
        self.verdict = None;
        self.failed(failure);
    }

    fn failed(&mut self, failure: &Failure) {
        let counts =
            matches!(failure.kind, Kind::Unreachable | Kind::Timeout | Kind::Protocol | Kind::Overloaded);
        if counts && let Some(inflight) = self.inflight.take() {
            inflight.failed(failure);
        }
        self.place.failed(failure);
    }

    /// Ends the call because its time is over.
    pub(super) fn out_of_time(mut self) -> Failure {
        if let Some(tell) = self.on_timeout.take() {
            tell();
        }
        let failure =
            Failure::new(Kind::Timeout, "the upstream did not answer in time; the call may have run");
        self.fail(&failure);
        failure
    }

    fn watch(mut self, reply: Reply) -> Reply {
        if reply.status.is_server_error() {
            let what = format!("the upstream answered HTTP {}", reply.status);
            self.verdict = Some(Failure::new(Kind::of_status(reply.status), what).with_status(reply.status));
        }
        let events = reply.is_event_stream();
        let body = match reply.body {
            Body::Empty => {
                self.finish(false);
                Body::Empty
            }
            Body::Full(bytes) => {
                self.received(bytes.len());
                let mut inspect = Inspect::new(false);
                inspect.push(&bytes);
                self.finish(inspect.finish());
                Body::Full(bytes)
            }
            Body::Bytes(body) => Body::Bytes(passing::Answer::new(body, self, events).boxed_unsync()),
            Body::Messages(stream) => Body::Messages(messages::watched(stream, self)),
            // Made above this layer; no answer of an upstream is one.
            Body::Events(events) => Body::Events(events),
        };
        Reply { status: reply.status, headers: reply.headers, body, stale: reply.stale }
    }
}

impl Drop for Guard {
    /// An answer that is known to be none counts as such, also when nobody reads it.
    fn drop(&mut self) {
        if let Some(failure) = self.verdict.take() {
            self.failed(&failure);
        }
    }
}

/// A stream that has no end of its own: it ends when its upstream goes, its session is over or the process
/// stops, with `farewell` as its last event. Some servers send its head with its first event, so that may take
/// as long as the stream.
pub(super) async fn stream<B: Backend>(
    exchange: impl Future<Output = Result<Reply, Failure>>,
    runtime: &Arc<Runtime<B>>,
    context: &Context,
    session: Option<&Session>,
    farewell: Option<Bytes>,
) -> Result<Reply, Failure> {
    let mut ends = vec![runtime.retired.clone(), context.tasks.stopping()];
    ends.extend(session.map(|session| session.ended.clone()));
    let mut over = Box::pin(any(ends));
    let reply = tokio::select! {
        reply = exchange => reply.inspect_err(|failure| runtime.note(failure))?,
        () = &mut over => return Err(Failure::new(Kind::Draining, "the stream is over: connect again")),
    };
    if !reply.status.is_success() {
        return Ok(reply);
    }
    let body = match reply.body {
        Body::Bytes(body) => Body::Bytes(passing::Stream::new(body, over, farewell).boxed_unsync()),
        Body::Messages(stream) => Body::Messages(messages::until(stream, over, farewell)),
        other => other,
    };
    Ok(Reply { status: reply.status, headers: reply.headers, body, stale: reply.stale })
}

/// Something that needs no answer, only somebody who takes it.
pub(super) async fn within<B: Backend, T>(
    runtime: &Runtime<B>,
    exchange: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let silent = |_| Failure::new(Kind::Timeout, "the upstream did not take the message in time");
    let taken = tokio::time::timeout(runtime.upstream.timeouts.idle, exchange).await.map_err(silent);
    taken.flatten().inspect_err(|failure| runtime.note(failure))
}

async fn any(tokens: Vec<CancellationToken>) {
    let waits = tokens.into_iter().map(|token| Box::pin(token.cancelled_owned()));
    futures_util::future::select_all(waits).await;
}

/// The last message of a `subscriptions/listen` stream that the server ends (2026-07-28, "subscriptions").
pub(super) fn listen_farewell(request: &Message) -> Option<Bytes> {
    let id = request.id()?;
    let subscription = String::from_utf8_lossy(id);
    let result =
        format!(r#"{{"resultType":"complete","_meta":{{"{}":{subscription}}}}}"#, era::META_SUBSCRIPTION);
    Some(rpc::result(id, result.as_bytes()))
}

/// `notifications/cancelled` for a request.
pub(super) fn cancelled(request: &Message) -> Option<Message> {
    let mut params = br#"{"requestId":"#.to_vec();
    params.extend_from_slice(request.id()?);
    params.extend_from_slice(br#","reason":"#);
    params.extend_from_slice(&quote("timed out"));
    params.push(b'}');
    Message::parse(&rpc::notification(method::CANCELLED, Some(&params))).ok()
}
