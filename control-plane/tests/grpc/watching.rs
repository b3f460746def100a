//! Statistics, and those who watch them.

use crate::harness::*;
use o1_proto::{
    convert,
    wire::{
        self, BatchStats, CacheEvictions, CacheStats, EndpointStats, FleetStatus, Reachability,
        ReportStatsRequest, UpstreamState, UpstreamStats, WatchStatusRequest, WatchStatusResponse,
        node_service_client::NodeServiceClient,
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
    let request = WatchStatusRequest { min_interval: Some(convert::from_duration(interval)), fields: None };
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
async fn many_watchers_share_pictures_and_each_sees_the_change() {
    let plane = Plane::with(&document(3101)).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = watch(&plane, Duration::from_millis(200)).await;
        picture(&mut stream).await;
        streams.push(stream);
    }
    let target = plane.target().await.unwrap();
    let (_node, _) = Node::join(plane.listen, running(1, &target)).await;
    let mut taken = std::collections::BTreeSet::new();
    for stream in &mut streams {
        let seen = loop {
            let status = picture(stream).await.status.unwrap();
            if status.nodes.unwrap().synced == 1 {
                break status;
            }
        };
        let at = seen.as_of.unwrap();
        taken.insert((at.seconds, at.nanos));
    }
    assert!(taken.len() <= 5, "{} pictures for 20 watchers", taken.len());
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

/// A report about the resources tier and one endpoint; what is there is told apart by node.
fn cached(uid: u8, seq: u64, hits: u64, misses: u64) -> ReportStatsRequest {
    let mut request = report(uid, seq, misses);
    let weather = &mut request.upstreams[0];
    weather.cache = vec![CacheStats {
        tier: wire::Tier::Resources.into(),
        hits,
        misses,
        stored: misses,
        evictions: Some(CacheEvictions { capacity: misses - 1, ..Default::default() }),
        entries: 1,
        bytes: u64::from(uid) * 100,
        ..Default::default()
    }];
    weather.endpoints = vec![EndpointStats {
        endpoint: "http://127.0.0.1:3101/mcp".to_owned(),
        picks: misses,
        in_flight: u64::from(uid),
        ejected: uid == 2,
        ..Default::default()
    }];
    weather.batches = Some(BatchStats {
        sizes: vec![misses, 0],
        size_bounds: vec![1],
        size_sum: 2 * misses,
        wait_sum_us: 1_500,
        ..Default::default()
    });
    request
}

#[tokio::test]
async fn caches_endpoints_and_batches_of_all_nodes_are_one_row() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let mut nodes = vec![
        Node::join(plane.listen, running(1, &target)).await.0,
        Node::join(plane.listen, running(2, &target)).await.0,
    ];
    let mut client = NodeServiceClient::new(plane.channel().await);
    send(&mut client, cached(1, 1, 0, 10)).await;
    send(&mut client, cached(2, 1, 5, 4)).await;
    let first = plane.status().await.upstreams[0].clone();
    assert_eq!(first.rates, None);
    send(&mut client, cached(1, 2, 30, 20)).await;
    send(&mut client, cached(1, 2, 30, 20)).await;
    let upstream = plane.status().await.upstreams[0].clone();
    let tiers: Vec<_> = upstream.cache.iter().map(CacheStats::tier).collect();
    assert_eq!(tiers, [wire::Tier::Tools, wire::Tier::Resources, wire::Tier::Catalogue]);
    let resources = upstream.cache[1];
    assert_eq!((resources.hits, resources.misses, resources.stored), (35, 24, 24));
    assert_eq!(resources.evictions.unwrap().capacity, 19 + 3);
    assert_eq!((resources.entries, resources.bytes), (2, 300));
    assert_eq!(upstream.rates.unwrap().hit_ratio, Some(0.75), "30 of 40 since the first report");
    let [endpoint] = &upstream.endpoints[..] else { panic!("{:?}", upstream.endpoints) };
    assert_eq!((endpoint.picks, endpoint.in_flight), (24, 3));
    assert_eq!((endpoint.nodes, endpoint.nodes_ejecting), (2, 1));
    let batches = upstream.batches.unwrap();
    assert_eq!((batches.batches, batches.callers), (24, 48));
    assert_eq!(convert::duration(batches.waited.as_ref()), Some(Duration::from_millis(3)));
    // As each node has it.
    let seen = plane.sees(1, |node| !node.upstreams.is_empty()).await;
    assert_eq!(seen.upstreams[0].cache[1], cached(1, 2, 30, 20).upstreams[0].cache[0].filled());
    assert_eq!(seen.upstreams[0].endpoints, cached(1, 2, 30, 20).upstreams[0].endpoints);
    assert_eq!(seen.upstreams[0].batches, cached(1, 2, 30, 20).upstreams[0].batches);
    let page: serde_json::Value =
        serde_json::from_str(plane.get("/status").await.split_once("\r\n\r\n").unwrap().1).unwrap();
    let shown = &page["fleet"]["upstreams"][0];
    assert_eq!((&shown["cache"][1]["tier"], &shown["cache"][1]["hits"]), (&"resources".into(), &35.into()));
    assert_eq!(shown["cache"][1]["evictions"]["capacity"], 22);
    assert_eq!((&shown["endpoints"][0]["picks"], &shown["batches"]["callers"]), (&24.into(), &48.into()));
    // A node that went away takes along what it holds, not what it counted.
    let gone = nodes.pop().unwrap();
    gone.say(wire::sync_request::Msg::Goodbye(wire::Goodbye {
        reason: wire::GoodbyeReason::Shutdown.into(),
        ..Default::default()
    }))
    .await;
    let left = eventually(async || {
        let upstream = plane.status().await.upstreams[0].clone();
        if upstream.cache[1].entries == 1 { Ok(upstream) } else { Err(format!("{upstream:?}")) }
    })
    .await;
    assert_eq!((left.cache[1].hits, left.cache[1].bytes, left.endpoints[0].in_flight), (35, 100, 1));
}

/// With the parts that are absent when nothing is in them.
trait Filled {
    fn filled(self) -> Self;
}

impl Filled for CacheStats {
    fn filled(self) -> Self {
        let (skipped, evictions) = (self.skipped.unwrap_or_default(), self.evictions.unwrap_or_default());
        Self { skipped: Some(skipped), evictions: Some(evictions), ..self }
    }
}
