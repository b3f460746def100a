//! The states that a fleet can be in, as each list shows them, at 80 columns, at 200 and in a pipe; with colour once.
//! What is said when there is no answer is in `cli/tests/command_line/failures.rs`.

use super::{NOW, failover, fleet, moment, node, refused, rejecting, upstream};
use crate::{
    model::{ConfigVersion, DrainOrder, Node, NodeState, Status, SyncState, Upstream, UpstreamState},
    output::{
        drain::{self, Seen, Waited},
        nodes,
        page::Page,
        status::{View, page},
        upstreams,
    },
};
use jiff::tz::TimeZone;
use std::time::Duration;

struct Scene {
    name: &'static str,
    status: Status,
    nodes: Vec<Node>,
    /// When somebody looks.
    now: &'static str,
}

fn three() -> Vec<Node> {
    ["n1", "n2", "n3"].map(node).into()
}

/// So many nodes, every hundredth of them away.
fn crowd(count: u32) -> Scene {
    let mut nodes: Vec<_> = (1..=count).map(|number| node(&format!("node-{number:03}"))).collect();
    nodes.iter_mut().step_by(100).for_each(|node| node.state = NodeState::Unreachable);
    let mut status = fleet();
    let away = count.div_ceil(100);
    (status.nodes.connected, status.nodes.synced, status.nodes.unreachable) =
        (count - away, count - away, away);
    for upstream in &mut status.upstreams {
        upstream.nodes_reachable = count - away;
    }
    Scene { name: "300 nodes", status, nodes, now: NOW }
}

fn scenes() -> Vec<Scene> {
    let healthy = Scene { name: "healthy", status: fleet(), nodes: three(), now: NOW };
    let mut degraded = Scene { name: "degraded", status: fleet(), nodes: three(), now: NOW };
    degraded.status.upstreams.push(upstream("shaky", UpstreamState::Degraded));
    degraded.status.upstreams.push(upstream("down", UpstreamState::Unreachable));
    degraded.nodes[1] = rejecting("n2");
    degraded.nodes[2].state = NodeState::Unreachable;
    degraded.nodes.push(Node {
        state: NodeState::Draining,
        drain: Some(DrainOrder { since: Some(moment(NOW)), reason: "it gets a new disk".into() }),
        ..node("n4")
    });
    let counts = &mut degraded.status.nodes;
    (counts.connected, counts.synced, counts.rejected, counts.unreachable, counts.draining) = (3, 2, 1, 1, 1);
    let mut away = Scene { name: "failover", status: fleet(), nodes: three(), now: NOW };
    away.status.upstreams[0] =
        Upstream { failover: Some(failover::failed_over()), ..upstream("files", UpstreamState::Unreachable) };
    let mut config = Scene { name: "refused", status: fleet(), nodes: three(), now: NOW };
    refused(&mut config.status);
    let mut empty = Scene { name: "empty", status: fleet(), nodes: vec![], now: NOW };
    empty.status.upstreams.clear();
    empty.status.nodes = Default::default();
    empty.status.control_plane.target = None::<ConfigVersion>;
    let stale = Scene { name: "stale", status: fleet(), nodes: three(), now: "2026-11-21T17:15:00Z" };
    vec![healthy, degraded, away, config, empty, stale, crowd(300)]
}

fn drawn(scene: &Scene, columns: Option<usize>) -> [(&'static str, Page); 3] {
    let view = View {
        only: None,
        nodes: None,
        verbose: false,
        columns,
        now: moment(scene.now),
        zone: &TimeZone::UTC,
    };
    [
        ("status", page(&scene.status, &view)),
        ("nodes", nodes::page(&scene.nodes, &scene.status, columns)),
        ("upstreams", upstreams::page(&scene.status.upstreams, &scene.status, columns)),
    ]
}

/// The first lines of a long page, and how many there are.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 30;
    let lines: Vec<_> = text.lines().collect();
    match lines.len() {
        ..=SHOWN => text.to_owned(),
        all => format!("{}\n… {all} lines\n", lines[..SHOWN].join("\n")),
    }
}

