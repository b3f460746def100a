//! What a configuration means, once every rule has been checked: plain values, no protobuf, no YAML.

mod auth;
mod cache;
mod event;
mod failover;
mod failover_figures;
mod failover_stats;
mod reference;
mod server;
pub mod shown;
mod spread;

pub use auth::{Algorithm, Auth, ClaimRule, Grant, Jwt, KeySource, Required, StaticToken, TokenHash};
pub use cache::{Batching, CacheRules, Caching, Eviction, Life, Share, Tier, TierLimits};
pub use event::{
    BreakerState, DecisionReason, DecisionState, Directive, Event, EventKind, FailoverState, Phase, Refusal,
    Store, StoreHealth, Verdict,
};
pub use failover::{Breaker, Failover, FailoverMetadata, FastPath, Health, Writes};
pub use failover_figures::FailoverFigures;
pub use failover_stats::FailoverStats;
pub use reference::Reference;
pub use server::{Selection, Server};
pub use spread::{Balance, Concurrency, HashKey, Outlier, Retry};

use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// Everything a node needs to serve: the resolved configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Fleet {
    /// Sorted by name; names are unique.
    pub upstreams: Vec<Upstream>,
    /// Virtual servers, sorted by name; names are unique.
    pub servers: Vec<Server>,
    /// What clients may do.
    pub clients: Clients,
    /// Who may be one.
    pub auth: Auth,
    /// What nodes keep of answers.
    pub caching: Caching,
    /// How list requests are collected.
    pub batching: Batching,
}

/// One logical MCP server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Upstream {
    /// `[A-Za-z0-9][A-Za-z0-9_-]*`, at most 48 characters, without `__`.
    pub name: String,
    /// Prepended to names on the aggregated route; `None`: names stay as they are.
    pub prefix: Option<String>,
    /// At least one endpoint.
    pub primary: Vec<Endpoint>,
    /// Where to turn when the primary fails; `None`: nowhere.
    pub backup: Option<Backup>,
    /// Request headers for HTTP endpoints, by lowercase name.
    pub headers: BTreeMap<String, Reference>,
    /// How long to wait for it.
    pub timeouts: Timeouts,
    /// What becomes of its tools while it cannot be reached.
    pub unreachable_tools: UnreachableTools,
    /// Resources whose URI begins with one of these are read here when no upstream lists them.
    pub resources: Vec<String>,
    /// Certificates for its `https` URLs.
    pub tls: Tls,
    /// The most connections to one of its URLs that are kept without a request; `None`: 100.
    pub pool_idle: Option<u32>,
    /// What of its answers is cached.
    pub cache: CacheRules,
    /// How calls spread over the endpoints of a store.
    pub balance: Balance,
    /// When an endpoint that fails is left out.
    pub outlier: Outlier,
    /// When a call that failed is sent once more.
    pub retry: Retry,
    /// How many calls one endpoint gets at a time.
    pub concurrency: Concurrency,
    /// How its endpoints are probed.
    pub health: Health,
    /// When calls to an endpoint fail fast.
    pub breaker: Breaker,
    /// What happens when its primary fails.
    pub failover: Failover,
}

/// What becomes of the tools of an upstream that cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnreachableTools {
    /// They stay listed, and a call answers an error that names the upstream.
    #[default]
    Keep,
    /// They are listed again when it is back.
    Hide,
}

/// Certificates for `https` URLs: paths of PEM files on the node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Tls {
    /// The authorities to trust; `None`: the system's.
    pub ca: Option<String>,
    /// The client's certificate with its chain, and its key.
    pub identity: Option<Identity>,
}

/// A certificate and its key: paths of PEM files on the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The certificate, its chain behind it.
    pub cert: String,
    /// Its key.
    pub key: String,
}

/// One URL or one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Where the MCP server is.
    #[serde(flatten)]
    pub kind: EndpointKind,
    /// Share of the traffic among endpoints of one store, at least 1.
    pub weight: u32,
}

