//! What clients see when another store of an upstream answers.

use super::{Router, Server, grant, message, own_names};
use crate::{
    call::{
        Ask, Body, Call, Caller, Handle, Messages, Opening, Reply, Route, Session, Upstreams, read_messages,
        read_response,
    },
    context::Context,
    current,
    failure::{Failure, Kind},
    mcp::{Message, method, rpc},
    metrics::Metrics,
    plan::{Plan, Upstream},
    principal::{Access, Principal},
    router::requests::State,
    seal::Keyring,
    stores::{News, Notice, Standing, Stores},
};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::HeaderMap;
use o1_process::{Readiness, Tasks};
use o1_proto::model::{self, Phase, Store, StoreHealth, Verdict};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};
use tokio::{sync::Notify, time::timeout};

const SECOND: Duration = Duration::from_secs(1);

/// Upstreams whose stores offer different tools. Each says what was asked of which store.
struct TwoStores {
    stores: Arc<Stores>,
    asked: Mutex<Vec<String>>,
    /// Lets slow calls end.
    answers: Notify,
    /// What their handshake says.
    capabilities: Value,
    /// Lists of the primary are not answered.
    hangs: AtomicBool,
    /// The store that has no stream.
    mute: Option<Store>,
}

impl TwoStores {
    fn asked(&self, what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == what).count()
    }
}

impl Upstreams for Arc<TwoStores> {
    async fn ask(&self, call: Call, upstream: Arc<Upstream>) -> Result<Reply, Failure> {
        let store = self.stores.gate(&upstream.name).standing().reads;
        let what = match &call.ask {
            Ask::Message(message) if message.method().is_empty() => "an answer",
            Ask::Message(message) if message.method() != method::LISTEN => message.method(),
            Ask::End => "the end",
            _ => "a stream",
        };
        self.asked.lock().unwrap().push(format!("{} {} {what}", upstream.name, store.word()));
        if what == "a stream" {
            if self.mute == Some(store) {
                return Err(Failure::new(Kind::UnknownMethod, "no streams"));
            }
            return Ok(Reply::messages(stream::pending().boxed()));
        }
        if self.hangs.load(Relaxed) && store == Store::Primary {
            std::future::pending::<()>().await;
        }
        let Ask::Message(message) = &call.ask else { return Ok(Reply::accepted()) };
        let result = match message.method() {
            method::TOOLS_LIST if store == Store::Backup => json!({ "tools": [{ "name": "read" }] }),
            method::TOOLS_LIST => json!({ "tools": [{ "name": "read" }, { "name": "write" }] }),
            method::RESOURCES_LIST => json!({ "resources": [{ "uri": "o1://status/b", "name": "claimed" }] }),
            method::TEMPLATES_LIST => {
                json!({ "resourceTemplates": [{ "uriTemplate": "{+any}", "name": "t" }] })
            }
            _ => json!({}),
        };
        let answer = rpc::result(message.id().unwrap_or_default(), result.to_string().as_bytes());
        if message.method() != method::TOOLS_CALL {
            return Ok(Reply::json(answer));
        }
        let (own, answer) = (self.clone(), super::message(std::str::from_utf8(&answer).unwrap()));
        let slow = async move {
            own.answers.notified().await;
            Ok(answer)
        };
        Ok(Reply::messages(stream::once(slow).boxed()))
    }

    async fn handshake(&self, _: &Call, _: Arc<Upstream>) -> Result<Message, Failure> {
        let result = json!({ "capabilities": self.capabilities });
        Ok(message(&json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string()))
    }
}

impl Handle for Arc<TwoStores> {
    async fn handle(&self, call: Call) -> Result<Reply, Failure> {
        let Route::One(upstream) = &call.route else { panic!("the router names an upstream") };
        let upstream = upstream.clone();
        self.ask(call, upstream).await
    }
}

