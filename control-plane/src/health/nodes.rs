//! The nodes as far as decisions are concerned: who may be believed, who is missing.

use super::{MISSED, Moment, RESEND, WARM_UP};
use o1_proto::model::FailoverState;
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

/// Names a node; people call it something else.
pub type NodeKey = [u8; 16];

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has a stream.
    Connected,
    /// It has one, and accepts no new clients.
    Draining,
    /// It should have one.
    Away,
    /// It said goodbye for good.
    Left,
}

/// What a node said of one upstream.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub state: FailoverState,
    pub at: SystemTime,
}

#[derive(Debug)]
pub(super) struct Node {
    pub label: String,
    pub presence: Presence,
    suspect: bool,
    /// An earlier process knew it as connected, and this one has not heard what it sees.
    awaited: bool,
    /// When it went away, if this process missed it ever since.
    lost: Option<Duration>,
    sent: Option<Duration>,
    /// What it said of upstreams that are not configured, or not yet.
    pub unclaimed: BTreeMap<String, Said>,
}

impl Node {
    pub fn is_there(&self) -> bool {
        matches!(self.presence, Presence::Connected | Presence::Draining)
    }

    fn is_eligible(&self) -> bool {
        self.presence == Presence::Connected && !self.suspect
    }
}

/// Every node.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    all: BTreeMap<NodeKey, Node>,
    /// Counted anew whenever somebody comes, goes or says that he suspects himself.
    eligible: usize,
    warm: bool,
    warm_at: Duration,
}

impl Nodes {
    /// Nodes that an earlier process knew as connected are waited for.
    pub fn awaiting(known: Vec<(NodeKey, String)>, now: Moment) -> Self {
        let awaited = |(key, label)| {
            let node = Node {
                label,
                presence: Presence::Away,
                suspect: false,
                awaited: true,
                lost: Some(now.uptime),
                sent: None,
                unclaimed: BTreeMap::new(),
            };
            (key, node)
        };
        let all: BTreeMap<_, _> = known.into_iter().map(awaited).collect();
        Self { warm: all.is_empty(), warm_at: now.uptime + WARM_UP, all, eligible: 0 }
    }

    pub fn get(&self, key: &NodeKey) -> Option<&Node> {
        self.all.get(key)
    }

    pub fn get_mut(&mut self, key: &NodeKey) -> Option<&mut Node> {
        self.all.get_mut(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&NodeKey, &Node)> {
        self.all.iter()
    }

    pub fn keys(&self) -> Vec<NodeKey> {
        self.all.keys().copied().collect()
    }

    pub fn eligible(&self) -> usize {
        self.eligible
    }

    pub fn is_eligible(&self, key: &NodeKey) -> bool {
        self.all.get(key).is_some_and(Node::is_eligible)
    }

    pub fn there(&self) -> usize {
        self.all.values().filter(|node| node.is_there()).count()
    }

    /// Where a node is. True: that is news.
    pub fn place(&mut self, key: NodeKey, label: &str, presence: Presence, now: Moment) -> bool {
        let node = self.all.entry(key).or_insert_with(|| Node {
            label: label.to_owned(),
            presence: Presence::Left,
            suspect: false,
            awaited: false,
            lost: None,
            sent: None,
            unclaimed: BTreeMap::new(),
        });
        if node.presence == presence && node.label == label {
            return false;
        }
        label.clone_into(&mut node.label);
        if node.is_there() && presence == Presence::Away {
            node.lost = Some(now.uptime);
        }
        node.presence = presence;
        if !node.is_there() {
            node.suspect = false;
            node.sent = None;
        }
        node.awaited &= presence != Presence::Left;
        self.count();
        true
    }

    /// A node is no longer known.
    pub fn forget(&mut self, key: &NodeKey) {
        self.all.remove(key);
        self.count();
    }

    /// A node says what it sees. True: whether it may be believed has changed.
    pub fn observed(&mut self, key: &NodeKey, suspect: bool) -> bool {
        let Some(node) = self.all.get_mut(key) else { return false };
        node.awaited = false;
        let news = node.suspect != suspect;
        node.suspect = suspect;
        if news {
            self.count();
        }
        news
    }

    fn count(&mut self) {
        self.eligible = self.all.values().filter(|node| node.is_eligible()).count();
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Moment) {
        self.warm |= now.uptime >= self.warm_at || !self.all.values().any(|node| node.awaited);
    }

    /// Why nothing should be decided yet.
    pub fn warming(&self) -> Option<String> {
        let awaited: Vec<&str> =
            self.all.values().filter(|node| node.awaited).map(|node| node.label.as_str()).collect();
        let shown = awaited.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        let more = if awaited.len() > 3 { format!(" and {} more", awaited.len() - 3) } else { String::new() };
        (!self.warm).then(|| format!("it has just started and waits for {shown}{more}"))
    }

    /// Why it is likely that this process is the one cut off.
    pub fn frozen(&self, now: Moment) -> Option<String> {
        let there = self.there();
        let missed = |node: &&Node| {
            node.presence == Presence::Away && node.lost.is_some_and(|lost| now.uptime < lost + MISSED)
        };
        let away = self.all.values().filter(missed).count();
        let suspects = self.all.values().filter(|node| node.is_there() && node.suspect).count();
        let most = |part: usize, whole: usize| whole >= 4 && part * 100 > whole * 55;
        if most(away, there + away) {
            return Some(format!("{away} of {} nodes are away", there + away));
        }
        most(suspects, there).then(|| format!("{suspects} of {there} nodes suspect their own network"))
    }

    /// A node was sent its directives.
    pub fn sent(&mut self, key: &NodeKey, now: Moment) {
        if let Some(node) = self.all.get_mut(key) {
            node.sent = Some(now.uptime);
        }
    }

    /// Whether a node was sent its directives long ago, or never.
    pub fn is_due(&self, key: &NodeKey, now: Moment) -> bool {
        self.all
            .get(key)
            .is_some_and(|node| node.is_there() && node.sent.is_none_or(|sent| now.uptime >= sent + RESEND))
    }
}
