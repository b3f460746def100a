//! One node: what it said, what it was sent, and what follows from that. Pure.

use super::{
    ANSWER, Identity, LEASE, LEFT_SHOWN, Rejection, StreamId, UNREACHABLE_SHOWN, records::NodeRecord,
};
use crate::{clock::Now, config::Version};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// Streams that take over from a live one of the same boot, within [`SWAP_WINDOW`], before it is clear that two
/// processes claim one identity.
const MAX_SWAPS: usize = 3;
const SWAP_WINDOW: Duration = Duration::from_secs(60);
/// How long an identity that two processes claim is refused to both.
const DUPLICATE_REFUSED: Duration = Duration::from_secs(60);

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It was heard within its lease.
    Connected,
    /// It was not.
    Unreachable,
    /// It accepts no new clients.
    Draining,
    /// It said goodbye.
    Left,
    /// Two live processes claim its identity.
    DuplicateIdentity,
}

/// Whether a node runs what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// It runs the target.
    Synced,
    /// An update is on its way, for less than 30 s.
    Pending,
    /// It runs something else although it had time.
    Stale,
    /// It refused the target.
    Rejected,
    /// It never ran anything.
    Never,
}

/// A configuration that a node refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which one.
    pub version: Version,
    /// Every reason it gave.
    pub rejections: Vec<Rejection>,
}

/// What is known of one node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Who it says it is.
    pub identity: Identity,
    /// What it says it runs.
    pub applied: Option<Version>,
    /// The last configuration it refused: parked, not sent to it again.
    pub refused: Option<Refusal>,
    /// When its present or last stream began.
    pub connected_at: Option<SystemTime>,
    /// When it last said anything.
    pub last_heard: Option<SystemTime>,
    /// Its clock minus ours when last heard, nanoseconds.
    pub clock_skew: Option<i64>,
    /// How long its last update took.
    pub last_apply_time: Option<Duration>,
    pub(super) session: Option<Session>,
    pub(super) draining: bool,
    /// It says that it drains because it was ordered to.
    pub(super) drain_ordered: bool,
    pub(super) heard: Option<Instant>,
    /// Its lease was over, and it has not been heard since.
    pub(super) lapsed: bool,
    /// An earlier process knew it, and it has until then to say that it is still there.
    awaited_until: Option<Instant>,
    pub(super) left: Option<Instant>,
    duplicate_until: Option<Instant>,
    swaps: VecDeque<Instant>,
    /// As of the last time somebody was told.
    pub(super) shown: Option<(NodeState, SyncState)>,
}

/// The live stream of a node.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub id: StreamId,
    /// Of the last update.
    pub nonce: u64,
    pub in_flight: Option<InFlight>,
    /// What was sent last, answered or not: one version is sent once on one stream.
    pub last_sent: Option<(Version, Instant)>,
    /// What it runs is not what its name says: it is sent whole configurations from now on.
    pub whole: bool,
}

/// An update without an answer.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    pub version: Version,
    pub since: Instant,
    /// It holds everything, and not only what differs from what the node runs.
    pub whole: bool,
}

impl Session {
    fn was_sent(&self, version: &Version) -> bool {
        self.last_sent.as_ref().is_some_and(|(sent, _)| sent == version)
    }
}

