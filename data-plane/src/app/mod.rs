//! The composition root: options in, bound sockets and running tasks out. The only place that sees everything.

mod admin;
mod node;
mod references;

use crate::{
    context::Context,
    control, current,
    listener::{self, Workers},
    metrics::Metrics,
    path,
};
use o1_process::{Admin, OnExit, Readiness, StateDir, Tasks, build_info::VERSION};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{net::TcpListener, runtime::Handle};

/// How long the control plane may take to hear that the node leaves.
const GOODBYE_WITHIN: Duration = Duration::from_secs(3);

/// What an operator says when starting a node.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the control plane answers; `None`: serve the last configuration, follow nobody.
    pub control: Option<http::Uri>,
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
    pub drain: Duration,
}

/// A node with every socket bound and every task started.
pub struct Running {
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
        tasks: tasks.clone(),
        readiness: Readiness::new(),
        // By this name rather than by path: the file may be replaced while we run.
        launcher: Some(PathBuf::from("/proc/self/exe")),
    };
    let configured = context.readiness.register("configuration");
    let path = path::build(&context);
    let node = Arc::new(node::Node::new(writer, &context, path.clone(), listen));
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
        let (link, following) = control::start(control_options, node.clone())?;
        control_tasks.spawn("control", OnExit::Shutdown, following);
        tasks.spawn("files", OnExit::Shutdown, references::follow(node, tasks.stopping()));
        let waiting = link.clone();
        tasks.spawn("first configuration", OnExit::Quiet, async move {
            // Ready with the first configuration, wherever it came from.
            let _ = waiting.wait_for(|status| status.applied.is_some()).await;
            drop(configured);
        });
        let admin = Admin::new("o1-data-plane", context.readiness.clone());
        let facts = admin::Facts::new(&options, listen, admin_address, &context, &link, SystemTime::now());
        tasks.spawn("admin", OnExit::Shutdown, admin::routes(admin, facts).serve(operators, tasks.clone()));
        link
    };
    tasks.spawn(
        "listener",
        OnExit::Shutdown,
        listener::serve(clients, listen, path, context.clone(), workers.clone()),
    );
    state.write_addresses(&BTreeMap::from([("listen", listen), ("admin", admin_address)]))?;
    tracing::info!(
        node_id = options.node_id,
        %listen,
        admin = %admin_address,
        control_plane = link.status().control_plane.as_deref().unwrap_or("none"),
        version = VERSION,
        "data plane started"
    );
    Ok(Running {
        tasks,
        control: control_tasks,
        readiness: context.readiness,
        drain: options.drain,
        _workers: workers,
        listen,
        admin: admin_address,
    })
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
        self.tasks.begin_stop();
        let in_time = self.tasks.stopped_within(self.drain).await;
        self.control.begin_stop();
        self.control.stopped_within(GOODBYE_WITHIN).await;
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
