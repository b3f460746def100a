//! One channel from above: requests in, their messages out.

use super::{calls::Reply, line, link::Link, sharing::Sharing};
use crate::{
    failure::Failure,
    mcp::{Era, Message, message::Kind},
};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{broadcast, mpsc},
    time::timeout,
};
use tokio_util::sync::DropGuard;

/// More than the end of a process can take.
pub(in crate::backend) const END_MAX: Duration = Duration::from_secs(15);

/// A channel to a server that has been shaken hands with. Dropping it ends the channel, and a process with it.
pub struct Conversation {
    pub(in crate::backend) link: Arc<Link>,
    pub(in crate::backend) handshake: Message,
    /// What the sessions that share it asked for.
    sharing: Mutex<Sharing>,
    turn: tokio::sync::Mutex<()>,
    _alive: DropGuard,
}

/// The messages of one request: any number of notifications, then the response.
///
/// Dropped before the response, a modern request is cancelled (its client closed the stream, which means just
/// that); a legacy one runs on and its answer is dropped (a lost connection cancels nothing).
pub struct Replies {
    link: Arc<Link>,
    key: u64,
    replies: mpsc::Receiver<Reply>,
    state: State,
    /// Keeps the process alive.
    _conversation: Option<Arc<Conversation>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The server has not been told of it.
    Unsent,
    Open,
    Over,
}

impl Conversation {
    /// A channel that was shaken hands with, and ends when `alive` is dropped.
    pub(in crate::backend) fn new(link: Arc<Link>, handshake: Message, alive: DropGuard) -> Self {
        Self {
            link,
            handshake,
            sharing: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            _alive: alive,
        }
    }

    pub(super) fn sharing(&self) -> MutexGuard<'_, Sharing> {
        self.sharing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn to change what sessions that share it asked for.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Sends a request whose answer nobody waits for, or drops it when the server has long stopped reading.
    pub(super) fn request_now(&self, message: &Message) {
        if let Ok(opened) = self.link.open(message) {
            self.link.send_now(opened.line);
        }
    }

    /// True while a request is in flight, somebody listens or is subscribed.
    pub(in crate::backend) fn is_in_use(&self) -> bool {
        self.in_flight() > 0 || self.link.is_listened_to() || self.sharing().is_subscribed()
    }

    /// The server's answer to the handshake: the whole response with its `InitializeResult` or `DiscoverResult`.
    #[must_use]
    pub fn handshake(&self) -> &Message {
        &self.handshake
    }

    /// The era this process is pinned to.
    #[must_use]
    pub fn era(&self) -> Era {
        self.link.era
    }

    /// The process id, which is also the id of its process group, when it is a process of ours.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.link.pid
    }

    /// Sends a request. Its id and progress token are replaced by ones that are unique in this process, and
    /// restored, spelling included, in what comes back; so is the subscription id of `subscriptions/listen`.
    ///
    /// # Errors
    /// The request was not sent: `Unreachable`, `InvalidRequest` (`_meta` has a key twice).
    pub async fn request(self: &Arc<Self>, message: &Message) -> Result<Replies, Failure> {
        Replies::of(self.link.clone(), message, Some(self.clone())).await
    }

    /// Sends a notification, or the response to a request of the server, as it is.
    ///
    /// # Errors
    /// `Unreachable`: it was not sent.
    pub async fn send(&self, message: &Message) -> Result<(), Failure> {
        self.link.send(line::one(message.bytes().clone())).await
    }

    /// Notifications and requests of the server that belong to no request of ours. The first subscriber also gets
    /// what came before it. A reader that falls behind by 256 loses the oldest and is told how many.
    #[must_use]
    pub fn unsolicited(&self) -> broadcast::Receiver<Message> {
        self.link.subscribe()
    }

    /// True once it takes no more requests.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.link.is_closed()
    }

    /// Waits until it takes no more requests.
    pub async fn closed(&self) {
        self.link.closed().await;
    }

    /// Ends the process: stdin closed, 2 s later SIGTERM to the group, 2 s later SIGKILL. Returns when nothing of
    /// it is left.
    pub async fn close(&self) {
        self.link.stop();
        let _ = timeout(END_MAX, self.link.gone()).await;
    }

    /// Requests that the server has not answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.link.calls().len()
    }
}

impl Replies {
    pub(in crate::backend) async fn of(
        link: Arc<Link>,
        message: &Message,
        conversation: Option<Arc<Conversation>>,
    ) -> Result<Self, Failure> {
        let opened = link.open(message)?;
        let mut this = Self {
            key: opened.key,
            replies: opened.replies,
            state: State::Unsent,
            link,
            _conversation: conversation,
        };
        this.link.send(opened.line).await?;
        this.state = State::Open;
        Ok(this)
    }

    /// The next message. The response or a failure is the last; then, or once cancelled, `None`. Cancel safe.
    pub async fn next(&mut self) -> Option<Reply> {
        if self.state == State::Over {
            return None;
        }
        let reply = self.replies.recv().await;
        if reply
            .as_ref()
            .is_none_or(|reply| !matches!(reply, Ok(message) if message.kind() != Kind::Response))
        {
            self.state = State::Over;
        }
        reply
    }

    /// Tells the server that nobody waits any more and forgets the request: a late answer is dropped.
    pub fn cancel(&mut self) {
        if self.state == State::Open {
            self.link.cancel(self.key);
        }
        self.state = State::Over;
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        match self.state {
            State::Unsent => self.link.calls().retract(self.key),
            State::Open if self.link.era == Era::Modern => self.cancel(),
            State::Open | State::Over => {}
        }
    }
}

/// Which process, never content.
impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation")
            .field("upstream", &self.link.name)
            .field("pid", &self.link.pid)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies")
            .field("upstream", &self.link.name)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
