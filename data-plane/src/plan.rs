//! The compiled, immutable configuration a node serves at one moment. A call pins one `Arc<Plan>` at the top
//! and carries it down, so that no call ever sees two configurations.
//!
//! Compiling resolves `env:` and `file:` references; what is missing on this node is reported, all of it, and
//! nothing changes. A plan never holds connections or processes: those live in the upstream layer, by
//! [`Upstream::key`], and outlive plans that leave their upstream alone.

use crate::{
    mcp::{Message, method},
    pattern::{Filter, Pattern},
    principal::Policy,
    tls,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use o1_proto::model::{self, EndpointKind, Fleet, Processes, Reference, Transport};
use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// The name of an applied configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Version {
    /// See the contract, `ConfigVersion.generation`.
    pub generation: u64,
    /// See the contract, `ConfigVersion.revision`.
    pub revision: u64,
    /// See the contract, `ConfigVersion.root_digest`.
    pub root_digest: Vec<u8>,
}

/// What a node serves.
#[derive(Debug)]
pub struct Plan {
    /// Which configuration this is; `None` before the first one.
    pub version: Option<Version>,
    /// Sorted by name.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Everything, at `/mcp`.
    pub everything: Arc<Server>,
    /// Virtual servers, at `/mcp/<name>`. Sorted by name.
    pub servers: Vec<Arc<Server>>,
    /// What clients may do.
    pub clients: model::Clients,
    /// Who may be one.
    pub auth: Policy,
    /// What is kept of answers.
    pub caching: model::Caching,
    /// How list requests are collected.
    pub batching: model::Batching,
    by_name: HashMap<String, usize>,
}

/// A selection of upstreams and of what they offer, under the names it has there.
#[derive(Debug)]
pub struct Server {
    /// `None`: the one of everything, at `/mcp`.
    pub name: Option<String>,
    /// In the order in which their items are listed.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Tools, by own name or `<upstream>__<own name>`.
    pub tools: Filter,
    /// Prompts, by the same names.
    pub prompts: Filter,
    /// Resources, by URI.
    pub resources: Filter,
    /// Own name or `<upstream>__<own name>` of a tool → its whole name here.
    pub rename: BTreeMap<String, String>,
    /// Own name or `<upstream>__<own name>` of a tool → its description here.
    pub describe: BTreeMap<String, String>,
}

/// One upstream with everything resolved.
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
    /// At least one.
    pub primary: Vec<Endpoint>,
    /// See [`model::Timeouts`].
    pub timeouts: model::Timeouts,
    /// Whether its tools disappear while it cannot be reached.
    pub hide_unreachable: bool,
    /// URI prefixes of resources that are its own although it does not list them.
    pub resources: Vec<String>,
    /// Connections to one of its URLs that are kept without a request.
    pub pool_idle: usize,
    /// Shares of the traffic, by the place of the endpoint in `primary`; at least 1.
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

/// Something this configuration needs and this node lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Name of the upstream.
    pub upstream: String,
    /// Inside it: `headers.authorization`.
    pub field: String,
    /// What is missing. Holds names, never values.
    pub what: String,
}

