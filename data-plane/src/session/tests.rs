//! The layer over a path that answers everything: which ids it knows, and for whom.

use super::*;
use crate::{
    current,
    metrics::Metrics,
    plan::Server,
    principal::{Access, Principal},
    seal::{Key, Keyring},
};
use http::HeaderMap;
use o1_process::{Readiness, Tasks};
use proptest::prelude::*;

/// A session of nobody, for whoever needs one.
pub(super) fn session() -> Arc<Session> {
    Arc::new(Session::new(Opening {
        serial: table::mint(),
        began: SystemTime::now(),
        principal: Principal::anonymous(),
        initialize: initialize("test"),
        version: era::LEGACY[0],
        upstream: None,
        server: None,
    }))
}

fn initialize(name: &str) -> Message {
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"2025-06-18","capabilities":{{"roots":{{}}}},"clientInfo":{{"name":"{name}"}}}}}}"#
    );
    Message::parse(&Bytes::from(text)).unwrap()
}

/// Answers everything with what it saw of the session.
struct Yes;

impl Handle for Yes {
    async fn handle(&self, _: Call) -> Result<Reply, Failure> {
        Ok(Reply::json(Bytes::from_static(b"{}")))
    }
}

/// One data-plane process.
struct Node {
    sessions: Arc<Sessions<Yes>>,
    keyring: Arc<Keyring>,
    _writer: current::Writer,
}

impl Node {
    fn new(keys: &[u8]) -> Self {
        let (writer, reader) = current::cell();
        let context = Context {
            current: reader,
            metrics: Arc::new(Metrics::default()),
            logs: Arc::default(),
            keyring: Keyring::local(),
            tasks: Tasks::new(),
            readiness: Readiness::new(),
            launcher: None,
            stores: Default::default(),
            snapshots: Default::default(),
        };
        let this = Self {
            keyring: context.keyring.clone(),
            sessions: Sessions::new(&context, Yes),
            _writer: writer,
        };
        this.keys(keys);
        this
    }

    fn keys(&self, keys: &[u8]) {
        let keys: Vec<_> = keys.iter().map(|n| Key { id: [*n; 4], secret: [*n; 32] }).collect();
        self.keyring.replace(&keys);
    }

    async fn ask(&self, of: &Asker, ask: Ask, id: Option<&str>) -> Result<Reply, Failure> {
        let mut headers = HeaderMap::new();
        if let Some(id) = id {
            headers.insert(header::SESSION_ID, HeaderValue::from_str(id).unwrap());
        }
        let (plan, route, principal) = (of.plan.clone(), of.route.clone(), of.principal.clone());
        self.sessions
            .handle(Call { plan, route, principal, caller: Caller::Legacy(None), ask, headers, fresh: false })
            .await
    }

    async fn open(&self, of: &Asker) -> String {
        let reply = self.ask(of, Ask::Message(initialize("c")), None).await.expect("a session");
        reply.headers[header::SESSION_ID].to_str().unwrap().to_owned()
    }

    /// The kind and the words of a refusal; `None`: the session is known.
    async fn refusal(&self, of: &Asker, id: &str) -> Option<(Kind, String)> {
        let list = Message::parse(&Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#));
        let refused = self.ask(of, Ask::Message(list.unwrap()), Some(id)).await.err()?;
        Some((refused.kind, refused.public().to_owned()))
    }
}

/// Who asks, on which route, under which configuration.
#[derive(Clone)]
struct Asker {
    plan: Arc<Plan>,
    route: Route,
    principal: Arc<Principal>,
}

impl Asker {
    fn new(principal: &str) -> Self {
        Self::under(principal, Plan::empty())
    }

    fn under(principal: &str, plan: Plan) -> Self {
        let route = Route::Server(plan.everything.clone());
        let principal = Principal { id: principal.into(), access: Access::everything() };
        Self { plan: Arc::new(plan), route, principal: Arc::new(principal) }
    }

