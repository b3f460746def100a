//! Statistics, and those who watch them.

use crate::harness::*;
use o1_proto::{
    convert,
    wire::{
        self, FleetStatus, Reachability, ReportStatsRequest, UpstreamState, UpstreamStats,
        WatchStatusRequest, WatchStatusResponse, node_service_client::NodeServiceClient,
    },
};
use tokio::time::{Duration, Instant, timeout};
use tonic::{Streaming, transport::Channel};

fn report(uid: u8, seq: u64, requests: u64) -> ReportStatsRequest {
    let weather = UpstreamStats {
        upstream: "weather".to_owned(),
        requests,
        errors: requests / 10,
        latency_buckets: vec![requests, 0, 0],
        latency_bounds_us: vec![1_000, 2_000],
        reachability: Reachability::Reachable.into(),
        ..Default::default()
    };
    ReportStatsRequest {
        node: Some(identity(uid)),
        seq,
        upstreams: vec![weather],
        sessions: 3,
        resident_bytes: 1 << 20,
        ..Default::default()
    }
}

async fn send(client: &mut NodeServiceClient<Channel>, request: ReportStatsRequest) -> u64 {
    client.report_stats(request).await.unwrap().into_inner().accepted_seq
}

fn requests(status: &FleetStatus) -> u64 {
    status.upstreams[0].totals.as_ref().unwrap().requests
}

async fn watch(plane: &Plane, interval: Duration) -> Streaming<WatchStatusResponse> {
    let request = WatchStatusRequest { min_interval: Some(convert::from_duration(interval)) };
    plane.statuses().await.watch_status(request).await.unwrap().into_inner()
}

async fn picture(stream: &mut Streaming<WatchStatusResponse>) -> WatchStatusResponse {
    timeout(SOON, stream.message()).await.expect("a picture in time").unwrap().expect("the stream goes on")
}

#[tokio::test]
async fn reports_are_added_up_once_and_rates_need_two() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let _nodes = (
        Node::join(plane.listen, running(1, &target)).await,
        Node::join(plane.listen, running(2, &target)).await,
    );
    let mut client = NodeServiceClient::new(plane.channel().await);
    assert_eq!(send(&mut client, report(1, 1, 100)).await, 1);
    assert_eq!(send(&mut client, report(1, 1, 100)).await, 1, "a retry");
    let status = plane.status().await;
    assert_eq!(requests(&status), 100);
    assert_eq!(status.upstreams[0].rates, None);
    let upstream = &status.upstreams[0];
    assert_eq!(
        (upstream.state(), upstream.nodes_reachable, upstream.nodes_unknown),
        (UpstreamState::Healthy, 1, 1)
    );
    assert_eq!(send(&mut client, report(2, 1, 11)).await, 1);
    assert_eq!(send(&mut client, report(1, 3, 150)).await, 3);
    assert_eq!(send(&mut client, report(1, 2, 120)).await, 3, "an older one comes late");
    let status = plane.status().await;
    assert_eq!(requests(&status), 161);
    let rates = status.upstreams[0].rates.unwrap();
    assert!(rates.requests_per_second > 0.0, "{rates:?}");
    assert_eq!(rates.error_ratio, Some(0.1));
    assert_eq!(convert::duration(rates.p50.as_ref()), Some(Duration::from_micros(500)));
    let node = plane.sees(1, |node| node.sessions == Some(3)).await;
    assert_eq!((node.resident_bytes, node.upstreams[0].requests), (Some(1 << 20), 150));
}

#[tokio::test]
async fn a_report_of_a_stranger_does_not_count() {
    let plane = Plane::with(&document(3101)).await;
    let mut client = NodeServiceClient::new(plane.channel().await);
    let status = client.report_stats(report(9, 1, 100)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert_eq!(requests(&plane.status().await), 0);
}

#[tokio::test]
async fn who_watches_sees_the_picture_at_once_and_then_each_change() {
    let plane = Plane::with(&document(3101)).await;
    let mut stream = watch(&plane, Duration::from_millis(200)).await;
    let first = picture(&mut stream).await;
    assert!(!first.heartbeat);
    assert_eq!(first.status.unwrap().nodes.unwrap().connected, 0);
    let target = plane.target().await.unwrap();
    let (_node, _) = Node::join(plane.listen, running(1, &target)).await;
    while picture(&mut stream).await.status.unwrap().nodes.unwrap().synced == 0 {}
    plane.write(BROKEN);
    while !picture(&mut stream).await.status.unwrap().control_plane.unwrap().source.unwrap().refused {}
}

#[tokio::test]
async fn a_burst_of_changes_is_seen_as_few_pictures_and_the_last_one_is_whole() {
    const INTERVAL: Duration = Duration::from_millis(300);
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let (_node, _) = Node::join(plane.listen, running(1, &target)).await;
    let mut stream = watch(&plane, INTERVAL).await;
    picture(&mut stream).await;
    let start = Instant::now();
    let mut client = NodeServiceClient::new(plane.channel().await);
    for seq in 1..=200 {
        send(&mut client, report(1, seq, seq)).await;
    }
    let mut pictures = 0;
    let mut last = 0;
    while last < 200 {
        let seen = requests(&picture(&mut stream).await.status.unwrap());
        assert!(seen >= last, "never an older one");
        last = seen;
        pictures += 1;
    }
    let most = start.elapsed().as_millis() / INTERVAL.as_millis() + 1;
    assert!(pictures <= most, "{pictures} pictures where {most} fit");
}

#[tokio::test]
async fn a_quiet_fleet_sends_a_sign_of_life() {
    let plane = Plane::with(&document(3101)).await;
    let mut stream = watch(&plane, Duration::from_secs(1)).await;
    picture(&mut stream).await;
    let sign = picture(&mut stream).await;
    assert!(sign.heartbeat && sign.status.is_some(), "{sign:?}");
}

#[tokio::test]
async fn who_watches_is_told_when_the_control_plane_stops() {
    let mut plane = Plane::with(&document(3101)).await;
    let mut stream = watch(&plane, Duration::from_secs(1)).await;
    picture(&mut stream).await;
    plane.begin_stop();
    let end = loop {
        match timeout(SOON, stream.message()).await.expect("an end in time") {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), tonic::Code::Unavailable);
    plane.stopped().await;
}

#[tokio::test]
async fn a_node_that_falls_silent_is_unreachable_when_its_lease_is_over() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let (mut node, _) = Node::join(plane.listen, running(1, &target)).await;
    let joined = Instant::now();
    node.goodbye_because(wire::GoodbyeReason::Unresponsive).await;
    assert!(joined.elapsed() >= Duration::from_secs(14), "after {:?}", joined.elapsed());
    let seen = plane.sees(1, |node| node.state() == wire::NodeState::Unreachable).await;
    assert_eq!(seen.sync(), wire::SyncState::Synced, "its last sync state is shown beside");
    assert_eq!(plane.status().await.nodes.unwrap().unreachable, 1);
}
