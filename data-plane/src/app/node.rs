//! The rest of the node, as the control path sees it.

use crate::{
    calls::{Found, Wanted},
    context::Context,
    control::{
        self, AppliedVersion, EndpointStats, LocalProblem, NodeStats, NotAnswered, Reachability,
        UpstreamStats,
    },
    current,
    failover::{Failover, log::Log as FailoverLog},
    inventory::Inventory,
    logs::{Log, Logs},
    metrics::{self, LATENCY_BOUNDS_US, Metrics, Sample},
    path::Path,
    plan::{Endpoint, Plan, Upstream, Version},
    principal::{Access, Policy},
    purge::{Order, Purged},
    seal::{self, Keyring},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use o1_process::Readiness;
use o1_proto::model::{DecisionState, Directive, Event, FailoverState, Fleet, StoreHealth};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};
use tokio::sync::watch;

pub(super) struct Node {
    writer: current::Writer,
    reader: current::Reader,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    keyring: Arc<Keyring>,
    logs: Arc<Logs>,
    path: Arc<Path>,
    listen: SocketAddr,
    /// What was applied last. Locked while plans are compiled and swapped: one at a time.
    applied: Mutex<Option<(Version, Arc<Fleet>)>>,
    failover: Arc<Failover>,
}

impl Node {
    pub(super) fn new(
        writer: current::Writer,
        context: &Context,
        path: Arc<Path>,
        failover: Arc<Failover>,
        listen: SocketAddr,
    ) -> Self {
        Self {
            path,
            listen,
            writer,
            reader: context.current.clone(),
            metrics: context.metrics.clone(),
            readiness: context.readiness.clone(),
            keyring: context.keyring.clone(),
            applied: Mutex::default(),
            failover,
            logs: context.logs.clone(),
        }
    }

    /// The configuration in force.
    pub(super) fn fleet(&self) -> Option<Arc<Fleet>> {
        self.applied().as_ref().map(|(_, fleet)| fleet.clone())
    }

    /// Reads what the configuration in force refers to again. Upstreams whose credentials changed start anew;
    /// when something cannot be used, all stays as it is. Blocks on the disk.
    pub(super) fn refresh(&self) {
        let applied = self.applied();
        let Some((version, fleet)) = &*applied else { return };
        match Plan::compile(version.clone(), fleet) {
            Ok(plan) => {
                let running = self.reader.plan();
                let changed: Vec<_> =
                    plan.upstreams.iter().filter(|one| !running.serves(one)).map(|one| &*one.name).collect();
                if !changed.is_empty() {
                    tracing::info!(upstreams = changed.join(", "), "files changed: their content is in use");
                    self.writer.swap(Arc::new(plan));
                }
            }
            Err(missing) => {
                let said: Vec<_> = missing
                    .iter()
                    .map(|one| format!("{} {}: {}", one.upstream, one.field, one.what))
                    .collect();
                tracing::warn!(
                    problems = said.join("; "),
                    "files changed and cannot be used: the content before stays in use"
                );
            }
        }
    }

    fn applied(&self) -> MutexGuard<'_, Option<(Version, Arc<Fleet>)>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl control::Node for Node {
    fn apply(&self, version: AppliedVersion, fleet: Fleet) -> Result<(), Vec<LocalProblem>> {
        let AppliedVersion { generation, revision, root_digest } = version;
        let version = Version { generation, revision, root_digest };
        let mut applied = self.applied();
        let plan = Plan::compile(version.clone(), &fleet).map_err(|missing| {
            let problem = |one: crate::plan::Missing| LocalProblem {
                upstream: Some(one.upstream),
                field: one.field,
                what: one.what,
                local_dependency: true,
            };
            missing.into_iter().map(problem).collect::<Vec<_>>()
        })?;
        if let Some(problem) = exposed(self.listen, &plan.auth) {
            return Err(vec![problem]);
        }
        self.writer.swap(Arc::new(plan));
        *applied = Some((version, Arc::new(fleet)));
        Ok(())
    }

    fn stats(&self) -> NodeStats {
        let plan = self.reader.plan();
        let samples = self.metrics.samples();
        let served = samples.into_iter().filter_map(|(name, one)| Some((plan.upstream(&name)?, one)));
        NodeStats {
            sessions: u64::try_from(self.metrics.sessions.load(Ordering::Relaxed)).unwrap_or(0),
            resident_bytes: resident_bytes(),
            upstreams: served.map(|(upstream, sample)| upstream_stats(upstream, sample)).collect(),
        }
    }