    fn at(&self, server: &str) -> Self {
        let everything = &self.plan.everything;
        let server = Server {
            name: Some(server.into()),
            upstreams: everything.upstreams.clone(),
            tools: everything.tools.clone(),
            prompts: everything.prompts.clone(),
            resources: everything.resources.clone(),
            rename: everything.rename.clone(),
            describe: everything.describe.clone(),
        };
        Self { route: Route::Server(Arc::new(server)), ..self.clone() }
    }
}

#[test]
fn a_session_keeps_its_initialize_and_nothing_of_the_buffer_it_came_in() {
    let small = initialize("client");
    let own = kept(&small).unwrap();
    assert_eq!(own.bytes(), small.bytes());
    assert_ne!(own.bytes().as_ptr(), small.bytes().as_ptr());
    let refused = kept(&initialize(&"x".repeat(INITIALIZE_MAX))).unwrap_err();
    assert_eq!(refused.kind, Kind::InvalidRequest);
}

// agentgateway#221, #573, #754; mcp-hangar#877: sessions of one replica that the others do not know.
// toolhive#5387: a restored session that is not the one it was.
#[tokio::test]
async fn another_node_goes_on_with_a_session_as_the_same_session_of_the_same_principal() {
    let (a, b, caller) = (Node::new(&[1]), Node::new(&[1]), Asker::new("token:a"));
    let id = a.open(&caller).await;
    assert!(id.len() < 6 << 10, "{}", id.len());
    assert_eq!(b.refusal(&caller, &id).await, None);
    let (here, there) = (a.sessions.table.get(&id).unwrap(), b.sessions.table.get(&id).unwrap());
    assert_eq!(there.serial, here.serial);
    assert_eq!(there.principal, here.principal);
    assert_eq!(there.version, "2025-06-18");
    assert_eq!(there.initialize.params(), here.initialize.params());
    assert!(here.began.duration_since(there.began).unwrap() < Duration::from_secs(1));
    b.refusal(&caller, &id).await;
    assert_eq!(b.sessions.table.len(), 1, "it is taken up once");
}

#[tokio::test]
async fn what_is_not_a_session_here_for_this_caller_is_refused_in_the_very_same_words() {
    let (a, b, caller) = (Node::new(&[1]), Node::new(&[1]), Asker::new("token:a"));
    let id = a.open(&caller).await;
    let unknown = a.refusal(&caller, "never-was").await;
    assert_eq!(unknown.as_ref().map(|(kind, _)| *kind), Some(Kind::UnknownSession));
    let stranger = Node::new(&[2]);
    let ended = b.open(&caller).await;
    b.ask(&caller, Ask::End, Some(&ended)).await.unwrap();
    for (node, what) in [(&a, "in memory"), (&b, "sealed")] {
        assert_eq!(node.refusal(&Asker::new("token:b"), &id).await, unknown, "{what}: another principal");
        assert_eq!(node.refusal(&Asker::new(""), &id).await, unknown, "{what}: nobody");
        assert_eq!(node.refusal(&caller.at("coding"), &id).await, unknown, "{what}: another route");
        assert_eq!(node.refusal(&caller, &format!("{id}A")).await, unknown, "{what}: longer");
        assert_eq!(node.refusal(&caller, &id[..id.len() - 1]).await, unknown, "{what}: shorter");
    }
    assert_eq!(stranger.refusal(&caller, &id).await, unknown, "sealed with other keys");
    assert_eq!(b.refusal(&caller, &ended).await, unknown, "ended");
    assert_eq!(a.refusal(&caller, &id).await, None);
}

#[tokio::test]
async fn a_session_lives_through_rotations_until_its_key_is_gone() {
    let (a, caller) = (Node::new(&[1, 2]), Asker::new(""));
    let id = a.open(&caller).await;
    for keys in [&[2, 3, 1][..], &[3, 4, 2, 1]] {
        assert_eq!(Node::new(keys).refusal(&caller, &id).await, None, "{keys:?}");
    }
    // What was sealed a moment before the others heard of the rotation opens too.
    a.keys(&[2, 3, 1]);
    assert_eq!(Node::new(&[1, 2]).refusal(&caller, &a.open(&caller).await).await, None);
    assert!(Node::new(&[4, 5, 3]).refusal(&caller, &id).await.is_some());
}

// obot#7929: sessions without a limit to their life.
#[tokio::test]
async fn a_session_ends_with_its_life_on_every_node_however_busy_it_is() {
    let limited = |lifetime| {
        let mut plan = Plan::empty();
        plan.clients.session_lifetime = lifetime;
        Asker::under("", plan)
    };
    let (a, b) = (Node::new(&[1]), Node::new(&[1]));
    let id = a.open(&limited(Duration::from_secs(60))).await;
    assert_eq!(b.refusal(&limited(Duration::from_secs(60)), &id).await, None);
    let over = limited(Duration::ZERO);
    for node in [&a, &b] {
        node.sessions.reap(&over.plan).await;
        assert_eq!(node.sessions.table.len(), 0);
        let refused = node.refusal(&limited(Duration::from_secs(60)), &id).await;
        assert_eq!(refused.unwrap().0, Kind::UnknownSession, "ended stays ended");
    }
    assert!(
        Node::new(&[1]).refusal(&over, &id).await.is_some(),
        "and is over where nobody remembers its end"
    );
}

#[tokio::test]
async fn a_silent_session_ends_and_stays_ended_on_its_node() {
    let mut plan = Plan::empty();
    plan.clients.session_idle = Duration::ZERO;
    let caller = Asker::under("", plan);
    let node = Node::new(&[1]);
    let id = node.open(&caller).await;
    node.sessions.reap(&caller.plan).await;
    assert_eq!(node.refusal(&caller, &id).await.unwrap().0, Kind::UnknownSession);
}

#[tokio::test]
async fn a_session_that_waits_for_an_answer_is_not_silent() {
    let mut plan = Plan::empty();
    plan.clients.session_idle = Duration::from_nanos(1);
    let caller = Asker::under("", plan);
    let node = Node::new(&[1]);
    node.open(&caller).await;
    let [session] = &node.sessions.table.all()[..] else { panic!("one session") };
    let (one, two) = (session.at_work(), session.at_work());
    drop(one);
    node.sessions.reap(&caller.plan).await;
    assert_eq!(node.sessions.table.len(), 1);
    drop(two);
    node.sessions.reap(&caller.plan).await;
    assert_eq!(node.sessions.table.len(), 0);
}

#[tokio::test]
async fn a_full_node_takes_up_no_session_and_does_not_call_it_unknown() {
    let mut plan = Plan::empty();
    plan.clients.max_sessions = 1;
    let caller = Asker::under("", plan);
    let (a, b) = (Node::new(&[1]), Node::new(&[1]));
    let id = a.open(&caller).await;
    b.open(&caller).await;
    assert_eq!(b.refusal(&caller, &id).await.unwrap().0, Kind::TooManySessions);
    assert_eq!(a.refusal(&caller, &id).await, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn no_other_principal_has_a_session(one in ".{0,12}", other in ".{0,12}") {
        prop_assume!(one != other);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (a, b) = (Node::new(&[1]), Node::new(&[1]));
            let id = a.open(&Asker::new(&one)).await;
            for node in [&a, &b] {
                let unknown = node.refusal(&Asker::new(&other), "never-was").await;
                assert_eq!(node.refusal(&Asker::new(&other), &id).await, unknown);
                assert_eq!(node.refusal(&Asker::new(&one), &id).await, None);
            }
        });
    }
}
