//! The control path against a scripted control plane, over real sockets and a real disk.

mod scripted;

use super::*;
use o1_process::{OnExit, Tasks, VERSION};
use o1_proto::{
    convert::from_duration,
    wire::{
        ConfigNack, ConfigUpdate, GoodbyeReason, Rejection, RejectionReason, sync_request, sync_response::Msg,
    },
};
use scripted::{ControlPlane, Peer, SOON, TestNode, fleet, update, update_of};
use std::{
    fs,
    path::Path,
    sync::atomic::Ordering,
    time::{Duration, UNIX_EPOCH},
};
use tokio::time::timeout;

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
        let (node, tasks) = (Arc::new(node), Tasks::new());
        let state = Arc::new(StateDir::open(dir).unwrap());
        let options = Options {
            control: control.map(|address| format!("http://{address}").parse().unwrap()),
            node_id: "n1".into(),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            listen: "127.0.0.1:8080".parse().unwrap(),
            admin: "127.0.0.1:9090".parse().unwrap(),
            state: state.clone(),
            build_version: VERSION,
            stopping: tasks.stopping(),
        };
        let (link, control) = start(options, node.clone()).unwrap();
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

#[tokio::test]
async fn a_node_introduces_itself_and_applies_what_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    let me = peer.hello.node.clone().unwrap();
    assert_eq!((me.node_id.as_str(), me.node_uid.len(), me.epoch), ("n1", 16, 1));
    assert_eq!((me.listen.as_str(), me.admin.as_str()), ("127.0.0.1:8080", "127.0.0.1:9090"));
    assert_eq!(me.labels, [("zone".to_owned(), "a".to_owned())].into());
    assert_eq!((&peer.hello.applied, &peer.hello.rejected), (&None, &None));

    let sent = update(1, 7, &fleet(&["a", "b"]));
    peer.send(Msg::Config(sent.clone())).await;
    assert_ack(&mut peer, 1, 7).await;
    assert_eq!(running.applied(), [names(7, &["a", "b"])]);
    let status = running.status(|status| status.applied.is_some()).await;
    let applied = status.applied.unwrap();
    assert_eq!((applied.version.revision, applied.durable), (7, true));
    assert_eq!(applied.version.root_digest, sent.to.unwrap().root_digest);
    assert!(status.connected);
    assert_eq!(status.control_plane_version.as_deref(), Some("9.9.9"));
    running.leave(peer).await;
}

#[tokio::test]
async fn a_node_starts_from_its_disk_without_a_control_plane() {
    let dir = after(&[1, 2]).await;
    let nobody = Running::start(dir.path(), None);
    assert_eq!(nobody.applied(), [names(2, &["u2"])], "applied before the task even runs");
    assert_eq!(nobody.link.status().applied.unwrap().version.revision, 2);
    nobody.stop().await;

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = Running::start(dir.path(), Some(closed));
    assert_eq!(unreachable.applied(), [names(2, &["u2"])]);
    let status = unreachable.status(|status| status.last_error.is_some()).await;
    assert!(!status.connected);
    assert!(status.last_error.unwrap().contains("Connection refused"));
    unreachable.stop().await;
}

#[tokio::test]
async fn what_runs_is_named_after_a_reconnect_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    let sent = update(1, 3, &fleet(&["a"]));
    peer.send(Msg::Config(sent.clone())).await;
    assert_ack(&mut peer, 1, 3).await;
    drop(peer);
    let again = plane.welcome().await;
    assert_eq!(again.hello.applied, sent.to);
    assert_eq!(again.hello.node.as_ref().unwrap().epoch, 1, "a reconnect is no restart");
    let uid = again.hello.node.as_ref().unwrap().node_uid.clone();
    running.leave(again).await;

    let running = Running::start(dir.path(), Some(plane.address));
    let after = plane.welcome().await;
    assert_eq!(after.hello.applied, sent.to);
    let me = after.hello.node.clone().unwrap();
    assert_eq!((me.epoch, me.node_uid), (2, uid));
    running.leave(after).await;
}

#[tokio::test]
async fn an_update_to_what_runs_already_is_acknowledged_and_not_applied_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    for nonce in [1, 2] {
        peer.send(Msg::Config(update(nonce, 3, &fleet(&["a"])))).await;
        assert_ack(&mut peer, nonce, 3).await;
    }
    assert_eq!(running.applied().len(), 1);
    running.leave(peer).await;
}

