//! What a caller sees on a route, and under which names. Lists, calls, completion and the inventory all ask
//! here, so that they agree. Pure.

use super::{
    catalogue::{Item, List},
    category::Category,
    names, status,
};
use crate::{
    mcp::json,
    plan::{Server, Upstream},
    principal::{Access, admits},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// An item as a route shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Face {
    pub name: String,
    pub shortened: bool,
}

/// Why a route does not show an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hidden {
    /// This caller may not use it.
    Forbidden,
    /// The server's patterns do not allow it.
    NotAllowed,
    /// This pattern of the server denies it.
    Denied(String),
}

/// Whether a caller may see and use an upstream's item on a server's route, and what it is called there.
pub(super) fn face(
    server: &Server,
    access: &Access,
    category: Category,
    upstream: &Upstream,
    own: &str,
) -> Result<Face, Hidden> {
    let filter = match category {
        Category::Tools => &server.tools,
        Category::Prompts => &server.prompts,
        Category::Resources | Category::Templates => &server.resources,
    };
    let named = matches!(category, Category::Tools | Category::Prompts);
    let full = if named { names::full(upstream, own) } else { own.to_owned() };
    if let Some(pattern) = filter.deny.iter().find(|one| one.fits(own) || one.fits(&full)) {
        return Err(Hidden::Denied(pattern.text().to_owned()));
    }
    if !admits(filter, &upstream.name, own) {
        return Err(Hidden::NotAllowed);
    }
    let permitted = match category {
        Category::Tools => access.tool(upstream, own),
        _ => access.upstream(upstream),
    };
    if !permitted {
        return Err(Hidden::Forbidden);
    }
    Ok(match category {
        Category::Tools => match names::said(&server.rename, upstream, own) {
            Some(name) => Face { name: name.to_owned(), shortened: false },
            None => prefixed(upstream, own),
        },
        Category::Prompts => prefixed(upstream, own),
        Category::Resources | Category::Templates => Face { name: own.to_owned(), shortened: false },
    })
}

fn prefixed(upstream: &Upstream, own: &str) -> Face {
    let (name, shortened) = names::prefixed(upstream, own);
    Face { name, shortened }
}

/// Whose a tool or prompt of this name would be, by the name alone, and what its upstream would call it; `None`
/// when that cannot be told, or when this caller may not use it.
pub(super) fn by_name(
    server: &Server,
    access: &Access,
    category: Category,
    name: &str,
) -> Option<(Arc<Upstream>, String)> {
    let mut found = None;
    let mut specific = None;
    for upstream in &server.upstreams {
        for own in names::origins(server, upstream, name) {
            if face(server, access, category, upstream, &own).is_ok_and(|face| face.name == name) {
                let prefix = upstream.prefix.len();
                match specific {
                    // Two that could be meant: nobody is.
                    Some(other) if other == prefix => found = None,
                    Some(other) if other > prefix => {}
                    _ => (found, specific) = (Some((upstream.clone(), own.into_owned())), Some(prefix)),
                }
            }
        }
    }
    found
}

/// The longest that clients may take a list for granted of which an upstream with a backup has a part.
const FRESH_MAX: Duration = Duration::from_secs(30);

/// One category of what a caller sees on a route, complete and in order.
pub(super) struct Index {
    pub shown: Vec<Shown>,
    /// What it was put together from, of upstreams that the caller may use.
    pub parts: Vec<Part>,
    by_name: HashMap<String, usize>,
    /// Equal digests, equal lists.
    pub digest: [u8; 16],
}

/// One item of it.
pub(super) struct Shown {
    pub upstream: Arc<Upstream>,
    /// What it is called on the route.
    pub name: String,
    list: Arc<List>,
    at: usize,
    description: Option<String>,
}

/// One upstream's part of an index.
pub(super) type Part = (Arc<Upstream>, Option<Arc<List>>);

