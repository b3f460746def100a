//! A control plane that does what the test says, on a real socket, and can be killed like a process.

use crate::{
    calls::{self, Found, Outcome, Wanted},
    control::{NotAnswered, Position},
    inventory::{Inventory, State, Tool},
    logs::Log,
    purge::{Order, Purged},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use o1_proto::{
    convert::{self, from_duration},
    digest,
    model::{
        DecisionState, Directive, Endpoint, EndpointKind, Event, FailoverState, Fleet, Reference,
        StoreHealth, Transport, Upstream,
    },
    wire::{
        AppendEventsRequest, AppendEventsResponse, ConfigUpdate, ConfigVersion, EventBatch, EventCursor,
        EventsOpen, FailoverReport, Heartbeat, HeartbeatAck, Hello, Observations, ReportStatsRequest,
        ReportStatsResponse, Resource, SyncRequest, SyncResponse, Welcome, append_events_request,
        node_service_server::{NodeService, NodeServiceServer},
        sync_request,
        sync_response::Msg,
    },
};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::{Notify, mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// No wait in a test is longer.
pub const SOON: Duration = Duration::from_secs(20);

type Reply = Result<SyncResponse, Status>;

/// Runs on a runtime of its own; dropping it cuts every socket, as a kill does.
pub struct ControlPlane {
    pub address: SocketAddr,
    peers: mpsc::Receiver<Peer>,
    reports: mpsc::Receiver<ReportStatsRequest>,
    events: mpsc::Receiver<EventPeer>,
    /// Streams of events that nodes wanted to open.
    pub asked: Arc<AtomicU32>,
    /// It is of a build that knows no events.
    pub no_events: Arc<AtomicBool>,
    /// So many of the next reports are refused.
    pub refuse_reports: Arc<AtomicU32>,
    runtime: Option<Runtime>,
}

#[derive(Clone)]
struct Service {
    peers: mpsc::Sender<Peer>,
    reports: mpsc::Sender<ReportStatsRequest>,
    events: mpsc::Sender<EventPeer>,
    asked: Arc<AtomicU32>,
    no_events: Arc<AtomicBool>,
    refuse_reports: Arc<AtomicU32>,
}

/// One stream of one node.
pub struct Peer {
    requests: Streaming<SyncRequest>,
    replies: mpsc::Sender<Reply>,
    pub hello: Hello,
    /// What the heartbeats said.
    pub heartbeats: Vec<sync_request::Msg>,
    pub answer_heartbeats: bool,
    /// What the answers to heartbeats say.
    pub decisions: i32,
    /// What the node said of its failovers, and of its stores, and nobody has looked at yet.
    pub failovers: VecDeque<FailoverReport>,
    pub observations: VecDeque<Observations>,
}

/// One stream of events of one node.
pub struct EventPeer {
    pub open: EventsOpen,
    requests: Streaming<AppendEventsRequest>,
    replies: mpsc::Sender<Result<AppendEventsResponse, Status>>,
}

impl ControlPlane {
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    pub fn start_at(address: SocketAddr) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (peer_tx, peers) = mpsc::channel(64);
        let (report_tx, reports) = mpsc::channel(1024);
        let refuse_reports = Arc::new(AtomicU32::new(0));
        let (event_tx, events) = mpsc::channel(64);
        let (asked, no_events) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
        let service = Service {
            peers: peer_tx,
            reports: report_tx,
            events: event_tx,
            asked: asked.clone(),
            no_events: no_events.clone(),
            refuse_reports: refuse_reports.clone(),
        };
        let (bound_tx, bound) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let listener = bind(address).await;
            bound_tx.send(listener.local_addr().unwrap()).unwrap();
            let server = tonic::transport::Server::builder().add_service(NodeServiceServer::new(service));
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        let address = bound.recv_timeout(SOON).unwrap();
        Self { address, peers, reports, events, asked, no_events, refuse_reports, runtime: Some(runtime) }
    }

    /// The next stream a node opens, its Hello read.
    pub async fn accept(&mut self) -> Peer {
        timeout(SOON, self.peers.recv()).await.expect("a node connects").unwrap()
    }

    /// As [`ControlPlane::accept`], and welcomes the node with long intervals.
    pub async fn welcome(&mut self) -> Peer {
        let peer = self.accept().await;
        peer.welcome(Duration::from_secs(10), Duration::from_secs(10)).await;
        peer
    }

    /// The next stream of events that a node opens, its open read.
    pub async fn events(&mut self) -> EventPeer {
        timeout(SOON, self.events.recv()).await.expect("a stream of events").unwrap()
    }

    pub async fn report(&mut self) -> ReportStatsRequest {
        timeout(SOON, self.reports.recv()).await.expect("a report").unwrap()
    }
}

/// A port that was free a moment ago may serve a passing connection of another test.
async fn bind(address: SocketAddr) -> TcpListener {
    let bound = async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(SOON, bound).await.expect("a free port")
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // On a thread that may wait: when this returns, the port is free.
            let ended = std::thread::spawn(move || runtime.shutdown_timeout(SOON)).join();
            ended.expect("a runtime does not panic when it ends");
        }
    }
}

