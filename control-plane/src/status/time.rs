//! Times as people and programs read them in JSON: RFC 3339 and seconds.

use serde::{Serialize as _, Serializer};
use std::time::{Duration, SystemTime};

/// `2026-11-22T17:02:11.25Z`; nothing for a time that no calendar has.
pub(crate) fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    text(*time).serialize(serializer)
}

/// As [`rfc3339`], or null.
#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(crate) fn rfc3339_opt<S: Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.and_then(text).serialize(serializer)
}

/// Seconds with a fraction, or null.
#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(crate) fn seconds_opt<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    span.map(|span| span.as_secs_f64()).serialize(serializer)
}

fn text(time: SystemTime) -> Option<String> {
    let timestamp = jiff::Timestamp::try_from(time).ok()?;
    timestamp.round(jiff::Unit::Millisecond).ok().map(|timestamp| timestamp.to_string())
}
