//! What it means to be a [`Store`]: the part that is about events.

use super::Store;
use crate::{
    events::{
        Append, Appended, Cursor, EventFilter, EventPage, EventQuery, Kept, NewEvent, Order, PRUNE_STEP,
        StoredEvent, Writer, stats,
    },
    fleet::NodeUid,
};
use o1_proto::{
    convert::{decode_event, encode_event, from_event_kind},
    model::{self, BreakerState, Event, EventKind, FailoverStats},
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn uid(node: u8) -> NodeUid {
    NodeUid::from_bytes([node; 16])
}

fn writer(node: u8, epoch: u64) -> Writer {
    Writer { uid: uid(node), node_id: format!("n{node}"), epoch }
}

fn new(event: Event) -> NewEvent {
    NewEvent { number: from_event_kind(event.kind), body: encode_event(&event), event }
}

/// An event of this number, at a time of the same number.
fn event(seq: u64, kind: EventKind, upstream: &str) -> Event {
    Event { seq, kind, upstream: upstream.to_owned(), at: Some(at(seq)), ..Event::default() }
}

fn plain(seq: u64) -> Event {
    event(seq, EventKind::EntryJournaled, "u")
}

fn append(node: u8, epoch: u64, events: impl IntoIterator<Item = Event>) -> Append {
    Append { writer: writer(node, epoch), events: events.into_iter().map(new).collect(), now: at(1000) }
}

fn through(epoch: u64, seq: u64) -> Appended {
    Appended::Through(Cursor { epoch, seq })
}

fn cursor(epoch: u64, seq: u64) -> Cursor {
    Cursor { epoch, seq }
}

async fn read(store: &impl Store, order: Order, limit: usize) -> EventPage {
    store.events(EventQuery { filter: EventFilter::default(), order, limit }).await.unwrap()
}

async fn all(store: &impl Store) -> Vec<StoredEvent> {
    read(store, Order::After(0), 10_000).await.events
}

fn positions(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|event| event.position).collect()
}

fn places(events: &[StoredEvent]) -> Vec<(Option<NodeUid>, u64, u64)> {
    events.iter().map(|event| (event.uid, event.cursor.epoch, event.cursor.seq)).collect()
}

pub(crate) async fn events_get_positions_without_gaps_across_nodes_and_restarts<S: Store>(
    open: impl Fn() -> S,
) {
    let store = open();
    assert_eq!(store.event_cursor(uid(1)).await.unwrap(), None);
    assert_eq!(store.event_range().await.unwrap(), Kept { oldest: 0, newest: 0 });
    assert_eq!(store.append_events(append(1, 7, (1..=2).map(plain))).await.unwrap(), through(7, 2));
    assert_eq!(store.append_events(append(2, 1, (1..=1).map(plain))).await.unwrap(), through(1, 1));
    assert_eq!(store.append_events(append(1, 7, (3..=3).map(plain))).await.unwrap(), through(7, 3));
    drop(store);
    let store = open();
    assert_eq!(store.append_events(append(2, 1, (2..=2).map(plain))).await.unwrap(), through(1, 2));
    let found = all(&store).await;
    assert_eq!(positions(&found), [1, 2, 3, 4, 5]);
    let (a, b) = (Some(uid(1)), Some(uid(2)));
    assert_eq!(places(&found), [(a, 7, 1), (a, 7, 2), (b, 1, 1), (a, 7, 3), (b, 1, 2)]);
    assert_eq!(found[2].node_id, "n2");
    assert_eq!(found[2].stored_at, at(1000));
    assert_eq!(decode_event(&found[2].body).unwrap().0, plain(1));
    assert_eq!(store.event_cursor(uid(1)).await.unwrap(), Some(cursor(7, 3)));
    assert_eq!(store.event_range().await.unwrap(), Kept { oldest: 1, newest: 5 });
}

pub(crate) async fn events_that_came_before_are_skipped<S: Store>(open: impl Fn() -> S) {
    let store = open();
    store.append_events(append(1, 1, (1..=3).map(plain))).await.unwrap();
    assert_eq!(store.append_events(append(1, 1, (1..=3).map(plain))).await.unwrap(), through(1, 3));
    assert_eq!(store.append_events(append(1, 1, (2..=5).map(plain))).await.unwrap(), through(1, 5));
    assert_eq!(store.append_events(append(1, 1, [])).await.unwrap(), through(1, 5));
    assert_eq!(positions(&all(&store).await), [1, 2, 3, 4, 5]);
    assert_eq!(stats(&store, uid(1), "u").await.unwrap().entries_in_failover, 5, "each counts once");
}

