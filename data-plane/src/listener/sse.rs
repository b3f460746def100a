//! Clients of revision 2024-11-05, HTTP+SSE: a GET opens an event stream whose first event says where to POST; each
//! POST is accepted at once and answered on the stream. Behind this the client is like any other legacy client: its
//! messages become calls, its stream carries the session's GET stream too, and its end is the end of the session.
//!
//! A stream lives on one node, and so must the POSTs that belong to it. To anybody but its own principal it is as
//! unknown as one that never was.

use super::respond::{self, ResponseBody};
use crate::{
    call::{Ask, Call, Caller, EVENT_STREAM, Handle, JSON, Reply, Route, read_messages},
    context::Context,
    failure::{Failure, Kind},
    mcp::{self, Message, header as mcp_header, json, method, sse},
    plan::Plan,
    principal::Principal,
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use o1_process::OnExit;
use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Events that a client has not read yet; its calls wait.
const UNREAD_MAX: usize = 256;
/// Requests of one client that are in flight.
const REQUESTS_MAX: usize = 64;
/// Silence after which a comment is sent, so that nothing on the way closes the connection.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
/// How long the upstreams may take to hear of the end of a session.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Which half of the transport an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    /// GET: the event stream.
    Stream,
    /// POST: a message.
    Message,
}

/// The half at this path, and the path of its route; `None`: nothing of this transport is here.
pub(super) fn place(path: &str) -> Option<(Half, String)> {
    let (base, half) = match (path.strip_suffix("/sse"), path.strip_suffix("/message")) {
        (Some(base), _) => (base, Half::Stream),
        (None, Some(base)) => (base, Half::Message),
        (None, None) => return None,
    };
    match base {
        "" => Some((half, "/mcp".to_owned())),
        _ if base.starts_with("/u/") => Some((half, format!("{base}/mcp"))),
        _ if base.starts_with("/mcp/") => Some((half, base.to_owned())),
        _ => None,
    }
}

/// Every open stream, by its session.
#[derive(Default)]
pub(super) struct Streams(Mutex<HashMap<String, Arc<Client>>>);

/// One client.
pub(super) struct Client {
    id: String,
    /// As of its last POST: what it may use can change.
    principal: ArcSwap<Principal>,
    /// The path of its route.
    path: String,
    events: mpsc::Sender<Bytes>,
    places: Arc<Semaphore>,
    /// What its later calls say: the session and the revision.
    headers: Mutex<HeaderMap>,
    ended: CancellationToken,
}

impl Streams {
    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Client>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client of this principal and route whose stream said to POST with `query`.
    pub(super) fn find(
        &self,
        query: Option<&str>,
        path: &str,
        principal: &Arc<Principal>,
    ) -> Option<Arc<Client>> {
        let id = query?.split('&').find_map(|pair| pair.strip_prefix("sessionId="))?;
        let client = self.all().get(id)?.clone();
        if client.path != path || client.principal.load().id != principal.id {
            return None;
        }
        client.principal.store(principal.clone());
        Some(client)
    }

    /// Opens a stream; `asked` is the path the client used.
    pub(super) fn open<H: Handle>(
        self: &Arc<Self>,
        context: &Context,
        handler: &Arc<H>,
        (asked, path): (&str, String),
        principal: Arc<Principal>,
        route: Route,
    ) -> Response<ResponseBody> {
        let (sender, receiver) = mpsc::channel(UNREAD_MAX);
        let id = mint();
        let client = Arc::new(Client {
            id: id.clone(),
            principal: ArcSwap::new(principal),
            path,
            events: sender,
            places: Arc::new(Semaphore::new(REQUESTS_MAX)),
            headers: Mutex::default(),
            ended: CancellationToken::new(),
        });
        self.all().insert(id.clone(), client.clone());
        let base = asked.strip_suffix("/sse").unwrap_or_default();
        let first = Bytes::from(format!("event: endpoint\ndata: {base}/message?sessionId={id}\n\n"));
        let ended = client.ended.clone();
        let leave = Leave {
            streams: self.clone(),
            client,
            context: context.clone(),
            handler: handler.clone(),
            route,
        };
        let state = (Some(first), receiver, context.tasks.stopping(), leave);
        let events = stream::unfold(state, move |(first, mut receiver, stopping, leave)| {
            let ended = ended.clone();
            async move {
                let next = match first {
                    Some(first) => first,
                    None => tokio::select! {
                        biased;
                        event = receiver.recv() => event?,
                        () = ended.cancelled() => return None,
                        () = stopping.cancelled() => return None,
                        () = tokio::time::sleep(KEEP_ALIVE_EVERY) => sse::KEEP_ALIVE,
                    },
                };
                Some((Ok(Frame::data(next)), (None, receiver, stopping, leave)))
            }
        });
        let mut response = Response::new(StreamBody::new(events).boxed_unsync());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, EVENT_STREAM);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

/// Ends the session when the stream is dropped, however that happens.
struct Leave<H: Handle> {
    streams: Arc<Streams>,
    client: Arc<Client>,
    context: Context,
    handler: Arc<H>,
    route: Route,
}

impl<H: Handle> Drop for Leave<H> {
    fn drop(&mut self) {
        self.streams.all().remove(&self.client.id);
        self.client.ended.cancel();
        if self.client.headers().is_empty() {
            return; // it never had a session
        }
        let call = self.client.call(self.context.current.plan(), self.route.clone(), Ask::End);
        let handler = self.handler.clone();
        self.context.tasks.spawn("end of an SSE client", OnExit::Quiet, async move {
            let _ = tokio::time::timeout(END_WITHIN, handler.handle(call)).await;
        });
    }
}

impl Client {
    /// Takes a message: notifications and responses are delivered before the POST is answered, requests after it.
    pub(super) async fn take<H: Handle>(
        self: Arc<Self>,
        context: &Context,
        handler: &Arc<H>,
        plan: Arc<Plan>,
        route: Route,
        message: Message,
    ) -> StatusCode {
        if message.kind() != mcp::Kind::Request {
            let initialized = message.method() == method::INITIALIZED;
            let call = self.call(plan, route.clone(), Ask::Message(message));
            let told = tokio::select! {
                told = handler.handle(call) => told,
                () = self.ended.cancelled() => return StatusCode::NOT_FOUND,
            };
            if let Err(failure) = told {
                tracing::debug!(error = failure.chain(), "a message of an SSE client was not delivered");
            }
            if initialized {
                let (client, handler, context_of) = (self.clone(), handler.clone(), context.clone());
                context.tasks.spawn("stream of an SSE client", OnExit::Quiet, async move {
                    client.until_ended(client.listen(&context_of, &*handler, route)).await;
                });
            }
            return StatusCode::ACCEPTED;
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return StatusCode::SERVICE_UNAVAILABLE;
        };
        let (client, handler) = (self.clone(), handler.clone());
        context.tasks.spawn("request of an SSE client", OnExit::Quiet, async move {
            client.until_ended(client.request(&*handler, plan, route, message)).await;
            drop(place);
        });
        StatusCode::ACCEPTED
    }

