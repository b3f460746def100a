//! The compiled, immutable configuration a node serves at one moment. A call pins one `Arc<Plan>` at the top
//! and carries it down, so that no call ever sees two configurations.
//!
//! Compiling resolves `env:` and `file:` references; what is missing on this node is reported, all of it, and
//! nothing changes. A plan never holds connections or processes: those live in the upstream layer, by
//! [`Upstream::key`], and outlive plans that leave their upstream alone.

mod resolve;
mod upstream;

pub use upstream::{Backup, Endpoint, Key, Limits, Upstream};

use crate::{
    pattern::{Filter, Pattern},
    principal::Policy,
};
use o1_proto::model::{self, Fleet, Store};
use std::{
    collections::{BTreeMap, HashMap},
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

    /// The store with this key, if this plan serves it.
    #[must_use]
    pub fn by_key(&self, key: &Key) -> Option<&Arc<Upstream>> {
        self.stores().find(|one| one.key == *key)
    }

    /// Every store that has endpoints: primaries, and backups that are more than a snapshot.
    pub fn stores(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.iter().flat_map(|one| std::iter::once(one).chain(one.backup_store()))
    }

    /// True when this plan still serves exactly this store.
    #[must_use]
    pub fn serves(&self, upstream: &Upstream) -> bool {
        let ours = self.upstream(&upstream.name);
        let ours = ours.and_then(|ours| match upstream.store {
            Store::Primary => Some(ours),
            Store::Backup => ours.backup_store(),
        });
        ours.is_some_and(|ours| ours.key == upstream.key)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::Message;
    use o1_proto::model::{Endpoint as ModelEndpoint, EndpointKind, Reference, Transport};
    use std::{fs, time::Duration};

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