pub(crate) async fn a_batch_with_a_gap_changes_nothing_and_names_what_is_due<S: Store>(open: impl Fn() -> S) {
    let store = open();
    store.append_events(append(1, 1, (1..=2).map(plain))).await.unwrap();
    let gap = |expected| Appended::Gap { expected, durable: Some(cursor(1, 2)) };
    let beyond = append(1, 1, (4..=5).map(plain));
    assert_eq!(store.append_events(beyond).await.unwrap(), gap(cursor(1, 3)));
    let inside = append(1, 1, [plain(3), plain(5)]);
    assert_eq!(
        store.append_events(inside).await.unwrap(),
        Appended::Gap { expected: cursor(1, 4), durable: Some(cursor(1, 2)) }
    );
    assert_eq!(positions(&all(&store).await), [1, 2], "not even the one before the gap");
    assert_eq!(*store.newest_event().borrow(), 2, "nor is anybody told of it");
    assert_eq!(stats(&store, uid(1), "u").await.unwrap().entries_in_failover, 2);
    assert_eq!(store.append_events(append(1, 1, (3..=5).map(plain))).await.unwrap(), through(1, 5));
}

pub(crate) async fn a_hole_that_the_node_tells_of_is_accepted<S: Store>(open: impl Fn() -> S) {
    let store = open();
    // Nobody knows what was before the first that ever came.
    assert_eq!(store.append_events(append(1, 3, (40..=41).map(plain))).await.unwrap(), through(3, 41));
    let lost = Event { entries: 8, ..event(50, EventKind::EventsLost, "") };
    assert_eq!(store.append_events(append(1, 3, [lost, plain(51)])).await.unwrap(), through(3, 51));
    let lost = event(9, EventKind::EventsLost, "");
    assert_eq!(store.append_events(append(1, 4, [lost, plain(10)])).await.unwrap(), through(4, 10));
    assert_eq!(positions(&all(&store).await), [1, 2, 3, 4, 5, 6]);
}

pub(crate) async fn an_epoch_begins_at_one_and_an_older_one_is_over<S: Store>(open: impl Fn() -> S) {
    let store = open();
    store.append_events(append(1, 1, (1..=3).map(plain))).await.unwrap();
    let gap = store.append_events(append(1, 2, [plain(2)])).await.unwrap();
    assert_eq!(gap, Appended::Gap { expected: cursor(2, 1), durable: Some(cursor(1, 3)) });
    assert_eq!(store.append_events(append(1, 2, (1..=2).map(plain))).await.unwrap(), through(2, 2));
    let again = store.append_events(append(1, 1, (2..=3).map(plain))).await.unwrap();
    assert_eq!(again, through(2, 2), "they are all there");
    let late = store.append_events(append(1, 1, (3..=4).map(plain))).await.unwrap();
    assert_eq!(late, Appended::Gap { expected: cursor(2, 3), durable: Some(cursor(2, 2)) });
    let at = Some(uid(1));
    assert_eq!(places(&all(&store).await), [(at, 1, 1), (at, 1, 2), (at, 1, 3), (at, 2, 1), (at, 2, 2)]);
    assert_eq!(store.event_cursor(uid(1)).await.unwrap(), Some(cursor(2, 2)));
}

pub(crate) async fn the_control_plane_numbers_its_own_events<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let decided = |id: &str| Event { decision_id: id.to_owned(), ..event(77, EventKind::Decided, "u") };
    assert_eq!(store.append_own_event(decided("a"), at(1)).await.unwrap(), 1);
    store.append_events(append(1, 1, [plain(1)])).await.unwrap();
    drop(store);
    let store = open();
    assert_eq!(store.append_own_event(decided("b"), at(2)).await.unwrap(), 3);
    let found = all(&store).await;
    assert_eq!(places(&found), [(None, 0, 1), (Some(uid(1)), 1, 1), (None, 0, 2)]);
    assert_eq!(found[2].node_id, "");
    let body = decode_event(&found[2].body).unwrap().0;
    assert_eq!((body.seq, body.decision_id.as_str(), body.kind), (2, "b", EventKind::Decided));
}

pub(crate) async fn events_are_read_in_both_directions_and_cut_where_asked<S: Store>(open: impl Fn() -> S) {
    let store = open();
    store.append_events(append(1, 1, (1..=5).map(plain))).await.unwrap();
    let cases: [(Order, usize, &[u64], bool); 9] = [
        (Order::After(0), 10, &[1, 2, 3, 4, 5], false),
        (Order::After(0), 5, &[1, 2, 3, 4, 5], false),
        (Order::After(0), 2, &[1, 2], true),
        (Order::After(3), 10, &[4, 5], false),
        (Order::After(u64::MAX), 10, &[], false),
        (Order::Before(None), 2, &[5, 4], true),
        (Order::Before(Some(3)), 2, &[2, 1], false),
        (Order::Before(Some(1)), 2, &[], false),
        (Order::Before(Some(u64::MAX)), 1, &[5], true),
    ];
    for (order, limit, expected, more) in cases {
        let page = read(&store, order, limit).await;
        assert_eq!((positions(&page.events), page.more), (expected.to_vec(), more), "{order:?} {limit}");
        assert_eq!(page.kept, Kept { oldest: 1, newest: 5 });
    }
}

