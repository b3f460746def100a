//! What many upstreams say beside answers, on one stream: the GET stream of a legacy session and the
//! `subscriptions/listen` stream of a modern client. Upstreams come and go with the plan and with their own
//! luck; the client's stream stays. That lists changed is said by the gateway, when what this client sees has.

use super::{
    Router,
    again::Again,
    catalogue::{Following, moved},
    category::Category,
    listen::LISTS,
    notices,
    requests::{State, Told},
    status::{self, Followed},
};
use crate::{
    call::{Ask, Call, Messages, Reply, Route, Session, Upstreams, read_messages},
    failure::Kind,
    mcp::{self, Message, era, json, method, rpc},
    plan::{Key, Plan, Upstream},
    stores::Notice,
};
use futures_util::StreamExt as _;
use o1_process::{AbortOnDrop, OnExit};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;

/// Messages that wait for a client that reads slowly; more wait at their upstreams.
const QUEUE: usize = 64;
/// Changes within this time are told together.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Whose stream it is.
pub(super) enum For {
    /// A legacy session's GET stream.
    Session(Arc<Session>),
    /// A modern client's `subscriptions/listen`.
    Listen(Box<Listen>),
}

/// A modern subscription, as honoured.
pub(super) struct Listen {
    pub(super) request: Message,
    /// `toolsListChanged`, `promptsListChanged`, `resourcesListChanged`.
    pub(super) lists: [bool; 3],
    /// Resources, by the name of the upstream that owns them.
    pub(super) resources: HashMap<String, Vec<String>>,
    /// Resources that are the gateway's own.
    pub(super) statuses: Followed,
}

impl<N: Upstreams> Router<N> {
    /// The GET stream of a session.
    pub(super) fn session_stream(&self, call: &Call, session: &Arc<Session>) -> Reply {
        Reply::messages(self.feed(call, For::Session(session.clone()), None))
    }

    /// Starts a stream, with `first` as its first message.
    pub(super) fn feed(&self, call: &Call, of: For, first: Option<Message>) -> Messages {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let feed = Feed { router: self.clone(), call: call.clone(), of: Arc::new(of), sender };
        self.context.tasks.spawn("client stream", OnExit::Quiet, async move {
            if let Some(first) = first
                && feed.sender.send(first).await.is_err()
            {
                return;
            }
            feed.run().await;
        });
        ReceiverStream::new(receiver).map(Ok).boxed()
    }
}

/// What is heard for a stream, as long as it is wanted.
#[derive(Default)]
struct Sources {
    upstreams: HashMap<Key, AbortOnDrop>,
    statuses: HashMap<Key, AbortOnDrop>,
}

/// Why nothing more came from an upstream.
enum Ended {
    /// The client is gone.
    Unwanted,
    /// The upstream has no such stream, or refused it.
    Refused,
    /// It broke off, or could not be asked.
    Broken,
}

struct Feed<N> {
    router: Router<N>,
    call: Call,
    of: Arc<For>,
    sender: mpsc::Sender<Message>,
}

impl<N> Clone for Feed<N> {
    fn clone(&self) -> Self {
        Self {
            router: self.router.clone(),
            call: self.call.clone(),
            of: self.of.clone(),
            sender: self.sender.clone(),
        }
    }
}

impl<N: Upstreams> Feed<N> {
    /// Follows the plan and the catalogue until the client goes, the session is over or the process stops.
    async fn run(mut self) {
        let mut plans = self.router.context.current.watch();
        let stopping = self.router.context.tasks.stopping();
        let mut notices = self.router.context.stores.notices();
        let mut sources = Sources::default();
        let mut told = Told::default();
        let _hearing = self.of.hearing();
        loop {
            let plan = plans.borrow_and_update().clone();
            if !self.adopt(&plan) {
                return;
            }
            self.follow(&mut sources);
            let Some(following) = self.following() else { return };
            let mut changed = following.view().watch();
            if self.tell(&following, &mut told).await.is_err() {
                return;
            }
            let closed = following.view().closed();
            tokio::select! {
                changed = plans.changed() => if changed.is_err() { return },
                _ = changed.changed() => {}
                () = self.of.stirred() => {
                    self.check_own();
                    continue;
                }
                notice = notices::next(&mut notices) => {
                    if self.announce(&notice).await.is_err() {
                        return;
                    }
                    continue;
                }
                () = closed.cancelled() => {}
                () = self.sender.closed() => return,
                () = self.of.over() => return,
                () = stopping.cancelled() => {
                    drop(sources);
                    if let Some(farewell) = self.of.farewell() {
                        // A client that does not read is cut by the drain.
                        let _ = self.sender.try_send(farewell);
                    }
                    return;
                }
            }
            tokio::time::sleep(DEBOUNCE).await;
        }
    }