impl Index {
    /// Puts an index together. The first of two that clash stands; the other is told to `clash`.
    pub(super) fn new(
        server: &Server,
        access: &Access,
        category: Category,
        parts: &[Part],
        mut clash: impl FnMut(&str, &Upstream, &Upstream),
    ) -> Self {
        let usable = parts.iter().filter(|(upstream, _)| access.upstream(upstream)).cloned();
        let mut index =
            Self { shown: Vec::new(), parts: usable.collect(), by_name: HashMap::new(), digest: [0; 16] };
        let mut hasher = blake3::Hasher::new();
        for (upstream, list) in parts {
            let Some(list) = list else { continue };
            for (at, item) in list.items.iter().enumerate() {
                if status::is_own(&item.name) && !list.is_own {
                    continue;
                }
                let Ok(face) = face(server, access, category, upstream, &item.name) else { continue };
                if let Some(first) = index.by_name.get(&face.name).and_then(|at| index.shown.get(*at)) {
                    clash(&face.name, &first.upstream, upstream);
                    continue;
                }
                let said = || names::said(&server.describe, upstream, &item.name).map(str::to_owned);
                let description = if category == Category::Tools { said() } else { None };
                index.by_name.insert(face.name.clone(), index.shown.len());
                let (upstream, list) = (upstream.clone(), list.clone());
                let shown = Shown { upstream, name: face.name, list, at, description };
                hasher.update(&shown.rendered());
                index.shown.push(shown);
            }
        }
        index.digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        index
    }

    /// How long it may be taken for granted, which is as long as each of its parts may, and whether it is everybody's.
    pub(super) fn freshness(&self, longest: Duration) -> (Duration, bool) {
        // What an upstream that nobody has heard of lists may come at any moment.
        let fresh_for = |(upstream, list): &Part| match list {
            // Another store may list something else at any moment.
            Some(list) if upstream.backup.is_some() => {
                list.fresh_for(upstream.cache.lists, longest.min(FRESH_MAX))
            }
            Some(list) => list.fresh_for(upstream.cache.lists, longest),
            None => Some(Duration::ZERO),
        };
        let is_public = |(_, list): &Part| list.as_ref().is_some_and(|list| list.is_public());
        let least = self.parts.iter().filter_map(fresh_for).min().unwrap_or_default();
        (least, !self.parts.is_empty() && self.parts.iter().all(is_public))
    }

    /// Whose the item of this name is, and what its upstream calls it.
    pub(super) fn find(&self, name: &str) -> Option<&Shown> {
        self.by_name.get(name).and_then(|at| self.shown.get(*at))
    }
}

impl Shown {
    pub(super) fn item(&self) -> &Item {
        &self.list.items[self.at]
    }

    /// The bytes its upstream sent, under the name it has here. Only what the route says differs.
    pub(super) fn rendered(&self) -> bytes::Bytes {
        let item = self.item();
        let mut edits = Vec::new();
        if self.name != item.name {
            edits.push((item.span.clone(), json::quote(&self.name)));
        }
        if let Some(description) = &self.description {
            let description = json::quote(description);
            match json::find(&item.raw, &(0..item.raw.len()), &["description"]) {
                Ok(Some(at)) => edits.push((at, description)),
                _ => {
                    let mut member = br#""description":"#.to_vec();
                    member.extend_from_slice(&description);
                    member.push(b',');
                    edits.push((1..1, member));
                }
            }
        }
        if edits.is_empty() { item.raw.clone() } else { json::splice(&item.raw, edits) }
    }
}

/// Indices that were put together lately.
#[derive(Default)]
pub(super) struct Indices(Mutex<Vec<(Wanted, Arc<Index>)>>);

/// What an index was put together from.
#[derive(Clone)]
pub(super) struct Wanted {
    pub server: Arc<Server>,
    pub access: Access,
    pub category: Category,
    /// Of the view and of the session.
    pub versions: (u64, u64),
}

/// Indices kept for each view.
const KEPT: usize = 64;

impl Indices {
    pub(super) fn get(&self, wanted: &Wanted, make: impl FnOnce() -> Index) -> Arc<Index> {
        let same = |known: &Wanted| {
            known.versions == wanted.versions
                && known.category == wanted.category
                && Arc::ptr_eq(&known.server, &wanted.server)
                && known.access == wanted.access
        };
        let known = |kept: &[(Wanted, Arc<Index>)]| {
            kept.iter().find(|(one, _)| same(one)).map(|(_, index)| index.clone())
        };
        if let Some(index) = known(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return index;
        }
        let index = Arc::new(make());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What is out of date is of no use to anybody.
        kept.retain(|(one, _)| one.versions == wanted.versions);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((wanted.clone(), index.clone()));
        index
    }
}
