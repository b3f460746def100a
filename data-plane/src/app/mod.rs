//! The composition root: options in, bound sockets and running tasks out. The only place that sees everything.

mod admin;
mod node;
mod references;

use crate::{
    context::Context,
    control::{self, Identity},
    current,
    failover::{Failover, log::Log},
    listener::{self, Workers},
    metrics::Metrics,
    path,
    snapshot::{self, Snapshots},
};
use o1_process::{Admin, OnExit, Readiness, ReadyGuard, StateDir, Tasks, build_info::VERSION};
use o1_proto::model::shown;
use serde::{Serialize, Serializer};
use std::{collections::BTreeMap, io, net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration};
use tokio::{net::TcpListener, runtime::Handle};
use tokio_util::sync::CancellationToken;

/// How long the control plane may take to hear that the node leaves.
const GOODBYE_WITHIN: Duration = Duration::from_secs(3);

/// What an operator says when starting a node.
#[derive(Debug, Clone, Serialize)]
pub struct Options {
    /// The control plane; `None`: serve the last configuration, follow nobody.
    #[serde(serialize_with = "maybe_control")]
    pub control: Option<control::Reach>,
    /// What people call this node.
    pub node_id: String,
    /// Where clients come.
    pub listen: SocketAddr,
    /// Where operators come.
    pub admin: SocketAddr,
    /// Where identity and the last configuration are kept.
    pub state_dir: PathBuf,
    /// What operators select nodes by.
    pub labels: BTreeMap<String, String>,
    /// How long calls may take to end when the process is asked to.
    #[serde(serialize_with = "shown::duration")]
    pub drain: Duration,
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn maybe_control<S: Serializer>(control: &Option<control::Reach>, serializer: S) -> Result<S::Ok, S::Error> {
    shown::maybe_url(&control.as_ref().map(|reach| reach.uri().clone()), serializer)
}

/// A node with every socket bound and every task started.
pub struct Running {
    failover: Arc<Failover>,
    log: Arc<Log>,
    tasks: Tasks,
    /// Follows the control plane until the calls are finished.
    control: Tasks,
    readiness: Readiness,
    drain: Duration,
    /// Ended last.
    _workers: Arc<Workers>,
    /// As bound.
    pub listen: SocketAddr,
    /// As bound.
    pub admin: SocketAddr,
}

/// Starts a node. Connections run on `workers`, what calls share on the current runtime; control and admin run on
/// `aside`, so that neither a busy data path nor a slow operator is felt by the other.
///
/// # Errors
/// What could not be bound, read or created, and which option says so.
pub async fn start(options: Options, aside: &Handle, workers: Workers) -> io::Result<Running> {
    let workers = Arc::new(workers);
    let state = Arc::new(StateDir::open(&options.state_dir)?);
    let (clients, listen) = bind("--listen", options.listen).await?;
    let (operators, admin_address) = bind("--admin", options.admin).await?;
    let (writer, reader) = current::cell();
    let tasks = Tasks::new();
    let context = Context {
        keyring: crate::seal::Keyring::local(),
        current: reader,
        metrics: Arc::new(Metrics::default()),
        logs: Arc::default(),
        stores: Arc::default(),
        snapshots: Arc::new(Snapshots::open(state.path("snapshots"))),
        tasks: tasks.clone(),
        readiness: Readiness::new(),
        // By this name rather than by path: the file may be replaced while we run.
        launcher: Some(PathBuf::from("/proc/self/exe")),
    };
    let configured = context.readiness.register("configuration");
    let identity = Identity::begin_epoch(&state)?;
    let log = Arc::new(Log::open(&state.path("failover"), identity.epoch)?);
    let (path, primaries) = path::build(&context);
    // Before the first configuration: no call goes to a store that the log does not call active.
    let life = format!("{}/{}", identity.uid_hex(), identity.epoch);
    let failover = {
        let _aside = aside.enter();
        Failover::start(&context, log.clone(), primaries, life, options.control.is_some())
    };
    let node = Arc::new(node::Node::new(writer, &context, path.clone(), failover.clone(), listen));
    let control_tasks = Tasks::new();
    let control_options = control::Options {
        control: options.control.clone(),
        node_id: options.node_id.clone(),
        labels: options.labels.clone(),
        listen,
        admin: admin_address,
        state: state.clone(),
        build_version: VERSION,
        draining: tasks.stopping(),
        stopping: control_tasks.stopping(),
    };
    let link = {
        let _aside = aside.enter();
        snapshot::start(&context);
        let (link, following) = control::start(control_options, &identity, node.clone(), log.clone());
        control_tasks.spawn("control", OnExit::Shutdown, following);
        tasks.spawn("files", OnExit::Shutdown, references::follow(node.clone(), tasks.stopping()));
        let first = first_configuration(link.clone(), configured, tasks.stopping());
        tasks.spawn("first configuration", OnExit::Quiet, first);
        let (admin, at) = (Admin::new("o1-data-plane", context.readiness.clone()), (listen, admin_address));
        let facts = admin::Facts::new(&options, at, (&context, &node, &failover, &log), &link);
        tasks.spawn("admin", OnExit::Shutdown, admin::routes(admin, &facts).serve(operators, tasks.clone()));
        link
    };
    let serving = listener::serve(clients, listen, path, context.clone(), workers.clone());
    tasks.spawn("listener", OnExit::Shutdown, serving);
    state.write_addresses(&BTreeMap::from([("listen", listen), ("admin", admin_address)]))?;
    let (node_id, admin, control_plane) = (&options.node_id, admin_address, link.status().control_plane);
    tracing::info!(node_id, %listen, %admin, control_plane, version = VERSION, "data plane started");
    Ok(Running {
        failover,
        log,
        tasks,
        control: control_tasks,
        readiness: context.readiness,
        drain: options.drain,
        _workers: workers,
        listen,
        admin: admin_address,
    })
}

/// Ready with the first configuration, wherever it came from. A node that never got one must not wait for it when it
/// stops.
async fn first_configuration(link: control::Link, configured: ReadyGuard, stopping: CancellationToken) {
    tokio::select! {
        _ = link.wait_for(|status| status.applied.is_some()) => drop(configured),
        () = stopping.cancelled() => {}
    }
}

/// Starts a node, serves until `asked` and drains; see [`start`] and [`Running::until_stopped`]. Boxed, so that all
/// of it is compiled here and not once more into each program.
#[must_use]
pub fn run(
    options: Options,
    aside: Handle,
    workers: Workers,
    asked: Pin<Box<dyn Future<Output = ()> + Send>>,
) -> Pin<Box<dyn Future<Output = io::Result<bool>> + Send>> {
    Box::pin(async move { Ok(start(options, &aside, workers).await?.until_stopped(asked).await) })
}

impl Running {
    /// Serves until `asked` or the end of a task that must not end; then drains. False: nobody asked.
    pub async fn until_stopped(self, asked: impl Future<Output = ()>) -> bool {
        let (stopping, uncontrolled) = (self.tasks.stopping(), self.control.stopping());
        tokio::select! {
            () = asked => tracing::info!("asked to stop: finishing calls"),
            () = stopping.cancelled() => {}
            () = uncontrolled.cancelled() => {}
        }
        // 1 go unready  2 stop accepting  3 finish calls, say goodbye to streams  4 cut what is left
        self.readiness.set_draining();
        self.failover.stopping();
        self.tasks.begin_stop();
        let in_time = self.tasks.stopped_within(self.drain).await;
        self.control.begin_stop();
        self.control.stopped_within(GOODBYE_WITHIN).await;
        self.log.close().await;
        let fault = self.tasks.fault().or_else(|| self.control.fault());
        match &fault {
            Some(task) => tracing::error!(task, "stopped because a task ended that must not"),
            None if in_time => tracing::info!("stopped"),
            None => tracing::warn!(drain = ?self.drain, "stopped; some calls were cut"),
        }
        fault.is_none()
    }
}

async fn bind(flag: &str, address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let explain = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot listen on {address}: {error}; choose another address with {flag}"),
        )
    };
    let listener = TcpListener::bind(address).await.map_err(explain)?;
    let bound = listener.local_addr().map_err(explain)?;
    Ok((listener, bound))
}
