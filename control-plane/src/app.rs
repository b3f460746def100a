//! Puts the parts together, in the order in which they need each other, and takes them apart in the order in which
//! they can do without.

use crate::{
    access::{Access, audit::Audit, tokens::Tokens},
    admin,
    api::{self, Context},
    args::{Args, Trust},
    clock::Now,
    config::{Heard, Published, Source},
    events::Log,
    fleet::{Hub, Rotation},
    status::Board,
    store::{Sqlite, Store, StoreError},
};
use o1_process::{
    OnExit, Readiness, StateDir, Tasks,
    tls::{self, FileError, Server},
};
use std::{
    collections::BTreeMap, error::Error, fmt, io, net::SocketAddr, path::Path, sync::Arc, time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;

/// How long nodes, calls and the store may take to come to an end.
const DRAIN: Duration = Duration::from_secs(4);
/// Failed handshakes that wait to be noted.
const REFUSED: usize = 64;

/// A control plane that serves.
pub struct App {
    listen: SocketAddr,
    admin: SocketAddr,
    tasks: Tasks,
    readiness: Readiness,
    /// Keeps a second process out for as long as this one lives.
    _state: StateDir,
}

impl App {
    /// Starts everything and returns once it serves.
    ///
    /// # Errors
    /// What could not be started, and what to do about it.
    pub async fn start(args: Args) -> Result<Self, AppError> {
        let started_at = Now::read().wall;
        let (tasks, readiness) = (Tasks::new(), Readiness::new());
        let starting = readiness.register("start");
        let state = StateDir::open(&args.state_dir).map_err(AppError::State)?;
        let (server, access) = trust(args.trust.clone(), &tasks).await?;
        let (grpc, listen) = bind("--listen", args.listen).await?;
        let (http, admin) = bind("--admin", args.admin).await?;

        let store: Arc<dyn Store> = Arc::new(Sqlite::open(&state.path("store.db"))?);
        let (nodes, kept) = (store.nodes().await?, store.failover_decisions().await?);
        let hub = Arc::new(Hub::deciding(nodes, kept, args.shadow, Now::read()));
        for (node_id, drain) in store.drains().await? {
            hub.set_drain(&node_id, Some(drain));
        }
        let heard = Heard { generation_floor: hub.generation_floor(), ended: hub.ended() };
        let source = Source::open(args.config.clone(), store.clone(), heard).await?;
        let (published, changes) = (source.published(), source.desk());
        let board = Board::new(hub.clone(), published.clone(), started_at, listen);
        // Before the first node can ask.
        set_target(&published.borrow(), &hub);
        let every = Duration::from_secs(args.key_rotation);
        let rotation = Rotation::start(store.clone(), hub.clone(), every).await?;

        let stop = tasks.stopping();
        let events = Log::new(store.clone());
        tasks.spawn("events", OnExit::Shutdown, events.clone().run(stop.clone()));
        let routes = admin::routes(board.clone(), hub.clone(), args.clone(), readiness.clone());
        tasks.spawn("admin", OnExit::Shutdown, routes.serve(http, tasks.clone()));
        tasks.spawn("config", OnExit::Shutdown, source.run(stop.clone()));
        tasks.spawn("keys", OnExit::Shutdown, rotation.run(stop.clone()));
        tasks.spawn("publish", OnExit::Shutdown, publish(published, hub.clone()));
        let (fleet, until, settled) = (hub.clone(), stop, CancellationToken::new());
        let (records, shelf, settling) = (hub.clone(), store.clone(), settled.clone());
        let (decisions, desk, decided) = (hub.clone(), store.clone(), settled.clone());
        tasks.spawn("fleet", OnExit::Shutdown, async move {
            // What the fleet decides last is still to be written.
            let _settled = settling.drop_guard();
            fleet.run(until).await;
        });
        tasks.spawn("records", OnExit::Shutdown, async move {
            records.records().write_to(&*shelf, settled).await;
        });
        tasks.spawn("decisions", OnExit::Shutdown, async move {
            decisions.decision_log().write_to(&*desk, &decisions, decided).await;
        });
        let (deciding, chronicle, over) = (hub.clone(), events.clone(), tasks.stopping());
        tasks.spawn("decided", OnExit::Shutdown, async move {
            tokio::select! {
                () = chronicle.follow(deciding.decision_log().decided()) => {}
                () = over.cancelled() => {}
            }
        });
        let (encrypted, asks) = (server.is_some(), access.asks());
        let (audit, refused) = begin_audit(store.clone(), &tasks);
        let connections = tls::listen(grpc, server, &tasks, refused);
        let context =
            Context { hub, board, store, events, access, audit, desk: changes, tasks: tasks.clone() };
        tasks.spawn("grpc", OnExit::Shutdown, async move {
            if let Err(error) = api::serve(connections, context).await {
                tracing::error!(%error, "the gRPC server failed");
            }
        });

        let addresses = BTreeMap::from([("listen", listen), ("admin", admin)]);
        state.write_addresses(&addresses).map_err(AppError::State)?;
        drop(starting);
        let config = args.config.as_deref().map_or("the API".into(), Path::to_string_lossy);
        let state_dir = args.state_dir.display();
        let version = o1_process::VERSION;
        tracing::info!(%listen, %admin, %config, %state_dir, encrypted, version, "control plane started");
        said(listen, encrypted, asks);
        Ok(Self { listen, admin, tasks, readiness, _state: state })
    }

    /// Where gRPC is served, as bound.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where the admin HTTP is served, as bound.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Serves until `stop` returns, or until a part fails that nothing works without; then stops in order.
    ///
    /// # Errors
    /// The part that failed.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), AppError> {
        let failed = self.tasks.stopping();
        tokio::select! {
            () = stop => tracing::info!("stopping"),
            () = failed.cancelled() => {}
        }
        self.readiness.set_draining();
        self.tasks.begin_stop();
        if self.tasks.stopped_within(DRAIN).await {
            tracing::info!("stopped");
        }
        self.tasks.fault().map_or(Ok(()), |task| Err(AppError::Fault(task)))
    }
}

