//! A legacy session in front of a server that speaks only 2026-07-28, which knows no sessions.
//!
//! Owns what such a session remembers: who the client said it is, its log level, the resources it watches, its
//! calls in flight and what the server waits to hear from it. It must never invent an answer for the server,
//! ask the client for what it did not declare, or outlive its session.

mod answer;
mod envelope;
mod exchange;
mod handshake;
mod input;
mod listening;
mod pending;

use super::params::Memory;
use crate::{
    call::{self, Backend, Reply},
    failure::{Failure, Kind},
    mcp::{self, Message, json::quote, method, rpc},
    plan::{Endpoint, Upstream},
};
use envelope::Profile;
use handshake::Offers;
use listening::Listening;
use o1_process::Tasks;
use pending::{Calls, Questions};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// What the sessions in front of one endpoint share. Cheap to clone.
#[derive(Clone)]
pub(super) struct Ground {
    tasks: Tasks,
    /// How long a handshake or a subscription may take.
    connect: Duration,
    /// How long the server may take for one answer.
    total: Duration,
    /// What is known of the endpoint's tools.
    pub(super) tools: Arc<Memory>,
    /// One asks for the list of tools, for all who need it.
    listing: Arc<tokio::sync::Mutex<()>>,
    /// Headers reach the server: it is not a process.
    pub(super) headers: bool,
    /// The server answered as one of the other era.
    contradicted: Arc<AtomicBool>,
}

impl Ground {
    pub(super) fn new(upstream: &Upstream, endpoint: usize, tasks: &Tasks) -> Self {
        Self {
            tasks: tasks.clone(),
            connect: upstream.timeouts.connect,
            total: upstream.timeouts.total,
            tools: Arc::default(),
            listing: Arc::default(),
            headers: matches!(upstream.endpoints[endpoint], Endpoint::Http { .. }),
            contradicted: Arc::default(),
        }
    }

    /// Whether the server, since this was last asked, answered as if it did not know this era.
    pub(super) fn take_contradiction(&self) -> bool {
        self.contradicted.swap(false, Ordering::AcqRel)
    }
}

/// The session. Dropping the last clone ends everything it holds.
pub struct Link<B>(Arc<Handle<B>>);

impl<B> Clone for Link<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Tasks hold what is shared; this is held by those who may still use the session.
struct Handle<B>(Arc<Shared<B>>);

impl<B> Drop for Handle<B> {
    fn drop(&mut self) {
        self.0.closed.cancel();
    }
}

struct Shared<B> {
    server: Arc<B>,
    ground: Ground,
    profile: Profile,
    handshake: Message,
    offers: Offers,
    level: Mutex<Option<String>>,
    calls: Calls,
    questions: Questions,
    listening: Listening,
    closed: CancellationToken,
    /// The server turned out not to be the one that the session was opened for.
    foreign: AtomicBool,
    ids: AtomicU64,
}

/// What a session that set no level hears of a server that logs: a legacy server decides itself, a modern one
/// says nothing unless it is asked to.
const DEFAULT_LEVEL: &str = "info";
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

impl<B> Shared<B> {
    fn level(&self) -> Option<String> {
        let set = self.level.lock().unwrap_or_else(PoisonError::into_inner).clone();
        set.or_else(|| self.offers.logging.then(|| DEFAULT_LEVEL.to_owned()))
    }

    /// An id for a request of the gateway's own, raw.
    fn fresh_id(&self) -> Vec<u8> {
        format!("\"o1-{}\"", self.ids.fetch_add(1, Ordering::Relaxed)).into_bytes()
    }

    fn set_level(&self, message: &Message) -> Result<Reply, Failure> {
        let level = text(message, "level")?;
        if !LEVELS.contains(&level.as_str()) {
            let what = format!("unknown level `{level}`: one of {}", LEVELS.join(", "));
            return Err(Failure::new(Kind::InvalidParams, what));
        }
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = Some(level);
        Ok(empty(message))
    }
}

