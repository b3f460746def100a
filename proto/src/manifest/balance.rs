//! `balance`: how calls spread over the endpoints of a store.

use super::{keys, node::Value, reader::Field, rules};
use http::HeaderName;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    RoundRobin,
    ConsistentHash,
    Other,
}

const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("round_robin", Algorithm::RoundRobin),
    ("least_connections", Algorithm::Other),
    ("random", Algorithm::Other),
    ("weighted_random", Algorithm::Other),
    ("consistent_hash", Algorithm::ConsistentHash),
];

/// A word, or a section.
pub(super) fn read(field: Field<'_>) {
    if !matches!(field.node.value, Value::Map(_)) {
        algorithm(&field, &field);
        return;
    }
    let map = field.section(&keys::BALANCE);
    let found = map.required("algorithm").and_then(|word| algorithm(&word, &map.field));
    if let Some(field) = map.get("key") {
        only_consistent_hash(&field, &rules::BALANCE_KEY, found);
        key(&field);
    }
    if let Some(field) = map.get("virtual_nodes") {
        only_consistent_hash(&field, &rules::BALANCE_VIRTUAL_NODES, found);
        field.number(&rules::BALANCE_VIRTUAL_NODES, 1..=10_000);
    }
}

fn algorithm(word: &Field<'_>, place: &Field<'_>) -> Option<Algorithm> {
    let found = word.word(&rules::BALANCE_ALGORITHM, ALGORITHMS)?;
    if found != Algorithm::RoundRobin {
        place.no_effect_yet();
    }
    Some(found)
}

fn only_consistent_hash(field: &Field<'_>, rule: &'static rules::Rule, found: Option<Algorithm>) {
    if matches!(found, Some(Algorithm::RoundRobin | Algorithm::Other)) {
        field.problem_at_key(rule, "only `consistent_hash` uses it", "remove it, or change the algorithm");
    }
}

fn key(field: &Field<'_>) {
    if let Some(name) = field.as_text().and_then(|text| text.strip_prefix("header:")) {
        if HeaderName::try_from(name).is_err() {
            let what = "`header:` is not followed by a header's name";
            field.problem(&rules::BALANCE_KEY, what, "such as `header:X-Tenant`");
        }
        return;
    }
    field.word(&rules::BALANCE_KEY, &[("session", ()), ("principal", ()), ("tool", ()), ("header:NAME", ())]);
}
