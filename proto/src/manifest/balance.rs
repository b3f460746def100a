//! `balance`: how an endpoint is chosen for a call.

use super::{
    keys,
    node::Value,
    reader::{Field, Reader},
    rules,
};
use crate::model::{Balance, HashKey};
use http::HeaderName;

const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("round_robin", Algorithm::RoundRobin),
    ("least_connections", Algorithm::LeastConnections),
    ("random", Algorithm::Random),
    ("weighted_random", Algorithm::WeightedRandom),
    ("consistent_hash", Algorithm::ConsistentHash),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    RoundRobin,
    LeastConnections,
    Random,
    WeightedRandom,
    ConsistentHash,
}

/// A word, or a section. `None`: a problem, and said.
pub(super) fn read(field: Field<'_>) -> Option<Balance> {
    let algorithm = |word: &Field<'_>| word.word(&rules::BALANCE_ALGORITHM, ALGORITHMS);
    let (found, key, virtual_nodes) = if matches!(field.node.value, Value::Map(_)) {
        let map = field.section(&keys::BALANCE);
        let found = map.required("algorithm").and_then(|word| algorithm(&word));
        only_consistent_hash(&map, found);
        let nodes = map.get("virtual_nodes");
        let nodes = nodes.and_then(|field| field.number(&rules::BALANCE_VIRTUAL_NODES, 1..=10_000));
        (found, map.get("key").and_then(|field| key(&field)), nodes)
    } else {
        (algorithm(&field), None, None)
    };
    Some(match found? {
        Algorithm::RoundRobin => Balance::RoundRobin,
        Algorithm::LeastConnections => Balance::LeastConnections,
        Algorithm::Random => Balance::Random,
        Algorithm::WeightedRandom => Balance::WeightedRandom,
        Algorithm::ConsistentHash => Balance::ConsistentHash {
            key: key.unwrap_or_default(),
            virtual_nodes: virtual_nodes.unwrap_or(Balance::VIRTUAL_NODES),
        },
    })
}

fn only_consistent_hash(map: &Reader<'_>, found: Option<Algorithm>) {
    if found.is_none_or(|found| found == Algorithm::ConsistentHash) {
        return;
    }
    for (name, rule) in [("key", &rules::BALANCE_KEY), ("virtual_nodes", &rules::BALANCE_VIRTUAL_NODES)] {
        if let Some(field) = map.get(name) {
            let hint = "remove it, or change the algorithm";
            field.problem_at_key(rule, "only `consistent_hash` uses it", hint);
        }
    }
}

fn key(field: &Field<'_>) -> Option<HashKey> {
    if let Some(name) = field.as_text().and_then(|text| text.strip_prefix("header:")) {
        let name = HeaderName::try_from(name).map(|name| name.as_str().to_owned());
        if name.is_err() {
            let what = "`header:` is not followed by a header's name";
            field.problem(&rules::BALANCE_KEY, what, "such as `header:X-Tenant`");
        }
        return name.ok().map(HashKey::Header);
    }
    let (session, principal, tool) = (HashKey::Session, HashKey::Principal, HashKey::Tool);
    let words = [
        ("session", Some(&session)),
        ("principal", Some(&principal)),
        ("tool", Some(&tool)),
        ("header:NAME", None),
    ];
    field.word(&rules::BALANCE_KEY, &words)?.cloned()
}