impl<B: Backend> Link<B> {
    /// A session for the client that sent `initialize`.
    ///
    /// # Errors
    /// The server does not answer `server/discover`, or not in this era.
    pub(super) async fn open(server: Arc<B>, ground: &Ground, initialize: &Message) -> Result<Self, Failure> {
        let profile =
            Profile::of(initialize).map_err(|malformed| Failure::new(Kind::InvalidParams, malformed.0))?;
        let mut discovered = server.discover().await?;
        if discovered.error().is_some() {
            // A server may refuse the first request only to say which revisions it speaks.
            discovered = server.discover().await?;
        }
        let handshake = handshake::initialized(&discovered, profile.version)?;
        let offers = Offers::of(&handshake);
        let shared = Shared {
            server,
            ground: ground.clone(),
            profile,
            handshake,
            offers,
            level: Mutex::default(),
            calls: Calls::default(),
            questions: Questions::new(),
            listening: Listening::default(),
            closed: CancellationToken::new(),
            foreign: AtomicBool::new(false),
            ids: AtomicU64::new(1),
        };
        Ok(Self(Arc::new(Handle(Arc::new(shared)))))
    }

    fn shared(&self) -> &Arc<Shared<B>> {
        &self.0.0
    }
}

impl<B: Backend> call::Link for Link<B> {
    fn handshake(&self) -> &Message {
        &self.shared().handshake
    }

    async fn ask(&self, message: &Message) -> Result<Reply, Failure> {
        let shared = self.shared();
        match message.method() {
            method::INITIALIZE => {
                let answer = shared.handshake.with_id(message.id().unwrap_or_default());
                Ok(Reply::json(answer.bytes().clone()))
            }
            method::PING => Ok(empty(message)),
            method::SET_LEVEL => shared.set_level(message),
            method::RESOURCES_SUBSCRIBE => {
                listening::watch(shared, &text(message, "uri")?).await?;
                Ok(empty(message))
            }
            method::RESOURCES_UNSUBSCRIBE => {
                shared.listening.unwatch(&text(message, "uri")?);
                Ok(empty(message))
            }
            // Words of the other era, and what is hidden because it differs between them.
            other if other == method::DISCOVER || other == method::LISTEN || other.starts_with("tasks/") => {
                Err(Failure::new(Kind::UnknownMethod, format!("Method not found: {other}")))
            }
            _ => exchange::start(shared, message).await,
        }
    }

    async fn tell(&self, message: &Message) -> Result<(), Failure> {
        let shared = self.shared();
        match (message.kind(), message.method()) {
            (mcp::Kind::Response, _) => shared.questions.answer(message),
            (_, method::CANCELLED) => {
                if let Ok(Some(id)) = message.param(&["requestId"]) {
                    shared.calls.cancel(&message.bytes()[id]);
                }
            }
            // Nothing else that a client notifies exists in the server's era.
            _ => {}
        }
        Ok(())
    }

    async fn stream(&self) -> Result<Reply, Failure> {
        Ok(Reply::messages(listening::stream(self.shared())))
    }

    fn is_open(&self) -> bool {
        !self.shared().closed.is_cancelled() && !self.shared().foreign.load(Ordering::Acquire)
    }

    async fn close(&self) {
        self.shared().closed.cancel();
    }
}

fn empty(message: &Message) -> Reply {
    Reply::json(rpc::result(message.id().unwrap_or_default(), b"{}"))
}

/// A string in `params` that must be there.
fn text(message: &Message, key: &str) -> Result<String, Failure> {
    match message.param_str(&[key]) {
        Ok(Some(text)) => Ok(text.into_owned()),
        Ok(None) => Err(Failure::new(Kind::InvalidParams, format!("`params.{key}` must be a string"))),
        Err(malformed) => Err(Failure::new(Kind::InvalidParams, malformed.0)),
    }
}

/// A response of the gateway's own with an error.
fn refusal(id: &[u8], code: i32, what: &str, data: Option<&serde_json::Value>) -> Message {
    Message::parse(&rpc::error(Some(id), code, what, data)).expect("a response of our own is a message")
}

/// A notification of the gateway's own.
fn notification(method: &str, params: Option<&[u8]>) -> Message {
    Message::parse(&rpc::notification(method, params)).expect("a notification of our own is a message")
}

/// `params` that name a resource.
fn naming(uri: &str) -> Vec<u8> {
    [&br#"{"uri":"#[..], &quote(uri), b"}"].concat()
}
