//! The layer over a scripted upstream, with the clock in hand.

mod bodies;
mod eligibility;
mod flights;
mod hearing;
mod keeping;
mod lasting;
mod windows;

use super::Cache;
use crate::{
    call::{Ask, Body, Call, Caller, Opening, Reply, Route, Session, Upstreams, read_response},
    context::Context,
    current,
    failure::{Failure, Kind},
    mcp::{Message, method, rpc},
    metrics::{BatchSample, CacheSample, Metrics},
    plan::{Plan, Upstream, Version},
    principal::{Access, Principal},
    seal::Keyring,
    snapshot::Snapshots,
    stores::Stores,
};
use bytes::Bytes;
use http::HeaderMap;
use o1_process::{Readiness, Tasks};
use o1_proto::model::{self, CacheRules, Life, Tier};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};

const PUBLIC: &str = r#""resultType":"complete","ttlMs":60000,"cacheScope":"public""#;
const PRIVATE: &str = r#""resultType":"complete","ttlMs":60000,"cacheScope":"private""#;
const NEVER: &str = r#""resultType":"complete","ttlMs":0,"cacheScope":"private""#;

/// How the upstream answers its n-th request, the first being 0.
type Script = dyn Fn(&Call, usize) -> Result<Reply, Failure> + Send + Sync;

struct Server {
    script: Mutex<Arc<Script>>,
    takes: Mutex<Duration>,
    /// The principals of the requests it got.
    asked: Mutex<Vec<String>>,
    /// What it says of itself; `None`: nothing.
    handshake: Mutex<Option<&'static str>>,
    /// Exchanges that ended without an answer, because nobody waited.
    dropped: AtomicUsize,
}

struct Scripted(Arc<Server>);

struct Exchange(Option<Arc<Server>>);

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(server) = &self.0 {
            server.dropped.fetch_add(1, SeqCst);
        }
    }
}

impl Upstreams for Scripted {
    async fn ask(&self, call: Call, _: Arc<Upstream>) -> Result<Reply, Failure> {
        let at = {
            let mut asked = self.0.asked.lock().unwrap();
            asked.push(call.principal.id.clone());
            asked.len() - 1
        };
        let mut exchange = Exchange(Some(self.0.clone()));
        let (script, takes) = (self.0.script.lock().unwrap().clone(), *self.0.takes.lock().unwrap());
        sleep(takes).await;
        exchange.0 = None;
        script(&call, at)
    }

    async fn handshake(&self, _: &Call, _: Arc<Upstream>) -> Result<Message, Failure> {
        let said = *self.0.handshake.lock().unwrap();
        said.map(message).ok_or_else(|| Failure::new(Kind::Internal, "it says nothing of itself"))
    }
}

/// The layer, and what it is tried with.
struct Rig {
    cache: Cache<Scripted>,
    server: Arc<Server>,
    fleet: model::Fleet,
    writer: current::Writer,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    stores: Arc<Stores>,
    snapshots: Arc<Snapshots>,
    plan: Mutex<Arc<Plan>>,
}

impl Rig {
    /// An upstream that takes a second for each answer, under the operator's rules.
    fn new(rules: CacheRules) -> Self {
        Self::of(model::Fleet { upstreams: vec![upstream(rules)], ..model::Fleet::default() })
    }

    fn of(fleet: model::Fleet) -> Self {
        Self::with(fleet, Arc::default())
    }

    fn with(fleet: model::Fleet, snapshots: Arc<Snapshots>) -> Self {
        let stores = Arc::<Stores>::default();
        let (writer, reader) = current::cell();
        let plan = compiled(&fleet);
        writer.swap(plan.clone());
        let (metrics, tasks) = (Arc::new(Metrics::default()), Tasks::new());
        let context = Context {
            current: reader,
            metrics: metrics.clone(),
            keyring: Keyring::local(),
            tasks: tasks.clone(),
            readiness: Readiness::new(),
            logs: Arc::default(),
            launcher: None,
            stores: stores.clone(),
            snapshots: snapshots.clone(),
        };
        let server = Arc::new(Server {
            script: Mutex::new(Arc::new(|call: &Call, _: usize| Ok(result(call, PRIVATE)))),
            takes: Mutex::new(Duration::from_secs(1)),
            asked: Mutex::default(),
            handshake: Mutex::default(),
            dropped: AtomicUsize::new(0),
        });
        let cache = Cache::new(&context, Scripted(server.clone()));
        let plan = Mutex::new(plan);
        Self { cache, server, fleet, writer, metrics, tasks, stores, snapshots, plan }
    }

    fn answers(&self, script: impl Fn(&Call, usize) -> Result<Reply, Failure> + Send + Sync + 'static) {
        *self.server.script.lock().unwrap() = Arc::new(script);
    }

