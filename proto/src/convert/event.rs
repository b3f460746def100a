//! [`Event`], [`FailoverStats`], [`FailoverState`], [`StoreHealth`], [`Directive`] and their words ↔ wire. Both planes
//! write and read them.

use super::{duration, from_duration, from_system_time, system_time};
use crate::{
    model::{
        BreakerState, DecisionReason, DecisionState, Directive, Event, EventKind, FailoverState,
        FailoverStats, Phase, Refusal, Store, StoreHealth, Verdict,
    },
    wire,
};
use prost::{DecodeError, Message as _};
use std::time::{SystemTime, UNIX_EPOCH};

/// Declares both directions of an enumeration; a word of a newer contract is none.
macro_rules! words {
    ($to:ident $from:ident $model:ident $wire:ident: $($variant:ident $other:ident,)*) => {
        #[doc = concat!("[`", stringify!($model), "`] → wire.")]
        #[must_use]
        pub fn $to(model: $model) -> i32 {
            match model { $($model::$variant => wire::$wire::$other,)* }.into()
        }

        #[doc = concat!("Wire → [`", stringify!($model), "`]; `None`: absent, or a word of a newer contract.")]
        #[must_use]
        pub fn $from(number: i32) -> Option<$model> {
            match wire::$wire::try_from(number) {
                $(Ok(wire::$wire::$other) => Some($model::$variant),)*
                _ => None,
            }
        }
    };
}

words!(from_store store Store Store: Primary Primary, Backup Backup,);
words!(from_breaker breaker BreakerState BreakerState: Closed Closed, HalfOpen HalfOpen, Open Open,);
words!(from_verdict verdict Verdict Verdict: Unknown Unknown, Healthy Healthy, Unhealthy Unhealthy,);
words!(from_phase phase Phase FailoverPhase:
    Primary Primary, Provisional Provisional, DrainingPrimary DrainingPrimary, Backup Backup,
    SyncingBack SyncingBack, Cutover Cutover,);
words!(from_refusal refusal Refusal Refusal:
    StaleTerm StaleTerm, UnknownUpstream UnknownUpstream, NoBackup NoBackup, BackupUnusable BackupUnusable,
    TermConflict TermConflict, DeadLetters DeadLetters, NotDurable NotDurable,);
words!(from_decision_reason decision_reason DecisionReason DecisionReason:
    Initial Initial, QuorumUnhealthy QuorumUnhealthy, QuorumRecovered QuorumRecovered, Manual Manual,
    AdoptLocal AdoptLocal, Abort Abort,);
words!(from_decision_state decision_state DecisionState DecisionState:
    Active Active, WarmingUp WarmingUp, Frozen Frozen, Maintenance Maintenance, Shadow Shadow,);
words!(from_event_kind event_kind_or_none EventKind EventType:
    Unknown Unspecified, NodeStarted NodeStarted, NodeStopping NodeStopping, FailoverStarted FailoverStarted,
    FailoverCommitted FailoverCommitted, SyncBackStarted SyncBackStarted, SyncBackCompleted SyncBackCompleted,
    SyncBackFailed SyncBackFailed, Restored Restored, FailoverAborted FailoverAborted,
    BreakerChanged BreakerChanged, BackupSyncCompleted BackupSyncCompleted, BackupSyncFailed BackupSyncFailed,
    EntryJournaled EntryJournaled, DeadLettered DeadLettered, ClientsNotified ClientsNotified,
    ProvisionalStarted ProvisionalStarted, ProvisionalEnded ProvisionalEnded, Decided Decided,
    EventsLost EventsLost,);

/// Wire → [`EventKind`].
#[must_use]
pub fn event_kind(number: i32) -> EventKind {
    event_kind_or_none(number).unwrap_or_default()
}

/// [`Event`] → wire.
#[must_use]
pub fn from_event(event: &Event) -> wire::Event {
    wire::Event {
        seq: event.seq,
        at: event.at.map(from_system_time),
        uptime: Some(from_duration(event.uptime)),
        r#type: from_event_kind(event.kind),
        upstream: event.upstream.clone(),
        term: event.term,
        local_term: event.local_term,
        phase_from: event.from.map(from_phase).unwrap_or_default(),
        phase_to: event.to.map(from_phase).unwrap_or_default(),
        decision_id: event.decision_id.clone(),
        reason: event.reason.clone(),
        duration: event.duration.map(from_duration),
        entries: event.entries,
        bytes: event.bytes,
        active_store: event.active.map(from_store).unwrap_or_default(),
        breaker: event.breaker.map(from_breaker).unwrap_or_default(),
    }
}

