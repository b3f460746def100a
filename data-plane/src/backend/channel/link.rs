//! One channel from below: what the server says is read here, and the end of the channel is made known here.

use super::calls::{self, Calls, Noted, Opened};
use crate::{
    failure::{Failure, Kind},
    mcp::{
        Era, Message, json,
        message::{self, Invalid},
        method, rpc,
    },
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use tokio::{sync::broadcast, time::Instant};
use tokio_util::sync::CancellationToken;

/// Messages that belong to no request and that a subscriber has not read yet.
const UNSOLICITED_MAX: usize = 256;

/// What happens to a request of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend) enum ServerRequests {
    /// The channel is shared: nobody can be asked, and we declared that to the server.
    Refuse,
    /// They go to the one client the channel is for.
    Forward,
}

/// Takes messages to the server.
pub(in crate::backend) trait Outlet: Send + Sync + 'static {
    /// Hands over a message as soon as there is a place. `Err(None)`: the channel is over, and knows why.
    fn push(&self, message: Bytes) -> BoxFuture<'_, Result<(), Option<Failure>>>;

    /// Hands over a message of our own at once. False if it had to be dropped.
    fn push_now(&self, message: Bytes) -> bool;
}

/// A channel to a server.
pub(in crate::backend) struct Link {
    pub(in crate::backend) name: String,
    pub(in crate::backend) era: Era,
    /// The process, if it is one of ours.
    pub(in crate::backend) pid: Option<u32>,
    server_requests: ServerRequests,
    calls: Mutex<Calls>,
    outlet: Box<dyn Outlet>,
    unsolicited: broadcast::Sender<Message>,
    /// Holds what comes before anybody subscribes.
    backlog: Mutex<Option<broadcast::Receiver<Message>>>,
    /// Something the server wrote was no message; said once.
    noisy: AtomicBool,
    /// It shall end.
    pub(in crate::backend) stop: CancellationToken,
    /// It takes no more requests.
    pub(in crate::backend) closed: CancellationToken,
    /// Nothing of it is left.
    pub(in crate::backend) gone: CancellationToken,
}

impl Link {
    /// A channel that ends when `stop` is cancelled.
    pub(in crate::backend) fn new(
        name: String,
        era: Era,
        server_requests: ServerRequests,
        pid: Option<u32>,
        outlet: Box<dyn Outlet>,
        stop: CancellationToken,
    ) -> Self {
        let (unsolicited, backlog) = broadcast::channel(UNSOLICITED_MAX);
        Self {
            calls: Mutex::new(Calls::new(name.clone(), era, Instant::now())),
            name,
            era,
            pid,
            server_requests,
            outlet,
            unsolicited,
            backlog: Mutex::new(Some(backlog)),
            noisy: AtomicBool::new(false),
            stop,
            closed: CancellationToken::new(),
            gone: CancellationToken::new(),
        }
    }

    pub(in crate::backend) fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a request. It is not sent yet: see [`Link::send`].
    pub(in crate::backend) fn open(&self, message: &Message) -> Result<Opened, Failure> {
        self.calls().open(message, Instant::now())
    }

    /// Queues a line, waiting for a place.
    pub(in crate::backend) async fn send(&self, line: Bytes) -> Result<(), Failure> {
        self.outlet.push(line).await.map_err(|failure| failure.unwrap_or_else(|| self.ended()))
    }

    /// Queues a line of our own, or drops it when the server has long stopped reading.
    pub(in crate::backend) fn send_now(&self, line: Bytes) {
        if !self.outlet.push_now(line) && !self.closed.is_cancelled() {
            tracing::debug!(
                upstream = self.name,
                pid = self.pid,
                "dropped a message the server does not read"
            );
        }
    }

    /// Forgets a request and tells the server so.
    pub(in crate::backend) fn cancel(&self, key: u64) {
        let line = self.calls().cancel(key, Instant::now());
        if let Some(line) = line {
            self.send_now(line);
        }
    }

    /// Why nothing can be sent any more.
    pub(in crate::backend) fn ended(&self) -> Failure {
        let calls = self.calls();
        let why = calls.refusal().unwrap_or("is ending");
        Failure::new(Kind::Unreachable, format!("{} {why}", self.name))
    }

    pub(in crate::backend) fn subscribe(&self) -> broadcast::Receiver<Message> {
        let backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner).take();
        backlog.unwrap_or_else(|| self.unsolicited.subscribe())
    }

    pub(in crate::backend) fn is_listened_to(&self) -> bool {
        let backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.unsolicited.receiver_count() > usize::from(backlog)
    }

    pub(in crate::backend) fn is_closed(&self) -> bool {
        self.closed.is_cancelled() || self.stop.is_cancelled()
    }

    pub(in crate::backend) async fn closed(&self) {
        tokio::select! {
            () = self.closed.cancelled() => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Waits until nothing of the process is left.
    pub(in crate::backend) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Begins the end.
    pub(in crate::backend) fn stop(&self) {
        self.stop.cancel();
    }

    /// A message of the server, or what should have been one.
    pub(in crate::backend) fn receive(&self, line: &Bytes) {
        if line.trim_ascii().is_empty() {
            return;
        }
        match Message::parse(line) {
            Ok(message) => match message.kind() {
                message::Kind::Response => self.answer(&message),
                message::Kind::Notification => self.note(message),
                message::Kind::Request => self.serve(message),
            },
            Err(invalid) => {
                if !self.is_bad_answer(line, &invalid) && !self.noisy.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        upstream = self.name,
                        pid = self.pid,
                        "the server writes what is no message; it is skipped"
                    );
                }
            }
        }
    }

    /// A response that is none would leave its caller waiting.
    fn is_bad_answer(&self, line: &Bytes, invalid: &Invalid) -> bool {
        let line = line.trim_ascii();
        let Invalid::Shape { id: Some(id), .. } = invalid else {
            return false;
        };
        let method = json::find(line, &(0..line.len()), &["method"]);
        let call = if matches!(method, Ok(None)) { self.calls().take(id) } else { None };
        let words = || format!("{} answered with something that is no JSON-RPC response", self.name);
        call.map(|call| call.fail(Failure::new(Kind::Protocol, words()))).is_some()
    }

    fn answer(&self, message: &Message) {
        let call = message.id().and_then(|id| self.calls().take(id));
        match call {
            Some(call) => call.answer(message),
            None => tracing::debug!(upstream = self.name, "dropped an answer nobody waits for"),
        }
    }

    fn note(&self, message: Message) {
        let noted = self.calls().note(message, Instant::now());
        match noted {
            Noted::Done => {}
            Noted::Overrun(key) => self.send_now(calls::cancelled(key)),
            // Nobody may be listening; then it is nobody's.
            Noted::Unsolicited(message) => drop(self.unsolicited.send(message)),
        }
    }

    fn serve(&self, message: Message) {
        let Some(id) = message.id().map(<[u8]>::to_vec) else {
            return;
        };
        if message.method() == method::PING {
            return self.send_now(rpc::result(&id, b"{}"));
        }
        let words = format!("this client does not serve `{}`", message.method());
        if self.server_requests == ServerRequests::Refuse || self.unsolicited.send(message).is_err() {
            self.send_now(rpc::error(Some(&id), rpc::METHOD_NOT_FOUND, &words, None));
        }
    }
}