#[tonic::async_trait]
impl NodeService for Service {
    type SyncStream = ReceiverStream<Reply>;

    async fn sync(
        &self,
        request: Request<Streaming<SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let mut requests = request.into_inner();
        let Some(SyncRequest { msg: Some(sync_request::Msg::Hello(hello)) }) = requests.message().await?
        else {
            return Err(Status::invalid_argument("the first message is not a hello"));
        };
        let (replies, stream) = mpsc::channel(64);
        let peer = Peer {
            requests,
            replies,
            hello,
            heartbeats: Vec::new(),
            answer_heartbeats: true,
            decisions: 0,
            failovers: VecDeque::new(),
            observations: VecDeque::new(),
        };
        self.peers.send(peer).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type AppendEventsStream = ReceiverStream<Result<AppendEventsResponse, Status>>;

    async fn append_events(
        &self,
        request: Request<Streaming<AppendEventsRequest>>,
    ) -> Result<Response<Self::AppendEventsStream>, Status> {
        self.asked.fetch_add(1, Ordering::AcqRel);
        if self.no_events.load(Ordering::Acquire) {
            return Err(Status::unimplemented("events came later"));
        }
        let mut requests = request.into_inner();
        let Some(append_events_request::Msg::Open(open)) = requests.message().await?.and_then(|one| one.msg)
        else {
            return Err(Status::invalid_argument("the first message is not an open"));
        };
        let (replies, stream) = mpsc::channel(64);
        let peer = EventPeer { open, requests, replies };
        self.events.send(peer).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn report_stats(
        &self,
        request: Request<ReportStatsRequest>,
    ) -> Result<Response<ReportStatsResponse>, Status> {
        let report = request.into_inner();
        let accepted_seq = report.seq;
        self.reports.send(report).await.map_err(|_| Status::unavailable("the test is over"))?;
        let refuse = |left: u32| left.checked_sub(1);
        match self.refuse_reports.fetch_update(Ordering::AcqRel, Ordering::Acquire, refuse) {
            Ok(_) => Err(Status::unavailable("not now")),
            Err(_) => Ok(Response::new(ReportStatsResponse { accepted_seq })),
        }
    }
}

impl Peer {
    pub async fn send(&self, message: Msg) {
        self.replies.send(Ok(SyncResponse { msg: Some(message) })).await.expect("the stream stands");
    }

    pub async fn welcome(&self, heartbeat: Duration, stats: Duration) {
        self.send(Msg::Welcome(Welcome {
            heartbeat_interval: Some(from_duration(heartbeat)),
            stats_interval: Some(from_duration(stats)),
            control_plane_version: "9.9.9".into(),
            ..Welcome::default()
        }))
        .await;
    }

    /// The next message that is no heartbeat; heartbeats are answered meanwhile. `None`: the node has ended
    /// its half of the stream.
    pub async fn next(&mut self) -> Option<sync_request::Msg> {
        timeout(SOON, self.next_unlimited()).await.expect("a message in time")
    }

    /// Reads and answers heartbeats until the stream breaks.
    pub async fn until_broken(&mut self) {
        timeout(SOON, async { while self.next_unlimited().await.is_some() {} })
            .await
            .expect("a broken stream");
    }

    /// What the node says next of its failovers.
    pub async fn failover(&mut self) -> FailoverReport {
        let found = async {
            while self.failovers.is_empty() {
                assert_eq!(self.step().await, Some(None));
            }
        };
        timeout(SOON, found).await.expect("a report in time");
        self.failovers.pop_front().unwrap()
    }

    /// What it says next of its stores.
    pub async fn observation(&mut self) -> Observations {
        let found = async {
            while self.observations.is_empty() {
                assert_eq!(self.step().await, Some(None));
            }
        };
        timeout(SOON, found).await.expect("observations in time");
        self.observations.pop_front().unwrap()
    }

    /// The next heartbeat that is like this.
    pub async fn heartbeat_until(&mut self, wanted: impl Fn(&Heartbeat) -> bool) -> Heartbeat {
        let found = async {
            loop {
                assert_eq!(self.step().await, Some(None));
                if let Some(sync_request::Msg::Heartbeat(beat)) = self.heartbeats.pop()
                    && wanted(&beat)
                {
                    return beat;
                }
            }
        };
        timeout(SOON, found).await.expect("a heartbeat in time")
    }

    async fn next_unlimited(&mut self) -> Option<sync_request::Msg> {
        loop {
            if let Some(message) = self.step().await? {
                return Some(message);
            }
        }
    }

    /// Reads one message. `Some(None)`: it was set aside.
    async fn step(&mut self) -> Option<Option<sync_request::Msg>> {
        match self.requests.message().await.ok()??.msg? {
            sync_request::Msg::Heartbeat(heartbeat) => {
                let decisions = self.decisions;
                let ack = HeartbeatAck { seq: heartbeat.seq, decisions, ..HeartbeatAck::default() };
                self.heartbeats.push(sync_request::Msg::Heartbeat(heartbeat));
                if self.answer_heartbeats {
                    // The node may be gone meanwhile; then the next read says so.
                    let _ = self.replies.send(Ok(SyncResponse { msg: Some(Msg::HeartbeatAck(ack)) })).await;
                }
            }
            sync_request::Msg::Failover(report) => self.failovers.push_back(report),
            sync_request::Msg::Observations(observations) => self.observations.push_back(observations),
            other => return Some(Some(other)),
        }
        Some(None)
    }
}

impl EventPeer {
    /// What is on the disk, and how many events more may come.
    pub async fn answer(&self, through: Option<Position>, credits: u32) {
        let node_uid = self.open.node_uid.clone();
        let durable_through = through.map(|(epoch, seq)| EventCursor { node_uid, epoch, seq });
        self.replies.send(Ok(AppendEventsResponse { durable_through, credits })).await.expect("it stands");
    }

    /// The next batch: its epoch, and its events.
    pub async fn batch(&mut self) -> (u64, Vec<Event>) {
        let message = timeout(SOON, self.requests.message()).await.expect("a batch in time");
        match message.expect("the stream stands").and_then(|one| one.msg) {
            Some(append_events_request::Msg::Batch(EventBatch { epoch, events })) => {
                (epoch, events.iter().map(|body| convert::decode_event(body).unwrap().0).collect())
            }
            other => panic!("not a batch: {other:?}"),
        }
    }

    /// The numbers of its events.
    pub async fn seqs(&mut self) -> (u64, Vec<u64>) {
        let (epoch, events) = self.batch().await;
        (epoch, events.iter().map(|event| event.seq).collect())
    }

    pub async fn fail(self, status: Status) {
        self.replies.send(Err(status)).await.expect("it stands");
    }
}

/// A configuration with one upstream for each name.
pub fn fleet(names: &[&str]) -> Fleet {
    let upstream = |name: &&str| Upstream {
        name: (*name).to_owned(),
        prefix: None,
        primary: vec![Endpoint {
            kind: EndpointKind::Http {
                url: format!("http://{name}.example/mcp").parse().unwrap(),
                transport: Transport::Http,
            },
            weight: 1,
        }],
        backup: None,
        headers: [("authorization".to_owned(), Reference::Env("TOKEN".into()))].into(),
        ..Upstream::default()
    };
    Fleet { upstreams: names.iter().map(upstream).collect(), ..Fleet::default() }
}

/// `fleet` as the control plane sends it.
pub fn update(nonce: u64, revision: u64, fleet: &Fleet) -> ConfigUpdate {
    update_of(nonce, revision, o1_proto::convert::encode(fleet))
}

/// Any resources, with the digest that belongs to them.
pub fn update_of(nonce: u64, revision: u64, resources: Vec<Resource>) -> ConfigUpdate {
    let root_digest = digest::root(&resources);
    ConfigUpdate {
        nonce,
        to: Some(ConfigVersion { generation: 1, revision, root_digest }),
        resources,
        ..ConfigUpdate::default()
    }
}

/// What a node was told of the control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    pub connected: Option<bool>,
    pub decisions: Option<DecisionState>,
}

/// Name, primary, backup.
type Seen = (String, StoreHealth, StoreHealth);

/// What a node was told to serve, and what it is to answer.
#[derive(Default)]
pub struct TestNode {
    pub applied: Mutex<Vec<(u64, Vec<String>)>>,
    /// What was applied last.
    pub fleet: Mutex<Fleet>,
    pub problems: Mutex<Vec<super::LocalProblem>>,
    pub stats: Mutex<super::NodeStats>,
    pub panic: AtomicBool,
    /// Of the upstream `files`.
    pub log: Arc<Log>,
    /// The keys it seals with, by the first byte of each secret.
    pub keys: Mutex<Vec<u8>>,
    /// What it was told.
    pub directed: Mutex<Vec<Vec<Directive>>>,
    pub told: watch::Sender<Told>,
    /// Where it stands, and what it sees.
    pub standing: Mutex<Vec<(String, FailoverState)>>,
    pub seen: Mutex<(bool, Vec<Seen>)>,
    pub failover_changed: watch::Sender<u64>,
    /// What it was told last of new sessions.
    pub drain: AtomicBool,
    /// Applying has begun.
    pub entered: Notify,
    gate: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
}

impl TestNode {
    /// Something of its failovers changed.
    pub fn change(&self) {
        self.failover_changed.send_modify(|count| *count += 1);
    }

