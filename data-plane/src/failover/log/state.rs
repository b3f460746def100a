//! What the records say, folded. The same records give the same state, live and when they are read again.

use super::{
    journal::Waiting,
    record::{Entry, Record},
};
use o1_proto::model::{Event, EventKind, FailoverStats, Store};
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime},
};

/// A place among the events: epoch, then `seq`.
pub type Position = (u64, u64);

/// Records that became durable together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    /// When it was said.
    pub at: SystemTime,
    /// The control plane has the events up to here.
    pub delivered: Option<Position>,
    pub records: Vec<Record>,
}

/// Everything that durable records say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// By name.
    pub upstreams: BTreeMap<String, UpstreamState>,
    /// The present life of the node.
    pub(super) epoch: u64,
    /// What the next event of this epoch gets.
    pub(super) next_event: u64,
    /// The control plane has the events up to here.
    pub(super) delivered: Position,
    /// Not delivered yet, in order.
    pub(super) events: VecDeque<(u64, Event)>,
}

/// What is so of one upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamState {
    /// Of the last `Target` or `Active`.
    pub term: u64,
    /// Of the last `Target` or `Active`.
    pub local: u64,
    /// Which store is to be active.
    pub target: Store,
    /// Of the last `Target`.
    pub accept_dead_letters: bool,
    /// Of the last `Target`.
    pub decision_id: String,
    /// Which store is active.
    pub active: Store,
    /// When that was committed; `None`: it never was another one.
    pub since: Option<SystemTime>,
    /// Writes that the primary does not have yet.
    pub journal: Waiting,
    /// Writes that it refused for good, and why.
    pub dead: BTreeMap<u64, (Entry, String)>,
    /// For the next entry; larger than that of every entry that ever was.
    pub next_seq: u64,
    /// Writes of this failover, or else of the last one, that the primary has.
    pub synced: u64,
    /// The sync-back that no event has accounted for yet. It survives the process, and what it did with it.
    pub run: Option<Run>,
    /// Told from the upstream's events alone.
    pub stats: FailoverStats,
}

/// A sync-back under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// When it began.
    pub began: SystemTime,
    /// How long the process had been running then.
    pub uptime: Duration,
    /// When the primary was last known to have an entry.
    pub last: SystemTime,
    /// Entries that the primary has by it.
    pub entries: u64,
}

impl Run {
    const fn begin(began: SystemTime, uptime: Duration) -> Self {
        Self { began, uptime, last: began, entries: 0 }
    }
}

impl State {
    /// Takes what became durable into account; of undelivered events at most `keep` stay.
    pub(super) fn apply(&mut self, batch: Batch, keep: usize) {
        if let Some(through) = batch.delivered {
            self.forget(through);
        }
        for record in batch.records {
            self.record(batch.at, record, keep);
        }
    }

    fn record(&mut self, at: SystemTime, record: Record, keep: usize) {
        match record {
            Record::Target { upstream, term, local, target, accept_dead_letters, decision_id } => {
                let state = self.upstream(upstream);
                (state.term, state.local, state.target) = (term, local, target);
                (state.accept_dead_letters, state.decision_id) = (accept_dead_letters, decision_id);
            }
            Record::Active { upstream, store, term, local } => {
                let state = self.upstream(upstream);
                if state.active != store {
                    state.since = Some(at);
                    if store == Store::Backup {
                        state.synced = 0;
                    }
                }
                (state.active, state.term, state.local) = (store, term, local);
            }
            Record::Entry { upstream, seq, entry } => {
                let state = self.upstream(upstream);
                state.journal.insert(seq, entry);
                state.next_seq = state.next_seq.max(seq.saturating_add(1));
            }
            Record::Withdrawn { upstream, seq } => {
                self.upstream(upstream).journal.remove(seq);
            }
            Record::Checkpoint { upstream, seq } => {
                let state = self.upstream(upstream);
                if state.journal.remove(seq).is_some() {
                    let run = state.run.get_or_insert_with(|| Run::begin(at, Duration::ZERO));
                    (run.last, run.entries, state.synced) = (at, run.entries + 1, state.synced + 1);
                }
            }
            Record::Dead { upstream, seq, why } => {
                let state = self.upstream(upstream);
                if let Some(entry) = state.journal.remove(seq) {
                    state.dead.insert(seq, (entry, why));
                }
            }
            Record::Event(event) => self.event(at, event, keep),
        }
    }

    fn upstream(&mut self, name: String) -> &mut UpstreamState {
        self.upstreams.entry(name).or_default()
    }

    fn event(&mut self, at: SystemTime, event: Event, keep: usize) {
        if !event.upstream.is_empty() {
            let state = self.upstream(event.upstream.clone());
            state.stats.fold(&event);
            match event.kind {
                EventKind::SyncBackStarted => {
                    state.run.get_or_insert_with(|| Run::begin(at, event.uptime));
                }
                EventKind::SyncBackCompleted | EventKind::SyncBackFailed => state.run = None,
                _ => {}
            }
        }
        self.next_event = event.seq + 1;
        self.events.push_back((self.epoch, event));
        while self.events.len() > keep.max(1) {
            self.lose_one();
        }
    }

    /// The two oldest become one that says how many were lost, in the place of the second.
    fn lose_one(&mut self) {
        let (Some((_, first)), Some((epoch, second))) = (self.events.pop_front(), self.events.pop_front())
        else {
            return;
        };
        let lost = |event: &Event| if event.kind == EventKind::EventsLost { event.entries } else { 1 };
        let mark = Event {
            seq: second.seq,
            at: second.at,
            uptime: second.uptime,
            kind: EventKind::EventsLost,
            entries: lost(&first) + lost(&second),
            reason: "more events waited for the control plane than a node keeps".to_owned(),
            ..Event::default()
        };
        self.events.push_front((epoch, mark));
    }

    /// The control plane has the events up to `through`.
    pub(super) fn forget(&mut self, through: Position) {
        let newest = (self.epoch, self.next_event.saturating_sub(1));
        let through = through.min(newest);
        if through <= self.delivered {
            return;
        }
        self.delivered = through;
        while self.events.front().is_some_and(|(epoch, event)| (*epoch, event.seq) <= through) {
            self.events.pop_front();
        }
        if let Some((epoch, event)) = self.events.front_mut()
            && event.kind == EventKind::EventsLost
            && *epoch == through.0
        {
            event.entries = event.entries.min(event.seq - through.1);
        }
    }

    /// Another life of the node begins: its events count from 1. The same life goes on where it was.
    pub(super) fn begin_epoch(&mut self, epoch: u64) {
        if epoch != self.epoch || self.next_event == 0 {
            (self.epoch, self.next_event) = (epoch, 1);
        }
    }

    /// Undelivered events behind `after`, in order, at most `limit`.
    pub(super) fn events_after(&self, after: Position, limit: usize) -> Vec<(u64, Event)> {
        let from = self.events.partition_point(|(epoch, event)| (*epoch, event.seq) <= after);
        self.events.range(from..).take(limit).cloned().collect()
    }
}