    fn inventory(
        &self,
        server: Option<String>,
        principal: Option<String>,
    ) -> BoxFuture<'_, Result<Inventory, NotAnswered>> {
        let access = match principal {
            None => Ok(Access::everything()),
            Some(name) => named(&self.reader.plan().auth, &name),
        };
        let inventory = async move {
            let found = self.path.below().inventory(server.as_deref(), &access?).await;
            found.ok_or_else(|| {
                let plan = self.reader.plan();
                let names = plan.servers.iter().filter_map(|one| one.name.as_deref());
                unknown("server", &server.unwrap_or_default(), names)
            })
        };
        inventory.boxed()
    }

    fn log(&self, upstream: &str) -> Result<Option<Arc<Log>>, NotAnswered> {
        let plan = self.reader.plan();
        let found = served(&plan, upstream)?;
        let stores = std::iter::once(found).chain(found.backup_store());
        let mut endpoints = stores.flat_map(|store| &store.endpoints);
        let has_processes = endpoints.any(|one| matches!(one, Endpoint::Stdio { .. }));
        Ok(has_processes.then(|| self.logs.of(upstream)))
    }

    fn purge(&self, order: Order) -> BoxFuture<'_, Result<Purged, NotAnswered>> {
        let purged = async move {
            if let Some(name) = &order.upstream {
                served(&self.reader.plan(), name)?;
            }
            Ok(self.path.below().purge(&order).await)
        };
        purged.boxed()
    }

    fn calls(&self, wanted: &Wanted) -> Result<Found, NotAnswered> {
        if let Some(name) = &wanted.upstream {
            served(&self.reader.plan(), name)?;
        }
        Ok(self.metrics.calls(wanted))
    }

    fn draining(&self) -> bool {
        self.readiness.is_draining()
    }

    fn order_drain(&self, drain: bool) {
        if self.readiness.order_drain(drain) {
            tracing::warn!(drain, "the control plane orders to take no new sessions, or to take them again");
        }
    }

    fn drain_ordered(&self) -> bool {
        self.readiness.is_drain_ordered()
    }

    fn seal_with(&self, keys: &[seal::Key]) {
        self.keyring.replace(keys);
    }

    fn directed(&self, directives: Vec<Directive>) {
        self.failover.directed(directives);
    }

    fn failover(&self) -> Vec<(String, FailoverState)> {
        self.failover.report()
    }

    fn observations(&self) -> (bool, Vec<(String, StoreHealth, StoreHealth)>) {
        self.failover.observations()
    }

    fn failover_changed(&self) -> watch::Receiver<u64> {
        self.failover.changed()
    }

    fn decisions(&self, state: DecisionState) {
        self.failover.decisions(state);
    }

    fn control_plane(&self, connected: bool) {
        self.failover.connected(connected);
    }
}

/// The failover log as the control path sees it.
impl control::EventSource for FailoverLog {
    fn oldest(&self) -> Option<control::Position> {
        self.oldest()
    }

    fn newest(&self) -> Option<control::Position> {
        self.newest()
    }

    fn after(&self, after: control::Position, limit: usize) -> Vec<(u64, Event)> {
        self.events_after(after, limit)
    }

    fn delivered(&self, through: control::Position) {
        self.delivered(through);
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.events()
    }
}

/// What a static token of this name gives.
fn named(auth: &Policy, name: &str) -> Result<Access, NotAnswered> {
    let Policy::Required(required) = auth else { return Err(unknown("token", name, [].into_iter())) };
    let names = || required.tokens.iter().filter_map(|(_, principal)| principal.id.strip_prefix("token:"));
    let found = required.tokens.iter().find(|(_, one)| one.id.strip_prefix("token:") == Some(name));
    found.map(|(_, one)| one.access.clone()).ok_or_else(|| unknown("token", name, names()))
}

/// The upstream of that name.
fn served<'p>(plan: &'p Plan, name: &str) -> Result<&'p Arc<Upstream>, NotAnswered> {
    let names = plan.upstreams.iter().map(|one| one.name.as_str());
    plan.upstream(name).ok_or_else(|| unknown("upstream", name, names))
}

fn unknown<'a>(noun: &str, name: &str, known: impl Iterator<Item = &'a str>) -> NotAnswered {
    let known: Vec<_> = known.collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    NotAnswered::NotFound(format!("no {noun} `{name}`; there are: {known}"))
}

/// Nobody is asked who they are, and more than this machine can come: that takes a word of the operator's.
fn exposed(listen: SocketAddr, auth: &Policy) -> Option<LocalProblem> {
    if !matches!(auth, Policy::Loopback) || listen.ip().to_canonical().is_loopback() {
        return None;
    }
    Some(LocalProblem {
        upstream: None,
        field: "clients.auth".to_owned(),
        what: format!(
            "this node listens on {listen}, which other machines reach, and nothing says who may use it: set \
             `clients.auth` to tokens or an issuer, or to `none` to let in everybody, or listen on 127.0.0.1"
        ),
        // Another `--listen` is enough.
        local_dependency: true,
    })
}

fn upstream_stats(upstream: &Upstream, sample: Sample) -> UpstreamStats {
    let stores = std::iter::once(upstream).chain(upstream.backup_store().map(|backup| &**backup));
    let labels: Vec<_> = stores.flat_map(metrics::labels).collect();
    let endpoint = |(endpoint, sample)| EndpointStats { gone: !labels.contains(&endpoint), endpoint, sample };
    UpstreamStats {
        upstream: upstream.name.clone(),
        requests: sample.requests,
        errors: sample.errors,
        timeouts: sample.timeouts,
        application_errors: sample.application_errors,
        bytes_in: sample.bytes_in,
        bytes_out: sample.bytes_out,
        active_requests: sample.active,
        latency_buckets: sample.latency,
        latency_bounds_us: LATENCY_BOUNDS_US.to_vec(),
        latency_sum_us: sample.latency_sum_us,
        reachability: match sample.reach.reachable {
            None => Reachability::Unknown,
            Some(true) => Reachability::Reachable,
            Some(false) => Reachability::Unreachable,
        },
        since: sample.reach.since,
        last_error: Some(sample.reach.error).filter(|error| !error.is_empty()),
        legacy: sample.legacy,
        modern: sample.modern,
        tools: sample.tools,
        cache: sample.cache,
        batches: sample.batches,
        endpoints: sample.endpoints.into_iter().map(endpoint).collect(),
    }
}

/// Resident memory of this process, from the kernel's own count of pages.
pub(super) fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}
