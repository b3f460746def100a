//! Failovers of one upstream on one node, told from its events alone: a node and a control plane that have the same
//! events say the same.

use super::{BreakerState, Event, EventKind, Store};
use std::time::{Duration, SystemTime};

/// The account. Times are wall time of the node; durations are measured by its monotonic clock while it lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailoverStats {
    /// The backup is active.
    pub failover_active: bool,
    /// How often it became so.
    pub failover_count: u64,
    /// Time on the backup in failovers that are over; [`FailoverStats::total_failover_time`] adds the running one.
    pub finished_failover_time: Duration,
    /// When the backup last became active.
    pub last_failover_time: Option<SystemTime>,
    /// When the primary last became active again.
    pub last_restoration_time: Option<SystemTime>,
    /// Since when the running failover lasts.
    pub current_failover_since: Option<SystemTime>,
    /// Snapshots written.
    pub backup_syncs_completed: u64,
    /// Snapshots that could not be written.
    pub backup_sync_failures: u64,
    /// When one last was.
    pub last_backup_sync: Option<SystemTime>,
    /// What writing them took.
    pub total_backup_sync_time: Duration,
    /// Size of the last snapshot.
    pub backup_file_size_bytes: u64,
    /// Sync-backs that began.
    pub sync_back_operations: u64,
    /// Entries that the primary has because they were replayed.
    pub entries_synced_back: u64,
    /// Sync-backs that did not get to their end.
    pub sync_back_failures: u64,
    /// What they took, successful or not.
    pub total_sync_back_time: Duration,
    /// Writes accepted into the journal.
    pub entries_in_failover: u64,
    /// Entries that the primary refused for good.
    pub dead_letter_entries: u64,
    /// Failovers, or detours of reads, that the node began by itself.
    pub provisional_failovers: u64,
    /// The active store.
    pub active_store: Store,
    /// Of the primary, when it last changed.
    pub primary_circuit_breaker_state: BreakerState,
}

impl FailoverStats {
    /// Takes the next event of the upstream into account. Sums stop at what they can hold: whoever sends nonsense ends
    /// nobody's process.
    pub fn fold(&mut self, event: &Event) {
        let took = event.duration.unwrap_or_default();
        match event.kind {
            EventKind::FailoverCommitted => {
                self.failover_active = true;
                add(&mut self.failover_count, 1);
                self.last_failover_time = event.at;
                self.current_failover_since = event.at;
                add(&mut self.provisional_failovers, u64::from(event.local_term > 0));
            }
            EventKind::Restored => {
                self.failover_active = false;
                self.last_restoration_time = event.at;
                self.current_failover_since = None;
                lengthen(&mut self.finished_failover_time, took);
            }
            EventKind::ProvisionalStarted => add(&mut self.provisional_failovers, 1),
            EventKind::BackupSyncCompleted => {
                add(&mut self.backup_syncs_completed, 1);
                self.last_backup_sync = event.at;
                lengthen(&mut self.total_backup_sync_time, took);
                self.backup_file_size_bytes = event.bytes;
            }
            EventKind::BackupSyncFailed => add(&mut self.backup_sync_failures, 1),
            EventKind::SyncBackStarted => add(&mut self.sync_back_operations, 1),
            EventKind::SyncBackCompleted | EventKind::SyncBackFailed => {
                add(&mut self.entries_synced_back, event.entries);
                lengthen(&mut self.total_sync_back_time, took);
                add(&mut self.sync_back_failures, u64::from(event.kind == EventKind::SyncBackFailed));
            }
            EventKind::EntryJournaled => add(&mut self.entries_in_failover, 1),
            EventKind::DeadLettered => add(&mut self.dead_letter_entries, 1),
            _ => {}
        }
        self.active_store = event.active.unwrap_or(self.active_store);
        self.primary_circuit_breaker_state = event.breaker.unwrap_or(self.primary_circuit_breaker_state);
    }

    /// Time on the backup, the running failover up to `now` included.
    #[must_use]
    pub fn total_failover_time(&self, now: SystemTime) -> Duration {
        let running = self.current_failover_since.and_then(|since| now.duration_since(since).ok());
        self.finished_failover_time.saturating_add(running.unwrap_or_default())
    }
}

