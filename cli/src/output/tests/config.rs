use super::{NOW, fleet, moment, version};
use crate::{
    configs::{Changed, How, Refuser, ResourceChange, Revision, Rollout, RolloutState, RolloutSummary},
    model::{Problem, Rejection},
    output::{
        config::{
            Difference, Done, HistoryReport, ImportReport, Kind, ShowReport, Waited, about, difference_page,
            difference_report, done_page, history_page, progress,
        },
        json,
        status::{View, page},
    },
};
use jiff::tz::TimeZone;
use std::time::Duration;

fn revision(number: u64) -> Revision {
    Revision {
        version: version(number),
        created_at: Some(moment("2026-11-21T16:00:00Z")),
        source: "api:only1.yaml".into(),
        actor: "127.0.0.1:40022".into(),
        comment: String::new(),
        rollback_of: None,
        undoes: None,
        rollout: RolloutState::Succeeded,
        refused: vec![],
    }
}

fn refuser() -> Refuser {
    let rejection = Rejection {
        resource: "upstream weather".into(),
        reason: "local_dependency".into(),
        field: "headers.authorization".into(),
        message: "the variable WEATHER_TOKEN is not set".into(),
    };
    Refuser { node_id: "n2".into(), rejections: vec![rejection] }
}

fn changed() -> Changed {
    let part = |resource: &str, change| ResourceChange { resource: resource.into(), change };
    Changed {
        version: version(8),
        no_op: false,
        already_done: false,
        changes: vec![
            part("upstream files", How::Added),
            part("upstream old", How::Removed),
            part("clients", How::Updated),
        ],
        warnings: vec![],
    }
}

const BECAUSE: &str =
    "node `n2` refused it: weather: headers.authorization: the variable WEATHER_TOKEN is not set";

fn rolled_back() -> Rollout {
    Rollout {
        version: version(8),
        state: RolloutState::RolledBack,
        wave: 1,
        waves: 1,
        applied: 3,
        refused: vec![refuser()],
        rolled_back_to: Some(version(9)),
        because: BECAUSE.into(),
        ..Rollout::default()
    }
}

fn done(kind: Kind, changed: &Changed, waited: Option<&Waited>) -> String {
    done_page(&Done { kind, request_id: "r", changed, waited }).paint(false)
}

fn waited(rollout: Rollout) -> Waited {
    Waited { rollout, took: Some(Duration::from_millis(1200)), limit: Duration::from_secs(300) }
}

