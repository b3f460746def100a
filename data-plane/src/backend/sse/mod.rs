//! HTTP+SSE servers of revision 2024-11-05: a GET opens an event stream whose first event says where to POST;
//! every answer comes on the stream. One stream for each client session; when it breaks, the session is over.
//!
//! What is said over it is a [`channel`](super::channel). It must never POST anywhere but to the origin it was
//! configured with.

mod endpoint;

use super::{
    channel::{Conversation, Link, Outlet, Replies, ServerRequests},
    http::HttpServer,
};
use crate::{
    call::{Body, BoxError, EVENT_STREAM, JSON, MESSAGE_MAX, Probe, Reply, read_up_to},
    failure::{Failure, Kind},
    mcp::{Era, Message, era, json, message, method, rpc, sse},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use o1_process::{OnExit, Tasks};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

/// Messages of our own that may be on their way at a time.
const OWN_MAX: usize = 64;
/// How much of the answer to a POST is read: its content says nothing, but an unread one costs the connection.
const ANSWER_MAX: usize = 64 << 10;

/// One endpoint.
pub struct SseServer {
    name: String,
    http: HttpServer,
    connect: Duration,
    tasks: Tasks,
}

/// The event stream of a session.
struct Events {
    body: UnsyncBoxBody<Bytes, BoxError>,
    reader: sse::Reader,
}

impl SseServer {
    pub(super) fn new(name: &str, http: HttpServer, connect: Duration, tasks: &Tasks) -> Self {
        Self { name: name.to_owned(), http, connect, tasks: tasks.clone() }
    }

    /// Opens a session with the client's `initialize` and completes the handshake.
    pub(super) async fn open(&self, initialize: &Message) -> Result<Arc<Conversation>, Failure> {
        let opened = timeout(self.connect, self.shake_hands(initialize)).await;
        opened.unwrap_or_else(|_| Err(self.silent()))
    }

    /// Whether the server answers HTTP at all. Not by GET: that would open a session.
    pub(super) async fn probe(&self) -> Result<Probe, Failure> {
        if let Some(found) = self.http.probe_path().await {
            return found;
        }
        let asked = self.http.reply(Method::OPTIONS, HeaderMap::new(), Bytes::new());
        let reply = timeout(self.http.probe_limit(), asked).await.unwrap_or_else(|_| Err(self.silent()))?;
        if matches!(reply.status.as_u16(), 502..=504) {
            return Err(Failure::new(
                Kind::Unreachable,
                format!("the upstream answered HTTP {}", reply.status),
            )
            .with_status(reply.status));
        }
        Ok(Probe::Answers)
    }

    async fn shake_hands(&self, initialize: &Message) -> Result<Arc<Conversation>, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, EVENT_STREAM);
        let reply = self.http.reply(Method::GET, headers, Bytes::new()).await?;
        let (status, streams) = (reply.status, reply.is_event_stream());
        let Body::Bytes(body) = reply.body else { return Err(no_stream(status)) };
        if !status.is_success() || !streams {
            return Err(no_stream(status));
        }
        let mut events = Events { body, reader: sse::Reader::new(MESSAGE_MAX) };
        let endpoint = events.endpoint(self.http.url()).await?;
        let stop = CancellationToken::new();
        let poster = Poster {
            http: self.http.clone(),
            endpoint,
            own: Arc::new(Semaphore::new(OWN_MAX)),
            limit: self.connect,
            tasks: self.tasks.clone(),
            stop: stop.clone(),
        };
        let outlet = Box::new(poster);
        let link = Link::new(self.name.clone(), Era::Legacy, ServerRequests::Forward, None, outlet, stop);
        let link = Arc::new(link);
        let alive = link.stop.clone().drop_guard();
        self.tasks.spawn(format!("sse {}", self.name), OnExit::Quiet, events.run(link.clone()));
        let handshake = answer(&link, initialize).await?;
        accept(&handshake)?;
        link.send(rpc::notification(method::INITIALIZED, None)).await?;
        Ok(Arc::new(Conversation::new(link, handshake, alive)))
    }

    fn silent(&self) -> Failure {
        Failure::new(Kind::Timeout, format!("{} did not answer in time", self.name))
    }
}

async fn answer(link: &Arc<Link>, initialize: &Message) -> Result<Message, Failure> {
    let mut replies = Replies::of(link.clone(), initialize, None).await?;
    loop {
        match replies.next().await {
            Some(Ok(message)) if message.kind() == message::Kind::Response => return Ok(message),
            Some(Ok(_)) => {}
            Some(Err(failure)) => return Err(failure),
            None => return Err(link.ended()),
        }
    }
}

