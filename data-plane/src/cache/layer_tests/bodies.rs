//! Replies as they come: whole, in pieces, as events, and as what is no answer at all.

use super::*;
use crate::call::{BoxError, EVENT_STREAM, JSON};
use futures_util::{StreamExt as _, future::join_all, stream};
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

fn streamed(status: u16, content_type: HeaderValue, pieces: Vec<String>) -> Reply {
    let frames = pieces.into_iter().map(|piece| Ok::<_, BoxError>(Frame::data(Bytes::from(piece))));
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
    let body = Body::Bytes(StreamBody::new(stream::iter(frames)).boxed_unsync());
    Reply { status: StatusCode::from_u16(status).unwrap(), headers, body, stale: None }
}

fn event(text: &str) -> String {
    format!("event: message\ndata: {text}\n\n")
}

fn answer(call: &Call, members: &str) -> String {
    String::from_utf8(rpc::result(id_of(call), format!("{{{members}}}").as_bytes()).to_vec()).unwrap()
}

/// The bytes of a reply, however they come.
async fn bytes(reply: Reply) -> String {
    let bytes = match reply.body {
        Body::Bytes(body) => body.collect().await.unwrap().to_bytes(),
        Body::Full(bytes) => bytes,
        Body::Messages(messages) => {
            let texts = messages.map(|message| message.unwrap().bytes().to_vec());
            texts.collect::<Vec<_>>().await.concat().into()
        }
        other => panic!("{other:?}"),
    };
    String::from_utf8(bytes.to_vec()).unwrap()
}

const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;

