//! One legacy session of the gateway's own, used by calls of modern clients that may share it: whose question of
//! the server is whose, the log level, subscriptions, and its end.

use super::{envelope::LEVELS, inputs};
use crate::{
    call::{Link, read_messages, read_response},
    failure::{Failure, Kind},
    mcp::{self, Message, json, method, rpc},
};
use futures_util::StreamExt as _;
use o1_process::{Backoff, OnExit, Tasks};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Questions and remarks for one call that it has not read yet.
const BESIDE_MAX: usize = 64;
/// How long a server may take for a request of our own, or to take a message.
const OWN_LIMIT: Duration = Duration::from_secs(10);

/// How soon after the handshake a server that offers no stream of its own has said so.
const SHOWS_WITHIN: Duration = Duration::from_millis(250);

/// Who may share a session: one principal's calls that declare the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sharers {
    pub(super) principal: Arc<str>,
    /// The client capabilities that the server was told.
    pub(super) declared: Arc<str>,
}

/// Something a server said by itself.
#[derive(Debug, Clone)]
pub(super) struct Note {
    pub(super) principal: Arc<str>,
    /// On which session.
    pub(super) line: u64,
    pub(super) message: Message,
}

/// How a call hears what does not come with its answer.
struct Beside {
    sender: mpsc::Sender<Message>,
    /// Its client can be asked something (2026-07-28: only some methods can).
    can_be_asked: bool,
}

/// The session.
pub(super) struct Line<L: Link> {
    pub(super) id: u64,
    pub(super) link: L,
    pub(super) sharers: Sharers,
    /// Cancelled when it is of no use any more.
    pub(super) closed: CancellationToken,
    tasks: Tasks,
    notes: broadcast::Sender<Note>,
    next: AtomicU64,
    calls: Mutex<HashMap<u64, Beside>>,
    opened: Instant,
    used: Mutex<Instant>,
    /// The level last set, as a place in [`LEVELS`].
    level: tokio::sync::Mutex<Option<usize>>,
    subscriptions: tokio::sync::Mutex<HashMap<String, usize>>,
    listeners: AtomicUsize,
    /// Whether the server says anything by itself; `None` until that is known.
    streams: watch::Sender<Option<bool>>,
}

impl<L: Link> Line<L> {
    /// A line over an open link. From now on the server is listened to.
    pub(super) fn new(
        id: u64,
        link: L,
        sharers: Sharers,
        notes: broadcast::Sender<Note>,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let line = Arc::new(Self {
            id,
            link,
            sharers,
            closed: CancellationToken::new(),
            tasks: tasks.clone(),
            notes,
            next: AtomicU64::new(1),
            calls: Mutex::default(),
            opened: Instant::now(),
            used: Mutex::new(Instant::now()),
            level: tokio::sync::Mutex::default(),
            subscriptions: tokio::sync::Mutex::default(),
            listeners: AtomicUsize::new(0),
            streams: watch::Sender::new(None),
        });
        let listening = line.clone();
        tasks.spawn("listen to a legacy session", OnExit::Quiet, async move {
            let stopping = listening.tasks.stopping();
            tokio::select! {
                () = listening.listen() => {}
                () = listening.closed.cancelled() => {}
                () = stopping.cancelled() => {}
            }
        });
        line
    }

    /// True while calls can be sent on it.
    pub(super) fn is_open(&self) -> bool {
        self.link.is_open() && !self.closed.is_cancelled()
    }

    /// A place for a call; `None` when the one place there is is taken. `can_be_asked`: its client may be asked
    /// something.
    pub(super) fn seat(self: &Arc<Self>, can_be_asked: bool) -> Option<(Seat<L>, mpsc::Receiver<Message>)> {
        let mut calls = self.calls();
        // Closed under the same lock: who has a place has an open line.
        if self.closed.is_cancelled() || (self.link.one_at_a_time() && !calls.is_empty()) {
            return None;
        }
        let number = self.number();
        let (sender, received) = mpsc::channel(BESIDE_MAX);
        calls.insert(number, Beside { sender, can_be_asked });
        Some((Seat { line: self.clone(), number, sent: false }, received))
    }

    /// A place for a subscription, which any number may have.
    pub(super) fn listener(self: &Arc<Self>) -> Listener<L> {
        self.listeners.fetch_add(1, Ordering::AcqRel);
        Listener { line: self.clone(), uris: Vec::new() }
    }

