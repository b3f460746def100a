//! The node's side of the control path: what to serve comes down, what is served and how it goes goes up.
//!
//! [`start`] gives the node the configuration it last applied, from its own disk, and then follows the control
//! plane for as long as the process runs: [`reach`] knows how to get there, [`stream`] connects and agrees on terms,
//! [`exchange`] is one connection, [`parts`] puts a large update together, [`snapshot`] turns it into a running
//! configuration, [`last_good`] keeps it on disk,
//! [`ack`] words the verdict, [`keys`] takes the keys for tokens, [`stats`] reports counters, [`standing`] says where
//! failovers stand, [`events`] sends what happened, [`queries`] answers what operators ask, [`link`] shows all that to
//! operators.
//!
//! The control plane is never needed to serve: nothing here may stop, delay or fail a call, and nothing here
//! knows another layer. The generated messages end here; the rest of the node sees [`Node`], [`Link`] and plain
//! values.

mod ack;
mod events;
mod exchange;
mod identity;
mod keys;
mod last_good;
mod link;
mod outbound;
mod parts;
mod queries;
mod reach;
mod snapshot;
mod standing;
mod stats;
mod stream;

pub use link::{Applied, Link, LinkStatus, RefusedVersion};
pub use reach::Reach;
pub use stats::{EndpointStats, NodeStats, Reachability, UpstreamStats};

use crate::seal;
use crate::{
    calls::{Found, Wanted},
    inventory::Inventory,
    logs::Log,
    purge::{Order, Purged},
};
use exchange::Exchange;
use futures_util::future::BoxFuture;
pub use identity::Identity;
use keys::Keys;
use last_good::LastGood;
use o1_process::StateDir;
use o1_proto::{
    model::{DecisionState, Directive, Event, FailoverState, Fleet, StoreHealth},
    wire,
};
use snapshot::Applier;
use stats::Reporter;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};
use stream::{Ended, Reconnect};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// What the control path needs from the rest of the node.
pub trait Node: Send + Sync + 'static {
    /// Compiles a configuration and swaps it in, as a whole. May take a while, because it resolves `env:` and
    /// `file:` references. Called one at a time, inside the runtime: by [`start`] on its caller's thread, later
    /// on threads that may block.
    ///
    /// # Errors
    /// Every reason; nothing has changed.
    fn apply(&self, version: AppliedVersion, fleet: Fleet) -> Result<(), Vec<LocalProblem>>;

    /// The counters now, absolute since the process started. Must not block.
    fn stats(&self) -> NodeStats;

    /// What a route offers to a static token of this name: a virtual server, or `/mcp` without; everything,
    /// without a token.
    ///
    /// # Errors
    /// There is no such server or token.
    fn inventory(
        &self,
        server: Option<String>,
        principal: Option<String>,
    ) -> BoxFuture<'_, Result<Inventory, NotAnswered>>;

    /// What the processes of an upstream write to stderr; `None`: it has no processes.
    ///
    /// # Errors
    /// There is no such upstream.
    fn log(&self, upstream: &str) -> Result<Option<Arc<Log>>, NotAnswered>;

    /// Forgets answers that are kept, and fetches again what is never without a copy; waits a moment for that.
    ///
    /// # Errors
    /// There is no such upstream.
    fn purge(&self, order: Order) -> BoxFuture<'_, Result<Purged, NotAnswered>>;

    /// The calls that were answered last. Must not block.
    ///
    /// # Errors
    /// There is no such upstream.
    fn calls(&self, wanted: &Wanted) -> Result<Found, NotAnswered>;

    /// The node takes no new clients and is finishing its calls.
    fn draining(&self) -> bool;

    /// The node takes no new client sessions, and is not ready, as long as this says so. Comes again and again.
    fn order_drain(&self, drain: bool);

    /// What [`Node::order_drain`] said last.
    fn drain_ordered(&self) -> bool;

    /// Seals and opens tokens with these keys from now on; the first one seals.
    fn seal_with(&self, keys: &[seal::Key]);

    /// What should be, of every upstream that the control plane speaks of. Comes again and again. Must not block.
    fn directed(&self, directives: Vec<Directive>);

    /// Where the node stands: every upstream that has a backup, or had one and still has a journal. Must not block.
    fn failover(&self) -> Vec<(String, FailoverState)>;

    /// What the node sees of every upstream that has a backup: name, primary, backup; and whether it suspects
    /// its own network. Must not block.
    fn observations(&self) -> (bool, Vec<(String, StoreHealth, StoreHealth)>);

    /// Counts changes of [`Node::failover`], and of verdicts and breakers in [`Node::observations`].
    fn failover_changed(&self) -> watch::Receiver<u64>;

    /// Whether the control plane decides at present; comes with each answer to a heartbeat. Must not block.
    fn decisions(&self, state: DecisionState);

    /// The control plane was found, or lost. Must not block.
    fn control_plane(&self, connected: bool);
}