fn accept(answer: &Message) -> Result<(), Failure> {
    let text = answer.bytes();
    let Some(result) = answer.result() else {
        return Err(Failure::new(Kind::Protocol, "the upstream refused `initialize`"));
    };
    let version = json::find(text, &result, &["protocolVersion"]).ok().flatten();
    let version = version.and_then(|at| json::string(text, &at));
    if version.is_some_and(|version| era::LEGACY.contains(&&*version)) {
        return Ok(());
    }
    Err(Failure::new(Kind::Protocol, "the upstream negotiated a revision the gateway does not know"))
}

fn no_stream(status: StatusCode) -> Failure {
    let kind = if status.is_server_error() { Kind::Unreachable } else { Kind::Protocol };
    let words =
        format!("the upstream answered GET with HTTP {status} and no event stream: is it `transport: sse`?");
    let failure = Failure::new(kind, words);
    if status.is_success() { failure } else { failure.with_status(status) }
}

impl Events {
    /// The address that the first event names.
    async fn endpoint(&mut self, base: &Uri) -> Result<Uri, Failure> {
        loop {
            let Some(event) = self.next().await? else {
                return Err(Failure::new(
                    Kind::Protocol,
                    "the upstream's event stream ended before it began",
                ));
            };
            if event.name.as_deref() == Some("endpoint") {
                return endpoint::resolve(base, &String::from_utf8_lossy(&event.data));
            }
        }
    }

    /// Hands what the server says to the channel until either is over.
    async fn run(mut self, link: Arc<Link>) {
        let why = loop {
            let event = tokio::select! {
                biased;
                () = link.stop.cancelled() => break "was closed".to_owned(),
                event = self.next() => event,
            };
            match event {
                Ok(Some(event)) if event.name.as_deref().is_none_or(|name| name == "message") => {
                    link.receive(&event.data);
                }
                Ok(Some(_)) => {}
                Ok(None) => break "closed its event stream".to_owned(),
                Err(failure) => break format!("closed its event stream: {}", failure.chain()),
            }
        };
        link.calls().fail(Kind::Unreachable, &why);
        link.stop.cancel();
        link.closed.cancel();
        link.gone.cancel();
    }

    async fn next(&mut self) -> Result<Option<sse::Event>, Failure> {
        loop {
            let event = self.reader.next_event();
            if let Some(event) = event.map_err(|sse::TooLarge| {
                Failure::new(Kind::Protocol, "the upstream sent an event beyond every limit")
            })? {
                return Ok(Some(event));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(Failure::new(Kind::Unreachable, "the connection broke").because(error));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.reader.push(&data);
                    }
                }
            }
        }
    }
}

/// POSTs messages to where the server said.
#[derive(Clone)]
struct Poster {
    http: HttpServer,
    endpoint: Uri,
    /// Places for messages of our own.
    own: Arc<Semaphore>,
    limit: Duration,
    tasks: Tasks,
    /// Of the channel: cancelled when the server says that it knows the session no more.
    stop: CancellationToken,
}

impl Poster {
    async fn post(&self, message: Bytes) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, JSON);
        let Reply { status, body, .. } =
            self.http.reply_at(&self.endpoint, Method::POST, headers, message).await?;
        if let Body::Bytes(body) = body {
            let _ = timeout(self.limit, read_up_to(body, ANSWER_MAX)).await;
        }
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                self.stop.cancel();
                Err(Failure::new(Kind::SessionLost, "the upstream no longer knows this session"))
            }
            status => {
                let kind = if status.is_server_error() { Kind::Unreachable } else { Kind::Protocol };
                let words = format!("the upstream answered HTTP {status}");
                Err(Failure::new(kind, words).with_status(status))
            }
        }
    }
}

impl Outlet for Poster {
    fn push(&self, message: Bytes) -> BoxFuture<'_, Result<(), Option<Failure>>> {
        Box::pin(async {
            if self.stop.is_cancelled() {
                return Err(None);
            }
            self.post(message).await.map_err(Some)
        })
    }

    fn push_now(&self, message: Bytes) -> bool {
        let Ok(place) = self.own.clone().try_acquire_owned() else { return false };
        let poster = self.clone();
        self.tasks.spawn("message to an SSE upstream", OnExit::Quiet, async move {
            let posted = timeout(poster.limit, poster.post(message)).await;
            if !matches!(posted, Ok(Ok(()))) {
                tracing::debug!("a message of the gateway did not reach an SSE upstream");
            }
            drop(place);
        });
        true
    }
}
