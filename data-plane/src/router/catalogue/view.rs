//! What upstreams offer to clients of one kind: servers vary their lists by the era and the capabilities of
//! whoever asks, so clients that declare the same see the same view.

use super::{
    super::{category::Category, offer::Indices},
    List,
};
use crate::{
    call::{Ask, Call, Caller, Opening, Route, Session},
    mcp::{Era, Message, era, header, json, own, rpc},
    plan::{Key, Plan, Upstream},
    principal::Principal,
};
use http::{HeaderMap, HeaderValue};
use o1_proto::model::Life;
use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Capabilities beyond this size count as none: no client declares so much.
const CAPABILITIES_MAX: usize = 16 << 10;

/// What distinguishes views: what a client is to an upstream, as far as lists may depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::router) struct Kind {
    modern: bool,
    version: String,
    /// Raw JSON.
    capabilities: Vec<u8>,
}

impl Kind {
    /// A legacy client that declares nothing.
    pub(super) fn plain() -> Self {
        Self { modern: false, version: era::LEGACY[0].to_owned(), capabilities: b"{}".to_vec() }
    }

    pub(in crate::router) fn of_session(session: &Session) -> Self {
        let initialize = &session.initialize;
        let found = initialize.param(&["capabilities"]).ok().flatten();
        let capabilities = usable(found.map(|at| &initialize.bytes()[at]));
        Self { modern: false, version: session.version.to_owned(), capabilities }
    }

    pub(in crate::router) fn of_message(message: &Message) -> Self {
        let (text, meta) = (message.bytes(), message.param(&["_meta"]).ok().flatten());
        let inside = |key| meta.as_ref().and_then(|meta| json::find(text, meta, &[key]).ok().flatten());
        let version = inside(era::META_VERSION).and_then(|at| json::string(text, &at));
        let version = version.map_or_else(|| era::MODERN[0].to_owned(), |version| version.into_owned());
        let capabilities = usable(inside(era::META_CAPABILITIES).map(|at| &text[at]));
        Self { modern: true, version, capabilities }
    }
}

fn usable(found: Option<&[u8]>) -> Vec<u8> {
    let usable = found.filter(|raw| raw.first() == Some(&b'{') && raw.len() <= CAPABILITIES_MAX);
    usable.unwrap_or(b"{}").to_vec()
}

/// See the module.
pub(in crate::router) struct View {
    kind: Kind,
    /// Whose upstream sessions the lists come through (legacy).
    session: Option<Arc<Session>>,
    pub(super) entries: RwLock<HashMap<Key, Arc<Entry>>>,
    /// Upstreams of which the first attempt has not ended.
    pub(super) pending: AtomicUsize,
    /// Counts what changed in any entry.
    changed: watch::Sender<u64>,
    /// Cancelled when nobody uses it any more.
    pub(super) closing: CancellationToken,
    pub(in crate::router) indices: Indices,
    created: Instant,
    used_ms: AtomicU64,
    streams: AtomicUsize,
}

impl View {
    pub(super) fn new(kind: Kind) -> Self {
        let session = (!kind.modern).then(|| Arc::new(session(&kind)));
        Self {
            kind,
            session,
            entries: RwLock::default(),
            pending: AtomicUsize::new(0),
            changed: watch::Sender::new(1),
            closing: CancellationToken::new(),
            indices: Indices::default(),
            created: Instant::now(),
            used_ms: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
        }
    }

    /// Notes that a client looked at it.
    pub(super) fn touch(&self) {
        let since = u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used_ms.fetch_max(since, Ordering::Relaxed);
    }

    /// How long nobody has looked at it; a client stream looks all the time.
    pub(super) fn idle(&self) -> Duration {
        if self.streams.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        let used = Duration::from_millis(self.used_ms.load(Ordering::Relaxed));
        self.created.elapsed().saturating_sub(used)
    }

    /// True when every upstream was tried: there is nothing to wait for.
    pub(in crate::router) fn is_settled(&self) -> bool {
        self.pending.load(Ordering::Relaxed) == 0
    }