/// Wire → [`Event`].
#[must_use]
pub fn event(wire: wire::Event) -> Event {
    Event {
        seq: wire.seq,
        at: system_time(wire.at.as_ref()),
        uptime: duration(wire.uptime.as_ref()).unwrap_or_default(),
        kind: event_kind(wire.r#type),
        term: wire.term,
        local_term: wire.local_term,
        from: phase(wire.phase_from),
        to: phase(wire.phase_to),
        duration: duration(wire.duration.as_ref()),
        entries: wire.entries,
        bytes: wire.bytes,
        active: store(wire.active_store),
        breaker: breaker(wire.breaker),
        upstream: wire.upstream,
        decision_id: wire.decision_id,
        reason: wire.reason,
    }
}

/// [`Event`] → the bytes that nodes send and the control plane keeps.
#[must_use]
pub fn encode_event(event: &Event) -> Vec<u8> {
    from_event(event).encode_to_vec()
}

/// Bytes → [`Event`], and its type by number, which may be one that this build does not know.
///
/// # Errors
/// They are not an event.
pub fn decode_event(bytes: &[u8]) -> Result<(Event, i32), DecodeError> {
    let wire = wire::Event::decode(bytes)?;
    let number = wire.r#type;
    Ok((event(wire), number))
}

/// [`FailoverStats`] → bytes to keep them by.
#[must_use]
pub fn encode_failover_stats(stats: &FailoverStats) -> Vec<u8> {
    // At the beginning of time nothing is running, so that the sum is that of what is over.
    from_failover_stats(stats, UNIX_EPOCH).encode_to_vec()
}

/// What [`encode_failover_stats`] made → [`FailoverStats`].
///
/// # Errors
/// They are not an account.
pub fn decode_failover_stats(bytes: &[u8]) -> Result<FailoverStats, DecodeError> {
    Ok(failover_stats(&wire::FailoverStats::decode(bytes)?, UNIX_EPOCH))
}

/// [`FailoverStats`] → wire, as of `now`.
#[must_use]
pub fn from_failover_stats(stats: &FailoverStats, now: SystemTime) -> wire::FailoverStats {
    wire::FailoverStats {
        failover_active: stats.failover_active,
        failover_count: stats.failover_count,
        total_failover_time: Some(from_duration(stats.total_failover_time(now))),
        last_failover_time: stats.last_failover_time.map(from_system_time),
        last_restoration_time: stats.last_restoration_time.map(from_system_time),
        backup_syncs_completed: stats.backup_syncs_completed,
        backup_sync_failures: stats.backup_sync_failures,
        last_backup_sync: stats.last_backup_sync.map(from_system_time),
        total_backup_sync_time: Some(from_duration(stats.total_backup_sync_time)),
        sync_back_operations: stats.sync_back_operations,
        entries_synced_back: stats.entries_synced_back,
        sync_back_failures: stats.sync_back_failures,
        total_sync_back_time: Some(from_duration(stats.total_sync_back_time)),
        active_store: from_store(stats.active_store),
        primary_circuit_breaker_state: from_breaker(stats.primary_circuit_breaker_state),
        backup_file_exists: stats.backup_file_size_bytes > 0,
        backup_file_size_bytes: stats.backup_file_size_bytes,
        entries_in_failover: stats.entries_in_failover,
        dead_letter_entries: stats.dead_letter_entries,
        provisional_failovers: stats.provisional_failovers,
        current_failover_since: stats.current_failover_since.map(from_system_time),
    }
}

/// Wire → [`FailoverStats`]. The running failover goes on from where the sender left it.
#[must_use]
pub fn failover_stats(wire: &wire::FailoverStats, as_of: SystemTime) -> FailoverStats {
    let since = system_time(wire.current_failover_since.as_ref());
    let total = duration(wire.total_failover_time.as_ref()).unwrap_or_default();
    let running = since.and_then(|since| as_of.duration_since(since).ok()).unwrap_or_default();
    FailoverStats {
        failover_active: wire.failover_active,
        failover_count: wire.failover_count,
        finished_failover_time: total.saturating_sub(running),
        last_failover_time: system_time(wire.last_failover_time.as_ref()),
        last_restoration_time: system_time(wire.last_restoration_time.as_ref()),
        current_failover_since: since,
        backup_syncs_completed: wire.backup_syncs_completed,
        backup_sync_failures: wire.backup_sync_failures,
        last_backup_sync: system_time(wire.last_backup_sync.as_ref()),
        total_backup_sync_time: duration(wire.total_backup_sync_time.as_ref()).unwrap_or_default(),
        backup_file_size_bytes: wire.backup_file_size_bytes,
        sync_back_operations: wire.sync_back_operations,
        entries_synced_back: wire.entries_synced_back,
        sync_back_failures: wire.sync_back_failures,
        total_sync_back_time: duration(wire.total_sync_back_time.as_ref()).unwrap_or_default(),
        entries_in_failover: wire.entries_in_failover,
        dead_letter_entries: wire.dead_letter_entries,
        provisional_failovers: wire.provisional_failovers,
        active_store: store(wire.active_store).unwrap_or_default(),
        primary_circuit_breaker_state: breaker(wire.primary_circuit_breaker_state).unwrap_or_default(),
    }
}

/// [`StoreHealth`] → wire.
#[must_use]
pub fn from_store_health(health: &StoreHealth) -> wire::StoreHealth {
    wire::StoreHealth {
        verdict: from_verdict(health.verdict),
        breaker: from_breaker(health.breaker),
        consecutive: health.consecutive,
        since: health.since.map(from_system_time),
        checked_at: health.checked_at.map(from_system_time),
        latency: health.latency.map(from_duration),
        error: health.error.clone(),
    }
}

/// Wire → [`StoreHealth`]; absent: nothing is known.
#[must_use]
pub fn store_health(wire: Option<wire::StoreHealth>) -> StoreHealth {
    let wire = wire.unwrap_or_default();
    StoreHealth {
        verdict: verdict(wire.verdict).unwrap_or_default(),
        breaker: breaker(wire.breaker).unwrap_or_default(),
        consecutive: wire.consecutive,
        since: system_time(wire.since.as_ref()),
        checked_at: system_time(wire.checked_at.as_ref()),
        latency: duration(wire.latency.as_ref()),
        error: wire.error,
    }
}

/// [`FailoverState`] → wire, as of `now`.
#[must_use]
pub fn from_failover_state(upstream: &str, state: &FailoverState, now: SystemTime) -> wire::FailoverState {
    wire::FailoverState {
        upstream: upstream.to_owned(),
        active_store: from_store(state.active),
        phase: from_phase(state.phase),
        term: state.term,
        local_term: state.local_term,
        journal_pending: state.journal_pending,
        dead_letters: state.dead_letters,
        since: state.since.map(from_system_time),
        refusal: state.refusal.map(from_refusal).unwrap_or_default(),
        message: state.message.clone(),
        primary: Some(from_store_health(&state.primary)),
        backup: Some(from_store_health(&state.backup)),
        stats: Some(from_failover_stats(&state.stats, now)),
    }
}

/// Wire → name of the upstream and [`FailoverState`], as of `as_of`.
#[must_use]
pub fn failover_state(wire: wire::FailoverState, as_of: SystemTime) -> (String, FailoverState) {
    let state = FailoverState {
        active: store(wire.active_store).unwrap_or_default(),
        phase: phase(wire.phase).unwrap_or_default(),
        term: wire.term,
        local_term: wire.local_term,
        journal_pending: wire.journal_pending,
        dead_letters: wire.dead_letters,
        since: system_time(wire.since.as_ref()),
        refusal: refusal(wire.refusal),
        message: wire.message,
        primary: store_health(wire.primary),
        backup: store_health(wire.backup),
        stats: failover_stats(&wire.stats.unwrap_or_default(), as_of),
    };
    (wire.upstream, state)
}

/// [`Directive`] → wire.
#[must_use]
pub fn from_directive(directive: &Directive) -> wire::Directive {
    wire::Directive {
        upstream: directive.upstream.clone(),
        term: directive.term,
        target: from_store(directive.target),
        decision_id: directive.decision_id.clone(),
        reason: from_decision_reason(directive.reason),
        issued_at: directive.issued_at.map(from_system_time),
        because: directive.because.clone(),
        accept_dead_letters: directive.accept_dead_letters,
        pinned: directive.pinned,
    }
}

/// Wire → [`Directive`]; `None`: without a target that this build knows, or without a term.
#[must_use]
pub fn directive(wire: wire::Directive) -> Option<Directive> {
    Some(Directive {
        target: store(wire.target)?,
        term: Some(wire.term).filter(|term| *term > 0)?,
        reason: decision_reason(wire.reason).unwrap_or_default(),
        issued_at: system_time(wire.issued_at.as_ref()),
        upstream: wire.upstream,
        decision_id: wire.decision_id,
        because: wire.because,
        accept_dead_letters: wire.accept_dead_letters,
        pinned: wire.pinned,
    })
}
