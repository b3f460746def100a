use super::{fleet, tier, upstream, used};
use crate::{
    counts::{Evictions, Purge, Purged, Skips, Tier},
    model::{Status, UpstreamState},
    output::{
        cache::{View, page, purge_page, purge_report, report},
        json,
    },
};

const EVERYTHING: View<'static> = View { upstream: None, tier: None };

/// One that is used in two tiers, one that was never asked.
fn status() -> Status {
    let mut status = fleet();
    let weather = &mut status.upstreams[1];
    weather.cache[2] = Tier {
        misses: 1,
        hit_ratio: Some(0.0),
        stored: 1,
        entries: 0,
        skipped: Skips { no_life: 1, error: 2, not_complete: 3, too_large: 4, overtaken: 5 },
        evictions: Evictions {
            expired: 1,
            capacity: 2,
            invalidated: 3,
            purged: 4,
            replaced: 5,
            configuration: 6,
        },
        ..tier("catalogue")
    };
    status
}

#[test]
fn tiers_in_which_something_happened_are_shown() {
    let shown = page(&status(), &EVERYTHING).paint(false);
    insta::assert_snapshot!(shown, @"
        UPSTREAM  TIER       HITS  STALE  MISSES  COALESCED  RATE   ENTRIES  BYTES
        weather   resources  797   3      40      12         93.9%  23       1.2 MB
          left: 12 expired, 3 capacity
          not kept: 2 error
        weather   catalogue  0     0      1       0          0.0%   0        0 B
          left: 1 expired, 2 capacity, 3 invalidated, 4 purged, 5 replaced, 6 configuration
          not kept: 1 no_life, 2 error, 3 not_complete, 4 too_large, 5 overtaken
          12 batches for 80 callers, 6.7 each, after 9.8ms

        nothing was looked up yet: files
        ");
    assert!(shown.lines().filter(|line| !line.starts_with(' ')).all(|line| line.chars().count() <= 80));
}

#[test]
fn large_counts_keep_the_columns_straight() {
    let mut status = status();
    status.upstreams =
        vec![upstream("a", UpstreamState::Healthy), upstream("b-with-a-long-name", UpstreamState::Healthy)];
    status.upstreams[1].cache[1] =
        Tier { hits: 1_234_567_890, bytes: 64 << 20, entries: 100_000, ..used("resources") };
    insta::assert_snapshot!(page(&status, &EVERYTHING).paint(false), @"
        UPSTREAM            TIER       HITS        STALE  MISSES  COALESCED  RATE   ENTRIES  BYTES
        a                   resources  797         3      40      12         93.9%  23       1.2 MB
          left: 12 expired, 3 capacity
          not kept: 2 error
          12 batches for 80 callers, 6.7 each, after 9.8ms
        b-with-a-long-name  resources  1234567890  3      40      12         93.9%  100000   67 MB
          left: 12 expired, 3 capacity
          not kept: 2 error
          12 batches for 80 callers, 6.7 each, after 9.8ms
        ");
}

#[test]
fn one_tier_of_one_upstream_is_shown_also_when_nothing_happened_in_it() {
    let view = View { upstream: Some("weather"), tier: Some("tools") };
    insta::assert_snapshot!(page(&status(), &view).paint(false), @"
        UPSTREAM  TIER   HITS  STALE  MISSES  COALESCED  RATE  ENTRIES  BYTES
        weather   tools  0     0      0       0          –     0        0 B
          12 batches for 80 callers, 6.7 each, after 9.8ms
        ");
}

#[test]
fn a_configuration_without_upstreams_has_no_cache() {
    let mut status = status();
    status.upstreams.clear();
    insta::assert_snapshot!(page(&status, &EVERYTHING).paint(false), @"
        no upstreams: the configuration names none
        ");
}

#[test]
fn the_shape_of_stats_is_stable() {
    let view = View { upstream: Some("weather"), tier: Some("catalogue") };
    insta::assert_snapshot!(json::pretty(&report(&status(), &view)), @r#"
        {
          "as_of": "2026-11-21T17:05:00Z",
          "upstreams": [
            {
              "name": "weather",
              "hit_ratio": 0.814,
              "cache": [
                {
                  "tier": "catalogue",
                  "hits": 0,
                  "stale": 0,
                  "misses": 1,
                  "coalesced": 0,
                  "hit_ratio": 0.0,
                  "stored": 1,
                  "skipped": {
                    "no_life": 1,
                    "error": 2,
                    "not_complete": 3,
                    "too_large": 4,
                    "overtaken": 5
                  },
                  "evictions": {
                    "expired": 1,
                    "capacity": 2,
                    "invalidated": 3,
                    "purged": 4,
                    "replaced": 5,
                    "configuration": 6
                  },
                  "entries": 0,
                  "bytes": 0
                }
              ],
              "batches": {
                "batches": 12,
                "callers": 80,
                "waited_ms": 117.6
              }
            }
          ]
        }
        "#);
}

fn purges() -> Vec<Purge> {
    let purge = |node: &str, done| Purge { node_id: node.into(), done };
    vec![
        purge("n1", Purged::Purged { entries: 12, bytes: 34_600 }),
        purge("n2", Purged::Absent),
        purge("node-3", Purged::Failed { error: "it is not connected".into() }),
    ]
}

#[test]
fn what_a_purge_did_is_said_by_node() {
    let view = View { upstream: Some("weather"), tier: Some("resources") };
    insta::assert_snapshot!(purge_page(&purges(), &view).paint(false), @"
        NODE    ENTRIES  BYTES  RESULT
        n1      12       35 kB  ✅ purged
        n2      –        –      · serves no such upstream
        node-3  –        –      ❌ it is not connected

        12 entries (35 kB) of upstream weather, tier resources, left the cache of 2 of 3 nodes
        ");
    let one = [Purge { node_id: "n1".into(), done: Purged::Purged { entries: 1, bytes: 100 } }];
    insta::assert_snapshot!(purge_page(&one, &EVERYTHING).paint(false), @"
        NODE  ENTRIES  BYTES  RESULT
        n1    1        100 B  ✅ purged

        1 entry (100 B) of all upstreams, all tiers, left the cache of 1 of 1 node
        ");
}

#[test]
fn the_shape_of_a_purge_is_stable() {
    let purges = purges();
    let view = View { upstream: Some("weather"), tier: None };
    insta::assert_snapshot!(json::pretty(&purge_report(&purges, &view)), @r#"
        {
          "upstream": "weather",
          "tier": null,
          "entries": 12,
          "bytes": 34600,
          "nodes": [
            {
              "node_id": "n1",
              "result": "purged",
              "entries": 12,
              "bytes": 34600,
              "error": null
            },
            {
              "node_id": "n2",
              "result": "absent",
              "entries": null,
              "bytes": null,
              "error": null
            },
            {
              "node_id": "node-3",
              "result": "failed",
              "entries": null,
              "bytes": null,
              "error": "it is not connected"
            }
          ]
        }
        "#);
}