#[tokio::test]
async fn a_refusal_names_every_problem_and_changes_nothing() {
    let dir = after(&[1]).await;
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;

    let mut broken = o1_proto::convert::encode(&fleet(&["a", "b"]));
    broken[0].payload = vec![0xff].into(); // not what its digest says
    broken[1].key.as_mut().unwrap().kind = 77;
    peer.send(Msg::Config(update_of(1, 2, broken))).await;
    let refused = nack(&mut peer).await;
    assert_eq!((refused.nonce, refused.rejected.unwrap().revision), (1, 2));
    assert_eq!(refused.running.unwrap().revision, 1);
    let expected = [RejectionReason::DigestMismatch, RejectionReason::UnknownKind];
    assert_eq!(reasons(&refused.rejections), expected);

    let problem = |upstream: &str, local_dependency| LocalProblem {
        upstream: Some(upstream.into()),
        field: "headers.Authorization".into(),
        what: "the environment variable TOKEN is not set".into(),
        local_dependency,
    };
    *running.node.problems.lock().unwrap() = vec![problem("a", true), problem("b", false)];
    peer.send(Msg::Config(update(2, 3, &fleet(&["a", "b"])))).await;
    let refused = nack(&mut peer).await;
    let expected = [RejectionReason::LocalDependency, RejectionReason::InvalidField];
    assert_eq!(reasons(&refused.rejections), expected);
    assert_eq!(refused.rejections[0].field_path, "headers.Authorization");

    assert_eq!(running.applied(), [names(1, &["u1"])], "the cold start alone");
    let status = running.link.status();
    assert_eq!(status.applied.unwrap().version.revision, 1);
    let shown = status.refused.unwrap();
    assert_eq!((shown.version.revision, shown.reasons.len()), (3, 2));
    let reason = "a: headers.Authorization: the environment variable TOKEN is not set";
    assert_eq!(shown.reasons[0], reason);

    running.node.problems.lock().unwrap().clear();
    peer.send(Msg::Config(update(3, 4, &fleet(&["a"])))).await;
    assert_ack(&mut peer, 3, 4).await;
    assert_eq!(running.link.status().refused, None, "a refusal ends with the next version that runs");
    running.leave(peer).await;
}

#[tokio::test]
async fn an_older_version_or_other_content_of_the_same_is_refused() {
    let dir = after(&[5]).await;
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    for (nonce, revision) in [(1, 4), (2, 5)] {
        peer.send(Msg::Config(update(nonce, revision, &fleet(&["other"])))).await;
        let refused = nack(&mut peer).await;
        assert_eq!(reasons(&refused.rejections), [RejectionReason::VersionRegression], "{revision}");
        assert_eq!(refused.running.unwrap().revision, 5);
    }
    let mut forged = update(3, 6, &fleet(&["other"]));
    forged.to.as_mut().unwrap().root_digest = vec![0; 32];
    peer.send(Msg::Config(forged)).await;
    assert_eq!(reasons(&nack(&mut peer).await.rejections), [RejectionReason::DigestMismatch]);
    assert_eq!(running.applied(), [names(5, &["u5"])]);
    running.leave(peer).await;
}

#[tokio::test]
async fn a_refused_version_is_remembered_over_a_restart_unless_the_restart_may_cure_it() {
    for (local_dependency, remembered) in [(false, true), (true, false)] {
        let dir = after(&[1]).await;
        let mut plane = ControlPlane::start();
        let running = Running::start(dir.path(), Some(plane.address));
        let mut peer = plane.welcome().await;
        *running.node.problems.lock().unwrap() =
            vec![LocalProblem { upstream: None, field: String::new(), what: "no".into(), local_dependency }];
        let sent = update(1, 2, &fleet(&["a"]));
        peer.send(Msg::Config(sent.clone())).await;
        nack(&mut peer).await;
        drop(peer);
        let again = plane.welcome().await;
        assert_eq!(again.hello.rejected, sent.to, "remembered while it runs");
        assert_eq!(again.hello.rejections[0].message, "no");
        running.leave(again).await;

        let running = Running::start(dir.path(), Some(plane.address));
        let hello = plane.welcome().await.hello;
        assert_eq!(hello.applied.unwrap().revision, 1);
        assert_eq!(hello.rejected, sent.to.filter(|_| remembered), "local: {local_dependency}");
        assert_eq!(hello.rejections.len(), usize::from(remembered));
        running.stop().await;
    }
}

#[tokio::test]
async fn a_panic_in_apply_refuses_the_version_and_the_next_one_is_applied() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    running.node.panic.store(true, Ordering::Release);
    peer.send(Msg::Config(update(1, 1, &fleet(&["a"])))).await;
    assert_eq!(reasons(&nack(&mut peer).await.rejections), [RejectionReason::Internal]);
    running.node.panic.store(false, Ordering::Release);
    peer.send(Msg::Config(update(2, 2, &fleet(&["a"])))).await;
    assert_ack(&mut peer, 2, 2).await;
    running.leave(peer).await;
}

