//! The official clients keep their one session while the server behind it dies, its backup answers and it comes back.

use crate::clients::{self, Step};
use futures_util::future::join_all;
use o1_tests::{
    site::{PATIENCE, POLICY, Site, Store},
    until_true,
};
use serde_json::{Value, json};

/// Which client, what it speaks, and where.
struct Visitor {
    client: &'static str,
    mode: &'static str,
    path: &'static str,
}

impl Visitor {
    /// The id of one of its writes.
    fn id(&self, when: &str) -> String {
        format!("{when} by {} {} {}", self.client, self.mode, self.path)
    }

    /// Whether it hears what the gateway says by itself: a session does. A client without one would have to ask with a
    /// call that is answered by a stream.
    fn hears(&self) -> bool {
        self.mode == "legacy"
    }

    fn steps(&self) -> Vec<Step> {
        let prefix = if self.path == "/mcp" { "x__" } else { "" };
        let call = |tool: &str, arguments: Value, expect, until| {
            let params = json!({"name": format!("{prefix}{tool}"), "arguments": arguments});
            Step { method: "tools/call", params, expect, until }
        };
        let put = |when, expect| call("put", json!({"id": self.id(when)}), expect, false);
        // Who writes this has had the answer to the write before. Its own answer the kill may take away.
        let answered = call("put", json!({"id": self.id("answered")}), " has ", true);
        let who = |expect| call("who", json!({}), expect, true);
        let heard = |expect| Step { method: "heard", params: json!({}), expect, until: true };
        let mut steps = vec![
            who(r#""text":"primary""#),
            put("before", "primary has"),
            answered,
            who(r#""activeStore":"backup""#),
            put("during", r#""journaled":true"#),
            who(r#""text":"primary""#),
            put("after", "primary has"),
        ];
        if self.hears() {
            steps.extend([heard(r#""event":"failover""#), heard(r#""entriesSyncedBack":"#)]);
        }
        steps
    }

    async fn visits(&self, url: String) -> Vec<String> {
        let steps = self.steps();
        let (version, results) = match self.client {
            "Python" => clients::python(&url, self.mode, &steps).await,
            "TypeScript" => clients::typescript(&url, self.mode, &steps).await,
            _ => clients::rust(&url, &steps).await,
        };
        let failed: u64 = results.iter().filter_map(|result| result["failed"].as_u64()).sum();
        println!("{} {} {version} {}: {failed} calls failed", self.client, self.mode, self.path);
        crate::tests::judge(&format!("{} {} {}", self.client, self.mode, self.path), &steps, &results)
    }
}

/// Waits until all of them have written.
async fn written(store: &Store, visitors: &[Visitor], when: &str) {
    until_true(&format!("all have written {when}"), 2 * PATIENCE, || {
        let written = store.written();
        std::future::ready(visitors.iter().all(|visitor| written.contains_key(&visitor.id(when))))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn official_clients_keep_their_session_through_a_failover_and_back() {
    // Once the backup answers reads it takes writes, too.
    let mut site = Site::start(&POLICY.replace("fast_path: reads", "fast_path: full")).await;
    let visitor = |client, mode, path| Visitor { client, mode, path };
    let visitors = [
        visitor("Python", "legacy", "/mcp"),
        visitor("Python", "auto", "/mcp"),
        visitor("Python", "legacy", "/u/x/mcp"),
        visitor("TypeScript", "legacy", "/mcp"),
        visitor("TypeScript", "auto", "/mcp"),
        visitor("TypeScript", "legacy", "/u/x/mcp"),
        visitor("Rust", "legacy", "/mcp"),
        visitor("Rust", "legacy", "/u/x/mcp"),
    ];
    let urls: Vec<_> = visitors.iter().map(|visitor| site.gateway.url(visitor.path)).collect();
    let visits = join_all(visitors.iter().zip(urls).map(|(visitor, url)| visitor.visits(url)));
    let faults = async {
        written(&site.primary, &visitors, "answered").await;
        site.primary.kill();
        written(&site.backup, &visitors, "during").await;
        site.primary.restart().await;
    };
    let (wrong, ()) = tokio::join!(visits, faults);
    let wrong = wrong.concat();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let written = site.primary.written();
    for id in visitors.iter().flat_map(|visitor| ["before", "during", "after"].map(|when| visitor.id(when))) {
        assert_eq!(written.get(&id), Some(&1), "{id}: {written:?}");
    }
}
