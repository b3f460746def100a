//! What the layer hears by itself of what has changed.

use super::*;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const ANNOUNCES: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"result":{"capabilities":{"tools":{"listChanged":true},"#,
    r#""prompts":{},"resources":{"subscribe":true}}}}"#
);

/// The subscriptions of the layer, in the order in which they were opened: for what, and a way to say something.
#[derive(Default)]
struct Subscriptions(Mutex<Vec<(String, mpsc::Sender<Message>)>>);

impl Subscriptions {
    fn open(&self, call: &Call) -> Reply {
        let Ask::Message(request) = &call.ask else { panic!("a subscription is a request") };
        let wanted = request.param(&["notifications"]).unwrap().expect("it says for what");
        let wanted = String::from_utf8_lossy(&request.bytes()[wanted]).into_owned();
        let (say, said) = mpsc::channel(8);
        self.0.lock().unwrap().push((wanted, say));
        let first = message(r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged"}"#);
        Reply::messages(stream::iter([first]).chain(ReceiverStream::new(said)).map(Ok).boxed())
    }

    fn wanted(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(wanted, _)| wanted.clone()).collect()
    }

    /// Those that are listened to still.
    fn open_ones(&self) -> Vec<bool> {
        self.0.lock().unwrap().iter().map(|(_, say)| !say.is_closed()).collect()
    }

    async fn says(&self, at: usize, method: &str, params: &str) {
        let say = self.0.lock().unwrap()[at].1.clone();
        let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{params}}}}}"#);
        say.send(message(&text)).await.expect("it is listened to");
        seconds(0.01).await;
    }

    fn lose(&self, at: usize) {
        self.0.lock().unwrap()[at].1 = mpsc::channel(1).0;
    }
}

async fn seconds(seconds: f64) {
    sleep(Duration::from_secs_f64(seconds)).await;
}

/// A layer over an upstream that announces changes and answers at once with lives of a minute.
fn listened_to(fleet: model::Fleet) -> (Rig, Arc<Subscriptions>) {
    let (rig, subscriptions) = (Rig::of(fleet), Arc::<Subscriptions>::default());
    *rig.server.handshake.lock().unwrap() = Some(ANNOUNCES);
    rig.takes(Duration::ZERO);
    let opened = subscriptions.clone();
    rig.answers(move |call, _| {
        let Ask::Message(request) = &call.ask else { panic!("requests only") };
        Ok(if request.method() == method::LISTEN { opened.open(call) } else { result(call, PUBLIC) })
    });
    (rig, subscriptions)
}