/// Hands what is published to the fleet, and tells those who watch the status.
async fn publish(mut published: watch::Receiver<Published>, hub: Arc<Hub>) {
    // Ends with the source.
    while published.changed().await.is_ok() {
        let now = published.borrow_and_update().clone();
        let known = hub.look(|registry, _| registry.target().map(|target| target.version.clone()));
        if now.running.as_ref().map(|running| &running.version) != known.as_ref() {
            set_target(&now, &hub);
        }
        hub.bump();
    }
}

fn set_target(published: &Published, hub: &Hub) {
    hub.set_target(published.running.clone(), published.way.clone(), Now::read());
}

/// The audit, and where failed handshakes are told to it.
fn begin_audit(store: Arc<dyn Store>, tasks: &Tasks) -> (Audit, mpsc::Sender<tls::Refused>) {
    let (audit, refusals) = Audit::new(store);
    let (refused, handshakes) = mpsc::channel(REFUSED);
    tasks.spawn("audit", OnExit::Shutdown, refusals.run(audit.clone(), handshakes, tasks.stopping()));
    (audit, refused)
}

/// What connections are accepted with, and by what callers are known. Both are read again when their files change.
async fn trust(trust: Trust, tasks: &Tasks) -> Result<(Option<Arc<Server>>, Access), AppError> {
    let certificates = trust.client_ca.is_some();
    let read = spawn_blocking(move || {
        let server = trust.server().map(Server::open).transpose().map_err(AppError::Certificates)?;
        let tokens = trust.tokens.map(Tokens::open).transpose().map_err(AppError::Tokens)?;
        Ok::<_, AppError>((server, tokens))
    });
    let (server, tokens) = read.await.map_err(|_| AppError::Fault("certificates".to_owned()))??;
    if let Some(server) = &server {
        tasks.spawn("certificates", OnExit::Shutdown, server.clone().follow(tasks.stopping()));
    }
    if let Some(tokens) = &tokens {
        tasks.spawn("tokens", OnExit::Shutdown, tokens.clone().follow(tasks.stopping()));
    }
    Ok((server, Access { tokens, certificates }))
}

/// Who gets in, where that is not as it should be.
fn said(listen: SocketAddr, encrypted: bool, asks: bool) {
    match (listen.ip().is_loopback(), encrypted, asks) {
        (_, true, _) => {}
        (true, false, true) => tracing::info!(%listen, "not encrypted: only this machine reaches this port"),
        (true, false, false) => {
            tracing::info!(%listen, "nobody is asked who he is: everybody on this machine may everything");
        }
        (false, false, true) => {
            tracing::warn!(%listen, "other machines reach this port unencrypted: tokens can be read on the way");
        }
        (false, false, false) => {
            tracing::warn!(%listen, "other machines reach this port, unencrypted, and everybody may everything");
        }
    }
}

async fn bind(flag: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), AppError> {
    let failed = |source| AppError::Bind { flag, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Why there is no control plane.
#[derive(Debug)]
pub enum AppError {
    /// The state directory; the message says which and what to do.
    State(io::Error),
    /// An address that cannot be listened on.
    Bind {
        /// The flag it came from.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A certificate, a key or an authority; the message says which and why.
    Certificates(FileError),
    /// The tokens; what is wrong with them.
    Tokens(String),
    /// The store.
    Store(StoreError),
    /// A task ended that nothing works without.
    Fault(String),
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(error) => error.fmt(f),
            Self::Bind { flag, address, .. } => {
                write!(f, "cannot listen on {address}: free it, or choose another address with {flag}")
            }
            Self::Certificates(error) => write!(f, "TLS cannot be served: {error}"),
            Self::Tokens(what) => write!(f, "the tokens cannot be used: {what}"),
            Self::Store(error) => error.fmt(f),
            Self::Fault(task) => write!(f, "`{task}` ended, and nothing works without it: see the log above"),
        }
    }
}

impl Error for AppError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::State(error) => error.source(),
            Self::Bind { source, .. } => Some(source),
            Self::Store(error) => error.source(),
            Self::Certificates(_) | Self::Tokens(_) | Self::Fault(_) => None,
        }
    }
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