impl Plan {
    /// The plan before any configuration: no upstreams, default rules.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            version: None,
            upstreams: Vec::new(),
            everything: Arc::new(Server::everything(&[])),
            servers: Vec::new(),
            clients: model::Clients::default(),
            auth: Policy::Loopback,
            caching: model::Caching::default(),
            batching: model::Batching::default(),
            by_name: HashMap::new(),
        }
    }

    /// Compiles a configuration. Reads environment variables and files that it refers to.
    ///
    /// # Errors
    /// Everything this node lacks.
    pub fn compile(version: Version, fleet: &Fleet) -> Result<Self, Vec<Missing>> {
        let mut missing = Vec::new();
        let upstreams: Vec<_> =
            fleet.upstreams.iter().map(|one| Arc::new(Upstream::compile(one, &mut missing))).collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let by_name = upstreams.iter().enumerate().map(|(at, one)| (one.name.clone(), at)).collect();
        Ok(Self {
            version: Some(version),
            everything: Arc::new(Server::everything(&upstreams)),
            servers: fleet.servers.iter().map(|one| Arc::new(Server::compile(one, &upstreams))).collect(),
            upstreams,
            clients: fleet.clients.clone(),
            auth: Policy::compile(&fleet.auth),
            caching: fleet.caching.clone(),
            batching: fleet.batching,
            by_name,
        })
    }

    /// The virtual server of that name.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<&Arc<Server>> {
        self.servers.iter().find(|one| one.name.as_deref() == Some(name))
    }

    /// The upstream of that name.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.by_name.get(name).and_then(|at| self.upstreams.get(*at))
    }

    /// The upstream with this identity, if this plan serves it.
    #[must_use]
    pub fn by_identity(&self, identity: &Key) -> Option<&Arc<Upstream>> {
        self.upstreams.iter().find(|one| one.identity == *identity)
    }

    /// The upstream with this key, if this plan serves it.
    #[must_use]
    pub fn by_key(&self, key: &Key) -> Option<&Arc<Upstream>> {
        self.upstreams.iter().find(|one| one.key == *key)
    }

    /// True when this plan still serves exactly this upstream.
    #[must_use]
    pub fn serves(&self, upstream: &Upstream) -> bool {
        self.upstream(&upstream.name).is_some_and(|ours| ours.key == upstream.key)
    }
}

impl Server {
    fn everything(upstreams: &[Arc<Upstream>]) -> Self {
        Self {
            name: None,
            upstreams: upstreams.to_vec(),
            tools: Filter::everything(),
            prompts: Filter::everything(),
            resources: Filter::everything(),
            rename: BTreeMap::new(),
            describe: BTreeMap::new(),
        }
    }

    fn compile(model: &model::Server, upstreams: &[Arc<Upstream>]) -> Self {
        let named = |name: &String| upstreams.iter().find(|one| one.name == *name).cloned();
        Self {
            name: Some(model.name.clone()),
            upstreams: model.upstreams.iter().filter_map(named).collect(),
            tools: filter(&model.tools),
            prompts: filter(&model.prompts),
            resources: filter(&model.resources),
            rename: model.rename.clone(),
            describe: model.describe.clone(),
        }
    }
}

fn filter(selection: &model::Selection) -> Filter {
    let patterns = |texts: &[String]| texts.iter().map(|text| Pattern::new(text)).collect();
    Filter { allow: patterns(&selection.allow), deny: patterns(&selection.deny) }
}

impl Upstream {
    fn compile(model: &model::Upstream, missing: &mut Vec<Missing>) -> Self {
        let mut at = Resolver { upstream: &model.name, missing, hasher: blake3::Hasher::new() };
        let headers = at.headers(&model.headers);
        let tls = at.tls(&model.tls);
        let primary: Vec<_> =
            model.primary.iter().map(|endpoint| at.endpoint(endpoint, &headers, tls.as_ref())).collect();
        let mut hasher = at.hasher;
        // Secrets enter the key by their value: a rotated one is another upstream, with fresh connections.
        hasher.update(format!("{model:?}").as_bytes());
        let prefix =
            model.prefix.as_ref().map_or(String::new(), |prefix| format!("{prefix}{}", model::SEPARATOR));
        Self {
            key: hasher.finalize().into(),
            identity: identity(model),
            name: model.name.clone(),
            prefix,
            primary,
            hide_unreachable: model.unreachable_tools == model::UnreachableTools::Hide,
            resources: model.resources.clone(),
            timeouts: model.timeouts.clone(),
            pool_idle: model.pool_idle.map_or(POOL_IDLE, |idle| idle as usize),
            weights: model.primary.iter().map(|endpoint| endpoint.weight.max(1)).collect(),
            cache: model.cache.clone(),
            balance: model.balance.clone(),
            outlier: model.outlier.clone(),
            retry: model.retry.clone(),
            concurrency: model.concurrency.clone(),
        }
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
        let Some(Endpoint::Http { url, .. }) = self.primary.get(at) else { return None };
        let hash = blake3::hash(url.to_string().as_bytes());
        hash.as_bytes().first_chunk().map(|mark| u64::from_be_bytes(*mark))
    }