/// A place in a node's events: epoch, and number within the epoch.
pub type Position = (u64, u64);

/// The events of this node, on its disk. No method may block.
pub trait EventSource: Send + Sync + 'static {
    /// The oldest that is still there.
    fn oldest(&self) -> Option<Position>;

    /// The newest.
    fn newest(&self) -> Option<Position>;

    /// At most `limit` durable events behind `after`, in order, each with its epoch.
    fn after(&self, after: Position, limit: usize) -> Vec<(u64, Event)>;

    /// The control plane has everything up to here on its disk: it need not be kept any more.
    fn delivered(&self, through: Position);

    /// Changes when there are events that were not there before.
    fn changed(&self) -> watch::Receiver<u64>;
}

/// No events at all.
#[cfg(test)]
struct NoEvents;

#[cfg(test)]
impl EventSource for NoEvents {
    fn oldest(&self) -> Option<Position> {
        None
    }

    fn newest(&self) -> Option<Position> {
        None
    }

    fn after(&self, _: Position, _: usize) -> Vec<(u64, Event)> {
        Vec::new()
    }

    fn delivered(&self, _: Position) {}

    fn changed(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

/// The name of one configuration. Order is (generation, revision).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedVersion {
    /// Grows when the store of the control plane was replaced.
    pub generation: u64,
    /// Grows with every accepted change.
    pub revision: u64,
    /// blake3 of the content: see [`o1_proto::digest::root`].
    pub root_digest: Vec<u8>,
}

/// Why a question of an operator has no answer; the text is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAnswered {
    /// It is about something that this node does not know.
    NotFound(String),
    /// The node answers as many as it can.
    Busy(String),
    /// This build does not know the question.
    Unsupported,
}

/// Why this node cannot run a configuration that is valid in itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalProblem {
    /// The upstream at fault; `None`: the configuration as a whole.
    pub upstream: Option<String>,
    /// Inside the upstream: `headers.Authorization`. May be empty.
    pub field: String,
    /// Lowercase, without a full stop, without secrets.
    pub what: String,
    /// Something is missing on this machine (an environment variable, a file), as opposed to a value that no
    /// node could run.
    pub local_dependency: bool,
}

/// What differs by node.
#[derive(Debug, Clone)]
pub struct Options {
    /// The control plane. `None`: serve what is on disk, follow nobody.
    pub control: Option<Reach>,
    /// What people call this node.
    pub node_id: String,
    /// What operators select nodes by.
    pub labels: BTreeMap<String, String>,
    /// Where clients reach the node, as bound.
    pub listen: SocketAddr,
    /// Where its admin HTTP answers, as bound.
    pub admin: SocketAddr,
    /// Where identity and configuration are kept.
    pub state: Arc<StateDir>,
    /// The build of this node.
    pub build_version: &'static str,
    /// The drain has begun: the control plane is told at once, and the stream stays.
    pub draining: CancellationToken,
    /// The calls are finished: goodbye.
    pub stopping: CancellationToken,
}