#[tokio::test(start_paused = true)]
async fn an_answer_in_pieces_or_events_is_kept_like_any_other() {
    for events in [false, true] {
        let rig = Arc::new(Rig::new(CacheRules::default()));
        rig.answers(move |call, _| {
            let answer = answer(call, PUBLIC);
            Ok(if events {
                streamed(200, EVENT_STREAM, vec![event(NOTE), event(&answer)])
            } else {
                let (first, second) = answer.split_at(20);
                streamed(200, JSON, vec![first.to_owned(), second.to_owned()])
            })
        });
        for id in [1, 2] {
            let reply = rig.send(rig.modern("p", id, method::TOOLS_LIST, "")).await.unwrap();
            assert_eq!(reply.headers[header::CONTENT_TYPE], JSON);
            let expected = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{PUBLIC}}}}}"#);
            let expected = if id == 1 { expected } else { expected.replace("60000", "59000") };
            sleep(Duration::from_secs(1)).await;
            assert_eq!(bytes(reply).await, expected, "events: {events}");
        }
        assert_eq!(rig.asked().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_kept_reaches_who_asked_as_the_events_it_came_in() {
    let rig = Arc::new(Rig::new(CacheRules::default()));
    let stream = |call: &Call| [": hello\n\n".to_owned(), event(NOTE), event(&answer(call, NEVER))];
    rig.answers(move |call, _| Ok(streamed(200, EVENT_STREAM, stream(call).to_vec())));
    let call = rig.modern("p", 1, method::TOOLS_LIST, "");
    let expected = stream(&call).concat();
    let other = rig.begin(rig.modern("p", 2, method::TOOLS_LIST, ""));
    let (first, other) = tokio::join!(rig.send(call), other.end());
    let (first, other) = (first.unwrap(), other.unwrap());
    assert!(first.is_event_stream() && !other.is_event_stream());
    assert_eq!(bytes(first).await, expected);
    assert_eq!(bytes(other).await, format!(r#"{{"jsonrpc":"2.0","id":2,"result":{{{NEVER}}}}}"#));
    assert_eq!(rig.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_larger_than_what_is_kept_goes_to_who_asked_and_the_others_ask() {
    let mut fleet =
        model::Fleet { upstreams: vec![upstream(CacheRules::default())], ..model::Fleet::default() };
    fleet.caching.catalogue.bytes = 8 * 200;
    for shape in ["json", "events", "messages"] {
        let rig = Arc::new(Rig::of(fleet.clone()));
        let pieces = |call: &Call| {
            let large = answer(call, &format!(r#""x":"{}",{PUBLIC}"#, "x".repeat(500)));
            large
                .as_bytes()
                .chunks(100)
                .map(|piece| String::from_utf8_lossy(piece).into_owned())
                .collect::<Vec<_>>()
        };
        rig.answers(move |call, _| {
            let pieces = pieces(call);
            Ok(match shape {
                "json" => streamed(200, JSON, pieces),
                "events" => streamed(200, EVENT_STREAM, vec![event(&pieces.concat())]),
                _ => Reply::messages(Box::pin(stream::iter([Ok(message(&pieces.concat()))]))),
            })
        });
        let calls: Vec<_> = (0..4).map(|id| rig.modern("p", id, method::TOOLS_LIST, "")).collect();
        let expected: Vec<_> = calls.iter().map(|call| pieces(call).concat()).collect();
        for (reply, expected) in
            join_all(calls.into_iter().map(|call| rig.send(call))).await.into_iter().zip(expected)
        {
            let got = bytes(reply.unwrap()).await;
            assert!(got.contains(&expected), "{shape}: {expected} in {got}");
        }
        assert_eq!(rig.asked().len(), 4, "{shape}");
        let counts = rig.counts(Tier::Catalogue);
        assert_eq!((counts.misses, counts.coalesced, counts.stored), (4, 0, 0), "{shape}");
        assert_eq!(counts.skipped[crate::metrics::Skip::TooLarge as usize], 1, "{shape}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_of_a_legacy_server_reaches_its_client_with_all_that_came_before() {
    let rules = CacheRules { tools: rules("*"), ..CacheRules::default() };
    let asks = r#"{"jsonrpc":"2.0","id":7,"method":"roots/list"}"#;
    for pass in [true, false] {
        let rig = Arc::new(Rig::new(rules.clone()));
        rig.answers(move |call, _| {
            let texts = [NOTE.to_owned(), asks.to_owned(), answer(call, r#""content":[]"#)];
            Ok(if pass {
                streamed(200, EVENT_STREAM, texts.iter().map(|text| event(text)).collect())
            } else {
                Reply::messages(Box::pin(stream::iter(texts.map(|text| Ok(message(&text))))))
            })
        });
        let (one, other) = (session(1, "p"), session(2, "p"));
        let call = |session, id| rig.legacy(session, id, method::TOOLS_CALL, r#""name":"t""#);
        let (first, second) = tokio::join!(rig.send(call(&one, 1)), rig.send(call(&other, 2)));
        for reply in [first, second] {
            let got = bytes(reply.unwrap()).await;
            assert!(got.contains(NOTE) && got.contains(asks) && got.contains("content"), "{got}");
        }
        assert_eq!((rig.asked().len(), rig.counts(Tier::Tools).stored), (2, 0), "bytes: {pass}");
    }
}

#[tokio::test(start_paused = true)]
async fn http_errors_are_the_upstreams_own_and_shared() {
    for (status, body) in [
        (503, "<html>later</html>"),
        (404, ""),
        (400, r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"x"}}"#),
    ] {
        let rig = Arc::new(Rig::new(CacheRules::default()));
        rig.answers(move |_, _| {
            Ok(streamed(status, HeaderValue::from_static("text/html"), vec![body.to_owned()]))
        });
        let calls = (0..5).map(|id| rig.send(rig.modern("p", id, method::TOOLS_LIST, "")));
        for reply in join_all(calls).await {
            let reply = reply.unwrap();
            assert_eq!(reply.status.as_u16(), status);
            assert_eq!(reply.headers[header::CONTENT_TYPE], "text/html");
            assert_eq!(bytes(reply).await, body);
        }
        assert_eq!((rig.asked().len(), rig.counts(Tier::Catalogue).stored), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_with_a_status_keeps_both() {
    let rig = Arc::new(Rig::new(CacheRules::default()));
    rig.answers(|call, _| {
        let error = rpc::error(Some(id_of(call)), -32601, "Method not found", None);
        Ok(streamed(404, JSON, vec![String::from_utf8(error.to_vec()).unwrap()]))
    });
    let calls = (0..5).map(|id| rig.send(rig.modern("p", id, method::TOOLS_LIST, "")));
    for (id, reply) in join_all(calls).await.into_iter().enumerate() {
        let reply = reply.unwrap();
        assert_eq!(reply.status.as_u16(), 404);
        assert!(bytes(reply).await.contains(&format!(r#""id":{id},"error""#)));
    }
    assert_eq!(rig.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_is_nobody_elses() {
    for body in ["{{nope", "", r#"{"jsonrpc":"2.0","id":"other","result":{}}"#] {
        let rig = Arc::new(Rig::new(CacheRules::default()));
        rig.answers(move |_, _| Ok(streamed(200, JSON, vec![body.to_owned()])));
        for reply in join_all((0..3).map(|id| rig.send(rig.modern("p", id, method::TOOLS_LIST, "")))).await {
            assert_eq!(bytes(reply.unwrap()).await, body, "as it came");
        }
        assert_eq!((rig.asked().len(), rig.counts(Tier::Catalogue).stored), (3, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_is_a_failure_unless_it_can_be_taken_up_again() {
    for resumable in [false, true] {
        let rules = CacheRules { lists: Some(Life::Tier), ..CacheRules::default() };
        let rig = Arc::new(Rig::new(rules));
        rig.answers(move |_, _| {
            let first = if resumable { "id: 7\ndata: \n\n".to_owned() } else { event(NOTE) };
            let frames = [Ok(Frame::data(Bytes::from(first))), Err::<_, BoxError>("broken".into())];
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, EVENT_STREAM)]);
            let body = Body::Bytes(StreamBody::new(stream::iter(frames)).boxed_unsync());
            Ok(Reply { status: StatusCode::OK, headers, body, stale: None })
        });
        let reply = rig.send(rig.legacy(&session(1, "p"), 1, method::TOOLS_LIST, "")).await;
        if resumable {
            let Body::Bytes(mut body) = reply.unwrap().body else { panic!("its bytes") };
            let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(first.starts_with(b"id: 7"));
            assert!(body.frame().await.unwrap().is_err());
        } else {
            assert_eq!(reply.unwrap_err().kind, Kind::Unreachable);
        }
    }
}
