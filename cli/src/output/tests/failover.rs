use super::{NOW, fleet, moment, upstream};
use crate::{
    events::{Event, EventKind},
    failover::{
        BreakerState, Decision, DecisionReason, DecisionState, Failover, Health, Mode, Node, Phase, Refusal,
        Stats, Store, Verdict, Writes,
    },
    model::{Status, UpstreamState},
    output::{
        failover::explain,
        status::{View, page},
    },
    verdict::{self, Verdict as Judged},
};
use jiff::tz::TimeZone;
use std::time::Duration;

static UTC: TimeZone = TimeZone::UTC;

pub(crate) fn health(verdict: Verdict) -> Health {
    let healthy = Health {
        verdict,
        breaker: Some(BreakerState::Closed),
        consecutive: 3,
        since: Some(moment("2026-11-21T14:50:00Z")),
        checked_at: Some(moment("2026-11-21T17:04:58Z")),
        latency: Some(Duration::from_micros(800)),
        error: String::new(),
    };
    match verdict {
        Verdict::Healthy => healthy,
        Verdict::Unknown => Health::default(),
        Verdict::Unhealthy => Health {
            breaker: Some(BreakerState::Open),
            since: Some(moment("2026-11-21T17:02:11Z")),
            latency: None,
            error: "connection refused".into(),
            ..healthy
        },
    }
}

pub(crate) fn on(name: &str, store: Store) -> Node {
    let (phase, since, primary) = match store {
        Store::Primary => (Phase::Primary, "2026-11-21T14:50:00Z", Verdict::Healthy),
        Store::Backup => (Phase::Backup, "2026-11-21T17:02:13Z", Verdict::Unhealthy),
    };
    Node {
        node_id: name.into(),
        connected: true,
        heard_at: Some(moment("2026-11-21T17:04:58Z")),
        active_store: Some(store),
        phase: Some(phase),
        term: 3,
        local_term: 0,
        journal_pending: 0,
        dead_letters: 0,
        since: Some(moment(since)),
        refusal: None,
        message: String::new(),
        primary_health: health(primary),
        backup_health: health(Verdict::Healthy),
        stats: Stats::default(),
    }
}

/// Three nodes on the primary, which is well; its backup is a snapshot.
pub(crate) fn at_rest() -> Failover {
    Failover {
        decision: Decision::Healthy,
        desired: Some(Store::Primary),
        term: 2,
        mode: Mode::Auto,
        mode_until: None,
        nodes_on_primary: 3,
        nodes_on_backup: 0,
        nodes_provisional: 0,
        nodes_lagging: 0,
        observers: 3,
        observers_unhealthy: 0,
        observers_healthy: 3,
        primary_verdict: Verdict::Healthy,
        backup_verdict: Verdict::Healthy,
        primary_breaker: Some(BreakerState::Closed),
        since: Some(moment("2026-11-21T14:50:00Z")),
        hold_until: None,
        healthy_since: None,
        stable: Some(Duration::from_secs(30)),
        last_reason: Some(DecisionReason::Initial),
        because: String::new(),
        journal_pending: 0,
        backup_kind: "snapshot".into(),
        writes: Some(Writes::Journal),
        stats: Stats {
            failover_count: 3,
            total_failover_time: Some(Duration::from_secs(724)),
            last_failover_time: Some(moment("2026-11-21T17:02:13Z")),
            last_restoration_time: Some(moment("2026-11-20T09:00:00Z")),
            backup_syncs_completed: 120,
            last_backup_sync: Some(moment("2026-11-21T16:59:58Z")),
            total_backup_sync_time: Some(Duration::from_millis(340)),
            sync_back_operations: 2,
            entries_synced_back: 24,
            entries_in_failover: 36,
            total_sync_back_time: Some(Duration::from_millis(1_200)),
            active_store: Some(Store::Primary),
            backup_file_exists: true,
            backup_file_size_bytes: 1_200_000,
            provisional_failovers: 1,
            ..Stats::default()
        },
        nodes: ["n1", "n2", "n3"].map(|name| on(name, Store::Primary)).into(),
    }
}

