//! What the cache counts, wherever it is asked for, and what an order to forget does.

use crate::{
    config,
    inspect::{Run, o1ctl},
};
use o1_tests::{Answer, Backend, DataPlane, Http, Modern, Pair, Reply, backend::Era, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

const SOON: Duration = Duration::from_secs(30);
const TIERS: [&str; 3] = ["tools", "resources", "catalogue"];

fn contents(text: &str, life: &str) -> Answer {
    Answer::Result(format!(
        r#"{{"contents":[{{"uri":"x://a","text":"{text}"}}],"resultType":"complete"{life}}}"#
    ))
}

/// `x://kept` for a minute, `x://fleeting` not at all, `x://bad` is an error.
async fn backend() -> Backend {
    let backend = Backend::with(Era::Modern).await;
    let life = r#","ttlMs":60000,"cacheScope":"public""#;
    backend.answer("resources/read x://kept", contents("kept", life));
    backend.answer("resources/read x://fleeting", contents("fleeting", ""));
    backend.answer("resources/read x://bad", Answer::Error(r#"{"code":-32002,"message":"no"}"#.to_owned()));
    backend
}

async fn read(node: &DataPlane, uri: &str) -> Reply {
    let client = Modern::new(node.listen, "/u/weather/mcp");
    client.request("resources/read", &format!(r#"{{"uri":"{uri}"}}"#)).await
}

/// Every series of a node's metrics.
async fn metrics(node: &DataPlane) -> BTreeMap<String, u64> {
    let page = Http::new(node.admin).get("/metrics").await.text();
    let series = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        Some((series.to_owned(), value.parse::<f64>().ok()? as u64))
    });
    series.collect()
}

/// A tier as metrics have it, in the shape of `o1ctl cache stats --json`.
fn tier(of: &BTreeMap<String, u64>, tier: &str) -> Value {
    let count = |family: &str, rest: &str| {
        let series = format!(r#"{family}{{upstream="weather",tier="{tier}"{rest}}}"#);
        *of.get(&series).unwrap_or_else(|| panic!("no {series} in {of:?}"))
    };
    let split = |family: &str, label: &str, words: &[&str]| -> Value {
        let each = words.iter().map(|word| (*word, count(family, &format!(r#",{label}="{word}""#))));
        each.map(|(word, count)| (word.to_owned(), count.into())).collect::<serde_json::Map<_, _>>().into()
    };
    let causes = ["expired", "capacity", "invalidated", "purged", "replaced", "configuration"];
    let reasons = ["no_life", "error", "not_complete", "too_large", "overtaken"];
    json!({
        "tier": tier,
        "hits": count("o1_cache_hits_total", ""),
        "stale": count("o1_cache_stale_total", ""),
        "misses": count("o1_cache_misses_total", ""),
        "coalesced": count("o1_cache_coalesced_total", ""),
        "stored": count("o1_cache_stored_total", ""),
        "skipped": split("o1_cache_skipped_total", "reason", &reasons),
        "evictions": split("o1_cache_evictions_total", "cause", &causes),
        "entries": count("o1_cache_entries", ""),
        "bytes": count("o1_cache_bytes", ""),
    })
}

/// Every number of one added to the one of the same name in the other.
fn sum(a: &Value, b: &Value) -> Value {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => a
            .iter()
            .map(|(key, value)| (key.clone(), sum(value, &b[key])))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        (Value::Number(a), Value::Number(b)) => (a.as_u64().unwrap_or(0) + b.as_u64().unwrap_or(0)).into(),
        (same, _) => same.clone(),
    }
}

/// Without what is derived.
fn counted(tier: &Value) -> Value {
    let mut tier = tier.clone();
    if let Some(keys) = tier.as_object_mut() {
        keys.remove("hit_ratio");
    }
    tier
}

async fn ctl(pair: &Pair, arguments: &[&str]) -> Run {
    o1ctl(pair.control.listen, arguments).await
}

/// What the upstream was asked.
fn asked(backend: &Backend) -> usize {
    backend.received_of("resources/read").len()
}

/// Waits until the control plane says the same of every tier as the metrics of the nodes, and gives the sums by tier.
async fn agreed(pair: &Pair) -> BTreeMap<&'static str, Value> {
    until("the same counts everywhere", SOON, || async {
        let (a, b) = (metrics(&pair.a).await, metrics(&pair.b).await);
        let nodes = pair.control.o1ctl(&["nodes"]).await;
        let stats = pair.control.o1ctl(&["cache", "stats"]).await;
        let mut sums = BTreeMap::new();
        for (at, word) in TIERS.into_iter().enumerate() {
            let of_nodes = [tier(&a, word), tier(&b, word)];
            for (node, own) in of_nodes.iter().enumerate() {
                let said = counted(nodes["nodes"][node]["upstreams"][0]["cache"].get(at)?);
                (said == *own).then_some(())?;
            }
            let said = counted(stats["upstreams"][0]["cache"].get(at)?);
            (said == sum(&of_nodes[0], &of_nodes[1])).then_some(())?;
            sums.insert(word, said);
        }
        Some(sums)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_reports_and_commands_show_the_same_exact_counts() {
    let backend = backend().await;
    let pair = Pair::start(&config([backend.upstream("weather")]), &[]).await;
    for (node, times) in [(&pair.a, 5), (&pair.b, 3)] {
        for _ in 0..times {
            assert_eq!(read(node, "x://kept").await.result()["contents"][0]["text"], "kept");
        }
    }
    for _ in 0..2 {
        read(&pair.a, "x://fleeting").await;
    }
    assert_eq!(read(&pair.b, "x://bad").await.error_code(), Some(-32002));
    assert_eq!(asked(&backend), 1 + 1 + 2 + 1);
    let sums = agreed(&pair).await;
    let resources = &sums["resources"];
    let expected = json!({"hits": 4 + 2, "stale": 0, "misses": 5, "coalesced": 0, "stored": 2, "entries": 2});
    for (key, count) in expected.as_object().unwrap() {
        assert_eq!(&resources[key], count, "{key} of {resources}");
    }
    assert_eq!((&resources["skipped"]["no_life"], &resources["skipped"]["error"]), (&json!(2), &json!(1)));
    assert!(resources["bytes"].as_u64().unwrap() > 0, "{resources}");
    assert_eq!(sums["tools"]["misses"], 0);

    // The endpoint that all of them went to.
    let status = pair.control.o1ctl(&["status"]).await;
    let endpoint = &status["upstreams"][0]["endpoints"][0];
    let picks = format!(r#"o1_endpoint_picks_total{{upstream="weather",endpoint="{}"}}"#, backend.url());
    let of_nodes = metrics(&pair.a).await[&picks] + metrics(&pair.b).await[&picks];
    assert_eq!(endpoint["endpoint"], backend.url());
    assert_eq!((&endpoint["picks"], &endpoint["in_flight"]), (&json!(of_nodes), &json!(0)));
    assert!(of_nodes >= 5 && endpoint["nodes"] == 2 && endpoint["nodes_ejecting"] == 0, "{endpoint}");
    let shown = ctl(&pair, &["cache", "stats"]).await;
    let row: Vec<_> = shown.out.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..7], ["weather", "resources", "6", "0", "5", "0", "54.5%"], "{}", shown.out);
    assert_eq!(shown.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_is_asked_for_again_and_counted_by_node() {
    let backend = backend().await;
    let pair = Pair::start(&config([backend.upstream("weather")]), &[]).await;
    for node in [&pair.a, &pair.b] {
        read(node, "x://kept").await;
    }
    assert_eq!(asked(&backend), 2);
    let bytes = metrics(&pair.a).await[r#"o1_cache_bytes{upstream="weather",tier="resources"}"#];

    // Another tier, then one node, then all.
    let run = ctl(&pair, &["cache", "purge", "--tier", "tools", "--json"]).await;
    let said: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((run.code, &said["entries"]), (0, &json!(0)), "{said}");
    read(&pair.a, "x://kept").await;
    assert_eq!(asked(&backend), 2, "it was not of that tier");
    let run = ctl(&pair, &["cache", "purge", "--upstream", "weather", "--node", "n1", "--json"]).await;
    let said: Value = serde_json::from_str(&run.out).unwrap();
    let row = json!({"node_id": "n1", "result": "purged", "entries": 1, "bytes": bytes, "error": null});
    assert_eq!((run.code, &said["nodes"]), (0, &json!([row])), "{said}");
    read(&pair.b, "x://kept").await;
    assert_eq!(asked(&backend), 2, "the other node kept it");
    read(&pair.a, "x://kept").await;
    assert_eq!(asked(&backend), 3, "this one forgot it");
    let run = ctl(&pair, &["cache", "purge", "--tier", "resources"]).await;
    assert_eq!(run.code, 0, "{}", run.err);
    let last = run.out.lines().last().unwrap();
    assert!(
        last.starts_with("2 entries (") && last.ends_with(" left the cache of 2 of 2 nodes"),
        "{}",
        run.out
    );
    let sums = agreed(&pair).await;
    assert_eq!(sums["resources"]["evictions"]["purged"], 3);
    assert_eq!((&sums["resources"]["entries"], &sums["resources"]["bytes"]), (&json!(0), &json!(0)));
    read(&pair.b, "x://kept").await;
    assert_eq!(asked(&backend), 4);

    // Words that mean nothing.
    let run = ctl(&pair, &["cache", "purge", "--upstream", "wether"]).await;
    assert_eq!((run.code, run.out.as_str()), (64, ""));
    assert!(run.err.contains("no upstream is named `wether`; did you mean `weather`?"), "{}", run.err);
    let run = ctl(&pair, &["cache", "purge", "--tier", "resource"]).await;
    assert!(run.code == 64 && run.err.contains("'resources'"), "{}", run.err);
    let run = ctl(&pair, &["cache", "purge", "--node", "n3"]).await;
    assert!(run.code == 64 && run.err.contains("no node `n3`; there are: n1, n2"), "{}", run.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_or_is_gone_is_named_and_the_others_purge() {
    let backend = backend().await;
    let pair = Pair::start(&config([backend.upstream("weather")]), &[]).await;
    read(&pair.a, "x://kept").await;
    pair.b.process.signal(Signal::STOP);
    let run = ctl(&pair, &["cache", "purge"]).await;
    pair.b.process.signal(Signal::CONT);
    assert_eq!(run.code, 1, "{}", run.out);
    let row = |node: &str| {
        let found = run.out.lines().find(|line| line.starts_with(node));
        found.unwrap_or_else(|| panic!("no {node} in {}", run.out)).to_owned()
    };
    assert!(row("n1").contains("purged"), "{}", run.out);
    assert!(row("n2").contains("did not answer within 4 s"), "{}", run.out);
    assert!(run.out.contains("of 1 of 2 nodes"), "{}", run.out);

    let Pair { a, b, control } = pair;
    drop(b);
    let said = until("n2 is away", SOON, || async {
        let said = control.o1ctl(&["cache", "purge"]).await;
        let gone = said["nodes"][1]["error"].as_str().is_some_and(|why| why.contains("not connected"));
        gone.then_some(said)
    })
    .await;
    assert_eq!(
        (&said["nodes"][0]["result"], &said["nodes"][1]["result"]),
        (&json!("purged"), &json!("failed"))
    );
    assert_eq!(said["nodes"][1]["node_id"], "n2");
    drop(a);
}
