//! Failovers, told from the events of nodes: when each began, how long it took, and why. Pure.

use crate::events::{Event, EventKind};
use jiff::Timestamp;
use std::{collections::BTreeMap, time::Duration};

/// One upstream on the backup, on one node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Episode {
    /// Which.
    pub upstream: String,
    /// On which node.
    pub node: String,
    /// Since when; `None`: it began before the events that are known.
    pub from: Option<Timestamp>,
    /// The primary serves again.
    pub is_over: bool,
    /// How long it took, as the node measured it; `None`: it is not over, or the node does not say.
    pub lasted: Option<Duration>,
    /// Entries that the primary got afterwards; `None`: it is not over.
    pub synced_back: Option<u64>,
    /// What was said; may be empty.
    pub why: String,
}

/// Every failover of which there is an event, in the order of their first events.
#[must_use]
pub fn of(events: &[Event]) -> Vec<Episode> {
    let mut episodes: Vec<Episode> = Vec::new();
    let mut open: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut reasons: BTreeMap<&str, &str> = BTreeMap::new();
    for event in events {
        let key = (event.node_uid.as_str(), event.upstream.as_str());
        let begun = || Episode {
            upstream: event.upstream.clone(),
            node: event.node_id.clone(),
            ..Episode::default()
        };
        match event.kind {
            EventKind::Decided if !event.decision_id.is_empty() => {
                reasons.insert(&event.decision_id, &event.reason);
            }
            EventKind::FailoverCommitted => {
                // A node that lost events may begin twice without an end in between.
                open.insert(key, episodes.len());
                let decided = reasons.get(event.decision_id.as_str()).copied().unwrap_or_default();
                let why = if event.reason.is_empty() { decided } else { &event.reason };
                episodes.push(Episode { from: event.at, why: why.to_owned(), ..begun() });
            }
            EventKind::Restored => {
                let at = open.remove(&key).unwrap_or_else(|| {
                    episodes.push(begun());
                    episodes.len() - 1
                });
                let one = &mut episodes[at];
                (one.is_over, one.lasted, one.synced_back) = (true, event.duration, Some(event.entries));
            }
            _ => {}
        }
    }
    episodes
}
