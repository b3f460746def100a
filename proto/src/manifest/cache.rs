//! `cache`, of the document and of an upstream, and `batching`.

use super::{
    keys,
    reader::{Field, Reader},
    rules, units,
};
use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(1);
const WIDEST_WINDOW: Duration = Duration::from_millis(100);

/// The tiers.
pub(super) fn read(field: Field<'_>) {
    let map = field.section(&keys::CACHE);
    for tier in ["tools", "resources", "catalogue"].iter().filter_map(|name| map.get(name)) {
        let tier = tier.section(&keys::CACHE_TIER);
        if let Some(field) = tier.get("ttl") {
            field.duration(&rules::CACHE_TTL, SHORTEST);
        }
        if let Some(field) = tier.get("entries") {
            field.number(&rules::CACHE_ENTRIES, 1..=u32::MAX);
        }
    }
}

/// What of an upstream is cached.
pub(super) fn read_upstream(upstream: &Reader<'_>) {
    let Some(field) = upstream.get("cache") else { return };
    let map = field.section(&keys::UPSTREAM_CACHE);
    let Some(tools) = map.get("tools") else { return };
    for (name, field) in tools.names("tool name: how long, such as `read_file: 30s`") {
        if name.trim().is_empty() {
            field.problem_at_key(&rules::CACHE_TOOL, "the tool has no name", "remove it");
        }
        field.duration(&rules::CACHE_TTL, SHORTEST);
    }
}

/// The section `batching`.
pub(super) fn read_batching(field: Field<'_>) {
    let map = field.section(&keys::BATCHING);
    if let Some(field) = map.get("window")
        && let Some(window) = field.duration(&rules::BATCHING_WINDOW, Duration::ZERO)
        && window > WIDEST_WINDOW
    {
        let what = format!("the window {} is too wide", units::spell(window));
        field.problem(&rules::BATCHING_WINDOW, what, "every list call waits for it; at most 100ms");
    }
    if let Some(field) = map.get("max") {
        field.number(&rules::BATCHING_MAX, 1..=u32::MAX);
    }
}
