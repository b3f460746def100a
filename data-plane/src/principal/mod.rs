//! Who is calling, and what this caller may use. Made by the listener, carried by every call; part of each
//! key that keeps one caller's things from another.

mod policy;

pub use policy::{ClaimRule, Issuer, Policy, Required};

use crate::{
    pattern::{Filter, Pattern},
    plan::Upstream,
};
use o1_proto::model;
use std::sync::Arc;

/// An authenticated caller, or the one anonymous caller of a gateway that authenticates nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Unique among all callers of all kinds: `token:ci`, `jwt:<issuer>|<subject>`; empty for the anonymous one.
    pub id: String,
    /// What it may use.
    pub access: Access,
}

/// What a caller may use: what any of its grants gives. Lists and calls both ask here, so that they agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    grants: Vec<Grant>,
}

/// A part of what a caller may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Virtual servers, by name.
    pub servers: Vec<Pattern>,
    /// Upstreams, by name: on `/mcp`, on `/u/<upstream>/mcp` and inside virtual servers.
    pub upstreams: Vec<Pattern>,
    /// Tools, by the upstream's own name for them or by `<upstream>__<own name>`.
    pub tools: Filter,
}

impl Principal {
    /// Everybody, where nobody is asked who they are.
    #[must_use]
    pub fn anonymous() -> Arc<Self> {
        Arc::new(Self { id: String::new(), access: Access::everything() })
    }

    /// True when the gateway does not know who it is.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.id.is_empty()
    }
}

impl Access {
    /// All there is.
    #[must_use]
    pub fn everything() -> Self {
        let all = vec![Pattern::new("*")];
        Self::new(vec![Grant { servers: all.clone(), upstreams: all, tools: Filter::everything() }])
    }

    /// What any of these gives; nothing without any.
    #[must_use]
    pub fn new(grants: Vec<Grant>) -> Self {
        Self { grants }
    }

    /// Whether a virtual server may be used.
    #[must_use]
    pub fn server(&self, name: &str) -> bool {
        self.grants.iter().any(|grant| grant.server(name))
    }

    /// Whether anything of an upstream may be used.
    #[must_use]
    pub fn upstream(&self, upstream: &Upstream) -> bool {
        self.grants.iter().any(|grant| grant.upstream(&upstream.name))
    }

    /// Whether a tool may be listed and called. `own` is the upstream's name for it.
    #[must_use]
    pub fn tool(&self, upstream: &Upstream, own: &str) -> bool {
        let fits =
            |grant: &Grant| grant.upstream(&upstream.name) && admits(&grant.tools, &upstream.name, own);
        self.grants.iter().any(fits)
    }

    /// True when surely every tool of an upstream may be used, so that nobody needs to look.
    #[must_use]
    pub fn every_tool(&self, upstream: &Upstream) -> bool {
        self.grants.iter().any(|grant| grant.upstream(&upstream.name) && grant.tools == Filter::everything())
    }

    /// True when nothing at all may be used.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.grants.is_empty()
    }
}

impl Grant {
    fn compile(model: &model::Grant) -> Self {
        let patterns = |texts: &[String]| texts.iter().map(|text| Pattern::new(text)).collect();
        Self {
            servers: patterns(&model.servers),
            upstreams: patterns(&model.upstreams),
            tools: Filter { allow: patterns(&model.allow), deny: patterns(&model.deny) },
        }
    }

    /// Whether it gives anything of an upstream.
    #[must_use]
    pub fn upstream(&self, name: &str) -> bool {
        self.upstreams.iter().any(|pattern| pattern.fits(name))
    }

    /// Whether it gives anything of a virtual server.
    #[must_use]
    pub fn server(&self, name: &str) -> bool {
        self.servers.iter().any(|pattern| pattern.fits(name))
    }
}

/// Whether a filter admits a tool, by its own name or by `<upstream>__<own name>`.
#[must_use]
pub fn admits(filter: &Filter, upstream: &str, own: &str) -> bool {
    let full = format!("{upstream}{}{own}", model::SEPARATOR);
    filter.admits(|pattern| pattern.fits(own) || pattern.fits(&full))
}