    /// Answers with these members, and `"n"`: the number of the request.
    fn says(&self, members: &'static str) {
        self.answers(move |call, at| Ok(result(call, &format!(r#""n":{at},{members}"#))));
    }

    fn takes(&self, takes: Duration) {
        *self.server.takes.lock().unwrap() = takes;
    }

    fn configure(&self, fleet: &model::Fleet) {
        let plan = compiled(fleet);
        self.writer.swap(plan.clone());
        *self.plan.lock().unwrap() = plan;
    }

    fn upstream(&self) -> Arc<Upstream> {
        self.plan.lock().unwrap().upstreams[0].clone()
    }

    fn asked(&self) -> Vec<String> {
        self.server.asked.lock().unwrap().clone()
    }

    fn dropped(&self) -> usize {
        self.server.dropped.load(SeqCst)
    }

    fn counts(&self, tier: Tier) -> CacheSample {
        self.metrics.samples()[0].1.cache[tier.at()]
    }

    /// Hits, stale, misses, coalesced.
    fn found(&self, tier: Tier) -> (u64, u64, u64, u64) {
        let counts = self.counts(tier);
        (counts.hits, counts.stale, counts.misses, counts.coalesced)
    }

    fn batches(&self) -> BatchSample {
        self.metrics.samples()[0].1.batches
    }

    fn call(&self, caller: Caller, principal: &str, text: &str) -> Call {
        let plan = self.plan.lock().unwrap().clone();
        Call {
            route: Route::One(plan.upstreams[0].clone()),
            plan,
            principal: principal_of(principal),
            caller,
            ask: Ask::Message(message(text)),
            headers: HeaderMap::new(),
            fresh: false,
        }
    }

    fn modern(&self, principal: &str, id: u64, method: &str, params: &str) -> Call {
        let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{meta}{params}}}}}"#);
        self.call(Caller::Modern, principal, &text)
    }

    fn legacy(&self, session: &Arc<Session>, id: u64, method: &str, params: &str) -> Call {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#);
        self.call(Caller::Legacy(Some(session.clone())), &session.principal.id, &text)
    }

    async fn send(&self, call: Call) -> Result<Reply, Failure> {
        self.cache.ask(call, self.upstream()).await
    }

    /// The answer to a call, as text.
    async fn ask(&self, call: Call) -> String {
        text(self.send(call).await.expect("it is answered")).await
    }

    /// A `tools/list` of a modern principal.
    async fn list(&self, principal: &str, id: u64) -> String {
        self.ask(self.modern(principal, id, method::TOOLS_LIST, "")).await
    }

    /// A `resources/read` of a modern principal.
    async fn read(&self, principal: &str, id: u64, uri: &str) -> String {
        self.ask(self.modern(principal, id, method::RESOURCES_READ, &format!(r#","uri":"{uri}""#))).await
    }

    /// Begins a call beside the test.
    fn begin(self: &Arc<Self>, call: Call) -> Begun {
        let (rig, mut task) = (self.clone(), JoinSet::new());
        task.spawn(async move { rig.send(call).await });
        Begun(task)
    }
}

/// A call that goes on beside the test; it is given up when this is dropped.
struct Begun(JoinSet<Result<Reply, Failure>>);

impl Begun {
    /// What came of it.
    async fn end(mut self) -> Result<Reply, Failure> {
        self.0.join_next().await.expect("there is one task").expect("it does not panic")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.tasks.begin_stop();
    }
}

fn upstream(cache: CacheRules) -> model::Upstream {
    let kind = model::EndpointKind::Http {
        url: "http://127.0.0.1:1/mcp".parse().unwrap(),
        transport: model::Transport::default(),
    };
    model::Upstream {
        name: "u".into(),
        primary: vec![model::Endpoint { kind, weight: 1 }],
        cache,
        ..model::Upstream::default()
    }
}

fn compiled(fleet: &model::Fleet) -> Arc<Plan> {
    Arc::new(Plan::compile(Version::default(), fleet).unwrap())
}

fn principal_of(id: &str) -> Arc<Principal> {
    Arc::new(Principal { id: id.into(), access: Access::everything() })
}

fn session(serial: u8, principal: &str) -> Arc<Session> {
    Arc::new(Session::new(Opening {
        serial: [serial; 16],
        began: std::time::SystemTime::now(),
        principal: principal_of(principal),
        initialize: message(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"capabilities":{}}}"#),
        version: "2025-11-25",
        upstream: None,
        server: None,
    }))
}

/// Rules that keep what these patterns name for ten seconds.
fn rules(pattern: &str) -> BTreeMap<String, Life> {
    BTreeMap::from([(pattern.to_owned(), Life::For(Duration::from_secs(10)))])
}

fn message(text: &str) -> Message {
    Message::parse(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn id_of(call: &Call) -> &[u8] {
    let Ask::Message(message) = &call.ask else { panic!("a message") };
    message.id().unwrap()
}

/// The answer to a call with these members in its result.
fn result(call: &Call, members: &str) -> Reply {
    Reply::json(rpc::result(id_of(call), format!("{{{members}}}").as_bytes()))
}

async fn text(reply: Reply) -> String {
    match reply.body {
        Body::Full(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        body => {
            let reply = Reply { body, ..reply };
            String::from_utf8(read_response(reply).await.unwrap().bytes().to_vec()).unwrap()
        }
    }
}

/// The number of the request that an answer of [`Rig::says`] came from.
fn number(answer: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(answer).unwrap();
    value["result"]["n"].as_u64().unwrap()
}

fn ttl(answer: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(answer).unwrap();
    value["result"]["ttlMs"].as_u64().unwrap()
}