    /// The next apply waits until what this returns is dropped.
    pub fn close_gate(&self) -> std::sync::mpsc::Sender<()> {
        let (open, gate) = std::sync::mpsc::channel();
        *self.gate.lock().unwrap() = Some(gate);
        open
    }
}

impl super::Node for TestNode {
    fn apply(&self, version: super::AppliedVersion, fleet: Fleet) -> Result<(), Vec<super::LocalProblem>> {
        assert!(!self.panic.load(Ordering::Acquire), "the node cannot apply this");
        self.entered.notify_one();
        let gate = self.gate.lock().unwrap().take();
        if let Some(gate) = gate {
            let opened = gate.recv_timeout(SOON);
            assert_eq!(
                opened,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected),
                "the gate opens in time"
            );
        }
        let problems = self.problems.lock().unwrap().clone();
        if !problems.is_empty() {
            return Err(problems);
        }
        let names = fleet.upstreams.iter().map(|upstream| upstream.name.clone()).collect();
        *self.fleet.lock().unwrap() = fleet;
        self.applied.lock().unwrap().push((version.revision, names));
        Ok(())
    }

    fn stats(&self) -> super::NodeStats {
        self.stats.lock().unwrap().clone()
    }

    fn inventory(
        &self,
        server: Option<String>,
        principal: Option<String>,
    ) -> BoxFuture<'_, Result<Inventory, NotAnswered>> {
        let tool = |n: usize| Tool {
            name: format!("t{n}"),
            upstream: principal.clone().unwrap_or_default(),
            own_name: format!("t{n}"),
            description: "d".repeat(300),
            shortened: false,
            state: State::Denied { pattern: "t*".into() },
        };
        let tools = match server.as_deref() {
            None => Ok((0..450).map(tool).collect()),
            Some("slow") => return std::future::pending().boxed(),
            Some(name) => Err(NotAnswered::NotFound(format!("no server {name}"))),
        };
        std::future::ready(tools.map(|tools| Inventory { tools, ..Inventory::default() })).boxed()
    }

    fn log(&self, upstream: &str) -> Result<Option<Arc<Log>>, NotAnswered> {
        Ok((upstream == "files").then(|| self.log.clone()))
    }

    /// It keeps two answers of `files` and nothing else.
    fn purge(&self, order: Order) -> BoxFuture<'_, Result<Purged, NotAnswered>> {
        let purged = match order.upstream.as_deref() {
            None | Some("files") => Ok(Purged { entries: 2, bytes: 4096 }),
            Some(name) => Err(NotAnswered::NotFound(format!("no upstream {name}"))),
        };
        std::future::ready(purged).boxed()
    }

    /// Two calls of `files` were answered.
    fn calls(&self, wanted: &Wanted) -> Result<Found, NotAnswered> {
        if let Some(name) = wanted.upstream.as_deref().filter(|name| *name != "files") {
            return Err(NotAnswered::NotFound(format!("no upstream {name}")));
        }
        let call = |name: &str, outcome| calls::Call {
            at: SystemTime::UNIX_EPOCH,
            method: "tools/call".into(),
            name: name.into(),
            outcome,
            took: Duration::from_millis(3),
            store: Some(o1_proto::model::Store::Backup),
        };
        let mut both = vec![call("read", Outcome::Ok), call("write", Outcome::Timeout)];
        both.retain(|call| !wanted.failed || call.outcome != Outcome::Ok);
        both.truncate(wanted.limit);
        let calls = both.into_iter().map(|call| ("files".to_owned(), call)).collect();
        Ok(Found { calls, seen: 7, kept: 2 })
    }

    fn draining(&self) -> bool {
        self.drain_ordered()
    }

    fn order_drain(&self, drain: bool) {
        self.drain.store(drain, Ordering::Release);
    }

    fn drain_ordered(&self) -> bool {
        self.drain.load(Ordering::Acquire)
    }

    fn seal_with(&self, keys: &[crate::seal::Key]) {
        *self.keys.lock().unwrap() = keys.iter().map(|key| key.secret[0]).collect();
    }

    fn directed(&self, directives: Vec<Directive>) {
        self.directed.lock().unwrap().push(directives);
    }

    fn failover(&self) -> Vec<(String, FailoverState)> {
        self.standing.lock().unwrap().clone()
    }

    fn observations(&self) -> (bool, Vec<(String, StoreHealth, StoreHealth)>) {
        self.seen.lock().unwrap().clone()
    }

    fn failover_changed(&self) -> watch::Receiver<u64> {
        self.failover_changed.subscribe()
    }

    fn decisions(&self, state: DecisionState) {
        self.told.send_modify(|told| told.decisions = Some(state));
    }

    fn control_plane(&self, connected: bool) {
        self.told.send_modify(|told| told.connected = Some(connected));
    }
}