pub(crate) async fn filters_choose_by_upstream_node_type_and_time<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let kinds = [EventKind::FailoverCommitted, EventKind::Restored, EventKind::EntryJournaled];
    for node in [1, 2] {
        let events = (1..=6).map(|seq: u64| {
            let upstream = if seq.is_multiple_of(2) { "even" } else { "odd" };
            event(seq, kinds[usize::try_from(seq).unwrap() % 3], upstream)
        });
        store.append_events(append(node, 1, events)).await.unwrap();
    }
    let none = EventFilter::default();
    let restored = vec![from_event_kind(EventKind::Restored)];
    let cases: [(EventFilter, &[u64]); 7] = [
        (EventFilter { upstream: "even".into(), ..none.clone() }, &[2, 4, 6, 8, 10, 12]),
        (EventFilter { node_id: "n2".into(), ..none.clone() }, &[7, 8, 9, 10, 11, 12]),
        (EventFilter { types: restored.clone(), ..none.clone() }, &[1, 4, 7, 10]),
        (EventFilter { types: vec![99, restored[0]], node_id: "n1".into(), ..none.clone() }, &[1, 4]),
        (EventFilter { since: Some(at(5)), ..none.clone() }, &[5, 6, 11, 12]),
        (
            EventFilter { upstream: "odd".into(), types: restored, node_id: "n2".into(), since: Some(at(1)) },
            &[7],
        ),
        (EventFilter { upstream: "' OR 1 --".into(), ..none }, &[]),
    ];
    for (filter, expected) in cases {
        let mut query = EventQuery { filter, order: Order::After(0), limit: 100 };
        let page = store.events(query.clone()).await.unwrap();
        assert_eq!(positions(&page.events), expected, "{query:?}");
        query.order = Order::Before(None);
        let mut back = positions(&store.events(query).await.unwrap().events);
        back.reverse();
        assert_eq!(back, expected);
    }
}

pub(crate) async fn a_page_fits_into_memory<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let large = |seq| Event { reason: "r".repeat(1 << 20), ..plain(seq) };
    store.append_events(append(1, 1, (1..=4).map(large))).await.unwrap();
    let page = read(&store, Order::After(0), 1000).await;
    assert_eq!(
        (positions(&page.events), page.more),
        (vec![1], true),
        "two are a little more than two megabytes"
    );
    store.append_events(append(1, 1, [Event { reason: "r".repeat(3 << 20), ..plain(5) }])).await.unwrap();
    let page = read(&store, Order::After(4), 1000).await;
    assert_eq!((positions(&page.events), page.more), (vec![5], false), "one always fits");
}

pub(crate) async fn the_newest_position_is_told_and_survives<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let mut newest = store.newest_event();
    assert_eq!(*newest.borrow_and_update(), 0);
    store.append_events(append(1, 1, (1..=3).map(plain))).await.unwrap();
    assert!(newest.has_changed().unwrap());
    assert_eq!(*newest.borrow_and_update(), 3);
    store.append_events(append(1, 1, (1..=3).map(plain))).await.unwrap();
    assert!(!newest.has_changed().unwrap(), "nothing is new");
    store.append_own_event(event(0, EventKind::Decided, ""), at(1)).await.unwrap();
    assert_eq!(*newest.borrow_and_update(), 4);
    drop(store);
    assert_eq!(*open().newest_event().borrow(), 4);
}

async fn pruned(store: &impl Store, keep: usize, older_than: SystemTime) -> usize {
    let mut gone = 0;
    loop {
        match store.prune_events(keep, older_than).await.unwrap() {
            0 => return gone,
            some => gone += some,
        }
    }
}

