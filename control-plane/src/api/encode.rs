//! Plain values → messages. Cannot fail.

use super::{
    counts,
    updates::{Parts, Updates},
};
use crate::{
    config::{How, ResourceChange, Version},
    fleet::{
        Drain, Goodbye, GoodbyeReason, HEARTBEAT, Identity, LEASE, NodeState, Out, Question, Reason, Refuser,
        Rejection, ResourceKind, RolloutState, STATS, SyncState, Welcome,
    },
    health::{FailoverStatus, Mode, NodeFailover, Stage},
    stats::{Rates, Reachability, Sample},
    status::{
        self, ConfigTarget, ControlPlane, FleetStatus, NodeCounts, NodeStatus, RolloutSummary, UpstreamState,
    },
    store::RevisionHeader,
};
use o1_proto::{
    convert::{self, from_duration, from_system_time},
    problem::Problem,
    wire,
};
use prost::Message as _;
use std::time::SystemTime;

/// A message to a node; of a configuration to run the first part, and what follows it.
pub(super) fn response(out: Out, updates: &Updates) -> (wire::SyncResponse, Option<Parts>) {
    use wire::sync_response::Msg;
    let msg = match out {
        Out::Config { nonce, revision, base } => {
            let mut parts = updates.parts(nonce, base.as_deref(), &revision);
            return (parts.next().expect("an update has a first part"), Some(parts));
        }
        Out::Welcome(Welcome { target }) => Msg::Welcome(wire::Welcome {
            heartbeat_interval: Some(from_duration(HEARTBEAT)),
            stats_interval: Some(from_duration(STATS)),
            lease_ttl: Some(from_duration(LEASE)),
            target: target.as_ref().map(version),
            control_plane_version: o1_process::VERSION.to_owned(),
        }),
        Out::HeartbeatAck { seq, target, at, decisions } => Msg::HeartbeatAck(wire::HeartbeatAck {
            seq,
            target: target.as_ref().map(version),
            server_time: Some(from_system_time(at)),
            decisions: convert::from_decision_state(decisions),
        }),
        Out::Directives(directives) => Msg::Directives(wire::DirectiveSet {
            directives: directives.iter().map(convert::from_directive).collect(),
        }),
        Out::SealKeys(keys) => Msg::SealKeys(wire::SealKeys {
            keys: keys
                .iter()
                .map(|key| wire::SealKey { id: key.id.to_vec(), secret: key.secret.to_vec() })
                .collect(),
        }),
        Out::Drain(drain) => Msg::Drain(wire::DrainOrder { drain }),
        Out::Query { id, question } => Msg::Query(query(id, question)),
        Out::Goodbye(goodbye) => Msg::Goodbye(self::goodbye(goodbye)),
    };
    (wire::SyncResponse { msg: Some(msg) }, None)
}

fn query(id: u64, question: Question) -> wire::Query {
    let query = match question {
        // It was encoded in this module's neighbour, `inspect`.
        Question::Ask(question) => wire::Query::decode(question.as_slice()).unwrap_or_default(),
        Question::Cancel => wire::Query {
            ask: Some(wire::query::Ask::Cancel(wire::CancelQuery {})),
            ..wire::Query::default()
        },
    };
    wire::Query { id, ..query }
}

fn goodbye(goodbye: Goodbye) -> wire::Goodbye {
    let reason = match goodbye.reason {
        GoodbyeReason::Shutdown => wire::GoodbyeReason::Shutdown,
        GoodbyeReason::Superseded => wire::GoodbyeReason::Superseded,
        GoodbyeReason::ProtocolError => wire::GoodbyeReason::ProtocolError,
        GoodbyeReason::Unresponsive => wire::GoodbyeReason::Unresponsive,
        GoodbyeReason::DuplicateIdentity => wire::GoodbyeReason::DuplicateIdentity,
    };
    wire::Goodbye {
        reason: reason.into(),
        message: goodbye.message,
        reconnect_min: Some(from_duration(goodbye.reconnect.0)),
        reconnect_max: Some(from_duration(goodbye.reconnect.1)),
    }
}

/// The name of a configuration.
pub(super) fn version(version: &Version) -> wire::ConfigVersion {
    wire::ConfigVersion {
        generation: version.generation,
        revision: version.revision,
        root_digest: version.digest.as_bytes().to_vec(),
    }
}

