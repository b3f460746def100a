use super::*;
use crate::{
    backend::http::HttpServer,
    logs::Logs,
    mcp::{own, rpc},
    metrics::Metrics,
    plan::{Plan, Upstream},
    seal::Keyring,
};
use futures_util::future::join_all;
use http::HeaderMap;
use o1_process::{Readiness, Tasks};
use o1_proto::model::Batching;
use serde_json::{Value, json as value};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What a server says to a body that is no handshake: status, content type, body.
type Said = (u16, &'static str, String);

/// A server.
struct Script {
    version: &'static str,
    answer: Box<dyn Fn(&Value) -> Said + Send + Sync>,
    /// How long it takes for an array.
    pace: Duration,
    /// What it was sent after the handshake; null where somebody hung up on it.
    seen: Mutex<Vec<Value>>,
}

const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";
const SOON: Duration = Duration::from_secs(10);
/// Nobody waits for it to end.
const LONG: Duration = Duration::from_secs(3600);
const WINDOW: Batching = Batching { window: Duration::from_millis(30), max: 10 };

/// A session with a server of a revision.
struct Scene {
    link: HttpLink,
    context: Context,
    script: Arc<Script>,
    server: JoinSet<()>,
}

impl Scene {
    async fn new(
        version: &'static str,
        batching: Batching,
        answer: impl Fn(&Value) -> Said + Send + Sync + 'static,
    ) -> Self {
        Self::paced(Duration::ZERO, version, batching, answer).await
    }

    async fn windowed(answer: impl Fn(&Value) -> Said + Send + Sync + 'static) -> Self {
        Self::new(REVISION, WINDOW, answer).await
    }

    async fn paced(
        pace: Duration,
        version: &'static str,
        batching: Batching,
        answer: impl Fn(&Value) -> Said + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap()).parse().unwrap();
        let script = Arc::new(Script { version, answer: Box::new(answer), pace, seen: Mutex::default() });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, script.clone()));
        let (current, reader) = current::cell();
        let mut plan = Plan::empty();
        plan.batching = batching;
        current.swap(Arc::new(plan));
        let context = Context {
            current: reader,
            metrics: Arc::new(Metrics::default()),
            logs: Arc::new(Logs::default()),
            keyring: Keyring::local(),
            tasks: Tasks::new(),
            readiness: Readiness::new(),
            launcher: None,
            stores: Default::default(),
            snapshots: Default::default(),
        };
        let http = HttpServer::new(&Upstream::bare("a"), &url, &HeaderMap::new(), None, &context).unwrap();
        let link = HttpLink::open(&http, &own::initialize(b"0", version, "{}")).await.unwrap();
        script.seen.lock().unwrap().clear();
        Self { link, context, script, server }
    }

    /// The answer to a list, or why there is none.
    async fn list(&self, id: &str, method: &str) -> Result<Value, String> {
        let request = Message::parse(&rpc::request(id.as_bytes(), method, b"{}")).unwrap();
        let exchange = async { crate::call::read_response(self.link.ask(&request).await?).await };
        match tokio::time::timeout(SOON, exchange).await.expect("in time") {
            Ok(message) => Ok(serde_json::from_slice(message.bytes()).unwrap()),
            Err(failure) => Err(format!("{}: {failure}", failure.kind.code())),
        }
    }

    /// Tools, prompts and resources at once, with the ids 1, 2 and 3.
    async fn three(&self) -> Vec<Result<Value, String>> {
        let lists = [("1", "tools/list"), ("2", "prompts/list"), ("3", "resources/list")];
        join_all(lists.map(|(id, method)| self.list(id, method))).await
    }

    /// How many requests each body held; 0 for one without an array.
    fn sent(&self) -> Vec<usize> {
        self.script.seen.lock().unwrap().iter().map(|body| body.as_array().map_or(0, Vec::len)).collect()
    }

    fn sizes(&self) -> u64 {
        self.context.metrics.samples()[0].1.batches.size_sum
    }
}

async fn serve(listener: TcpListener, script: Arc<Script>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        connections.spawn(connection(socket, script.clone()));
    }
}

