//! One store of an upstream: where its endpoints are, and every rule for calls to it.

use super::{Missing, resolve::Resolver};
use crate::{
    mcp::{Message, method},
    pattern::Pattern,
};
use http::HeaderMap;
use o1_proto::model::{self, EndpointKind, Processes, Store, Transport};
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

/// One store of an upstream with everything resolved. Plans and routes name the primary; its backup hangs on it.
pub struct Upstream {
    /// Equal keys, equal upstreams: a new plan with the same key keeps connections, processes and sessions.
    pub key: Key,
    /// Equal identities, the same upstream for a client, whatever its secrets, its timeouts and its prefix are:
    /// sessions with it go on.
    pub identity: Key,
    /// See [`model::Upstream::name`].
    pub name: String,
    /// What stands before its names on the aggregated route, separator included; empty for none.
    pub prefix: String,
    /// Which side of the upstream this is.
    pub store: Store,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// Where to turn when this one fails. Only a primary has one.
    pub backup: Option<Backup>,
    /// See [`model::Timeouts`].
    pub timeouts: model::Timeouts,
    /// Whether its tools disappear while it cannot be reached.
    pub hide_unreachable: bool,
    /// URI prefixes of resources that are its own although it does not list them.
    pub resources: Vec<String>,
    /// Connections to one of its URLs that are kept without a request.
    pub pool_idle: usize,
    /// Shares of the traffic, by the place of the endpoint in `endpoints`; at least 1.
    pub weights: Vec<u32>,
    /// See [`model::CacheRules`].
    pub cache: model::CacheRules,
    /// See [`model::Balance`].
    pub balance: model::Balance,
    /// See [`model::Outlier`].
    pub outlier: model::Outlier,
    /// See [`model::Retry`].
    pub retry: model::Retry,
    /// See [`model::Concurrency`].
    pub concurrency: model::Concurrency,
    /// See [`model::Health`].
    pub health: model::Health,
    /// See [`model::Breaker`].
    pub breaker: model::Breaker,
    /// See [`model::Failover`].
    pub failover: model::Failover,
}

/// The other side of an upstream.
#[derive(Debug, Clone)]
pub enum Backup {
    /// Other endpoints.
    Endpoints(Arc<Upstream>),
    /// What this node kept of the primary's answers.
    Snapshot,
}

/// How long one call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest silence.
    pub idle: Duration,
    /// The longest call.
    pub total: Duration,
}

const POOL_IDLE: usize = 100;

/// Content address of a resolved upstream.
pub type Key = [u8; 32];

/// One endpoint with everything resolved.
pub enum Endpoint {
    /// A server at a URL.
    Http {
        /// Absolute URL.
        url: http::Uri,
        /// What is spoken there.
        transport: Transport,
        /// Credentials and the like, marked sensitive.
        headers: HeaderMap,
        /// With `https`: whom to trust and what to show; `None`: the system's authorities and nothing.
        tls: Option<Arc<rustls::ClientConfig>>,
    },
    /// A child process.
    Stdio {
        /// Program and arguments.
        command: Vec<String>,
        /// Resolved additions to the environment.
        env: Vec<(String, String)>,
        /// Working directory.
        cwd: Option<PathBuf>,
        /// Who shares a process.
        processes: Processes,
        /// After which idleness a shared process ends.
        idle_stop: Option<Duration>,
    },
}

impl Upstream {
    pub(super) fn compile(model: &model::Upstream, missing: &mut Vec<Missing>) -> Self {
        let mut at = Resolver::new(&model.name, missing);
        let headers = at.headers(&model.headers);
        let tls = at.tls(&model.tls);
        let mut endpoints = |models: &[model::Endpoint]| -> Vec<_> {
            models.iter().map(|endpoint| at.endpoint(endpoint, &headers, tls.as_ref())).collect()
        };
        let primary = endpoints(&model.primary);
        let backup = match &model.backup {
            Some(model::Backup::Endpoints(models)) => Some(endpoints(models)),
            _ => None,
        };
        let mut hasher = at.into_hash();
        // Secrets enter the key by their value: a rotated one is another upstream, with fresh connections.
        hasher.update(format!("{model:?}").as_bytes());
        let key = hasher.finalize().into();
        let backup = match (&model.backup, backup) {
            (Some(model::Backup::Endpoints(models)), Some(endpoints)) => {
                hasher.update(b"backup");
                let key = hasher.finalize().into();
                let backup = Self::store(model, Store::Backup, key, endpoints, models, None);
                Some(Backup::Endpoints(Arc::new(backup)))
            }
            (Some(model::Backup::Snapshot), _) => Some(Backup::Snapshot),
            _ => None,
        };
        Self::store(model, Store::Primary, key, primary, &model.primary, backup)
    }

    fn store(
        model: &model::Upstream,
        store: Store,
        key: Key,
        endpoints: Vec<Endpoint>,
        models: &[model::Endpoint],
        backup: Option<Backup>,
    ) -> Self {
        let prefix =
            model.prefix.as_ref().map_or(String::new(), |prefix| format!("{prefix}{}", model::SEPARATOR));
        Self {
            key,
            identity: identity(model),
            name: model.name.clone(),
            prefix,
            store,
            endpoints,
            backup,
            hide_unreachable: model.unreachable_tools == model::UnreachableTools::Hide,
            resources: model.resources.clone(),
            timeouts: model.timeouts.clone(),
            pool_idle: model.pool_idle.map_or(POOL_IDLE, |idle| idle as usize),
            weights: models.iter().map(|endpoint| endpoint.weight.max(1)).collect(),
            cache: model.cache.clone(),
            balance: model.balance.clone(),
            outlier: model.outlier.clone(),
            retry: model.retry.clone(),
            concurrency: model.concurrency.clone(),
            health: model.health.clone(),
            breaker: model.breaker,
            failover: model.failover.clone(),
        }
    }

