//! A control plane that says what a test wants. Here, because generated types go no further.

use super::wire;
use o1_process::{OnExit, Tasks};
use std::{net::SocketAddr, pin::Pin, time::SystemTime};
use tokio::{net::TcpListener, sync::watch};
use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

type Answer<T> = Result<Response<T>, Status>;

/// A running one.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    /// The revision that its fleet runs; 0: a picture without a configuration, 13: none at all.
    pub(crate) revision: watch::Sender<u64>,
    tasks: Tasks,
}

struct Service(watch::Receiver<u64>);

impl Scripted {
    /// Where an earlier one was killed a moment ago, the port may take a while to become free.
    pub(crate) async fn start(address: SocketAddr, revision: u64) -> Self {
        let mut tries = 0;
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) => assert!(tries < 1000, "cannot bind {address}: {error}"),
            }
            tries += 1;
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        };
        let (address, tasks) = (listener.local_addr().unwrap(), Tasks::new());
        let (revision, seen) = watch::channel(revision);
        let service = wire::status_service_server::StatusServiceServer::new(Service(seen));
        let server = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        tasks.spawn("scripted control plane", OnExit::Quiet, async move { server.await.unwrap() });
        Self { address, revision, tasks }
    }

    /// Its end, as by `kill -9`. Its connections are served by tasks of the runtime, which a closed
    /// channel of revisions ends.
    pub(crate) async fn kill(self) {
        drop(self.revision);
        self.tasks.stopped_within(std::time::Duration::ZERO).await;
    }
}

fn picture(revision: u64) -> wire::FleetStatus {
    let now = Some(SystemTime::now().into());
    let target = wire::ConfigVersion { generation: 1, revision, root_digest: vec![0xab, 0x01] };
    let upstream = wire::UpstreamStatus {
        name: "weather".into(),
        state: wire::UpstreamState::Healthy.into(),
        nodes_reachable: 2,
        since: now,
        tools: Some(5),
        rates: Some(wire::UpstreamRates {
            requests_per_second: 3.0,
            p50: Some(prost_types::Duration { seconds: 0, nanos: 1_500_000 }),
            p99: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
            ..Default::default()
        }),
        ..Default::default()
    };
    wire::FleetStatus {
        as_of: now,
        control_plane: Some(wire::ControlPlaneStatus {
            version: "0.1.0".into(),
            started_at: now,
            listen: "127.0.0.1:7400".into(),
            target: Some(target).filter(|_| revision > 0),
            ..Default::default()
        }),
        nodes: Some(wire::NodeCounts { connected: 2, synced: 2, ..Default::default() }),
        upstreams: vec![upstream],
    }
}

#[tonic::async_trait]
impl wire::status_service_server::StatusService for Service {
    type WatchStatusStream = Pin<Box<dyn Stream<Item = Result<wire::WatchStatusResponse, Status>> + Send>>;

    async fn get_status(&self, _: Request<wire::GetStatusRequest>) -> Answer<wire::GetStatusResponse> {
        let revision = *self.0.borrow();
        let status = Some(picture(revision)).filter(|_| revision != 13);
        Ok(Response::new(wire::GetStatusResponse { status }))
    }

    /// Every second message is a heartbeat without a picture.
    async fn watch_status(&self, _: Request<wire::WatchStatusRequest>) -> Answer<Self::WatchStatusStream> {
        let pictures = WatchStream::new(self.0.clone()).map(|revision| {
            let status = Some(picture(revision)).filter(|_| revision % 2 == 1);
            Ok(wire::WatchStatusResponse { heartbeat: status.is_none(), status })
        });
        Ok(Response::new(Box::pin(pictures)))
    }

    /// One node on each of three pages; without end while the revision is 13.
    async fn list_nodes(&self, request: Request<wire::ListNodesRequest>) -> Answer<wire::ListNodesResponse> {
        let page: u32 = request.into_inner().page_token.parse().unwrap_or(0);
        let node = wire::NodeStatus {
            node: Some(wire::NodeIdentity { node_id: format!("n{page}"), ..Default::default() }),
            state: wire::NodeState::Connected.into(),
            sync: 77, // of a later version
            clock_skew: Some(prost_types::Duration { seconds: -2, nanos: -500_000_000 }),
            rejections: vec![wire::Rejection {
                resource: Some(wire::ResourceKey { kind: 1, name: "weather".into() }),
                reason: wire::RejectionReason::LocalDependency.into(),
                field_path: "headers.x".into(),
                message: "no".into(),
            }],
            ..Default::default()
        };
        let more = page < 2 || *self.0.borrow() == 13;
        let next_page_token = if more { (page + 1).to_string() } else { String::new() };
        Ok(Response::new(wire::ListNodesResponse { nodes: vec![node], next_page_token, total_size: 3 }))
    }

    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<wire::WatchEventsResponse, Status>> + Send>>;

    async fn watch_events(&self, _: Request<wire::WatchEventsRequest>) -> Answer<Self::WatchEventsStream> {
        Err(Status::unimplemented("nothing happens here"))
    }

    async fn list_events(&self, _: Request<wire::ListEventsRequest>) -> Answer<wire::ListEventsResponse> {
        Err(Status::unimplemented("nothing happens here"))
    }

    async fn list_upstreams(
        &self,
        _: Request<wire::ListUpstreamsRequest>,
    ) -> Answer<wire::ListUpstreamsResponse> {
        Err(Status::unimplemented("o1ctl does not ask"))
    }
}
