use super::{fleet, node, refused, rejecting, upstream};
use crate::{
    model::{Status, UpstreamState},
    output::json::{self, NodesReport, StatusReport, UpstreamReport},
    verdict::Verdict,
};
use serde_json::Value;
use std::collections::BTreeSet;

fn full() -> Status {
    let mut status = fleet();
    refused(&mut status);
    status
}

#[test]
#[expect(clippy::too_many_lines, reason = "the snapshot is one whole report")]
fn the_shape_of_status_is_stable() {
    let mut status = full();
    status.upstreams.remove(0);
    let report = StatusReport { verdict: Verdict::Degraded, status: &status, node_list: None };
    insta::assert_snapshot!(json::pretty(&report), @r#"
        {
          "verdict": "degraded",
          "as_of": "2026-11-21T17:05:00Z",
          "control_plane": {
            "version": "0.1.0",
            "started_at": "2026-11-21T14:50:00Z",
            "listen": "127.0.0.1:7400",
            "target": {
              "generation": 1,
              "revision": 7,
              "digest": "0000000000000000000000000000000000000000000000000000000000000007"
            },
            "target_accepted_at": "2026-11-21T16:00:00Z",
            "source": {
              "path": "/etc/only1.yaml",
              "checked_at": "2026-11-21T17:05:00Z",
              "refused": true,
              "refused_at": "2026-11-21T17:01:00Z",
              "problems": [
                {
                  "file": "/etc/only1.yaml",
                  "line": 3,
                  "column": 5,
                  "rule": "unknown-key",
                  "path": "upstreams.a.primry",
                  "what": "unknown key `primry`",
                  "hint": "did you mean `primary`?"
                },
                {
                  "file": "/etc/only1.yaml",
                  "line": 0,
                  "column": 0,
                  "rule": "file-missing",
                  "path": "",
                  "what": "the file is not there",
                  "hint": ""
                }
              ]
            }
          },
          "nodes": {
            "connected": 3,
            "unreachable": 0,
            "synced": 3,
            "pending": 0,
            "stale": 0,
            "rejected": 0,
            "draining": 0
          },
          "upstreams": [
            {
              "name": "weather",
              "state": "healthy",
              "nodes_reachable": 3,
              "nodes_unreachable": 0,
              "nodes_unknown": 0,
              "since": "2026-11-21T14:50:00Z",
              "errors": [],
              "totals": {
                "requests": 12345,
                "errors": 2,
                "timeouts": 1,
                "application_errors": 30,
                "active_requests": 4,
                "bytes_in": 34600000,
                "bytes_out": 1200
              },
              "rates": {
                "window_seconds": 30.0,
                "requests_per_second": 412.3,
                "error_ratio": 0.0001,
                "p50_ms": 1.24,
                "p99_ms": 4.0
              },
              "legacy": true,
              "modern": true,
              "tools": 5,
              "primary": "http://127.0.0.1:3101/mcp",
              "backup": "http://127.0.0.1:3201/mcp"
            }
          ],
          "node_list": null
        }
        "#);
}

#[test]
#[expect(clippy::too_many_lines, reason = "the snapshot is one whole report")]
fn the_shape_of_nodes_is_stable() {
    let nodes = [rejecting("n1")];
    let status = fleet();
    let target = status.control_plane.target.as_ref();
    let report = NodesReport { verdict: Verdict::Degraded, as_of: status.as_of, target, nodes: &nodes };
    insta::assert_snapshot!(json::pretty(&report), @r#"
        {
          "verdict": "degraded",
          "as_of": "2026-11-21T17:05:00Z",
          "target": {
            "generation": 1,
            "revision": 7,
            "digest": "0000000000000000000000000000000000000000000000000000000000000007"
          },
          "nodes": [
            {
              "node_id": "n1",
              "node_uid": "00ff",
              "epoch": 3,
              "labels": {
                "zone": "a"
              },
              "version": "0.1.0",
              "started_at": "2026-11-21T15:05:03Z",
              "listen": "127.0.0.1:8080",
              "admin": "127.0.0.1:9090",
              "state": "connected",
              "sync": "rejected",
              "applied": {
                "generation": 1,
                "revision": 6,
                "digest": "0000000000000000000000000000000000000000000000000000000000000006"
              },
              "rejected": {
                "generation": 1,
                "revision": 7,
                "digest": "0000000000000000000000000000000000000000000000000000000000000007"
              },
              "rejections": [
                {
                  "resource": "upstream weather",
                  "reason": "local_dependency",
                  "field": "headers.authorization",
                  "message": "the variable WEATHER_TOKEN is not set"
                },
                {
                  "resource": "",
                  "reason": "local_dependency",
                  "field": "",
                  "message": "the disk is full"
                }
              ],
              "connected_at": "2026-11-21T15:05:04Z",
              "last_heard": "2026-11-21T17:04:58Z",
              "clock_skew_ms": 3000,
              "sessions": 12,
              "resident_bytes": 34600000,
              "last_apply_ms": 0.85,
              "upstreams": [
                {
                  "upstream": "weather",
                  "reachable": true,
                  "since": "2026-11-21T15:06:00Z",
                  "last_error": "",
                  "requests": 4000,
                  "errors": 0,
                  "timeouts": 0,
                  "application_errors": 0,
                  "active_requests": 0,
                  "bytes_in": 0,
                  "bytes_out": 0
                }
              ]
            }
          ]
        }
        "#);
}

#[test]
fn large_counts_are_exact_numbers_and_times_are_rfc_3339() {
    let mut weather = upstream("weather", UpstreamState::Healthy);
    weather.totals.as_mut().unwrap().requests = u64::MAX;
    let status = fleet();
    let report = UpstreamReport { verdict: Verdict::Healthy, as_of: status.as_of, upstream: Some(&weather) };
    let line = json::line(&report);
    assert_eq!(line.matches('\n').count(), 1);
    assert!(line.contains(r#""requests":18446744073709551615"#), "{line}");
    assert!(line.contains(r#""as_of":"2026-11-21T17:05:00Z""#), "{line}");
}

#[test]
fn every_key_is_described_in_the_readme() {
    let readme = include_str!("../../../README.md");
    let nodes = [rejecting("n1"), node("n2")];
    let status = full();
    let reports = [
        serde_json::to_value(StatusReport {
            verdict: Verdict::Degraded,
            status: &status,
            node_list: Some(&nodes),
        }),
        serde_json::to_value(NodesReport {
            verdict: Verdict::Healthy,
            as_of: None,
            target: None,
            nodes: &nodes,
        }),
        serde_json::to_value(UpstreamReport { verdict: Verdict::Healthy, as_of: None, upstream: None }),
        serde_json::to_value(json::CheckReport {
            file: "x",
            valid: true,
            upstreams: vec![],
            problems: &[],
            warnings: &[],
        }),
    ];
    let mut keys = BTreeSet::new();
    for report in reports {
        collect(&report.unwrap(), &mut keys);
    }
    keys.remove("zone"); // a label
    let missing: Vec<_> = keys.iter().filter(|key| !readme.contains(&format!("`{key}`"))).collect();
    assert!(
        keys.len() > 60 && missing.is_empty(),
        "{} keys, of which cli/README.md lacks {missing:?}",
        keys.len()
    );
}

fn collect(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            keys.extend(object.keys().cloned());
            object.values().for_each(|value| collect(value, keys));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, keys)),
        _ => {}
    }
}