    /// Goes on under another plan; false when its route is gone.
    fn adopt(&mut self, plan: &Arc<Plan>) -> bool {
        let Route::Server(server) = &self.call.route else { return false };
        let server = match &server.name {
            None => Some(&plan.everything),
            Some(name) => plan.server(name),
        };
        let Some(server) = server.cloned() else { return false };
        self.call.plan = plan.clone();
        self.call.route = Route::Server(server);
        true
    }

    /// Starts and ends sources: one for each upstream that has something to say here, and one for each that the
    /// gateway has to say something of.
    fn follow(&self, sources: &mut Sources) {
        let Route::Server(server) = &self.call.route else { return };
        let Sources { upstreams, statuses } = sources;
        upstreams.retain(|key, _| server.upstreams.iter().any(|one| one.key == *key));
        for upstream in server.upstreams.iter().filter(|one| self.of.concerns(one)) {
            if let Entry::Vacant(vacant) = upstreams.entry(upstream.key) {
                let (source, of) = (self.clone(), upstream.clone());
                let task =
                    self.router.context.tasks.spawn("client stream source", OnExit::Quiet, source.source(of));
                vacant.insert(task.abort_on_drop());
            }
        }
        let is_followed = |one: &&Arc<Upstream>| {
            self.of.followed().is_followed(one) && status::is_shown(server, &self.call.principal.access, one)
        };
        let followed: Vec<_> = server.upstreams.iter().filter(is_followed).collect();
        statuses.retain(|key, _| followed.iter().any(|one| one.key == *key));
        for upstream in followed {
            if let Entry::Vacant(vacant) = statuses.entry(upstream.key) {
                let (source, of) = (self.clone(), upstream.clone());
                let task =
                    self.router.context.tasks.spawn("client status source", OnExit::Quiet, source.status(of));
                vacant.insert(task.abort_on_drop());
            }
        }
    }

    fn following(&self) -> Option<Following> {
        let Route::Server(server) = &self.call.route else { return None };
        Some(Following::new(&self.router.view(&self.call, &server.upstreams).ok()?))
    }

    /// Looks again at what the session's own upstream sessions say has changed. Beside the stream: they may be
    /// slow. One at a time, and what is said meanwhile is looked at once.
    fn check_own(&self) {
        let For::Session(session) = &*self.of else { return };
        if State::of(session).begins_check() {
            let (feed, session) = (self.clone(), session.clone());
            self.router.context.tasks.spawn("a session's own lists", OnExit::Quiet, async move {
                let checking = Checking(session);
                tokio::time::sleep(DEBOUNCE).await;
                feed.router.check_suspects(&feed.call, &checking.0).await;
            });
        }
    }

    /// Says which lists have changed since the client last heard of them, when they really have.
    async fn tell(
        &self,
        following: &Following,
        told: &mut Told,
    ) -> Result<(), mpsc::error::SendError<Message>> {
        let mut now = Told::default();
        for category in Category::ALL {
            let index = self.router.index_now(&self.call, following.view(), category);
            now[category.at()] = index.ok().map(|index| index.digest);
        }
        let changed = match &*self.of {
            For::Session(session) => State::of(session).with_told(|told| differ(told, now)),
            For::Listen(_) => differ(told, now),
        };
        for (at, method) in method::LIST_CHANGED.into_iter().enumerate() {
            let any = Category::ALL.into_iter().any(|one| one.changed() == method && changed[one.at()]);
            if let Some(note) = self.of.list_changed(at, method).filter(|_| any) {
                self.sender.send(note).await?;
            }
        }
        Ok(())
    }

