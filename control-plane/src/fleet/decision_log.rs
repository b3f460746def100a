//! What was decided about failovers, on its way to the store, and from there to the nodes and to the log of events.
//!
//! It must never let a directive out before its record is on disk. The newest record of an upstream replaces one that
//! still waits: what was never kept was never said, and so need not be.

use super::Hub;
use crate::{
    clock::Now,
    health::{Answer, Change, Decision, Kept, Maintenance, Record},
    store::Store,
};
use o1_process::Backoff;
use o1_proto::model::Event;
use std::{
    collections::{BTreeMap, VecDeque},
    error::Error as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// Decisions that wait for the store or for their place in the log; more of them only while neither works.
const MAX_DECIDED: usize = 1024;
/// Answers to operators that wait for the store.
const MAX_ANSWERS: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct DecisionLog {
    waiting: Mutex<Waiting>,
    filled: Notify,
    kept: watch::Sender<u64>,
    decided: Decided,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Counts what was ever left here.
    count: u64,
    records: BTreeMap<String, Record>,
    maintenance: Option<Maintenance>,
    answers: Vec<Answer>,
    decided: VecDeque<Decision>,
}

impl Waiting {
    /// Everything, and how much was left until now.
    fn take(&mut self) -> (u64, Kept, VecDeque<Decision>) {
        let taken = std::mem::take(self);
        self.count = taken.count;
        let (records, maintenance) = (taken.records.into_values().collect(), taken.maintenance);
        (taken.count, Kept { records, maintenance, answers: taken.answers }, taken.decided)
    }

    /// What could not be kept, unless something newer came meanwhile.
    fn put_back(&mut self, kept: Kept, decided: VecDeque<Decision>) {
        for record in kept.records {
            self.records.entry(record.upstream.clone()).or_insert(record);
        }
        self.maintenance = self.maintenance.take().or(kept.maintenance);
        self.answers.splice(..0, kept.answers);
        for decision in decided.into_iter().rev() {
            self.decided.push_front(decision);
        }
    }
}

impl DecisionLog {
    /// Leaves a change to be kept.
    pub fn put(&self, change: Change) {
        if change.is_empty() {
            return;
        }
        let mut waiting = self.waiting();
        waiting.count += 1;
        waiting.records.extend(change.kept.records.into_iter().map(|one| (one.upstream.clone(), one)));
        waiting.maintenance = change.kept.maintenance.or(waiting.maintenance.take());
        waiting.answers.extend(change.kept.answers);
        waiting.decided.extend(change.decided);
        let surplus = waiting.decided.len().saturating_sub(MAX_DECIDED);
        waiting.decided.drain(..surplus);
        drop(waiting);
        self.filled.notify_one();
    }

    /// Whether the store has fallen so far behind that no more orders are taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting().answers.len() >= MAX_ANSWERS
    }

    /// What waits for the store: records of upstreams, answers to operators, decisions.
    #[must_use]
    pub fn waits(&self) -> (usize, usize, usize) {
        let waiting = self.waiting();
        (waiting.records.len(), waiting.answers.len(), waiting.decided.len())
    }

    /// Returns once everything that was left here until now is on disk.
    pub async fn settled(&self) {
        let count = self.waiting().count;
        // The sender lives as long as this does.
        let _ = self.kept.subscribe().wait_for(|kept| *kept >= count).await;
    }

    /// Keeps changes as they come, until the process stops, and what waits then; lets the hub tell the nodes.
    pub async fn write_to(&self, store: &dyn Store, hub: &Hub, stop: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.filled.notified() => {}
                () = stop.cancelled() => break,
            }
            while !self.write(store, hub).await && !stop.is_cancelled() {
                tokio::select! {
                    () = sleep(backoff.next()) => {}
                    () = stop.cancelled() => {}
                }
            }
            backoff.reset();
        }
        self.write(store, hub).await;
    }

    /// Keeps what waits. False: it could not be, and waits again.
    async fn write(&self, store: &dyn Store, hub: &Hub) -> bool {
        let (count, kept, decided) = self.waiting().take();
        let nothing = Kept::default();
        if kept != nothing
            && let Err(error) = store.keep_decisions(kept.clone()).await
        {
            let cause = error.source().map(ToString::to_string);
            tracing::error!(%error, cause, "a failover decision could not be kept, so nobody is told; trying again");
            self.waiting().put_back(kept, decided);
            return false;
        }
        hub.decisions_kept(&kept.records, Now::read());
        for decision in &decided {
            self.decided.put(decision.event());
        }
        self.kept.send_replace(count);
        true
    }

    /// Where decisions wait for their place in the log of events.
    #[must_use]
    pub fn decided(&self) -> &Decided {
        &self.decided
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decisions that are kept, as events, in order; one reader. If nobody reads, the oldest are dropped.
#[derive(Debug, Default)]
pub struct Decided {
    waiting: Mutex<VecDeque<Event>>,
    filled: Notify,
}

impl Decided {
    /// How many wait for their place in the log of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn put(&self, event: Event) {
        let mut waiting = self.waiting();
        if waiting.len() >= MAX_DECIDED {
            waiting.pop_front();
        }
        waiting.push_back(event);
        drop(waiting);
        self.filled.notify_one();
    }

    /// The next one.
    pub async fn next(&self) -> Event {
        loop {
            if let Some(event) = self.waiting().pop_front() {
                return event;
            }
            self.filled.notified().await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fleet::{Hello, Message, Out, Outbox, Question, StreamId, sample_record},
        health::Order,
        store::Sqlite,
    };
    use o1_proto::model;
    use std::time::UNIX_EPOCH;

    fn change(term: u64) -> Change {
        let record = Record {
            upstream: "weather".to_owned(),
            term,
            target: Some(model::Store::Backup),
            ..Record::default()
        };
        let decision = Decision {
            upstream: "weather".to_owned(),
            term,
            target: model::Store::Backup,
            id: format!("{term:016x}"),
            reason: model::DecisionReason::QuorumUnhealthy,
            because: "3 of 3".to_owned(),
            at: crate::health::Moment { uptime: Duration::ZERO, wall: UNIX_EPOCH },
            shadow: false,
        };
        Change { kept: Kept { records: vec![record], ..Kept::default() }, decided: vec![decision] }
    }

    fn terms(waiting: &Waiting) -> (Vec<u64>, Vec<u64>) {
        let records = waiting.records.values().map(|record| record.term).collect();
        (records, waiting.decided.iter().map(|decision| decision.term).collect())
    }

    #[test]
    fn what_could_not_be_kept_waits_again_unless_something_newer_came() {
        let log = DecisionLog::default();
        log.put(change(1));
        let (count, kept, decided) = log.waiting().take();
        assert_eq!((count, terms(&log.waiting())), (1, (vec![], vec![])));
        log.put(change(2));
        log.waiting().put_back(kept, decided);
        assert_eq!(terms(&log.waiting()), (vec![2], vec![1, 2]), "both were decided, one is kept");
    }

    #[test]
    fn what_waits_is_bounded() {
        let log = DecisionLog::default();
        (1..=2000).for_each(|term| log.put(change(term)));
        let (records, decided) = terms(&log.waiting());
        assert_eq!((records, decided.len(), decided[0]), (vec![2000], MAX_DECIDED, 977));
    }

    #[tokio::test]
    async fn decisions_are_told_to_the_log_of_events_once_they_are_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&dir.path().join("store.db")).unwrap();
        let hub = Hub::new(Vec::new(), Now::read());
        let log = DecisionLog::default();
        log.put(change(1));
        assert!(log.write(&store, &hub).await);
        log.settled().await;
        assert_eq!(store.failover_decisions().await.unwrap().records[0].term, 1);
        let event = log.decided().next().await;
        assert_eq!((event.kind, event.term), (model::EventKind::Decided, 1));
        assert_eq!((&*event.reason, event.active), ("quorum_unhealthy: 3 of 3", Some(model::Store::Backup)));
    }

    /// Half-minutes of a node that says the least, and how many directives it was sent.
    async fn half_minute(hub: &Hub, stream: StreamId, outbox: &Outbox, from: Now) -> (Now, usize) {
        let mut now = from;
        for _ in 0..3 {
            now = Now { instant: now.instant + Duration::from_secs(10), wall: now.wall };
            let beat = Message::Heartbeat {
                seq: 1,
                applied: None,
                node_time: None,
                draining: false,
                drain_ordered: false,
            };
            hub.message(stream, beat, now);
            hub.tick(now);
        }
        // Questions come last: what was sent before has been taken when this one is.
        outbox.put(Out::Query { id: 1, question: Question::Cancel });
        let mut sent = 0;
        loop {
            match outbox.next().await.expect("more to come") {
                Out::Query { .. } => return (now, sent),
                Out::Directives(_) => sent += 1,
                _ => {}
            }
        }
    }

    #[tokio::test]
    async fn directives_come_again_until_the_node_says_that_it_is_so() {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&dir.path().join("store.db")).unwrap();
        let (outbox, now) = (Outbox::new(), Now::read());
        let hub = Hub::new(Vec::new(), now);
        let upstream = model::Upstream {
            name: "weather".to_owned(),
            backup: Some(model::Backup::Snapshot),
            ..model::Upstream::default()
        };
        let fleet = model::Fleet { upstreams: vec![upstream], ..model::Fleet::default() };
        hub.order(now, |decisions, moment| decisions.configure(&fleet, moment));
        let identity = sample_record("n1", 1).identity;
        let stream = hub.hello(Hello { identity, applied: None, refused: None }, &outbox, now).unwrap();
        let (now, sent) = half_minute(&hub, stream, &outbox, now).await;
        assert_eq!(sent, 0, "nothing was decided");
        let order = Order {
            upstream: "weather".to_owned(),
            target: model::Store::Backup,
            if_term: 0,
            force: false,
            dry_run: false,
            reason: "a drill".to_owned(),
            request_id: String::new(),
        };
        hub.order(now, |decisions, moment| decisions.order(&order, moment)).unwrap();
        let (now, sent) = half_minute(&hub, stream, &outbox, now).await;
        assert_eq!(sent, 0, "it is not on disk");
        assert!(hub.decision_log().write(&store, &hub).await);
        let (now, first) = half_minute(&hub, stream, &outbox, now).await;
        let (now, again) = half_minute(&hub, stream, &outbox, now).await;
        assert_eq!((first, again), (1, 1));
        let state = model::FailoverState {
            active: model::Store::Backup,
            phase: model::Phase::Backup,
            term: 1,
            ..model::FailoverState::default()
        };
        hub.message(stream, Message::Failover(vec![("weather".to_owned(), state)]), now);
        let (_, sent) = half_minute(&hub, stream, &outbox, now).await;
        assert_eq!(sent, 0, "it is so");
    }
}