/// A revision without its document.
pub(super) fn revision(header: &RevisionHeader) -> wire::ConfigRevision {
    wire::ConfigRevision {
        version: Some(version(&header.version)),
        created_at: Some(from_system_time(header.created_at)),
        source: header.source.clone(),
        actor: header.account.actor.clone(),
        comment: header.account.comment.clone(),
        rollback_of: header.account.rollback_of.unwrap_or_default(),
        rollout: rollout_state(header.rollout).into(),
        undoes: header.undoes.unwrap_or_default(),
        rejections: header.report.refused.iter().map(refuser).collect(),
    }
}

fn refuser(refuser: &Refuser) -> wire::NodeRejection {
    let rejections = refuser.rejections.iter().cloned().map(rejection).collect();
    wire::NodeRejection { node_id: refuser.node_id.clone(), rejections }
}

/// What became of a configuration.
pub(super) fn rollout_state(state: RolloutState) -> wire::RolloutState {
    match state {
        RolloutState::Running => wire::RolloutState::Running,
        RolloutState::RollingBack => wire::RolloutState::RollingBack,
        RolloutState::Succeeded => wire::RolloutState::Succeeded,
        RolloutState::Failed => wire::RolloutState::Failed,
        RolloutState::RolledBack => wire::RolloutState::RolledBack,
        RolloutState::Superseded => wire::RolloutState::Superseded,
    }
}

/// A part of the configuration that differs.
pub(super) fn resource_change(change: &ResourceChange) -> wire::ResourceChange {
    let how = match change.how {
        How::Added => wire::Change::Added,
        How::Updated => wire::Change::Updated,
        How::Removed => wire::Change::Removed,
    };
    let key = wire::ResourceKey { kind: change.kind, name: change.name.clone() };
    wire::ResourceChange { key: Some(key), change: how.into() }
}

/// What is wrong with a document.
pub(super) fn problem(problem: &Problem) -> wire::ConfigProblem {
    wire::ConfigProblem {
        file: problem.file.clone(),
        line: problem.line,
        column: problem.column,
        rule: problem.rule.to_owned(),
        path: problem.path.clone(),
        what: problem.what.clone(),
        hint: problem.hint.clone(),
    }
}

/// The whole picture.
pub(super) fn fleet(status: FleetStatus) -> wire::FleetStatus {
    wire::FleetStatus {
        as_of: Some(from_system_time(status.as_of)),
        control_plane: Some(control_plane(status.control_plane)),
        nodes: Some(counts(status.nodes)),
        upstreams: status.upstreams.into_iter().map(|one| upstream(one, status.as_of)).collect(),
    }
}

fn control_plane(status: ControlPlane) -> wire::ControlPlaneStatus {
    let accepted_at = status.target.as_ref().map(|target| from_system_time(target.accepted_at));
    let source = status.source;
    wire::ControlPlaneStatus {
        version: status.version.to_owned(),
        started_at: Some(from_system_time(status.started_at)),
        listen: status.listen,
        target: status.target.as_ref().map(|ConfigTarget { version: target, .. }| version(target)),
        target_accepted_at: accepted_at,
        source: Some(wire::ConfigSource {
            path: source.path,
            checked_at: source.checked_at.map(from_system_time),
            refused: source.refused,
            problems: source.problems.iter().map(problem).collect(),
            refused_at: source.refused_at.map(from_system_time),
        }),
        decisions: convert::from_decision_state(status.decisions),
        decisions_because: status.decisions_because,
        rollout: status.rollout.map(rollout_summary),
    }
}

fn rollout_summary(summary: RolloutSummary) -> wire::RolloutSummary {
    wire::RolloutSummary {
        state: rollout_state(summary.state).into(),
        revision: summary.revision,
        wave: summary.wave,
        waves: summary.waves,
        applied: summary.applied,
        nodes: summary.nodes,
        because: summary.because,
    }
}

fn counts(counts: NodeCounts) -> wire::NodeCounts {
    // `never` is what is left of `connected`.
    let NodeCounts { connected, unreachable, synced, pending, stale, rejected, never: _, draining } = counts;
    wire::NodeCounts { connected, unreachable, synced, pending, stale, rejected, draining }
}