async fn connection(mut socket: TcpStream, script: Arc<Script>) {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !matches!(socket.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        };
        let text = String::from_utf8_lossy(&buffer[..head]).to_lowercase();
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        while buffer.len() < head + length {
            assert!(socket.read_buf(&mut buffer).await.unwrap() > 0);
        }
        let body: Value = serde_json::from_slice(&buffer[head..head + length]).unwrap_or_default();
        buffer.drain(..head + length);
        script.seen.lock().unwrap().push(body.clone());
        if body.is_array() {
            tokio::select! {
                () = tokio::time::sleep(script.pace) => {}
                _ = socket.read_buf(&mut buffer) => return script.seen.lock().unwrap().push(Value::Null),
            }
        }
        let (status, content_type, body) = match body["method"].as_str() {
            Some("initialize") => (
                200,
                JSON,
                value!({"jsonrpc": "2.0", "id": body["id"], "result": {"protocolVersion": script.version}})
                    .to_string(),
            ),
            Some(method) if method.starts_with("notifications/") => (202, JSON, String::new()),
            _ => (script.answer)(&body),
        };
        let response = format!(
            "HTTP/1.1 {status} X\r\nmcp-session-id: s\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(response.as_bytes()).await.unwrap();
    }
}

fn result(request: &Value) -> Value {
    value!({"jsonrpc": "2.0", "id": request["id"], "result": {"of": request["method"]}})
}

/// In order, as an array if it was one.
fn in_order(body: &Value) -> Said {
    let all = body.as_array().map(|all| Value::from_iter(all.iter().map(result)));
    (200, JSON, all.unwrap_or_else(|| result(body)).to_string())
}

fn each_its_own(answers: &[Result<Value, String>]) {
    for (answer, (id, method)) in
        answers.iter().zip([(1, "tools/list"), (2, "prompts/list"), (3, "resources/list")])
    {
        let answer = answer.as_ref().expect("answered");
        assert_eq!((&answer["id"], &answer["result"]["of"]), (&value!(id), &value!(method)));
    }
}

#[tokio::test]
async fn lists_of_one_window_are_one_array_and_each_gets_its_own_answer() {
    let scene = Scene::windowed(in_order).await;
    each_its_own(&scene.three().await);
    assert_eq!(scene.sent(), [3]);
    assert_eq!(scene.sizes(), 3);
}

#[tokio::test]
async fn one_alone_goes_as_a_plain_object() {
    let scene = Scene::windowed(in_order).await;
    assert_eq!(scene.list("1", "tools/list").await.unwrap()["id"], 1);
    assert_eq!(scene.sent(), [0]);
}

#[tokio::test]
async fn what_is_no_list_never_waits() {
    let scene = Scene::new(REVISION, Batching { window: LONG, max: 10 }, in_order).await;
    let methods = ["tools/call", "resources/read", "ping", "completion/complete"];
    for method in methods {
        scene.list("1", method).await.unwrap();
    }
    assert_eq!(scene.sent(), [0; 4]);
    assert_eq!(scene.sizes(), 0);
}

#[tokio::test]
async fn other_revisions_have_no_arrays_and_without_a_window_there_are_none() {
    let batching = Batching { window: LONG, max: 10 };
    for version in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let scene = Scene::new(version, batching, in_order).await;
        each_its_own(&scene.three().await);
        assert_eq!(scene.sent(), [0; 3], "{version}");
    }
    for batching in [Batching::default(), Batching { max: 1, ..batching }] {
        let scene = Scene::new(REVISION, batching, in_order).await;
        each_its_own(&scene.three().await);
        assert_eq!(scene.sent(), [0; 3], "{batching:?}");
    }
}

#[tokio::test]
async fn as_many_as_an_array_takes_wait_no_longer() {
    let scene = Scene::new(REVISION, Batching { window: LONG, max: 3 }, in_order).await;
    each_its_own(&scene.three().await);
    each_its_own(&scene.three().await);
    assert_eq!(scene.sent(), [3, 3], "the clock of a window that is gone closes no other");
}

#[tokio::test]
async fn equal_ids_are_never_in_one_array() {
    let scene = Scene::new(REVISION, Batching { window: LONG, max: 2 }, in_order).await;
    let lists = [("1", "tools/list"), ("1", "prompts/list"), ("2", "resources/list")];
    let answers = join_all(lists.map(|(id, method)| scene.list(id, method))).await;
    for ((_, method), answer) in lists.iter().zip(&answers) {
        assert_eq!(answer.as_ref().unwrap()["result"]["of"], *method);
    }
    let mut sent = scene.sent();
    sent.sort_unstable();
    assert_eq!(sent, [0, 2]);
}

#[tokio::test]
async fn events_in_any_order_reach_whom_they_are_for() {
    let scene = Scene::windowed(|body| {
        let Some(all) = body.as_array() else { return in_order(body) };
        let answers: Vec<_> = all.iter().map(result).collect();
        let said = value!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x"}});
        let pair = value!([answers[1], answers[0]]);
        (200, SSE, format!("id: 1\ndata: \n\ndata: {said}\n\ndata: {}\n\ndata: {pair}\n\n", answers[2]))
    })
    .await;
    each_its_own(&scene.three().await);
    assert_eq!(scene.sent(), [3]);
}

