//! What waits to be sent on one stream: one slot for each kind of message, where the newest wins, so that a
//! slow node costs the same memory as a fast one and nobody ever waits for either. Queries wait in a line, which
//! is as short as the number of them that may be open on a stream.

use super::{Question, SealKey};
use crate::config::{Revision, Version};
use o1_proto::model::{DecisionState, Directive};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::sync::Notify;

/// One message to a node.
#[derive(Debug, Clone)]
pub enum Out {
    /// The answer to its hello.
    Welcome(Welcome),
    /// The answer to a heartbeat.
    HeartbeatAck {
        /// Of the heartbeat.
        seq: u64,
        /// What the node should run.
        target: Option<Version>,
        /// When this was written.
        at: SystemTime,
        /// Whether failovers are decided on.
        decisions: DecisionState,
    },
    /// The keys for tokens, the one that seals first.
    SealKeys(Arc<[SealKey]>),
    /// A configuration to run.
    Config {
        /// Counts updates on this stream, from 1.
        nonce: u64,
        /// The configuration.
        revision: Arc<Revision>,
        /// What the node runs, where only what differs from it has to be sent.
        base: Option<Arc<Revision>>,
    },
    /// Which store of each upstream should serve.
    Directives(Arc<[Directive]>),
    /// Whether to take new client sessions: `true` is not to.
    Drain(bool),
    /// A question, or its end.
    Query {
        /// Names it on this stream.
        id: u64,
        /// What to ask.
        question: Question,
    },
    /// The last message.
    Goodbye(Goodbye),
}

/// The answer to a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// What the node should run; `None`: there is no configuration yet.
    pub target: Option<Version>,
}

/// Why a stream ends, and when to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goodbye {
    /// Why.
    pub reason: GoodbyeReason,
    /// For people.
    pub message: String,
    /// The node waits a random time between these two before it connects again.
    pub reconnect: (Duration, Duration),
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoodbyeReason {
    /// The control plane stops.
    Shutdown,
    /// A newer stream of the same node took over.
    Superseded,
    /// The node broke the protocol.
    ProtocolError,
    /// No answer, or no heartbeat, in time.
    Unresponsive,
    /// Two live processes claim one identity.
    DuplicateIdentity,
}

/// The slots of one stream; clones share them. One reader.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    slots: Mutex<Slots>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Slots {
    welcome: Option<Out>,
    heartbeat_ack: Option<Out>,
    seal_keys: Option<Out>,
    config: Option<Out>,
    directives: Option<Out>,
    drain: Option<Out>,
    queries: VecDeque<(u64, Question)>,
    goodbye: Option<Out>,
    closed: bool,
}

impl Outbox {
    /// Nothing to send.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves a message for the reader, in place of one of the same kind that still waits. After a goodbye, or
    /// once closed, it is dropped.
    pub fn put(&self, out: Out) {
        let mut slots = self.slots();
        if slots.closed || slots.goodbye.is_some() {
            return;
        }
        let slot = match out {
            Out::Welcome(_) => &mut slots.welcome,
            Out::HeartbeatAck { .. } => &mut slots.heartbeat_ack,
            Out::SealKeys(_) => &mut slots.seal_keys,
            Out::Config { .. } => &mut slots.config,
            Out::Directives(_) => &mut slots.directives,
            Out::Drain(_) => &mut slots.drain,
            Out::Query { id, question } => {
                // One that was never sent need not be cancelled.
                let waiting = slots.queries.len();
                slots.queries.retain(|(known, _)| *known != id);
                if slots.queries.len() == waiting {
                    slots.queries.push_back((id, question));
                }
                drop(slots);
                self.shared.filled.notify_one();
                return;
            }
            Out::Goodbye(_) => {
                // What it was going to be told no longer matters.
                slots.heartbeat_ack = None;
                slots.seal_keys = None;
                slots.config = None;
                slots.directives = None;
                slots.drain = None;
                slots.queries.clear();
                &mut slots.goodbye
            }
        };
        *slot = Some(out);
        drop(slots);
        self.shared.filled.notify_one();
    }

    /// Ends the stream without another word.
    pub fn close(&self) {
        self.slots().closed = true;
        self.shared.filled.notify_one();
    }