/// `a` has a backup, `b` has none, the server `s` is of `b` alone.
struct World {
    router: Router<Arc<TwoStores>>,
    next: Arc<TwoStores>,
    stores: Arc<Stores>,
    plan: Arc<Plan>,
    principal: Arc<Principal>,
    tasks: Tasks,
    told: Arc<Mutex<Vec<(String, u64)>>>,
    _writer: current::Writer,
}

fn endpoint() -> model::Endpoint {
    let url = "http://127.0.0.1:1/mcp".parse().unwrap();
    model::Endpoint {
        kind: model::EndpointKind::Http { url, transport: model::Transport::default() },
        weight: 1,
    }
}

impl World {
    fn new() -> Self {
        Self::of(json!({ "tools": { "listChanged": true }, "resources": {}, "logging": {} }), None)
    }

    fn of(capabilities: Value, mute: Option<Store>) -> Self {
        let upstream = |name: &str, backup| model::Upstream {
            name: name.to_owned(),
            prefix: Some(name.to_owned()),
            primary: vec![endpoint()],
            backup,
            ..model::Upstream::default()
        };
        let backup = Some(model::Backup::Endpoints(vec![endpoint()]));
        let server =
            model::Server { name: "s".into(), upstreams: own_names(&["b"]), ..model::Server::default() };
        let fleet = model::Fleet {
            upstreams: vec![upstream("a", backup), upstream("b", None)],
            servers: vec![server],
            ..model::Fleet::default()
        };
        let plan = Arc::new(Plan::compile(crate::plan::Version::default(), &fleet).unwrap());
        let (writer, reader) = current::cell();
        writer.swap(plan.clone());
        let (tasks, stores) = (Tasks::new(), Arc::new(Stores::default()));
        let context = Context {
            current: reader,
            metrics: Arc::new(Metrics::default()),
            keyring: Keyring::local(),
            tasks: tasks.clone(),
            readiness: Readiness::new(),
            logs: Arc::default(),
            launcher: None,
            stores: stores.clone(),
            snapshots: Arc::default(),
        };
        let next = Arc::new(TwoStores {
            stores: stores.clone(),
            asked: Mutex::default(),
            answers: Notify::new(),
            capabilities,
            hangs: AtomicBool::new(false),
            mute,
        });
        let told: Arc<Mutex<Vec<(String, u64)>>> = Arc::default();
        let counts = told.clone();
        stores.set_told(move |upstream, count| counts.lock().unwrap().push((upstream.to_owned(), count)));
        let principal = Arc::new(Principal { id: "token:x".into(), access: Access::everything() });
        let router = Router::new(&context, next.clone());
        Self { router, next, stores, plan, principal, tasks, told, _writer: writer }
    }

