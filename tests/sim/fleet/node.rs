//! A node as the control plane sees one: a connection, a stream, heartbeats, reports of counters and what it sees of
//! stores, at the pace of a real node. It serves nobody.

use super::contract::{
    ConfigAck, ConfigNack, ConfigUpdate, ConfigVersion, Directive, EndpointStats, FailoverPhase,
    FailoverReport, FailoverState, Heartbeat, Hello, NodeIdentity, Observation, Observations, Reachability,
    Rejection, RejectionReason, ReportStatsRequest, Resource, ResourceKind, Store, StoreHealth, SyncRequest,
    Upstream, UpstreamStats, Verdict, Welcome, node_service_client::NodeServiceClient,
    sync_request::Msg as Say, sync_response::Msg as Hear,
};
use prost::Message as _;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, interval_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

/// What a node that lacks it refuses.
pub const SECRET: &str = "env:O1_SIM_SECRET";
const OBSERVE: Duration = Duration::from_secs(10);

/// What became of the revisions that a node was given, and when it said so.
#[derive(Default)]
pub struct Diary {
    pub applied: Mutex<Vec<(u64, Instant)>>,
    pub refused: Mutex<Vec<u64>>,
}

impl Diary {
    pub fn applied_at(&self, revision: u64) -> Option<Instant> {
        let applied = self.applied.lock().expect("no holder panics");
        applied.iter().find(|(one, _)| *one == revision).map(|(_, at)| *at)
    }

    pub fn was_given(&self, revision: u64) -> bool {
        self.applied_at(revision).is_some()
            || self.refused.lock().expect("no holder panics").contains(&revision)
    }

    pub fn runs(&self) -> Option<u64> {
        self.applied.lock().expect("no holder panics").last().map(|(revision, _)| *revision)
    }
}

/// A node.
pub struct Node {
    me: NodeIdentity,
    /// What [`SECRET`] refers to is not there.
    lacks_secret: bool,
    diary: Arc<Diary>,
    applied: Option<ConfigVersion>,
    /// What `applied` consists of, by kind and name.
    resources: BTreeMap<(i32, String), Resource>,
    upstreams: Vec<Upstream>,
    directives: BTreeMap<String, Directive>,
    reports: u64,
    beats: u64,
}

impl Node {
    pub fn new(number: u16, lacks_secret: bool, diary: Arc<Diary>) -> Self {
        let mut uid = [0; 16];
        uid[14..].copy_from_slice(&number.to_be_bytes());
        let me = NodeIdentity {
            node_id: format!("n{number:03}"),
            node_uid: uid.to_vec(),
            epoch: 1,
            labels: [("zone".to_owned(), format!("z{}", number % 3))].into(),
            build_version: "0.1.0".to_owned(),
            started_at: Some(SystemTime::now().into()),
            listen: format!("127.0.0.1:{}", 20_000 + number),
            admin: format!("127.0.0.1:{}", 30_000 + number),
        };
        let (upstreams, directives) = (Vec::new(), BTreeMap::new());
        Self {
            me,
            lacks_secret,
            diary,
            applied: None,
            resources: BTreeMap::new(),
            upstreams,
            directives,
            reports: 0,
            beats: 0,
        }
    }