/// The primary is gone, the snapshot answers, twelve writes wait.
pub(crate) fn failed_over() -> Failover {
    let mut nodes = ["n1", "n2", "n3"].map(|name| on(name, Store::Backup));
    nodes[0].journal_pending = 12;
    Failover {
        decision: Decision::FailedOver,
        desired: Some(Store::Backup),
        term: 3,
        nodes_on_primary: 0,
        nodes_on_backup: 3,
        observers_unhealthy: 3,
        observers_healthy: 0,
        primary_verdict: Verdict::Unhealthy,
        primary_breaker: Some(BreakerState::Open),
        since: Some(moment("2026-11-21T17:02:13Z")),
        hold_until: Some(moment("2026-11-21T17:06:13Z")),
        last_reason: Some(DecisionReason::QuorumUnhealthy),
        because: "3 of 3 fresh observers see the primary unhealthy".into(),
        journal_pending: 12,
        nodes: nodes.into(),
        ..at_rest()
    }
}

fn with(failover: Failover) -> Status {
    let mut status = fleet();
    status.control_plane.decisions = Some(DecisionState::Active);
    let mut files = upstream("files", UpstreamState::Healthy);
    files.backup = Some("the node's own snapshot".into());
    files.failover = Some(failover);
    status.upstreams[0] = files;
    status
}

fn view() -> View<'static> {
    View { only: None, nodes: None, verbose: false, columns: None, now: moment(NOW), zone: &UTC }
}

fn text(failover: Failover) -> String {
    page(&with(failover), &view()).paint(false)
}