    /// Says that something other answers than before, to a session that may know and wants to.
    async fn announce(&self, notice: &Notice) -> Result<(), mpsc::error::SendError<Message>> {
        let (For::Session(session), Route::Server(server)) = (&*self.of, &self.call.route) else {
            // Nothing but what was subscribed to may come by the other kind (2026-07-28, "subscriptions").
            return Ok(());
        };
        let of = server.upstreams.iter().find(|one| one.name == notice.upstream);
        let Some(upstream) = of.filter(|one| self.call.principal.access.upstream(one)) else { return Ok(()) };
        if State::of(session).may_log()
            && let Some(message) = notices::message(notice, upstream, session.log_level().as_deref())
        {
            self.sender.send(message).await?;
            self.router.context.stores.told(&notice.upstream);
        }
        Ok(())
    }

    /// Says that the status of an upstream is another.
    async fn status(self, upstream: Arc<Upstream>) {
        let gate = self.router.context.stores.gate(&upstream.name);
        let mut changes = status::Changes::of(&gate);
        loop {
            changes.seen();
            if self.of.followed().is_news(&gate, &upstream)
                && let Some(updated) = self.of.updated(&upstream)
                && self.sender.send(updated).await.is_err()
            {
                return;
            }
            changes.next().await;
            tokio::time::sleep(DEBOUNCE).await;
        }
    }

    /// Forwards what one upstream says, and connects again for as long as the stream is wanted.
    async fn source(self, upstream: Arc<Upstream>) {
        let Some(ask) = self.of.ask(&upstream) else { return };
        let call = Call { ask, ..self.call.clone() };
        let gate = self.router.context.stores.gate(&upstream.name);
        let mut again = Again::new();
        loop {
            let (began, moves) = (Instant::now(), gate.moves());
            let asked = tokio::select! {
                asked = self.router.next.ask(call.clone(), upstream.clone()) => Some(asked),
                // The store that calls left may never answer.
                () = moved(&gate, moves) => None,
            };
            self.of.hears(&upstream.name);
            let ended = match asked {
                Some(Ok(reply)) => {
                    let ended = self.forward(read_messages(reply), &upstream.key, moves).await;
                    // What it says until the next stream stands, nobody hears.
                    self.of.suspects(&upstream.key);
                    ended
                }
                // It has no such stream: it says nothing beside answers.
                Some(Err(failure)) if matches!(failure.kind, Kind::UnknownMethod | Kind::WrongEra) => {
                    Ended::Refused
                }
                Some(Err(failure)) => {
                    let error = failure.chain();
                    tracing::debug!(upstream = upstream.name, error, "no stream from the upstream");
                    Ended::Broken
                }
                None => Ended::Broken,
            };
            let wait = again.after(began);
            match ended {
                Ended::Unwanted => return,
                // There is no use in asking again, unless another store answers.
                Ended::Refused => moved(&gate, moves).await,
                Ended::Broken => tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = moved(&gate, moves) => {}
                },
            }
            if gate.moves() != moves {
                again.moved();
                // What the other store lists for this session may be something else.
                self.of.suspects(&upstream.key);
            }
        }
    }

    async fn forward(&self, mut messages: Messages, upstream: &Key, moves: u64) -> Ended {
        while let Some(Ok(message)) = messages.next().await {
            if message.kind() == mcp::Kind::Response {
                // A listen stream that ended: taken up again. One that was refused: not.
                return if message.error().is_none() { Ended::Broken } else { Ended::Refused };
            }
            if let Some(message) = self.of.outward(upstream, moves, message)
                && self.sender.send(message).await.is_err()
            {
                return Ended::Unwanted;
            }
        }
        Ended::Broken
    }
}

impl For {
    async fn over(&self) {
        match self {
            Self::Session(session) => session.ended.cancelled().await,
            Self::Listen(_) => std::future::pending().await,
        }
    }

    /// Tells the session's requests that there is a stream to wait for.
    fn hearing(&self) -> Option<Hearing> {
        let Self::Session(session) = self else { return None };
        State::of(session).has_stream(true);
        Some(Hearing(session.clone()))
    }

    fn hears(&self, upstream: &str) {
        if let Self::Session(session) = self {
            State::of(session).hears(upstream);
        }
    }

    /// What is its own session's of an upstream may be something else now.
    fn suspects(&self, upstream: &Key) {
        if let Self::Session(session) = self {
            State::of(session).suspect_own(upstream);
        }
    }

    /// What the client follows of the gateway's own.
    fn followed(&self) -> &Followed {
        match self {
            Self::Session(session) => &State::of(session).followed,
            Self::Listen(listen) => &listen.statuses,
        }
    }

