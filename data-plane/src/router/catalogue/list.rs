//! One complete list of one upstream, as the bytes it came in.

use super::super::category::Category;
use crate::mcp::json;
use bytes::Bytes;
use tokio::time::{Duration, Instant};

/// What one upstream lists of a category.
#[derive(Debug)]
pub(in crate::router) struct List {
    /// In the upstream's order and with its names.
    pub items: Vec<Item>,
    /// True when every page said `cacheScope: "public"`.
    pub public: bool,
    /// Equal digests, equal items.
    pub digest: blake3::Hash,
    /// The smallest `ttlMs` of its pages; absent: none was given.
    ttl: Option<Duration>,
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
        Self { items, public, digest: hasher.finalize(), ttl, at: Instant::now() }
    }

    #[cfg(test)]
    pub(in crate::router) fn of_tools(items: &[&str]) -> Self {
        let items = items.iter().map(|item| Bytes::copy_from_slice(item.as_bytes())).collect();
        Self::new(Category::Tools, items, None, false)
    }

    /// How long it may still be taken for granted, by its own word.
    pub(in crate::router) fn fresh_for(&self) -> Duration {
        self.ttl.unwrap_or_default().saturating_sub(self.at.elapsed())
    }

    /// When its own word says that it should be fetched again; `None`: it does not say.
    pub(super) fn ttl(&self) -> Option<Duration> {
        self.ttl.filter(|ttl| !ttl.is_zero())
    }

    /// How old it is.
    pub(in crate::router) fn age(&self) -> Duration {
        self.at.elapsed()
    }
}