    async fn until_ended(&self, work: impl Future<Output = ()>) {
        tokio::select! {
            () = work => {}
            () = self.ended.cancelled() => {}
        }
    }

    async fn request<H: Handle>(&self, handler: &H, plan: Arc<Plan>, route: Route, message: Message) {
        let id = message.id().unwrap_or_default().to_vec();
        let initializes = message.method() == method::INITIALIZE;
        let mut reply = match handler.handle(self.call(plan, route, Ask::Message(message))).await {
            Ok(reply) => reply,
            Err(failure) => return self.fail(&id, &failure).await,
        };
        let session = reply.headers.remove(mcp_header::SESSION_ID);
        let mut messages = read_messages(reply);
        while let Some(next) = messages.next().await {
            let message = match next {
                Ok(message) => message,
                Err(failure) => return self.fail(&id, &failure).await,
            };
            if initializes && message.kind() == mcp::Kind::Response {
                self.remember(session.as_ref(), &message);
            }
            if self.events.send(sse::write(message.bytes())).await.is_err() {
                return;
            }
        }
    }

    /// What the session's GET stream says.
    async fn listen<H: Handle>(&self, context: &Context, handler: &H, route: Route) {
        loop {
            let call = self.call(context.current.plan(), route.clone(), Ask::Stream);
            let reply: Reply = match handler.handle(call).await {
                Ok(reply) if reply.status.is_success() => reply,
                // There is no such stream: what is said, is said in answers.
                Ok(_) => return,
                Err(failure) => {
                    if matches!(failure.kind, Kind::UnknownSession | Kind::SessionLost) {
                        self.ended.cancel();
                    }
                    return;
                }
            };
            let mut messages = read_messages(reply);
            while let Some(Ok(message)) = messages.next().await {
                if self.events.send(sse::write(message.bytes())).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn fail(&self, id: &[u8], failure: &Failure) {
        let _ = self.events.send(sse::write(&respond::legacy_error(id, failure))).await;
        if failure.kind == Kind::UnknownSession {
            self.ended.cancel();
        }
    }

    fn remember(&self, session: Option<&HeaderValue>, initialized: &Message) {
        let text = initialized.bytes();
        let version = initialized
            .result()
            .and_then(|result| json::find(text, &result, &["protocolVersion"]).ok()?)
            .and_then(|at| HeaderValue::from_str(&json::string(text, &at)?).ok());
        let mut headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        headers.extend(session.map(|session| (mcp_header::SESSION_ID, session.clone())));
        headers.extend(version.map(|version| (mcp_header::PROTOCOL_VERSION, version)));
    }

    fn headers(&self) -> HeaderMap {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn call(&self, plan: Arc<Plan>, route: Route, ask: Ask) -> Call {
        let mut headers = self.headers();
        let accept = if matches!(ask, Ask::Stream) {
            "text/event-stream"
        } else {
            "application/json, text/event-stream"
        };
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        headers.insert(header::CONTENT_TYPE, JSON);
        Call {
            plan,
            route,
            principal: self.principal.load_full(),
            caller: Caller::Legacy(None),
            ask,
            headers,
            fresh: false,
        }
    }
}

/// An id that cannot be guessed: 128 bits of the system's randomness.
fn mint() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes.iter().fold(String::with_capacity(32), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_stand_beside_each_route() {
        let at = |path: &str| place(path).map(|(half, route)| (half == Half::Stream, route));
        for (path, expected) in [
            ("/sse", Some((true, "/mcp"))),
            ("/message", Some((false, "/mcp"))),
            ("/u/x/sse", Some((true, "/u/x/mcp"))),
            ("/u/x/message", Some((false, "/u/x/mcp"))),
            ("/mcp/coding/sse", Some((true, "/mcp/coding"))),
            ("/mcp/sse", None),
            ("/mcp", None),
            ("/x/sse", None),
        ] {
            assert_eq!(at(path), expected.map(|(stream, route)| (stream, route.to_owned())), "{path}");
        }
    }
}