fn fleet() -> model::Fleet {
    model::Fleet { upstreams: vec![upstream(CacheRules::default())], ..model::Fleet::default() }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_listened_to_and_nothing_else_is() {
    let (rig, subscriptions) = listened_to(fleet());
    rig.read("a", 1, "x://1").await;
    seconds(0.1).await;
    assert_eq!(subscriptions.wanted(), [r#"{"resourceSubscriptions":["x://1"]}"#]);
    rig.read("a", 2, "x://2").await;
    rig.list("a", 3).await;
    rig.ask(rig.modern("a", 4, method::PROMPTS_LIST, "")).await;
    seconds(2.0).await;
    let all = r#"{"toolsListChanged":true,"resourceSubscriptions":["x://1","x://2"]}"#;
    assert_eq!(subscriptions.wanted()[1..], [all]);
    assert_eq!(subscriptions.open_ones(), [false, true]);

    let misses = |tier| rig.found(tier).2;
    let before = misses(Tier::Resources);
    subscriptions.says(1, method::RESOURCES_UPDATED, r#""uri":"x://1""#).await;
    rig.read("b", 5, "x://2").await;
    assert_eq!(misses(Tier::Resources), before, "the other was not updated");
    rig.read("b", 6, "x://1").await;
    assert_eq!(misses(Tier::Resources), before + 1);
    let before = misses(Tier::Catalogue);
    rig.list("b", 7).await;
    assert_eq!(misses(Tier::Catalogue), before);
    subscriptions.says(1, method::TOOLS_CHANGED, "").await;
    rig.list("b", 8).await;
    assert_eq!(misses(Tier::Catalogue), before + 1);
    assert_eq!(subscriptions.wanted().len(), 2, "nothing new to hear about");

    // A minute of life, five more where the server fails.
    seconds(400.0).await;
    assert_eq!(subscriptions.open_ones(), [false, false], "nothing is kept");
    rig.list("b", 9).await;
    seconds(0.1).await;
    assert_eq!(subscriptions.open_ones(), [false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_subscription_leaves_nothing_fresh_and_everything_for_a_server_that_fails() {
    let (rig, subscriptions) = listened_to(fleet());
    rig.list("a", 1).await;
    seconds(1.0).await;
    subscriptions.lose(0);
    seconds(0.1).await;
    rig.list("a", 2).await;
    assert_eq!(rig.found(Tier::Catalogue), (0, 0, 2, 0), "what it said meanwhile, nobody heard");
    seconds(5.0).await;
    assert_eq!(subscriptions.open_ones(), [false, true], "and somebody listens again");
    subscriptions.lose(1);
    rig.answers(|_, _| Err(Failure::new(Kind::Unreachable, "it went away")));
    seconds(0.1).await;
    let stale = rig.list("a", 3).await;
    assert!(stale.contains(r#""ttlMs":0"#), "{stale}");
    assert_eq!(rig.found(Tier::Catalogue), (0, 1, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn who_accepts_no_subscription_is_left_in_peace() {
    let (rig, _) = listened_to(fleet());
    rig.answers(|call, _| {
        let Ask::Message(request) = &call.ask else { panic!("requests only") };
        if request.method() != method::LISTEN {
            return Ok(result(call, PUBLIC));
        }
        let id = request.id().unwrap_or_default();
        Ok(Reply::json(rpc::error(Some(id), rpc::METHOD_NOT_FOUND, "Method not found", None)))
    });
    for id in 0..50 {
        rig.list("a", id).await;
        seconds(1.0).await;
    }
    assert_eq!(rig.asked().len(), 2, "one list and one subscription");
    assert_eq!(rig.found(Tier::Catalogue), (49, 0, 1, 0), "its life alone decides");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_never_lasts_is_not_opened_for_ever() {
    let (rig, subscriptions) = listened_to(fleet());
    for id in 0..100 {
        rig.list("a", id).await;
        seconds(1.0).await;
        subscriptions.lose(subscriptions.wanted().len() - 1);
        seconds(1.0).await;
    }
    assert!((3..=4).contains(&subscriptions.wanted().len()), "{}", subscriptions.wanted().len());
}

#[tokio::test(start_paused = true)]
async fn listening_starts_no_process_and_keeps_none_that_should_end() {
    let process = |processes, idle_stop| model::EndpointKind::Stdio {
        command: vec!["server".into()],
        env: BTreeMap::new(),
        cwd: None,
        processes,
        idle_stop,
    };
    for (kind, is_listened_to) in [
        (process(model::Processes::Shared, None), true),
        (process(model::Processes::Shared, Some(Duration::from_secs(60))), false),
        (process(model::Processes::PerSession, None), false),
    ] {
        let mut fleet = fleet();
        fleet.upstreams[0].primary[0].kind = kind;
        let (rig, subscriptions) = listened_to(fleet);
        rig.list("a", 1).await;
        seconds(1.0).await;
        assert_eq!(subscriptions.wanted().len(), usize::from(is_listened_to));
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_listens_to_what_is_not_served_any_more() {
    let (rig, subscriptions) = listened_to(fleet());
    rig.list("a", 1).await;
    seconds(1.0).await;
    assert_eq!(subscriptions.open_ones(), [true]);
    rig.configure(&model::Fleet::default());
    seconds(1.0).await;
    assert_eq!(subscriptions.open_ones(), [false]);
}