/// Gives the node the last configuration that it applied, if there is one, and returns the task that follows the control plane. The task ends soon after `options.stopping`.
///
/// Blocks on the disk and in [`Node::apply`]. Must be called inside a runtime.
///
/// A last configuration that cannot be used is no error: it is logged, and the control plane has another.
pub fn start(
    options: Options,
    identity: &Identity,
    node: Arc<dyn Node>,
    events: Arc<dyn EventSource>,
) -> (Link, impl Future<Output = ()> + Send + use<>) {
    let (link, watched) = watch::channel(LinkStatus::new(identity, options.control.as_ref().map(Reach::uri)));
    let files = || LastGood::new(options.state.clone(), options.build_version);
    let keys = Keys::new(node.clone(), files());
    keys.cold_start();
    let applier = Arc::new(Applier::new(node.clone(), files(), link.clone()));
    applier.cold_start();
    let control = Control {
        me: identity.describe(&options),
        reporter: Reporter::default(),
        sender: events::Sender::default(),
        events,
        reach: options.control,
        draining: options.draining,
        stopping: options.stopping,
        node,
        applier,
        keys,
        link,
    };
    (Link::new(watched), control.run())
}

struct Control {
    reach: Option<Reach>,
    draining: CancellationToken,
    stopping: CancellationToken,
    me: wire::NodeIdentity,
    node: Arc<dyn Node>,
    applier: Arc<Applier>,
    keys: Arc<Keys>,
    reporter: Reporter,
    sender: events::Sender,
    events: Arc<dyn EventSource>,
    link: watch::Sender<LinkStatus>,
}

impl Control {
    async fn run(mut self) {
        let Some(reach) = self.reach.take() else {
            tracing::info!("no control plane was named: serving the configuration on disk");
            return self.stopping.cancelled().await;
        };
        let mut reconnect = Reconnect::default();
        loop {
            let (ended, lasted) = self.connection(&reach).await;
            self.log(&reach, &ended);
            link::disconnected(&self.link, &ended);
            self.node.control_plane(false);
            if let Ended::Stopped = ended {
                return;
            }
            let wait = reconnect.after(&ended, lasted);
            tracing::debug!(?wait, "connecting again");
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One connection from beginning to end, and how long it lasted since the Welcome.
    async fn connection(&mut self, reach: &Reach) -> (Ended, Option<std::time::Duration>) {
        let opened = tokio::select! {
            () = self.stopping.cancelled() => return (Ended::Stopped, None),
            opened = stream::open(reach, self.applier.hello(self.me.clone())) => opened,
        };
        let connected = match opened {
            Ok(connected) => connected,
            Err(ended) => return (ended, None),
        };
        let since = Instant::now();
        tracing::info!(control_plane = %reach, version = connected.terms.control_plane, "connected to the control plane");
        link::connected(&self.link, &connected.terms.control_plane);
        self.node.control_plane(true);
        let events = self.sender.run(connected.client.clone(), &self.me, self.events.as_ref());
        let reports =
            self.reporter.run(connected.client.clone(), &self.me, self.node.as_ref(), connected.terms.stats);
        let exchange = Exchange::new(connected, &self.node, &self.applier, &self.keys)
            .run(&self.draining, &self.stopping);
        let ended = tokio::select! {
            ended = exchange => ended,
            never = reports => match never {},
            never = events => match never {},
        };
        (ended, Some(since.elapsed()))
    }

    /// One line for each change; a failure that repeats is not one.
    fn log(&self, reach: &Reach, ended: &Ended) {
        let (connected, last_error) = {
            let status = self.link.borrow();
            (status.connected, status.last_error.clone())
        };
        match (ended, ended.reason()) {
            (_, None) => tracing::debug!("left the control plane"),
            (_, reason) if !connected && reason == last_error => {
                tracing::debug!(control_plane = %reach, reason, "still no control plane");
            }
            (Ended::Goodbye(goodbye), reason) if goodbye.is_usual() => {
                tracing::info!(control_plane = %reach, reason, "the control plane ended the stream: serving on");
            }
            (_, reason) if connected => {
                tracing::warn!(control_plane = %reach, reason, "lost the control plane: serving on");
            }
            (_, reason) => {
                tracing::warn!(control_plane = %reach, reason, "cannot reach the control plane: trying on");
            }
        }
    }
}

/// Returns when there is something new; never, when nothing can come any more.
async fn changed(changes: &mut watch::Receiver<u64>) {
    if changes.changed().await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
