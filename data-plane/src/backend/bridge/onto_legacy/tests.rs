//! Calls over a scripted server, with the clock in the test's hand.

use super::*;
use crate::{
    call::{Ask, Link, Probe, read_messages},
    mcp::{Era, json},
    principal::Access,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::HeaderMap;
use serde_json::Value;
use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// A legacy server: what it was told is kept, what it says is said by the test.
#[derive(Default)]
struct Script {
    /// Each session takes one call at a time, and asks beside its answers.
    alone: bool,
    opened: AtomicUsize,
    closed: AtomicUsize,
    told: Mutex<Vec<Message>>,
    /// The calls so far: on which session, under which id, and where their answers come from.
    calls: Mutex<Vec<(usize, String, mpsc::Sender<Message>)>>,
    beside: Mutex<Vec<mpsc::Sender<Message>>>,
}

struct Server(Arc<Script>);

#[derive(Clone)]
struct Session {
    script: Arc<Script>,
    number: usize,
    handshake: Message,
}

fn message(text: &str) -> Message {
    Message::parse(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn stream_of(receiver: mpsc::Receiver<Message>) -> Reply {
    let messages =
        stream::unfold(receiver, |mut receiver| async { Some((Ok(receiver.recv().await?), receiver)) });
    Reply::messages(messages.boxed())
}

impl Backend for Server {
    type Link = Session;

    async fn open(&self, _initialize: &Message) -> Result<Session, Failure> {
        let number = self.0.opened.fetch_add(1, Ordering::SeqCst);
        let handshake = message(
            r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}"#,
        );
        Ok(Session { script: self.0.clone(), number, handshake })
    }

    async fn ask(&self, _: &Message, _: &HeaderMap, _: &Principal) -> Result<Reply, Failure> {
        Err(Failure::new(Kind::WrongEra, "a legacy server"))
    }

    async fn discover(&self) -> Result<Message, Failure> {
        Err(Failure::new(Kind::WrongEra, "a legacy server"))
    }

    async fn relay(&self, _: &Ask, _: &HeaderMap, _: Option<&str>) -> Result<Reply, Failure> {
        Err(Failure::new(Kind::Internal, "nothing is relayed here"))
    }

    async fn speaks(&self, era: Era) -> Result<bool, Failure> {
        Ok(era == Era::Legacy)
    }

    fn generation(&self) -> u64 {
        0
    }

    async fn probe(&self) -> Result<Probe, Failure> {
        Ok(Probe::Legacy)
    }

    async fn stop(&self) {}
}

impl Link for Session {
    fn handshake(&self) -> &Message {
        &self.handshake
    }

    async fn ask(&self, message: &Message) -> Result<Reply, Failure> {
        let (sender, receiver) = mpsc::channel(8);
        let id = String::from_utf8(message.id().unwrap().to_vec()).unwrap();
        self.script.calls.lock().unwrap().push((self.number, id, sender));
        Ok(stream_of(receiver))
    }

    async fn tell(&self, message: &Message) -> Result<(), Failure> {
        self.script.told.lock().unwrap().push(message.clone());
        Ok(())
    }

    async fn stream(&self) -> Result<Reply, Failure> {
        let (sender, receiver) = mpsc::channel(8);
        self.script.beside.lock().unwrap().push(sender);
        Ok(stream_of(receiver))
    }

    fn one_at_a_time(&self) -> bool {
        self.script.alone
    }

    fn is_open(&self) -> bool {
        true
    }

    async fn close(&self) {
        self.script.closed.fetch_add(1, Ordering::SeqCst);
    }
}

struct Rig {
    script: Arc<Script>,
    onto: OntoLegacy<Server>,
}

fn rig(alone: bool) -> Rig {
    let script = Arc::new(Script { alone, ..Script::default() });
    let shared = Shared::new(&Tasks::new(), &Keyring::local());
    let onto = OntoLegacy::new(Arc::new(Server(script.clone())), [7; 32], &shared);
    Rig { script, onto }
}

fn who(id: &str) -> Principal {
    Principal { id: id.into(), access: Access::everything() }
}

fn call(rest: &str) -> Message {
    message(&format!(
        r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{{"name":"t","_meta":{{"io.modelcontextprotocol/clientCapabilities":{{"elicitation":{{}},"sampling":{{}}}}}}{rest}}}}}"#
    ))
}

/// A question with one field.
fn question(id: u32, field: &str) -> Message {
    message(&format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"elicitation/create","params":{{"message":"m","requestedSchema":{{"properties":{{"{field}":{{}}}}}}}}}}"#
    ))
}

