//! Times and durations between the wire and std.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A wire duration as a std one; negative or absent becomes `None`.
#[must_use]
pub fn duration(wire: Option<&prost_types::Duration>) -> Option<Duration> {
    let wire = wire?;
    Some(Duration::new(u64::try_from(wire.seconds).ok()?, u32::try_from(wire.nanos).ok()?))
}

/// A wire duration, or `default` when it is absent, negative or zero.
#[must_use]
pub fn duration_or(wire: Option<&prost_types::Duration>, default: Duration) -> Duration {
    duration(wire).filter(|found| !found.is_zero()).unwrap_or(default)
}

/// A std duration on the wire.
#[must_use]
pub fn from_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// A moment on the wire; moments before 1970 become 1970.
#[must_use]
pub fn from_system_time(time: SystemTime) -> prost_types::Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    prost_types::Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    }
}

/// A wire moment as a std one; absent or before 1970 becomes `None`.
#[must_use]
pub fn system_time(wire: Option<&prost_types::Timestamp>) -> Option<SystemTime> {
    let wire = wire?;
    UNIX_EPOCH.checked_add(Duration::new(u64::try_from(wire.seconds).ok()?, u32::try_from(wire.nanos).ok()?))
}
