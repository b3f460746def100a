//! The suite's client scenarios through the gateway: the suite is the server and judges what reaches it, a gateway
//! stands in front of it, and an official client uses the gateway (through.py).

use futures_util::{StreamExt as _, stream};
use o1_tests::{
    binaries::{profile_dir, root},
    peers,
};
use std::time::Duration;

const LEGACY: &str = "2025-11-25";
const MODERN: &str = "2026-07-28";

/// A scenario, the revision that the suite's server speaks, the mode of the client in front of the gateway, and
/// how many of its checks fail.
type Row = (&'static str, &'static str, &'static str, u32);

const SAME_ERA: &[Row] = &[
    ("initialize", LEGACY, "legacy", 0),
    ("tools_call", LEGACY, "legacy", 0),
    ("sse-retry", LEGACY, "legacy", 0),
    ("tools_call", MODERN, MODERN, 0),
    ("request-metadata", MODERN, MODERN, 0),
    ("http-standard-headers", MODERN, MODERN, 0),
    ("http-custom-headers", MODERN, MODERN, 0),
    ("http-invalid-tool-headers", MODERN, MODERN, 0),
    ("sep-2322-client-request-state", MODERN, MODERN, 0),
    ("json-schema-ref-no-deref", MODERN, MODERN, 0),
];

/// A legacy client of a modern server: each header and envelope is the gateway's own.
const LEGACY_CLIENT: &[Row] = &[
    ("tools_call", MODERN, "legacy", 0),
    ("http-custom-headers", MODERN, "legacy", 0),
    ("http-invalid-tool-headers", MODERN, "legacy", 0),
    ("sep-2322-client-request-state", MODERN, "legacy", 0),
    ("json-schema-ref-no-deref", MODERN, "legacy", 0),
    // Both count an `initialize` as a request without headers. A server that speaks both eras is spoken to in the
    // client's, and `initialize` is the only way to learn that one speaks the older: `server/discover` lists
    // modern revisions only.
    ("request-metadata", MODERN, "legacy", 2),
    ("http-standard-headers", MODERN, "legacy", 1),
];

/// A modern client of a legacy server: handshake, session and resumed streams are the gateway's.
const MODERN_CLIENT: &[Row] =
    &[("initialize", LEGACY, MODERN, 0), ("tools_call", LEGACY, MODERN, 0), ("sse-retry", LEGACY, MODERN, 0)];

/// How many checks failed; `None`: the suite did not come to a verdict.
async fn failures((scenario, revision, mode, _): Row) -> (Option<u32>, String) {
    let client = format!("{} {}", peers::python("python").display(), script());
    // The exit status repeats the verdict; peers::run would stop at it before the reasons are shown.
    let suite = r#""$0" "$1" client --command "$2" --scenario "$3" --spec-version "$4" --verbose 2>&1; true"#;
    let output = peers::run("/bin/sh".as_ref(), "", Duration::from_secs(180), |command| {
        command.args(["-c", suite]).arg(peers::node()).arg(peers::node_program("conformance"));
        command.args([&client, scenario, revision]);
        command.env("O1_BIN", profile_dir()).env("O1_MODE", mode);
    })
    .await;
    // "Passed: 9/10, 1 failed, 0 warnings"
    let verdict = output.lines().find_map(|line| line.strip_prefix("Passed: "));
    let failed = verdict.and_then(|verdict| verdict.split(", ").nth(1)?.split(' ').next()?.parse().ok());
    (failed, output)
}

fn script() -> String {
    root().join("tests/conformance/through.py").display().to_string()
}

/// Every row is as it says: a check that is said to fail and passes is wrong too.
async fn gate(rows: &[Row]) {
    let runs = rows.iter().map(|row| async move { (*row, failures(*row).await) });
    let results: Vec<_> = stream::iter(runs).buffer_unordered(3).collect().await;
    let mut wrong = String::new();
    for ((scenario, revision, mode, expected), (failed, output)) in results {
        println!("{scenario}, server {revision}, client {mode}: {failed:?} checks failed");
        if failed != Some(expected) {
            let reasons: Vec<_> = output.lines().filter(|line| line.contains("errorMessage")).collect();
            wrong += &format!(
                "\n{scenario} {revision} {mode}: {failed:?} checks failed, not {expected}\n{reasons:#?}\n{output:.3000}"
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_reach_servers_of_their_era_as_if_nothing_were_between() {
    gate(SAME_ERA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_clients_reach_modern_servers_with_every_header_right() {
    gate(LEGACY_CLIENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn modern_clients_reach_legacy_servers_that_end_streams_early() {
    gate(MODERN_CLIENT).await;
}
