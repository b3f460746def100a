//! Hears whether what is kept has changed, where nobody else may be listening: one subscription of the gateway's own
//! at each upstream of which answers are kept and which announces its changes.
//!
//! It is opened once there is something to hear about, again when that is more than before, and let go when nothing
//! is kept any more. Where it cannot be had, an answer's life alone decides. What was kept while a subscription was
//! lost is doubted: see [`Scope::doubt`]. It must never start a process, nor keep one running that its operator wants
//! ended when idle.

use super::{
    Inner,
    entry::Terms,
    scope::{Scope, Subject},
    tap,
};
use crate::{
    call::{Ask, Call, Caller, Messages, Route, Upstreams, read_messages},
    failure::{Failure, Kind},
    mcp::{self, Message, era, header, json, method, own, rpc},
    plan::{self, Endpoint, Plan},
    principal::Principal,
};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue};
use o1_process::OnExit;
use o1_proto::model::{Processes, TierLimits};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};

/// Resources of one upstream that are listened to; of more, those that are kept longest.
const URIS_MAX: usize = 256;
/// What comes to be kept within this time is asked for together.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// A subscription is not opened for more things sooner than this after the one before.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// How long an upstream may take to accept a subscription.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked whether anything is kept still.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// A subscription that lasted this long was not a failure.
const LASTED: Duration = Duration::from_secs(10);
/// After so many in a row that did not, an upstream is left in peace like one that has none.
const SHORT_MAX: u32 = 3;
/// For how long.
const PEACE: Duration = Duration::from_secs(5 * 60);

/// What is listened to, by upstream.
#[derive(Default)]
pub(super) struct Listening(Mutex<HashMap<plan::Key, Arc<Ear>>>);

impl Listening {
    /// Forgets what a plan does not serve.
    pub(super) fn retain(&self, plan: &Plan) {
        self.lock().retain(|key, _| plan.by_key(key).is_some());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<plan::Key, Arc<Ear>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept of one upstream.
#[derive(Default)]
struct Ear {
    kept: Mutex<Kept>,
    /// More is kept than before.
    more: Notify,
}

#[derive(Default)]
struct Kept {
    /// Until when something is that a change of the list concerns, in the order of [`LISTS`].
    lists: [Option<Instant>; LISTS.len()],
    /// The same of resources.
    uris: BTreeMap<Box<str>, Instant>,
    /// Somebody listens, or is about to.
    attended: bool,
    /// Subscriptions in a row that did not last.
    short: u32,
}

/// Members of the filter of a subscription, and the capabilities that announce what they let through.
const LISTS: [(&str, &str); 3] =
    [("toolsListChanged", "tools"), ("promptsListChanged", "prompts"), ("resourcesListChanged", "resources")];

/// What a subscription is for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    lists: [bool; LISTS.len()],
    uris: BTreeSet<Box<str>>,
}

/// What an upstream announces.
struct Announced {
    lists: [bool; LISTS.len()],
    resources: bool,
}

/// How listening ended.
enum End {
    /// Nothing is kept any more.
    Done,
    /// The upstream says nothing by itself.
    Mute,
    /// What it said from some moment on, nobody heard.
    Lost {
        /// For how long somebody had heard it.
        lasted: Duration,
    },
}

/// Whether listening to an upstream costs nothing but a connection. Modern callers have talked to what is listened
/// to, in the same era; legacy callers of a process may not have.
fn may_listen(caller: &Caller, upstream: &plan::Upstream) -> bool {
    let modern = matches!(caller, Caller::Modern);
    upstream.endpoints.iter().all(|endpoint| match endpoint {
        Endpoint::Http { .. } => true,
        Endpoint::Stdio { processes, idle_stop, .. } => {
            modern && *processes == Processes::Shared && idle_stop.is_none()
        }
    })
}

impl<N: Upstreams> Inner<N> {
    /// An answer is kept on these terms, for callers like this one: hears from now on whether it changes.
    pub(super) fn listen_for(
        self: &Arc<Self>,
        call: &Call,
        upstream: &Arc<plan::Upstream>,
        terms: &Terms,
        limits: &TierLimits,
    ) {
        // Whoever asks for what is fresh listens by itself.
        if call.fresh || !may_listen(&call.caller, upstream) {
            return;
        }
        let ear = self.listening.lock().entry(upstream.key).or_default().clone();
        let window = limits.stale_while_revalidate.max(limits.stale_if_error);
        if ear.keep(&terms.subject, terms.received + terms.life + window) {
            let post = Post { upstream: upstream.clone(), scope: terms.scope.clone(), ear };
            let inner = self.clone();
            self.context.tasks.spawn(
                format!("cache listens to {}", upstream.name),
                OnExit::Quiet,
                async move {
                    let (stopping, mut plans) =
                        (inner.context.tasks.stopping(), inner.context.current.watch());
                    tokio::select! {
                        () = inner.attend(&post) => {}
                        // It may be served again.
                        _ = plans.wait_for(|plan| !plan.serves(&post.upstream)) => post.ear.abandon(),
                        () = stopping.cancelled() => {}
                    }
                },
            );
        }
    }

