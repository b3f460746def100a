//! Prefixes on the aggregated route. Pure.

use crate::plan::{Plan, Upstream};
use std::sync::Arc;

/// The upstream whose prefix the name begins with, and the rest of the name. The longest prefix wins.
pub(super) fn by_prefix(plan: &Plan, name: &str) -> Option<(Arc<Upstream>, String)> {
    plan.upstreams
        .iter()
        .filter(|one| !one.prefix.is_empty())
        .filter_map(|one| Some((one, name.strip_prefix(one.prefix.as_str())?)))
        .max_by_key(|(one, _)| one.prefix.len())
        .map(|(one, rest)| (one.clone(), rest.to_owned()))
}