    /// That the status of an upstream is another.
    fn updated(&self, upstream: &Upstream) -> Option<Message> {
        let tag = match self {
            Self::Session(_) => None,
            Self::Listen(listen) => Some(listen.tag()),
        };
        let params = status::updated(upstream, tag.as_deref());
        Message::parse(&rpc::notification(method::RESOURCE_UPDATED, Some(params.as_bytes()))).ok()
    }

    /// When there may be more to follow or to tell.
    async fn stirred(&self) {
        match self {
            Self::Session(session) => State::of(session).stirred.notified().await,
            Self::Listen(_) => std::future::pending().await,
        }
    }

    /// Whether an upstream has anything to say here. An upstream that a session has not talked to yet has no
    /// session of its own to say it in.
    fn concerns(&self, upstream: &Upstream) -> bool {
        match self {
            Self::Session(session) => State::of(session).is_used(&upstream.name),
            Self::Listen(listen) => listen.resources.contains_key(&upstream.name),
        }
    }

    /// What to ask an upstream for; `None`: it has nothing to say here.
    fn ask(&self, upstream: &Upstream) -> Option<Ask> {
        let listen = match self {
            Self::Session(_) => return Some(Ask::Stream),
            Self::Listen(listen) => listen,
        };
        let own = listen.resources.get(&upstream.name)?;
        let mut edits = Vec::new();
        // That lists changed is the gateway's to say.
        for list in LISTS {
            let at = listen.request.param(&["notifications", list]).ok().flatten();
            edits.extend(at.map(|at| (at, b"false".to_vec())));
        }
        let at = listen.request.param(&["notifications", "resourceSubscriptions"]).ok().flatten()?;
        edits.push((at, serde_json::to_vec(own).expect("strings serialise")));
        Some(Ask::Message(listen.request.spliced(edits)))
    }

    /// A message of an upstream as the client may see it.
    fn outward(&self, upstream: &Key, moves: u64, message: Message) -> Option<Message> {
        match self {
            Self::Session(session) => State::of(session).outward(upstream, moves, message),
            // The subscription was acknowledged already, by the gateway.
            Self::Listen(_) if message.method() == method::LISTEN_ACKNOWLEDGED => None,
            Self::Listen(_) if method::LIST_CHANGED.contains(&message.method()) => None,
            Self::Listen(_) => Some(message),
        }
    }

    /// A `list_changed` of the gateway's own; `at` is the place in [`Listen::lists`].
    fn list_changed(&self, at: usize, method: &str) -> Option<Message> {
        let params = match self {
            Self::Session(_) => None,
            Self::Listen(listen) if listen.lists[at] => Some(format!(r#"{{"_meta":{}}}"#, listen.tag())),
            Self::Listen(_) => return None,
        };
        Message::parse(&rpc::notification(method, params.as_deref().map(str::as_bytes))).ok()
    }

    fn farewell(&self) -> Option<Message> {
        let Self::Listen(listen) = self else { return None };
        let result = format!(r#"{{"resultType":"complete","_meta":{}}}"#, listen.tag());
        Message::parse(&rpc::result(listen.request.id()?, result.as_bytes())).ok()
    }
}

/// While somebody looks at a session's own lists.
struct Checking(Arc<Session>);

impl Drop for Checking {
    fn drop(&mut self) {
        State::of(&self.0).ends_check();
    }
}

/// While a session has its stream.
struct Hearing(Arc<Session>);

impl Drop for Hearing {
    fn drop(&mut self) {
        State::of(&self.0).has_stream(false);
    }
}

/// Which digests differ from those told before. What was never told is not news: the client has not asked.
fn differ(told: &mut Told, now: Told) -> [bool; 4] {
    let before = std::mem::replace(told, now);
    let mut changed = [false; 4];
    for (at, changed) in changed.iter_mut().enumerate() {
        *changed = before[at].is_some() && before[at] != told[at];
    }
    changed
}

impl Listen {
    /// `_meta` with the id of the subscription, as its request spelled it.
    pub(super) fn tag(&self) -> String {
        let id = String::from_utf8_lossy(self.request.id().unwrap_or(b"null"));
        format!(r#"{{{}:{id}}}"#, String::from_utf8_lossy(&json::quote(era::META_SUBSCRIPTION)))
    }
}
