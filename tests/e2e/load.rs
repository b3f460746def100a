//! The load generator of `benches/load` works: whoever repeats the figures of benches/README.md needs it to. Says
//! nothing about the figures.

use o1_tests::{binaries::binary, wait::in_time};
use serde_json::Value;
use std::time::Duration;
use tokio::process::Command;

/// A short series, as the program's own JSON.
async fn measured(options: &[&str]) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("figures.json");
    let mut command = Command::new(binary("o1-load"));
    command.args(["run", "--rounds", "1", "--requests", "50", "--connections", "3"]);
    command.args(options).arg("--json").arg(&file).kill_on_drop(true);
    let output = in_time("a short series", Duration::from_secs(60), command.output()).await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert!(out.contains("/u/load/mcp"), "{out}");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn assert_right(rows: &[Value]) {
    assert_eq!(rows.len(), 3, "direct, one upstream, all of them");
    for row in rows {
        assert_eq!(row["errors"], 0, "{row:#}");
        assert_eq!(row["answers"], 150, "{row:#}");
        assert!(row["latency_us"]["p99_9"].as_f64() >= row["latency_us"]["p50"].as_f64(), "{row:#}");
        assert!(row["resident_bytes"].as_u64().unwrap() > 1 << 20, "{row:#}");
    }
    assert!(rows[0]["reached_upstream"].as_u64().unwrap() >= 150, "{:#}", rows[0]);
}

#[tokio::test]
async fn the_load_generator_reads_resources_in_the_modern_era() {
    let rows = measured(&["--resources", "2"]).await;
    assert_right(&rows);
    for row in &rows[1..] {
        assert!(row["reached_upstream"].as_u64().unwrap() < 150, "the answers hold for an hour: {row:#}");
    }
}

#[tokio::test]
async fn the_load_generator_calls_tools_in_the_legacy_era() {
    let rows = measured(&["--operation", "call", "--era", "legacy"]).await;
    assert_right(&rows);
    for row in &rows[1..] {
        assert!(row["reached_upstream"].as_u64().unwrap() >= 150, "nobody may answer for a tool: {row:#}");
    }
}