#[tokio::test]
async fn what_a_server_says_beside_answers_is_heard_by_one() {
    let scene = Scene::windowed(|body| {
        let Some(all) = body.as_array() else { return in_order(body) };
        let asked = value!({"jsonrpc": "2.0", "id": "q", "method": "roots/list"});
        let rest: String = all.iter().map(|one| format!("data: {}\n\n", result(one))).collect();
        (200, SSE, format!("data: {asked}\n\n{rest}"))
    })
    .await;
    let hear = |id: &'static str| {
        let request = Message::parse(&rpc::request(id.as_bytes(), "tools/list", b"{}")).unwrap();
        let link = &scene.link;
        async move {
            let messages = crate::call::read_messages(link.ask(&request).await.unwrap());
            messages.map(|message| message.unwrap().kind()).collect::<Vec<_>>().await
        }
    };
    let (first, second) = tokio::join!(hear("1"), hear("2"));
    assert_eq!(first, [mcp::Kind::Request, mcp::Kind::Response]);
    assert_eq!(second, [mcp::Kind::Response]);
}

#[tokio::test]
async fn one_that_is_left_out_fails_alone_and_the_server_gets_no_array_again() {
    let answers: [fn(&Value) -> Said; 2] = [
        |body| match body.as_array() {
            Some(all) => (200, JSON, value!([result(&all[2]), result(&all[0])]).to_string()),
            None => in_order(body),
        },
        |body| match body.as_array() {
            Some(all) => (200, SSE, format!("data: {}\n\ndata: {}\n\n", result(&all[2]), result(&all[0]))),
            None => in_order(body),
        },
    ];
    for answer in answers {
        let scene = Scene::windowed(answer).await;
        let [tools, prompts, resources] = scene.three().await.try_into().unwrap();
        assert_eq!((&tools.unwrap()["id"], &resources.unwrap()["id"]), (&value!(1), &value!(3)));
        assert!(prompts.unwrap_err().starts_with("protocol: the upstream left this request out"));
        each_its_own(&scene.three().await);
        assert_eq!(scene.sent(), [3, 0, 0, 0]);
    }
}

#[tokio::test]
async fn a_server_that_refuses_arrays_is_asked_one_by_one_from_then_on() {
    let refusals: [fn() -> Said; 7] = [
        || (400, JSON, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}"#.into()),
        || (405, "text/plain", "no".into()),
        || (500, "text/html", "TypeError: list indices must be integers".into()),
        || (200, JSON, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}"#.into()),
        || (200, JSON, r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"no"}}"#.into()),
        || (200, JSON, r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":1,"message":"no"}}"#.into()),
        || {
            let refusal = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}"#;
            (200, SSE, format!("data: [{refusal},{refusal}]\n\n"))
        },
    ];
    for (at, refusal) in refusals.into_iter().enumerate() {
        let answer = move |body: &Value| if body.is_array() { refusal() } else { in_order(body) };
        let scene = Scene::windowed(answer).await;
        each_its_own(&scene.three().await);
        each_its_own(&scene.three().await);
        assert_eq!(scene.sent(), [3, 0, 0, 0, 0, 0, 0], "{at}");
    }
}

#[tokio::test]
async fn what_is_no_refusal_is_each_ones_failure_and_arrays_go_on() {
    for (status, kind) in [(404, "session_lost"), (503, "unreachable"), (429, "overloaded")] {
        let scene = Scene::windowed(move |_| (status, "text/plain", "later".into())).await;
        for answer in scene.three().await {
            assert_eq!(answer.unwrap_err().split(':').next(), Some(kind));
        }
        assert_eq!(scene.link.is_open(), kind != "session_lost");
        assert!(!scene.link.0.server.0.arrays.refused.load(Ordering::Relaxed), "{kind}");
    }
}

#[tokio::test]
async fn errors_are_answers_too() {
    let scene = Scene::windowed(|body| {
        let Some(all) = body.as_array() else { return in_order(body) };
        let error =
            value!({"jsonrpc": "2.0", "id": all[0]["id"], "error": {"code": -32601, "message": "no"}});
        (200, JSON, value!([error, result(&all[1]), result(&all[2])]).to_string())
    })
    .await;
    let answers = scene.three().await;
    assert_eq!(answers[0].as_ref().unwrap()["error"]["code"], -32601);
    assert_eq!(answers[1].as_ref().unwrap()["result"]["of"], "prompts/list");
    assert!(!scene.link.0.server.0.arrays.refused.load(Ordering::Relaxed));
}

