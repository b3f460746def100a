//! What a control plane says of upstreams that have a backup. A word of a newer contract becomes what stands for
//! nothing known.

use super::moment;
use crate::failover::{Decision, Failover, Health, Mode, Node, Stats, Writes};
use o1_proto::{
    convert::{self, duration},
    wire,
};

pub(super) fn failover(wire: wire::FailoverStatus) -> Failover {
    Failover {
        decision: decision(wire.decision()),
        mode: mode(wire.mode()),
        writes: writes(wire.writes()),
        desired: convert::store(wire.desired),
        term: wire.term,
        mode_until: moment(wire.mode_until.as_ref()),
        nodes_on_primary: wire.nodes_on_primary,
        nodes_on_backup: wire.nodes_on_backup,
        nodes_provisional: wire.nodes_provisional,
        nodes_lagging: wire.nodes_lagging,
        observers: wire.observers,
        observers_unhealthy: wire.observers_unhealthy,
        observers_healthy: wire.observers_healthy,
        primary_verdict: convert::verdict(wire.primary).unwrap_or_default(),
        backup_verdict: convert::verdict(wire.backup).unwrap_or_default(),
        primary_breaker: convert::breaker(wire.primary_breaker),
        since: moment(wire.since.as_ref()),
        hold_until: moment(wire.hold_until.as_ref()),
        healthy_since: moment(wire.healthy_since.as_ref()),
        stable: duration(wire.stable.as_ref()),
        last_reason: convert::decision_reason(wire.last_reason),
        because: wire.because,
        journal_pending: wire.journal_pending,
        backup_kind: wire.backup_kind,
        stats: stats(&wire.stats.unwrap_or_default()),
        nodes: wire.nodes.into_iter().map(node).collect(),
    }
}

fn decision(wire: wire::FailoverDecision) -> Decision {
    match wire {
        wire::FailoverDecision::Unspecified => Decision::Unknown,
        wire::FailoverDecision::Healthy => Decision::Healthy,
        wire::FailoverDecision::Suspect => Decision::Suspect,
        wire::FailoverDecision::FailingOver => Decision::FailingOver,
        wire::FailoverDecision::FailedOver => Decision::FailedOver,
        wire::FailoverDecision::SyncingBack => Decision::SyncingBack,
        wire::FailoverDecision::Blocked => Decision::Blocked,
    }
}

fn mode(wire: wire::UpstreamMode) -> Mode {
    match wire {
        wire::UpstreamMode::Unspecified | wire::UpstreamMode::Auto => Mode::Auto,
        wire::UpstreamMode::PinPrimary => Mode::PinPrimary,
        wire::UpstreamMode::PinBackup => Mode::PinBackup,
    }
}

fn writes(wire: wire::WritePolicy) -> Option<Writes> {
    match wire {
        wire::WritePolicy::Unspecified => None,
        wire::WritePolicy::Reject => Some(Writes::Reject),
        wire::WritePolicy::Journal => Some(Writes::Journal),
        wire::WritePolicy::PassThrough => Some(Writes::PassThrough),
    }
}

fn node(wire: wire::NodeFailover) -> Node {
    let state = wire.state.unwrap_or_default();
    Node {
        node_id: wire.node_id,
        connected: wire.connected,
        heard_at: moment(wire.heard_at.as_ref()),
        active_store: convert::store(state.active_store),
        phase: convert::phase(state.phase),
        term: state.term,
        local_term: state.local_term,
        journal_pending: state.journal_pending,
        dead_letters: state.dead_letters,
        since: moment(state.since.as_ref()),
        refusal: convert::refusal(state.refusal),
        message: state.message,
        primary_health: health(state.primary.unwrap_or_default()),
        backup_health: health(state.backup.unwrap_or_default()),
        stats: stats(&state.stats.unwrap_or_default()),
    }
}

fn health(wire: wire::StoreHealth) -> Health {
    Health {
        verdict: convert::verdict(wire.verdict).unwrap_or_default(),
        breaker: convert::breaker(wire.breaker),
        consecutive: wire.consecutive,
        since: moment(wire.since.as_ref()),
        checked_at: moment(wire.checked_at.as_ref()),
        latency: duration(wire.latency.as_ref()),
        error: wire.error,
    }
}

fn stats(wire: &wire::FailoverStats) -> Stats {
    Stats {
        failover_active: wire.failover_active,
        failover_count: wire.failover_count,
        total_failover_time: duration(wire.total_failover_time.as_ref()),
        last_failover_time: moment(wire.last_failover_time.as_ref()),
        last_restoration_time: moment(wire.last_restoration_time.as_ref()),
        backup_syncs_completed: wire.backup_syncs_completed,
        backup_sync_failures: wire.backup_sync_failures,
        last_backup_sync: moment(wire.last_backup_sync.as_ref()),
        total_backup_sync_time: duration(wire.total_backup_sync_time.as_ref()),
        sync_back_operations: wire.sync_back_operations,
        entries_synced_back: wire.entries_synced_back,
        sync_back_failures: wire.sync_back_failures,
        total_sync_back_time: duration(wire.total_sync_back_time.as_ref()),
        active_store: convert::store(wire.active_store),
        primary_circuit_breaker_state: convert::breaker(wire.primary_circuit_breaker_state),
        backup_file_exists: wire.backup_file_exists,
        backup_file_size_bytes: wire.backup_file_size_bytes,
        entries_in_failover: wire.entries_in_failover,
        dead_letter_entries: wire.dead_letter_entries,
        provisional_failovers: wire.provisional_failovers,
        current_failover_since: moment(wire.current_failover_since.as_ref()),
    }
}