    /// Lives until the control plane ends the stream.
    pub async fn live(mut self, control: SocketAddr) -> Result<(), tonic::Status> {
        let channel = Channel::from_shared(format!("http://{control}"))
            .expect("an address is a URL")
            .tcp_nodelay(true)
            .connect()
            .await
            .map_err(|error| tonic::Status::unavailable(format!("{error:?}")))?;
        let mut client = NodeServiceClient::new(channel);
        let (say, said) = mpsc::channel(64);
        say.send(hello(&self.me)).await.expect("the receiver is here");
        let mut hear = client.sync(ReceiverStream::new(said)).await?.into_inner();
        let welcome = welcome(&mut hear).await?;
        let [mut beat, mut report] =
            [welcome.heartbeat_interval, welcome.stats_interval].map(|every| self.ticks(every));
        let mut observe = interval_at(Instant::now() + OBSERVE, OBSERVE);
        loop {
            let answers = tokio::select! {
                heard = hear.message() => match heard?.map(|heard| heard.msg) {
                    Some(Some(Hear::Goodbye(_))) | None => return Ok(()),
                    Some(heard) => self.hears(heard),
                },
                _ = beat.tick() => vec![self.beats()],
                _ = observe.tick() => vec![self.observes()],
                _ = report.tick() => {
                    let report = self.reports();
                    client.report_stats(report).await?;
                    Vec::new()
                }
            };
            for msg in answers {
                say.send(SyncRequest { msg: Some(msg) })
                    .await
                    .map_err(|_| tonic::Status::cancelled("gone"))?;
            }
        }
    }

    /// Nodes that came together do not go on together.
    fn ticks(&self, every: Option<prost_types::Duration>) -> Interval {
        let every = Duration::try_from(every.expect("a welcome says how often")).expect("it is positive");
        interval_at(Instant::now() + every.mul_f64(fastrand::f64()), every)
    }

    fn hears(&mut self, heard: Option<Hear>) -> Vec<Say> {
        match heard {
            Some(Hear::Config(update)) => self.takes(&update),
            Some(Hear::Directives(set)) => {
                for directive in set.directives {
                    self.directives.insert(directive.upstream.clone(), directive);
                }
                vec![self.failover()]
            }
            _ => Vec::new(),
        }
    }

    fn takes(&mut self, update: &ConfigUpdate) -> Vec<Say> {
        let version = update.to.clone().expect("an update says to what");
        let resources = self.worked_in(update);
        let upstreams: Vec<_> = resources.values().filter_map(upstream).collect();
        let lacking = upstreams.iter().find(|one| one.headers.values().any(|value| value == SECRET));
        if let Some(lacking) = lacking.filter(|_| self.lacks_secret) {
            self.diary.refused.lock().expect("no holder panics").push(version.revision);
            let rejection = Rejection {
                resource: resources
                    .values()
                    .find(|one| is_of(one, &lacking.name))
                    .and_then(|one| one.key.clone()),
                reason: RejectionReason::LocalDependency.into(),
                field_path: "headers.Authorization".to_owned(),
                message: "the environment variable O1_SIM_SECRET is not set".to_owned(),
            };
            let running = self.applied.clone();
            let (nonce, rejected, rejections) = (update.nonce, Some(version), vec![rejection]);
            return vec![Say::ConfigNack(ConfigNack { nonce, rejected, running, rejections })];
        }
        self.diary.applied.lock().expect("no holder panics").push((version.revision, Instant::now()));
        (self.resources, self.upstreams, self.applied) = (resources, upstreams, Some(version.clone()));
        let ack = ConfigAck { nonce: update.nonce, applied: Some(version), apply_time: None };
        vec![Say::ConfigAck(ack), self.failover(), self.observes()]
    }

    /// Everything that the version of an update consists of: what it says differs from what runs, and the rest of that.
    fn worked_in(&self, update: &ConfigUpdate) -> BTreeMap<(i32, String), Resource> {
        let mut all = if update.base.is_some() { self.resources.clone() } else { BTreeMap::new() };
        assert!(
            update.base.is_none() || update.base == self.applied,
            "the base is what this node said it runs"
        );
        for key in &update.removed {
            all.remove(&(key.kind, key.name.clone())).expect("only what is there is removed");
        }
        for one in &update.resources {
            let key = one.key.as_ref().expect("a resource has a key");
            all.insert((key.kind, key.name.clone()), one.clone());
        }
        all
    }

    fn beats(&mut self) -> Say {
        self.beats += 1;
        Say::Heartbeat(Heartbeat {
            seq: self.beats,
            applied: self.applied.clone(),
            node_time: Some(SystemTime::now().into()),
            draining: false,
            drain_ordered: false,
        })
    }