/// How an endpoint is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointKind {
    /// A server at a URL.
    Http {
        /// Absolute, `http` or `https`.
        #[serde(serialize_with = "shown::url")]
        url: http::Uri,
        /// What is spoken there.
        transport: Transport,
    },
    /// A child process that speaks MCP on its standard streams.
    Stdio {
        /// Program and arguments; never empty.
        #[serde(serialize_with = "shown::command")]
        command: Vec<String>,
        /// Added to the node's own environment.
        env: BTreeMap<String, Reference>,
        /// Who shares a process.
        processes: Processes,
        /// Working directory; `None`: the node's own.
        cwd: Option<String>,
        /// A shared process that nobody used for this long is ended until somebody does; `None`: never.
        #[serde(serialize_with = "shown::maybe_duration")]
        idle_stop: Option<Duration>,
    },
}

/// What is spoken at a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Streamable HTTP.
    #[default]
    Http,
    /// HTTP+SSE of revision 2024-11-05.
    Sse,
}

/// Who shares a stdio process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Processes {
    /// Every client session.
    #[default]
    Shared,
    /// Nobody: one process for each client session.
    PerSession,
}

/// The backup store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Backup {
    /// Other endpoints; at least one.
    Endpoints(Vec<Endpoint>),
    /// The node's own on-disk copy, for reads.
    Snapshot,
}

/// How long a call to an upstream may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// The longest silence inside a call; progress ends a silence.
    #[serde(serialize_with = "shown::duration")]
    pub idle: Duration,
    /// The longest call.
    #[serde(serialize_with = "shown::duration")]
    pub total: Duration,
    /// The longest wait for a connection, a process start and its handshake.
    #[serde(serialize_with = "shown::duration")]
    pub connect: Duration,
    /// For calls of some tools, by the upstream's own name for them; `*` stands for any characters.
    pub tools: BTreeMap<String, ToolTimeouts>,
}

/// How long calls of one tool may take, where it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ToolTimeouts {
    /// See [`Timeouts::idle`].
    #[serde(serialize_with = "shown::maybe_duration")]
    pub idle: Option<Duration>,
    /// See [`Timeouts::total`].
    #[serde(serialize_with = "shown::maybe_duration")]
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            total: Duration::from_secs(600),
            connect: Duration::from_secs(10),
            tools: BTreeMap::new(),
        }
    }
}

/// What clients may do, on every route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Clients {
    /// Allowed `Origin` values, `scheme://host[:port]`; the port may be `*`. Loopback origins are always allowed.
    pub origins: Vec<String>,
    /// Allowed `Host` names beside loopback names and the bound address.
    pub hosts: Vec<String>,
    /// Largest request body, bytes.
    pub max_body_bytes: u64,
    /// Idle legacy sessions end after this long.
    #[serde(serialize_with = "shown::duration")]
    pub session_idle: Duration,
    /// Most legacy sessions a node holds.
    pub max_sessions: u32,
    /// Legacy sessions end this long after they began, on whichever node.
    #[serde(serialize_with = "shown::duration")]
    pub session_lifetime: Duration,
    /// How lists of many upstreams are kept and answered.
    pub catalogue: Catalogue,
    /// Serve clients of HTTP+SSE (2024-11-05) beside each route.
    pub sse: bool,
    /// When results say which store they came from.
    pub failover_metadata: FailoverMetadata,
}

/// How lists of many upstreams are kept and answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Catalogue {
    /// The most items on one page.
    pub page: u32,
    /// How often lists are fetched again from upstreams that do not say when they change.
    #[serde(serialize_with = "shown::duration")]
    pub refresh: Duration,
    /// How long a list waits for an upstream that never answered one.
    #[serde(serialize_with = "shown::duration")]
    pub wait: Duration,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self { page: 500, refresh: Duration::from_secs(5 * 60), wait: Duration::from_secs(10) }
    }
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            hosts: Vec::new(),
            max_body_bytes: 4 << 20,
            session_idle: Duration::from_secs(30 * 60),
            max_sessions: 10_000,
            catalogue: Catalogue::default(),
            session_lifetime: Duration::from_secs(24 * 3600),
            sse: false,
            failover_metadata: FailoverMetadata::default(),
        }
    }
}

/// What separates a prefix from a name on the aggregated route.
pub const SEPARATOR: &str = "__";