#[tokio::test]
async fn a_damaged_file_falls_back_to_the_version_before() {
    let dir = after(&[1, 2]).await;
    let newest = dir.path().join("config.snap");
    let mut bytes = fs::read(&newest).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    assert_eq!(running.applied(), [names(1, &["u1"])]);
    let mut peer = plane.welcome().await;
    assert_eq!(peer.hello.applied.as_ref().unwrap().revision, 1);
    peer.send(Msg::Config(update(1, 2, &fleet(&["u2"])))).await;
    assert_ack(&mut peer, 1, 2).await;
    running.leave(peer).await;

    for file in ["config.snap", "config.snap.prev"] {
        fs::write(dir.path().join(file), b"rubbish").unwrap();
    }
    let empty = Running::start(dir.path(), None);
    assert!(empty.applied().is_empty() && empty.link.status().applied.is_none());
    empty.stop().await;
}

#[tokio::test]
async fn a_configuration_that_can_no_longer_be_applied_falls_back_too() {
    let dir = after(&[1]).await;
    let node = TestNode::default();
    *node.problems.lock().unwrap() = vec![LocalProblem {
        upstream: None,
        field: String::new(),
        what: "gone".into(),
        local_dependency: true,
    }];
    let running = Running::start_with(dir.path(), None, node);
    assert_eq!(running.link.status().applied, None);
    running.stop().await;
}

#[tokio::test]
async fn what_the_disk_refuses_runs_and_is_acknowledged_and_shown_as_not_durable() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    fs::create_dir(dir.path().join("config.snap.tmp")).unwrap(); // nothing can be written there
    peer.send(Msg::Config(update(1, 1, &fleet(&["a"])))).await;
    assert_ack(&mut peer, 1, 1).await;
    assert!(!running.link.status().applied.unwrap().durable);
    running.leave(peer).await;
}

#[tokio::test]
async fn a_node_comes_back_after_the_control_plane_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let address = plane.address;
    let running = Running::start(dir.path(), Some(address));
    let mut peer = plane.welcome().await;
    let sent = update(1, 1, &fleet(&["a"]));
    peer.send(Msg::Config(sent.clone())).await;
    assert_ack(&mut peer, 1, 1).await;
    drop(plane);
    let status = running.status(|status| !status.connected).await;
    assert!(status.last_error.is_some());
    assert_eq!(status.applied.unwrap().version.revision, 1, "it serves on");

    let mut plane = ControlPlane::start_at(address);
    let peer = plane.welcome().await;
    assert_eq!(peer.hello.applied, sent.to);
    let status = running.status(|status| status.connected).await;
    assert_eq!(status.last_error, None);
    running.leave(peer).await;
}

#[tokio::test]
async fn a_control_plane_that_does_not_answer_heartbeats_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut deaf = plane.accept().await;
    deaf.answer_heartbeats = false;
    deaf.welcome(Duration::from_millis(100), SOON).await;
    deaf.until_broken().await;
    assert!(deaf.heartbeats.len() >= 2, "{:?}", deaf.heartbeats);

    let mut alive = plane.accept().await;
    alive.welcome(Duration::from_millis(100), SOON).await;
    let mut revision = 0;
    while alive.heartbeats.len() < 6 {
        // 500 ms, twice the silence that is allowed
        revision += 1;
        alive.send(Msg::Config(update(revision, revision, &fleet(&["a"])))).await;
        assert_ack(&mut alive, revision, revision).await;
    }
    assert!(running.link.status().connected, "{:?}", running.link.status());
    running.leave(alive).await;
}

#[tokio::test]
async fn heartbeats_say_what_runs() {
    let dir = after(&[4]).await;
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.accept().await;
    peer.welcome(Duration::from_millis(50), SOON).await;
    timeout(SOON, async {
        while peer.heartbeats.len() < 3 {
            tokio::select! {
                message = peer.next() => panic!("not a heartbeat: {message:?}"),
                () = tokio::time::sleep(Duration::from_millis(60)) => {}
            }
        }
    })
    .await
    .expect("three heartbeats");
    for (seq, message) in (1..).zip(&peer.heartbeats) {
        let sync_request::Msg::Heartbeat(heartbeat) = message else { panic!("{message:?}") };
        assert_eq!((heartbeat.seq, heartbeat.applied.as_ref().unwrap().revision), (seq, 4));
    }
    running.leave(peer).await;
}

