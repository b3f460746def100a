//! What many upstreams say beside answers, on one stream: the GET stream of a legacy session and the
//! `subscriptions/listen` stream of a modern client. Upstreams come and go with the plan and with their own
//! luck; the client's stream stays.

use super::{Router, requests::State};
use crate::{
    call::{Ask, Call, Messages, Reply, Session, Upstreams, read_messages},
    failure::Kind,
    mcp::{self, Message, era, json, method, rpc},
    plan::{Key, Plan, Upstream},
};
use futures_util::StreamExt as _;
use o1_process::{AbortOnDrop, Backoff, OnExit};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;

/// Messages that wait for a client that reads slowly; more wait at their upstreams.
const QUEUE: usize = 64;
/// A stream that lasted this long was not a failure.
const LASTED: Duration = Duration::from_secs(10);

/// Whose stream it is.
pub(super) enum For {
    /// A legacy session's GET stream.
    Session(Arc<Session>),
    /// A modern client's `subscriptions/listen`.
    Listen(Listen),
}

/// A modern subscription, as honoured.
pub(super) struct Listen {
    pub(super) request: Message,
    /// `toolsListChanged`, `promptsListChanged`, `resourcesListChanged`.
    pub(super) lists: [bool; 3],
    /// Resources, by the upstream that owns them.
    pub(super) resources: HashMap<Key, Vec<String>>,
}

const LIST_CHANGED: [&str; 3] = [method::TOOLS_CHANGED, method::PROMPTS_CHANGED, method::RESOURCES_CHANGED];

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
    /// Follows the plan until the client goes, the session is over or the process stops.
    async fn run(mut self) {
        let mut plans = self.router.context.current.watch();
        let stopping = self.router.context.tasks.stopping();
        let mut sources: HashMap<Key, AbortOnDrop> = HashMap::new();
        let mut started = false;
        loop {
            let plan = plans.borrow_and_update().clone();
            let changed = self.follow(&plan, &mut sources);
            if changed && started && self.say_lists_changed().await.is_err() {
                return;
            }
            started = true;
            tokio::select! {
                changed = plans.changed() => if changed.is_err() { return },
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
        }
    }

    /// Starts and ends sources so that they are the plan's upstreams; true when that changed anything.
    fn follow(&mut self, plan: &Arc<Plan>, sources: &mut HashMap<Key, AbortOnDrop>) -> bool {
        self.call.plan = plan.clone();
        let before = sources.len();
        sources.retain(|key, _| plan.by_key(key).is_some());
        let mut changed = sources.len() != before;
        for upstream in &plan.upstreams {
            if let Entry::Vacant(vacant) = sources.entry(upstream.key) {
                let (source, of) = (self.clone(), upstream.clone());
                let task =
                    self.router.context.tasks.spawn("client stream source", OnExit::Quiet, source.source(of));
                vacant.insert(task.abort_on_drop());
                changed = true;
            }
        }
        changed
    }

    /// Forwards what one upstream says, and connects again for as long as the stream is wanted.
    async fn source(self, upstream: Arc<Upstream>) {
        let Some(ask) = self.of.ask(&upstream) else { return };
        let call = Call { ask, ..self.call.clone() };
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));
        let mut missed = false;
        loop {
            let began = Instant::now();
            match self.router.next.ask(call.clone(), upstream.clone()).await {
                Ok(reply) => {
                    // What it offers may have changed while it was away.
                    if std::mem::take(&mut missed) && self.say_lists_changed().await.is_err() {
                        return;
                    }
                    if !self.forward(read_messages(reply), &upstream.key).await {
                        return;
                    }
                    // What it says until the next stream stands, nobody hears.
                    missed = true;
                }
                // It has no such stream: it says nothing beside answers.
                Err(failure) if matches!(failure.kind, Kind::UnknownMethod | Kind::WrongEra) => return,
                Err(failure) => {
                    tracing::debug!(
                        upstream = upstream.name,
                        error = failure.chain(),
                        "no stream from the upstream"
                    );
                    missed = true;
                }
            }
            if began.elapsed() >= LASTED {
                backoff.reset();
            }
            tokio::time::sleep(backoff.next().max(Duration::from_millis(50))).await;
        }
    }

    /// False when there is no use in connecting again.
    async fn forward(&self, mut messages: Messages, upstream: &Key) -> bool {
        while let Some(Ok(message)) = messages.next().await {
            if message.kind() == mcp::Kind::Response {
                // A listen stream that ended: taken up again. One that was refused: not.
                return message.error().is_none();
            }
            if let Some(message) = self.of.outward(upstream, message)
                && self.sender.send(message).await.is_err()
            {
                return false;
            }
        }
        true
    }

    async fn say_lists_changed(&self) -> Result<(), mpsc::error::SendError<Message>> {
        for (at, method) in LIST_CHANGED.into_iter().enumerate() {
            if let Some(note) = self.of.list_changed(at, method) {
                self.sender.send(note).await?;
            }
        }
        Ok(())
    }
}

impl For {
    async fn over(&self) {
        match self {
            Self::Session(session) => session.ended.cancelled().await,
            Self::Listen(_) => std::future::pending().await,
        }
    }

    /// What to ask an upstream for; `None`: it has nothing to say here.
    fn ask(&self, upstream: &Upstream) -> Option<Ask> {
        let listen = match self {
            Self::Session(_) => return Some(Ask::Stream),
            Self::Listen(listen) => listen,
        };
        let own = listen.resources.get(&upstream.key);
        if own.is_none() && listen.lists == [false; 3] {
            return None;
        }
        let path = ["notifications", "resourceSubscriptions"];
        let edits = match listen.request.param(&path).ok().flatten() {
            None => Vec::new(),
            Some(at) => {
                let own = serde_json::to_vec(&own.cloned().unwrap_or_default()).expect("strings serialise");
                vec![(at, own)]
            }
        };
        Some(Ask::Message(listen.request.spliced(edits)))
    }

    /// A message of an upstream as the client may see it.
    fn outward(&self, upstream: &Key, message: Message) -> Option<Message> {
        match self {
            Self::Session(session) => State::of(session).outward(upstream, message),
            // The subscription was acknowledged already, by the gateway.
            Self::Listen(_) if message.method() == method::LISTEN_ACKNOWLEDGED => None,
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

impl Listen {
    /// `_meta` with the id of the subscription, as its request spelled it.
    pub(super) fn tag(&self) -> String {
        let id = String::from_utf8_lossy(self.request.id().unwrap_or(b"null"));
        format!(r#"{{{}:{id}}}"#, String::from_utf8_lossy(&json::quote(era::META_SUBSCRIPTION)))
    }
}
