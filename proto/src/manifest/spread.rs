//! `outlier`, `retry` and `concurrency`: when an endpoint gets no calls, or fewer, or another gets them.

use super::{
    keys,
    reader::{Field, Reader},
    rules::{self, Rule},
    units,
};
use crate::model::{Concurrency, Outlier, Retry};
use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(1);

fn percent(map: &Reader<'_>, name: &str, rule: &'static Rule) -> Option<u32> {
    map.get(name)?.number(rule, 0..=100)
}

/// The section `outlier`.
pub(super) fn outlier(field: Field<'_>) -> Outlier {
    let map = field.section(&keys::OUTLIER);
    let default = Outlier::default();
    let rule = &rules::OUTLIER_RANGE;
    let time = |name| map.get(name).and_then(|field| field.duration(rule, SHORTEST));
    let outlier = Outlier {
        failures: map
            .get("failures")
            .and_then(|field| field.number(rule, 0..=u32::MAX))
            .unwrap_or(default.failures),
        eject: time("eject").unwrap_or(default.eject),
        eject_max: time("eject_max").unwrap_or(default.eject_max),
        max_percent: percent(&map, "max_percent", rule).unwrap_or(default.max_percent),
        panic_percent: percent(&map, "panic_percent", rule).unwrap_or(default.panic_percent),
    };
    let place = map.get("eject").or_else(|| map.get("eject_max"));
    if let Some(field) = place.filter(|_| outlier.eject > outlier.eject_max) {
        let (first, longest) = (units::spell(outlier.eject), units::spell(outlier.eject_max));
        let what = format!("the first time, {first}, is longer than the longest, {longest}");
        field.problem(rule, what, "`eject` is at most `eject_max`");
    }
    outlier
}

/// The section `retry`.
pub(super) fn retry(field: Field<'_>) -> Retry {
    let map = field.section(&keys::RETRY);
    let default = Retry::default();
    let number = |name, range| map.get(name).and_then(|field| field.number(&rules::RETRY_RANGE, range));
    let mut tools = Vec::new();
    for item in map.get("tools").iter().flat_map(|field| field.list("such as `[\"read_*\"]`")) {
        let Some(name) = item.text() else { continue };
        if name.trim().is_empty() {
            item.problem(&rules::RETRY_TOOL, "the tool has no name", "remove it");
        }
        tools.push(name.to_owned());
    }
    Retry {
        attempts: number("attempts", 1..=5).unwrap_or(default.attempts),
        tools,
        budget_percent: number("budget_percent", 0..=100).unwrap_or(default.budget_percent),
        budget_min: number("budget_min", 0..=u32::MAX).unwrap_or(default.budget_min),
    }
}

/// The section `concurrency`.
pub(super) fn concurrency(field: Field<'_>) -> Concurrency {
    let map = field.section(&keys::CONCURRENCY);
    let default = Concurrency::default();
    let rule = &rules::CONCURRENCY_RANGE;
    let max = map.get("max").and_then(|field| field.number(rule, 1..=u32::MAX));
    let queue = map.get("queue").and_then(|field| field.number(rule, 0..=u32::MAX));
    let wait = map.get("wait").and_then(|field| field.duration(rule, Duration::ZERO));
    Concurrency { max, queue: queue.unwrap_or(default.queue), wait: wait.unwrap_or(default.wait) }
}
