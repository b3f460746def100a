//! What a node does with the configurations it is sent and with those on its disk.

use super::*;
use crate::plan::{Plan, Version};
use o1_proto::model::{self, Fleet, Life};
use std::fs;

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

fn seal_keys(secrets: &[u8]) -> Msg {
    let key = |secret: &u8| wire::SealKey { id: vec![*secret; 4], secret: vec![*secret; 32] };
    Msg::SealKeys(wire::SealKeys { keys: secrets.iter().map(key).collect() })
}

#[tokio::test]
async fn sealing_keys_are_in_force_before_the_configuration_and_outlive_both_processes() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let log = Log::default();
    let logging = log.capture();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    for (nonce, keys) in [(1, &[201_u8, 202][..]), (2, &[202, 203, 201])] {
        peer.send(seal_keys(keys)).await;
        peer.send(Msg::Config(update(nonce, nonce, &fleet(&["a"])))).await;
        assert_ack(&mut peer, nonce, nonce).await;
        assert_eq!(*running.node.keys.lock().unwrap(), keys);
    }
    // What cannot be a key changes nothing.
    peer.send(Msg::SealKeys(wire::SealKeys::default())).await;
    peer.send(Msg::SealKeys(wire::SealKeys { keys: vec![wire::SealKey::default()] })).await;
    log.until("sealing keys that cannot be used", 2).await;
    assert_eq!(*running.node.keys.lock().unwrap(), [202, 203, 201]);
    let file = std::fs::metadata(running.state.path("seal.keys")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    running.leave(peer).await;
    drop(plane);

    let running = Running::start(dir.path(), None);
    assert_eq!(*running.node.keys.lock().unwrap(), [202, 203, 201], "a restart without a control plane");
    running.stop().await;
    let text = log.text();
    assert!(!["[201", "[202", "c9c9c9", "cacaca", "201, 201"].iter().any(|key| text.contains(key)), "{text}");
    drop(logging);
}

#[tokio::test]
async fn damaged_sealing_keys_are_told_and_do_not_keep_the_node_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    state.write_atomic("seal.keys", b"rubbish").unwrap();
    drop(state);
    let log = Log::default();
    let logging = log.capture();
    let running = Running::start(dir.path(), None);
    assert!(log.text().contains("the sealing keys on disk cannot be used"), "{}", log.text());
    assert!(running.node.keys.lock().unwrap().is_empty());
    running.stop().await;
    drop(logging);
}

/// Nothing in it is a default. How a document becomes it, `manifest` shows.
fn settings() -> Fleet {
    let mut fleet = fleet(&["a"]);
    let upstream = &mut fleet.upstreams[0];
    upstream.headers.clear();
    upstream.primary[0].weight = 3;
    upstream.cache = model::CacheRules {
        tools: [("read".to_owned(), Life::For(Duration::ZERO)), ("get_*".to_owned(), Life::Tier)].into(),
        lists: Some(Life::For(Duration::from_secs(10))),
        share: model::Share::Session,
        ..model::CacheRules::default()
    };
    let key = model::HashKey::Header("x-tenant".into());
    upstream.balance = model::Balance::ConsistentHash { key, virtual_nodes: 20 };
    upstream.outlier = model::Outlier { failures: 0, panic_percent: 0, ..model::Outlier::default() };
    upstream.retry = model::Retry { attempts: 3, budget_min: 0, ..model::Retry::default() };
    upstream.concurrency = model::Concurrency { max: Some(7), queue: 0, wait: Duration::ZERO };
    fleet.caching.resources.eviction = model::Eviction::Lru;
    fleet.caching.catalogue.stale_if_error = Duration::ZERO;
    fleet.batching = model::Batching { window: Duration::from_millis(5), max: 4 };
    fleet
}

#[tokio::test]
async fn a_node_serves_by_every_setting_of_caching_and_balancing_it_is_sent() {
    let sent = settings();
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    peer.send(Msg::Config(update(1, 1, &sent))).await;
    assert_ack(&mut peer, 1, 1).await;
    let fleet = running.node.fleet.lock().unwrap().clone();
    assert_eq!(fleet, sent, "nothing is lost on the wire");

    let plan = Plan::compile(Version::default(), &fleet).unwrap();
    let (a, model) = (plan.upstream("a").unwrap(), &sent.upstreams[0]);
    assert_eq!((&plan.caching, plan.batching), (&sent.caching, sent.batching));
    assert_eq!((&a.cache, &a.balance), (&model.cache, &model.balance));
    assert_eq!((&a.outlier, &a.retry, &a.concurrency), (&model.outlier, &model.retry, &model.concurrency));
    assert_eq!(a.weights, [3]);
    running.leave(peer).await;
}