impl Rig {
    /// Starts a call whose answer is read in the background.
    async fn start(&self, rest: &str, principal: &str) -> mpsc::Receiver<Result<Value, Failure>> {
        let reply = self.onto.ask(&call(rest), &who(principal)).await.unwrap();
        let (sender, receiver) = mpsc::channel(8);
        Tasks::new().spawn("a client", o1_process::OnExit::Quiet, async move {
            let mut messages = read_messages(reply);
            while let Some(next) = messages.next().await {
                let _ = sender.send(next.map(|next| serde_json::from_slice(next.bytes()).unwrap())).await;
            }
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        receiver
    }

    /// The server says something with the answer of its `at`th call.
    async fn say(&self, at: usize, text: Message) {
        let sender = self.script.calls.lock().unwrap()[at].2.clone();
        sender.send(text).await.unwrap();
    }

    /// The server answers its `at`th call.
    async fn answer(&self, at: usize) {
        let id = self.script.calls.lock().unwrap()[at].1.clone();
        self.say(at, message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#))).await;
    }

    fn told(&self) -> Vec<String> {
        let told = self.script.told.lock().unwrap();
        told.iter().map(|message| String::from_utf8(message.bytes().to_vec()).unwrap()).collect()
    }

    fn calls(&self) -> Vec<usize> {
        self.script.calls.lock().unwrap().iter().map(|(session, ..)| *session).collect()
    }
}

fn state(asked: &Value) -> String {
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    asked["result"]["requestState"].as_str().unwrap().to_owned()
}

fn answers(pairs: &str, state: &str) -> String {
    format!(r#","inputResponses":{{{pairs}}},"requestState":"{state}""#)
}

const ACCEPT: &str = r#"{"action":"accept","content":{}}"#;

#[tokio::test(start_paused = true)]
async fn a_call_whose_client_never_answers_is_cancelled_at_the_server() {
    let rig = rig(false);
    let mut client = rig.start("", "a").await;
    rig.say(0, question(5, "name")).await;
    let state = state(&client.recv().await.unwrap().unwrap());
    tokio::time::sleep(Duration::from_secs(9 * 60)).await;
    assert!(rig.told().is_empty(), "there is time left");
    tokio::time::sleep(Duration::from_secs(61)).await;
    let told = rig.told();
    assert!(told.len() == 1 && told[0].contains(r#""method":"notifications/cancelled""#), "{told:?}");
    let late = call(&answers(&format!(r#""name":{ACCEPT}"#), &state));
    assert_eq!(rig.onto.ask(&late, &who("a")).await.unwrap_err().kind, Kind::InvalidParams);
    assert_eq!(rig.calls().len(), 1, "nothing is repeated");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_goes_on_leaves_no_clock_behind() {
    let rig = rig(false);
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut client = rig.start("", "a").await;
    rig.say(0, question(1, "name")).await;
    let mut asked = state(&client.recv().await.unwrap().unwrap());
    let before = alive();
    for round in 2..50 {
        client = rig.start(&answers(&format!(r#""name":{ACCEPT}"#), &asked), "a").await;
        rig.say(0, question(round, "name")).await;
        asked = state(&client.recv().await.unwrap().unwrap());
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(alive(), before);
}

#[tokio::test(start_paused = true)]
async fn a_state_is_unknown_to_everybody_else_and_on_every_other_upstream() {
    let rig = rig(false);
    let mut client = rig.start("", "a").await;
    rig.say(0, question(5, "name")).await;
    let state = state(&client.recv().await.unwrap().unwrap());
    let retry = call(&answers(&format!(r#""name":{ACCEPT}"#), &state));
    let foreign = rig.onto.ask(&retry, &who("b")).await.unwrap_err();
    let unknown = rig.onto.ask(&call(&answers("", "never-sealed")), &who("b")).await.unwrap_err();
    assert_eq!((foreign.kind, foreign.public()), (unknown.kind, unknown.public()));
    let elsewhere =
        OntoLegacy { upstream: [8; 32], parked: rig.onto.parked.clone(), pool: rig.onto.pool.clone() };
    assert_eq!(elsewhere.ask(&retry, &who("a")).await.unwrap_err().public(), unknown.public());
    assert!(rig.onto.ask(&retry, &who("a")).await.is_ok(), "and it is still good for whom it is");
}

#[tokio::test(start_paused = true)]
async fn questions_come_several_at_once_and_round_after_round() {
    let rig = rig(false);
    let mut client = rig.start("", "a").await;
    rig.say(0, question(5, "name")).await;
    rig.say(0, question(6, "name")).await;
    let asked = client.recv().await.unwrap().unwrap();
    let keys: Vec<_> = asked["result"]["inputRequests"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["name", "name-2"]);
    let first = state(&asked);
    // One of two answers: the other is asked for again.
    let mut client = rig.start(&answers(&format!(r#""name":{ACCEPT}"#), &first), "a").await;
    let again = client.recv().await.unwrap().unwrap();
    assert!(again["result"]["inputRequests"].get("name").is_none(), "{again}");
    let second = state(&again);
    assert_ne!(first, second);
    let mut client = rig.start(&answers(&format!(r#""name-2":{ACCEPT}"#), &second), "a").await;
    assert_eq!(rig.told().len(), 2);
    rig.say(0, question(7, "color")).await;
    let third = state(&client.recv().await.unwrap().unwrap());
    let mut client = rig.start(&answers(&format!(r#""color":{ACCEPT},"extra":1"#), &third), "a").await;
    rig.answer(0).await;
    let ended = client.recv().await.unwrap().unwrap();
    assert_eq!((&ended["id"], &ended["result"]["resultType"]), (&"c".into(), &"complete".into()));
    let ids: Vec<_> = rig
        .told()
        .iter()
        .map(|told| {
            json::find(told.as_bytes(), &(0..told.len()), &["id"]).unwrap().map(|at| told[at].to_owned())
        })
        .collect();
    assert_eq!(ids, [5, 6, 7].map(|id| Some(id.to_string())), "answered once each, and nothing cancelled");
}

#[tokio::test(start_paused = true)]
async fn answers_that_come_with_the_call_are_given_when_they_are_asked_for() {
    let rig = rig(false);
    let mut client =
        rig.start(&format!(r#","inputResponses":{{"name":{ACCEPT},"more":{ACCEPT}}}"#), "a").await;
    rig.say(0, question(5, "name")).await;
    rig.answer(0).await;
    assert_eq!(client.recv().await.unwrap().unwrap()["result"]["resultType"], "complete");
    assert_eq!(rig.told().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_serves_one_call_at_a_time_is_asked_by_no_other() {
    let rig = rig(true);
    let mut first = rig.start("", "a").await;
    let mut second = rig.start("", "a").await;
    assert_eq!(rig.calls(), [0, 1], "each has its own");
    // What the second process asks beside its answers can only belong to its one call.
    let beside = rig.script.beside.lock().unwrap()[1].clone();
    beside.send(question(0, "name")).await.unwrap();
    let state = state(&second.recv().await.unwrap().unwrap());
    assert!(first.try_recv().is_err());
    rig.answer(0).await;
    assert_eq!(first.recv().await.unwrap().unwrap()["result"]["resultType"], "complete");
    // The first is free again, the second still waits.
    let _third = rig.start("", "a").await;
    assert_eq!(rig.calls(), [0, 1, 0]);
    let mut second = rig.start(&answers(&format!(r#""name":{ACCEPT}"#), &state), "a").await;
    rig.answer(1).await;
    assert_eq!(second.recv().await.unwrap().unwrap()["result"]["resultType"], "complete");
}

#[tokio::test(start_paused = true)]
async fn sessions_belong_to_one_principal_and_close_when_nobody_uses_them() {
    let rig = rig(false);
    for (at, principal) in ["a", "b", "a"].into_iter().enumerate() {
        let mut client = rig.start("", principal).await;
        rig.answer(at).await;
        assert!(client.recv().await.unwrap().is_ok());
    }
    assert_eq!(rig.calls(), [0, 1, 0]);
    tokio::time::sleep(Duration::from_secs(50)).await;
    let mut client = rig.start("", "a").await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(rig.script.closed.load(Ordering::SeqCst), 1, "only what nobody used");
    rig.answer(3).await;
    assert!(client.recv().await.unwrap().is_ok());
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(rig.script.closed.load(Ordering::SeqCst), 2);
    assert!(rig.onto.pool.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_server_asks_of_nobody_is_answered_by_the_gateway() {
    let rig = rig(false);
    let line = rig.onto.pool.line(&Sharers { principal: "a".into(), declared: "{}".into() }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let beside = rig.script.beside.lock().unwrap()[0].clone();
    for (id, method) in [(0, "roots/list"), (1, "ping"), (2, "elicitation/create")] {
        let asked = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#);
        beside.send(message(&asked)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let told = rig.told();
    assert_eq!(told[0], r#"{"jsonrpc":"2.0","id":0,"result":{"roots":[]}}"#);
    assert_eq!(told[1], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert!(told[2].contains("-32601"), "{told:?}");
    assert!(line.is_open());
}
