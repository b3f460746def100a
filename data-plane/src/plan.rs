//! The compiled, immutable configuration a node serves at one moment. A call pins one `Arc<Plan>` at the top
//! and carries it down, so that no call ever sees two configurations.
//!
//! Compiling resolves `env:` and `file:` references; what is missing on this node is reported, all of it, and
//! nothing changes. A plan never holds connections or processes: those live in the upstream layer, by
//! [`Upstream::key`], and outlive plans that leave their upstream alone.

use crate::{
    pattern::{Filter, Pattern},
    principal::Policy,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use o1_proto::model::{self, EndpointKind, Fleet, Processes, Reference};
use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    path::PathBuf,
    sync::Arc,
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
}

/// Content address of a resolved upstream.
pub type Key = [u8; 32];

/// One endpoint with everything resolved.
pub enum Endpoint {
    /// Streamable HTTP.
    Http {
        /// Absolute URL.
        url: http::Uri,
        /// Credentials and the like, marked sensitive.
        headers: HeaderMap,
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
        let primary: Vec<_> = model.primary.iter().map(|endpoint| at.endpoint(endpoint, &headers)).collect();
        let mut hasher = at.hasher;
        // Secrets enter the key by their value: a rotated one is another upstream, with fresh connections.
        hasher.update(format!("{model:?}").as_bytes());
        let prefix =
            model.prefix.as_ref().map_or(String::new(), |prefix| format!("{prefix}{}", model::SEPARATOR));
        Self {
            key: hasher.finalize().into(),
            name: model.name.clone(),
            prefix,
            primary,
            timeouts: model.timeouts,
            hide_unreachable: model.unreachable_tools == model::UnreachableTools::Hide,
            resources: model.resources.clone(),
        }
    }

    /// True when its endpoints speak HTTP, so that messages can pass as the bytes they are.
    #[must_use]
    pub fn is_http(&self) -> bool {
        matches!(self.primary.first(), Some(Endpoint::Http { .. }))
    }
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
    fn endpoint(&mut self, endpoint: &model::Endpoint, headers: &HeaderMap) -> Endpoint {
        match &endpoint.kind {
            EndpointKind::Http { url } => Endpoint::Http { url: url.clone(), headers: headers.clone() },
            EndpointKind::Stdio { command, env, processes, cwd } => Endpoint::Stdio {
                command: command.clone(),
                env: env
                    .iter()
                    .filter_map(|(name, value)| {
                        Some((name.clone(), self.value(&format!("env.{name}"), value)?))
                    })
                    .collect(),
                cwd: cwd.as_ref().map(PathBuf::from),
                processes: *processes,
            },
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
                self.hasher.update(&(value.len() as u64).to_be_bytes());
                self.hasher.update(value.as_bytes());
                Some(value)
            }
            Err(what) => {
                self.lack(field.to_owned(), what);
                None
            }
        }
    }

    fn lack(&mut self, field: String, what: String) {
        self.missing.push(Missing { upstream: self.upstream.to_owned(), field, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use o1_proto::model::{Endpoint as ModelEndpoint, Timeouts};

    fn fleet(token: &Reference) -> Fleet {
        let upstream = |name: &str| model::Upstream {
            name: name.into(),
            prefix: Some(name.into()),
            primary: vec![ModelEndpoint {
                kind: EndpointKind::Http { url: "http://127.0.0.1:1/mcp".parse().unwrap() },
                weight: 1,
            }],
            backup: None,
            headers: [("authorization".to_owned(), token.clone())].into(),
            timeouts: Timeouts::default(),
            unreachable_tools: model::UnreachableTools::Keep,
            resources: Vec::new(),
        };
        Fleet { upstreams: vec![upstream("a"), upstream("b")], ..Fleet::default() }
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