/// What is said below the row of `files`, and the row's state.
fn told(change: impl FnOnce(&mut Failover)) -> String {
    let mut failover = failed_over();
    change(&mut failover);
    let text = text(failover);
    let mut lines = text.lines().skip_while(|line| !line.starts_with("files"));
    let cells: Vec<_> = lines.next().unwrap().split("  ").filter(|cell| !cell.is_empty()).take(3).collect();
    let below = lines.take_while(|line| line.starts_with(' '));
    [cells.join(" |")].into_iter().chain(below.map(str::to_owned)).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_failover_says_why_what_becomes_of_calls_and_what_happens_next() {
    insta::assert_snapshot!(text(failed_over()), @"
        only1 · control plane 127.0.0.1:7400 up 2h 15m · config rev 7, applied by 3 of 3 nodes · decisions active

        UPSTREAM  STATE       STORE     SINCE   BREAKER  NODES  ERAS  TOOLS  REQ/S  P50    P99    ERRORS  CACHE  LAST BACKUP SYNC
        files     ⚠️ backup   snapshot  2m 47s  open     3/3    both  5      412    1.2ms  4.0ms  <0.1%   81%    5m 2s ago, 1.2 MB
          Primary unhealthy: connection refused on 3 of 3 nodes since 17:02:11. Reads come from the snapshot, marked stale; 12 writes wait in the journal.
          Restored by itself once the primary has been healthy for 30s, not before 17:06:13. More: o1ctl explain files
        weather   ✅ healthy  –         2h 15m  –        3/3    both  5      412    1.2ms  4.0ms  <0.1%   81%    –

        NODES  3 connected · 3 synced
        ");
}

#[test]
fn at_rest_there_is_nothing_to_say() {
    insta::assert_snapshot!(text(at_rest()), @"
        only1 · control plane 127.0.0.1:7400 up 2h 15m · config rev 7, applied by 3 of 3 nodes · decisions active

        UPSTREAM  STATE       STORE    SINCE   BREAKER  NODES  ERAS  TOOLS  REQ/S  P50    P99    ERRORS  CACHE  LAST BACKUP SYNC
        files     ✅ primary  primary  2h 15m  closed   3/3    both  5      412    1.2ms  4.0ms  <0.1%   81%    5m 2s ago, 1.2 MB
        weather   ✅ healthy  –        2h 15m  –        3/3    both  5      412    1.2ms  4.0ms  <0.1%   81%    –

        NODES  3 connected · 3 synced
        ");
}

#[test]
fn every_stage_of_a_failover_has_its_own_words() {
    insta::assert_snapshot!(told(|failover| {
        failover.decision = Decision::Suspect;
        (failover.observers_unhealthy, failover.observers_healthy) = (1, 2);
        (failover.nodes_on_primary, failover.nodes_on_backup) = (3, 0);
        failover.nodes = at_rest().nodes;
        failover.nodes[1].primary_health = health(Verdict::Unhealthy);
        (failover.primary_verdict, failover.journal_pending) = (Verdict::Healthy, 0);
    }), @"
        files | ⚠️ suspect |primary
          Primary unhealthy: connection refused on 1 of 3 nodes since 17:02:11. Reads and writes go to the primary.
          1 of 3 fresh observers see the primary unhealthy: fails over by itself when enough do. More: o1ctl explain files
        ");
    insta::assert_snapshot!(told(|failover| {
        failover.decision = Decision::FailingOver;
        (failover.nodes_on_primary, failover.nodes_on_backup, failover.nodes_lagging) = (1, 2, 1);
        failover.nodes[2] = on("n3", Store::Primary);
        failover.nodes[2].phase = Some(Phase::DrainingPrimary);
        failover.nodes[2].primary_health = health(Verdict::Unhealthy);
    }), @"
        files | ⚠️ failing over… |snapshot 2/3
          Primary unhealthy: connection refused on 3 of 3 nodes since 17:02:11. Reads come from the snapshot on 2 of 3 nodes, marked stale; 12 writes wait in the journal.
          Node n3 is on its way to the backup. More: o1ctl explain files
        ");
    insta::assert_snapshot!(told(|failover| {
        (failover.hold_until, failover.healthy_since) = (None, Some(moment("2026-11-21T17:04:48Z")));
        (failover.observers_unhealthy, failover.observers_healthy) = (0, 3);
        failover.primary_verdict = Verdict::Healthy;
        failover.nodes.iter_mut().for_each(|node| node.primary_health = health(Verdict::Healthy));
    }), @"
        files | ⚠️ backup | snapshot
          It was decided for the backup: 3 of 3 fresh observers see the primary unhealthy. Reads come from the snapshot, marked stale; 12 writes wait in the journal.
          The primary has been healthy for 12s: restored by itself once it has been for 30s. More: o1ctl explain files
        ");
    // One node's breaker is still open.
    insta::assert_snapshot!(told(|failover| {
        (failover.hold_until, failover.healthy_since) = (None, Some(moment("2026-11-21T17:04:48Z")));
        (failover.observers_unhealthy, failover.observers_healthy) = (1, 2);
        failover.primary_verdict = Verdict::Healthy;
        failover.nodes.iter_mut().skip(1).for_each(|node| node.primary_health = health(Verdict::Healthy));
    }), @"
        files | ⚠️ backup | snapshot
          Primary unhealthy: connection refused on 1 of 3 nodes since 17:02:11. Reads come from the snapshot, marked stale; 12 writes wait in the journal.
          For enough observers the primary has been healthy for 12s: restored by itself once it has been for 30s. More: o1ctl explain files
        ");
}

#[test]
fn every_other_stage_has_its_own_words() {
    insta::assert_snapshot!(told(|failover| {
        (failover.decision, failover.desired) = (Decision::SyncingBack, Some(Store::Primary));
        failover.nodes.iter_mut().for_each(|node| {
            node.phase = Some(Phase::SyncingBack);
            node.primary_health = health(Verdict::Healthy);
        });
        failover.because = "3 of 3 fresh observers have seen it healthy for 30s".into();
    }), @"
        files | ⚠️ syncing back… |snapshot
          It was decided for the primary: 3 of 3 fresh observers have seen it healthy for 30s. Reads come from the snapshot, marked stale; 12 writes wait in the journal.
          12 writes are being replayed to the primary, which takes over when none is left. More: o1ctl explain files
        ");
    insta::assert_snapshot!(told(|failover| {
        failover.decision = Decision::Blocked;
        (failover.nodes_on_primary, failover.nodes_on_backup) = (3, 0);
        failover.backup_verdict = Verdict::Unhealthy;
        (failover.backup_kind, failover.journal_pending) = ("endpoints".into(), 0);
        failover.nodes.iter_mut().for_each(|node| node.active_store = Some(Store::Primary));
    }), @"
        files | ❌ blocked |primary
          Primary unhealthy: connection refused on 3 of 3 nodes since 17:02:11. Reads and writes to the primary fail.
          Neither store works: everything stays where it is until one of them does. More: o1ctl explain files
        ");
    insta::assert_snapshot!(told(|failover| {
        failover.decision = Decision::Suspect;
        (failover.nodes_on_primary, failover.nodes_on_backup) = (3, 0);
        (failover.nodes_provisional, failover.journal_pending) = (3, 0);
        failover.nodes.iter_mut().for_each(|node| {
            (node.active_store, node.phase) = (Some(Store::Primary), Some(Phase::Provisional));
        });
    }), @"
        files | ⚠️ provisional |primary
          Primary unhealthy: connection refused on 3 of 3 nodes since 17:02:11. Reads come from the snapshot, marked stale; writes are refused until the control plane decides.
          3 of 3 fresh observers see the primary unhealthy: fails over by itself when enough do. More: o1ctl explain files
        ");
}

#[test]
fn what_an_operator_did_is_told_before_what_nodes_see() {
    insta::assert_snapshot!(told(|failover| {
        (failover.last_reason, failover.because) = (Some(DecisionReason::Manual), "the disk is replaced".into());
    }), @"
        files | ⚠️ backup | snapshot
          An operator ordered the backup: the disk is replaced. Reads come from the snapshot, marked stale; 12 writes wait in the journal.
          Restored by itself once the primary has been healthy for 30s, not before 17:06:13. More: o1ctl explain files
        ");
    insta::assert_snapshot!(told(|failover| {
        failover.mode = Mode::PinBackup;
        failover.mode_until = Some(moment("2026-11-21T18:00:00Z"));
        failover.because = "the disk is replaced".into();
    }), @"
        files | ⚠️ backup | snapshot
          An operator pinned it to the backup: the disk is replaced. Reads come from the snapshot, marked stale; 12 writes wait in the journal.
          Pinned to the backup: nothing happens by itself until 18:00:00. More: o1ctl explain files
        ");
    insta::assert_snapshot!(told(|failover| {
        *failover = at_rest();
        failover.mode = Mode::PinPrimary;
    }), @"
        files | ✅ primary |primary
          Pinned to the primary: nothing happens by itself until somebody runs o1ctl unpin files. More: o1ctl explain files
        ");
}

#[test]
fn writes_are_told_by_what_the_configuration_says() {
    let writes = |writes, waiting| {
        let told = told(|failover| (failover.writes, failover.journal_pending) = (writes, waiting));
        told.lines().nth(1).unwrap().rsplit_once("02:11. ").unwrap().1.to_owned()
    };
    insta::assert_snapshot!([
        writes(Some(Writes::Reject), 0),
        writes(Some(Writes::Journal), 1),
        writes(Some(Writes::PassThrough), 0),
        writes(None, 0),
        writes(None, 2),
    ].join("\n"), @"
        Reads come from the snapshot, marked stale; writes are refused.
        Reads come from the snapshot, marked stale; 1 write waits in the journal.
        Reads and writes come from the snapshot, marked stale.
        Reads come from the snapshot, marked stale; writes are refused.
        Reads come from the snapshot, marked stale; 2 writes wait in the journal.
        ");
}

#[test]
fn what_stands_in_the_way_is_told_with_a_way_out() {
    insta::assert_snapshot!(told(|failover| {
        failover.nodes[0].refusal = Some(Refusal::DeadLetters);
        failover.nodes[0].dead_letters = 2;
        failover.nodes[1].refusal = Some(Refusal::NotDurable);
        failover.nodes[1].message = "no space left on device".into();
    }), @"
        files | ⚠️ backup | snapshot
          Primary unhealthy: connection refused on 3 of 3 nodes since 17:02:11. Reads come from the snapshot, marked stale; 12 writes wait in the journal.
          Restored by itself once the primary has been healthy for 30s, not before 17:06:13. More: o1ctl explain files
          node n1 does not follow: the primary refused writes for good; o1ctl restore files --force --reason TEXT gives them up
          node n2 does not follow: its disk failed (no space left on device); see its log
        ");
    insta::assert_snapshot!(told(|failover| {
        *failover = at_rest();
        failover.nodes[0].dead_letters = 1;
    }), @"
        files | ✅ primary |primary
          1 write was refused by the primary for good (dead letters): o1ctl events --upstream files --type dead_lettered
        ");
}

#[test]
fn a_control_plane_that_does_not_decide_says_so_at_the_top_and_where_it_matters() {
    let states = [
        DecisionState::Active,
        DecisionState::WarmingUp,
        DecisionState::Frozen,
        DecisionState::Maintenance,
        DecisionState::Shadow,
    ];
    let mut lines = Vec::new();
    for state in states {
        let mut status = with(failed_over());
        status.control_plane.decisions = Some(state);
        if state == DecisionState::Maintenance {
            status.control_plane.decisions_because = "the network is rebuilt, until 18:00:00".into();
        }
        let text = page(&status, &view()).paint(false);
        lines.push(text.lines().next().unwrap().rsplit_once(" · ").unwrap().1.to_owned());
        lines.extend(text.lines().nth(1).filter(|line| !line.is_empty()).map(|line| format!("  {line}")));
        lines.extend(text.lines().find(|line| line.contains("More:")).map(str::to_owned));
    }
    insta::assert_snapshot!(lines.join("\n"), @"
        decisions active
          Restored by itself once the primary has been healthy for 30s, not before 17:06:13. More: o1ctl explain files
        decisions warming up
          ⚠️ decisions warming up
          The control plane has just started: it decides when the nodes are back. More: o1ctl explain files
        decisions frozen
          ⚠️ decisions frozen
          Decisions are frozen: nodes decide by themselves until the control plane does. More: o1ctl explain files
        decisions maintenance
          ⚠️ decisions maintenance: the network is rebuilt, until 18:00:00
          Nothing happens by itself until somebody runs o1ctl maintenance off. More: o1ctl explain files
        decisions shadow
          ⚠️ decisions shadow
          The control plane logs what it would decide, and orders nothing (shadow). More: o1ctl explain files
        ");
}

#[test]
fn eighty_columns_keep_where_it_stands_and_how_it_does() {
    let shown = |columns| page(&with(failed_over()), &View { columns: Some(columns), ..view() }).paint(false);
    insta::assert_snapshot!(shown(80).lines().skip(2).take(2).collect::<Vec<_>>().join("\n"), @"
        UPSTREAM  STATE       STORE     SINCE   BREAKER  NODES  REQ/S  P99    ERRORS
        files     ⚠️ backup   snapshot  2m 47s  open     3/3    412    4.0ms  <0.1%
        ");
    insta::assert_snapshot!(shown(120).lines().skip(2).take(2).collect::<Vec<_>>().join("\n"), @"
        UPSTREAM  STATE       STORE     SINCE   BREAKER  NODES  TOOLS  REQ/S  P50    P99    ERRORS  CACHE  LAST BACKUP SYNC
        files     ⚠️ backup   snapshot  2m 47s  open     3/3    5      412    1.2ms  4.0ms  <0.1%   81%    5m 2s ago, 1.2 MB
        ");
    let below = |columns| shown(columns).lines().skip(4).take(3).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(below(80), @"
        Primary unhealthy: connection refused on 3 of 3 nodes since 17:02:11. Reads
        come from the snapshot, marked stale; 12 writes wait in the journal.
        Restored by itself once the primary has been healthy for 30s, not before
        ");
    for columns in [60, 80, 100, 120] {
        let widths: Vec<_> = shown(columns).lines().skip(1).map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width <= columns), "{columns}: {widths:?}");
    }
}

#[test]
fn verbose_shows_each_node_and_the_account() {
    let mut failover = failed_over();
    failover.nodes[2].connected = false;
    failover.nodes[1].local_term = 1;
    let status = with(failover);
    let page = page(&status, &View { verbose: true, only: Some("files"), ..view() });
    insta::assert_snapshot!(page.paint(false), @"
        only1 · control plane 127.0.0.1:7400 up 2h 15m · config rev 7, applied by 3 of 3 nodes · decisions active

        UPSTREAM  STATE      STORE     SINCE   BREAKER  NODES  ERAS  TOOLS  REQ/S  P50    P99    ERRORS  CACHE  LAST BACKUP SYNC
        files     ⚠️ backup  snapshot  2m 47s  open     3/3    both  5      412    1.2ms  4.0ms  <0.1%   81%    5m 2s ago, 1.2 MB
          Primary unhealthy: connection refused on 2 of 2 nodes since 17:02:11. Reads come from the snapshot, marked stale; 12 writes wait in the journal.
          Restored by itself once the primary has been healthy for 30s, not before 17:06:13. More: o1ctl explain files
          primary: http://127.0.0.1:3101/mcp · backup: the node's own snapshot
          12345 requests, 2 errors (timeouts: 1), 30 application errors, 4 in flight, 35 MB in, 1.2 kB out
          endpoint http://127.0.0.1:3101/mcp: 12345 picks, 4 in flight
          cache resources: 797 hits, 3 stale, 40 misses, 12 coalesced; 23 entries, 1.2 MB
          failovers: 3 (1 begun by nodes themselves), 12m 4s in all, last 17:02:13, last restoration 2026-11-20 09:00:00
          backup syncs: 120, 0 failed, 340ms in all, last 16:59:58, 1.2 MB
          sync-backs: 2, 0 failed, 24 entries of 36 replayed in 1.2s, 0 dead letters
          NODE  STORE   PHASE          TERM  SINCE     PRIMARY    BREAKER  BACKUP          JOURNAL  DEAD
          n1    backup  on the backup  3     17:02:13  unhealthy  open     healthy, 0.8ms  12       0
            primary: connection refused
          n2    backup  on the backup  3+1   17:02:13  unhealthy  open     healthy, 0.8ms  0        0
            primary: connection refused
          n3    backup  on the backup  3     17:02:13  unhealthy  open     healthy, 0.8ms  0        0
            not connected: this is what it said last
            primary: connection refused
        ");
}

fn explained(status: &Status, decided: Option<&Event>, columns: Option<usize>) -> String {
    let upstream = &status.upstreams[0];
    let verdict = verdict::of_upstream(status, Some(upstream), moment(NOW));
    let question = explain::Question { upstream, status, decided, verdict, columns, zone: &UTC };
    explain::page(&explain::answer(&question), &question).paint(false)
}

pub(crate) fn event(kind: EventKind) -> Event {
    Event {
        position: 41,
        at: Some(moment("2026-11-21T17:02:13.250Z")),
        node_id: "n1".into(),
        node_uid: "00ff".into(),
        epoch: 3,
        seq: 17,
        uptime: Some(Duration::from_secs(7_930)),
        kind,
        upstream: "files".into(),
        term: 3,
        local_term: 0,
        phase_from: None,
        phase_to: None,
        decision_id: "d-3".into(),
        reason: String::new(),
        duration: None,
        entries: 0,
        bytes: 0,
        active_store: None,
        breaker: None,
        stored_at: Some(moment("2026-11-21T17:02:13.300Z")),
    }
}

#[test]
fn an_upstream_is_explained_with_what_keeps_it_and_what_can_be_done() {
    let decided = Event {
        node_id: String::new(),
        reason: "3 of 3 fresh observers see the primary unhealthy, quorum 2/3, backup healthy".into(),
        ..event(EventKind::Decided)
    };
    insta::assert_snapshot!(explained(&with(failed_over()), Some(&decided), None), @"
        files
          ⚠️ backup; store: snapshot since 17:02:13

          decision  backup (term 3, quorum_unhealthy) since 17:02:13: 3 of 3 fresh observers see the primary unhealthy, quorum 2/3, backup healthy
          why       primary unhealthy: connection refused on 3 of 3 nodes since 17:02:11
          reads     come from the snapshot, marked stale
          writes    of `journal_tools` are kept in the journal, others are refused; 12 wait there
          primary   http://127.0.0.1:3101/mcp, unhealthy, breaker open; 3 fresh observers: 3 unhealthy, 0 healthy
          backup    the node's own snapshot, healthy
          kept by   a failover lasts a while, so that it does not flap: until 17:06:13
                    the primary is not healthy for enough nodes: 0 of 3 observers see it healthy
                    12 writes in journals: the primary takes over when none is left
          next      Restored by itself once the primary has been healthy for 30s, not before 17:06:13

          NODE  STORE   PHASE          TERM  SINCE     PRIMARY    BREAKER  BACKUP          JOURNAL  DEAD
          n1    backup  on the backup  3     17:02:13  unhealthy  open     healthy, 0.8ms  12       0
            primary: connection refused
          n2    backup  on the backup  3     17:02:13  unhealthy  open     healthy, 0.8ms  0        0
            primary: connection refused
          n3    backup  on the backup  3     17:02:13  unhealthy  open     healthy, 0.8ms  0        0
            primary: connection refused

          o1ctl restore files --reason TEXT --force      # the primary now, although it is not known to work
          o1ctl pin files backup --for 1h --reason TEXT  # it stays where it is
          o1ctl events --upstream files                  # what happened
        ");
    insta::assert_snapshot!(explained(&with(at_rest()), None, None), @"
        files
          ✅ primary; store: primary since 14:50:00

          decision  primary (term 2, initial) since 14:50:00
          reads     go to the primary
          writes    go to the primary
          primary   http://127.0.0.1:3101/mcp, healthy, breaker closed; 3 fresh observers: 0 unhealthy, 3 healthy
          backup    the node's own snapshot, healthy
          next      Fails over by itself when the primary is unhealthy

          NODE  STORE    PHASE           TERM  SINCE     PRIMARY         BREAKER  BACKUP          JOURNAL  DEAD
          n1    primary  on the primary  3     14:50:00  healthy, 0.8ms  closed   healthy, 0.8ms  0        0
          n2    primary  on the primary  3     14:50:00  healthy, 0.8ms  closed   healthy, 0.8ms  0        0
          n3    primary  on the primary  3     14:50:00  healthy, 0.8ms  closed   healthy, 0.8ms  0        0

          o1ctl failover files --reason TEXT              # the backup now, by hand
          o1ctl pin files primary --for 1h --reason TEXT  # it stays where it is
          o1ctl events --upstream files                   # what happened
        ");
    let narrow = explained(&with(failed_over()), Some(&decided), Some(80));
    insta::assert_snapshot!(narrow.lines().skip(3).take(5).collect::<Vec<_>>().join("\n"), @"
        decision  backup (term 3, quorum_unhealthy) since 17:02:13: 3 of 3 fresh
                  observers see the primary unhealthy, quorum 2/3, backup healthy
        why       primary unhealthy: connection refused on 3 of 3 nodes since 17:02:11
        reads     come from the snapshot, marked stale
        writes    of `journal_tools` are kept in the journal, others are refused; 12
        ");
    let mut pinned = failed_over();
    (pinned.mode, pinned.decision) = (Mode::PinBackup, Decision::SyncingBack);
    let mut status = with(pinned);
    status.control_plane.decisions = Some(DecisionState::Maintenance);
    let explained = explained(&status, None, None);
    for line in ["pinned to the backup", "o1ctl unpin files --reason TEXT", "o1ctl maintenance off"] {
        assert!(explained.contains(line), "{line} is missing in {explained}");
    }
}

#[test]
fn an_upstream_without_a_backup_is_explained_too() {
    let mut status = fleet();
    status.upstreams[0] = upstream("files", UpstreamState::Unreachable);
    status.upstreams[0].backup = None;
    insta::assert_snapshot!(explained(&status, None, None), @"
        files
          ❌ unreachable

          primary   http://127.0.0.1:3101/mcp
          error     connection refused
          error     no answer within 10s
          backup    none: when the primary fails, calls fail. `backup` in its configuration names one
        ");
}

#[test]
fn a_failover_is_told_from_trouble_by_the_exit_code() {
    let judge = |failover| verdict::of_fleet(&with(failover), moment(NOW));
    assert_eq!(judge(at_rest()), Judged::Healthy);
    assert_eq!(judge(failed_over()), Judged::FailoverActive);
    let changed = |change: fn(&mut Failover)| {
        let mut failover = at_rest();
        change(&mut failover);
        judge(failover)
    };
    assert_eq!(changed(|failover| failover.decision = Decision::Suspect), Judged::Degraded);
    assert_eq!(changed(|failover| failover.decision = Decision::Blocked), Judged::Degraded, "on the primary");
    assert_eq!(changed(|failover| failover.nodes_provisional = 1), Judged::FailoverActive);
    assert_eq!(
        changed(|failover| failover.nodes_on_backup = 1),
        Judged::FailoverActive,
        "one node is enough"
    );
    assert_eq!(changed(|failover| failover.decision = Decision::SyncingBack), Judged::FailoverActive);
    let mut both = with(failed_over());
    both.nodes.rejected = 1;
    assert_eq!(verdict::of_fleet(&both, moment(NOW)), Judged::FailoverActive, "whatever else is wrong");
    both.as_of = None;
    assert_eq!(verdict::of_fleet(&both, moment(NOW)), Judged::Stale, "that may be over");
    let status = with(failed_over());
    assert_eq!(verdict::of_upstream(&status, Some(&status.upstreams[1]), moment(NOW)), Judged::Healthy);
    assert_eq!(
        verdict::of_upstream(&status, Some(&status.upstreams[0]), moment(NOW)),
        Judged::FailoverActive
    );
}
