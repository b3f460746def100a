//! How a node finds, keeps, leaves and finds again its control plane, and what it says meanwhile.

use super::*;
use o1_proto::{
    convert::from_duration,
    wire::{ConfigUpdate, GoodbyeReason},
};
use std::time::UNIX_EPOCH;

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
async fn an_order_to_drain_is_followed_and_answered_at_once_and_the_newest_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.accept().await;
    // Without an order it says nothing for longer than this test waits.
    peer.welcome(SOON * 10, SOON * 10).await;
    for drain in [true, true, false] {
        peer.send(Msg::Drain(o1_proto::wire::DrainOrder { drain })).await;
        let said = peer.heartbeat_until(|beat| beat.drain_ordered == drain).await;
        assert_eq!((said.draining, running.node.drain.load(Ordering::Acquire)), (drain, drain));
    }
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
async fn what_is_open_is_reported_as_soon_as_a_drain_is_ordered() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let peer = plane.accept().await;
    // No report is due within the test.
    peer.welcome(SOON, Duration::from_secs(3600)).await;
    let first = plane.report().await;
    running.node.stats.lock().unwrap().sessions = 3;
    running.node.order_drain(true);
    let ordered = plane.report().await;
    assert_eq!((first.sessions, ordered.sessions, ordered.seq), (0, 3, first.seq + 1));
    running.node.order_drain(false);
    assert_eq!(plane.report().await.seq, first.seq + 2);
    running.leave(peer).await;
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
async fn heartbeats_go_on_while_a_configuration_is_being_applied() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.accept().await;
    peer.welcome(Duration::from_millis(100), SOON).await;
    let gate = running.node.close_gate();
    peer.send(Msg::Config(update(1, 1, &fleet(&["a"])))).await;
    timeout(SOON, async {
        while peer.heartbeats.len() < 5 {
            // 400 ms, longer than the silence that is allowed
            tokio::select! {
                message = peer.next() => panic!("answered before it was applied: {message:?}"),
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
        }
    })
    .await
    .expect("five heartbeats");
    drop(gate);
    assert_ack(&mut peer, 1, 1).await;
    running.leave(peer).await;
}

#[tokio::test]
async fn what_was_being_applied_when_the_stream_broke_is_not_applied_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let peer = plane.welcome().await;
    let gate = running.node.close_gate();
    let sent = update(1, 1, &fleet(&["a"]));
    peer.send(Msg::Config(sent.clone())).await;
    timeout(SOON, running.node.entered.notified()).await.expect("it is being applied");
    drop(peer);
    let mut again = plane.welcome().await;
    assert_eq!(again.hello.applied, None, "it does not run yet");
    again.send(Msg::Config(sent)).await;
    drop(gate);
    assert_ack(&mut again, 1, 1).await;
    assert_eq!(running.applied(), [names(1, &["a"])]);
    running.leave(again).await;
}

#[tokio::test]
async fn each_change_is_logged_once_however_often_it_repeats() {
    let log = Log::default();
    let _capture = log.capture();
    let dir = tempfile::tempdir().unwrap();
    let address = ControlPlane::start().address; // and is gone
    let running = Running::start(dir.path(), Some(address));
    log.until("still no control plane", 2).await;
    let mut plane = ControlPlane::start_at(address);
    let peer = plane.welcome().await;
    log.until("connected to the control plane", 1).await;
    drop(peer);
    log.until("lost the control plane: serving on", 1).await;
    let again = plane.welcome().await;
    log.until("connected to the control plane", 2).await;
    running.leave(again).await;
    let text = log.text();
    assert_eq!(text.matches("cannot reach the control plane: trying on").count(), 1, "{text}");
    assert_eq!(text.matches(" WARN ").count(), 2, "{text}");
}