    /// Counts changes; grows whenever a list may differ.
    pub(in crate::router) fn version(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Follows [`View::version`].
    pub(in crate::router) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Cancelled when it is kept no more; whoever still wants one takes another.
    pub(in crate::router) fn closed(&self) -> CancellationToken {
        self.closing.clone()
    }

    pub(super) fn bump(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// What is known of an upstream.
    pub(in crate::router) fn entry(&self, upstream: &Upstream) -> Option<Arc<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(&upstream.key).cloned()
    }

    /// What is known of some upstreams.
    pub(super) fn concerned(&self, concerned: impl Fn(&Upstream) -> bool) -> Vec<Arc<Entry>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.values().filter(|entry| concerned(&entry.upstream)).cloned().collect()
    }

    pub(super) fn is_modern(&self) -> bool {
        self.kind.modern
    }

    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    /// A call as a client of this kind would make it.
    pub(super) fn call(&self, plan: &Arc<Plan>, method: &'static str, params: &str) -> Call {
        let message = if self.kind.modern {
            let meta = own::envelope(&self.kind.version, &String::from_utf8_lossy(&self.kind.capabilities));
            let more = if params.is_empty() { String::new() } else { format!(",{params}") };
            request(method, &format!(r#"{{"_meta":{meta}{more}}}"#))
        } else {
            request(method, &format!("{{{params}}}"))
        };
        self.ask(plan, Ask::Message(message))
    }

    /// The same for what is no request.
    pub(super) fn ask(&self, plan: &Arc<Plan>, ask: Ask) -> Call {
        let mut headers = HeaderMap::new();
        let caller = match &self.session {
            Some(session) => Caller::Legacy(Some(session.clone())),
            None => {
                if let Ok(version) = HeaderValue::from_str(&self.kind.version) {
                    headers.insert(header::PROTOCOL_VERSION, version);
                }
                if let Ask::Message(message) = &ask
                    && let Ok(method) = HeaderValue::from_str(message.method())
                {
                    headers.insert(header::METHOD, method);
                }
                Caller::Modern
            }
        };
        let route = Route::Server(plan.everything.clone());
        Call {
            plan: plan.clone(),
            route,
            principal: Principal::anonymous(),
            caller,
            ask,
            headers,
            fresh: false,
        }
    }
}

fn session(kind: &Kind) -> Session {
    let capabilities = String::from_utf8_lossy(&kind.capabilities);
    let version = era::negotiate(&kind.version);
    let initialize = own::initialize(b"\"o1:initialize\"", version, &capabilities);
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).expect("the system has random numbers");
    Session::new(Opening {
        serial,
        began: SystemTime::now(),
        principal: Principal::anonymous(),
        initialize,
        version,
        upstream: None,
        server: None,
    })
}

fn request(method: &str, params: &str) -> Message {
    let id = json::quote(&format!("o1:{method}"));
    Message::parse(&rpc::request(&id, method, params.as_bytes())).expect("a request of our own is a message")
}

/// A client stream that follows a view; while there is one the view lives.
pub(in crate::router) struct Following(Arc<View>);

impl Following {
    pub(in crate::router) fn new(view: &Arc<View>) -> Self {
        view.streams.fetch_add(1, Ordering::Relaxed);
        Self(view.clone())
    }