/// A row about an upstream.
pub(super) fn upstream(status: status::UpstreamStatus, as_of: SystemTime) -> wire::UpstreamStatus {
    let state = match status.state {
        UpstreamState::Unknown => wire::UpstreamState::Unknown,
        UpstreamState::Healthy => wire::UpstreamState::Healthy,
        UpstreamState::Degraded => wire::UpstreamState::Degraded,
        UpstreamState::Unreachable => wire::UpstreamState::Unreachable,
    };
    let totals = wire::UpstreamTotals {
        requests: status.totals.requests,
        errors: status.totals.errors,
        timeouts: status.totals.timeouts,
        application_errors: status.totals.application_errors,
        active_requests: status.active_requests,
        bytes_in: status.totals.bytes_in,
        bytes_out: status.totals.bytes_out,
    };
    let name = status.name;
    wire::UpstreamStatus {
        failover: status.failover.map(|one| failover(&name, one, as_of)),
        name,
        state: state.into(),
        nodes_reachable: status.nodes_reachable,
        nodes_unreachable: status.nodes_unreachable,
        nodes_unknown: status.nodes_unknown,
        since: status.since.map(from_system_time),
        errors: status.errors,
        totals: Some(totals),
        rates: status.rates.map(|view| rates(view.rates)),
        legacy: status.legacy,
        modern: status.modern,
        tools: status.tools,
        primary: status.primary,
        backup: status.backup,
        cache: counts::cache_status(&status.cache),
        endpoints: status.endpoints.into_iter().map(counts::endpoint_status).collect(),
        batches: Some(counts::batch_totals(status.batches)),
    }
}

/// Which store of an upstream serves.
pub(super) fn failover(name: &str, status: FailoverStatus, as_of: SystemTime) -> wire::FailoverStatus {
    let decision = match status.decision {
        Stage::Healthy => wire::FailoverDecision::Healthy,
        Stage::Suspect => wire::FailoverDecision::Suspect,
        Stage::FailingOver => wire::FailoverDecision::FailingOver,
        Stage::FailedOver => wire::FailoverDecision::FailedOver,
        Stage::SyncingBack => wire::FailoverDecision::SyncingBack,
        Stage::Blocked => wire::FailoverDecision::Blocked,
    };
    let mode = match status.mode {
        Mode::Auto => wire::UpstreamMode::Auto,
        Mode::PinPrimary => wire::UpstreamMode::PinPrimary,
        Mode::PinBackup => wire::UpstreamMode::PinBackup,
    };
    let node = |one: NodeFailover| wire::NodeFailover {
        node_id: one.node_id,
        connected: one.connected,
        state: Some(convert::from_failover_state(name, &one.state, as_of)),
        heard_at: Some(from_system_time(one.heard_at)),
    };
    wire::FailoverStatus {
        decision: decision.into(),
        desired: status.desired.map(convert::from_store).unwrap_or_default(),
        term: status.term,
        mode: mode.into(),
        mode_until: status.mode_until.map(from_system_time),
        nodes_on_primary: status.nodes_on_primary,
        nodes_on_backup: status.nodes_on_backup,
        nodes_provisional: status.nodes_provisional,
        nodes_lagging: status.nodes_lagging,
        observers: status.observers,
        observers_unhealthy: status.observers_unhealthy,
        observers_healthy: status.observers_healthy,
        primary: convert::from_verdict(status.primary),
        backup: convert::from_verdict(status.backup),
        primary_breaker: convert::from_breaker(status.primary_breaker),
        since: status.since.map(from_system_time),
        hold_until: status.hold_until.map(from_system_time),
        healthy_since: status.healthy_since.map(from_system_time),
        stable: Some(from_duration(status.stable)),
        last_reason: status.last_reason.map(convert::from_decision_reason).unwrap_or_default(),
        because: status.because,
        journal_pending: status.journal_pending,
        stats: Some(wire::FailoverStats {
            // Of a sum there is none.
            primary_circuit_breaker_state: wire::BreakerState::Unspecified.into(),
            ..convert::from_failover_stats(&status.stats, status.stats_at.unwrap_or(as_of))
        }),
        nodes: status.nodes.into_iter().map(node).collect(),
        backup_kind: status.backup_kind.to_owned(),
        writes: convert::from_writes(&status.writes),
    }
}

fn rates(rates: Rates) -> wire::UpstreamRates {
    wire::UpstreamRates {
        window: Some(from_duration(rates.window)),
        requests_per_second: rates.requests_per_second,
        error_ratio: rates.error_ratio,
        p50: rates.p50.map(from_duration),
        p99: rates.p99.map(from_duration),
        hit_ratio: rates.hit_ratio,
    }
}

