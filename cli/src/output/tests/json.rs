use super::{fleet, node, refused, rejecting, upstream};
use crate::{
    counts::{Purge, Purged},
    events::EventKind,
    failover::Mode,
    model::{Status, UpstreamState},
    orders::{Ordered, SetMaintenance, SetMode, Signed},
    output::{
        cache,
        failover::explain,
        json::{self, NodesReport, StatusReport, UpstreamReport},
        orders,
    },
    verdict::Verdict,
};
use jiff::tz::TimeZone;
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
            "rollout": null,
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
            },
            "decisions": null,
            "decisions_because": ""
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
                "p99_ms": 4.0,
                "hit_ratio": 0.814
              },
              "legacy": true,
              "modern": true,
              "tools": 5,
              "primary": "http://127.0.0.1:3101/mcp",
              "backup": "http://127.0.0.1:3201/mcp",
              "cache": [
                {
                  "tier": "tools",
                  "hits": 0,
                  "stale": 0,
                  "misses": 0,
                  "coalesced": 0,
                  "hit_ratio": null,
                  "stored": 0,
                  "skipped": {
                    "no_life": 0,
                    "error": 0,
                    "not_complete": 0,
                    "too_large": 0,
                    "overtaken": 0
                  },
                  "evictions": {
                    "expired": 0,
                    "capacity": 0,
                    "invalidated": 0,
                    "purged": 0,
                    "replaced": 0,
                    "configuration": 0
                  },
                  "entries": 0,
                  "bytes": 0
                },
                {
                  "tier": "resources",
                  "hits": 797,
                  "stale": 3,
                  "misses": 40,
                  "coalesced": 12,
                  "hit_ratio": 0.939,
                  "stored": 38,
                  "skipped": {
                    "no_life": 0,
                    "error": 2,
                    "not_complete": 0,
                    "too_large": 0,
                    "overtaken": 0
                  },
                  "evictions": {
                    "expired": 12,
                    "capacity": 3,
                    "invalidated": 0,
                    "purged": 0,
                    "replaced": 0,
                    "configuration": 0
                  },
                  "entries": 23,
                  "bytes": 1234000
                },
                {
                  "tier": "catalogue",
                  "hits": 0,
                  "stale": 0,
                  "misses": 0,
                  "coalesced": 0,
                  "hit_ratio": null,
                  "stored": 0,
                  "skipped": {
                    "no_life": 0,
                    "error": 0,
                    "not_complete": 0,
                    "too_large": 0,
                    "overtaken": 0
                  },
                  "evictions": {
                    "expired": 0,
                    "capacity": 0,
                    "invalidated": 0,
                    "purged": 0,
                    "replaced": 0,
                    "configuration": 0
                  },
                  "entries": 0,
                  "bytes": 0
                }
              ],
              "endpoints": [
                {
                  "endpoint": "http://127.0.0.1:3101/mcp",
                  "picks": 12345,
                  "in_flight": 4,
                  "ejections": 0,
                  "retries": 0,
                  "queued": 0,
                  "waiting": 0,
                  "refused": 0,
                  "nodes": 3,
                  "nodes_ejecting": 0
                }
              ],
              "batches": {
                "batches": 12,
                "callers": 80,
                "waited_ms": 117.6
              },
              "failover": null
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
              "drain": null,
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
                  "bytes_out": 0,
                  "cache": [
                    {
                      "tier": "resources",
                      "hits": 0,
                      "stale": 0,
                      "misses": 0,
                      "coalesced": 0,
                      "hit_ratio": null,
                      "stored": 0,
                      "skipped": {
                        "no_life": 0,
                        "error": 0,
                        "not_complete": 0,
                        "too_large": 0,
                        "overtaken": 0
                      },
                      "evictions": {
                        "expired": 0,
                        "capacity": 0,
                        "invalidated": 0,
                        "purged": 0,
                        "replaced": 0,
                        "configuration": 0
                      },
                      "entries": 0,
                      "bytes": 0
                    }
                  ],
                  "endpoints": [
                    {
                      "endpoint": "http://127.0.0.1:3101/mcp",
                      "picks": 4000,
                      "in_flight": 1,
                      "ejections": 0,
                      "ejected": false,
                      "retries": 2,
                      "queued": 0,
                      "waiting": 0,
                      "refused": 0
                    }
                  ],
                  "batches": {
                    "batches": 0,
                    "callers": 0,
                    "waited_ms": 0.0
                  }
                }
              ]
            }
          ]
        }
        "#);
}

