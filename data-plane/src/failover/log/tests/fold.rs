use super::{active, checkpoint, dead, entry, event, folded, noon, numbered, target};
use crate::failover::log::{Record, State, state::Batch};
use o1_proto::model::{Event, EventKind, Store};
use std::time::Duration;

fn fold(records: Vec<Record>) -> State {
    folded(&numbered(&[records]))
}

#[test]
fn the_active_store_is_what_the_last_commit_says_and_since_is_its_time() {
    let state = fold(vec![active("a", 1, Store::Primary)]);
    assert_eq!((state.upstreams["a"].active, state.upstreams["a"].since), (Store::Primary, None));
    let mut state = fold(vec![target("a", 3, Store::Backup)]);
    let a = &state.upstreams["a"];
    assert_eq!((a.term, a.target, a.active, a.since), (3, Store::Backup, Store::Primary, None));
    assert_eq!((a.accept_dead_letters, a.decision_id.as_str()), (true, "d3"));
    let later = |secs| noon() + Duration::from_secs(secs);
    for (at, term, store) in [(1, 4, Store::Backup), (2, 5, Store::Backup), (3, 6, Store::Primary)] {
        state.apply(Batch { at: later(at), delivered: None, records: vec![active("a", term, store)] }, 9);
        let since = if at == 2 { 1 } else { at };
        let a = &state.upstreams["a"];
        assert_eq!((a.active, a.since, a.term), (store, Some(later(since)), term));
    }
}

#[test]
fn an_entry_waits_until_it_is_there_or_withdrawn_or_dead() {
    let gone = Record::Withdrawn { upstream: "a".into(), seq: 2 };
    let entries = (1..=5).map(|seq| entry("a", seq, 0));
    let ends = [checkpoint("a", 4), gone, dead("a", 3), dead("a", 3), dead("a", 99), checkpoint("b", 1)];
    let state = fold(entries.chain(ends).collect());
    let a = &state.upstreams["a"];
    assert_eq!(
        a.journal.iter().map(|(seq, _)| seq).collect::<Vec<_>>(),
        [1, 5],
        "a checkpoint is of one entry"
    );
    assert_eq!(
        a.dead.iter().map(|(seq, (_, why))| (*seq, why.as_str())).collect::<Vec<_>>(),
        [(3, "no such file")]
    );
    assert_eq!(a.dead[&3].0.key, "n/1/3");
    assert_eq!(a.next_seq, 6);
    let state = fold(vec![entry("a", 7, 0), checkpoint("a", 7)]);
    assert_eq!(state.upstreams["a"].next_seq, 8, "a number is never used again");
}

#[test]
fn events_of_an_upstream_are_its_account_and_those_of_the_node_are_nobodys() {
    let state = fold(vec![
        event("a", EventKind::FailoverCommitted, 0),
        event("", EventKind::NodeStarted, 0),
        event("b", EventKind::EntryJournaled, 0),
        event("a", EventKind::Restored, 250),
    ]);
    assert_eq!(state.upstreams.keys().collect::<Vec<_>>(), ["a", "b"]);
    let stats = &state.upstreams["a"].stats;
    assert_eq!((stats.failover_count, stats.finished_failover_time), (1, Duration::from_millis(250)));
    assert_eq!(state.events.iter().map(|(_, event)| event.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

fn marks(state: &State) -> Vec<(u64, u64, EventKind, u64)> {
    state.events.iter().map(|(epoch, event)| (*epoch, event.seq, event.kind, event.entries)).collect()
}

#[test]
fn what_is_lost_leaves_one_event_that_says_how_much_and_the_account_stays_exact() {
    let lost = EventKind::EventsLost;
    let said = |seq| {
        Record::Event(Event { seq, upstream: "a".into(), kind: EventKind::Decided, ..Event::default() })
    };
    let batch = |records| Batch { at: noon(), delivered: None, records };
    let mut state = folded(&[]);
    state.apply(batch((1..=6).map(said).collect()), 3);
    assert_eq!(
        marks(&state),
        [(1, 4, lost, 4), (1, 5, EventKind::Decided, 0), (1, 6, EventKind::Decided, 0)],
        "six events, of which the last two are there"
    );
    state.forget((1, 2));
    assert_eq!(marks(&state)[0], (1, 4, lost, 2), "what was delivered is not lost");
    state.forget((1, 4));
    assert_eq!(marks(&state)[0], (1, 5, EventKind::Decided, 0));

    state.begin_epoch(2);
    let failed = |seq| {
        Record::Event(Event {
            seq,
            upstream: "a".into(),
            kind: EventKind::BackupSyncFailed,
            ..Event::default()
        })
    };
    state.apply(batch((1..=9).map(failed).collect()), 3);
    assert_eq!(
        marks(&state),
        [(2, 7, lost, 9), (2, 8, EventKind::BackupSyncFailed, 0), (2, 9, EventKind::BackupSyncFailed, 0)],
        "two of the epoch before are among the nine"
    );
    assert_eq!(state.upstreams["a"].stats.backup_sync_failures, 9);
}

#[test]
fn nothing_is_delivered_before_it_happened() {
    let mut state = fold(vec![event("", EventKind::NodeStarted, 0)]);
    state.forget((9, 9));
    assert_eq!((state.delivered, state.events.len()), ((1, 1), 0));
    state.forget((1, 0));
    assert_eq!(state.delivered, (1, 1));
    state.apply(numbered(&[vec![event("", EventKind::NodeStarted, 0); 2]]).remove(0), 9);
    state.begin_epoch(1);
    assert_eq!(state.next_event, 3, "the same life goes on");
}

#[test]
fn a_sync_back_is_counted_until_an_event_accounts_for_it() {
    let later = |secs| noon() + Duration::from_secs(secs);
    let started = |uptime| {
        let event = Event {
            kind: EventKind::SyncBackStarted,
            upstream: "a".into(),
            uptime: Duration::from_secs(uptime),
            ..Event::default()
        };
        Record::Event(event)
    };
    let mut state =
        fold((1..=9).map(|seq| entry("a", seq, 0)).chain([active("a", 1, Store::Backup)]).collect());
    let mut say = |at, record| {
        state.apply(Batch { at: later(at), delivered: None, records: vec![record] }, 9);
        let a = &state.upstreams["a"];
        (a.run.as_ref().map(|run| (run.began, run.uptime.as_secs(), run.last, run.entries)), a.synced)
    };
    assert_eq!(say(1, started(40)), (Some((later(1), 40, later(1), 0)), 0));
    assert_eq!(say(2, checkpoint("a", 1)), (Some((later(1), 40, later(2), 1)), 1));
    assert_eq!(say(3, dead("a", 2)), (Some((later(1), 40, later(2), 1)), 1), "the primary does not have it");
    assert_eq!(say(4, checkpoint("a", 1)), (Some((later(1), 40, later(2), 1)), 1), "once");
    assert_eq!(say(5, event("a", EventKind::SyncBackFailed, 1)), (None, 1));
    assert_eq!(say(6, started(45)), (Some((later(6), 45, later(6), 0)), 1));
    assert_eq!(say(7, checkpoint("a", 3)), (Some((later(6), 45, later(7), 1)), 2));
    assert_eq!(say(8, event("a", EventKind::SyncBackCompleted, 1)), (None, 2));
    assert_eq!(say(9, active("a", 2, Store::Primary)), (None, 2), "the last failover is still told of");
    assert_eq!(say(10, active("a", 3, Store::Backup)), (None, 0));
}