    /// The backup, if it has endpoints.
    #[must_use]
    pub fn backup_store(&self) -> Option<&Arc<Self>> {
        match &self.backup {
            Some(Backup::Endpoints(backup)) => Some(backup),
            Some(Backup::Snapshot) | None => None,
        }
    }

    /// This side of the upstream, if it has endpoints.
    #[must_use]
    pub fn side(self: &Arc<Self>, store: Store) -> Option<&Arc<Self>> {
        match store {
            Store::Primary => Some(self),
            Store::Backup => self.backup_store(),
        }
    }

    /// The endpoint with this mark, on whichever side.
    #[must_use]
    pub fn anywhere_marked(self: &Arc<Self>, mark: u64) -> Option<(Store, usize)> {
        [Store::Primary, Store::Backup]
            .into_iter()
            .find_map(|store| Some((store, self.side(store)?.endpoint_marked(mark)?)))
    }

    /// Whether a request changes nothing at the server: by its method, or because the operator says so of the tool.
    #[must_use]
    pub fn only_reads(&self, message: &Message) -> bool {
        if message.method() != method::TOOLS_CALL {
            return method::ONLY_READS.contains(&message.method())
                || method::list_key(message.method()).is_some();
        }
        let named = self.failover.read_tools.iter().chain(&self.retry.tools);
        let is_cached = |life: &model::Life| *life != model::Life::For(Duration::ZERO);
        let cached = self.cache.tools.iter().filter(|(_, life)| is_cached(life)).map(|(name, _)| name);
        self.tool_is(message, named.chain(cached))
    }

    /// Whether a call may be kept on disk and run later.
    #[must_use]
    pub fn may_journal(&self, message: &Message) -> bool {
        match &self.failover.writes {
            model::Writes::Journal(tools) if message.method() == method::TOOLS_CALL => {
                self.tool_is(message, tools.iter())
            }
            _ => false,
        }
    }

    fn tool_is<'a>(&self, message: &Message, mut patterns: impl Iterator<Item = &'a String>) -> bool {
        let name = message.param_str(&["name"]).ok().flatten();
        name.is_some_and(|name| patterns.any(|pattern| Pattern::new(pattern).fits(&name)))
    }

    /// One that only has a name, for tests.
    #[cfg(test)]
    pub(crate) fn bare(name: &str) -> Self {
        let model = model::Upstream { name: name.to_owned(), ..model::Upstream::default() };
        Self::compile(&model, &mut Vec::new())
    }

    /// How long a call with this message may take.
    #[must_use]
    pub fn limits(&self, message: &Message) -> Limits {
        let own = self.tool_timeouts(message).unwrap_or_default();
        let (idle, total) =
            (own.idle.unwrap_or(self.timeouts.idle), own.total.unwrap_or(self.timeouts.total));
        Limits { idle, total }
    }

    /// The exact name wins, then the longest pattern.
    fn tool_timeouts(&self, message: &Message) -> Option<model::ToolTimeouts> {
        let tools = &self.timeouts.tools;
        if tools.is_empty() || message.method() != method::TOOLS_CALL {
            return None;
        }
        let tool = message.param_str(&["name"]).ok()??;
        let longest = || {
            let fitting = tools.iter().filter(|(pattern, _)| Pattern::new(pattern).fits(&tool));
            fitting.max_by_key(|(pattern, _)| pattern.len()).map(|(_, found)| found)
        };
        tools.get(&*tool).or_else(longest).copied()
    }

    /// What tells one HTTP endpoint from the others on every node, whatever its place in the list.
    #[must_use]
    pub fn endpoint_mark(&self, at: usize) -> Option<u64> {
        let Some(Endpoint::Http { url, .. }) = self.endpoints.get(at) else { return None };
        let hash = blake3::hash(url.to_string().as_bytes());
        hash.as_bytes().first_chunk().map(|mark| u64::from_be_bytes(*mark))
    }

    /// The place of the endpoint with this mark.
    #[must_use]
    pub fn endpoint_marked(&self, mark: u64) -> Option<usize> {
        (0..self.endpoints.len()).find(|at| self.endpoint_mark(*at) == Some(mark))
    }

    /// True when its endpoints speak Streamable HTTP, so that messages can pass as the bytes they are.
    #[must_use]
    pub fn is_http(&self) -> bool {
        self.endpoints.iter().all(|one| matches!(one, Endpoint::Http { transport: Transport::Http, .. }))
    }
}

/// What an upstream is: its name, and what is run or reached where.
fn identity(model: &model::Upstream) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{:?}", model.name).as_bytes());
    for endpoint in &model.primary {
        let place = match &endpoint.kind {
            EndpointKind::Http { url, transport } => format!("{url:?} {transport:?}"),
            EndpointKind::Stdio { command, cwd, .. } => format!("{command:?} {cwd:?}"),
        };
        hasher.update(place.as_bytes());
    }
    hasher.finalize().into()
}

/// Name only: headers and environment are secrets.
impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name).finish_non_exhaustive()
    }
}