#[test]
fn a_change_says_what_changes_and_how_it_went() {
    let changed = changed();
    insta::assert_snapshot!(done(Kind::Change, &changed, None), @"
    accepted as version 1.8: 3 parts change
      + upstream files
      - upstream old
      ~ clients
      how it goes: o1ctl status, o1ctl config history
    ");
    insta::assert_snapshot!(done(Kind::DryRun, &changed, None), @"
    3 parts would change; nothing was done, 1.8 runs on
      + upstream files
      - upstream old
      ~ clients
    ");
    insta::assert_snapshot!(done(Kind::Change, &Changed { no_op: true, ..changed.clone() }, None), @"
    version 1.8 says that already: nothing to change
      + upstream files
      - upstream old
      ~ clients
    ");
    let again = Changed { already_done: true, changes: vec![], ..changed.clone() };
    insta::assert_snapshot!(done(Kind::Change, &again, None), @"this request came before and led to version 1.8: nothing was done now");
    let text_only = Changed { changes: vec![], ..changed.clone() };
    insta::assert_snapshot!(done(Kind::Change, &text_only, None), @"
    accepted as version 1.8: nodes run the same, only the text differs
      how it goes: o1ctl status, o1ctl config history
    ");
}

#[test]
fn who_waits_hears_what_became_of_it() {
    let text_only = Changed { changes: vec![], ..changed() };
    let there = Rollout { state: RolloutState::Succeeded, applied: 3, away: 1, ..rolled_back() };
    let there = Rollout { refused: vec![], because: String::new(), ..there };
    insta::assert_snapshot!(done(Kind::Change, &text_only, Some(&waited(there.clone()))), @"
    accepted as version 1.8: nodes run the same, only the text differs
      ✅ 3 of 3 nodes run it, after 1.2s; 1 away, which get it when they are back
    ");
    insta::assert_snapshot!(done(Kind::Change, &text_only, Some(&waited(rolled_back()))), @"
    accepted as version 1.8: nodes run the same, only the text differs
      ❌ rolled back, after 1.2s: node `n2` refused it: weather: headers.authorization: the variable WEATHER_TOKEN is not set
        n2 refused it:
          upstream weather, headers.authorization: the variable WEATHER_TOKEN is not set (local_dependency)
      what ran before runs again, as version 1.9
    ");
    let failed = Rollout {
        state: RolloutState::Failed,
        rolled_back_to: None,
        because: String::new(),
        ..rolled_back()
    };
    insta::assert_snapshot!(done(Kind::Change, &text_only, Some(&waited(failed))), @"
    accepted as version 1.8: nodes run the same, only the text differs
      ❌ 1 node refused it, and nothing ran before
        n2 refused it:
          upstream weather, headers.authorization: the variable WEATHER_TOKEN is not set (local_dependency)
    ");
    let running = Rollout {
        state: RolloutState::Running,
        wave: 2,
        waves: 3,
        applied: 1,
        sent: 2,
        waiting: 7,
        ..there.clone()
    };
    let late = Waited { took: None, ..waited(running) };
    insta::assert_snapshot!(done(Kind::Change, &text_only, Some(&late)), @"
    accepted as version 1.8: nodes run the same, only the text differs
      ⚠️ not over after 5m: wave 2 of 3: 1 of 10 nodes run it, 2 sent, 1 away; it goes on
    ");
    let superseded = waited(Rollout { state: RolloutState::Superseded, ..there.clone() });
    insta::assert_snapshot!(done(Kind::Change, &text_only, Some(&superseded)), @"
    accepted as version 1.8: nodes run the same, only the text differs
      ⚠️ something newer came before it was everywhere: o1ctl config history
    ");
    let nobody = waited(Rollout { applied: 0, away: 2, ..there });
    insta::assert_snapshot!(done(Kind::Change, &text_only, Some(&nobody)), @"
    accepted as version 1.8: nodes run the same, only the text differs
      no node is there to run it; 2 away, which get it when they are back
    ");
}

/// Everything that programs get, with every key.
pub(super) fn reports() -> Vec<serde_json::Result<serde_json::Value>> {
    let (changed, waited) = (changed(), waited(rolled_back()));
    let done = Done { kind: Kind::Change, request_id: "r", changed: &changed, waited: Some(&waited) };
    let revision = Revision { refused: vec![refuser()], ..revision(8) };
    let difference =
        Difference { revision: &revision, running: "a", file: "x", new: "b", same_meaning: false };
    vec![
        serde_json::to_value(&done),
        serde_json::to_value(HistoryReport { revisions: std::slice::from_ref(&revision) }),
        serde_json::to_value(ShowReport { revision: &revision, document: "a" }),
        serde_json::to_value(difference_report(&difference)),
        serde_json::to_value(ImportReport { file: "x", document: "a", servers: 1, notes: &[], valid: true }),
    ]
}

#[test]
#[expect(clippy::too_many_lines, reason = "one picture")]
fn programs_get_the_same() {
    let (changed, waited) = (changed(), waited(rolled_back()));
    let done = Done { kind: Kind::Change, request_id: "r", changed: &changed, waited: Some(&waited) };
    insta::assert_snapshot!(json::pretty(&done), @r#"
    {
      "kind": "change",
      "request_id": "r",
      "version": {
        "generation": 1,
        "revision": 8,
        "digest": "0000000000000000000000000000000000000000000000000000000000000008"
      },
      "no_op": false,
      "already_done": false,
      "changes": [
        {
          "resource": "upstream files",
          "change": "added"
        },
        {
          "resource": "upstream old",
          "change": "removed"
        },
        {
          "resource": "clients",
          "change": "updated"
        }
      ],
      "warnings": [],
      "waited": {
        "version": {
          "generation": 1,
          "revision": 8,
          "digest": "0000000000000000000000000000000000000000000000000000000000000008"
        },
        "state": "rolled_back",
        "wave": 1,
        "waves": 1,
        "waiting": 0,
        "sent": 0,
        "applied": 3,
        "silent": 0,
        "away": 0,
        "refused": [
          {
            "node_id": "n2",
            "rejections": [
              {
                "resource": "upstream weather",
                "reason": "local_dependency",
                "field": "headers.authorization",
                "message": "the variable WEATHER_TOKEN is not set"
              }
            ]
          }
        ],
        "rolled_back_to": {
          "generation": 1,
          "revision": 9,
          "digest": "0000000000000000000000000000000000000000000000000000000000000009"
        },
        "because": "node `n2` refused it: weather: headers.authorization: the variable WEATHER_TOKEN is not set",
        "took_seconds": 1.2
      }
    }
    "#);
    let revisions = [Revision { refused: vec![refuser()], undoes: Some(7), ..revision(8) }];
    insta::assert_snapshot!(json::pretty(&HistoryReport { revisions: &revisions }), @r#"
    {
      "revisions": [
        {
          "version": {
            "generation": 1,
            "revision": 8,
            "digest": "0000000000000000000000000000000000000000000000000000000000000008"
          },
          "created_at": "2026-11-21T16:00:00Z",
          "source": "api:only1.yaml",
          "actor": "127.0.0.1:40022",
          "comment": "",
          "rollback_of": null,
          "undoes": 7,
          "rollout": "succeeded",
          "refused": [
            {
              "node_id": "n2",
              "rejections": [
                {
                  "resource": "upstream weather",
                  "reason": "local_dependency",
                  "field": "headers.authorization",
                  "message": "the variable WEATHER_TOKEN is not set"
                }
              ]
            }
          ]
        }
      ]
    }
    "#);
}

#[test]
fn those_who_wait_hear_how_far_it_is() {
    let running = Rollout {
        state: RolloutState::Running,
        wave: 2,
        waves: 3,
        applied: 1,
        sent: 2,
        waiting: 7,
        ..Rollout::default()
    };
    insta::assert_snapshot!(progress(&running), @"wave 2 of 3: 1 of 10 nodes run it, 2 sent");
    insta::assert_snapshot!(progress(&Rollout { wave: 0, away: 3, ..running.clone() }), @"waiting for nodes to come back, 2 sent, 3 away");
    let back = Rollout { state: RolloutState::RollingBack, applied: 1, sent: 2, ..rolled_back() };
    insta::assert_snapshot!(progress(&back), @"node `n2` refused it: weather: headers.authorization: the variable WEATHER_TOKEN is not set; going back: 1 of 3 nodes run what ran before, 2 sent");
}

#[test]
fn the_history_says_who_why_and_what_became_of_it() {
    let revisions = [
        Revision {
            actor: "control plane".into(),
            comment: BECAUSE.into(),
            rollback_of: Some(7),
            undoes: Some(8),
            created_at: Some(moment("2026-11-21T17:00:00Z")),
            ..revision(9)
        },
        Revision { rollout: RolloutState::RolledBack, comment: "a backup for files".into(), ..revision(8) },
        Revision { rollback_of: Some(5), comment: "calls of files time out".into(), ..revision(7) },
        Revision { rollout: RolloutState::Superseded, ..revision(6) },
        Revision { rollout: RolloutState::Failed, refused: vec![refuser()], ..revision(5) },
        Revision {
            actor: String::new(),
            source: "file:/etc/only1.yaml".into(),
            created_at: None,
            ..revision(4)
        },
    ];
    insta::assert_snapshot!(history_page(&revisions, moment(NOW), &TimeZone::UTC).paint(false), @"
    REVISION  VERSION  WHEN      ROLLOUT      WHO              WHAT
    9         1.9      17:00:00  rolled out   control plane    takes 8 back: 7 again
      node `n2` refused it: weather: headers.authorization: the variable WEATHER_TOKEN is not set
    8         1.8      16:00:00  rolled back  127.0.0.1:40022  api:only1.yaml
      a backup for files
    7         1.7      16:00:00  rolled out   127.0.0.1:40022  5 again
      calls of files time out
    6         1.6      16:00:00  superseded   127.0.0.1:40022  api:only1.yaml
    5         1.5      16:00:00  refused      127.0.0.1:40022  api:only1.yaml
        n2 refused it:
          upstream weather, headers.authorization: the variable WEATHER_TOKEN is not set (local_dependency)
    4         1.4      –         rolled out   –                file:/etc/only1.yaml
    ");
    insta::assert_snapshot!(history_page(&[], moment(NOW), &TimeZone::UTC).paint(false), @"no configuration was ever accepted");
    insta::assert_snapshot!(about(&revisions[1], moment(NOW), &TimeZone::UTC).paint(false), @"
    version 1.8 · 16:00:00 · by 127.0.0.1:40022 · api:only1.yaml · rolled back
      a backup for files
    ");
}

#[test]
fn a_difference_is_shown_line_by_line_and_said_in_words() {
    let (revision, running) = (revision(7), "upstreams:\n  a:\n    headers: {X: \"<redacted>\"}\n");
    let with = |new: &'static str, same_meaning| Difference {
        revision: &revision,
        running,
        file: "only1.yaml",
        new,
        same_meaning,
    };
    let more = with("upstreams:\n  a:\n    headers: {X: \"<redacted>\"}\n  \u{1b}b: {}\n", false);
    insta::assert_snapshot!(difference_page(&more).paint(false), @r#"
    --- running 1.7
    +++ only1.yaml
    @@ -1,3 +1,4 @@
     upstreams:
       a:
         headers: {X: "<redacted>"}
    +  \u{1b}b: {}

    nodes would run something else (running 1.7, only1.yaml)
    "#);
    insta::assert_snapshot!(json::pretty(&difference_report(&more)), @r#"
    {
      "version": {
        "generation": 1,
        "revision": 7,
        "digest": "0000000000000000000000000000000000000000000000000000000000000007"
      },
      "file": "only1.yaml",
      "differs": true,
      "same_meaning": false,
      "diff": "--- running 1.7\n+++ only1.yaml\n@@ -1,3 +1,4 @@\n upstreams:\n   a:\n     headers: {X: \"<redacted>\"}\n+  \u001bb: {}\n"
    }
    "#);
    insta::assert_snapshot!(difference_page(&with(running, true)).paint(false), @"nothing differs (running 1.7, only1.yaml)");
    insta::assert_snapshot!(difference_page(&with(running, false)).paint(false), @"a value differs that is not shown (running 1.7, only1.yaml)");
    let comment = with("# a\nupstreams:\n  a:\n    headers: {X: \"<redacted>\"}\n", true);
    insta::assert_snapshot!(difference_page(&comment).paint(false), @r#"
    --- running 1.7
    +++ only1.yaml
    @@ -1,3 +1,4 @@
    +# a
     upstreams:
       a:
         headers: {X: "<redacted>"}

    only the text differs: nodes would run the same (running 1.7, only1.yaml)
    "#);
    assert!(with(running, true).is_none() && !comment.is_none() && !with(running, false).is_none());
}

#[test]
fn the_status_says_what_is_on_its_way_and_what_came_back() {
    let shown = |state, refused| {
        let mut status = fleet();
        status.control_plane.rollout = Some(RolloutSummary {
            state,
            revision: 8,
            wave: 2,
            waves: 3,
            applied: 1,
            nodes: 3,
            because: if state == RolloutState::Running { String::new() } else { BECAUSE.into() },
        });
        if let Some(source) = &mut status.control_plane.source {
            source.refused = refused;
            source.problems = vec![Problem { what: "x".into(), ..Problem::default() }];
        }
        let (now, zone) = (moment(NOW), TimeZone::UTC);
        let view = View { only: None, nodes: None, verbose: false, columns: None, now, zone: &zone };
        page(&status, &view).paint(false).lines().nth(1).unwrap_or_default().to_owned()
    };
    insta::assert_snapshot!(shown(RolloutState::Running, false), @"revision 8 is on its way: wave 2 of 3, 1 of 3 nodes run it");
    insta::assert_snapshot!(shown(RolloutState::RollingBack, false), @"⚠️ revision 8 is taken back, 1 of 3 nodes run what ran before: node `n2` refused it: weather: headers.authorization: the variable WEATHER_TOKEN is not set");
    insta::assert_snapshot!(shown(RolloutState::RolledBack, false), @"⚠️ revision 8 was rolled back: node `n2` refused it: weather: headers.authorization: the variable WEATHER_TOKEN is not set");
    assert_eq!(shown(RolloutState::RolledBack, true), "", "it stands with the file");
    assert_eq!(shown(RolloutState::Succeeded, false), "");
}
