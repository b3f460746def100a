//! What a primary said is kept, and said again when it is away: to those who may have it, and to nobody else.

use super::*;
use crate::{
    plan::Backup,
    snapshot::{Snapshots, State},
    stores::Standing,
};
use o1_proto::model::Store;

const NOTHING: &str = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;

/// A rig whose upstream has a backup.
fn backed(backup: model::Backup, rules: CacheRules) -> Rig {
    with_snapshots(backup, rules, Arc::default())
}

fn with_snapshots(backup: model::Backup, rules: CacheRules, snapshots: Arc<Snapshots>) -> Rig {
    let one = model::Upstream { backup: Some(backup), ..upstream(rules) };
    let fleet = model::Fleet { upstreams: vec![one], ..model::Fleet::default() };
    let rig = Rig::with(fleet, snapshots);
    rig.takes(Duration::ZERO);
    rig.says(PRIVATE);
    rig
}

fn snapshot(rules: CacheRules) -> Rig {
    backed(model::Backup::Snapshot, rules)
}

fn endpoints(rules: CacheRules) -> Rig {
    let url = "http://127.0.0.1:2/mcp".parse().unwrap();
    let kind = model::EndpointKind::Http { url, transport: model::Transport::default() };
    backed(model::Backup::Endpoints(vec![model::Endpoint { kind, weight: 1 }]), rules)
}

impl Rig {
    fn moved(&self, store: Store) {
        self.stores.gate("u").set(Standing { active: store, reads: store, ..Standing::default() });
    }

    async fn refused(&self, call: Call) -> Failure {
        self.send(call).await.expect_err("nothing is there to answer with")
    }

    /// Nobody may ask the layer below from now on.
    fn forbid(&self) {
        self.answers(|call, _| panic!("the layer below was asked {call:?}"));
    }