pub(crate) async fn pruning_keeps_the_newest_the_young_and_the_last_of_each_node<S: Store>(
    open: impl Fn() -> S,
) {
    let store = open();
    let stored = |node, seqs: std::ops::RangeInclusive<u64>, now| Append {
        now: at(now),
        ..append(node, 1, seqs.map(plain))
    };
    store.append_events(stored(1, 1..=3, 100)).await.unwrap();
    let many = 2 * u64::try_from(PRUNE_STEP).unwrap() + 10;
    store.append_events(stored(2, 1..=many, 200)).await.unwrap();
    store.append_events(stored(3, 1..=4, 300)).await.unwrap();
    let newest = 3 + many + 4;
    assert_eq!(pruned(&store, 1_000_000, at(100)).await, 0, "everything is young");

    assert_eq!(pruned(&store, 1_000_000, at(150)).await, 2, "the third is the newest of its node");
    assert_eq!(store.event_range().await.unwrap(), Kept { oldest: 3, newest });
    assert_eq!(pruned(&store, 8, at(150)).await, usize::try_from(newest).unwrap() - 8 - 3);
    assert_eq!(store.event_range().await.unwrap(), Kept { oldest: newest - 7, newest });
    let mut left = vec![3];
    left.extend(newest - 7..=newest);
    assert_eq!(positions(&all(&store).await), left);
    drop(store);

    let store = open();
    assert_eq!(pruned(&store, 8, at(10_000)).await, 6, "all are old: three nodes, three events");
    assert_eq!(positions(&all(&store).await), [3, newest - 4, newest]);
    assert_eq!(store.event_range().await.unwrap(), Kept { oldest: newest, newest });
    assert_eq!(store.event_cursor(uid(1)).await.unwrap(), Some(cursor(1, 3)));
    let again = store.append_events(stored(1, 1..=4, 400)).await.unwrap();
    assert_eq!(again, through(1, 4), "what is gone is not taken again");
    assert_eq!(positions(&all(&store).await), [3, newest - 4, newest, newest + 1]);
}

fn story() -> Vec<(u64, Event)> {
    let told = |seq, kind, upstream: &str| Event {
        duration: Some(Duration::from_millis(1500 + seq)),
        entries: seq,
        bytes: 4096 + seq,
        breaker: Some(if seq.is_multiple_of(2) { BreakerState::Open } else { BreakerState::Closed }),
        active: Some(if seq.is_multiple_of(3) { model::Store::Backup } else { model::Store::Primary }),
        local_term: seq % 2,
        ..event(seq, kind, upstream)
    };
    let mut story = Vec::new();
    for epoch in 1..=3 {
        let seqs = (1..).zip(EventKind::ALL.iter().chain(EventKind::ALL));
        story.extend(
            seqs.map(|(seq, kind)| (epoch, told(seq, *kind, if seq.is_multiple_of(5) { "v" } else { "u" }))),
        );
    }
    story
}

fn folded(story: &[(u64, Event)], upstream: &str) -> FailoverStats {
    let mut stats = FailoverStats::default();
    story.iter().filter(|(_, event)| event.upstream == upstream).for_each(|(_, event)| stats.fold(event));
    stats
}

pub(crate) async fn an_account_is_the_fold_of_every_event_also_of_those_that_are_gone<S: Store>(
    open: impl Fn() -> S,
) {
    let store = open();
    assert_eq!(stats(&store, uid(1), "u").await.unwrap(), FailoverStats::default());
    let story = story();
    for (epoch, event) in &story {
        store.append_events(append(1, *epoch, [event.clone()])).await.unwrap();
        // Another node, to whom other things happen.
        store.append_events(append(2, *epoch, [plain(event.seq)])).await.unwrap();
    }
    let (u, v) = (folded(&story, "u"), folded(&story, "v"));
    assert!(u.failover_count > 0 && v != FailoverStats::default() && u != v);
    assert_eq!(stats(&store, uid(1), "u").await.unwrap(), u);
    assert_eq!(stats(&store, uid(1), "v").await.unwrap(), v);
    let mut read = FailoverStats::default();
    for event in all(&store).await.iter().filter(|event| event.uid == Some(uid(1))) {
        let (event, _) = decode_event(&event.body).unwrap();
        if event.upstream == "u" {
            read.fold(&event);
        }
    }
    assert_eq!(read, u, "whoever reads the events says the same");
    assert!(pruned(&store, 3, at(10_000)).await > 0);
    drop(store);
    assert_eq!(stats(&open(), uid(1), "u").await.unwrap(), u, "long after they are gone");
}

pub(crate) async fn an_account_is_the_same_however_the_events_were_cut<S: Store>(open: impl Fn() -> S) {
    let (store, story) = (open(), story());
    let expected = (folded(&story, "u"), folded(&story, "v"));
    // Each node sends the same in batches of another size, and every batch twice.
    for node in 1..=20_u8 {
        for epoch in 1..=3 {
            let events: Vec<_> = story.iter().filter(|one| one.0 == epoch).map(|one| one.1.clone()).collect();
            for batch in events.chunks(usize::from(node)) {
                for _ in 0..2 {
                    store.append_events(append(node, epoch, batch.to_vec())).await.unwrap();
                }
            }
        }
        let found =
            (stats(&store, uid(node), "u").await.unwrap(), stats(&store, uid(node), "v").await.unwrap());
        assert_eq!(found, expected, "in batches of {node}");
    }
}
