//! The control path against a scripted control plane, over real sockets and a real disk.

mod configuration;
mod connection;
mod delta;
mod events;
mod failover;
mod queries;
mod scripted;
mod test_log;

use super::*;
use o1_process::{OnExit, Tasks, VERSION};
use o1_proto::wire::{ConfigNack, Rejection, RejectionReason, sync_request, sync_response::Msg};
use scripted::{ControlPlane, EventPeer, Peer, SOON, TestNode, fleet, update, update_of};
use std::{
    io,
    path::Path,
    sync::{Mutex, atomic::Ordering},
    time::Duration,
};
use test_log::TestLog;
use tokio::time::timeout;
use tracing_subscriber::{Layer as _, layer::SubscriberExt as _};

/// One life of a node.
struct Running {
    node: Arc<TestNode>,
    link: Link,
    tasks: Tasks,
    state: Arc<StateDir>,
}

impl Running {
    fn start(dir: &Path, control: Option<SocketAddr>) -> Self {
        Self::start_with(dir, control, TestNode::default())
    }

    fn start_with(dir: &Path, control: Option<SocketAddr>, node: TestNode) -> Self {
        Self::start_logging(dir, control, node, Arc::new(NoEvents))
    }

    fn start_logging(
        dir: &Path,
        control: Option<SocketAddr>,
        node: TestNode,
        events: Arc<dyn EventSource>,
    ) -> Self {
        let (node, tasks) = (Arc::new(node), Tasks::new());
        let state = Arc::new(StateDir::open(dir).unwrap());
        let options = Options {
            control: control.map(Reach::local),
            node_id: "n1".into(),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            listen: "127.0.0.1:8080".parse().unwrap(),
            admin: "127.0.0.1:9090".parse().unwrap(),
            state: state.clone(),
            build_version: VERSION,
            draining: tasks.stopping(),
            stopping: tasks.stopping(),
        };
        let identity = Identity::begin_epoch(&state).unwrap();
        let (link, control) = start(options, &identity, node.clone(), events);
        tasks.spawn("control", OnExit::Shutdown, control);
        Self { node, link, tasks, state }
    }

    async fn stop(self) {
        self.tasks.begin_stop();
        assert!(self.tasks.stopped_within(SOON).await, "the control task did not end");
        let Self { state, .. } = self;
        assert_eq!(Arc::strong_count(&state), 1, "something still holds the state directory");
    }

    /// As [`Running::stop`], with a control plane that hears the goodbye.
    async fn leave(self, mut peer: Peer) {
        self.tasks.begin_stop();
        peer.until_broken().await;
        drop(peer);
        self.stop().await;
    }

    async fn status(&self, accept: impl FnMut(&LinkStatus) -> bool) -> LinkStatus {
        timeout(SOON, self.link.wait_for(accept)).await.expect("a status in time").expect("the task runs")
    }

    fn applied(&self) -> Vec<(u64, Vec<String>)> {
        self.node.applied.lock().unwrap().clone()
    }
}

fn names(revision: u64, names: &[&str]) -> (u64, Vec<String>) {
    (revision, names.iter().map(|name| (*name).to_owned()).collect())
}

/// A state directory in which `revisions` were applied, each with one upstream of its number.
async fn after(revisions: &[u64]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    for revision in revisions {
        peer.send(Msg::Config(update(*revision, *revision, &fleet(&[&format!("u{revision}")])))).await;
        assert_ack(&mut peer, *revision, *revision).await;
    }
    running.leave(peer).await;
    dir
}

async fn assert_ack(peer: &mut Peer, nonce: u64, revision: u64) {
    match peer.next().await {
        Some(sync_request::Msg::ConfigAck(ack)) => {
            assert_eq!((ack.nonce, ack.applied.unwrap().revision), (nonce, revision));
            assert!(ack.apply_time.is_some());
        }
        other => panic!("not an ack of {revision}: {other:?}"),
    }
}

async fn nack(peer: &mut Peer) -> ConfigNack {
    match peer.next().await {
        Some(sync_request::Msg::ConfigNack(nack)) => nack,
        other => panic!("not a nack: {other:?}"),
    }
}

fn reasons(rejections: &[Rejection]) -> Vec<RejectionReason> {
    rejections.iter().map(Rejection::reason).collect()
}

/// What was logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || log.clone());
        let ours =
            tracing_subscriber::filter::Targets::new().with_target("o1_data_plane", tracing::Level::DEBUG);
        tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.with_filter(ours)))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    async fn until(&self, line: &str, count: usize) {
        let seen = async {
            while self.text().matches(line).count() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(SOON, seen).await.is_ok(), "no `{line}` in\n{}", self.text());
    }
}