    /// The place of the endpoint with this mark.
    #[must_use]
    pub fn endpoint_marked(&self, mark: u64) -> Option<usize> {
        (0..self.primary.len()).find(|at| self.endpoint_mark(*at) == Some(mark))
    }

    /// True when its endpoints speak Streamable HTTP, so that messages can pass as the bytes they are.
    #[must_use]
    pub fn is_http(&self) -> bool {
        self.primary.iter().all(|one| matches!(one, Endpoint::Http { transport: Transport::Http, .. }))
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

struct Resolver<'a> {
    upstream: &'a str,
    missing: &'a mut Vec<Missing>,
    hasher: blake3::Hasher,
}

impl Resolver<'_> {
    fn endpoint(
        &mut self,
        endpoint: &model::Endpoint,
        headers: &HeaderMap,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> Endpoint {
        match &endpoint.kind {
            EndpointKind::Http { url, transport } => Endpoint::Http {
                url: url.clone(),
                transport: *transport,
                headers: headers.clone(),
                tls: tls.cloned(),
            },
            EndpointKind::Stdio { command, env, processes, cwd, idle_stop } => Endpoint::Stdio {
                command: command.clone(),
                env: env
                    .iter()
                    .filter_map(|(name, value)| {
                        Some((name.clone(), self.value(&format!("env.{name}"), value)?))
                    })
                    .collect(),
                cwd: cwd.as_ref().map(PathBuf::from),
                processes: *processes,
                idle_stop: *idle_stop,
            },
        }
    }

    /// `None` where nothing is said, and where something is wrong.
    fn tls(&mut self, model: &model::Tls) -> Option<Arc<rustls::ClientConfig>> {
        if *model == model::Tls::default() {
            return None;
        }
        let lacking = self.missing.len();
        let ca = model.ca.as_ref().and_then(|path| self.file("tls.ca", path));
        let identity = model.identity.as_ref().and_then(|one| {
            let (cert, key) = (self.file("tls.cert", &one.cert), self.file("tls.key", &one.key));
            cert.zip(key)
        });
        if self.missing.len() > lacking {
            return None;
        }
        let identity = identity.as_ref().map(|(cert, key)| (&cert[..], &key[..]));
        match tls::client(ca.as_deref(), identity) {
            Ok(config) => Some(Arc::new(config)),
            Err(tls::Fault { key, what }) => {
                let path = match (key, &model.identity) {
                    ("cert", Some(one)) => &one.cert,
                    ("key", Some(one)) => &one.key,
                    _ => model.ca.as_deref().unwrap_or_default(),
                };
                self.lack(format!("tls.{key}"), format!("file {path} {what}"));
                None
            }
        }
    }

    fn file(&mut self, field: &str, path: &str) -> Option<Vec<u8>> {
        match fs::read(path) {
            Ok(content) => {
                self.hash(&content);
                Some(content)
            }
            Err(error) => {
                self.lack(field.to_owned(), format!("file {path} cannot be read on this node: {error}"));
                None
            }
        }
    }

    fn headers(&mut self, headers: &BTreeMap<String, Reference>) -> HeaderMap {
        let mut resolved = HeaderMap::new();
        for (name, reference) in headers {
            let field = format!("headers.{name}");
            let Some(value) = self.value(&field, reference) else { continue };
            match (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value)) {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    resolved.insert(name, value);
                }
                (Err(_), _) => self.lack(field, format!("`{name}` is not a header name")),
                (_, Err(_)) => self.lack(
                    field,
                    "the value cannot stand in a header (line end or control character)".to_owned(),
                ),
            }
        }
        resolved
    }

    fn value(&mut self, field: &str, reference: &Reference) -> Option<String> {
        let found = match reference {
            Reference::Literal(value) => Ok(value.clone()),
            Reference::Env(name) => std::env::var(name).map_err(|error| match error {
                std::env::VarError::NotPresent => {
                    format!("environment variable {name} is not set on this node")
                }
                std::env::VarError::NotUnicode(_) => format!("environment variable {name} is not UTF-8"),
            }),
            Reference::File(path) => fs::read_to_string(path)
                .map(|text| text.strip_suffix('\n').map_or(text.clone(), str::to_owned))
                .map_err(|error| format!("file {path} cannot be read on this node: {error}")),
        };
        match found {
            Ok(value) => {
                self.hash(value.as_bytes());
                Some(value)
            }
            Err(what) => {
                self.lack(field.to_owned(), what);
                None
            }
        }
    }

    fn hash(&mut self, value: &[u8]) {
        self.hasher.update(&(value.len() as u64).to_be_bytes());
        self.hasher.update(value);
    }

    fn lack(&mut self, field: String, what: String) {
        self.missing.push(Missing { upstream: self.upstream.to_owned(), field, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use o1_proto::model::Endpoint as ModelEndpoint;

    fn fleet(token: &Reference) -> Fleet {
        let upstream = |name: &str| model::Upstream {
            name: name.into(),
            prefix: Some(name.into()),
            primary: vec![ModelEndpoint {
                kind: EndpointKind::Http {
                    url: "http://127.0.0.1:1/mcp".parse().unwrap(),
                    transport: Transport::Http,
                },
                weight: 1,
            }],
            backup: None,
            headers: [("authorization".to_owned(), token.clone())].into(),
            ..model::Upstream::default()
        };
        Fleet { upstreams: vec![upstream("a"), upstream("b")], ..Fleet::default() }
    }

    fn timed(tools: &[(&str, u64)]) -> Arc<Upstream> {
        let mut fleet = fleet(&Reference::Literal("t".into()));
        let total = |secs| model::ToolTimeouts { idle: None, total: Some(Duration::from_secs(secs)) };
        fleet.upstreams[0].timeouts.tools =
            tools.iter().map(|(name, secs)| ((*name).to_owned(), total(*secs))).collect();
        Plan::compile(Version::default(), &fleet).unwrap().upstreams[0].clone()
    }

    #[test]
    fn a_tool_has_the_times_of_its_name_then_of_its_longest_pattern() {
        let upstream = timed(&[("render", 1), ("ren*", 2), ("r*", 3)]);
        let call = |method: &str, tool: &str| {
            let text =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"{tool}"}}}}"#);
            upstream.limits(&Message::parse(&bytes::Bytes::from(text)).unwrap()).total.as_secs()
        };
        assert_eq!(["render", "rent", "rest", "other"].map(|tool| call("tools/call", tool)), [1, 2, 3, 600]);
        assert_eq!(call("prompts/get", "render"), 600, "only tools");
    }

    #[test]
    fn everything_a_node_lacks_is_named_at_once_and_no_value_is() {
        let token = Reference::Env("O1_TEST_SURELY_UNSET".into());
        let missing = Plan::compile(Version::default(), &fleet(&token)).unwrap_err();
        assert_eq!(missing.len(), 2);
        assert_eq!(missing[1].upstream, "b");
        assert_eq!(missing[0].field, "headers.authorization");
        assert_eq!(missing[0].what, "environment variable O1_TEST_SURELY_UNSET is not set on this node");
    }

    #[test]
    fn an_upstream_keeps_its_key_until_its_meaning_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = Reference::File(path.display().to_string());
        fs::write(&path, "one\n").unwrap();
        let key = || Plan::compile(Version::default(), &fleet(&token)).unwrap().upstreams[0].key;
        let first = key();
        assert_eq!(key(), first);
        fs::write(&path, "two\n").unwrap();
        assert_ne!(key(), first, "a rotated secret is another upstream");
    }

    #[test]
    fn a_plan_never_shows_secrets() {
        let plan = Plan::compile(Version::default(), &fleet(&Reference::Literal("s3cret".into()))).unwrap();
        assert!(!format!("{plan:?}").contains("s3cret"));
    }
}