#[tokio::test]
async fn a_goodbye_says_when_to_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let peer = plane.welcome().await;
    let wait = Some(from_duration(Duration::from_millis(400)));
    let asked = tokio::time::Instant::now();
    peer.send(Msg::Goodbye(wire::Goodbye {
        reason: GoodbyeReason::Shutdown.into(),
        message: "upgrade".into(),
        reconnect_min: wait,
        reconnect_max: wait,
    }))
    .await;
    let status = running.status(|status| !status.connected && status.last_error.is_some()).await;
    assert_eq!(status.last_error.as_deref(), Some("the control plane stops: upgrade"));
    let again = plane.welcome().await;
    assert!(asked.elapsed() >= Duration::from_millis(400), "came back after {:?}", asked.elapsed());
    running.leave(again).await;
}

#[tokio::test]
async fn statistics_are_absolute_and_a_refused_report_is_made_good_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    plane.refuse_reports.store(2, Ordering::Release);
    let running = Running::start(dir.path(), Some(plane.address));
    let upstream = |requests| UpstreamStats {
        upstream: "weather".into(),
        requests,
        latency_buckets: vec![requests, 0],
        latency_bounds_us: vec![1000],
        reachability: Reachability::Unreachable,
        since: Some(UNIX_EPOCH + Duration::from_secs(9)),
        last_error: Some("connection refused".into()),
        tools: Some(0),
        ..UpstreamStats::default()
    };
    let set = |requests| {
        *running.node.stats.lock().unwrap() =
            NodeStats { sessions: 2, resident_bytes: None, upstreams: vec![upstream(requests)] };
    };
    set(5);
    let peer = plane.accept().await;
    peer.welcome(SOON, Duration::from_millis(50)).await;
    let first = plane.report().await;
    set(8);
    let mut last = first.clone();
    let mut reports = 1;
    while last.upstreams[0].requests < 8 || reports < 4 {
        let next = plane.report().await;
        assert_eq!(next.seq, last.seq + 1);
        last = next;
        reports += 1;
    }
    assert_eq!((first.seq, first.upstreams[0].requests), (1, 5));
    assert_eq!(last.upstreams[0].requests, 8, "not the difference to what was sent before");
    assert_eq!((last.sessions, last.node.as_ref().unwrap().epoch), (2, 1));
    let sent = &last.upstreams[0];
    assert_eq!(
        (sent.reachability(), sent.tools, sent.since.unwrap().seconds),
        (wire::Reachability::Unreachable, Some(0), 9)
    );
    assert_eq!(sent.last_error, "connection refused");
    drop(peer);

    let peer = plane.accept().await;
    peer.welcome(SOON, Duration::from_millis(50)).await;
    let mut next = plane.report().await;
    while next.seq <= last.seq {
        next = plane.report().await;
    }
    assert!(next.seq > last.seq, "the sequence outlives the connection");
    running.leave(peer).await;
}

#[tokio::test]
async fn a_node_that_stops_says_goodbye() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    running.status(|status| status.connected).await;
    running.tasks.begin_stop();
    match peer.next().await {
        Some(sync_request::Msg::Goodbye(goodbye)) => assert_eq!(goodbye.reason(), GoodbyeReason::Shutdown),
        other => panic!("not a goodbye: {other:?}"),
    }
    assert_eq!(peer.next().await, None, "nothing follows a goodbye");
    drop(peer);
    running.stop().await;
}

#[tokio::test]
async fn a_control_plane_that_does_not_hear_the_goodbye_delays_the_stop_by_two_seconds_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let _deaf = plane.welcome().await;
    running.status(|status| status.connected).await;
    running.tasks.begin_stop();
    assert!(running.tasks.stopped_within(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_peer_that_is_no_control_plane_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let peer = plane.accept().await;
    peer.send(Msg::Config(ConfigUpdate::default())).await;
    let status = running.status(|status| status.last_error.is_some()).await;
    drop(peer);
    assert!(status.last_error.unwrap().contains("did not begin with a welcome"));
    running.stop().await;
}

#[tokio::test]
async fn an_address_that_cannot_be_a_control_plane_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for address in ["https://127.0.0.1:7400", "127.0.0.1:7400", "/path"] {
        let options = Options {
            control: Some(address.parse().unwrap()),
            node_id: "n1".into(),
            labels: BTreeMap::new(),
            listen: "127.0.0.1:1".parse().unwrap(),
            admin: "127.0.0.1:1".parse().unwrap(),
            state: Arc::new(StateDir::open(dir.path()).unwrap()),
            build_version: VERSION,
            stopping: CancellationToken::new(),
        };
        let error = start(options, Arc::new(TestNode::default())).err().unwrap().to_string();
        assert!(error.contains("is not of the form http://host:port"), "{error}");
    }
}
