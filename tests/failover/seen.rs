//! What clients and operators see: metadata, notices, lists, a resource, statistics, and one session through it all.

use crate::load::Load;
use o1_tests::{
    http::Stream,
    mcp::{Legacy, Modern},
    site::{PATIENCE, POLICY, Site},
    wait::in_time,
};
use serde_json::Value;
use std::time::Duration;

fn meta(result: &Value) -> Value {
    result["_meta"]["dev.only1/failover"].clone()
}

fn who(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_session_goes_on_through_a_failover_and_back_and_hears_of_both() {
    let mut site = Site::start(POLICY).await;
    for path in ["/mcp", "/u/x/mcp"] {
        let prefix = if path == "/mcp" { "x__" } else { "" };
        let client = Legacy::open(site.gateway.address(), path).await;
        // The test store has no GET stream: what comes by this one is the gateway's own.
        let mut heard = client.listen().await;
        let before = client.call(&format!("{prefix}who"), "{}").await.result();
        assert_eq!((who(&before), meta(&before)), ("primary", Value::Null));
        assert!(client.tools().await.contains(&format!("{prefix}only_primary")));
        site.primary.kill();
        site.until_on("backup").await;
        let during = client.call(&format!("{prefix}who"), "{}").await.result();
        assert_eq!(who(&during), "backup", "{during}");
        let said = meta(&during);
        assert_eq!(
            (&said["upstream"], &said["backupMode"], &said["activeStore"]),
            (&"x".into(), &true.into(), &"backup".into()),
            "{said}"
        );
        // In whichever order; on the route of one upstream nobody compares its lists.
        let (mut warned, mut changed) = (None, path != "/mcp");
        while warned.is_none() || !changed {
            let next = heard.message("a warning and other tools", PATIENCE, |_| true).await;
            changed |= next["method"] == "notifications/tools/list_changed";
            warned = warned.or(Some(next).filter(|next| next["params"]["logger"] == "only1"));
        }
        let warned = warned.expect("it came");
        assert_eq!(warned["params"]["level"], "warning", "{warned}");
        assert!(client.tools().await.contains(&format!("{prefix}only_backup")));
        let write =
            client.call(&format!("{prefix}put"), &format!(r#"{{"id":"during {path}"}}"#)).await.result();
        assert_eq!(meta(&write)["journaled"], true, "{write}");
        site.primary.restart().await;
        site.until_on("primary").await;
        let told = heard
            .message("word of the restoration", PATIENCE, |message| {
                message["params"]["logger"] == "only1"
                    && message["params"]["level"] == "info"
                    && message["params"]["data"]["entriesSyncedBack"].as_u64() > Some(0)
            })
            .await;
        assert_eq!(told["params"]["data"]["upstream"], "x", "{told}");
        let after = client.call(&format!("{prefix}who"), "{}").await.result();
        assert_eq!((who(&after), meta(&after)), ("primary", Value::Null));
        assert_eq!(site.primary.written()[&format!("during {path}")], 1);
    }
}

/// The next event of a stream in which this logger says something.
async fn said(stream: &mut Stream, logger: &str) -> (String, Value) {
    in_time(logger, PATIENCE, async {
        loop {
            let event = stream.event().await.expect("the stream goes on");
            let Ok(message) = serde_json::from_str::<Value>(&event.data) else { continue };
            if message["params"]["logger"] == logger {
                return (event.id, message["params"]["data"].clone());
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_one_upstream_lasts_and_each_events_id_goes_to_who_made_it() {
    let mut site = Site::start(POLICY).await;
    site.primary.behave("streams");
    site.backup.behave("streams");
    let client = Legacy::open(site.gateway.address(), "/u/x/mcp").await;
    let mut stream = client.listen().await;
    let (id, first) = said(&mut stream, "primary").await;
    assert!(id.starts_with("o1-"), "{id}");
    assert_eq!((&first["number"], &first["after"]), (&1.into(), &Value::Null));
    // The server ended its stream: it is asked again, also where it says in between that it cannot.
    said(&mut stream, "primary").await;
    site.primary.behave("no streams");
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.primary.behave("streams");
    said(&mut stream, "primary").await;
    // A stream of the server's own, taken up by its id, beside the one that lasts.
    let mut theirs = client.listen_after("up-1").await;
    let (id, data) = said(&mut theirs, "primary").await;
    assert!(id.starts_with("up-"), "{id}");
    assert_eq!(data["after"], "up-1");

    site.primary.kill();
    site.until_on("backup").await;
    assert_eq!(said(&mut stream, "only1").await.1["event"], "failover");
    let (last, data) = said(&mut stream, "backup").await;
    assert_eq!(data["after"], Value::Null);
    // The node begins anew: our id is no business of the server's.
    drop(stream);
    site.gateway.data.restart().await;
    site.until_on("backup").await;
    let mut stream = client.listen_after(&last).await;
    assert_eq!(stream.status, 200);
    let (id, data) = said(&mut stream, "backup").await;
    assert!(id.starts_with("o1-"), "{id}");
    assert_eq!(data["after"], Value::Null);
    site.primary.behave("");
    site.primary.restart().await;
    assert_eq!(said(&mut stream, "only1").await.1["event"], "restoration");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_resource_tells_where_an_upstream_stands() {
    let mut site = Site::start(POLICY).await;
    let client = Modern::new(site.gateway.address(), "/mcp");
    let read = async |client: &Modern| {
        let result = client.request("resources/read", r#"{"uri":"o1://status/x"}"#).await.result();
        let text = result["contents"][0]["text"].as_str().expect("a text").to_owned();
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    assert_eq!(read(&client).await["activeStore"], "primary");
    site.primary.kill();
    site.until_on("backup").await;
    assert_eq!(read(&client).await["activeStore"], "backup");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_nobody_may_keep_are_refused_by_name() {
    let mut site =
        Site::start(&POLICY.replace("writes: journal, journal_tools: [put],", "writes: reject,")).await;
    let client = Modern::new(site.gateway.address(), "/u/x/mcp");
    site.primary.kill();
    site.until_on("backup").await;
    let refused = client.call("put", r#"{"id":"a"}"#).await;
    assert_eq!(refused.error_code(), Some(-33004), "{}", refused.text());
    assert_eq!(who(&client.call("who", "{}").await.result()), "backup");
    assert!(site.backup.written().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_both_stores_dead_the_snapshot_answers_and_says_that_it_is_old() {
    let mut site = Site::start_with(&format!("{POLICY}, snapshot_every: 1s"), false).await;
    let client = Modern::new(site.gateway.address(), "/mcp");
    let read = async |client: &Modern| client.request("resources/read", r#"{"uri":"store://name"}"#).await;
    assert_eq!(read(&client).await.result()["contents"][0]["text"], "primary");
    assert!(client.tools().await.contains(&"x__put".to_owned()));
    site.until("a snapshot is on disk", |failover| {
        failover["stats"]["backup_syncs_completed"].as_u64() > Some(0)
    })
    .await;
    // One more, which has what was read a moment ago.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    site.primary.kill();
    site.until_on("backup").await;
    assert_eq!(read(&client).await.result()["contents"][0]["text"], "primary");
    assert!(client.tools().await.contains(&"x__put".to_owned()));
    let kept = client.call("x__put", r#"{"id":"later"}"#).await.result();
    assert_eq!(meta(&kept)["journaled"], true, "{kept}");
    // Also after a restart, from the disk.
    site.gateway.data.restart().await;
    site.until_on("backup").await;
    assert_eq!(read(&client).await.result()["contents"][0]["text"], "primary");
    site.primary.restart().await;
    site.until_on("primary").await;
    assert_eq!(site.primary.written()["later"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_are_those_of_the_events_and_survive_both_planes() {
    let mut site = Site::start(POLICY).await;
    let load = Load::start(site.gateway.address(), 2, 0);
    site.primary.kill();
    site.until_on("backup").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    site.primary.restart().await;
    site.until_on("primary").await;
    load.stop().await;
    let node = site.until("nothing waits", |failover| failover["journal_pending"] == 0).await;
    let counts = |stats: &Value| {
        [
            "failover_count",
            "sync_back_operations",
            "entries_synced_back",
            "entries_in_failover",
            "dead_letter_entries",
        ]
        .map(|name| stats[name].as_u64())
    };
    let own = counts(&node["stats"]);
    assert_eq!((own[0], own[2]), (Some(1), own[3]), "every entry was synced back: {node}");
    let told =
        site.until_told("the control plane has the same", |failover| counts(&failover["stats"]) == own).await;
    assert_eq!(told["stats"]["failover_active"], false);
    site.gateway.data.process.kill();
    site.gateway.control.process.kill();
    site.gateway.control.restart().await;
    site.gateway.data.restart().await;
    site.until_told("both planes still have the same", |failover| counts(&failover["stats"]) == own).await;
    let events = site.gateway.control.o1ctl_lines(&["events", "--upstream", "x", "--limit", "100000"]).await;
    let kinds: Vec<_> = events.iter().map(|event| event["type"].clone()).collect();
    for kind in ["failover_committed", "sync_back_completed", "restored"] {
        assert_eq!(kinds.iter().filter(|found| **found == kind).count(), 1, "{kind}: {kinds:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_may_lose_its_backup_also_while_that_serves() {
    let mut site = Site::start(POLICY).await;
    let client = Modern::new(site.gateway.address(), "/u/x/mcp");
    let alone = format!("upstreams:\n  x:\n    primary:\n      - url: http://{}/mcp\n", site.primary.address);
    site.primary.kill();
    site.until_on("backup").await;
    let kept = client.call("put", r#"{"id":"kept"}"#).await.result();
    assert_eq!(meta(&kept)["journaled"], true, "{kept}");
    site.primary.restart().await;
    site.gateway.control.edit(&alone);
    site.gateway
        .control
        .node_until("n1", "the new configuration", |node| node["applied"]["revision"] == 2)
        .await;
    // What was kept goes home before anything else is written there.
    o1_tests::wait::until_true("the primary takes writes", PATIENCE, || async {
        client.call("put", r#"{"id":"later"}"#).await.result_or_null()["content"].is_array()
    })
    .await;
    let written = site.primary.written();
    assert_eq!((written["kept"], written["later"]), (1, 1), "{written:?}");
    // Nothing is left to keep: the node goes on, and ends when it is asked to.
    site.gateway.control.edit("upstreams: {}\n");
    site.gateway.control.node_until("n1", "no upstream", |node| node["applied"]["revision"] == 3).await;
    site.gateway.data.process.signal(rustix::process::Signal::TERM);
    let ended = site.gateway.data.process.exit(Duration::from_secs(10)).await;
    assert!(ended.success(), "{ended}");
}
