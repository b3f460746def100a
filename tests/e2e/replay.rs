//! GET streams that go on where they stopped.

use crate::config;
use o1_tests::{
    Backend, Gateway, Legacy, Pair,
    http::{Event, Stream},
    wait::in_time,
};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn note(n: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/test","params":{{"n":{n}}}}}"#)
}

/// The next notifications of a test, as numbers with their ids. 0 is only said to find out who listens.
async fn take(stream: &mut Stream, count: usize) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    in_time("notifications", SOON, async {
        while all.len() < count {
            let Event { id, data } = stream.event().await.expect("the stream goes on");
            let message: serde_json::Value = serde_json::from_str(&data).unwrap_or_default();
            if message["method"] == "notifications/test" && message["params"]["n"] != 0 {
                all.push((message["params"]["n"].as_u64().unwrap(), id));
            }
        }
    })
    .await;
    all
}

fn numbers(events: &[(u64, String)]) -> Vec<u64> {
    events.iter().map(|(n, _)| *n).collect()
}

/// Opens the client's stream and returns once it hears what the upstream says: an upstream is listened to for a
/// client that has used it.
async fn listening(client: &Legacy, backend: &Backend, tool: &str, last: Option<&str>) -> Stream {
    assert_eq!(client.call(tool, "{}").await.status, 200);
    let mut stream = again(client, last).await;
    assert_eq!(stream.status, 200);
    in_time("the first notification", SOON, async {
        loop {
            backend.notify(&note(0));
            let heard = tokio::time::timeout(Duration::from_millis(100), stream.event()).await;
            if heard.is_ok_and(|event| event.expect("the stream goes on").data.contains("notifications/test"))
            {
                return;
            }
        }
    })
    .await;
    stream
}

/// Opens the stream as soon as the gateway has noticed that the one before is closed.
async fn again(client: &Legacy, last: Option<&str>) -> Stream {
    o1_tests::until("the stream to be free", SOON, || async {
        let stream = match last {
            Some(last) => client.listen_after(last).await,
            None => client.try_listen().await,
        };
        (stream.status != 409).then_some(stream)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_lost_its_stream_goes_on_after_the_last_event_it_has() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;
    let client = Legacy::open(gateway.address(), "/mcp").await;
    let mut stream = listening(&client, &backend, "only__echo", None).await;
    for n in 1..=3 {
        backend.notify(&note(n));
    }
    let first = take(&mut stream, 3).await;
    assert_eq!(numbers(&first), [1, 2, 3]);
    let ids: Vec<_> = first.iter().map(|(_, id)| id.clone()).collect();
    assert!(ids.iter().all(|id| !id.is_empty()) && ids[0] != ids[1], "{ids:?}");
    drop(stream);
    // While nobody listens. The gateway still does.
    for n in 4..=5 {
        backend.notify(&note(n));
    }
    let mut stream = again(&client, Some(&ids[0])).await;
    backend.notify(&note(6));
    let rest = take(&mut stream, 5).await;
    assert_eq!(numbers(&rest), [2, 3, 4, 5, 6], "what it missed, in order, once, and then what is new");
    assert_eq!(rest[0].1, ids[1], "an event keeps its id");
    assert_eq!(client.try_listen().await.status, 409, "one stream at a time");
    drop(stream);

    // Without an id, or with one that is none of ours: what no stream has carried.
    backend.notify(&note(7));
    let mut stream = again(&client, None).await;
    assert_eq!(numbers(&take(&mut stream, 1).await), [7]);
    drop(stream);
    let mut stream = again(&client, Some("somebody-elses-7")).await;
    backend.notify(&note(8));
    assert_eq!(numbers(&take(&mut stream, 1).await), [8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_does_not_take_the_ids_of_this_one_for_its_own() {
    let backend = Backend::start().await;
    let mut pair = Pair::start(&config([backend.upstream("only")]), &[]).await;
    let here = Legacy::open(pair.a.listen, "/mcp").await;
    let mut stream = listening(&here, &backend, "only__echo", None).await;
    for n in 1..=2 {
        backend.notify(&note(n));
    }
    let first = take(&mut stream, 2).await;
    pair.a.process.kill();
    let there = here.at(pair.b.listen);
    let mut stream = listening(&there, &backend, "only__echo", Some(&first[0].1)).await;
    backend.notify(&note(3));
    assert_eq!(numbers(&take(&mut stream, 1).await), [3], "what only the dead node knew is gone");
}

// agentgateway#2373: answers to POST come once more on the GET stream. #2644: events without `event: message`.
#[tokio::test(flavor = "multi_thread")]
async fn answers_never_appear_on_the_get_stream_and_every_event_is_called_message() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&config([backend.upstream("only")])).await;
    for (route, tool) in [("/mcp", "only__echo"), ("/u/only/mcp", "echo")] {
        for by_sse in [false, true] {
            if by_sse {
                backend.answer_by_sse();
            }
            let client = Legacy::open(gateway.address(), route).await;
            let mut stream = listening(&client, &backend, tool, None).await;
            for n in 0..5 {
                assert_eq!(client.call(tool, &format!(r#"{{"n":{n}}}"#)).await.status, 200, "{route}");
            }
            let mut seen = Vec::new();
            in_time("the notification after the calls", SOON, async {
                backend.notify(&note(1));
                while !seen.iter().any(|data: &String| data.contains(r#""n":1}"#)) {
                    seen.push(stream.event().await.expect("the stream goes on").data);
                }
            })
            .await;
            assert!(seen.iter().all(|data| !data.contains("\"result\"")), "{route}: {seen:?}");
            drop(stream);
        }
    }
    // The bytes of one event.
    let client = Legacy::open(gateway.address(), "/mcp").await;
    drop(listening(&client, &backend, "only__echo", None).await);
    let head: String = client
        .headers()
        .into_iter()
        .filter(|(name, _)| *name != "accept")
        .fold("accept: text/event-stream\r\n".into(), |head, (name, value)| {
            format!("{head}{name}: {value}\r\n")
        });
    let request = format!("GET /mcp HTTP/1.1\r\nhost: {}\r\n{head}\r\n", gateway.address());
    let raw = o1_tests::until("the stream to be free", SOON, || async {
        let (raw, ()) = tokio::join!(
            o1_tests::http::raw(gateway.address(), request.as_bytes(), Duration::from_secs(1)),
            async {
                for _ in 0..10 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    backend.notify(&note(1));
                }
            }
        );
        raw.contains("200 OK").then_some(raw)
    })
    .await;
    assert!(
        raw.contains("\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/test\""),
        "{raw}"
    );
}
