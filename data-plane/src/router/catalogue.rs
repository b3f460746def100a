//! What upstreams were last seen to offer, as the bytes they said it in: who owns which resource, and what to
//! list for an upstream that does not answer right now.

use crate::{
    mcp::{json, method},
    metrics::Metrics,
    plan::{Key, Plan, Upstream},
};
use bytes::Bytes;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Younger lists are not asked for again only because a name is not on them.
const SURE_FOR: Duration = Duration::from_secs(2);

/// One complete list of one upstream.
#[derive(Debug)]
pub(super) struct List {
    /// Raw items, in the upstream's order and with the upstream's names.
    pub(super) items: Vec<Item>,
    /// The smallest `ttlMs` of its pages; absent: none was given.
    pub(super) ttl_ms: Option<u64>,
    /// True when every page said `cacheScope: "public"`.
    pub(super) public: bool,
    names: HashSet<String>,
    at: Instant,
}

/// One item of a list.
#[derive(Debug)]
pub(super) struct Item {
    /// Its bytes.
    pub(super) raw: Bytes,
    /// Where its name is inside `raw`, quotes included.
    pub(super) name: Option<json::Span>,
}

impl List {
    pub(super) fn new(method: &str, items: Vec<Bytes>, ttl_ms: Option<u64>, public: bool) -> Self {
        let key = match method {
            method::RESOURCES_LIST => "uri",
            method::TEMPLATES_LIST => "uriTemplate",
            _ => "name",
        };
        let mut names = HashSet::with_capacity(items.len());
        let items = items
            .into_iter()
            .map(|raw| {
                let span = json::find(&raw, &(0..raw.len()), &[key]).ok().flatten();
                names.extend(
                    span.as_ref().and_then(|at| json::string(&raw, at)).map(std::borrow::Cow::into_owned),
                );
                let name = span.filter(|_| key == "name");
                Item { raw, name }
            })
            .collect();
        Self { items, ttl_ms, public, names, at: Instant::now() }
    }
}

/// The lists of every upstream.
pub(super) struct Catalogue {
    metrics: Arc<Metrics>,
    lists: Mutex<HashMap<(Key, &'static str), Arc<List>>>,
}

impl Catalogue {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        Self { metrics: metrics.clone(), lists: Mutex::default() }
    }

    /// Remembers a list. Lists of upstreams that `plan` does not serve are forgotten.
    pub(super) fn put(&self, plan: &Plan, upstream: &Upstream, method: &'static str, list: &Arc<List>) {
        if method == method::TOOLS_LIST {
            self.metrics.upstream(&upstream.name).listed_tools(list.items.len());
        }
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.insert((upstream.key, method), list.clone());
        if lists.len() > plan.upstreams.len() * 4 {
            lists.retain(|(key, _), _| plan.by_key(key).is_some());
        }
    }

    /// The last known list.
    pub(super) fn get(&self, upstream: &Upstream, method: &'static str) -> Option<Arc<List>> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).get(&(upstream.key, method)).cloned()
    }

    /// True when the upstream was last seen to list this name.
    pub(super) fn lists(&self, upstream: &Upstream, method: &'static str, name: &str) -> bool {
        self.get(upstream, method).is_some_and(|list| list.names.contains(name))
    }

    /// True when its resources are not known, or not recently.
    pub(super) fn is_stale(&self, upstream: &Upstream) -> bool {
        [method::RESOURCES_LIST, method::TEMPLATES_LIST]
            .into_iter()
            .any(|method| self.get(upstream, method).is_none_or(|list| list.at.elapsed() > SURE_FOR))
    }

    /// The upstream that lists the resource, or has a template that fits; the first in the plan's order.
    pub(super) fn owner_of_resource(&self, plan: &Plan, uri: &str) -> Option<Arc<Upstream>> {
        let listed = plan.upstreams.iter().find(|one| {
            self.lists(one, method::RESOURCES_LIST, uri) || self.lists(one, method::TEMPLATES_LIST, uri)
        });
        let fitting = || {
            plan.upstreams.iter().find(|one| {
                self.get(one, method::TEMPLATES_LIST)
                    .is_some_and(|list| list.names.iter().any(|template| fits(template, uri)))
            })
        };
        listed.or_else(fitting).cloned()
    }
}

/// True when a URI can come from an RFC 6570 template. An expression stands for any text: what exactly it
/// admits is for the upstream to say.
fn fits(template: &str, uri: &str) -> bool {
    let mut literals = Vec::new();
    let mut rest = template;
    while let Some((literal, expression)) = rest.split_once('{') {
        literals.push(literal);
        match expression.split_once('}') {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    let last = rest;
    let Some((first, middle)) = literals.split_first() else { return uri == template };
    let Some(mut at) = uri.strip_prefix(first) else { return false };
    for literal in middle {
        match at.split_once(literal) {
            Some((_, after)) => at = after,
            None => return false,
        }
    }
    at.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn templates_are_matched_by_their_literals() {
        for (template, uri, fit) in [
            ("test://template/{id}/data", "test://template/7/data", true),
            ("test://template/{id}/data", "test://template/7/other", false),
            ("test://template/{id}/data", "else://template/7/data", false),
            ("demo://{a}/{b}", "demo://x/y", true),
            ("demo://{a}/{b}", "demo://x", false),
            ("file:///{+path}", "file:///a/b/c.txt", true),
            ("plain://x", "plain://x", true),
            ("plain://x", "plain://y", false),
            ("broken://{x", "broken://1", false),
        ] {
            assert_eq!(fits(template, uri), fit, "{template} {uri}");
        }
    }
}
