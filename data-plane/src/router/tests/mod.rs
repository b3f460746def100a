//! The router over scripted upstreams: what is listed, what can be called, and what neither is nor can be.

use super::{Router, names};
use crate::{
    call::{Ask, Call, Caller, Handle, Opening, Reply, Route, Session, Upstreams, read_response},
    context::Context,
    current,
    failure::{Failure, Kind},
    mcp::{Message, json, method, rpc},
    metrics::Metrics,
    pattern::{Filter, Pattern},
    plan::{Plan, Server, Upstream},
    principal::{Access, Grant, Principal},
    purge::{Forget, Order, Purged},
    seal::Keyring,
};
use bytes::Bytes;
use http::HeaderMap;
use o1_process::{Readiness, Tasks};
use o1_proto::model;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

mod changeover;

/// An upstream that only has names.
pub(super) fn upstream(name: &str, prefix: &str) -> Arc<Upstream> {
    Arc::new(Upstream { prefix: prefix.to_owned(), ..Upstream::bare(name) })
}

/// Servers with these tools; a call of one answers `<upstream> <own name>`.
struct Scripted {
    tools: BTreeMap<String, Vec<String>>,
    /// What their lists say beside the tools.
    said: Mutex<BTreeMap<String, serde_json::Value>>,
    asked: Mutex<Vec<String>>,
}

impl Upstreams for Scripted {
    async fn ask(&self, call: Call, upstream: Arc<Upstream>) -> Result<Reply, Failure> {
        let Ask::Message(message) = &call.ask else {
            return Err(Failure::new(Kind::UnknownMethod, "no streams"));
        };
        self.asked.lock().unwrap().push(format!("{} {}", upstream.name, message.method()));
        let result = match message.method() {
            method::TOOLS_LIST => {
                let items: Vec<_> = self.tools[&upstream.name]
                    .iter()
                    .map(|name| serde_json::json!({ "name": name }))
                    .collect();
                let said = self.said.lock().unwrap().get(&upstream.name).cloned();
                let mut result = said.unwrap_or_else(|| serde_json::json!({}));
                result["tools"] = items.into();
                result.to_string()
            }
            method::TOOLS_CALL => {
                let name = message.param_str(&["name"]).unwrap().unwrap();
                assert!(
                    self.tools[&upstream.name].iter().any(|one| *one == name),
                    "no such tool there: {name}"
                );
                serde_json::json!({ "content": format!("{} {name}", upstream.name) }).to_string()
            }
            _ => "{}".to_owned(),
        };
        Ok(Reply::json(rpc::result(message.id().unwrap_or_default(), result.as_bytes())))
    }