impl Node {
    /// A node that was never heard.
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity,
            applied: None,
            refused: None,
            connected_at: None,
            last_heard: None,
            clock_skew: None,
            last_apply_time: None,
            session: None,
            draining: false,
            drain_ordered: false,
            heard: None,
            lapsed: false,
            awaited_until: None,
            left: None,
            duplicate_until: None,
            swaps: VecDeque::new(),
            shown: None,
        }
    }

    /// A node that an earlier process knew. It is not there before it says so, and not missed before its lease
    /// would have ended.
    pub(super) fn remembered(record: NodeRecord, now: Instant) -> Self {
        Self {
            awaited_until: Some(now + LEASE),
            applied: record.applied,
            refused: record.refused,
            last_heard: Some(record.last_heard),
            lapsed: record.away,
            ..Self::new(record.identity)
        }
    }

    /// What a later process should know.
    pub(super) fn record(&self) -> NodeRecord {
        NodeRecord {
            identity: self.identity.clone(),
            applied: self.applied.clone(),
            refused: self.refused.clone(),
            last_heard: self.last_heard.unwrap_or(SystemTime::UNIX_EPOCH),
            away: self.lapsed,
        }
    }

    /// Whether it is there.
    #[must_use]
    pub fn state(&self, now: Instant) -> NodeState {
        if self.is_duplicate(now) {
            NodeState::DuplicateIdentity
        } else if self.left.is_some() {
            NodeState::Left
        } else if self.heard.is_none_or(|heard| now >= heard + LEASE) {
            NodeState::Unreachable
        } else if self.draining {
            NodeState::Draining
        } else {
            NodeState::Connected
        }
    }

    /// Whether nothing can be said of it yet: this process has not heard it, and has not waited long enough.
    #[must_use]
    pub fn is_awaited(&self, now: Instant) -> bool {
        self.heard.is_none() && self.awaited_until.is_some_and(|until| now < until)
    }

    /// Whether it runs `target`.
    #[must_use]
    pub fn sync(&self, target: Option<&Version>, now: Instant) -> SyncState {
        let in_flight = self.session.as_ref().and_then(|session| session.in_flight.as_ref());
        match target {
            Some(target) if self.applied.as_ref() == Some(target) => SyncState::Synced,
            Some(target) if self.refuses(target) => SyncState::Rejected,
            Some(_) if in_flight.is_some_and(|update| now < update.since + ANSWER) => SyncState::Pending,
            _ if self.applied.is_none() => SyncState::Never,
            _ => SyncState::Stale,
        }
    }

    /// The update that it was sent and has not answered, and since when.
    #[must_use]
    pub fn update(&self) -> Option<(&Version, Instant)> {
        let update = self.session.as_ref()?.in_flight.as_ref()?;
        Some((&update.version, update.since))
    }

    /// Whether it goes on serving for as long as it is wanted, although it takes no new sessions.
    pub(super) fn drains_by_order(&self) -> bool {
        self.draining && self.drain_ordered
    }

    /// Whether a stream of it is open.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.session.is_some()
    }

    /// Whether it has refused this version.
    #[must_use]
    pub fn refuses(&self, version: &Version) -> bool {
        self.refused.as_ref().is_some_and(|refusal| refusal.version == *version)
    }

    /// Whether two live processes claim this identity.
    pub(super) fn is_duplicate(&self, now: Instant) -> bool {
        self.duplicate_until.is_some_and(|until| now < until)
    }

    /// Whether `target` should be sent to it now: it is there, owes no answer, and the target is news to it.
    pub(super) fn wants(&self, target: &Version) -> bool {
        self.session.as_ref().is_some_and(|session| session.in_flight.is_none() && !session.was_sent(target))
            && self.applied.as_ref().is_none_or(|applied| target.is_newer_than(applied))
            && !self.refuses(target)
    }

    /// Whether it runs something that the store behind `target` cannot have accepted.
    pub(super) fn is_foreign(&self, target: Option<&Version>) -> bool {
        match (&self.applied, target) {
            (Some(applied), Some(target)) => applied != target && !target.is_newer_than(applied),
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Whether what it runs has this name and is something else.
    pub(super) fn runs_other(&self, version: &Version) -> bool {
        self.applied.as_ref().is_some_and(|applied| {
            applied != version && !applied.is_newer_than(version) && !version.is_newer_than(applied)
        })
    }

    /// Whether it runs neither what it was sent last nor says why it should not, although it had time.
    pub(super) fn forgot(&self, now: Instant) -> bool {
        let session = self.session.as_ref().filter(|session| session.in_flight.is_none());
        session.and_then(|session| session.last_sent.as_ref()).is_some_and(|(sent, at)| {
            now >= *at + ANSWER && self.applied.as_ref() != Some(sent) && !self.refuses(sent)
        })
    }

    /// It is sent once more what it should run, and from now on all of it.
    pub(super) fn needs_whole(&mut self) {
        if let Some(session) = &mut self.session {
            (session.whole, session.last_sent) = (true, None);
        }
    }

    /// A new stream takes over from a live one. True if that has now happened too often to be a reconnect.
    pub(super) fn swapped(&mut self, now: Instant) -> bool {
        self.swaps.push_back(now);
        while self.swaps.front().is_some_and(|first| now >= *first + SWAP_WINDOW) {
            self.swaps.pop_front();
        }
        let duplicate = self.swaps.len() >= MAX_SWAPS;
        if duplicate {
            self.swaps.clear();
            self.duplicate_until = Some(now + DUPLICATE_REFUSED);
        }
        duplicate
    }

    /// It said something.
    pub(super) fn hear(&mut self, now: Now) {
        self.heard = Some(now.instant);
        self.lapsed = false;
        self.last_heard = Some(now.wall);
    }

    /// It says that it runs this. True if that is news.
    pub(super) fn runs(&mut self, applied: Option<Version>) -> bool {
        let news = self.applied != applied;
        if applied.as_ref().is_some_and(|version| self.refuses(version)) {
            self.refused = None;
        }
        self.applied = applied;
        news
    }

    /// Whether it can be dropped from the list.
    pub(super) fn is_over(&self, now: Now) -> bool {
        if let Some(left) = self.left {
            return now.instant >= left + LEFT_SHOWN;
        }
        let silent = self.last_heard.and_then(|heard| now.wall.duration_since(heard).ok());
        self.state(now.instant) == NodeState::Unreachable
            && silent.is_some_and(|silent| silent >= UNREACHABLE_SHOWN)
    }
}
