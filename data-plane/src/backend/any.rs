//! One endpoint of whatever kind: HTTP or stdio.

use super::{
    http::{HttpLink, HttpServer},
    stdio::{Conversation, Replies, Spec, Supervisor},
};
use crate::{
    call::{Ask, Backend, Connect, Link, Messages, Probe, Reply},
    context::Context,
    failure::{Failure, Kind},
    mcp::{Era, Message, method, rpc},
    plan::{Endpoint, Upstream},
    principal::Principal,
};
use futures_util::{StreamExt as _, stream};
use http::HeaderMap;
use o1_proto::model::{Processes, Transport};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// Makes backends.
pub struct Backends {
    context: Context,
}

impl Backends {
    /// Makes backends whose processes belong to `context`.
    #[must_use]
    pub fn new(context: &Context) -> Self {
        Self { context: context.clone() }
    }
}

impl Connect for Backends {
    type Backend = Server;

    fn backend(&self, upstream: &Arc<Upstream>, endpoint: usize) -> Server {
        match &upstream.primary[endpoint] {
            Endpoint::Http { transport: Transport::Sse, .. } => {
                Server::Unusable("this build does not speak HTTP+SSE to upstreams yet".to_owned())
            }
            Endpoint::Http { url, headers, tls, .. } => {
                match HttpServer::new(upstream, url, headers, tls.as_deref(), &self.context.tasks) {
                    Ok(server) => Server::Http(server),
                    Err(failure) => Server::Unusable(failure.chain()),
                }
            }
            Endpoint::Stdio { command, env, cwd, processes, .. } => {
                let spec = Spec {
                    name: upstream.name.clone(),
                    command: command.clone(),
                    env: env.clone(),
                    cwd: cwd.clone(),
                    connect: upstream.timeouts.connect,
                    launcher: self.context.launcher.clone(),
                    log: self.context.logs.of(&upstream.name),
                };
                Server::Stdio {
                    supervisor: Supervisor::new(spec, self.context.tasks.clone()),
                    processes: *processes,
                }
            }
        }
    }
}

/// One endpoint.
pub enum Server {
    /// Streamable HTTP.
    Http(HttpServer),
    /// Child processes.
    Stdio {
        /// Starts and ends them.
        supervisor: Arc<Supervisor>,
        /// Who shares one.
        processes: Processes,
    },
    /// This node cannot speak to it at all, and why.
    Unusable(String),
}

/// A legacy session with one endpoint.
#[derive(Clone)]
pub enum AnyLink {
    /// Streamable HTTP.
    Http(HttpLink),
    /// A child process.
    Stdio(StdioLink),
}

/// A client session's part in a child process.
#[derive(Clone)]
pub struct StdioLink {
    conversation: Arc<Conversation>,
    /// The process serves this session alone.
    own: bool,
    cancels: Arc<Mutex<HashMap<Vec<u8>, CancellationToken>>>,
}

impl Server {
    fn unusable(&self) -> Failure {
        let why = if let Self::Unusable(why) = self { why.clone() } else { String::new() };
        Failure::new(Kind::Internal, "this endpoint cannot be used by the gateway").because(why)
    }
}

impl Backend for Server {
    type Link = AnyLink;

    async fn open(&self, initialize: &Message) -> Result<AnyLink, Failure> {
        match self {
            Self::Http(server) => Ok(AnyLink::Http(HttpLink::open(server, initialize).await?)),
            Self::Stdio { supervisor, processes: Processes::Shared } => {
                let conversation = supervisor.shared(Era::Legacy).await?;
                Ok(AnyLink::Stdio(StdioLink { conversation, own: false, cancels: Arc::default() }))
            }
            Self::Stdio { supervisor, processes: Processes::PerSession } => {
                let conversation = supervisor.own(initialize).await?;
                let initialized = Message::parse(&rpc::notification(method::INITIALIZED, None))
                    .expect("a notification of our own is a message");
                conversation.send(&initialized).await?;
                Ok(AnyLink::Stdio(StdioLink { conversation, own: true, cancels: Arc::default() }))
            }
            Self::Unusable(_) => Err(self.unusable()),
        }
    }

    async fn ask(
        &self,
        message: &Message,
        headers: &HeaderMap,
        _principal: &Principal,
    ) -> Result<Reply, Failure> {
        match self {
            Self::Http(server) => server.ask(message, headers).await,
            // A process of its own makes no sense without sessions: modern calls share one.
            Self::Stdio { supervisor, .. } => {
                let conversation = supervisor.shared(Era::Modern).await?;
                if message.kind() != crate::mcp::Kind::Request {
                    return Ok(Reply::accepted());
                }
                Ok(Reply::messages(replies(&conversation, message, None).await?))
            }
            Self::Unusable(_) => Err(self.unusable()),
        }
    }

    async fn discover(&self) -> Result<Message, Failure> {
        match self {
            Self::Http(server) => server.discover().await,
            Self::Stdio { supervisor, .. } => Ok(supervisor.shared(Era::Modern).await?.handshake().clone()),
            Self::Unusable(_) => Err(self.unusable()),
        }
    }

    async fn relay(&self, ask: &Ask, headers: &HeaderMap, session: Option<&str>) -> Result<Reply, Failure> {
        match self {
            Self::Http(server) => server.relay(ask, headers, session).await,
            Self::Stdio { .. } => {
                Err(Failure::new(Kind::Internal, "bytes cannot pass through to a process that many share"))
            }
            Self::Unusable(_) => Err(self.unusable()),
        }
    }