    fn session(&self) -> Arc<Session> {
        let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"capabilities":{}}}"#;
        Arc::new(Session::new(Opening {
            serial: [7; 16],
            began: SystemTime::now(),
            principal: self.principal.clone(),
            initialize: message(initialize),
            version: "2025-11-25",
            upstream: None,
            server: None,
        }))
    }

    fn call(&self, route: Route, caller: &Caller, ask: Ask) -> Call {
        Call {
            plan: self.plan.clone(),
            route,
            principal: self.principal.clone(),
            caller: caller.clone(),
            ask,
            headers: HeaderMap::new(),
            fresh: false,
        }
    }

    fn everything(&self) -> Route {
        let everything: &Arc<Server> = &self.plan.everything;
        Route::Server(everything.clone())
    }

    async fn send(&self, caller: &Caller, method: &str, params: Value) -> Result<Reply, Failure> {
        self.send_to(self.everything(), caller, method, params).await
    }

    async fn send_to(
        &self,
        route: Route,
        caller: &Caller,
        method: &str,
        mut params: Value,
    ) -> Result<Reply, Failure> {
        if params["_meta"].is_null() {
            params["_meta"] = json!({ "io.modelcontextprotocol/clientCapabilities": {} });
        }
        let text = json!({ "jsonrpc": "2.0", "id": 9, "method": method, "params": params }).to_string();
        self.router.handle(self.call(route, caller, Ask::Message(message(&text)))).await
    }

    async fn result(&self, caller: &Caller, method: &str, params: Value) -> Result<Value, Failure> {
        let answer = read_response(self.send(caller, method, params).await?).await?;
        Ok(serde_json::from_slice(&answer.bytes()[answer.result().unwrap()]).unwrap())
    }

    async fn resources(&self, route: Route) -> Vec<Value> {
        let caller = Caller::Modern;
        let answer = self.send_to(route, &caller, method::RESOURCES_LIST, json!({})).await.unwrap();
        let answer = read_response(answer).await.unwrap();
        let result: Value = serde_json::from_slice(&answer.bytes()[answer.result().unwrap()]).unwrap();
        result["resources"].as_array().unwrap().clone()
    }

    /// The stream of a session, once it hears.
    async fn stream(&self, session: &Arc<Session>) -> Messages {
        let caller = Caller::Legacy(Some(session.clone()));
        let reply = self.router.handle(self.call(self.everything(), &caller, Ask::Stream)).await.unwrap();
        let mut messages = read_messages(reply);
        // What upstreams list is news to it at first.
        while timeout(SECOND, messages.next()).await.is_ok() {}
        messages
    }

    fn move_to(&self, store: Store) {
        let (phase, since) = match store {
            Store::Primary => (Phase::Primary, None),
            Store::Backup => (Phase::Backup, Some(SystemTime::now())),
        };
        let standing = Standing { active: store, reads: store, phase, since, ..Standing::default() };
        self.stores.gate("a").set(standing);
    }

    fn tell(&self, upstream: &str, news: News) {
        let (upstream, because) = (upstream.to_owned(), "no answer".to_owned());
        self.stores.tell(Notice { upstream, news, at: SystemTime::now(), because });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.begin_stop();
    }
}

const FAILED: News = News::FailedOver { active: Store::Backup };

/// The next message, as its method and parameters.
async fn next(messages: &mut Messages) -> (String, Value) {
    let next = timeout(10 * SECOND, messages.next()).await.expect("a message in time").unwrap().unwrap();
    let params = next.params().map_or(Value::Null, |params| serde_json::from_slice(params).unwrap());
    (next.method().to_owned(), params)
}

