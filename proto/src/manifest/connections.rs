//! `tls` and `pool`: the connections to an upstream's URLs.

use super::{keys, reader::Reader, rules};

const POOL_MAX: u32 = 100;

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
    let max = match map.get("max") {
        Some(field) => field.number(&rules::POOL_SIZE, 1..=u32::MAX),
        None => Some(POOL_MAX),
    };
    if let Some(field) = map.get("idle")
        && let (Some(max), Some(idle)) = (max, field.number(&rules::POOL_SIZE, 0..=u32::MAX))
        && idle > max
    {
        let what = format!("{idle} idle connections are more than `max`, {max}");
        field.problem(&rules::POOL_SIZE, what, "lower `idle`, or raise `max`");
    }
}