#[test]
fn each_state_of_a_fleet_as_it_is_shown() {
    for scene in scenes() {
        let mut all = String::new();
        for (width, columns) in [("80 columns", Some(80)), ("200 columns", Some(200)), ("a pipe", None)] {
            for (command, page) in drawn(&scene, columns) {
                let text = shortened(&page.paint(false));
                all.push_str(&format!("$ o1ctl {command}  # {width}\n{text}\n"));
            }
        }
        insta::assert_snapshot!(scene.name.replace(' ', "_"), all);
    }
}

/// Lines of text that others wrote may be longer, and are broken by terminals.
#[test]
fn rows_fit_into_80_columns() {
    use unicode_width::UnicodeWidthStr as _;
    for scene in scenes() {
        for (command, page) in drawn(&scene, Some(80)) {
            let text = page.paint(false);
            let sentence = |line: &&str| {
                ["  ", "only1 ·", "⚠️ CONFIG", "⚠️ stale"].iter().any(|one| line.starts_with(one))
            };
            let rows = text.lines().filter(|line| !sentence(line));
            let long: Vec<_> = rows.filter(|line| line.width() > 80).collect();
            assert!(long.is_empty(), "{} {command}: {long:?}", scene.name);
        }
    }
}

#[test]
fn colour_repeats_what_words_say() {
    for scene in scenes() {
        for (command, page) in drawn(&scene, Some(80)) {
            let (plain, painted) = (page.paint(false), page.paint(true));
            let mut stripped = String::new();
            let mut rest = painted.as_str();
            while let Some((before, after)) = rest.split_once("\u{1b}[") {
                stripped.push_str(before);
                rest = after.split_once('m').expect("a sequence has an end").1;
            }
            stripped.push_str(rest);
            // Blanks at the end of a line are nothing to see.
            let seen = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
            assert_eq!(seen(&stripped), seen(&plain), "{} {command}", scene.name);
        }
    }
    let away = &scenes()[2];
    insta::assert_snapshot!(
        "failover_in_colour",
        drawn(away, Some(80))[0].1.paint(true).replace('\u{1b}', "␛")
    );
}

#[test]
fn what_came_of_a_drain_is_told() {
    let order = DrainOrder { since: Some(moment(NOW)), reason: "it gets a new disk".into() };
    let told = |drain, no_op, waited: Option<&Waited>| {
        let order = Some(&order).filter(|_| drain);
        drain::page(&drain::Done { node_id: "n1", drain, no_op, order, waited }).paint(false)
    };
    let seen = Seen { connected: true, draining: true, sessions: Some(3), in_flight: 1 };
    let limit = Some(Duration::from_secs(60));
    let late = Waited { seen: seen.clone(), took: None, limit };
    let done = Waited {
        seen: Seen { sessions: Some(0), in_flight: 0, ..seen.clone() },
        took: Some(Duration::from_secs(12)),
        limit: None,
    };
    let back = Waited { seen: Seen { draining: false, ..seen.clone() }, ..done.clone() };
    let gone = Waited { seen: Seen::default(), took: None, limit };
    let all = [
        told(true, false, None),
        told(true, true, None),
        told(true, false, Some(&done)),
        told(true, false, Some(&late)),
        told(true, false, Some(&gone)),
        told(false, false, Some(&back)),
        told(false, true, None),
    ];
    insta::assert_snapshot!(all.join("\n"));
    assert_eq!(
        drain::progress("n1", &Seen { draining: false, ..seen.clone() }, true),
        "n1 has not heard it yet"
    );
    assert_eq!(drain::progress("n1", &seen, false), "n1 still drains");
}

#[test]
fn a_node_without_trouble_is_one_row() {
    let text = nodes::page(&three(), &fleet(), Some(80)).paint(false);
    assert_eq!(text.lines().count(), 4, "{text}");
    let pending = Node { sync: SyncState::Pending, ..node("n1") };
    assert_eq!(nodes::page(&[pending], &fleet(), None).paint(false).lines().count(), 2);
}