#[tokio::test]
async fn one_that_goes_away_before_the_window_ends_is_not_sent_and_loses_nobody() {
    let scene = Scene::windowed(in_order).await;
    let gone = tokio::time::timeout(Duration::from_millis(1), scene.list("9", "tools/list"));
    let (answers, gone) = tokio::join!(scene.three(), gone);
    assert!(gone.is_err(), "it went while the window was open");
    each_its_own(&answers);
    assert_eq!(scene.sent(), [3]);
}

#[tokio::test]
async fn one_that_goes_away_later_loses_nobody() {
    let scene = Scene::paced(Duration::from_millis(300), REVISION, WINDOW, in_order).await;
    let gone = tokio::time::timeout(Duration::from_millis(150), scene.list("9", "tools/list"));
    let (answers, gone) = tokio::join!(scene.three(), gone);
    assert!(gone.is_err(), "it went while the server was at work");
    each_its_own(&answers);
    assert_eq!(scene.sent(), [4]);
}

#[tokio::test]
async fn an_array_that_nobody_waits_for_is_given_up() {
    let scene = Scene::paced(LONG, REVISION, WINDOW, in_order).await;
    assert!(tokio::time::timeout(Duration::from_millis(150), scene.three()).await.is_err());
    let hung_up = async {
        while scene.script.seen.lock().unwrap().last() != Some(&Value::Null) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, hung_up).await.expect("the server is hung up on");
}

#[test]
fn what_is_for_nobody_is_nobodys() {
    let part = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let waiting = [Some(&b"1"[..]), None, Some(b"\"a\"")];
    let found = portions(
        &part(
            r#" [{"jsonrpc":"2.0","id":"a","result":1}, {"jsonrpc":"2.0","id":2,"result":2}, 7,
            {"jsonrpc":"2.0","id":1,"result":{"x":[ ]}}] "#,
        ),
        &waiting,
    );
    let places: Vec<_> = found.answers.iter().map(|(place, _)| *place).collect();
    assert_eq!((places, found.refused, found.asides.len()), (vec![2, 0], false, 0));
    assert_eq!(found.answers[1].1.bytes(), r#"{"jsonrpc":"2.0","id":1,"result":{"x":[ ]}}"#);
    for nothing in ["", "[", "[]", "<html>", "null", r#"{"id":1}"#, r#"{"jsonrpc":"2.0","id":7,"result":1}"#]
    {
        let found = portions(&part(nothing), &waiting);
        assert!(found.answers.is_empty() && found.asides.is_empty() && !found.refused, "{nothing}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = portions(&Bytes::from(bytes), &[Some(b"1")]);
    }

    #[test]
    fn every_order_gives_each_its_own(order in proptest::sample::subsequence((0..8_usize).collect::<Vec<_>>(), 0..8), turn in 0_usize..8) {
        let mut order = order;
        let count = order.len().max(1);
        order.rotate_left(turn % count);
        let text: Vec<_> = order.iter().map(|id| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{id}}}"#)).collect();
        let ids: Vec<_> = (0..8).map(|id| format!("{id}")).collect();
        let waiting: Vec<_> = ids.iter().map(|id| Some(id.as_bytes())).collect();
        let found = portions(&Bytes::from(format!("[{}]", text.join(","))), &waiting);
        let places: Vec<_> = found.answers.iter().map(|(place, _)| *place).collect();
        proptest::prop_assert_eq!(places, order);
        for (place, answer) in found.answers {
            proptest::prop_assert_eq!(answer.id(), Some(ids[place].as_bytes()));
        }
    }
}

#[tokio::test]
async fn a_stream_that_cannot_be_taken_up_belongs_to_a_request_that_was_sent() {
    let primed = |_: &Value| (200, SSE, "id: 1\nretry: 50\ndata: \n\n".to_owned());
    let mut scene = Scene::new(REVISION, Batching::default(), primed).await;
    let call = Message::parse(&rpc::request(b"1", "tools/call", br#"{"name":"pay"}"#)).unwrap();
    let reply = scene.link.ask(&call).await.unwrap();
    scene.server.shutdown().await;
    let answer = tokio::time::timeout(SOON, crate::call::read_response(reply)).await.expect("in time");
    let failure = answer.expect_err("nobody is there");
    assert_eq!((failure.kind, failure.is_unsent()), (Kind::Unreachable, false), "{}", failure.chain());
}
