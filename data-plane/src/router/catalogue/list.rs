//! One complete list of one upstream, as the bytes it came in.

use super::super::category::Category;
use crate::mcp::json;
use bytes::Bytes;
use o1_proto::model::Life;
use std::sync::{Mutex, PoisonError};
use tokio::time::{Duration, Instant};

/// What one upstream lists of a category.
#[derive(Debug)]
pub(in crate::router) struct List {
    /// In the upstream's order and with its names.
    pub items: Vec<Item>,
    /// Equal digests, equal items.
    pub digest: blake3::Hash,
    /// It is the gateway's, not the upstream's.
    pub is_own: bool,
    said: Mutex<Said>,
}

/// What was said when the items were last seen.
#[derive(Debug, Clone, Copy)]
struct Said {
    /// False: the upstream has no such list.
    offered: bool,
    /// The smallest `ttlMs` of its pages; `None`: not every page gave one.
    ttl: Option<Duration>,
    /// True when every page said `cacheScope: "public"`.
    public: bool,
    at: Instant,
}

/// One item of a list.
#[derive(Debug)]
pub(in crate::router) struct Item {
    /// Its bytes.
    pub raw: Bytes,
    /// Its name or URI, unescaped.
    pub name: String,
    /// Where that stands in `raw`, quotes included.
    pub span: json::Span,
}

impl List {
    /// Items without a name can be asked for by nobody, so they are left out.
    pub(super) fn new(category: Category, raw: Vec<Bytes>, ttl: Option<Duration>, public: bool) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut items = Vec::with_capacity(raw.len());
        for raw in raw {
            let Ok(Some(span)) = json::find(&raw, &(0..raw.len()), &[category.key()]) else { continue };
            let Some(name) = json::string(&raw, &span).map(std::borrow::Cow::into_owned) else { continue };
            hasher.update(&(raw.len() as u64).to_be_bytes());
            hasher.update(&raw);
            items.push(Item { raw, name, span });
        }
        let said = Mutex::new(Said { offered: true, ttl, public, at: Instant::now() });
        Self { items, digest: hasher.finalize(), is_own: false, said }
    }

    /// The list of an upstream that has none: there is nothing in it that could change.
    pub(super) fn none(category: Category) -> Self {
        let said = Said { offered: false, ttl: None, public: true, at: Instant::now() };
        Self { said: Mutex::new(said), ..Self::new(category, Vec::new(), None, true) }
    }

    /// What the gateway itself lists. It limits the life of nothing: that it changed is told.
    pub(in crate::router) fn own(category: Category, raw: Vec<Bytes>) -> Self {
        let said = Self::none(category).said();
        Self { is_own: true, said: Mutex::new(said), ..Self::new(category, raw, None, true) }
    }

    #[cfg(test)]
    pub(in crate::router) fn of_tools(items: &[&str]) -> Self {
        let items = items.iter().map(|item| Bytes::copy_from_slice(item.as_bytes())).collect();
        Self::new(Category::Tools, items, None, false)
    }

    /// The same items were seen again: from now on what was said with them counts.
    pub(super) fn seen_again(&self, as_of: &Self) {
        let said = as_of.said();
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = said;
    }

    fn said(&self) -> Said {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long it is taken for granted, from when it was seen: by the operator's rule, or by its own word, at
    /// most `longest`; `None`: nobody says.
    pub(super) fn life(&self, rule: Option<Life>, longest: Duration) -> Option<Duration> {
        let Said { offered, ttl, .. } = self.said();
        match rule {
            _ if !offered => None,
            Some(Life::For(life)) => Some(life),
            Some(Life::Tier) => Some(longest),
            None => ttl.map(|ttl| ttl.min(longest)),
        }
    }

    /// How much is left of [`List::life`]; `None`: it limits nothing, because there is no such list.
    pub(in crate::router) fn fresh_for(&self, rule: Option<Life>, longest: Duration) -> Option<Duration> {
        let left = || self.life(rule, longest).unwrap_or_default().saturating_sub(self.age());
        self.said().offered.then(left)
    }

    /// Whether everybody may see it.
    pub(in crate::router) fn is_public(&self) -> bool {
        self.said().public
    }

    /// How long ago it was seen.
    pub(in crate::router) fn age(&self) -> Duration {
        self.said().at.elapsed()
    }
}
