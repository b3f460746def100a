//! Every key a document may have: one table for the parser, its messages and `docs/config.md`.

mod cache;
mod clients;
mod server;
mod spread;
mod upstream;

pub(super) use self::{
    cache::{BATCHING, CACHE, CACHE_TIER, UPSTREAM_CACHE},
    clients::{AUTH, CATALOGUE, CLAIM_RULE, CLIENTS, GRANT_TOOLS, JWT, TOKEN},
    server::{SERVER, SERVER_SELECTION, SERVER_TOOLS},
    spread::{BALANCE, CONCURRENCY, OUTLIER, RETRY},
    upstream::{BREAKER, ENDPOINT, FAILOVER, HEALTH, POOL, TIMEOUTS, TLS, TOOL_TIMEOUTS, UPSTREAM},
};

/// A mapping with fixed keys.
pub(super) struct Section {
    /// Where it stands: `upstreams.<name>.timeouts`; empty for the document itself.
    pub path: &'static str,
    pub about: &'static str,
    pub keys: &'static [Key],
}

/// One key.
pub(super) struct Key {
    pub name: &'static str,
    /// The type, as the reference page shows it.
    pub takes: &'static str,
    /// What holds without the key, spelled as in a document; `REQUIRED` and `ABSENT` are no values.
    pub default: &'static str,
    pub about: &'static str,
}

pub(super) const REQUIRED: &str = "required";
pub(super) const ABSENT: &str = "–";

impl Section {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const fn key(name: &'static str, takes: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { name, takes, default, about }
}

/// Every section, in the order of the reference page.
pub(super) static SECTIONS: &[&Section] = &[
    &DOCUMENT,
    &UPSTREAM,
    &ENDPOINT,
    &TIMEOUTS,
    &TOOL_TIMEOUTS,
    &CLIENTS,
    &CATALOGUE,
    &AUTH,
    &TOKEN,
    &GRANT_TOOLS,
    &JWT,
    &CLAIM_RULE,
    &BALANCE,
    &OUTLIER,
    &RETRY,
    &CONCURRENCY,
    &HEALTH,
    &BREAKER,
    &FAILOVER,
    &UPSTREAM_CACHE,
    &TLS,
    &POOL,
    &SERVER,
    &SERVER_TOOLS,
    &SERVER_SELECTION,
    &CACHE,
    &CACHE_TIER,
    &BATCHING,
];

pub(super) static DOCUMENT: Section = Section {
    path: "",
    about: "The document: one for the whole fleet. What differs by node is a flag of `o1-data-plane`.",
    keys: &[
        key(
            "upstreams",
            "name → upstream",
            "{}",
            "The MCP servers behind the gateway. The name is the path `/u/<name>/mcp`.",
        ),
        key("clients", "section", "{}", "What clients may do, on every route."),
        key(
            "servers",
            "name → server",
            "{}",
            "Virtual servers: a selection of upstreams and of what they offer, at `/mcp/<name>`.",
        ),
        key("cache", "section", "{}", "The tiers of the answer cache."),
        key(
            "batching",
            "section",
            "{}",
            "Collects list requests to one upstream for a moment and sends one.",
        ),
    ],
};