    /// The next message; `None` once the stream is over: closed, or the goodbye has been taken.
    pub async fn next(&self) -> Option<Out> {
        loop {
            if let Some(taken) = self.take() {
                return taken;
            }
            self.shared.filled.notified().await;
        }
    }

    /// `None`: wait. `Some(None)`: over.
    fn take(&self) -> Option<Option<Out>> {
        let mut slots = self.slots();
        if slots.closed {
            return Some(None);
        }
        // Keys before the configuration: whom a node serves, it serves with keys that others have.
        let Slots { welcome, heartbeat_ack, seal_keys, config, directives, drain, queries, goodbye, .. } =
            &mut *slots;
        let next =
            [welcome, heartbeat_ack, seal_keys, drain, config, directives].into_iter().find_map(Option::take);
        let query = || queries.pop_front().map(|(id, question)| Out::Query { id, question });
        let next = next.or_else(query).or_else(|| goodbye.take());
        slots.closed = matches!(next, Some(Out::Goodbye(_)));
        next.map(Some)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn ack(seq: u64) -> Out {
        Out::HeartbeatAck { seq, target: None, at: UNIX_EPOCH, decisions: DecisionState::default() }
    }

    fn goodbye(reason: GoodbyeReason) -> Out {
        Out::Goodbye(Goodbye { reason, message: String::new(), reconnect: (Duration::ZERO, Duration::ZERO) })
    }

    async fn drain(outbox: &Outbox) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(out) = outbox.next().await {
            seen.push(match out {
                Out::Welcome(_) => "welcome".to_owned(),
                Out::HeartbeatAck { seq, .. } => format!("ack {seq}"),
                Out::SealKeys(keys) => format!("keys {}", keys.len()),
                Out::Config { nonce, .. } => format!("config {nonce}"),
                Out::Directives(set) => format!("directives {}", set.len()),
                Out::Drain(drain) => format!("drain {drain}"),
                Out::Query { id, question } => format!("{question:?} {id}"),
                Out::Goodbye(goodbye) => format!("{:?}", goodbye.reason),
            });
        }
        seen
    }

    #[tokio::test]
    async fn the_newest_message_of_a_kind_wins_and_the_welcome_comes_first() {
        let outbox = Outbox::new();
        for seq in 1..=1000 {
            outbox.put(ack(seq));
        }
        outbox.put(Out::Welcome(Welcome { target: None }));
        assert!(matches!(outbox.next().await, Some(Out::Welcome(_))));
        assert!(matches!(outbox.next().await, Some(Out::HeartbeatAck { seq: 1000, .. })));
        outbox.close();
        assert!(outbox.next().await.is_none());
    }

    #[tokio::test]
    async fn every_query_is_sent_unless_it_was_cancelled_meanwhile() {
        let outbox = Outbox::new();
        let put = |id, question| outbox.put(Out::Query { id, question });
        for id in 1..=3 {
            put(id, Question::Ask(vec![]));
        }
        put(2, Question::Cancel);
        assert!(matches!(outbox.next().await, Some(Out::Query { id: 1, .. })));
        put(1, Question::Cancel);
        outbox.put(ack(1));
        assert!(matches!(outbox.next().await, Some(Out::HeartbeatAck { .. })), "queries come last");
        assert!(matches!(outbox.next().await, Some(Out::Query { id: 3, question: Question::Ask(_) })));
        assert!(matches!(outbox.next().await, Some(Out::Query { id: 1, question: Question::Cancel })));
    }

    #[tokio::test]
    async fn a_goodbye_is_the_last_word() {
        let outbox = Outbox::new();
        outbox.put(Out::Welcome(Welcome { target: None }));
        outbox.put(ack(1));
        outbox.put(goodbye(GoodbyeReason::Superseded));
        outbox.put(goodbye(GoodbyeReason::Shutdown));
        outbox.put(ack(2));
        assert_eq!(drain(&outbox).await, ["welcome", "Superseded"]);
        outbox.put(ack(3));
        assert!(outbox.next().await.is_none(), "it is over for good");
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let outbox = Outbox::new();
        let reader = outbox.clone();
        let (out, ()) = tokio::join!(reader.next(), async {
            tokio::task::yield_now().await;
            outbox.put(ack(7));
        });
        assert!(matches!(out, Some(Out::HeartbeatAck { seq: 7, .. })));
    }
}
