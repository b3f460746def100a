//! What is kept in memory and has changed: whoever says so, on whatever stream, nobody gets it any more. Purges, and
//! the end of whoever listened, too.

use crate::config;
use o1_tests::{Answer, Backend, Gateway, Legacy, Modern, backend::Era, http::Stream, until, until_true};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(8);
const ROUTE: &str = "/u/raw/mcp";

const TOOLS_CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

fn updated(uri: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"{uri}"}}}}"#)
}

/// The result of a list of tools that keeps for ten minutes.
fn kept_list(tool: &str) -> Answer {
    let item = format!(r#"{{"name":"{tool}","inputSchema":{{"type":"object"}}}}"#);
    Answer::Result(format!(
        r#"{{"tools":[{item}],"resultType":"complete","ttlMs":600000,"cacheScope":"public"}}"#
    ))
}

/// The same of a resource.
fn kept_text(text: &str) -> Answer {
    let contents = format!(r#"[{{"uri":"test://x","text":"{text}"}}]"#);
    Answer::Result(format!(
        r#"{{"contents":{contents},"resultType":"complete","ttlMs":600000,"cacheScope":"public"}}"#
    ))
}

/// An upstream `raw` whose answers keep. Without `announces` it says that it never tells what changes, so that
/// nobody but its clients listens to it.
async fn world(era: Era, announces: bool, rules: &str) -> (Gateway, Backend) {
    let backend = Backend::with(era).await;
    if !announces {
        let quiet = r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"resources":{}},"resultType":"complete","ttlMs":0,"cacheScope":"private"}"#;
        backend.answer("server/discover", Answer::Result(quiet.to_owned()));
    }
    backend.answer("tools/list", kept_list("one"));
    backend.answer("resources/read", kept_text("first"));
    let gateway = Gateway::start(&config([format!("{}{rules}", backend.upstream("raw"))])).await;
    (gateway, backend)
}