    pub(in crate::router) fn view(&self) -> &Arc<View> {
        &self.0
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.touch();
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a view knows of one upstream.
pub(in crate::router) struct Entry {
    pub(super) upstream: Arc<Upstream>,
    state: watch::Sender<State>,
    /// Wakes its keeper: something may have changed.
    pub(super) nudged: Notify,
    created: Instant,
}

/// The same at one moment.
#[derive(Clone, Default)]
pub(in crate::router) struct State {
    /// Its answer to `initialize` or `server/discover`.
    pub handshake: Option<Message>,
    lists: [Option<Arc<List>>; 4],
    /// Since when, and why, it could not be asked.
    pub failing: Option<(SystemTime, String)>,
    /// When it last answered.
    pub fetched: Option<SystemTime>,
    /// Attempts that have begun, and those of them that have ended.
    begun: u64,
    attempts: u64,
}

impl State {
    pub(in crate::router) fn list(&self, category: Category) -> Option<&Arc<List>> {
        self.lists[category.at()].as_ref()
    }

    /// Equal digests, equal lists.
    pub(super) fn digests(&self) -> [Option<blake3::Hash>; 4] {
        self.lists.each_ref().map(|list| list.as_ref().map(|list| list.digest))
    }

    /// The shortest life of its lists: see [`List::life`]. A life of nothing says that nobody may rely on a list, not
    /// when it changes.
    pub(super) fn life(&self, rule: Option<Life>, longest: Duration) -> Option<Duration> {
        let lives = self.lists.iter().flatten().filter_map(|list| list.life(rule, longest));
        lives.filter(|life| !life.is_zero()).min()
    }
}

impl Entry {
    pub(super) fn new(upstream: &Arc<Upstream>) -> Self {
        Self {
            upstream: upstream.clone(),
            state: watch::Sender::new(State::default()),
            nudged: Notify::new(),
            created: Instant::now(),
        }
    }

    /// What is known now.
    pub(in crate::router) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// It said what it is; true when that is news.
    pub(super) fn introduced(&self, handshake: &Message) -> bool {
        let mut news = false;
        self.state.send_modify(|state| {
            news = state.handshake.as_ref().is_none_or(|known| result(known) != result(handshake));
            state.handshake = Some(handshake.clone());
        });
        news
    }

    /// A list arrived; true when it differs.
    pub(super) fn listed(&self, category: Category, list: &Arc<List>) -> bool {
        let mut news = false;
        self.state.send_modify(|state| {
            match &mut state.lists[category.at()] {
                // Whoever put it into an index holds this one.
                Some(known) if known.digest == list.digest => known.seen_again(list),
                place => {
                    *place = Some(list.clone());
                    news = true;
                }
            }
        });
        news
    }

    /// True when no attempt has ended yet.
    pub(super) fn is_untried(&self) -> bool {
        self.state.borrow().attempts == 0
    }

    /// An attempt to fetch everything begins.
    pub(super) fn attempting(&self) {
        // Nobody waits for this.
        self.state.send_if_modified(|state| {
            state.begun += 1;
            false
        });
    }

    /// An attempt to fetch everything has ended, with what went wrong; true when it ended unlike the one before.
    pub(super) fn attempted(&self, failure: Option<String>) -> bool {
        let mut news = false;
        self.state.send_modify(|state| {
            news = state.failing.is_some() != failure.is_some();
            let since = state.failing.take().map_or_else(SystemTime::now, |(since, _)| since);
            if failure.is_none() {
                state.fetched = Some(SystemTime::now());
            }
            state.failing = failure.map(|why| (since, why));
            state.attempts += 1;
        });
        news
    }

    /// Waits until `there` or the first attempt has ended, at most until `wait` after the entry was made: who
    /// hangs is waited for once.
    pub(in crate::router) async fn first(&self, wait: Duration, there: impl Fn(&State) -> bool) {
        let mut state = self.state.subscribe();
        let known = state.wait_for(|state| state.attempts > 0 || there(state));
        let _ = tokio::time::timeout_at(self.created + wait, known).await;
    }

    /// Fetches again and waits until an attempt has ended that began after this, at most `wait`.
    pub(in crate::router) async fn again(&self, wait: Duration) {
        let mut state = self.state.subscribe();
        let begun = state.borrow_and_update().begun;
        self.nudged.notify_one();
        let _ = tokio::time::timeout(wait, state.wait_for(|state| state.attempts > begun)).await;
    }
}

fn result(handshake: &Message) -> Option<&[u8]> {
    handshake.result().map(|at| &handshake.bytes()[at])
}

/// For the log.
impl View {
    pub(super) fn era(&self) -> Era {
        if self.kind.modern { Era::Modern } else { Era::Legacy }
    }
}
