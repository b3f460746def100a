//! `tls` and `pool`: the connections to an upstream's URLs.

use super::{reader::Reader, rules};
use crate::model::{Identity, Tls};

/// The section `tls` of an upstream.
pub(super) fn tls(map: &Reader<'_>) -> Tls {
    let path = |name: &str| {
        let field = map.get(name)?;
        let path = field.text()?;
        if path.is_empty() {
            field.problem(&rules::TLS_PAIR, "the path is empty", "a PEM file on the node");
        }
        Some(path.to_owned())
    };
    let (ca, cert, key) = (path("ca"), path("cert"), path("key"));
    let alone = match (map.get("cert"), map.get("key")) {
        (Some(cert), None) => Some((cert, "key")),
        (None, Some(key)) => Some((key, "cert")),
        _ => None,
    };
    if let Some((field, missing)) = alone {
        field.problem_at_key(&rules::TLS_PAIR, format!("comes without `{missing}`"), "give both, or neither");
    }
    Tls { ca, identity: cert.zip(key).map(|(cert, key)| Identity { cert, key }) }
}

/// The section `pool` of an upstream whose endpoints get `max` calls at a time: the most idle connections.
pub(super) fn pool(map: &Reader<'_>, max: Option<u32>) -> Option<u32> {
    let field = map.get("idle")?;
    let idle = field.number(&rules::POOL_SIZE, 0..=u32::MAX)?;
    if let Some(max) = max.filter(|max| idle > *max) {
        let what = format!("{idle} idle connections are more than `concurrency.max`, {max}");
        field.problem(&rules::POOL_SIZE, what, "lower `idle`, or raise `max`");
    }
    Some(idle)
}