/// A row about a node.
pub(super) fn node(status: NodeStatus) -> wire::NodeStatus {
    let state = match status.state {
        NodeState::Connected => wire::NodeState::Connected,
        NodeState::Unreachable => wire::NodeState::Unreachable,
        NodeState::Draining => wire::NodeState::Draining,
        NodeState::Left => wire::NodeState::Left,
        NodeState::DuplicateIdentity => wire::NodeState::DuplicateIdentity,
    };
    let sync = match status.sync {
        SyncState::Synced => wire::SyncState::Synced,
        SyncState::Pending => wire::SyncState::Pending,
        SyncState::Stale => wire::SyncState::Stale,
        SyncState::Rejected => wire::SyncState::Rejected,
        SyncState::Never => wire::SyncState::Never,
    };
    wire::NodeStatus {
        node: Some(identity(status.node)),
        state: state.into(),
        sync: sync.into(),
        applied: status.applied.as_ref().map(version),
        rejections: status.rejections.into_iter().map(rejection).collect(),
        rejected: status.rejected.as_ref().map(version),
        connected_at: status.connected_at.map(from_system_time),
        last_heard: status.last_heard.map(from_system_time),
        clock_skew: status.clock_skew_nanos.map(signed_duration),
        sessions: status.sessions,
        resident_bytes: status.resident_bytes,
        upstreams: status.upstreams.into_iter().map(sample).collect(),
        last_apply_time: status.last_apply_time.map(from_duration),
        drain: status.drain.as_ref().map(drain),
    }
}

pub(super) fn drain(drain: &Drain) -> wire::DrainStanding {
    wire::DrainStanding { since: Some(from_system_time(drain.since)), reason: drain.reason.clone() }
}

fn identity(identity: Identity) -> wire::NodeIdentity {
    wire::NodeIdentity {
        node_id: identity.node_id,
        node_uid: identity.uid.as_bytes().to_vec(),
        epoch: identity.epoch,
        labels: identity.labels,
        build_version: identity.build_version,
        started_at: identity.started_at.map(from_system_time),
        listen: identity.listen,
        admin: identity.admin,
    }
}

pub(super) fn rejection(rejection: Rejection) -> wire::Rejection {
    use wire::RejectionReason as R;
    let reason = match rejection.reason {
        Reason::Decode => R::Decode.into(),
        Reason::UnknownKind => R::UnknownKind.into(),
        Reason::InvalidField => R::InvalidField.into(),
        Reason::LocalDependency => R::LocalDependency.into(),
        Reason::DigestMismatch => R::DigestMismatch.into(),
        Reason::BaseMismatch => R::BaseMismatch.into(),
        Reason::VersionRegression => R::VersionRegression.into(),
        Reason::Conflict => R::Conflict.into(),
        Reason::Internal => R::Internal.into(),
        Reason::Other(number) => number,
    };
    let resource = rejection.resource.map(|resource| wire::ResourceKey {
        kind: match resource.kind {
            ResourceKind::Upstream => wire::ResourceKind::Upstream.into(),
            ResourceKind::Clients => wire::ResourceKind::Clients.into(),
            ResourceKind::Server => wire::ResourceKind::Server.into(),
            ResourceKind::Auth => wire::ResourceKind::Auth.into(),
            ResourceKind::Cache => wire::ResourceKind::Cache.into(),
            ResourceKind::Batching => wire::ResourceKind::Batching.into(),
            ResourceKind::Other(number) => number,
        },
        name: resource.name,
    });
    wire::Rejection { resource, reason, field_path: rejection.field_path, message: rejection.message }
}

fn sample(sample: Sample) -> wire::UpstreamStats {
    let reachability = match sample.reachability {
        Reachability::Unknown => wire::Reachability::Unknown,
        Reachability::Reachable => wire::Reachability::Reachable,
        Reachability::Unreachable => wire::Reachability::Unreachable,
    };
    wire::UpstreamStats {
        upstream: sample.upstream,
        requests: sample.counters.requests,
        errors: sample.counters.errors,
        timeouts: sample.counters.timeouts,
        application_errors: sample.counters.application_errors,
        bytes_in: sample.counters.bytes_in,
        bytes_out: sample.counters.bytes_out,
        active_requests: sample.active_requests,
        latency_buckets: sample.latency.counts,
        latency_bounds_us: sample.latency.bounds,
        latency_sum_us: sample.latency.sum,
        reachability: reachability.into(),
        since: sample.since.map(from_system_time),
        last_error: sample.last_error,
        legacy: sample.legacy,
        modern: sample.modern,
        tools: sample.tools,
        cache: counts::cache_stats(sample.cache),
        endpoints: counts::endpoint_stats(sample.endpoints),
        batches: Some(counts::batch_stats(sample.batches)),
    }
}

/// Seconds and nanoseconds of one sign.
fn signed_duration(nanos: i64) -> prost_types::Duration {
    const SECOND: i64 = 1_000_000_000;
    let rest = i32::try_from(nanos % SECOND).expect("it is less than a second");
    prost_types::Duration { seconds: nanos / SECOND, nanos: rest }
}
