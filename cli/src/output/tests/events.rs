use super::failover::event;
use crate::{
    events::{Event, EventKind},
    failover::{BreakerState, Store},
    output::{events, json},
};
use jiff::tz::TimeZone;
use std::time::Duration;

fn all() -> Vec<Event> {
    let of = |kind, reason: &str| Event { reason: reason.into(), ..event(kind) };
    let took = |kind, span, entries| Event { duration: Some(span), entries, ..event(kind) };
    vec![
        Event { upstream: String::new(), term: 0, ..event(EventKind::NodeStarted) },
        Event { breaker: Some(BreakerState::Open), ..of(EventKind::BreakerChanged, "connection refused") },
        of(EventKind::ProvisionalStarted, "connection refused"),
        Event {
            node_id: String::new(),
            active_store: Some(Store::Backup),
            ..of(EventKind::Decided, "3 of 3 fresh observers see the primary unhealthy")
        },
        event(EventKind::FailoverStarted),
        of(EventKind::FailoverCommitted, "3 of 3 fresh observers see the primary unhealthy"),
        Event { local_term: 1, ..of(EventKind::FailoverCommitted, "connection refused") },
        took(EventKind::ClientsNotified, Duration::ZERO, 2),
        event(EventKind::EntryJournaled),
        took(EventKind::SyncBackStarted, Duration::ZERO, 12),
        of(EventKind::DeadLettered, "invalid params"),
        took(EventKind::SyncBackFailed, Duration::from_millis(40), 1),
        took(EventKind::SyncBackCompleted, Duration::from_millis(1_200), 12),
        took(EventKind::Restored, Duration::from_secs(252), 12),
        took(EventKind::Restored, Duration::from_secs(9), 0),
        of(EventKind::FailoverAborted, "the primary is back"),
        event(EventKind::ProvisionalEnded),
        Event { bytes: 1_200_000, ..took(EventKind::BackupSyncCompleted, Duration::from_millis(30), 0) },
        of(EventKind::BackupSyncFailed, "no space left on device"),
        Event { upstream: String::new(), ..event(EventKind::NodeStopping) },
        Event { upstream: String::new(), ..took(EventKind::EventsLost, Duration::ZERO, 7) },
        event(EventKind::Unknown),
    ]
}

#[test]
fn each_kind_of_event_is_a_sentence() {
    insta::assert_snapshot!(events::page(&all(), &TimeZone::UTC).paint(false), @"
        2026-11-21 17:02:13.250  n1  the node started
        2026-11-21 17:02:13.250  n1  files: the breaker of the primary is open: connection refused
        2026-11-21 17:02:13.250  n1  files: reads go to the backup, by the node's own breaker: connection refused
        2026-11-21 17:02:13.250  control plane  files: decided for the backup (term 3): 3 of 3 fresh observers see the primary unhealthy
        2026-11-21 17:02:13.250  n1  files: failing over to the backup (term 3)
        2026-11-21 17:02:13.250  n1  files: failed over to the backup (term 3): 3 of 3 fresh observers see the primary unhealthy
        2026-11-21 17:02:13.250  n1  files: failed over to the backup (by the node itself): connection refused
        2026-11-21 17:02:13.250  n1  files: told 2 client sessions
        2026-11-21 17:02:13.250  n1  files: kept a write in the journal
        2026-11-21 17:02:13.250  n1  files: syncing back 12 entries
        2026-11-21 17:02:13.250  n1  files: the primary refused a write for good: invalid params
        2026-11-21 17:02:13.250  n1  files: sync-back failed after 1 entry in 40.0ms
        2026-11-21 17:02:13.250  n1  files: synced back 12 entries in 1.2s
        2026-11-21 17:02:13.250  n1  files: restored the primary after 4m 12s, 12 entries synced back (term 3)
        2026-11-21 17:02:13.250  n1  files: restored the primary after 9.0s (term 3)
        2026-11-21 17:02:13.250  n1  files: called the failover off (term 3): the primary is back
        2026-11-21 17:02:13.250  n1  files: reads go to the primary again
        2026-11-21 17:02:13.250  n1  files: wrote the snapshot, 1.2 MB in 30.0ms
        2026-11-21 17:02:13.250  n1  files: could not write the snapshot: no space left on device
        2026-11-21 17:02:13.250  n1  the node is stopping
        2026-11-21 17:02:13.250  n1  the node had no room for 7 older events: they are lost
        2026-11-21 17:02:13.250  n1  files: something that this version of o1ctl does not know
        ");
    let told: Vec<_> = all().iter().map(|event| event.kind).collect();
    for kind in EventKind::ALL {
        assert!(told.contains(kind), "{} is not told", kind.word());
    }
}

#[test]
fn the_shape_of_an_event_is_stable() {
    let event = Event { duration: Some(Duration::from_secs(252)), ..event(EventKind::Restored) };
    insta::assert_snapshot!(json::line(&event), @r#"{"position":41,"at":"2026-11-21T17:02:13.25Z","node_id":"n1","node_uid":"00ff","epoch":3,"seq":17,"uptime_seconds":7930.0,"type":"restored","upstream":"files","term":3,"local_term":0,"phase_from":null,"phase_to":null,"decision_id":"d-3","reason":"","duration_seconds":252.0,"entries":0,"bytes":0,"active_store":null,"breaker":null,"stored_at":"2026-11-21T17:02:13.3Z"}"#);
    assert_eq!(json::line(&event).matches('\n').count(), 1);
}
