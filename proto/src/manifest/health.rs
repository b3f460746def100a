//! `health` and `breaker`: when an endpoint counts as dead.

use super::{
    keys, path,
    reader::{Field, Reader},
    rules, units,
};
use http::uri::PathAndQuery;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Both sections of an upstream.
pub(super) fn read(upstream: &Reader<'_>) {
    if let Some(field) = upstream.get("health") {
        health(field);
    }
    if let Some(field) = upstream.get("breaker") {
        let map = field.section(&keys::BREAKER);
        if let Some(field) = map.get("failures") {
            field.number(&rules::BREAKER_THRESHOLD, 1..=u32::MAX);
        }
        if let Some(field) = map.get("open") {
            field.duration(&rules::BREAKER_THRESHOLD, Duration::from_millis(1));
        }
    }
}

fn health(field: Field<'_>) {
    let map = field.section(&keys::HEALTH);
    let (every, timeout) = (map.get("every"), map.get("timeout"));
    let read = |field: &Option<Field<'_>>, rule, least, default| match field {
        Some(field) => field.duration(rule, Duration::from_millis(least)),
        None => Some(default),
    };
    let period = read(&every, &rules::HEALTH_INTERVAL, 100, EVERY);
    let limit = read(&timeout, &rules::HEALTH_TIMEOUT, 1, TIMEOUT);
    if let (Some(period), Some(limit), Some(place)) = (period, limit, timeout.as_ref().or(every.as_ref()))
        && limit >= period
    {
        let spell = |field: &Option<Field<'_>>, found| {
            let by_default = if field.is_none() { " (the default)" } else { "" };
            format!("{}{by_default}", units::spell(found))
        };
        let what = format!(
            "the timeout {} is not shorter than the interval {}",
            spell(&timeout, limit),
            spell(&every, period)
        );
        place.problem(&rules::HEALTH_TIMEOUT, what, "a probe ends before the next begins");
    }
    for field in ["healthy", "unhealthy"].iter().filter_map(|name| map.get(name)) {
        field.number(&rules::HEALTH_THRESHOLD, 1..=u32::MAX);
    }
    if let Some(field) = map.get("path")
        && let Some(text) = field.text()
        && (!text.starts_with('/') || text.contains('#') || PathAndQuery::try_from(text).is_err())
    {
        field.problem(
            &rules::HEALTH_PATH,
            format!("{} is not a path", path::quoted(text)),
            "such as `/health`",
        );
    }
}