#[test]
#[expect(clippy::too_many_lines, reason = "the snapshot is one whole report")]
fn the_shape_of_a_failover_is_stable() {
    let mut failover = super::failover::failed_over();
    failover.nodes.truncate(1);
    insta::assert_snapshot!(json::pretty(&failover), @r#"
        {
          "decision": "failed_over",
          "desired": "backup",
          "term": 3,
          "mode": "auto",
          "mode_until": null,
          "nodes_on_primary": 0,
          "nodes_on_backup": 3,
          "nodes_provisional": 0,
          "nodes_lagging": 0,
          "observers": 3,
          "observers_unhealthy": 3,
          "observers_healthy": 0,
          "primary_verdict": "unhealthy",
          "backup_verdict": "healthy",
          "primary_breaker": "open",
          "since": "2026-11-21T17:02:13Z",
          "hold_until": "2026-11-21T17:06:13Z",
          "healthy_since": null,
          "stable_seconds": 30.0,
          "last_reason": "quorum_unhealthy",
          "because": "3 of 3 fresh observers see the primary unhealthy",
          "journal_pending": 12,
          "backup_kind": "snapshot",
          "writes": "journal",
          "stats": {
            "failover_active": false,
            "failover_count": 3,
            "total_failover_time": 724.0,
            "last_failover_time": "2026-11-21T17:02:13Z",
            "last_restoration_time": "2026-11-20T09:00:00Z",
            "backup_syncs_completed": 120,
            "backup_sync_failures": 0,
            "last_backup_sync": "2026-11-21T16:59:58Z",
            "total_backup_sync_time": 0.34,
            "sync_back_operations": 2,
            "entries_synced_back": 24,
            "sync_back_failures": 0,
            "total_sync_back_time": 1.2,
            "active_store": "primary",
            "primary_circuit_breaker_state": null,
            "backup_file_exists": true,
            "backup_file_size_bytes": 1200000,
            "entries_in_failover": 36,
            "dead_letter_entries": 0,
            "provisional_failovers": 1,
            "current_failover_since": null
          },
          "nodes": [
            {
              "node_id": "n1",
              "connected": true,
              "heard_at": "2026-11-21T17:04:58Z",
              "active_store": "backup",
              "phase": "backup",
              "term": 3,
              "local_term": 0,
              "journal_pending": 12,
              "dead_letters": 0,
              "since": "2026-11-21T17:02:13Z",
              "refusal": null,
              "message": "",
              "primary_health": {
                "verdict": "unhealthy",
                "breaker": "open",
                "consecutive": 3,
                "since": "2026-11-21T17:02:11Z",
                "checked_at": "2026-11-21T17:04:58Z",
                "latency_ms": null,
                "error": "connection refused"
              },
              "backup_health": {
                "verdict": "healthy",
                "breaker": "closed",
                "consecutive": 3,
                "since": "2026-11-21T14:50:00Z",
                "checked_at": "2026-11-21T17:04:58Z",
                "latency_ms": 0.8,
                "error": ""
              },
              "stats": {
                "failover_active": false,
                "failover_count": 0,
                "total_failover_time": null,
                "last_failover_time": null,
                "last_restoration_time": null,
                "backup_syncs_completed": 0,
                "backup_sync_failures": 0,
                "last_backup_sync": null,
                "total_backup_sync_time": null,
                "sync_back_operations": 0,
                "entries_synced_back": 0,
                "sync_back_failures": 0,
                "total_sync_back_time": null,
                "active_store": null,
                "primary_circuit_breaker_state": null,
                "backup_file_exists": false,
                "backup_file_size_bytes": 0,
                "entries_in_failover": 0,
                "dead_letter_entries": 0,
                "provisional_failovers": 0,
                "current_failover_since": null
              }
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
#[expect(clippy::too_many_lines, reason = "one report of each kind")]
fn every_key_is_described_in_the_readme() {
    let readme = include_str!("../../../README.md");
    let nodes = [rejecting("n1"), node("n2")];
    let mut status = full();
    let failover = super::failover::failed_over();
    status.upstreams[1].failover = Some(failover.clone());
    let question = explain::Question {
        upstream: &status.upstreams[1],
        status: &status,
        decided: None,
        verdict: Verdict::FailoverActive,
        columns: None,
        zone: &TimeZone::UTC,
    };
    let waited = orders::Waited {
        lagging: vec![orders::Lagging::of(&failover.nodes[0])],
        ..orders::Waited::default()
    };
    let ordered = Ordered {
        term: 3,
        decision_id: String::new(),
        nodes: 3,
        journal_pending: 0,
        warnings: vec![],
        no_op: false,
    };
    let signed = Signed { request_id: "1".into(), reason: "x".into() };
    let pin = SetMode { upstream: "x".into(), mode: Mode::Auto, expires_in: None, signed: signed.clone() };
    let maintenance = SetMaintenance { enabled: true, expires_in: None, signed };
    let purges = [Purge { node_id: "n1".into(), done: Purged::Absent }];
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
        serde_json::to_value(cache::report(&status, &cache::View::default())),
        serde_json::to_value(cache::purge_report(&purges, &cache::View::default())),
        serde_json::to_value(json::CheckReport {
            file: "x",
            valid: true,
            upstreams: vec![],
            problems: &[],
            warnings: &[],
        }),
        serde_json::to_value(explain::answer(&question)),
        serde_json::to_value(super::failover::event(EventKind::Restored)),
        serde_json::to_value(orders::Done {
            upstream: "x",
            target: "backup",
            kind: orders::Kind::Order,
            request_id: "1",
            ordered: &ordered,
            waited: Some(&waited),
        }),
        serde_json::to_value(orders::mode_page(&pin, Some(&failover), &TimeZone::UTC).report),
        serde_json::to_value(orders::maintenance_page(&maintenance, None).report),
    ];
    let more = super::looking_after();
    let mut keys = BTreeSet::new();
    for report in reports.into_iter().chain(super::config::reports()).chain(more) {
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
