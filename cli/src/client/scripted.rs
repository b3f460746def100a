//! A control plane that says what a test wants. Here, because generated types go no further.

use super::wire;
use o1_process::{OnExit, Tasks};
use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::SystemTime,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

type Answer<T> = Result<Response<T>, Status>;

/// A running one.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    /// The revision that its fleet runs; 0: a picture without a configuration, 13: none at all; from 100 on the
    /// upstream `files` too, of whose three nodes as many are on the backup as the revision is above 100.
    pub(crate) revision: watch::Sender<u64>,
    /// How many events there are.
    pub(crate) events: watch::Sender<u64>,
    heard: Arc<Mutex<Vec<String>>>,
    tasks: Tasks,
}

#[derive(Clone)]
pub(super) struct Service {
    revision: watch::Receiver<u64>,
    events: watch::Receiver<u64>,
    heard: Arc<Mutex<Vec<String>>>,
}

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
        let (events, happened) = watch::channel(0);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let service = Service { revision: seen, events: happened, heard: heard.clone() };
        let status = wire::status_service_server::StatusServiceServer::new(service.clone());
        let admin = wire::admin_service_server::AdminServiceServer::new(service);
        let server = tonic::transport::Server::builder()
            .add_service(status)
            .add_service(admin)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        tasks.spawn("scripted control plane", OnExit::Quiet, async move { server.await.unwrap() });
        Self { address, revision, events, heard, tasks }
    }

    /// What was asked of it that a test may want to know, in order.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// Its end, as by `kill -9`. Its connections are served by tasks of the runtime, which a closed
    /// channel of revisions ends.
    pub(crate) async fn kill(self) {
        drop((self.revision, self.events));
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
        upstreams: [upstream]
            .into_iter()
            .chain(revision.checked_sub(100).filter(|moved| *moved <= 3).map(files))
            .collect(),
    }
}

