//! What is shown of it.

use super::*;
use crate::output::tests::refused;
use crate::{
    failover::Store,
    inspect::{Call, CallOutcome, CallsSeen, NodeCalls},
};
use ratatui::style::Color;

const LARGE: Size = Size { columns: 200, rows: 50 };
const KEYS: [&str; 6] = ["1", "2", "3", "4", "5", "6"];

fn told(size: Size) -> State {
    let mut state = lived(30, size);
    let decided = Event { node_id: String::new(), ..event(EventKind::Decided) };
    state.take(Message::Past([vec![decided], events(1..=2)].concat()), now());
    typed(&mut state, "6");
    state.take(Message::LogOpened("files".into()), now());
    state.take(Message::Log("files".into(), lines("n1", &["ready", "\u{1b}[2Jcannot open /srv"])), now());
    let none = LogPart { node_id: "n2".into(), said: Said::NoProcess };
    state.take(Message::Log("files".into(), none), now());
    state.take(Message::Calls(calls()), now());
    typed(&mut state, "1");
    state
}

fn calls() -> Vec<NodeCalls> {
    let call = |number: i64, node: &str, name: &str, outcome, store| Call {
        at: Some(later(number)),
        node_id: node.into(),
        upstream: "files".into(),
        method: "tools/call".into(),
        name: name.into(),
        outcome,
        took: Some(Duration::from_micros(1200 + 31 * number.unsigned_abs())),
        store,
    };
    use CallOutcome::{ApplicationError, Cached, Ok, Timeout};
    let one = vec![
        call(5, "n1", "write_file", Timeout, Some(Store::Primary)),
        call(3, "n1", "read_text_file", Cached, None),
        call(1, "n1", "a_tool_with_a_name_that_is_rather_long_for_a_small_window", Ok, Some(Store::Primary)),
    ];
    let two = vec![call(2, "n2", "read\u{1b}[2J", ApplicationError, Some(Store::Backup))];
    let told = |node_id: &str, said| NodeCalls { node_id: node_id.into(), said };
    vec![
        told("n1", Result::Ok(CallsSeen { calls: one, seen: 4711, kept: 3 })),
        told("n2", Result::Ok(CallsSeen { calls: two, seen: 1, kept: 1 })),
        told("n3", Err("this build of the node does not know the question".into())),
    ]
}

#[test]
fn calls_are_told_once_and_stay_where_they_are_read() {
    let mut state = viewer(failover(), SMALL);
    typed(&mut state, "3");
    assert!(text(&state).contains("requests: nodes are asked for them"), "{}", text(&state));
    for _ in 0..3 {
        state.take(Message::Calls(calls()), now());
    }
    assert_eq!(text(&state).matches("write_file").count(), 1);
    assert!(text(&state).contains("nodes wrote down 4 of 4712"), "{}", text(&state));
    typed(&mut state, "/cached");
    assert!(text(&state).contains("1 with `cached`") && !text(&state).contains("write_file"));
    press(&mut state, Key::Esc);
    state.take(Message::NoCalls("no node is connected".into()), now());
    assert!(text(&state).contains("no more come: no node is connected"), "{}", text(&state));
}

#[test]
fn every_view_fits_80_columns_and_24_lines() {
    let mut state = told(SMALL);
    for key in KEYS {
        typed(&mut state, key);
        insta::assert_snapshot!(format!("80x24_{}", state.tab.title()), text(&state));
    }
}

#[test]
fn a_large_window_shows_more() {
    let mut state = told(LARGE);
    insta::assert_snapshot!("200x50_overview", text(&state));
    typed(&mut state, "2");
    insta::assert_snapshot!("200x50_upstreams", text(&state));
}

#[test]
fn a_lost_control_plane_is_said_first_with_since_when() {
    let mut state = told(SMALL);
    state.take(Message::Lost { why: "connection refused".into(), again: Duration::from_secs(4) }, later(2));
    state.take(Message::Tick, later(44));
    insta::assert_snapshot!("80x24_stale", text(&state));
    typed(&mut state, "p");
    assert!(text(&state).contains("STALE since 17:05:02 (42s): connection refused"), "paused or not");
}

#[test]
fn a_picture_that_is_old_says_so_although_somebody_answers() {
    let mut state = viewer(fleet(), SMALL);
    state.take(Message::Tick, later(31));
    assert!(text(&state).contains("⚠️ stale: this picture is 31s old"), "{}", text(&state));
}