    fn of_resource(&self, principal: &str, id: u64) -> Call {
        self.modern(principal, id, method::RESOURCES_READ, r#","uri":"f:/a""#)
    }
}

fn unreachable() -> Failure {
    Failure::new(Kind::Unreachable, "away")
}

#[tokio::test(start_paused = true)]
async fn what_the_primary_said_is_said_again_to_who_asked_and_to_nobody_else() {
    let rig = snapshot(CacheRules::default());
    let before = rig.ask(rig.of_resource("p", 1)).await;
    rig.forbid();
    rig.moved(Store::Backup);
    let reply = rig.send(rig.of_resource("p", 2)).await.unwrap();
    assert!(reply.stale.unwrap().elapsed().unwrap() < Duration::from_secs(60));
    let after = text(reply).await;
    assert_eq!(number(&after), number(&before));
    assert_eq!(ttl(&after), 0, "clients ask again: {after}");
    assert!(after.contains(r#""id":2,"#) && after.contains(r#""cacheScope":"private""#), "{after}");
    let refused = rig.refused(rig.of_resource("q", 3)).await;
    assert_eq!((refused.kind, refused.is_unsent()), (Kind::Unreachable, true));
    let words = refused.public();
    assert!(words.starts_with("`u` is served from its snapshot of 20"), "{words}");
    assert!(words.ends_with("Z, which does not have this"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn what_the_server_says_is_everybodys_is_given_to_everybody_until_it_says_otherwise() {
    let rig = snapshot(CacheRules::default());
    rig.says(PUBLIC);
    let at = number(&rig.list("p", 1).await);
    rig.moved(Store::Backup);
    assert_eq!(number(&rig.list("q", 2).await), at);
    rig.moved(Store::Primary);
    rig.says(PRIVATE);
    rig.list("p", 3).await;
    rig.moved(Store::Backup);
    assert!(number(&rig.list("p", 4).await) > at);
    let list = rig.modern("q", 5, method::TOOLS_LIST, "");
    assert_eq!(rig.refused(list).await.kind, Kind::Unreachable, "it is not everybody's any more");
}

#[tokio::test(start_paused = true)]
async fn what_the_operator_says_is_everybodys_is_given_to_everybody() {
    let rig = snapshot(CacheRules { share: model::Share::Everybody, ..CacheRules::default() });
    rig.list("p", 1).await;
    rig.moved(Store::Backup);
    rig.list("q", 2).await;
}

#[tokio::test(start_paused = true)]
async fn errors_and_what_the_operator_does_not_name_are_not_kept() {
    let tools = BTreeMap::from([
        ("kept".to_owned(), Life::For(Duration::from_secs(10))),
        ("never".to_owned(), Life::For(Duration::ZERO)),
    ]);
    let rig = snapshot(CacheRules { tools, ..CacheRules::default() });
    let call = |name: &str| rig.modern("p", 1, method::TOOLS_CALL, &format!(r#","name":"{name}""#));
    let prompt = || rig.modern("p", 1, method::PROMPTS_GET, r#","name":"x""#);
    for call in [call("kept"), call("never"), call("other"), prompt()] {
        rig.ask(call).await;
    }
    rig.says(r#""isError":true"#);
    rig.ask(rig.modern("p", 1, method::TOOLS_CALL, r#","name":"kept","arguments":{"a":1}"#)).await;
    rig.answers(|call, _| Ok(Reply::json(rpc::error(Some(id_of(call)), -32000, "no", None))));
    rig.list("p", 2).await;
    rig.says(r#""resultType":"input_required""#);
    rig.ask(rig.of_resource("p", 3)).await;
    rig.answers(|_, _| Err(unreachable()));
    rig.moved(Store::Backup);
    rig.ask(call("kept")).await;
    let failed = rig.modern("p", 1, method::TOOLS_CALL, r#","name":"kept","arguments":{"a":1}"#);
    let list = rig.modern("p", 2, method::TOOLS_LIST, "");
    for (call, own) in [
        (failed, true),
        (list, true),
        (rig.of_resource("p", 3), true),
        (prompt(), true),
        (call("never"), false),
        (call("other"), false),
    ] {
        let refused = rig.refused(call).await;
        assert_eq!(refused.public().contains("snapshot"), own, "writes are for the layer below");
    }
}

#[tokio::test(start_paused = true)]
async fn legacy_sessions_find_what_others_of_their_principal_and_revision_were_told() {
    let rig = snapshot(CacheRules::default());
    rig.answers(|call, at| Ok(result(call, &format!(r#""n":{at},"protocolVersion":"2025-11-25""#))));
    let (one, other, foreign) = (session(1, "p"), session(2, "p"), session(3, "q"));
    for (id, method) in [(1, method::INITIALIZE), (2, method::TOOLS_LIST)] {
        rig.ask(rig.legacy(&one, id, method, "")).await;
    }
    rig.ask(rig.legacy(&one, 3, method::RESOURCES_READ, r#""uri":"f:/a""#)).await;
    rig.forbid();
    rig.moved(Store::Backup);
    for (at, call) in [
        (0, rig.legacy(&other, 4, method::INITIALIZE, r#""capabilities":{"roots":{}}"#)),
        (1, rig.legacy(&other, 5, method::TOOLS_LIST, "")),
        (2, rig.legacy(&other, 6, method::RESOURCES_READ, r#""uri":"f:/a""#)),
    ] {
        let reply = rig.send(call).await.unwrap();
        assert!(reply.stale.is_some());
        assert_eq!(number(&text(reply).await), at);
    }
    for method in [method::INITIALIZE, method::TOOLS_LIST] {
        rig.refused(rig.legacy(&foreign, 7, method, "")).await;
    }
    let modern = rig.refused(rig.modern("p", 8, method::TOOLS_LIST, "")).await;
    assert_eq!(modern.kind, Kind::Unreachable, "another revision is another question");
}

#[tokio::test(start_paused = true)]
async fn a_session_of_a_server_without_sessions_finds_what_was_told_without_one() {
    let rig = snapshot(CacheRules::default());
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
    let mut call = rig.call(Caller::Legacy(None), "p", text);
    call.headers.insert("mcp-protocol-version", http::HeaderValue::from_static("2025-11-25"));
    rig.ask(call).await;
    rig.moved(Store::Backup);
    rig.ask(rig.legacy(&session(1, "p"), 2, method::TOOLS_LIST, "")).await;
    rig.refused(rig.call(Caller::Legacy(None), "p", text)).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_able_to_do_other_things_gets_the_answer_to_the_question_most_like_it() {
    let rig = snapshot(CacheRules::default());
    let list = |capabilities: &str, id: u64| {
        let meta = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities""#;
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{{"_meta":{{{meta}:{capabilities}}}}}}}"#
        );
        rig.call(Caller::Modern, "p", &text)
    };
    let one = number(&rig.ask(list(r#"{"roots":{}}"#, 1)).await);
    let two = number(&rig.ask(list("{}", 2)).await);
    rig.moved(Store::Backup);
    let told = async |capabilities| number(&rig.ask(list(capabilities, 3)).await);
    assert_eq!((told(r#"{"roots":{}}"#).await, told("{}").await), (one, two));
    assert_eq!(told(r#"{"sampling":{}}"#).await, two, "the one answered last, of those used since");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_node_serves_what_it_wrote_and_opens_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Arc::new(Snapshots::open(dir.path().to_owned()));
    let snapshots = open();
    {
        let rig = with_snapshots(model::Backup::Snapshot, CacheRules::default(), snapshots.clone());
        *rig.server.handshake.lock().unwrap() = Some(
            r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}}}}"#,
        );
        let call = rig.legacy(&session(1, "p"), 1, method::TOOLS_LIST, "");
        rig.cache.handshake(&call, rig.upstream()).await.unwrap();
        rig.ask(call).await;
        snapshots.save("u").await.unwrap().unwrap();
    }
    let rig = with_snapshots(model::Backup::Snapshot, CacheRules::default(), open());
    rig.forbid();
    rig.moved(Store::Backup);
    let call = rig.legacy(&session(9, "p"), 2, method::TOOLS_LIST, "");
    let handshake = rig.cache.handshake(&call, rig.upstream()).await.unwrap();
    assert!(String::from_utf8_lossy(handshake.bytes()).contains(r#""tools":{}"#));
    rig.ask(rig.legacy(&session(9, "p"), 3, method::INITIALIZE, "")).await;
    rig.ask(call).await;
    let unknown = rig.modern("p", 4, method::TOOLS_LIST, "");
    let refused = rig.cache.handshake(&unknown, rig.upstream()).await.unwrap_err();
    assert!(refused.public().ends_with("which does not have its handshake"), "{}", refused.public());
}

#[tokio::test(start_paused = true)]
async fn a_new_timeout_voids_nothing_and_another_server_everything() {
    let rig = snapshot(CacheRules::default());
    rig.ask(rig.of_resource("p", 1)).await;
    rig.moved(Store::Backup);
    let mut fleet = rig.fleet.clone();
    fleet.upstreams[0].timeouts.total = Duration::from_secs(7);
    rig.configure(&fleet);
    rig.ask(rig.of_resource("p", 2)).await;
    let model::EndpointKind::Http { url, .. } = &mut fleet.upstreams[0].primary[0].kind else { panic!() };
    *url = "http://127.0.0.1:9/mcp".parse().unwrap();
    rig.configure(&fleet);
    let refused = rig.refused(rig.of_resource("p", 3)).await;
    assert_eq!(refused.public(), "`u` is served from its snapshot, which is empty");
}

#[tokio::test(start_paused = true)]
async fn nothing_that_a_backup_says_is_kept() {
    let rig = endpoints(CacheRules::default());
    let primary = number(&rig.ask(rig.of_resource("p", 1)).await);
    rig.moved(Store::Backup);
    let backup = rig.ask(rig.of_resource("p", 2)).await;
    assert_ne!(number(&backup), primary);
    rig.list("p", 3).await;
    rig.answers(|_, _| Err(unreachable()));
    rig.moved(Store::Primary);
    rig.moved(Store::Backup);
    assert_eq!(number(&rig.ask(rig.of_resource("p", 4)).await), primary, "both are away");
    let refused = rig.refused(rig.modern("p", 5, method::TOOLS_LIST, "")).await;
    assert_eq!(refused.public(), "away", "only the backup was ever asked");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_while_calls_moved_is_nobodys() {
    let rig = Arc::new(snapshot(CacheRules::default()));
    rig.takes(Duration::from_secs(1));
    let call = rig.begin(rig.of_resource("p", 1));
    sleep(Duration::from_millis(500)).await;
    rig.moved(Store::Backup);
    call.end().await.unwrap();
    rig.refused(rig.of_resource("p", 2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_on_its_way_when_its_store_goes_is_answered_from_what_was_kept() {
    let rig = Arc::new(snapshot(CacheRules::default()));
    let read = |id| {
        let session = session(1, "p");
        (rig.of_resource("p", id), rig.legacy(&session, id, method::RESOURCES_READ, r#""uri":"f:/a""#))
    };
    let (modern, legacy) = read(1);
    rig.ask(modern).await;
    rig.ask(legacy).await;
    rig.configure(&rig.fleet.clone());
    rig.takes(Duration::from_secs(1));
    rig.answers(|_, _| Err(unreachable()));
    let (mut modern, legacy) = read(2);
    modern.fresh = true;
    let begun = [rig.begin(modern), rig.begin(legacy)];
    sleep(Duration::from_millis(500)).await;
    rig.moved(Store::Backup);
    for call in begun {
        assert!(call.end().await.unwrap().stale.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_fails_while_it_is_in_charge_is_not_covered_up() {
    let rig = snapshot(CacheRules::default());
    let session = session(1, "p");
    let read = |id| rig.legacy(&session, id, method::RESOURCES_READ, r#""uri":"f:/a""#);
    rig.ask(read(1)).await;
    rig.answers(|_, _| Err(unreachable()));
    assert_eq!(rig.refused(read(2)).await.public(), "away");
}

#[tokio::test(start_paused = true)]
async fn a_page_of_a_dead_backup_gives_way_to_what_was_kept_and_an_answer_does_not() {
    let rig = endpoints(CacheRules::default());
    let session = session(1, "p");
    let read = |id| rig.legacy(&session, id, method::RESOURCES_READ, r#""uri":"f:/a""#);
    rig.ask(read(1)).await;
    rig.ask(rig.of_resource("p", 1)).await;
    rig.moved(Store::Backup);
    let page = |status: u16| {
        move |_: &Call, _: usize| {
            let status = http::StatusCode::from_u16(status).unwrap();
            Ok(Reply { status, ..Reply::json(Bytes::from_static(b"<html>")) })
        }
    };
    for (status, stale) in [(503, true), (400, false)] {
        rig.answers(page(status));
        for call in [read(2), rig.of_resource("p", 2)] {
            assert_eq!(rig.send(call).await.unwrap().stale.is_some(), stale, "{status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_list_takes_the_place_of_the_one_before_only_once_it_came() {
    let rig = snapshot(CacheRules::default());
    let before = number(&rig.list("p", 1).await);
    rig.cache.invalidate(Some("u"), &crate::cache::scope::Subject::Everything);
    rig.moved(Store::Backup);
    assert_eq!(number(&rig.list("p", 2).await), before);
    rig.moved(Store::Primary);
    let after = number(&rig.list("p", 3).await);
    rig.moved(Store::Backup);
    assert!(after > before);
    assert_eq!(number(&rig.list("p", 4).await), after);
}

#[tokio::test(start_paused = true)]
async fn what_asks_nothing_of_a_server_is_answered_and_what_it_cannot_keep_is_refused() {
    let rig = snapshot(CacheRules::default());
    rig.forbid();
    rig.moved(Store::Backup);
    let session = session(1, "p");
    let legacy = |method: &str, params: &str| rig.legacy(&session, 7, method, params);
    assert_eq!(rig.ask(legacy(method::PING, "")).await, NOTHING);
    assert_eq!(rig.ask(legacy(method::SET_LEVEL, r#""level":"debug""#)).await, NOTHING);
    assert_eq!(session.log_level().as_deref(), Some("debug"), "the primary is told later");
    let told = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let told = rig.call(Caller::Legacy(Some(session.clone())), "p", told);
    assert_eq!(rig.send(told).await.unwrap().status, http::StatusCode::ACCEPTED);
    let subscribed = rig.refused(legacy(method::RESOURCES_SUBSCRIBE, r#""uri":"f:/a""#)).await;
    assert!(subscribed.public().contains("snapshot"), "{}", subscribed.public());
    assert_eq!(rig.refused(rig.modern("p", 7, method::PING, "")).await.kind, Kind::UnknownMethod);
}

#[tokio::test(start_paused = true)]
async fn writes_and_streams_are_left_to_the_layer_below() {
    let rig = snapshot(CacheRules::default());
    rig.moved(Store::Backup);
    let session = session(1, "p");
    let stream = Call { ask: Ask::Stream, ..rig.legacy(&session, 1, method::PING, "") };
    let end = Call { ask: Ask::End, ..stream.clone() };
    rig.answers(|_, _| Ok(Reply::accepted()));
    let write = rig.modern("p", 1, method::TOOLS_CALL, r#","name":"x""#);
    for call in [write, rig.modern("p", 2, method::LISTEN, ""), stream, end] {
        rig.send(call).await.unwrap();
    }
    assert_eq!(rig.asked().len(), 4);
    // While writes go to the primary, it may wait for what clients have to say.
    let told = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#;
    let reads = Standing { active: Store::Primary, reads: Store::Backup, ..Standing::default() };
    rig.stores.gate("u").set(reads);
    rig.send(rig.call(Caller::Legacy(Some(session)), "p", told)).await.unwrap();
    assert_eq!(rig.asked().len(), 5);
}

/// I13: what one store answered is not found once the other is in charge, in either direction.
#[tokio::test(start_paused = true)]
async fn nothing_in_memory_outlives_a_move_between_stores() {
    let rig = endpoints(CacheRules::default());
    rig.says(PUBLIC);
    let mut seen = Vec::new();
    for store in [Store::Primary, Store::Backup, Store::Primary, Store::Backup] {
        rig.moved(store);
        let first = number(&rig.list("p", 1).await);
        assert_eq!(number(&rig.list("p", 2).await), first, "within one it is found");
        seen.push(first);
    }
    seen.dedup();
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert_eq!(rig.asked().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_without_a_backup_leaves_no_trace() {
    let rig = Rig::new(CacheRules::default());
    rig.list("p", 1).await;
    assert!(rig.upstream().backup.is_none());
    assert_eq!(rig.snapshots.state("u"), State::Absent);
    assert!(matches!(snapshot(CacheRules::default()).upstream().backup, Some(Backup::Snapshot)));
}

/// A gateway that streams an answer keeps it all the same, and holds nothing of it back.
#[tokio::test(start_paused = true)]
async fn answers_of_every_form_are_heard_as_they_pass() {
    use futures_util::{StreamExt as _, stream};
    use http_body::Frame;
    use http_body_util::{BodyExt as _, StreamBody};
    let answer = |call: &Call| rpc::result(id_of(call), br#"{"n":1}"#);
    let body = |pieces: Vec<Bytes>| {
        let pieces = pieces.into_iter().map(|piece| Ok::<_, crate::call::BoxError>(Frame::data(piece)));
        Body::Bytes(StreamBody::new(stream::iter(pieces)).boxed_unsync())
    };
    for form in ["json", "events", "messages"] {
        let rig = snapshot(CacheRules::default());
        let session = session(1, "p");
        rig.answers(move |call, _| {
            let whole = answer(call);
            Ok(match form {
                "json" => Reply {
                    body: body(vec![whole.slice(..9), whole.slice(9..)]),
                    ..Reply::json(Bytes::new())
                },
                "events" => {
                    let event = [b"event: message\ndata: ", &whole[..], b"\n\n"].concat();
                    let mut reply = Reply::json(Bytes::new());
                    reply.headers.insert("content-type", http::HeaderValue::from_static("text/event-stream"));
                    let (head, tail) = event.split_at(30);
                    Reply { body: body(vec![head.to_vec().into(), tail.to_vec().into()]), ..reply }
                }
                _ => Reply::messages(stream::iter([Ok(Message::parse(&whole).unwrap())]).boxed()),
            })
        });
        let read = |id| rig.legacy(&session, id, method::RESOURCES_READ, r#""uri":"f:/a""#);
        assert_eq!(number(&rig.ask(read(1)).await), 1);
        rig.moved(Store::Backup);
        assert_eq!(number(&rig.ask(read(2)).await), 1, "{form}");
    }
}
