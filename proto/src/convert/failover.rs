//! [`Health`], [`Breaker`], [`Failover`] and [`FailoverMetadata`] ↔ wire. Defaults stay off the wire.

use super::{At, duration, duration_or, from_duration};
use crate::{
    model::{Breaker, Failover, FailoverMetadata, FastPath, Health, Writes},
    wire::{self, RejectionReason},
};
use std::time::Duration;

pub(super) fn encode_health(health: &Health) -> Option<wire::Health> {
    (*health != Health::default()).then(|| wire::Health {
        every: Some(from_duration(health.every)),
        timeout: Some(from_duration(health.timeout)),
        healthy: health.healthy,
        unhealthy: health.unhealthy,
        path: health.path.clone().unwrap_or_default(),
    })
}

pub(super) fn decode_health(at: &mut At<'_>, wire: Option<wire::Health>) -> Health {
    let default = Health::default();
    let wire = wire.unwrap_or_default();
    let or = |number, default| if number == 0 { default } else { number };
    let health = Health {
        every: duration_or(wire.every.as_ref(), default.every),
        timeout: duration_or(wire.timeout.as_ref(), default.timeout),
        healthy: or(wire.healthy, default.healthy),
        unhealthy: or(wire.unhealthy, default.unhealthy),
        path: Some(wire.path).filter(|path| !path.is_empty()),
    };
    if health.timeout >= health.every {
        at.reject(RejectionReason::InvalidField, "health.timeout", "not shorter than `every`");
    }
    if health.path.as_ref().is_some_and(|path| !path.starts_with('/')) {
        at.reject(RejectionReason::InvalidField, "health.path", "does not begin with `/`");
    }
    health
}

pub(super) fn encode_breaker(breaker: Breaker) -> Option<wire::Breaker> {
    (breaker != Breaker::default()).then(|| wire::Breaker {
        failures: breaker.failures,
        open: Some(from_duration(breaker.open)),
        open_max: Some(from_duration(breaker.open_max)),
    })
}

pub(super) fn decode_breaker(at: &mut At<'_>, wire: Option<wire::Breaker>) -> Breaker {
    let default = Breaker::default();
    let wire = wire.unwrap_or_default();
    let breaker = Breaker {
        failures: if wire.failures == 0 { default.failures } else { wire.failures },
        open: duration_or(wire.open.as_ref(), default.open),
        open_max: duration_or(wire.open_max.as_ref(), default.open_max),
    };
    if breaker.open > breaker.open_max {
        at.reject(RejectionReason::InvalidField, "breaker.open", "longer than `open_max`");
    }
    breaker
}

/// [`Writes`] → wire, without the tools of a journal.
#[must_use]
pub fn from_writes(writes: &Writes) -> i32 {
    match writes {
        Writes::Reject => wire::WritePolicy::Reject,
        Writes::Journal(_) => wire::WritePolicy::Journal,
        Writes::PassThrough => wire::WritePolicy::PassThrough,
    }
    .into()
}

pub(super) fn encode(failover: &Failover) -> Option<wire::Failover> {
    use wire::{FastPath as Path, WritePolicy as Policy};
    let (writes, journal_tools) = match &failover.writes {
        Writes::Reject => (Policy::Reject, Vec::new()),
        Writes::Journal(tools) => (Policy::Journal, tools.clone()),
        Writes::PassThrough => (Policy::PassThrough, Vec::new()),
    };
    let fast_path = match failover.fast_path {
        FastPath::None => Path::None,
        FastPath::Reads => Path::Reads,
        FastPath::Full => Path::Full,
    };
    (*failover != Failover::default()).then(|| wire::Failover {
        writes: writes.into(),
        journal_tools,
        read_tools: failover.read_tools.clone(),
        fast_path: fast_path.into(),
        min_hold: Some(from_duration(failover.min_hold)),
        stable: Some(from_duration(failover.stable)),
        autonomy_after: Some(from_duration(failover.autonomy_after)),
        drain: Some(from_duration(failover.drain)),
        snapshot_every: Some(from_duration(failover.snapshot_every)),
    })
}

pub(super) fn decode(at: &mut At<'_>, wire: Option<wire::Failover>) -> Failover {
    use wire::{FastPath as Path, WritePolicy as Policy};
    let default = Failover::default();
    let wire = wire.unwrap_or_default();
    let writes = match Policy::try_from(wire.writes) {
        Ok(Policy::Unspecified | Policy::Reject) => Writes::Reject,
        Ok(Policy::Journal) if wire.journal_tools.is_empty() => {
            at.reject(RejectionReason::InvalidField, "failover.journal_tools", "a journal names its tools");
            Writes::Reject
        }
        Ok(Policy::Journal) => Writes::Journal(wire.journal_tools),
        Ok(Policy::PassThrough) => Writes::PassThrough,
        Err(_) => {
            at.unknown("failover.writes", "a policy");
            Writes::Reject
        }
    };
    let fast_path = match Path::try_from(wire.fast_path) {
        Ok(Path::Unspecified | Path::Reads) => FastPath::Reads,
        Ok(Path::None) => FastPath::None,
        Ok(Path::Full) => FastPath::Full,
        Err(_) => {
            at.unknown("failover.fast_path", "a word");
            FastPath::None
        }
    };
    // Zero is a value here: no hold, no wait.
    let time = |given: &Option<_>, default: Duration| duration(given.as_ref()).unwrap_or(default);
    Failover {
        writes,
        read_tools: wire.read_tools,
        fast_path,
        min_hold: time(&wire.min_hold, default.min_hold),
        stable: time(&wire.stable, default.stable),
        autonomy_after: time(&wire.autonomy_after, default.autonomy_after),
        drain: time(&wire.drain, default.drain),
        snapshot_every: duration_or(wire.snapshot_every.as_ref(), default.snapshot_every),
    }
}

pub(super) fn encode_metadata(metadata: FailoverMetadata) -> i32 {
    use wire::FailoverMetadata as Wire;
    match metadata {
        FailoverMetadata::DuringFailover => Wire::Unspecified,
        FailoverMetadata::Always => Wire::Always,
        FailoverMetadata::Never => Wire::Never,
    }
    .into()
}

pub(super) fn decode_metadata(at: &mut At<'_>, wire: i32) -> FailoverMetadata {
    use wire::FailoverMetadata as Wire;
    match Wire::try_from(wire) {
        Ok(Wire::Unspecified | Wire::DuringFailover) => FailoverMetadata::DuringFailover,
        Ok(Wire::Always) => FailoverMetadata::Always,
        Ok(Wire::Never) => FailoverMetadata::Never,
        Err(_) => {
            at.unknown("failover_metadata", "a word");
            FailoverMetadata::DuringFailover
        }
    }
}
