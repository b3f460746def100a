//! `health` and `breaker`: when an endpoint counts as dead.

use super::{
    keys, path,
    reader::{Field, Reader},
    rules, units,
};
use crate::model::{Breaker, Health};
use http::uri::PathAndQuery;
use std::time::Duration;

/// Both sections of an upstream.
pub(super) fn read(upstream: &Reader<'_>) -> (Health, Breaker) {
    let health = upstream.get("health").map(health).unwrap_or_default();
    (health, upstream.get("breaker").map(breaker).unwrap_or_default())
}

fn breaker(field: Field<'_>) -> Breaker {
    let map = field.section(&keys::BREAKER);
    let default = Breaker::default();
    let rule = &rules::BREAKER_THRESHOLD;
    let time = |name| map.get(name).and_then(|field| field.duration(rule, Duration::from_millis(1)));
    let failures = map.get("failures").and_then(|field| field.number(rule, 1..=u32::MAX));
    let (open, longest) = (time("open"), time("open_max"));
    let breaker = Breaker {
        failures: failures.unwrap_or(default.failures),
        open: open.unwrap_or(default.open),
        // Whoever only says how long, means it.
        open_max: longest.unwrap_or_else(|| default.open_max.max(open.unwrap_or_default())),
    };
    if let Some(field) = map.get("open_max").filter(|_| breaker.open > breaker.open_max) {
        let (first, longest) = (units::spell(breaker.open), units::spell(breaker.open_max));
        let what = format!("the first time, {first}, is longer than the longest, {longest}");
        field.problem(rule, what, "`open` is at most `open_max`");
    }
    breaker
}

fn health(field: Field<'_>) -> Health {
    let map = field.section(&keys::HEALTH);
    let default = Health::default();
    let (every, timeout) = (map.get("every"), map.get("timeout"));
    let read = |field: &Option<Field<'_>>, rule, least, default| match field {
        Some(field) => field.duration(rule, Duration::from_millis(least)),
        None => Some(default),
    };
    let period = read(&every, &rules::HEALTH_INTERVAL, 100, default.every);
    let limit = read(&timeout, &rules::HEALTH_TIMEOUT, 1, default.timeout);
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
    let threshold =
        |name| map.get(name).and_then(|field| field.number(&rules::HEALTH_THRESHOLD, 1..=u32::MAX));
    Health {
        every: period.unwrap_or(default.every),
        timeout: limit.unwrap_or(default.timeout),
        healthy: threshold("healthy").unwrap_or(default.healthy),
        unhealthy: threshold("unhealthy").unwrap_or(default.unhealthy),
        path: map.get("path").and_then(|field| probe_path(&field)),
    }
}

fn probe_path(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    if !text.starts_with('/') || text.contains('#') || PathAndQuery::try_from(text).is_err() {
        let what = format!("{} is not a path", path::quoted(text));
        field.problem(&rules::HEALTH_PATH, what, "such as `/health`");
    }
    Some(text.to_owned())
}