#[test]
fn an_empty_fleet_is_not_an_empty_page() {
    let mut status = fleet();
    status.upstreams.clear();
    status.nodes = crate::model::NodeCounts::default();
    status.control_plane.target = None;
    let mut state = viewer(status, SMALL);
    insta::assert_snapshot!("80x24_empty", text(&state));
    for (key, said) in [
        ("2", "the control plane waits for a valid configuration"),
        ("4", "nothing was looked up in the cache yet"),
        ("5", "events: none yet"),
        ("6", "no upstreams: there is no log to read"),
    ] {
        typed(&mut state, key);
        assert!(text(&state).contains(said), "{}", text(&state));
    }
}

#[test]
fn a_crowd_is_scrolled_with_the_chosen_row_in_sight() {
    let mut state = viewer(crowd(300), SMALL);
    typed(&mut state, "2");
    for _ in 0..20 {
        press(&mut state, Key::Down);
    }
    insta::assert_snapshot!("80x24_crowd", text(&state));
    typed(&mut state, "Gssssss");
    assert!(text(&state).contains("▸ upstream-299"), "{}", text(&state));
}

#[test]
fn a_filter_says_what_it_leaves() {
    let mut state = viewer(crowd(300), SMALL);
    typed(&mut state, "2/-04");
    insta::assert_snapshot!("80x24_filter", text(&state));
    press(&mut state, Key::Enter);
    assert!(text(&state).contains("/-04 (esc drops it)"), "{}", text(&state));
    typed(&mut state, "/zzz");
    assert!(text(&state).contains("300 upstreams, 0 with `-04zzz`"), "{}", text(&state));
}

#[test]
fn help_names_every_key() {
    let mut state = told(SMALL);
    typed(&mut state, "?");
    insta::assert_snapshot!("80x24_help", text(&state));
    typed(&mut state, "j");
    assert!(!text(&state).contains("page up/down"), "any key closes it");
}

#[test]
fn a_refused_configuration_and_decisions_that_are_not_made_stand_in_the_head() {
    let mut status = failover();
    refused(&mut status);
    status.control_plane.decisions = Some(DecisionState::Maintenance);
    status.control_plane.decisions_because = "the network is rebuilt".into();
    let text = text(&viewer(status, SMALL));
    assert!(text.contains("⚠️ CONFIG REFUSED: /etc/only1.yaml has problems"), "{text}");
    assert!(text.contains("⚠️ decisions maintenance: the network is rebuilt"), "{text}");
}

#[test]
fn without_colour_the_same_words_stand_there() {
    let mut state = told(SMALL);
    state.take(Message::Lost { why: "gone".into(), again: Duration::ZERO }, later(1));
    for key in KEYS {
        typed(&mut state, key);
        let (plain, coloured) = (drawn(&state, false), drawn(&state, true));
        let colours = |buffer: &Buffer| buffer.content.iter().any(|cell| cell.fg != Color::Reset);
        assert!(!colours(&plain) && colours(&coloured), "view {key}");
        assert!(plain.content.iter().all(|cell| cell.bg == Color::Reset), "view {key}");
        let same = plain.content.iter().zip(&coloured.content).all(|(a, b)| a.symbol() == b.symbol());
        assert!(same, "view {key}");
    }
}

/// Also garbage: whatever is typed into whatever window, it is drawn.
#[test]
fn no_window_is_too_small_and_no_key_breaks_it() {
    let mut state = told(SMALL);
    let keys: Vec<char> = "12345jkGghl/sSp ?\u{7f}ß日🦀\0".chars().collect();
    for (number, (columns, rows)) in (0..60).flat_map(|x| (0..30).map(move |y| (x, y))).enumerate() {
        state.take(Message::Resized(Size { columns, rows }), now());
        typed(&mut state, &keys[number % keys.len()].to_string());
        if number % 7 == 0 {
            press(&mut state, Key::Esc);
        }
        drawn(&state, true);
    }
    for (columns, rows) in [(20, 5), (1, 1), (500, 3), (3, 200), (0, 0)] {
        for key in KEYS {
            state.take(Message::Resized(Size { columns, rows }), now());
            press(&mut state, Key::Esc);
            typed(&mut state, key);
            drawn(&state, true);
        }
    }
}

#[test]
fn what_a_server_says_cannot_drive_the_terminal() {
    let mut state = told(SMALL);
    typed(&mut state, "6");
    assert!(text(&state).contains("\\u{1b}[2Jcannot open /srv"), "{}", text(&state));
}
