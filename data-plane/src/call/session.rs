//! A legacy client session, as every layer of the path sees it.

use crate::{mcp::Message, plan::Key, principal::Principal};
use std::{
    any::Any,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The `Mcp-Session-Id` this gateway minted: 128 random bits, hexadecimal.
pub type SessionId = String;

/// One client's legacy session.
pub struct Session {
    /// What the client sends back with each request.
    pub id: SessionId,
    /// Whose session it is; to anybody else it does not exist.
    pub principal: Arc<Principal>,
    /// The client's `initialize` request, replayed whenever an upstream session is opened.
    pub initialize: Message,
    /// The negotiated protocol revision.
    pub version: &'static str,
    /// The upstream this session is for; `None` on the aggregated route.
    pub upstream: Option<Key>,
    /// The virtual server it is for; `None` on `/mcp` and on a route of one upstream.
    pub server: Option<String>,
    /// Whether its exchanges pass through to the upstream as bytes; decided when it is opened.
    pub relayed: OnceLock<bool>,
    /// Cancelled when the session is over; streams that belong to it end.
    pub ended: CancellationToken,
    log_level: Mutex<Option<String>>,
    streaming: AtomicBool,
    opened: Instant,
    last_used_ms: AtomicU64,
    router: Slot,
    upstreams: Slot,
}

impl Session {
    /// A new session, used now.
    #[must_use]
    pub fn new(
        id: SessionId,
        principal: Arc<Principal>,
        initialize: Message,
        version: &'static str,
        upstream: Option<Key>,
    ) -> Self {
        Self {
            id,
            principal,
            initialize,
            version,
            upstream,
            server: None,
            relayed: OnceLock::new(),
            ended: CancellationToken::new(),
            log_level: Mutex::default(),
            streaming: AtomicBool::new(false),
            opened: Instant::now(),
            last_used_ms: AtomicU64::new(0),
            router: Slot::default(),
            upstreams: Slot::default(),
        }
    }

    /// The same on the route of a virtual server.
    #[must_use]
    pub fn of(self, server: Option<String>) -> Self {
        Self { server, ..self }
    }

    /// Notes that the client was heard at `now`.
    pub fn touch(&self, now: Instant) {
        let since = now.saturating_duration_since(self.opened).as_millis();
        self.last_used_ms.fetch_max(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long the client has been silent. A session whose GET stream is open is never idle.
    #[must_use]
    pub fn idle(&self, now: Instant) -> std::time::Duration {
        if self.streaming.load(Ordering::Relaxed) {
            return std::time::Duration::ZERO;
        }
        let used = std::time::Duration::from_millis(self.last_used_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(self.opened).saturating_sub(used)
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

    /// What the router keeps for this session.
    pub fn router_state<T: Default + Send + Sync + 'static>(&self) -> &T {
        self.router.state()
    }

    /// What the upstream layer keeps for this session.
    pub fn upstream_state<T: Default + Send + Sync + 'static>(&self) -> &T {
        self.upstreams.state()
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
