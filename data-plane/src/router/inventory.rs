//! What a route offers and hides, written down for people. The same decisions as for clients, with their reasons.

use super::{
    Router,
    catalogue::{Item, State},
    category::Category,
    names,
    offer::{self, Face, Hidden},
};
use crate::{
    call::Upstreams,
    inventory::{self, Inventory, Source, Tool},
    mcp::json,
    plan::{Server, Upstream},
    principal::Access,
};
use futures_util::future::join_all;
use std::{collections::HashMap, sync::Arc};

impl<N: Upstreams> Router<N> {
    /// Every tool of a virtual server, or with `None` of `/mcp`, as a client with this access and without
    /// capabilities sees it; `None` when there is no such server.
    pub async fn inventory(&self, server: Option<&str>, access: &Access) -> Option<Inventory> {
        let plan = self.context.current.plan();
        let server = match server {
            None => plan.everything.clone(),
            Some(name) => plan.server(name)?.clone(),
        };
        let view = self.catalogue.plain(&server.upstreams);
        let entries: Vec<_> = server.upstreams.iter().map(|one| view.entry(one)).collect();
        let wait = plan.clients.catalogue.wait;
        join_all(
            entries
                .iter()
                .flatten()
                .map(|entry| entry.first(wait, |state| state.list(Category::Tools).is_some())),
        )
        .await;
        let mut inventory = Inventory::default();
        let mut taken = HashMap::new();
        for (upstream, entry) in server.upstreams.iter().zip(&entries) {
            let state = entry.as_ref().map(|entry| entry.state()).unwrap_or_default();
            inventory.upstreams.push(source(upstream, &state));
            let list = state.list(Category::Tools).cloned();
            let Some(list) = list.or_else(|| self.catalogue.last(upstream, Category::Tools)) else {
                continue;
            };
            for item in &list.items {
                let face = offer::face(&server, access, Category::Tools, upstream, &item.name);
                let tool = tool(&server, upstream, &state, item, face, &taken);
                if let inventory::State::Served | inventory::State::Unreachable { .. } = tool.state {
                    taken.insert(tool.name.clone(), upstream.clone());
                }
                inventory.tools.push(tool);
            }
        }
        Some(inventory)
    }
}

fn source(upstream: &Upstream, state: &State) -> Source {
    Source {
        name: upstream.name.clone(),
        prefix: upstream.prefix.clone(),
        listed: state.fetched,
        error: state.failing.as_ref().map(|(_, why)| why.clone()).unwrap_or_default(),
    }
}

fn tool(
    server: &Server,
    upstream: &Arc<Upstream>,
    state: &State,
    item: &Item,
    face: Result<Face, Hidden>,
    taken: &HashMap<String, Arc<Upstream>>,
) -> Tool {
    let own = item.name.as_str();
    let since = state.failing.as_ref().map(|(since, _)| *since);
    let (face, state) = match face {
        Err(hidden) => {
            let (name, shortened) = names::prefixed(upstream, own);
            let state = match hidden {
                Hidden::Denied(pattern) => inventory::State::Denied { pattern },
                Hidden::NotAllowed => inventory::State::NotAllowed,
                Hidden::Forbidden => inventory::State::Forbidden,
            };
            (Face { name, shortened }, state)
        }
        Ok(face) => {
            let state = match (taken.get(&face.name), since) {
                (Some(first), _) => inventory::State::Clash { upstream: first.name.clone() },
                (None, None) => inventory::State::Served,
                (None, since) if upstream.hide_unreachable => inventory::State::Hidden { since },
                (None, since) => inventory::State::Unreachable { since },
            };
            (face, state)
        }
    };
    let described = names::said(&server.describe, upstream, own).map(first_line);
    let description = described.unwrap_or_else(|| description(&item.raw));
    Tool {
        name: face.name,
        upstream: upstream.name.clone(),
        own_name: own.to_owned(),
        description,
        shortened: face.shortened,
        state,
    }
}

fn description(raw: &[u8]) -> String {
    let at = json::find(raw, &(0..raw.len()), &["description"]).ok().flatten();
    at.and_then(|at| json::string(raw, &at)).map(|text| first_line(&text)).unwrap_or_default()
}

fn first_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().to_owned()
}
