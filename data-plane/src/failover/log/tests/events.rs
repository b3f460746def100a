use super::{
    event, open, positions, said, settings,
    sim::{End, Sim},
    upstream,
};
use crate::failover::log::{Log, Settings};
use o1_proto::model::{Event, EventKind};

async fn say(log: &Log, count: u64) {
    for number in 0..count {
        log.append(vec![event("a", EventKind::EntryJournaled, number)]).await.unwrap();
    }
}

#[tokio::test]
async fn events_have_no_gaps_in_an_epoch_and_older_epochs_come_first() {
    let sim = Sim::default();
    for epoch in [1, 2, 4] {
        let log = open(&sim, epoch, settings());
        say(&log, 2).await;
        log.append(vec![event("", EventKind::NodeStopping, 0); 2]).await.unwrap();
        log.close().await;
    }
    let log = open(&sim, 4, settings());
    say(&log, 1).await;
    let all: Vec<_> = [1, 2, 4].into_iter().flat_map(|epoch| (1..=4).map(move |seq| (epoch, seq))).collect();
    assert_eq!(positions(&log), [all, vec![(4, 5)]].concat(), "an epoch that goes on counts on");
    assert_eq!((log.oldest(), log.newest()), (Some((1, 1)), Some((4, 5))));
    let some: Vec<_> = log.events_after((1, 3), 3).iter().map(|(epoch, event)| (*epoch, event.seq)).collect();
    assert_eq!(some, [(1, 4), (2, 1), (2, 2)]);
    assert_eq!(log.events_after((4, 5), 9), []);
}

#[tokio::test]
async fn what_was_delivered_is_forgotten_for_good_once_anything_else_is_said() {
    let sim = Sim::default();
    let log = open(&sim, 1, settings());
    say(&log, 5).await;
    log.delivered((1, 3));
    assert_eq!(positions(&log), [(1, 4), (1, 5)]);
    assert_eq!(said(&sim.after(End::Killed)).events.len(), 5, "not durable yet, so they are sent twice");
    log.append(vec![]).await.unwrap();
    assert_eq!(said(&sim.after(End::Killed)).events.len(), 2);
    log.delivered((1, 5));
    assert_eq!((log.oldest(), log.newest()), (None, None));
    log.close().await;
    let log = open(&sim, 2, settings());
    assert_eq!(positions(&log), [], "the end of the process said it");
    assert_eq!(upstream(&log, "a").stats.entries_in_failover, 5);
    say(&log, 1).await;
    assert_eq!(positions(&log), [(2, 1)]);
}

#[tokio::test]
async fn a_delivery_is_not_forgotten_by_a_write_that_failed() {
    let sim = Sim::default();
    let log = open(&sim, 1, settings());
    say(&log, 3).await;
    log.delivered((1, 2));
    sim.room(Some(0));
    log.append(vec![]).await.unwrap_err();
    sim.room(None);
    log.is_sound().wait_for(|sound| *sound).await.unwrap();
    log.append(vec![]).await.unwrap();
    assert_eq!(said(&sim.after(End::Killed)).events.len(), 1);
}

#[tokio::test]
async fn whoever_sends_events_is_woken_when_there_are_more() {
    let sim = Sim::default();
    let log = open(&sim, 1, settings());
    let mut events = log.events();
    log.append(vec![event("a", EventKind::NodeStarted, 0); 3]).await.unwrap();
    assert!(events.has_changed().unwrap());
    assert_eq!(*events.borrow_and_update(), 3);
    log.append(vec![]).await.unwrap();
    assert!(!events.has_changed().unwrap());
}

#[tokio::test]
async fn events_that_nobody_takes_are_bounded_and_the_account_stays_exact() {
    let sim = Sim::default();
    let few = Settings { keep_events: 10, compact_at: 3000, ..settings() };
    for epoch in 1..=3 {
        let log = open(&sim, epoch, few.clone());
        say(&log, 40).await;
        let waiting = log.events_after((0, 0), 100);
        assert_eq!(waiting.len(), 10);
        let (lost_in, Event { seq, kind, entries, .. }) = &waiting[0];
        assert_eq!((*lost_in, *seq, *kind, *entries), (epoch, 31, EventKind::EventsLost, 40 * epoch - 9));
        let rest: Vec<_> = waiting[1..].iter().map(|(epoch, event)| (*epoch, event.seq)).collect();
        assert_eq!(rest, (32..=40).map(|seq| (epoch, seq)).collect::<Vec<_>>());
        assert_eq!(upstream(&log, "a").stats.entries_in_failover, 40 * epoch);
        log.close().await;
    }
}

#[test]
fn a_log_of_a_later_epoch_is_of_another_node() {
    let sim = Sim::default();
    drop(open(&sim, 5, settings()));
    let error = Log::open_on(Box::new(sim), 4, settings()).unwrap_err().to_string();
    assert!(error.contains("is of epoch 5 and this node is in epoch 4"), "{error}");
}
