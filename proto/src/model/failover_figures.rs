//! An account of failovers as JSON has it, on the admin port of either plane.

use super::FailoverStats;
use serde::Serialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// [`FailoverStats`] at one moment. Moments are seconds since 1970, durations seconds; `None`: it never was.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "as in FailoverStats")]
pub struct FailoverFigures {
    pub failover_active: bool,
    pub failover_count: u64,
    /// The running failover included.
    pub total_failover_time: f64,
    pub last_failover_time: Option<u64>,
    pub last_restoration_time: Option<u64>,
    pub backup_syncs_completed: u64,
    pub backup_sync_failures: u64,
    pub last_backup_sync: Option<u64>,
    pub total_backup_sync_time: f64,
    pub sync_back_operations: u64,
    pub entries_synced_back: u64,
    pub sync_back_failures: u64,
    pub total_sync_back_time: f64,
    pub active_store: &'static str,
    /// `None`: these are sums over nodes.
    pub primary_circuit_breaker_state: Option<&'static str>,
    pub backup_file_exists: bool,
    pub backup_file_size_bytes: u64,
    pub entries_in_failover: u64,
    pub dead_letter_entries: u64,
    pub provisional_failovers: u64,
    pub current_failover_since: Option<u64>,
}

impl FailoverFigures {
    /// What `stats` say; `total` is [`FailoverStats::total_failover_time`] as the caller knows it.
    #[must_use]
    pub fn of(stats: &FailoverStats, total: Duration) -> Self {
        Self {
            failover_active: stats.failover_active,
            failover_count: stats.failover_count,
            total_failover_time: total.as_secs_f64(),
            last_failover_time: stats.last_failover_time.map(unix),
            last_restoration_time: stats.last_restoration_time.map(unix),
            backup_syncs_completed: stats.backup_syncs_completed,
            backup_sync_failures: stats.backup_sync_failures,
            last_backup_sync: stats.last_backup_sync.map(unix),
            total_backup_sync_time: stats.total_backup_sync_time.as_secs_f64(),
            sync_back_operations: stats.sync_back_operations,
            entries_synced_back: stats.entries_synced_back,
            sync_back_failures: stats.sync_back_failures,
            total_sync_back_time: stats.total_sync_back_time.as_secs_f64(),
            active_store: stats.active_store.word(),
            primary_circuit_breaker_state: Some(stats.primary_circuit_breaker_state.word()),
            backup_file_exists: stats.backup_file_size_bytes > 0,
            backup_file_size_bytes: stats.backup_file_size_bytes,
            entries_in_failover: stats.entries_in_failover,
            dead_letter_entries: stats.dead_letter_entries,
            provisional_failovers: stats.provisional_failovers,
            current_failover_since: stats.current_failover_since.map(unix),
        }
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
