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
    /// Takes the next event of the upstream into account.
    pub fn fold(&mut self, event: &Event) {
        let took = event.duration.unwrap_or_default();
        match event.kind {
            EventKind::FailoverCommitted => {
                self.failover_active = true;
                self.failover_count += 1;
                self.last_failover_time = event.at;
                self.current_failover_since = event.at;
                if event.local_term > 0 {
                    self.provisional_failovers += 1;
                }
            }
            EventKind::Restored => {
                self.failover_active = false;
                self.last_restoration_time = event.at;
                self.current_failover_since = None;
                self.finished_failover_time += took;
            }
            EventKind::ProvisionalStarted => self.provisional_failovers += 1,
            EventKind::BackupSyncCompleted => {
                self.backup_syncs_completed += 1;
                self.last_backup_sync = event.at;
                self.total_backup_sync_time += took;
                self.backup_file_size_bytes = event.bytes;
            }
            EventKind::BackupSyncFailed => self.backup_sync_failures += 1,
            EventKind::SyncBackStarted => self.sync_back_operations += 1,
            EventKind::SyncBackCompleted | EventKind::SyncBackFailed => {
                self.entries_synced_back += event.entries;
                self.total_sync_back_time += took;
                self.sync_back_failures += u64::from(event.kind == EventKind::SyncBackFailed);
            }
            EventKind::EntryJournaled => self.entries_in_failover += 1,
            EventKind::DeadLettered => self.dead_letter_entries += 1,
            _ => {}
        }
        self.active_store = event.active.unwrap_or(self.active_store);
        self.primary_circuit_breaker_state = event.breaker.unwrap_or(self.primary_circuit_breaker_state);
    }

    /// Time on the backup, the running failover up to `now` included.
    #[must_use]
    pub fn total_failover_time(&self, now: SystemTime) -> Duration {
        let running = self.current_failover_since.and_then(|since| now.duration_since(since).ok());
        self.finished_failover_time + running.unwrap_or_default()
    }
}
