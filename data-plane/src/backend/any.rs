//! One endpoint of whatever kind: Streamable HTTP, HTTP+SSE or stdio.

use super::{
    channel::{self, Part},
    http::{HttpLink, HttpServer},
    sse::SseServer,
    stdio::{Spec, Supervisor},
};
use crate::{
    call::{Ask, Backend, Connect, Link, Probe, Reply},
    context::Context,
    failure::{Failure, Kind},
    mcp::{Era, Message, method, rpc},
    plan::{Endpoint, Upstream},
    principal::Principal,
};
use http::HeaderMap;
use o1_proto::model::{Processes, Transport};
use std::sync::Arc;

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
        match &upstream.endpoints[endpoint] {
            Endpoint::Http { url, transport, headers, tls } => {
                let tasks = &self.context.tasks;
                match (HttpServer::new(upstream, url, headers, tls.as_deref(), &self.context), transport) {
                    (Ok(server), Transport::Http) => Server::Http(server),
                    (Ok(server), Transport::Sse) => {
                        Server::Sse(SseServer::new(&upstream.name, server, upstream.timeouts.connect, tasks))
                    }
                    (Err(failure), _) => Server::Unusable(failure.chain()),
                }
            }
            Endpoint::Stdio { command, env, cwd, processes, idle_stop } => {
                let spec = Spec {
                    name: upstream.name.clone(),
                    command: command.clone(),
                    env: env.clone(),
                    cwd: cwd.clone(),
                    connect: upstream.timeouts.connect,
                    launcher: self.context.launcher.clone(),
                    idle_stop: *idle_stop,
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
    /// HTTP+SSE of 2024-11-05.
    Sse(SseServer),
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
    /// A child process, or an event stream with POSTs.
    Channel(Part),
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
                Ok(AnyLink::Channel(Part::shared(conversation)))
            }
            Self::Stdio { supervisor, processes: Processes::PerSession } => {
                let conversation = supervisor.own(initialize).await?;
                let initialized = Message::parse(&rpc::notification(method::INITIALIZED, None))
                    .expect("a notification of our own is a message");
                conversation.send(&initialized).await?;
                Ok(AnyLink::Channel(Part::whole(conversation)))
            }
            Self::Sse(server) => Ok(AnyLink::Channel(Part::whole(server.open(initialize).await?))),
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
                let conversation = supervisor.shared(Era::Modern).await.map_err(Failure::unsent)?;
                if message.kind() != crate::mcp::Kind::Request {
                    return Ok(Reply::accepted());
                }
                channel::ask(&conversation, message).await
            }
            Self::Sse(_) => Err(legacy_only()),
            Self::Unusable(_) => Err(self.unusable()),
        }
    }

    async fn discover(&self) -> Result<Message, Failure> {
        match self {
            Self::Http(server) => server.discover().await,
            Self::Stdio { supervisor, .. } => Ok(supervisor.shared(Era::Modern).await?.handshake().clone()),
            Self::Sse(_) => Err(legacy_only()),
            Self::Unusable(_) => Err(self.unusable()),
        }
    }

    async fn relay(&self, ask: &Ask, headers: &HeaderMap, session: Option<&str>) -> Result<Reply, Failure> {
        match self {
            Self::Http(server) => server.relay(ask, headers, session).await,
            Self::Stdio { .. } | Self::Sse(_) => {
                Err(Failure::new(Kind::Internal, "bytes pass through to Streamable HTTP alone"))
            }
            Self::Unusable(_) => Err(self.unusable()),
        }
    }

    async fn speaks(&self, era: Era) -> Result<bool, Failure> {
        match self {
            Self::Http(server) => server.speaks(era).await,
            Self::Sse(_) => Ok(era == Era::Legacy),
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
            Self::Http(_) | Self::Sse(_) | Self::Unusable(_) => 0,
        }
    }

    async fn probe(&self) -> Result<Probe, Failure> {
        match self {
            Self::Http(server) => server.probe().await,
            Self::Sse(server) => server.probe().await,
            Self::Stdio { supervisor, .. } => supervisor.probe(),
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
            Self::Channel(part) => part.conversation().handshake(),
        }
    }

    async fn ask(&self, message: &Message) -> Result<Reply, Failure> {
        match self {
            Self::Http(link) => link.ask(message).await,
            Self::Channel(part) => part.ask(message).await,
        }
    }

    async fn tell(&self, message: &Message) -> Result<(), Failure> {
        match self {
            Self::Http(link) => link.tell(message).await,
            Self::Channel(part) => part.tell(message).await,
        }
    }

    async fn stream(&self) -> Result<Reply, Failure> {
        match self {
            Self::Http(link) => link.stream().await,
            Self::Channel(part) => Ok(Reply::messages(part.unsolicited())),
        }
    }

    fn one_at_a_time(&self) -> bool {
        matches!(self, Self::Channel(part) if part.is_whole())
    }

    fn is_open(&self) -> bool {
        match self {
            Self::Http(link) => link.is_open(),
            Self::Channel(part) => !part.conversation().is_closed(),
        }
    }

    async fn close(&self) {
        match self {
            Self::Http(link) => link.close().await,
            Self::Channel(part) => part.close().await,
        }
    }
}

fn legacy_only() -> Failure {
    Failure::new(Kind::WrongEra, "the upstream does not speak revision 2026-07-28")
}