    async fn handshake(&self, _: &Call, _: Arc<Upstream>) -> Result<Message, Failure> {
        Ok(message(r#"{"jsonrpc":"2.0","id":1,"result":{"capabilities":{"tools":{}}}}"#))
    }
}

impl Forget for Scripted {
    fn purge(&self, _: &Order) -> Purged {
        Purged { entries: 1, bytes: 1 }
    }
}

impl Handle for Scripted {
    async fn handle(&self, call: Call) -> Result<Reply, Failure> {
        let Route::One(upstream) = &call.route else { panic!("the router names an upstream") };
        let upstream = upstream.clone();
        self.ask(call, upstream).await
    }
}

fn message(text: &str) -> Message {
    Message::parse(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

struct World {
    router: Router<Scripted>,
    plan: Arc<Plan>,
    principal: Arc<Principal>,
    tasks: Tasks,
    _writer: current::Writer,
}

impl World {
    fn new(
        servers: &[(&str, &str, &[String])],
        virtual_server: model::Server,
        access: Access,
        page: u32,
    ) -> Self {
        Self::with_rules(servers, virtual_server, access, page, |_| None)
    }

    /// The same with rules for lists.
    fn with_rules(
        servers: &[(&str, &str, &[String])],
        virtual_server: model::Server,
        access: Access,
        page: u32,
        lists: impl Fn(&str) -> Option<model::Life>,
    ) -> Self {
        let upstreams = servers.iter().map(|(name, prefix, _)| model::Upstream {
            name: (*name).to_owned(),
            prefix: Some((*prefix).to_owned()).filter(|prefix| !prefix.is_empty()),
            primary: vec![model::Endpoint {
                kind: model::EndpointKind::Http {
                    url: "http://127.0.0.1:1/mcp".parse().unwrap(),
                    transport: model::Transport::default(),
                },
                weight: 1,
            }],
            cache: model::CacheRules { lists: lists(name), ..model::CacheRules::default() },
            ..model::Upstream::default()
        });
        let fleet = model::Fleet {
            upstreams: upstreams.collect(),
            servers: vec![virtual_server],
            clients: model::Clients {
                catalogue: model::Catalogue { page, ..model::Catalogue::default() },
                ..model::Clients::default()
            },
            ..model::Fleet::default()
        };
        let plan = Arc::new(Plan::compile(crate::plan::Version::default(), &fleet).unwrap());
        let (writer, reader) = current::cell();
        writer.swap(plan.clone());
        let tasks = Tasks::new();
        let context = Context {
            current: reader,
            metrics: Arc::new(Metrics::default()),
            keyring: Keyring::local(),
            tasks: tasks.clone(),
            readiness: Readiness::new(),
            logs: Arc::default(),
            launcher: None,
            stores: Default::default(),
            snapshots: Default::default(),
        };
        let tools = servers.iter().map(|(name, _, tools)| ((*name).to_owned(), tools.to_vec())).collect();
        let router =
            Router::new(&context, Scripted { tools, said: Mutex::default(), asked: Mutex::default() });
        let principal = Arc::new(Principal { id: "token:x".into(), access });
        Self { router, plan, principal, tasks, _writer: writer }
    }

    fn route(&self, path: &str) -> Route {
        match path {
            "/mcp" => Route::Server(self.plan.everything.clone()),
            "/mcp/s" => Route::Server(self.plan.servers[0].clone()),
            other => Route::One(self.plan.upstream(other).unwrap().clone()),
        }
    }

    async fn send(
        &self,
        path: &str,
        caller: &Caller,
        method: &str,
        params: &str,
    ) -> Result<Message, Failure> {
        let meta = r#""_meta":{"io.modelcontextprotocol/clientCapabilities":{}}"#;
        let text = format!(r#"{{"jsonrpc":"2.0","id":9,"method":"{method}","params":{{{meta}{params}}}}}"#);
        let call = Call {
            plan: self.plan.clone(),
            route: self.route(path),
            principal: self.principal.clone(),
            caller: caller.clone(),
            ask: Ask::Message(message(&text)),
            headers: HeaderMap::new(),
            fresh: false,
        };
        read_response(self.router.handle(call).await?).await
    }

    /// Every name, over all pages.
    async fn listed(&self, path: &str, caller: &Caller) -> Vec<String> {
        let (mut names, mut cursor) = (Vec::new(), String::new());
        loop {
            let answer = self.send(path, caller, method::TOOLS_LIST, &cursor).await.unwrap();
            let result: serde_json::Value =
                serde_json::from_slice(&answer.bytes()[answer.result().unwrap()]).unwrap();
            names.extend(
                result["tools"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|one| one["name"].as_str().unwrap().to_owned()),
            );
            let Some(next) = result["nextCursor"].as_str() else { return names };
            cursor = format!(r#","cursor":"{next}""#);
        }
    }

    async fn call(&self, path: &str, caller: &Caller, name: &str) -> Result<String, Failure> {
        let name = String::from_utf8(json::quote(name)).unwrap();
        let answer = self.send(path, caller, method::TOOLS_CALL, &format!(r#","name":{name}"#)).await?;
        Ok(String::from_utf8_lossy(&answer.bytes()[answer.result().unwrap()]).into_owned())
    }

    fn legacy(&self) -> Caller {
        self.session(message(
            r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"capabilities":{}}}"#,
        ))
    }

    fn session(&self, initialize: Message) -> Caller {
        Caller::Legacy(Some(Arc::new(Session::new(Opening {
            serial: [7; 16],
            began: std::time::SystemTime::now(),
            principal: self.principal.clone(),
            initialize,
            version: "2025-11-25",
            upstream: None,
            server: None,
        }))))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.begin_stop();
    }
}

fn own_names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn some_server(name: &str, upstreams: &[&str]) -> model::Server {
    model::Server { name: name.into(), upstreams: own_names(upstreams), ..model::Server::default() }
}

fn grant(upstreams: &str, allow: &str, deny: &str) -> Access {
    let patterns = |texts: &str| texts.split(' ').filter(|one| !one.is_empty()).map(Pattern::new).collect();
    Access::new(vec![Grant {
        servers: vec![Pattern::new("*")],
        upstreams: patterns(upstreams),
        tools: Filter { allow: patterns(allow), deny: patterns(deny) },
    }])
}

mod agreement {
    use super::*;
    use proptest::prelude::*;

    const WORDS: [&str; 7] = ["read", "write", "read_all", "b__read", "x", "ü", "a__x"];
    const PATTERNS: [&str; 7] = ["*", "read*", "*x", "a__*", "b__read", "write", "nothing"];

    fn pick(of: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
        let some = prop::sample::subsequence(of.to_vec(), 0..=most);
        some.prop_map(|some| some.into_iter().map(str::to_owned).collect())
    }

    fn selection() -> impl Strategy<Value = model::Selection> {
        (pick(&PATTERNS, 3), pick(&PATTERNS, 2)).prop_map(|(allow, deny)| model::Selection {
            allow: if allow.is_empty() { vec!["*".into()] } else { allow },
            deny,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        /// Whatever the configuration and whoever asks: what is listed can be called, each name reaches one tool,
        /// and what is not listed does not exist, whether some upstream has it or not.
        #[test]
        fn what_is_listed_can_be_called_and_nothing_else(
            tools in prop::collection::vec(pick(&WORDS, 7), 3),
            prefixes in prop::collection::vec(prop::sample::select(vec!["", "a", "b", "long"]), 3),
            selected in selection(),
            rename in prop::sample::select(vec![("read", "r"), ("a__x", "read"), ("b__write", "a__read"), ("", "")]),
            (allow, deny, upstreams) in (pick(&PATTERNS, 3), pick(&PATTERNS, 2), pick(&["a", "b", "c", "*"], 3)),
            long in any::<bool>(),
            page in 1_u32..4,
        ) {
            let mut tools = tools;
            if long {
                tools[2].push("y".repeat(70));
            }
            let mut server = some_server("s", &["c", "a", "b"]);
            server.tools = selected;
            if !rename.0.is_empty() {
                server.rename.insert(rename.0.to_owned(), rename.1.to_owned());
            }
            let servers: Vec<(&str, &str, &[String])> = ["a", "b", "c"]
                .into_iter()
                .zip(prefixes.iter())
                .zip(tools.iter())
                .map(|((name, prefix), tools)| (name, *prefix, tools.as_slice()))
                .collect();
            let access = grant(&upstreams.join(" "), &allow.join(" "), &deny.join(" "));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { agree(&World::new(&servers, server, access, page), &tools).await })?;
        }
    }

    async fn agree(world: &World, tools: &[Vec<String>]) -> Result<(), TestCaseError> {
        let mut names: BTreeSet<String> = tools.iter().flatten().cloned().collect();
        names.extend(WORDS.iter().map(|word| (*word).to_owned()));
        names.extend(["r", "a__read", "nobody__x", ""].map(str::to_owned));
        for upstream in &world.plan.upstreams {
            names.extend(WORDS.iter().map(|word| names::prefixed(upstream, word).0));
            names.extend(WORDS.iter().map(|word| names::full(upstream, word)));
        }
        for path in ["/mcp", "/mcp/s", "a", "b"] {
            for caller in [world.legacy(), Caller::Modern] {
                if let Route::One(upstream) = world.route(path)
                    && !world.principal.access.upstream(&upstream)
                {
                    continue; // the listener knows no such route
                }
                let listed = world.listed(path, &caller).await;
                let distinct: BTreeSet<_> = listed.iter().cloned().collect();
                prop_assert_eq!(distinct.len(), listed.len(), "a name twice on {}: {:?}", path, listed);
                let mut reached = BTreeSet::new();
                for name in &listed {
                    let answer = world.call(path, &caller, name).await;
                    let answer =
                        answer.map_err(|why| TestCaseError::fail(format!("{path} {name}: {why}")))?;
                    prop_assert!(reached.insert(answer), "two names for one tool on {path}: {name}");
                }
                for name in names.difference(&distinct) {
                    // On its own route an upstream answers itself for what does not exist there.
                    let own = matches!(path, "a" | "b") && {
                        let upstream = world.plan.upstream(path).unwrap();
                        world.principal.access.tool(upstream, name)
                    };
                    if own {
                        continue;
                    }
                    let refused = world.call(path, &caller, name).await.err();
                    let said = refused.map(|why| (why.kind, why.public().to_owned()));
                    prop_assert_eq!(
                        said,
                        Some((Kind::UnknownName, format!("Unknown tool: {}", name))),
                        "{}",
                        path
                    );
                }
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn of_two_equal_names_the_first_on_the_route_wins_on_lists_and_calls() {
    let tools = own_names(&["x"]);
    let servers: [(&str, &str, &[String]); 2] = [("a", "", &tools), ("b", "", &tools)];
    let world = World::new(&servers, some_server("s", &["b", "a"]), Access::everything(), 500);
    for (path, owner) in [("/mcp", "a x"), ("/mcp/s", "b x")] {
        assert_eq!(world.listed(path, &Caller::Modern).await, ["x"]);
        assert!(world.call(path, &Caller::Modern, "x").await.unwrap().contains(owner), "{path}");
    }
    let inventory = world.router.inventory(None, &Access::everything()).await.unwrap();
    let states: Vec<_> =
        inventory.tools.iter().map(|one| (one.upstream.as_str(), one.state.clone())).collect();
    let clash = crate::inventory::State::Clash { upstream: "a".into() };
    assert_eq!(states, [("a", crate::inventory::State::Served), ("b", clash)]);
}

#[tokio::test]
async fn an_inventory_says_why_a_tool_is_hidden() {
    let tools = own_names(&["read", "write", "other"]);
    let mut server = some_server("s", &["a"]);
    server.tools = model::Selection { allow: own_names(&["read", "write"]), deny: own_names(&["wr*"]) };
    server.rename.insert("read".into(), "look".into());
    server.describe.insert("a__read".into(), "Looks.\nClosely.".into());
    let world = World::new(&[("a", "a", &tools)], server, Access::everything(), 500);
    let inventory = world.router.inventory(Some("s"), &Access::everything()).await.unwrap();
    let said: Vec<_> = inventory.tools.iter().map(|one| (one.name.as_str(), one.state.clone())).collect();
    use crate::inventory::State;
    let denied = State::Denied { pattern: "wr*".into() };
    assert_eq!(said, [("look", State::Served), ("a__write", denied), ("a__other", State::NotAllowed)]);
    assert_eq!(inventory.tools[0].description, "Looks.");
    let forbidden = world.router.inventory(Some("s"), &grant("*", "x", "")).await.unwrap();
    assert_eq!(forbidden.tools[0].state, State::Forbidden);
    assert!(world.router.inventory(Some("nobody"), &Access::everything()).await.is_none());
}

#[tokio::test]
async fn a_cursor_is_good_for_one_caller_one_route_and_one_list() {
    let tools = own_names(&["p", "q", "r"]);
    let mut world = World::new(&[("a", "", &tools)], some_server("s", &["a"]), Access::everything(), 2);
    let first = world.send("/mcp", &Caller::Modern, method::TOOLS_LIST, "").await.unwrap();
    let result: serde_json::Value = serde_json::from_slice(&first.bytes()[first.result().unwrap()]).unwrap();
    let cursor = format!(r#","cursor":"{}""#, result["nextCursor"].as_str().unwrap());
    let refused = async |world: &World, path: &str, method: &str, cursor: &str| {
        world.send(path, &Caller::Modern, method, cursor).await.err().map(|why| why.kind)
    };
    assert_eq!(refused(&world, "/mcp", method::TOOLS_LIST, &cursor).await, None);
    let bad = Some(Kind::InvalidParams);
    assert_eq!(refused(&world, "/mcp/s", method::TOOLS_LIST, &cursor).await, bad, "another route");
    assert_eq!(refused(&world, "/mcp", method::PROMPTS_LIST, &cursor).await, bad, "another list");
    assert_eq!(refused(&world, "/mcp", method::TOOLS_LIST, r#","cursor":"x""#).await, bad, "no cursor");
    assert_eq!(refused(&world, "/mcp", method::TOOLS_LIST, r#","cursor":7"#).await, bad, "no text");
    world.principal = Arc::new(Principal { id: "token:y".into(), access: Access::everything() });
    assert_eq!(refused(&world, "/mcp", method::TOOLS_LIST, &cursor).await, bad, "another principal");
}

#[tokio::test]
async fn a_description_is_replaced_or_added_and_nothing_else() {
    let list = super::catalogue::List::of_tools(&[
        r#"{"inputSchema":{"n":1.10},"description":"old","name":"p"}"#,
        r#"{"name":"q","x":12345678901234567890123}"#,
    ]);
    let mut server: Server = Server {
        name: Some("s".into()),
        upstreams: vec![upstream("a", "a__")],
        tools: Filter::everything(),
        prompts: Filter::everything(),
        resources: Filter::everything(),
        rename: BTreeMap::new(),
        describe: [("p", "new"), ("a__q", "added")].map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
    };
    server.rename.insert("q".into(), "renamed".into());
    let parts = [(server.upstreams[0].clone(), Some(Arc::new(list)))];
    let index = super::offer::Index::new(
        &server,
        &Access::everything(),
        super::category::Category::Tools,
        &parts,
        |_, _, _| {},
    );
    let rendered: Vec<_> =
        index.shown.iter().map(|one| String::from_utf8(one.rendered().to_vec()).unwrap()).collect();
    assert_eq!(
        rendered,
        [
            r#"{"inputSchema":{"n":1.10},"description":"new","name":"a__p"}"#,
            r#"{"description":"added","name":"renamed","x":12345678901234567890123}"#,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_view_is_kept_while_it_is_used_and_closed_when_nobody_looks() {
    let tools = own_names(&["x"]);
    let world = World::new(&[("a", "", &tools)], some_server("s", &["a"]), Access::everything(), 500);
    let legacy = world.legacy();
    let lists = || {
        let asked = world.router.next.asked.lock().unwrap();
        asked.iter().filter(|one| *one == "a tools/list").count()
    };
    for _ in 0..9 {
        assert_eq!(world.listed("/mcp", &legacy).await, ["x"]);
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    }
    // Once at first, then every five minutes or so, however often clients look.
    assert!((2..=3).contains(&lists()), "{}", lists());
    assert_eq!(world.router.catalogue.views(), 1);
    tokio::time::sleep(std::time::Duration::from_secs(6 * 60)).await;
    assert_eq!(world.router.catalogue.views(), 0);
    let before = lists();
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    assert_eq!(lists(), before, "nobody looks, nobody asks");
}

#[tokio::test(start_paused = true)]
async fn there_are_so_many_views_and_no_more() {
    let tools = own_names(&["x"]);
    let world = World::new(&[("a", "", &tools)], some_server("s", &["a"]), Access::everything(), 500);
    for n in 0..100 {
        let initialize = message(&format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"capabilities":{{"n":{n}}}}}}}"#
        ));
        let caller = world.session(initialize);
        assert_eq!(world.listed("/mcp", &caller).await, ["x"]);
    }
    assert_eq!(world.router.catalogue.views(), 64);
}

#[tokio::test(start_paused = true)]
async fn an_order_to_forget_lists_is_done_when_they_were_fetched_again() {
    let tools = own_names(&["x"]);
    let servers: [(&str, &str, &[String]); 2] = [("a", "a", &tools), ("b", "b", &tools)];
    let world = World::new(&servers, some_server("s", &["a"]), Access::everything(), 500);
    world.listed("/mcp", &world.legacy()).await;
    let lists = |of: &str| {
        let asked = world.router.next.asked.lock().unwrap();
        asked.iter().filter(|one| *one == &format!("{of} tools/list")).count()
    };
    let order = |upstream: Option<&str>, tier| Order { upstream: upstream.map(str::to_owned), tier };
    assert_eq!((lists("a"), lists("b")), (1, 1));
    let purged = world.router.purge(&order(Some("a"), None)).await;
    assert_eq!(purged, Purged { entries: 1, bytes: 1 }, "what the layer below forgot");
    assert_eq!((lists("a"), lists("b")), (2, 1));
    world.router.purge(&order(None, Some(model::Tier::Resources))).await;
    assert_eq!((lists("a"), lists("b")), (2, 1), "resources are no lists");
    world.router.purge(&order(None, Some(model::Tier::Catalogue))).await;
    assert_eq!((lists("a"), lists("b")), (3, 2));
}

/// `ttlMs` and `cacheScope` of the merged list of tools.
async fn freshness(world: &World) -> (u64, String) {
    let answer = world.send("/mcp", &Caller::Modern, method::TOOLS_LIST, "").await.unwrap();
    let result: serde_json::Value =
        serde_json::from_slice(&answer.bytes()[answer.result().unwrap()]).unwrap();
    (result["ttlMs"].as_u64().unwrap(), result["cacheScope"].as_str().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_merged_list_is_as_fresh_as_its_oldest_part_and_private_if_any_part_is() {
    use model::Life;
    let seconds = |seconds| Life::For(std::time::Duration::from_secs(seconds));
    let (x, none) = (own_names(&["x"]), own_names(&[]));
    let servers: [(&str, &str, &[String]); 2] = [("a", "a", &x), ("b", "b", &none)];
    let said = |ttl: u64, scope: &str| serde_json::json!({ "ttlMs": ttl, "cacheScope": scope });
    let (hour, minute, long) = (3_600_000, 60_000, 48 * 3_600_000);
    for (a, b, rules, expected) in [
        (said(hour, "public"), said(minute, "public"), [None, None], (minute, "public")),
        // One that lists nothing has its say, too.
        (said(hour, "public"), said(0, "private"), [None, None], (0, "private")),
        (said(hour, "public"), serde_json::json!({}), [None, None], (0, "private")),
        // The operator's word counts more than the server's, whose own has a limit.
        (said(0, "public"), said(long, "public"), [Some(seconds(30)), None], (30_000, "public")),
        (said(long, "public"), said(0, "public"), [None, Some(Life::Tier)], (2 * hour, "public")),
        (said(hour, "public"), said(hour, "public"), [Some(seconds(0)), None], (0, "public")),
    ] {
        let rule = |name: &str| if name == "a" { rules[0] } else { rules[1] };
        let server = some_server("s", &["a"]);
        let mut world = World::with_rules(&servers, server, Access::everything(), 500, rule);
        world.principal = Principal::anonymous();
        let all = [("a".to_owned(), a.clone()), ("b".to_owned(), b.clone())];
        world.router.next.said.lock().unwrap().extend(all);
        let (ttl, scope) = freshness(&world).await;
        assert_eq!((ttl, &*scope), expected, "{a} {b} {rules:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_was_seen_again_unchanged_is_fresh_again() {
    let tools = own_names(&["x"]);
    let world = World::new(&[("a", "", &tools)], some_server("s", &["a"]), Access::everything(), 500);
    let said = serde_json::json!({ "ttlMs": 600_000, "cacheScope": "public" });
    world.router.next.said.lock().unwrap().insert("a".into(), said);
    let seconds = async |seconds| tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    let (mut least, mut most) = (u64::MAX, 0);
    assert_eq!(freshness(&world).await, (600_000, "private".to_owned()), "of a principal");
    seconds(200).await;
    assert_eq!(freshness(&world).await.0, 400_000);
    for _ in 0..20 {
        seconds(100).await;
        let (ttl, _) = freshness(&world).await;
        (least, most) = (least.min(ttl), most.max(ttl));
    }
    assert!(most > 450_000, "never fresh again: {most}");
    assert!(least < 150_000, "fetched more often than its life asks for: {least}");
}
