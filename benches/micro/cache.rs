//! What the cache costs a request inside the process: naming the question, finding the answer or not, keeping it,
//! and writing it for the caller.

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion};
use http::{HeaderMap, HeaderName, HeaderValue};
use o1_data_plane::{
    cache::{
        entry::{Entry, Terms},
        key::{Key, Partition},
        scope::{Scope, Scopes, Subject},
        tier::Tiers,
    },
    call::{Ask, Call, Caller, Route},
    mcp::Message,
    metrics::Metrics,
    plan::{Plan, Upstream, Version},
    principal::{Access, Principal},
};
use o1_proto::model::{self, Caching, Fleet, Tier};
use std::{hint::black_box, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A node with one upstream.
struct World {
    scopes: Scopes,
    tiers: Tiers,
    upstream: Arc<Upstream>,
}

impl World {
    fn new() -> Self {
        let upstreams = vec![model::Upstream { name: "files".to_owned(), ..model::Upstream::default() }];
        let fleet = Fleet { upstreams, ..Fleet::default() };
        let plan = Plan::compile(Version::default(), &fleet).expect("nothing to resolve");
        Self {
            scopes: Scopes::new(&Arc::new(Metrics::default())),
            tiers: Tiers::new(&Caching::default()),
            upstream: plan.upstreams[0].clone(),
        }
    }

    fn key(&self, call: &Call) -> (Key, Key) {
        let Ask::Message(message) = &call.ask else { unreachable!("calls here are messages") };
        let base = Key::base(call, message, &self.upstream).expect("a plain question");
        (base, base.within(Partition::Principal(&call.principal.id)))
    }

    fn scope(&self) -> Arc<Scope> {
        self.scopes.of(&self.upstream)
    }

    fn entry(&self, message: &Message, number: usize) -> Arc<Entry> {
        let scope = self.scope();
        let terms = Terms {
            stamp: scope.now(),
            scope,
            subject: Subject::Resource(uri(number).into()),
            public: false,
            received: Instant::now(),
            life: Duration::from_secs(3600),
            hinted: true,
        };
        Arc::new(Entry::new(message, terms).expect("a plain result"))
    }
}

fn uri(number: usize) -> String {
    format!("file:///srv/docs/handbook/chapter-{number:04}.md")
}

/// `resources/read` of a modern client, 353 bytes, with the headers that such clients send.
fn read(number: usize) -> Call {
    let uri = uri(number);
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":{number},"method":"resources/read","params":{{"uri":"{uri}","_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{"elicitation":{{"form":{{}}}}}},"io.modelcontextprotocol/clientInfo":{{"name":"agent","version":"1.0.0"}},"progressToken":{number}}}}}}}"#
    );
    let lines = [
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("user-agent", "agent/1.0.0"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "resources/read"),
        ("mcp-name", "file:///srv/docs/handbook/chapter-0001.md"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    let headers: HeaderMap = lines
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect();
    Call {
        plan: Arc::new(Plan::empty()),
        route: Route::One(World::new().upstream),
        principal: Arc::new(Principal { id: "token:ci".to_owned(), access: Access::everything() }),
        caller: Caller::Modern,
        ask: Ask::Message(Message::parse(&Bytes::from(text)).expect("a request")),
        headers,
        fresh: false,
    }
}

/// The answer: one text of `size` bytes.
fn contents(size: usize) -> Message {
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":7,"result":{{"resultType":"complete","contents":[{{"uri":"{}","text":"{}"}}],"ttlMs":60000,"cacheScope":"private"}}}}"#,
        uri(1),
        "y".repeat(size)
    );
    Message::parse(&Bytes::from(text)).expect("a response")
}

fn key(criterion: &mut Criterion) {
    let (world, call) = (World::new(), read(1));
    criterion.bench_function("cache/key", |bencher| bencher.iter(|| world.key(black_box(&call))));
}

fn look_up(criterion: &mut Criterion) {
    let world = World::new();
    let answer = contents(1 << 10);
    let keys: Vec<_> = (0..400).map(|number| world.key(&read(number)).1).collect();
    for (number, key) in keys.iter().enumerate() {
        world.tiers.put(*key, world.entry(&answer, number));
    }
    let absent: Vec<_> = (400..800).map(|number| world.key(&read(number)).1).collect();
    for (name, keys) in [("cache/hit", keys), ("cache/miss", absent)] {
        let mut turn = (0..keys.len()).cycle();
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                let key = &keys[turn.next().expect("for ever")];
                world.tiers.get(Tier::Resources, black_box(key), Instant::now())
            });
        });
    }
}

fn render(criterion: &mut Criterion) {
    let world = World::new();
    let mut group = criterion.benchmark_group("cache/render");
    for size in [1 << 10, 64 << 10] {
        let entry = world.entry(&contents(size), 1);
        let now = Instant::now();
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| entry.render(black_box(b"\"c-17\""), now));
        });
    }
    group.finish();
}

fn put(criterion: &mut Criterion) {
    let world = World::new();
    let answer = contents(1 << 10);
    criterion.bench_function("cache/entry", |bencher| bencher.iter(|| world.entry(black_box(&answer), 1)));
    // Twice as many questions as there is room for: half of what is put makes something leave.
    let keys: Vec<_> = (0..1_000).map(|number| world.key(&read(number)).1).collect();
    let mut turn = (0..keys.len()).cycle();
    criterion.bench_function("cache/put", |bencher| {
        bencher.iter_batched(
            || world.entry(&answer, 1),
            |entry| world.tiers.put(keys[turn.next().expect("for ever")], entry),
            BatchSize::SmallInput,
        );
    });
}

/// All that a hit costs between a parsed request and the bytes of its answer.
fn whole(criterion: &mut Criterion) {
    let (world, call) = (World::new(), read(1));
    world.tiers.put(world.key(&call).1, world.entry(&contents(1 << 10), 1));
    criterion.bench_function("cache/whole hit", |bencher| {
        bencher.iter(|| {
            let (_, own) = world.key(black_box(&call));
            let now = Instant::now();
            let (entry, _) = world.tiers.get(Tier::Resources, &own, now).expect("kept above");
            entry.render(b"\"c-17\"", now)
        });
    });
}

/// All of them.
pub fn costs(criterion: &mut Criterion) {
    [key, look_up, render, put, whole].iter().for_each(|one| one(criterion));
}
