//! `tls` and `pool`: the connections to an upstream's URLs.

use super::{keys, reader::Reader, rules};

const POOL_MAX: u32 = 100;
const POOL_IDLE: u32 = 10;

/// Both sections of an upstream.
pub(super) fn read(upstream: &Reader<'_>) {
    if let Some(field) = upstream.get("tls") {
        tls(&field.section(&keys::TLS));
    }
    if let Some(field) = upstream.get("pool") {
        pool(&field.section(&keys::POOL));
    }
}

fn tls(map: &Reader<'_>) {
    for field in ["ca", "cert", "key"].iter().filter_map(|name| map.get(name)) {
        if field.text().is_some_and(str::is_empty) {
            field.problem(&rules::TLS_PAIR, "the path is empty", "a PEM file on the node");
        }
    }
    let alone = match (map.get("cert"), map.get("key")) {
        (Some(cert), None) => Some((cert, "key")),
        (None, Some(key)) => Some((key, "cert")),
        _ => None,
    };
    if let Some((field, missing)) = alone {
        field.problem_at_key(&rules::TLS_PAIR, format!("comes without `{missing}`"), "give both, or neither");
    }
}

fn pool(map: &Reader<'_>) {
    let read = |name, least, default| match map.get(name) {
        Some(field) => field.number(&rules::POOL_SIZE, least..=u32::MAX),
        None => Some(default),
    };
    let (max, idle) = (read("max", 1, POOL_MAX), read("idle", 0, POOL_IDLE));
    if let (Some(max), Some(idle), Some(field)) = (max, idle, map.get("idle").or_else(|| map.get("max")))
        && idle > max
    {
        let what = format!("`idle` {idle} is above `max` {max}");
        field.problem(&rules::POOL_SIZE, what, "lower `idle`, or raise `max`");
    }
}