    /// Listens for as long as anything is kept.
    async fn attend(&self, post: &Post) {
        loop {
            sleep(DEBOUNCE).await;
            if post.ear.leaves() {
                return;
            }
            match self.hear(post).await {
                End::Done => {}
                End::Mute => sleep(PEACE).await,
                End::Lost { lasted } => {
                    tracing::debug!(upstream = post.upstream.name, ?lasted, "a subscription was lost");
                    post.scope.doubt();
                    sleep(post.ear.lost(lasted)).await;
                }
            }
        }
    }

    /// One subscription after the other, each for more than the one before.
    async fn hear(&self, post: &Post) -> End {
        let announced = match self.announced(post).await {
            Ok(announced) => announced,
            Err(failure) => return End::of(&failure),
        };
        let (mut began, mut current) = (Instant::now(), None::<(Filter, Messages)>);
        loop {
            let Some(filter) = post.ear.filter(&announced) else { return End::Done };
            if !current.as_ref().map_or(&Filter::default(), |(current, _)| current).covers(&filter) {
                let opened = tokio::select! {
                    opened = self.open(post, &filter) => opened,
                    // Meanwhile the one before is listened to.
                    () = follow(&mut current, &post.scope) => return End::Lost { lasted: began.elapsed() },
                };
                current = match opened {
                    Ok(messages) => Some((filter, messages)),
                    Err(failure) => return End::of(&failure),
                };
                began = Instant::now();
            }
            let more = async {
                post.ear.more.notified().await;
                sleep_until(began + REOPEN_AFTER).await;
            };
            tokio::select! {
                () = follow(&mut current, &post.scope) => return End::Lost { lasted: began.elapsed() },
                () = more => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// What the upstream says it will tell.
    async fn announced(&self, post: &Post) -> Result<Announced, Failure> {
        let call = post.call(&self.context.current.plan(), method::DISCOVER, "");
        let handshake = timeout(OPEN_WITHIN, self.next.handshake(&call, post.upstream.clone()));
        let handshake = handshake.await.map_err(|_| silent())??;
        let says = |path: [&str; 2]| {
            let path = ["capabilities", path[0], path[1]];
            let found = handshake.result().map(|at| json::find(handshake.bytes(), &at, &path));
            matches!(found, Some(Ok(Some(at))) if &handshake.bytes()[at.clone()] == b"true")
        };
        let lists = LISTS.map(|(_, capability)| says([capability, "listChanged"]));
        Ok(Announced { lists, resources: says(["resources", "subscribe"]) })
    }

    /// A subscription, accepted.
    async fn open(&self, post: &Post, filter: &Filter) -> Result<Messages, Failure> {
        let call = post.call(&self.context.current.plan(), method::LISTEN, &filter.params());
        let opened = async {
            let reply = self.next.ask(call, post.upstream.clone()).await?;
            let mut messages = read_messages(reply);
            match messages.next().await {
                Some(Ok(first)) if first.method() == method::LISTEN_ACKNOWLEDGED => Ok(messages),
                _ => Err(Failure::new(Kind::Protocol, "the upstream accepts no subscription")),
            }
        };
        timeout(OPEN_WITHIN, opened).await.map_err(|_| silent())?
    }
}

/// Hears what is said until nothing more can be; for ever where there is no subscription.
async fn follow(current: &mut Option<(Filter, Messages)>, scope: &Scope) {
    let Some((_, messages)) = current else { return std::future::pending().await };
    while let Some(Ok(message)) = messages.next().await {
        if message.kind() == mcp::Kind::Response {
            return;
        }
        tap::hear(scope, &message);
    }
}

fn silent() -> Failure {
    Failure::new(Kind::Protocol, "the upstream neither accepts nor refuses a subscription")
}

/// Who is listened to, for what.
struct Post {
    upstream: Arc<plan::Upstream>,
    scope: Arc<Scope>,
    ear: Arc<Ear>,
}

impl Post {
    /// A request of the gateway's own.
    fn call(&self, plan: &Arc<Plan>, method: &'static str, params: &str) -> Call {
        let version = era::MODERN[0];
        let params = format!(r#"{{"_meta":{}{params}}}"#, own::envelope(version, "{}"));
        let id = json::quote(&format!("o1:cache:{method}"));
        let message = Message::parse(&rpc::request(&id, method, params.as_bytes()))
            .expect("a request of our own is a message");
        let mut headers = HeaderMap::new();
        headers.insert(header::PROTOCOL_VERSION, HeaderValue::from_static(version));
        headers.insert(header::METHOD, HeaderValue::from_static(method));
        Call {
            plan: plan.clone(),
            route: Route::One(self.upstream.clone()),
            principal: Principal::anonymous(),
            caller: Caller::Modern,
            ask: Ask::Message(message),
            headers,
            fresh: true,
        }
    }
}

impl End {
    fn of(failure: &Failure) -> Self {
        match failure.kind {
            Kind::Unreachable => Self::Lost { lasted: Duration::ZERO },
            _ => Self::Mute,
        }
    }
}

impl Ear {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is kept; true when somebody has to begin to listen.
    fn keep(&self, subject: &Subject, until: Instant) -> bool {
        let mut kept = self.lock();
        let more = match subject {
            Subject::Tool(_) | Subject::List(method::TOOLS_LIST) => kept.list(0, until),
            Subject::Prompt(_) | Subject::List(method::PROMPTS_LIST) => kept.list(1, until),
            Subject::List(method::RESOURCES_LIST | method::TEMPLATES_LIST) => kept.list(2, until),
            Subject::Resource(uri) => kept.resource(uri, until),
            // Nothing is said of these.
            _ => return false,
        };
        if more {
            self.more.notify_one();
        }
        !std::mem::replace(&mut kept.attended, true)
    }

    /// What is to be heard now; `None`: nothing is kept.
    fn filter(&self, announced: &Announced) -> Option<Filter> {
        let mut kept = self.lock();
        if kept.is_empty(Instant::now()) {
            return None;
        }
        let lists = std::array::from_fn(|at| announced.lists[at] && kept.lists[at].is_some());
        let uris = if announced.resources { kept.uris.keys().cloned().collect() } else { BTreeSet::new() };
        Some(Filter { lists, uris })
    }

    /// Whether nothing is kept: then nobody listens from now on.
    fn leaves(&self) -> bool {
        let mut kept = self.lock();
        let leaves = kept.is_empty(Instant::now());
        kept.attended = !leaves;
        leaves
    }

    /// Nobody listens from now on, whatever is kept.
    fn abandon(&self) {
        self.lock().attended = false;
    }

    /// Nothing that was kept counts any more; gives how long to wait before anybody listens again.
    fn lost(&self, lasted: Duration) -> Duration {
        let mut kept = self.lock();
        (kept.lists, kept.uris) = Default::default();
        kept.short = if lasted < LASTED { kept.short + 1 } else { 0 };
        if kept.short < SHORT_MAX {
            return Duration::from_secs(kept.short.into());
        }
        kept.short = 0;
        PEACE
    }
}

impl Kept {
    /// True when nothing like it was kept before.
    fn list(&mut self, at: usize, until: Instant) -> bool {
        let before = self.lists[at];
        self.lists[at] = before.max(Some(until));
        before.is_none()
    }

    /// The same of a resource.
    fn resource(&mut self, uri: &str, until: Instant) -> bool {
        if let Some(known) = self.uris.get_mut(uri) {
            *known = until.max(*known);
            return false;
        }
        self.uris.insert(uri.into(), until);
        if self.uris.len() > URIS_MAX {
            let first = self.uris.iter().min_by_key(|(_, until)| **until).map(|(uri, _)| uri.clone());
            first.and_then(|uri| self.uris.remove(&uri));
        }
        true
    }

    fn is_empty(&mut self, now: Instant) -> bool {
        for until in &mut self.lists {
            *until = until.filter(|until| *until > now);
        }
        self.uris.retain(|_, until| *until > now);
        self.uris.is_empty() && self.lists.iter().all(Option::is_none)
    }
}

impl Filter {
    fn covers(&self, other: &Self) -> bool {
        let lists = self.lists.iter().zip(other.lists).all(|(ours, theirs)| *ours || !theirs);
        lists && other.uris.is_subset(&self.uris)
    }

    /// The member of `params` that says it.
    fn params(&self) -> String {
        let lists = LISTS.iter().zip(self.lists).filter(|(_, wanted)| *wanted);
        let mut members: Vec<_> = lists.map(|((name, _), _)| format!(r#""{name}":true"#)).collect();
        if !self.uris.is_empty() {
            let uris: Vec<_> =
                self.uris.iter().map(|uri| String::from_utf8_lossy(&json::quote(uri)).into_owned()).collect();
            members.push(format!(r#""resourceSubscriptions":[{}]"#, uris.join(",")));
        }
        format!(r#","notifications":{{{}}}"#, members.join(","))
    }
}