    async fn speaks(&self, era: Era) -> Result<bool, Failure> {
        match self {
            Self::Http(server) => server.speaks(era).await,
            Self::Stdio { supervisor, .. } => match supervisor.shared(era).await {
                Ok(_) => Ok(true),
                Err(failure) if failure.kind == Kind::WrongEra => Ok(false),
                Err(failure) => Err(failure),
            },
            Self::Unusable(_) => Err(self.unusable()),
        }
    }

    fn generation(&self) -> u64 {
        match self {
            Self::Stdio { supervisor, .. } => supervisor.generation(),
            Self::Http(_) | Self::Unusable(_) => 0,
        }
    }

    async fn probe(&self) -> Result<Probe, Failure> {
        match self {
            Self::Http(server) => Ok(if server.probe().await? { Probe::Modern } else { Probe::Answers }),
            Self::Stdio { processes: Processes::PerSession, .. } => Ok(Probe::Unknown),
            Self::Stdio { supervisor, .. } => match supervisor.shared(Era::Legacy).await {
                Ok(_) => Ok(Probe::Legacy),
                Err(failure) if failure.kind == Kind::WrongEra => {
                    supervisor.shared(Era::Modern).await.map(|_| Probe::Modern)
                }
                Err(failure) => Err(failure),
            },
            Self::Unusable(_) => Err(self.unusable()),
        }
    }

    async fn stop(&self) {
        if let Self::Stdio { supervisor, .. } = self {
            supervisor.stop().await;
        }
    }
}

impl Link for AnyLink {
    fn handshake(&self) -> &Message {
        match self {
            Self::Http(link) => link.handshake(),
            Self::Stdio(link) => link.conversation.handshake(),
        }
    }

    async fn ask(&self, message: &Message) -> Result<Reply, Failure> {
        match self {
            Self::Http(link) => link.ask(message).await,
            Self::Stdio(link) => {
                let cancel = Cancel::register(&link.cancels, message);
                Ok(Reply::messages(replies(&link.conversation, message, Some(cancel)).await?))
            }
        }
    }

    async fn tell(&self, message: &Message) -> Result<(), Failure> {
        match self {
            Self::Http(link) => link.tell(message).await,
            Self::Stdio(link) if message.method() == method::CANCELLED => {
                link.cancel(message);
                Ok(())
            }
            // The process was initialised by the gateway, for everybody, without capabilities.
            Self::Stdio(link) if !link.own => Ok(()),
            Self::Stdio(link) => link.conversation.send(message).await,
        }
    }

    async fn stream(&self) -> Result<Reply, Failure> {
        match self {
            Self::Http(link) => link.stream().await,
            Self::Stdio(link) => Ok(Reply::messages(unsolicited(&link.conversation))),
        }
    }

    fn is_open(&self) -> bool {
        match self {
            Self::Http(link) => link.is_open(),
            Self::Stdio(link) => !link.conversation.is_closed(),
        }
    }

    async fn close(&self) {
        match self {
            Self::Http(link) => link.close().await,
            Self::Stdio(link) if link.own => link.conversation.close().await,
            Self::Stdio(_) => {}
        }
    }
}

impl StdioLink {
    fn cancel(&self, notification: &Message) {
        let Ok(Some(id)) = notification.param(&["requestId"]) else { return };
        let cancels = self.cancels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cancel) = cancels.get(&notification.bytes()[id]) {
            cancel.cancel();
        }
    }
}

/// A request's entry among those that can be cancelled; gone when the answer is.
struct Cancel {
    entries: Arc<Mutex<HashMap<Vec<u8>, CancellationToken>>>,
    id: Vec<u8>,
    token: CancellationToken,
}

impl Cancel {
    fn register(entries: &Arc<Mutex<HashMap<Vec<u8>, CancellationToken>>>, message: &Message) -> Self {
        let id = message.id().unwrap_or_default().to_vec();
        let token = CancellationToken::new();
        entries.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), token.clone());
        Self { entries: entries.clone(), id, token }
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// The messages of one request; ends early, without a response, when the request is cancelled.
async fn replies(
    conversation: &Arc<Conversation>,
    message: &Message,
    cancel: Option<Cancel>,
) -> Result<Messages, Failure> {
    let answering = Answering { replies: conversation.request(message).await?, cancel };
    Ok(stream::unfold(answering, |mut answering| async move {
        let message = answering.next().await?;
        Some((message, answering))
    })
    .boxed())
}

/// A request at a process.
struct Answering {
    replies: Replies,
    cancel: Option<Cancel>,
}

impl Answering {
    async fn next(&mut self) -> Option<Result<Message, Failure>> {
        match &self.cancel {
            None => self.replies.next().await,
            Some(cancel) => tokio::select! {
                biased;
                // The process is told when this drops.
                () = cancel.token.cancelled() => None,
                message = self.replies.next() => message,
            },
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if self.cancel.as_ref().is_some_and(|cancel| cancel.token.is_cancelled()) {
            self.replies.cancel();
        }
    }
}

fn unsolicited(conversation: &Arc<Conversation>) -> Messages {
    let state = (conversation.unsolicited(), conversation.clone());
    stream::unfold(state, |(mut receiver, conversation)| async move {
        loop {
            let received = tokio::select! {
                received = receiver.recv() => received,
                () = conversation.closed() => return None,
            };
            match received {
                Ok(message) => return Some((Ok(message), (receiver, conversation))),
                Err(RecvError::Lagged(lost)) => {
                    tracing::warn!(
                        lost,
                        "a client reads too slowly: notifications of its upstream were lost"
                    );
                }
                Err(RecvError::Closed) => return None,
            }
        }
    })
    .boxed()
}