async fn is_silent(messages: &mut Messages) -> bool {
    timeout(10 * SECOND, messages.next()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn a_status_is_listed_and_read_where_there_is_a_backup_and_nowhere_else() {
    let mut world = World::new();
    let listed = world.resources(world.everything()).await;
    let [status] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((&status["uri"], &status["mimeType"]), (&json!("o1://status/a"), &json!("application/json")));
    assert!(["name", "title", "description"].iter().all(|key| status[key].is_string()));
    assert!(world.resources(Route::Server(world.plan.servers[0].clone())).await.is_empty());

    world.stores.gate("a").set(Standing { term: 7, ..Standing::default() });
    let session = Caller::Legacy(Some(world.session()));
    for caller in [Caller::Modern, session] {
        let read =
            world.result(&caller, method::RESOURCES_READ, json!({ "uri": "o1://status/a" })).await.unwrap();
        let modern = matches!(caller, Caller::Modern);
        assert_eq!(read["resultType"], if modern { json!("complete") } else { Value::Null });
        let said: Value = serde_json::from_str(read["contents"][0]["text"].as_str().unwrap()).unwrap();
        let unknown = json!({ "verdict": "unknown", "breaker": "closed", "since": null, "error": null });
        assert_eq!(
            said,
            json!({ "upstream": "a", "activeStore": "primary", "phase": "primary", "since": null, "term": 7,
                    "primary": unknown, "backup": unknown })
        );
        for unknown in ["o1://status/b", "o1://status/", "O1://status/a", "o1://else"] {
            for method in [method::RESOURCES_READ, method::RESOURCES_SUBSCRIBE] {
                let refused = world.send(&caller, method, json!({ "uri": unknown })).await.err();
                let expected = match (modern, method) {
                    (true, method::RESOURCES_SUBSCRIBE) => Kind::UnknownMethod,
                    _ => Kind::UnknownResource,
                };
                assert_eq!(refused.map(|why| why.kind), Some(expected), "{method} {unknown}");
            }
        }
    }
    assert_eq!(world.next.asked("a primary resources/read"), 0, "no upstream is asked");

    world.principal = Arc::new(Principal { id: "token:y".into(), access: grant("b", "*", "") });
    assert!(world.resources(world.everything()).await.is_empty());
    let refused =
        world.send(&Caller::Modern, method::RESOURCES_READ, json!({ "uri": "o1://status/a" })).await;
    assert_eq!(refused.unwrap_err().kind, Kind::UnknownResource);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_follows_a_status_hears_of_each_change_and_of_those_together_that_come_together() {
    let world = World::new();
    let session = world.session();
    let (caller, uri) = (Caller::Legacy(Some(session.clone())), json!({ "uri": "o1://status/a" }));
    let mut messages = world.stream(&session).await;
    world.result(&caller, method::RESOURCES_SUBSCRIBE, uri.clone()).await.unwrap();
    let updated = (method::RESOURCE_UPDATED.to_owned(), uri.clone());
    let unhealthy = StoreHealth { verdict: Verdict::Unhealthy, ..StoreHealth::default() };
    world.stores.gate("a").health(Store::Primary).tell(unhealthy.clone());
    assert_eq!(next(&mut messages).await, updated);
    let term = |term| world.stores.gate("a").set(Standing { term, ..Standing::default() });
    term(1);
    tokio::time::sleep(SECOND / 10).await;
    world.stores.gate("a").health(Store::Backup).tell(unhealthy);
    assert_eq!(next(&mut messages).await, updated);
    assert!(is_silent(&mut messages).await, "both were told");
    term(1);
    assert!(is_silent(&mut messages).await, "nothing changed");
    world.result(&caller, method::RESOURCES_UNSUBSCRIBE, uri).await.unwrap();
    term(2);
    assert!(is_silent(&mut messages).await, "it follows no more");
}

#[tokio::test(start_paused = true)]
async fn a_modern_subscription_to_a_status_is_honoured_and_carries_nothing_else() {
    let world = World::new();
    let wanted = json!({ "notifications": { "resourceSubscriptions": ["o1://status/a", "o1://status/b"] } });
    let reply = world.send(&Caller::Modern, method::LISTEN, wanted).await.unwrap();
    let mut messages = read_messages(reply);
    let (_, acknowledged) = next(&mut messages).await;
    assert_eq!(acknowledged["notifications"], json!({ "resourceSubscriptions": ["o1://status/a"] }));
    world.tell("a", FAILED);
    world.move_to(Store::Backup);
    let tag = json!({ "io.modelcontextprotocol/subscriptionId": 9 });
    let updated = json!({ "uri": "o1://status/a", "_meta": tag });
    assert_eq!(next(&mut messages).await, (method::RESOURCE_UPDATED.to_owned(), updated));
    assert!(is_silent(&mut messages).await);
}

#[tokio::test(start_paused = true)]
async fn sessions_are_told_of_a_failover_and_of_a_restoration_and_counted() {
    let world = World::new();
    let (one, other) = (world.session(), world.session());
    let (mut first, mut second) = (world.stream(&one).await, world.stream(&other).await);
    world.tell("a", FAILED);
    for messages in [&mut first, &mut second] {
        let (method, params) = next(messages).await;
        assert_eq!((&*method, &params["level"]), (method::MESSAGE, &json!("warning")));
        assert_eq!((&params["logger"], &params["data"]["event"]), (&json!("only1"), &json!("failover")));
    }
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(std::mem::take(&mut *world.told.lock().unwrap()), [("a".to_owned(), 2)]);
    one.set_log_level("warning".into());
    world.tell("a", News::Restored { after: SECOND, synced_back: 5 });
    let (_, params) = next(&mut second).await;
    assert_eq!((&params["level"], &params["data"]["entriesSyncedBack"]), (&json!("info"), &json!(5)));
    assert!(is_silent(&mut first).await, "it wants no less than warnings");
    assert_eq!(*world.told.lock().unwrap(), [("a".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_use_an_upstream_or_was_announced_no_logs_is_told_nothing() {
    let mut world = World::new();
    let quiet = world.session();
    State::of(&quiet).announced_logging(false);
    let mut quiet = world.stream(&quiet).await;
    world.principal = Arc::new(Principal { id: "token:y".into(), access: grant("b", "*", "") });
    let stranger = world.session();
    let mut stranger = world.stream(&stranger).await;
    world.tell("a", FAILED);
    world.tell("gone", FAILED);
    assert!(is_silent(&mut quiet).await && is_silent(&mut stranger).await);
    assert!(world.told.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn logs_and_statuses_are_announced_where_there_is_a_backup() {
    let world = World::of(json!({ "tools": {} }), None);
    let announced = async |session: Arc<Session>, route| {
        let caller = Caller::Legacy(Some(session));
        let reply = world.send_to(route, &caller, method::INITIALIZE, json!({})).await.unwrap();
        let answer = read_response(reply).await.unwrap();
        let result: Value = serde_json::from_slice(&answer.bytes()[answer.result().unwrap()]).unwrap();
        result["capabilities"].clone()
    };
    let session = world.session();
    let capabilities = announced(session.clone(), world.everything()).await;
    assert_eq!(capabilities["logging"], json!({}));
    assert_eq!(capabilities["resources"], json!({ "listChanged": true, "subscribe": true }));
    assert!(State::of(&session).may_log());
    let session = world.session();
    let capabilities = announced(session.clone(), Route::Server(world.plan.servers[0].clone())).await;
    assert_eq!((&capabilities["logging"], &capabilities["resources"]), (&Value::Null, &Value::Null));
    assert!(!State::of(&session).may_log());
}

#[tokio::test(start_paused = true)]
async fn a_modern_request_in_flight_hears_what_it_asked_for() {
    let world = World::new();
    let meta = |level: Option<&str>| {
        let mut meta = json!({ "io.modelcontextprotocol/clientCapabilities": {} });
        if let Some(level) = level {
            meta["io.modelcontextprotocol/logLevel"] = json!(level);
        }
        json!({ "name": "a__read", "_meta": meta })
    };
    let one = || Route::One(world.plan.upstream("a").unwrap().clone());
    for (level, hears) in [(Some("info"), true), (Some("error"), false), (None, false)] {
        for route in [world.everything(), one()] {
            let reply = world.send_to(route, &Caller::Modern, method::TOOLS_CALL, meta(level)).await.unwrap();
            let mut messages = read_messages(reply);
            world.tell("b", FAILED);
            world.tell("a", FAILED);
            if hears {
                assert_eq!(next(&mut messages).await.0, method::MESSAGE);
            }
            assert!(messages.next().now_or_never().is_none(), "{level:?}");
            world.next.answers.notify_one();
            assert_eq!(next(&mut messages).await.0, "", "the answer");
            world.tell("a", FAILED);
            let end = timeout(SECOND, messages.next()).await.expect("an end");
            assert!(end.is_none(), "nothing comes after the answer");
        }
    }
    let mut read = meta(Some("info"));
    read["uri"] = json!("x://1");
    let reply = world.send(&Caller::Modern, method::RESOURCES_READ, read).await.unwrap();
    assert!(matches!(reply.body, Body::Full(_)), "an answer in JSON stays one");
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_one_upstream_carries_notices_if_its_server_announced_logs() {
    for (capabilities, hears) in [(json!({ "logging": {} }), true), (json!({}), false)] {
        let world = World::of(capabilities, None);
        let caller = Caller::Legacy(Some(world.session()));
        let one = Route::One(world.plan.upstream("a").unwrap().clone());
        let reply = world.router.handle(world.call(one, &caller, Ask::Stream)).await.unwrap();
        let mut messages = read_messages(reply);
        world.tell("b", FAILED);
        world.tell("a", FAILED);
        if hears {
            assert_eq!(next(&mut messages).await.1["data"]["upstream"], "a");
        }
        assert!(is_silent(&mut messages).await);
    }
}

#[tokio::test(start_paused = true)]
async fn another_set_of_tools_is_told_at_once_and_streams_begin_anew() {
    for mute in [None, Some(Store::Primary)] {
        let world = World::of(json!({ "tools": { "listChanged": true } }), mute);
        let session = world.session();
        let caller = Caller::Legacy(Some(session.clone()));
        let tools = async || {
            let listed = world.result(&caller, method::TOOLS_LIST, json!({})).await.unwrap();
            let tools = listed["tools"].as_array().unwrap().iter();
            tools.map(|tool| tool["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let mut messages = world.stream(&session).await;
        assert_eq!(tools().await, ["a__read", "a__write", "b__read", "b__write"]);
        // From now on the session has an upstream session of its own, which is heard.
        let called = world.send(&caller, method::TOOLS_CALL, json!({ "name": "a__read" })).await.unwrap();
        world.next.answers.notify_one();
        read_response(called).await.unwrap();
        tokio::time::sleep(SECOND).await;
        let streams = |store: &str| world.next.asked(&format!("a {store} a stream"));
        assert_eq!((streams("primary"), streams("backup")), (2, 0), "of the catalogue and of the session");
        let began = tokio::time::Instant::now();
        world.move_to(Store::Backup);
        assert_eq!(next(&mut messages).await.0, method::TOOLS_CHANGED);
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
        assert_eq!(tools().await, ["a__read", "b__read", "b__write"]);
        world.move_to(Store::Primary);
        assert_eq!(next(&mut messages).await.0, method::TOOLS_CHANGED);
        // The upstream layer ends the streams of a store that calls left; one that had none is asked again anyhow.
        let heard = if mute.is_none() { 1 } else { 2 };
        assert!(streams("backup") >= heard, "{} {mute:?}", streams("backup"));
        assert!(is_silent(&mut messages).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_the_primary_does_not_answer_is_fetched_of_the_backup_at_once() {
    let world = World::new();
    let session = world.session();
    let mut messages = world.stream(&session).await;
    world.next.hangs.store(true, Relaxed);
    world.router.catalogue.again(|_| true, SECOND).await;
    let began = tokio::time::Instant::now();
    world.move_to(Store::Backup);
    assert_eq!(next(&mut messages).await.0, method::TOOLS_CHANGED);
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_question_of_one_store_does_not_go_to_the_other() {
    let world = World::new();
    let session = world.session();
    let caller = Caller::Legacy(Some(session.clone()));
    let key = world.plan.upstream("a").unwrap().key;
    let question = || message(r#"{"jsonrpc":"2.0","id":0,"method":"roots/list"}"#);
    let answer = async |moves: u64| {
        let asked = State::of(&session).outward(&key, moves, question()).unwrap();
        let id = std::str::from_utf8(asked.id().unwrap()).unwrap();
        let answer = message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"roots":[]}}}}"#));
        let call = world.call(world.everything(), &caller, Ask::Message(answer));
        world.router.handle(call).await.unwrap();
    };
    answer(0).await;
    assert_eq!(world.next.asked("a primary an answer"), 1);
    world.move_to(Store::Backup);
    answer(0).await;
    assert_eq!(world.next.asked("a backup an answer"), 0, "nobody there asked");
    answer(1).await;
    assert_eq!(world.next.asked("a backup an answer"), 1);
}