/// An upstream with a backup, to which so many of its three nodes have moved.
fn files(moved: u64) -> wire::UpstreamStatus {
    let node = |number: u64| {
        let (store, phase) = match number <= moved {
            true => (wire::Store::Backup, wire::FailoverPhase::Backup),
            false => (wire::Store::Primary, wire::FailoverPhase::DrainingPrimary),
        };
        let phase = if moved == 0 { wire::FailoverPhase::Primary } else { phase };
        let state = wire::FailoverState {
            active_store: store.into(),
            phase: phase.into(),
            term: if moved == 0 { 2 } else { 3 },
            ..Default::default()
        };
        wire::NodeFailover {
            node_id: format!("n{number}"),
            connected: true,
            state: Some(state),
            heard_at: None,
        }
    };
    let ordered = moved > 0;
    let decision = match moved {
        0 => wire::FailoverDecision::Healthy,
        3 => wire::FailoverDecision::FailedOver,
        _ => wire::FailoverDecision::FailingOver,
    };
    wire::UpstreamStatus {
        name: "files".into(),
        state: wire::UpstreamState::Healthy.into(),
        backup: "http://127.0.0.1:3201/mcp".into(),
        failover: Some(wire::FailoverStatus {
            decision: decision.into(),
            desired: if ordered { wire::Store::Backup } else { wire::Store::Primary }.into(),
            term: if ordered { 3 } else { 2 },
            nodes_on_backup: u32::try_from(moved).unwrap(),
            nodes_on_primary: u32::try_from(3 - moved).unwrap(),
            last_reason: 77, // of a later version
            writes: wire::WritePolicy::PassThrough.into(),
            nodes: (1..=3).map(node).collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// What is at this position: a decision, its effect on a node, and so on.
fn event(position: u64) -> wire::StoredEvent {
    let (node_id, kind) = match position % 2 {
        1 => ("", wire::EventType::Decided),
        _ => ("n1", wire::EventType::FailoverCommitted),
    };
    let event = wire::Event {
        seq: position,
        at: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        r#type: kind.into(),
        upstream: "files".into(),
        term: position.div_ceil(2),
        ..Default::default()
    };
    wire::StoredEvent { position, node_id: node_id.into(), event: Some(event), ..Default::default() }
}

fn is_wanted(event: &wire::StoredEvent, filter: Option<&wire::EventFilter>) -> bool {
    let Some(filter) = filter else { return true };
    let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
    let of = event.event.as_ref().unwrap();
    is(&filter.upstream, &of.upstream)
        && is(&filter.node_id, &event.node_id)
        && (filter.types.is_empty() || filter.types.contains(&of.r#type))
}

impl Service {
    fn hear(&self, what: String) {
        self.heard.lock().unwrap().push(what);
    }
}

#[tonic::async_trait]
impl wire::admin_service_server::AdminService for Service {
    type PurgeCacheStream = Pin<Box<dyn Stream<Item = Result<wire::PurgeCacheResponse, Status>> + Send>>;

    async fn purge_cache(&self, _: Request<wire::PurgeCacheRequest>) -> Answer<Self::PurgeCacheStream> {
        Err(Status::unimplemented("nobody asks"))
    }

    /// What is refused is asked for by its reason.
    async fn order_store(
        &self,
        request: Request<wire::OrderStoreRequest>,
    ) -> Answer<wire::OrderStoreResponse> {
        let order = request.into_inner();
        let wire::OrderStoreRequest { upstream, if_term, force, request_id, reason, dry_run, .. } = &order;
        self.hear(format!(
            "{:?} of {upstream}, if_term {if_term}, force {force}, dry_run {dry_run}, {reason}, {request_id}",
            order.target()
        ));
        match reason.as_str() {
            "unusable" if !force => Err(Status::failed_precondition("no node sees the backup healthy")),
            "late" => Err(Status::aborted("the term is 4, not 3")),
            "early" => Err(Status::unimplemented("failover comes later")),
            "crash" => std::future::pending().await,
            _ => Ok(Response::new(wire::OrderStoreResponse {
                term: 3,
                decision_id: "d-3".into(),
                nodes: 3,
                no_op: reason == "again",
                warnings: if *force { vec!["forced".into()] } else { vec![] },
                journal_pending: 0,
            })),
        }
    }

    async fn set_upstream_mode(
        &self,
        request: Request<wire::SetUpstreamModeRequest>,
    ) -> Answer<wire::SetUpstreamModeResponse> {
        let order = request.into_inner();
        self.hear(format!("{:?} of {} for {:?}", order.mode(), order.upstream, order.expires_in));
        if order.reason == "unusable" {
            return Err(Status::failed_precondition("no node sees the backup healthy"));
        }
        let mode_until = Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 });
        let mode_until = mode_until.filter(|_| order.expires_in.is_some());
        let failover = wire::FailoverStatus { mode: order.mode, mode_until, ..Default::default() };
        Ok(Response::new(wire::SetUpstreamModeResponse { failover: Some(failover) }))
    }

    async fn list_audit(&self, _: Request<wire::ListAuditRequest>) -> Answer<wire::ListAuditResponse> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn set_maintenance(
        &self,
        request: Request<wire::SetMaintenanceRequest>,
    ) -> Answer<wire::SetMaintenanceResponse> {
        let order = request.into_inner();
        self.hear(format!("maintenance {} for {:?}", order.enabled, order.expires_in));
        let state = match order.enabled {
            true => wire::DecisionState::Maintenance,
            false => wire::DecisionState::Active,
        };
        Ok(Response::new(wire::SetMaintenanceResponse { decisions: state.into() }))
    }

    /// Of the nodes that there are; whoever ordered it before is told so.
    async fn set_node_drain(
        &self,
        request: Request<wire::SetNodeDrainRequest>,
    ) -> Answer<wire::SetNodeDrainResponse> {
        let wire::SetNodeDrainRequest { node_id, drain, reason } = request.into_inner();
        self.hear(format!("drain {drain} of {node_id}, {reason}"));
        if node_id == "n9" {
            return Err(Status::not_found("no node has the id n9; there are: n0, n1, n2"));
        }
        let order = wire::DrainStanding { since: None, reason: reason.clone() };
        let drain = Some(order).filter(|_| drain);
        Ok(Response::new(wire::SetNodeDrainResponse { no_op: reason == "again", drain }))
    }
}

#[tonic::async_trait]
impl wire::status_service_server::StatusService for Service {
    type WatchStatusStream = Pin<Box<dyn Stream<Item = Result<wire::WatchStatusResponse, Status>> + Send>>;

    async fn get_status(&self, _: Request<wire::GetStatusRequest>) -> Answer<wire::GetStatusResponse> {
        let revision = *self.revision.borrow();
        let status = Some(picture(revision)).filter(|_| revision != 13);
        Ok(Response::new(wire::GetStatusResponse { status }))
    }

    /// Every second message is a heartbeat without a picture.
    async fn watch_status(&self, _: Request<wire::WatchStatusRequest>) -> Answer<Self::WatchStatusStream> {
        let pictures = WatchStream::new(self.revision.clone()).map(|revision| {
            let status = Some(picture(revision)).filter(|_| revision % 2 == 1);
            Ok(wire::WatchStatusResponse { heartbeat: status.is_none(), status })
        });
        Ok(Response::new(Box::pin(pictures)))
    }

    /// One node on each of three pages; without end while the revision is 13. From 200 on the second one drains, and has
    /// as many sessions as the revision is above 200.
    async fn list_nodes(&self, request: Request<wire::ListNodesRequest>) -> Answer<wire::ListNodesResponse> {
        let page: u32 = request.into_inner().page_token.parse().unwrap_or(0);
        let revision = *self.revision.borrow();
        let drains = page == 1 && revision >= 200;
        let node = wire::NodeStatus {
            node: Some(wire::NodeIdentity { node_id: format!("n{page}"), ..Default::default() }),
            state: if drains { wire::NodeState::Draining } else { wire::NodeState::Connected }.into(),
            sessions: drains.then(|| revision.saturating_sub(200)),
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
        let more = page < 2 || *self.revision.borrow() == 13;
        let next_page_token = if more { (page + 1).to_string() } else { String::new() };
        Ok(Response::new(wire::ListNodesResponse { nodes: vec![node], next_page_token, total_size: 3 }))
    }

    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<wire::WatchEventsResponse, Status>> + Send>>;

    async fn watch_events(
        &self,
        request: Request<wire::WatchEventsRequest>,
    ) -> Answer<Self::WatchEventsStream> {
        let wire::WatchEventsRequest { after_position, filter } = request.into_inner();
        let mut through = after_position.unwrap();
        self.hear(format!("events after {through}"));
        let parts = WatchStream::new(self.events.clone()).map(move |count| {
            let new = (through + 1..=count).map(event);
            let events = new.filter(|event| is_wanted(event, filter.as_ref())).collect();
            through = through.max(count);
            Ok(wire::WatchEventsResponse { events, through_position: through })
        });
        Ok(Response::new(Box::pin(parts)))
    }

    /// At most two on a page.
    async fn list_events(
        &self,
        request: Request<wire::ListEventsRequest>,
    ) -> Answer<wire::ListEventsResponse> {
        let request = request.into_inner();
        assert!(request.newest_first && request.page_size > 0, "{request:?}");
        let count = *self.events.borrow();
        let below = request.page_token.parse().unwrap_or(count + 1);
        let mut found = (1..below).rev().map(event);
        let filter = request.filter.as_ref();
        let page = usize::try_from(request.page_size.min(2)).unwrap();
        let events: Vec<_> = found.by_ref().filter(|event| is_wanted(event, filter)).take(page).collect();
        let next = events.last().map_or(0, |event| event.position);
        Ok(Response::new(wire::ListEventsResponse {
            events,
            next_page_token: if next > 1 { next.to_string() } else { String::new() },
            oldest_position: count.min(1),
            newest_position: count,
        }))
    }

    /// `weather` on the first page, everything else on the second.
    async fn list_upstreams(
        &self,
        request: Request<wire::ListUpstreamsRequest>,
    ) -> Answer<wire::ListUpstreamsResponse> {
        let upstreams = picture(*self.revision.borrow()).upstreams;
        let (page, rest): (Vec<_>, Vec<_>) = upstreams
            .into_iter()
            .partition(|one| request.get_ref().page_token.is_empty() == (one.name == "weather"));
        let next_page_token =
            if page.iter().any(|one| one.name == "weather") && !rest.is_empty() { "1" } else { "" };
        Ok(Response::new(wire::ListUpstreamsResponse {
            upstreams: page,
            next_page_token: next_page_token.to_owned(),
            total_size: 2,
        }))
    }
}
