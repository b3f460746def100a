//! `cache`, of the document and of an upstream, and `batching`.

use super::{
    keys, path,
    reader::{Field, Reader},
    rules::{self, Rule},
    suggest, units,
};
use crate::model::{Batching, CacheRules, Caching, Eviction, Life, Share, TierLimits};
use std::{collections::BTreeMap, time::Duration};

const SHORTEST: Duration = Duration::from_millis(1);
const WIDEST_WINDOW: Duration = Duration::from_millis(100);

const EVICTIONS: &[(&str, Eviction)] = &[("tiny_lfu", Eviction::TinyLfu), ("lru", Eviction::Lru)];
const SHARES: &[(&str, Share)] =
    &[("principal", Share::Principal), ("session", Share::Session), ("everybody", Share::Everybody)];

/// A life that is the tier's.
const DEFAULT: &str = "default";

/// The tiers.
pub(super) fn read(field: Field<'_>) -> Caching {
    let map = field.section(&keys::CACHE);
    let default = Caching::default();
    let read = |name, default: &TierLimits| {
        map.get(name).map_or_else(|| default.clone(), |field| tier(field, default))
    };
    Caching {
        tools: read("tools", &default.tools),
        resources: read("resources", &default.resources),
        catalogue: read("catalogue", &default.catalogue),
    }
}

fn tier(field: Field<'_>, default: &TierLimits) -> TierLimits {
    let map = field.section(&keys::CACHE_TIER);
    let time = |name, least| map.get(name).and_then(|field| field.duration(&rules::CACHE_TTL, least));
    let entries = map.get("entries").and_then(|field| field.number(&rules::CACHE_ENTRIES, 1..=u32::MAX));
    let bytes = map.get("bytes").and_then(|field| {
        let bytes = field.size();
        if bytes == Some(0) {
            field.problem(&rules::CACHE_BYTES, "no answer fits in", "such as `64MiB`");
        }
        bytes
    });
    let eviction = map.get("eviction").and_then(|field| field.word(&rules::CACHE_EVICTION, EVICTIONS));
    TierLimits {
        ttl: time("ttl", SHORTEST).unwrap_or(default.ttl),
        entries: entries.unwrap_or(default.entries),
        bytes: bytes.unwrap_or(default.bytes),
        eviction: eviction.unwrap_or(default.eviction),
        stale_if_error: time("stale_if_error", Duration::ZERO).unwrap_or(default.stale_if_error),
        stale_while_revalidate: time("stale_while_revalidate", Duration::ZERO)
            .unwrap_or(default.stale_while_revalidate),
    }
}

/// What of an upstream is cached.
pub(super) fn read_rules(upstream: &Reader<'_>) -> CacheRules {
    let Some(field) = upstream.get("cache") else { return CacheRules::default() };
    let map = field.section(&keys::UPSTREAM_CACHE);
    let lives = |name, rule| map.get(name).map(|field| lives(&field, rule)).unwrap_or_default();
    let resources = map.get("resources");
    for (pattern, field) in resources.iter().flat_map(|field| field.names("")) {
        if !pattern.trim().is_empty() && !pattern.contains([':', '*']) {
            let what = format!("no URI is {}", path::quoted(pattern));
            field.problem_at_key(&rules::CACHE_RESOURCE, what, "such as `file:///srv/*`");
        }
    }
    CacheRules {
        tools: lives("tools", &rules::CACHE_TOOL),
        prompts: lives("prompts", &rules::CACHE_PROMPT),
        resources: lives("resources", &rules::CACHE_RESOURCE),
        lists: map.get("lists").and_then(|field| life(&field)),
        share: map.get("share").and_then(|field| field.word(&rules::CACHE_SHARE, SHARES)).unwrap_or_default(),
    }
}

fn lives(field: &Field<'_>, rule: &'static Rule) -> BTreeMap<String, Life> {
    let mut lives = BTreeMap::new();
    for (pattern, field) in field.names("what, and how long: `read_file: 30s`") {
        if pattern.trim().is_empty() {
            field.problem_at_key(rule, "there is no name", "a name, or a pattern with `*`");
        }
        lives.extend(life(&field).map(|life| (pattern.to_owned(), life)));
    }
    lives
}

/// A duration, zero included, or the word for the tier's.
fn life(field: &Field<'_>) -> Option<Life> {
    match field.as_text() {
        Some(DEFAULT) => Some(Life::Tier),
        Some(text) if text.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            let what = format!("does not know {}", path::quoted(text));
            let hint = match suggest::word(text, [DEFAULT].into_iter()) {
                meant if meant.starts_with("did") => meant,
                _ => format!("a duration such as `30s`, or `{DEFAULT}`"),
            };
            field.problem(&rules::CACHE_LIFE, what, hint);
            None
        }
        _ => field.duration(&rules::CACHE_LIFE, Duration::ZERO).map(Life::For),
    }
}

/// The section `batching`.
pub(super) fn read_batching(field: Field<'_>) -> Batching {
    let map = field.section(&keys::BATCHING);
    let default = Batching::default();
    let window = map.get("window").and_then(|field| {
        let window = field.duration(&rules::BATCHING_WINDOW, Duration::ZERO)?;
        if window > WIDEST_WINDOW {
            let what = format!("the window {} is too wide", units::spell(window));
            field.problem(&rules::BATCHING_WINDOW, what, "every list call waits for it; at most 100ms");
        }
        Some(window)
    });
    let max = map.get("max").and_then(|field| field.number(&rules::BATCHING_MAX, 1..=u32::MAX));
    Batching { window: window.unwrap_or(default.window), max: max.unwrap_or(default.max) }
}
