//! A legacy client session, as every layer of the path sees it.

use crate::{mcp::Message, plan::Key, principal::Principal};
use o1_proto::model::Store;
use std::{
    any::Any,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::SystemTime,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The `Mcp-Session-Id` this gateway minted: a sealed token, which every node that holds the keys can open.
pub type SessionId = Arc<str>;

/// What a session is known by inside: 128 random bits, the same on every node.
pub type Serial = [u8; 16];

/// How a session begins, or began on another node.
pub struct Opening {
    /// See [`Session::serial`].
    pub serial: Serial,
    /// See [`Session::began`].
    pub began: SystemTime,
    /// See [`Session::principal`].
    pub principal: Arc<Principal>,
    /// See [`Session::initialize`].
    pub initialize: Message,
    /// See [`Session::version`].
    pub version: &'static str,
    /// See [`Session::upstream`].
    pub upstream: Option<Key>,
    /// See [`Session::server`].
    pub server: Option<String>,
}

/// One client's legacy session.
pub struct Session {
    /// What it is known by, on whichever node.
    pub serial: Serial,
    /// When it was opened, on whichever node.
    pub began: SystemTime,
    /// Whose session it is; to anybody else it does not exist.
    pub principal: Arc<Principal>,
    /// The client's `initialize` request, replayed whenever an upstream session is opened.
    pub initialize: Message,
    /// The negotiated protocol revision.
    pub version: &'static str,
    /// The upstream this session is for, by [`crate::plan::Upstream::identity`]; `None` on the aggregated route.
    pub upstream: Option<Key>,
    /// The virtual server it is for; `None` on `/mcp` and on a route of one upstream.
    pub server: Option<String>,
    /// Whether its exchanges pass through to the upstream as bytes; decided when it is opened.
    pub relayed: OnceLock<bool>,
    /// Cancelled when the session is over; streams that belong to it end.
    pub ended: CancellationToken,
    id: OnceLock<SessionId>,
    remote: Mutex<Option<Arc<Remote>>>,
    log_level: Mutex<Option<String>>,
    streaming: AtomicBool,
    /// Calls at work.
    calls: AtomicUsize,
    opened: Instant,
    last_used_ms: AtomicU64,
    streams: Slot,
    router: Slot,
    upstreams: Slot,
}

/// The upstream's side of a session that passes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// On which side of the upstream.
    pub store: Store,
    /// Which endpoint, by its place in [`crate::plan::Upstream::endpoints`].
    pub endpoint: usize,
    /// The id that the endpoint minted; `None`: it has no sessions.
    pub id: Option<String>,
}

impl Session {
    /// A session, used now.
    #[must_use]
    pub fn new(opening: Opening) -> Self {
        let Opening { serial, began, principal, initialize, version, upstream, server } = opening;
        Self {
            serial,
            began,
            principal,
            initialize,
            version,
            upstream,
            server,
            relayed: OnceLock::new(),
            ended: CancellationToken::new(),
            id: OnceLock::new(),
            remote: Mutex::default(),
            log_level: Mutex::default(),
            streaming: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            opened: Instant::now(),
            last_used_ms: AtomicU64::new(0),
            streams: Slot::default(),
            router: Slot::default(),
            upstreams: Slot::default(),
        }
    }

    /// What the client sends back with each request; `None` before it is told.
    #[must_use]
    pub fn id(&self) -> Option<&SessionId> {
        self.id.get()
    }

    /// Gives it its id, once.
    pub fn set_id(&self, id: SessionId) {
        let _ = self.id.set(id);
    }

    /// The upstream's side, where exchanges pass through and it was opened.
    #[must_use]
    pub fn remote(&self) -> Option<Arc<Remote>> {
        self.remote.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes on with another session of the upstream.
    pub fn set_remote(&self, remote: Remote) {
        *self.remote.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(remote));
    }

    /// Notes that the client was heard at `now`.
    pub fn touch(&self, now: Instant) {
        let since = now.saturating_duration_since(self.opened).as_millis();
        self.last_used_ms.fetch_max(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long the client has been silent. A session whose GET stream is open, or that waits for an answer, is
    /// never idle.
    #[must_use]
    pub fn idle(&self, now: Instant) -> std::time::Duration {
        if self.streaming.load(Ordering::Relaxed) || self.calls.load(Ordering::Relaxed) > 0 {
            return std::time::Duration::ZERO;
        }
        let used = std::time::Duration::from_millis(self.last_used_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(self.opened).saturating_sub(used)
    }

    /// Notes that a call is at work, until what this returns is dropped.
    #[must_use]
    pub fn at_work(self: &Arc<Self>) -> AtWork {
        self.calls.fetch_add(1, Ordering::Relaxed);
        AtWork(self.clone())
    }

    /// Takes the one GET stream of the session; false when it is taken.
    pub fn take_stream(&self) -> bool {
        !self.streaming.swap(true, Ordering::AcqRel)
    }

    /// Gives the GET stream back.
    pub fn give_stream_back(&self) {
        self.streaming.store(false, Ordering::Release);
    }

    /// The level set by `logging/setLevel`, if any.
    #[must_use]
    pub fn log_level(&self) -> Option<String> {
        self.log_level.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers the level set by `logging/setLevel`.
    pub fn set_log_level(&self, level: String) {
        *self.log_level.lock().unwrap_or_else(PoisonError::into_inner) = Some(level);
    }

    /// What the session layer keeps for this session.
    pub fn stream_state<T: Default + Send + Sync + 'static>(&self) -> &T {
        self.streams.state()
    }

    /// What the router keeps for this session.
    pub fn router_state<T: Default + Send + Sync + 'static>(&self) -> &T {
        self.router.state()
    }

    /// What the upstream layer keeps for this session.
    pub fn upstream_state<T: Default + Send + Sync + 'static>(&self) -> &T {
        self.upstreams.state()
    }
}

/// A call of a session at work.
#[derive(Debug)]
pub struct AtWork(Arc<Session>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.touch(Instant::now());
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("version", &self.version).finish_non_exhaustive()
    }
}

/// A place for one layer's own state, so that this leaf need not know its type.
#[derive(Default)]
struct Slot(OnceLock<Box<dyn Any + Send + Sync>>);

impl Slot {
    fn state<T: Default + Send + Sync + 'static>(&self) -> &T {
        self.0
            .get_or_init(|| Box::new(T::default()))
            .downcast_ref()
            .expect("each slot belongs to one layer, which asks for one type")
    }
}