    fn backed(&self) -> impl Iterator<Item = &Upstream> {
        self.upstreams.iter().filter(|one| one.backup.is_some())
    }

    fn observes(&self) -> Say {
        let observation = |one: &Upstream| Observation {
            upstream: one.name.clone(),
            primary: Some(healthy()),
            backup: Some(healthy()),
        };
        Say::Observations(Observations {
            self_suspect: false,
            upstreams: self.backed().map(observation).collect(),
        })
    }

    fn failover(&self) -> Say {
        let state = |one: &Upstream| {
            let directive = self.directives.get(&one.name);
            let store = directive.map_or(Store::Primary, Directive::target);
            let phase = if store == Store::Backup { FailoverPhase::Backup } else { FailoverPhase::Primary };
            FailoverState {
                upstream: one.name.clone(),
                active_store: store.into(),
                phase: phase.into(),
                term: directive.map_or(0, |directive| directive.term),
                primary: Some(healthy()),
                backup: Some(healthy()),
                ..Default::default()
            }
        };
        Say::Failover(FailoverReport { upstreams: self.backed().map(state).collect() })
    }

    fn reports(&mut self) -> ReportStatsRequest {
        self.reports += 1;
        let n = self.reports;
        ReportStatsRequest {
            node: Some(self.me.clone()),
            seq: n,
            sampled_at: Some(SystemTime::now().into()),
            upstreams: self.upstreams.iter().map(|one| counters(one, n)).collect(),
            sessions: 3,
            resident_bytes: 20 << 20,
        }
    }
}

fn hello(me: &NodeIdentity) -> SyncRequest {
    SyncRequest { msg: Some(Say::Hello(Hello { node: Some(me.clone()), ..Default::default() })) }
}

async fn welcome(hear: &mut Streaming<super::contract::SyncResponse>) -> Result<Welcome, tonic::Status> {
    match hear.message().await?.and_then(|first| first.msg) {
        Some(Hear::Welcome(welcome)) => Ok(welcome),
        other => Err(tonic::Status::internal(format!("no welcome: {other:?}"))),
    }
}

fn is_of(resource: &Resource, name: &str) -> bool {
    resource.key.as_ref().is_some_and(|key| key.name == name)
}

fn upstream(resource: &Resource) -> Option<Upstream> {
    let key = resource.key.as_ref().expect("a resource has a key");
    let is = key.kind() == ResourceKind::Upstream;
    is.then(|| Upstream::decode(resource.payload.as_slice()).expect("what the kind says"))
}

fn healthy() -> StoreHealth {
    StoreHealth {
        verdict: Verdict::Healthy.into(),
        breaker: super::contract::BreakerState::Closed.into(),
        consecutive: 5,
        checked_at: Some(SystemTime::now().into()),
        ..Default::default()
    }
}

/// What a node with some traffic counts, after `n` reports.
fn counters(upstream: &Upstream, n: u64) -> UpstreamStats {
    let bounds: Vec<u64> = (0..20).map(|power| 100 << power).collect();
    let mut buckets = vec![0; bounds.len() + 1];
    (buckets[2], buckets[4]) = (90 * n, 10 * n);
    let endpoint = |number| EndpointStats {
        endpoint: format!("http://127.0.0.1:{number}/mcp"),
        picks: 50 * n,
        ..Default::default()
    };
    UpstreamStats {
        upstream: upstream.name.clone(),
        requests: 100 * n,
        bytes_in: 40_000 * n,
        bytes_out: 20_000 * n,
        active_requests: 1,
        latency_buckets: buckets,
        latency_bounds_us: bounds,
        latency_sum_us: 60_000 * n,
        reachability: Reachability::Reachable.into(),
        since: Some(SystemTime::now().into()),
        legacy: true,
        tools: Some(12),
        endpoints: vec![endpoint(3101), endpoint(3102)],
        ..Default::default()
    }
}