    /// Since when nobody uses it; `None` while somebody does.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.idle_among(&self.calls())
    }

    /// Gives no more places if nobody has used it since `limit`; true when it is to be closed.
    pub(super) fn retire(&self, limit: Instant) -> bool {
        let calls = self.calls();
        let over = self.idle_among(&calls).is_some_and(|since| since <= limit);
        if over {
            self.closed.cancel();
        }
        over
    }

    fn idle_among(&self, calls: &HashMap<u64, Beside>) -> Option<Instant> {
        let busy = !calls.is_empty() || self.listeners.load(Ordering::Acquire) > 0;
        (!busy).then(|| *self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the session.
    pub(super) async fn close(&self) {
        self.closed.cancel();
        self.link.close().await;
    }

    /// Whether the server says anything by itself. Right after the handshake that takes a moment to show.
    pub(super) async fn streams(&self) -> bool {
        let mut known = self.streams.subscribe();
        let found = timeout_at(self.opened + SHOWS_WITHIN, known.wait_for(Option::is_some)).await;
        // A server that is slow to say so may still do it: some send the head with the first event.
        !matches!(found, Ok(Ok(known)) if *known == Some(false))
    }

    /// Sees to it that the server logs at least from `level` on, if it can.
    pub(super) async fn log_from(&self, level: usize) {
        if !self.offers(&["logging"]) {
            return;
        }
        let mut set = self.level.lock().await;
        if set.is_some_and(|set| set <= level) {
            return;
        }
        let params = format!(r#"{{"level":"{}"}}"#, LEVELS[level]);
        if self.request(method::SET_LEVEL, params.as_bytes()).await.is_ok() {
            *set = Some(level);
        }
    }

    /// True when the server announced this capability with anything but `false`.
    pub(super) fn offers(&self, path: &[&str]) -> bool {
        let handshake = self.link.handshake();
        let text = handshake.bytes();
        let announced = || {
            let capabilities = json::find(text, &handshake.result()?, &["capabilities"]).ok()??;
            json::find(text, &capabilities, path).ok()?
        };
        announced().is_some_and(|at| !matches!(&text[at], b"false" | b"null"))
    }

    /// A request of our own; its result.
    pub(super) async fn request(&self, method: &str, params: &[u8]) -> Result<Message, Failure> {
        let id = self.number().to_string();
        let request = Message::parse(&rpc::request(id.as_bytes(), method, params))
            .expect("a request of our own is a message");
        let asked = async { read_response(self.link.ask(&request).await?).await };
        let answer = timeout(OWN_LIMIT, asked).await.map_err(|_| {
            Failure::new(Kind::Timeout, format!("the upstream did not answer {method} in time"))
        })??;
        if answer.error().is_some() {
            return Err(Failure::new(Kind::Protocol, format!("the upstream refused {method}")));
        }
        Ok(answer)
    }

    /// Hands the server a notification or a response.
    pub(super) async fn tell(&self, message: &Message) -> Result<(), Failure> {
        let slow = |_| Failure::new(Kind::Timeout, "the upstream did not take the message in time");
        timeout(OWN_LIMIT, self.link.tell(message)).await.map_err(slow).flatten()
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<u64, Beside>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears what the server says beside answers, until the session is over or the server offers no such stream.
    async fn listen(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30));
        loop {
            match self.link.stream().await {
                Ok(reply) => {
                    self.streams.send_replace(Some(true));
                    let mut messages = read_messages(reply);
                    while let Some(Ok(message)) = messages.next().await {
                        backoff.reset();
                        self.hear(message).await;
                    }
                }
                Err(failure) if matches!(failure.kind, Kind::Unreachable | Kind::Timeout) => {}
                Err(_) if self.link.is_open() => {
                    self.streams.send_replace(Some(false));
                    return;
                }
                Err(_) => {}
            }
            if !self.link.is_open() {
                self.closed.cancel();
                return;
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn hear(&self, message: Message) {
        match message.kind() {
            mcp::Kind::Response => {}
            mcp::Kind::Notification => self.hear_note(message),
            mcp::Kind::Request => {
                // Nothing says which call it belongs to: only where there is one, it is that.
                let asks_a_call = inputs::can_be_asked(message.method())
                    && self.only_call(true).is_some_and(|call| call.try_send(message.clone()).is_ok());
                if !asks_a_call {
                    let _ = self.tell(&inputs::own_answer(&message)).await;
                }
            }
        }
    }

    fn hear_note(&self, message: Message) {
        match message.method() {
            method::TOOLS_CHANGED
            | method::PROMPTS_CHANGED
            | method::RESOURCES_CHANGED
            | method::RESOURCE_UPDATED => self.publish(message),
            method::PROGRESS => {
                let number = message.param(&["progressToken"]).ok().flatten();
                let number =
                    number.and_then(|at| std::str::from_utf8(&message.bytes()[at]).ok()?.parse().ok());
                let call = number.and_then(|number: u64| Some(self.calls().get(&number)?.sender.clone()));
                if let Some(call) = call {
                    let _ = call.try_send(message);
                }
            }
            method::MESSAGE => {
                if let Some(call) = self.only_call(false) {
                    let _ = call.try_send(message);
                }
            }
            _ => {}
        }
    }

    /// Tells every subscription of the same principal.
    pub(super) fn publish(&self, message: Message) {
        // Nobody may be listening.
        let _ = self.notes.send(Note { principal: self.sharers.principal.clone(), line: self.id, message });
    }

    /// The only call in flight, among all or among those whose clients can be asked.
    fn only_call(&self, to_ask: bool) -> Option<mpsc::Sender<Message>> {
        let calls = self.calls();
        let mut fitting = calls.values().filter(|call| call.can_be_asked || !to_ask);
        let only = fitting.next()?.sender.clone();
        fitting.next().is_none().then_some(only)
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn tell_later(self: &Arc<Self>, what: &'static str, message: Message) {
        if self.is_open() && tokio::runtime::Handle::try_current().is_ok() {
            let line = self.clone();
            self.tasks.spawn(what, OnExit::Quiet, async move {
                let _ = line.tell(&message).await;
            });
        }
    }
}

/// A call's place on a line. Dropped before the answer, it tells the server that nobody waits any more.
pub(super) struct Seat<L: Link> {
    pub(super) line: Arc<Line<L>>,
    /// The call's id and progress token on this line.
    pub(super) number: u64,
    sent: bool,
}

impl<L: Link> Seat<L> {
    /// The request is on its way.
    pub(super) fn sent(&mut self) {
        self.sent = true;
    }

    /// The answer is there, or there will be none.
    pub(super) fn over(&mut self) {
        self.sent = false;
    }
}

impl<L: Link> Drop for Seat<L> {
    fn drop(&mut self) {
        if self.sent {
            let params =
                format!(r#"{{"requestId":{},"reason":"nobody waits for it any more"}}"#, self.number);
            let note = Message::parse(&rpc::notification(method::CANCELLED, Some(params.as_bytes())))
                .expect("a notification of our own is a message");
            self.line.tell_later("cancel a call of a client that went away", note);
        }
        self.line.calls().remove(&self.number);
        self.line.touch();
    }
}

/// A subscription's place on a line.
pub(super) struct Listener<L: Link> {
    pub(super) line: Arc<Line<L>>,
    uris: Vec<String>,
}

impl<L: Link> Listener<L> {
    /// Subscribes to a resource, unless the line has done so already.
    pub(super) async fn subscribe(&mut self, uri: &str) -> Result<(), Failure> {
        let mut subscriptions = self.line.subscriptions.lock().await;
        if !subscriptions.contains_key(uri) {
            self.line.request(method::RESOURCES_SUBSCRIBE, &uri_params(uri)).await?;
        }
        *subscriptions.entry(uri.to_owned()).or_default() += 1;
        self.uris.push(uri.to_owned());
        Ok(())
    }
}

impl<L: Link> Drop for Listener<L> {
    fn drop(&mut self) {
        self.line.touch();
        self.line.listeners.fetch_sub(1, Ordering::AcqRel);
        if self.uris.is_empty() || !self.line.is_open() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (line, uris) = (self.line.clone(), std::mem::take(&mut self.uris));
        self.line.tasks.spawn("unsubscribe from resources", OnExit::Quiet, async move {
            for uri in uris {
                let mut subscriptions = line.subscriptions.lock().await;
                let Some(count) = subscriptions.get_mut(&uri) else { continue };
                *count -= 1;
                if *count == 0 {
                    subscriptions.remove(&uri);
                    let _ = line.request(method::RESOURCES_UNSUBSCRIBE, &uri_params(&uri)).await;
                }
            }
        });
    }
}

fn uri_params(uri: &str) -> Vec<u8> {
    let mut params = br#"{"uri":"#.to_vec();
    params.extend_from_slice(&json::quote(uri));
    params.push(b'}');
    params
}