fn add(count: &mut u64, more: u64) {
    *count = count.saturating_add(more);
}

fn lengthen(sum: &mut Duration, longer: Duration) {
    *sum = sum.saturating_add(longer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert;
    use proptest::{collection::vec, option, prelude::*, sample::select};
    use std::time::UNIX_EPOCH;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(when: u64) -> Option<SystemTime> {
        Some(UNIX_EPOCH + seconds(when))
    }

    /// With a value in every field that an account could be misled by.
    fn event(kind: EventKind, when: u64) -> Event {
        let (duration, entries, bytes) = (Some(seconds(7)), 3, 4096);
        Event { kind, at: at(when), duration, entries, bytes, ..Event::default() }
    }

    fn folded(events: &[Event]) -> FailoverStats {
        let mut stats = FailoverStats::default();
        events.iter().for_each(|event| stats.fold(event));
        stats
    }

    fn expected(kind: EventKind) -> FailoverStats {
        let none = FailoverStats::default();
        match kind {
            EventKind::FailoverCommitted => FailoverStats {
                failover_active: true,
                failover_count: 1,
                last_failover_time: at(50),
                current_failover_since: at(50),
                ..none
            },
            EventKind::Restored => {
                FailoverStats { last_restoration_time: at(50), finished_failover_time: seconds(7), ..none }
            }
            EventKind::ProvisionalStarted => FailoverStats { provisional_failovers: 1, ..none },
            EventKind::BackupSyncCompleted => FailoverStats {
                backup_syncs_completed: 1,
                last_backup_sync: at(50),
                total_backup_sync_time: seconds(7),
                backup_file_size_bytes: 4096,
                ..none
            },
            EventKind::BackupSyncFailed => FailoverStats { backup_sync_failures: 1, ..none },
            EventKind::SyncBackStarted => FailoverStats { sync_back_operations: 1, ..none },
            EventKind::SyncBackCompleted => {
                FailoverStats { entries_synced_back: 3, total_sync_back_time: seconds(7), ..none }
            }
            EventKind::SyncBackFailed => FailoverStats {
                entries_synced_back: 3,
                total_sync_back_time: seconds(7),
                sync_back_failures: 1,
                ..none
            },
            EventKind::EntryJournaled => FailoverStats { entries_in_failover: 1, ..none },
            EventKind::DeadLettered => FailoverStats { dead_letter_entries: 1, ..none },
            EventKind::Unknown
            | EventKind::NodeStarted
            | EventKind::NodeStopping
            | EventKind::FailoverStarted
            | EventKind::FailoverAborted
            | EventKind::BreakerChanged
            | EventKind::ClientsNotified
            | EventKind::ProvisionalEnded
            | EventKind::Decided
            | EventKind::EventsLost => none,
        }
    }

    #[test]
    fn each_kind_of_event_moves_its_own_figures_and_no_others() {
        for kind in EventKind::ALL.iter().copied().chain([EventKind::Unknown]) {
            assert_eq!(folded(&[event(kind, 50)]), expected(kind), "{kind:?}");
        }
    }

    #[test]
    fn any_event_may_tell_of_the_store_and_the_breaker_and_one_that_does_not_changes_neither() {
        let (active, breaker) = (Some(Store::Backup), Some(BreakerState::HalfOpen));
        let telling = Event { active, breaker, ..event(EventKind::BreakerChanged, 1) };
        let stats = folded(&[telling, event(EventKind::NodeStarted, 2)]);
        assert_eq!(stats.active_store, Store::Backup);
        assert_eq!(stats.primary_circuit_breaker_state, BreakerState::HalfOpen);
    }

    #[test]
    fn a_failover_that_the_node_began_by_itself_counts_as_one_of_its_own() {
        let alone = Event { local_term: 1, ..event(EventKind::FailoverCommitted, 1) };
        let ordered = Event { term: 9, ..event(EventKind::FailoverCommitted, 2) };
        let stats = folded(&[alone, ordered]);
        assert_eq!((stats.failover_count, stats.provisional_failovers), (2, 1));
    }

    #[test]
    fn the_running_failover_counts_from_its_first_moment_until_the_measured_time_takes_its_place() {
        let first = [event(EventKind::FailoverCommitted, 100), event(EventKind::Restored, 107)];
        assert_eq!(folded(&first).total_failover_time(UNIX_EPOCH + seconds(500)), seconds(7));
        let mut second = folded(&first);
        second.fold(&event(EventKind::FailoverCommitted, 200));
        for (now, total) in [(150, 7), (200, 7), (203, 10), (207, 14)] {
            assert_eq!(second.total_failover_time(UNIX_EPOCH + seconds(now)), seconds(total), "at {now}");
        }
        second.fold(&event(EventKind::Restored, 207));
        assert_eq!(second.total_failover_time(UNIX_EPOCH + seconds(900)), seconds(14));
        assert_eq!((second.failover_active, second.current_failover_since), (false, None));
        assert_eq!((second.failover_count, second.last_failover_time), (2, at(200)));
    }

    #[test]
    fn figures_stop_at_what_they_can_hold() {
        let (duration, entries) = (Some(Duration::MAX), u64::MAX);
        let huge = |kind| Event { duration, entries, ..event(kind, 1) };
        let kinds = [EventKind::Restored, EventKind::BackupSyncCompleted, EventKind::SyncBackFailed];
        let stats = folded(&kinds.map(huge).into_iter().chain(kinds.map(huge)).collect::<Vec<_>>());
        assert_eq!(stats.total_failover_time(SystemTime::now()), Duration::MAX);
        assert_eq!((stats.entries_synced_back, stats.sync_back_failures), (u64::MAX, 2));
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let store = option::of(select(vec![Store::Primary, Store::Backup]));
        let breaker =
            option::of(select(vec![BreakerState::Closed, BreakerState::HalfOpen, BreakerState::Open]));
        let figures = (0_u64..4, 0_u64..100_000, 0_u64..1_000_000_000, 0_u64..3);
        (select(EventKind::ALL), option::of(0_u64..100_000_000_000), figures, store, breaker).prop_map(
            |(kind, nanos, (entries, took, bytes, local_term), active, breaker)| Event {
                kind,
                at: nanos.map(|nanos| UNIX_EPOCH + Duration::from_nanos(nanos)),
                duration: Some(Duration::from_micros(took)),
                entries,
                bytes,
                local_term,
                active,
                breaker,
                ..Event::default()
            },
        )
    }

    fn figures(stats: &FailoverStats) -> [u64; 12] {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap();
        [
            stats.failover_count,
            stats.backup_syncs_completed,
            stats.backup_sync_failures,
            stats.sync_back_operations,
            stats.entries_synced_back,
            stats.sync_back_failures,
            stats.entries_in_failover,
            stats.dead_letter_entries,
            stats.provisional_failovers,
            nanos(stats.finished_failover_time),
            nanos(stats.total_backup_sync_time),
            nanos(stats.total_sync_back_time),
        ]
    }

    proptest! {
        #[test]
        fn nothing_that_is_counted_goes_back_whatever_comes(events in vec(any_event(), 0..60)) {
            let mut stats = FailoverStats::default();
            for event in &events {
                let before = figures(&stats);
                stats.fold(event);
                let after = figures(&stats);
                prop_assert!(before.iter().zip(&after).all(|(before, after)| before <= after), "{event:?}");
            }
        }

        #[test]
        fn an_account_that_was_put_away_goes_on_as_if_it_had_not_been(
            events in vec(any_event(), 0..60),
            cut in 0_usize..60,
        ) {
            let (before, after) = events.split_at(cut.min(events.len()));
            let kept = convert::encode_failover_stats(&folded(before));
            let mut stats = convert::decode_failover_stats(&kept).unwrap();
            after.iter().for_each(|event| stats.fold(event));
            prop_assert_eq!(stats, folded(&events));
        }

        #[test]
        fn an_event_comes_back_from_its_bytes(event in any_event()) {
            let (back, number) = convert::decode_event(&convert::encode_event(&event)).unwrap();
            prop_assert_eq!(number, convert::from_event_kind(event.kind));
            prop_assert_eq!(back, event);
        }
    }
}