async fn read(client: &Modern, uri: &str) -> String {
    let reply = client.request("resources/read", &format!(r#"{{"uri":"{uri}"}}"#)).await;
    reply.result()["contents"][0]["text"].as_str().unwrap_or_default().to_owned()
}

/// Opens a subscription and waits until it is accepted.
async fn subscribed(client: &Modern, notifications: &str) -> Stream {
    let params = format!(r#"{{"notifications":{notifications}}}"#);
    let mut stream = client.stream("subscriptions/listen", &params).await;
    stream.notification("notifications/subscriptions/acknowledged", SOON).await;
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hears_that_a_list_changed_gets_the_new_one_on_whatever_stream_it_came() {
    let (gateway, backend) = world(Era::Both, false, "").await;
    let asked = || backend.received_of("tools/list").len();
    let client = Modern::new(gateway.address(), ROUTE);
    let legacy = Legacy::open(gateway.address(), ROUTE).await;
    let step = (Duration::ZERO, TOOLS_CHANGED.to_owned());
    backend.tool("noisy", Answer::Stream(vec![step], Box::new(Answer::text("done"))));
    let streams = async |count| {
        until_true("its streams alone at the upstream", SOON, || async { backend.streams() == count }).await;
    };
    for kind in ["a subscription", "a GET stream", "beside an answer", "beside an answer to a session"] {
        client.tools().await;
        let before = asked();
        assert_eq!(client.tools().await, ["one"]);
        assert_eq!(asked(), before, "{kind}: it is kept");
        match kind {
            "a subscription" => {
                let mut listen = subscribed(&client, r#"{"toolsListChanged":true}"#).await;
                streams(1).await;
                backend.notify(TOOLS_CHANGED);
                listen.notification("notifications/tools/list_changed", SOON).await;
            }
            "a GET stream" => {
                streams(0).await;
                let mut get = legacy.listen().await;
                streams(1).await;
                backend.notify(TOOLS_CHANGED);
                get.notification("notifications/tools/list_changed", SOON).await;
            }
            "beside an answer" => drop(client.call("noisy", "{}").await.result()),
            _ => drop(legacy.call("noisy", "{}").await.result()),
        }
        client.tools().await;
        assert_eq!(asked(), before + 1, "{kind}: it was told that the list changed");
    }
    let quiet = backend.received_of("subscriptions/listen").len();
    assert_eq!(quiet, 1, "an upstream that announces no changes is listened to by its clients alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_updated_resource_is_read_again_and_no_other_in_both_eras_of_servers() {
    for (era, rules) in [(Era::Modern, ""), (Era::Legacy, "    cache: {resources: {\"test://*\": 10m}}\n")] {
        let (gateway, backend) = world(era, true, rules).await;
        let client = Modern::new(gateway.address(), ROUTE);
        for uri in ["test://x", "test://x/part", "test://y"].repeat(3) {
            assert_eq!(read(&client, uri).await, "first", "{era:?}");
        }
        let reads = |uri: &str| {
            let asked = backend.received_of("resources/read");
            asked.iter().filter(|one| one.body.contains(&format!("\"{uri}\""))).count()
        };
        assert_eq!((reads("test://x"), reads("test://x/part"), reads("test://y")), (1, 1, 1), "{era:?}");
        let heard_about = |uri: &str| {
            let methods = ["subscriptions/listen", "resources/subscribe"];
            let asked = methods.into_iter().flat_map(|method| backend.received_of(method));
            asked.filter(|one| one.body.contains(&format!("\"{uri}\""))).count()
        };
        // Nobody but the gateway's cache listens.
        until_true("somebody to listen to all that is kept", SOON, || async {
            ["test://x", "test://x/part", "test://y"].iter().all(|uri| heard_about(uri) > 0)
        })
        .await;
        backend.answer("resources/read", kept_text("second"));
        until("the update to arrive", SOON, || async {
            backend.notify(&updated("test://x"));
            (read(&client, "test://x").await == "second").then_some(())
        })
        .await;
        assert_eq!(read(&client, "test://y").await, "first", "{era:?}");
        assert_eq!(read(&client, "test://x/part").await, "first", "{era:?}");
        assert_eq!((reads("test://x/part"), reads("test://y")), (1, 1), "{era:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_an_update_overtook_is_for_those_who_waited_and_for_nobody_after_it() {
    let (gateway, backend) = world(Era::Modern, false, "").await;
    let slow = Answer::Later(Duration::from_secs(1), Box::new(kept_text("before")));
    backend.answer("resources/read", Answer::InTurn(vec![slow, kept_text("after")]));
    let (first, other) = (Modern::new(gateway.address(), ROUTE), Modern::new(gateway.address(), ROUTE));
    let mut listen = subscribed(&other, r#"{"resourceSubscriptions":["test://x"]}"#).await;
    let slow = read(&first, "test://x");
    let meanwhile = async {
        until_true("the read to be on its way", SOON, || async {
            backend.received_of("resources/read").len() == 1
        })
        .await;
        backend.notify(&updated("test://x"));
        listen.notification("notifications/resources/updated", SOON).await;
        // Nobody who was told may wait for what was asked for before.
        assert_eq!(read(&other, "test://x").await, "after");
    };
    let (slow, ()) = tokio::join!(slow, meanwhile);
    assert_eq!(slow, "before", "who asked before the update gets what there was");
    for _ in 0..3 {
        assert_eq!(read(&first, "test://x").await, "after");
    }
    assert_eq!(
        backend.received_of("resources/read").len(),
        2,
        "the later answer is kept, the overtaken is not"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_could_hear_of_is_asked_for_again_and_serves_while_the_upstream_is_away() {
    let (gateway, mut backend) = world(Era::Modern, true, "").await;
    let client = Modern::new(gateway.address(), ROUTE);
    client.tools().await;
    client.tools().await;
    assert_eq!(backend.received_of("tools/list").len(), 1);
    until_true("the cache to listen", SOON, || async { backend.streams() == 1 }).await;
    backend.stop().await;
    until_true("the lost listener to be noticed", SOON, || async {
        let reply = client.request("tools/list", "{}").await;
        // The list of tools has a window for a server that fails.
        assert_eq!(reply.result()["tools"][0]["name"], "one", "{}", reply.text());
        reply.result()["ttlMs"] == 0
    })
    .await;
    backend.answer("tools/list", kept_list("two"));
    backend.resume().await;
    until_true("the upstream to be asked again", SOON, || async { client.tools().await == ["two"] }).await;
    let asked = backend.received_of("tools/list").len();
    assert_eq!(client.tools().await, ["two"]);
    assert_eq!(backend.received_of("tools/list").len(), asked, "and kept again");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_of_an_upstream_begins_with_an_empty_memory() {
    let (gateway, backend) = world(Era::Modern, false, "").await;
    let client = Modern::new(gateway.address(), ROUTE);
    client.tools().await;
    client.tools().await;
    assert_eq!(backend.received_of("tools/list").len(), 1);
    let with_header = format!("{}    headers: {{x-tenant: other}}\n", backend.upstream("raw"));
    gateway.control.edit(&config([with_header]));
    until_true("the list to be asked for with the new header", SOON, || async {
        client.tools().await;
        backend.last("tools/list").header("x-tenant") == "other"
    })
    .await;
    client.tools().await;
    assert_eq!(backend.received_of("tools/list").len(), 2, "once for each configuration");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_empties_memory_and_fetches_merged_lists_again() {
    let (gateway, backend) = world(Era::Modern, false, "").await;
    let (one, all) = (Modern::new(gateway.address(), ROUTE), Modern::new(gateway.address(), "/mcp"));
    assert_eq!(all.tools().await, ["raw__one"]);
    assert_eq!(one.tools().await, ["one"]);
    read(&one, "test://x").await;
    let counts = || (backend.received_of("tools/list").len(), backend.received_of("resources/read").len());
    let before = counts();
    one.tools().await;
    read(&one, "test://x").await;
    assert_eq!(counts(), before, "kept");
    backend.answer("tools/list", kept_list("two"));
    assert_eq!(all.tools().await, ["raw__one"], "nobody said that it changed");

    let purged = gateway.control.o1ctl(&["cache", "purge", "--tier", "resources"]).await;
    read(&one, "test://x").await;
    assert_eq!(counts(), (before.0, before.1 + 1), "{purged}");
    gateway.control.o1ctl(&["cache", "purge", "--upstream", "raw"]).await;
    assert_eq!(all.tools().await, ["raw__two"], "merged lists are memory, too");
    assert_eq!(one.tools().await, ["two"]);
    read(&one, "test://x").await;
    assert_eq!(counts().1, before.1 + 2);
}
