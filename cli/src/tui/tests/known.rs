//! What is known after what came in.

use super::*;
use crate::tui::state::{EVENTS, LINES, Tab};

fn names(state: &State) -> Vec<String> {
    state.rows().0.iter().map(|row| row.upstream.name.clone()).collect()
}

fn chosen(state: &State) -> String {
    let (rows, _, chosen) = state.rows();
    rows[chosen].upstream.name.clone()
}

#[test]
fn numbers_and_tab_lead_around_all_views() {
    let mut state = viewer(failover(), SMALL);
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(state.tab);
        press(&mut state, Key::Tab);
    }
    assert_eq!(
        seen,
        [Tab::Overview, Tab::Upstreams, Tab::Requests, Tab::Cache, Tab::Events, Tab::Logs, Tab::Overview]
    );
    press(&mut state, Key::BackTab);
    assert_eq!(state.tab, Tab::Overview);
    press(&mut state, Key::BackTab);
    assert_eq!(state.tab, Tab::Logs);
    typed(&mut state, "4");
    assert_eq!(state.tab, Tab::Cache);
    typed(&mut state, "0789");
    assert_eq!(state.tab, Tab::Cache, "there are six");
}

#[test]
fn q_and_ctrl_c_end_it_and_a_filter_may_have_a_q() {
    let mut state = viewer(failover(), SMALL);
    typed(&mut state, "/q");
    assert!(!state.over);
    press(&mut state, Key::Interrupt);
    assert!(state.over, "whatever is open");
    for keys in ["q", "?q"] {
        let mut state = viewer(failover(), SMALL);
        typed(&mut state, keys);
        assert!(state.over, "{keys}");
    }
}

#[test]
fn a_filter_is_typed_kept_and_dropped() {
    let mut state = viewer(failover(), SMALL);
    typed(&mut state, "/FILx");
    press(&mut state, Key::Backspace);
    assert_eq!((names(&state), state.rows().1), (vec!["files".to_owned()], 3), "of three");
    press(&mut state, Key::Enter);
    typed(&mut state, "j2");
    assert_eq!((state.tab, names(&state)), (Tab::Upstreams, vec!["files".to_owned()]), "it holds everywhere");
    press(&mut state, Key::Esc);
    assert_eq!(names(&state).len(), 3);
    typed(&mut state, "/snapshot");
    assert_eq!(names(&state), ["files"], "any cell");
    press(&mut state, Key::Esc);
    assert_eq!(names(&state).len(), 3, "escape drops it");
    typed(&mut state, "/");
    typed(&mut state, &"x".repeat(1_000));
    assert_eq!(state.filter.len(), 64, "it is bounded");
}

#[test]
fn columns_sort_with_the_worst_and_the_highest_first_and_what_is_absent_last() {
    let mut status = failover();
    status.upstreams[2].rates = None;
    let mut state = viewer(status, SMALL);
    assert_eq!(names(&state), ["files", "search", "weather"]);
    typed(&mut state, "S");
    assert_eq!(names(&state), ["weather", "search", "files"]);
    typed(&mut state, "s");
    assert_eq!(
        (state.sort().words(state.tab).as_str(), chosen(&state)),
        ("STATE, worst first", "files".into())
    );
    assert_eq!(names(&state), ["files", "search", "weather"]);
    typed(&mut state, "sss");
    assert_eq!(state.sort().words(state.tab), "REQ/S, highest first");
    assert_eq!(names(&state), ["files", "search", "weather"]);
    typed(&mut state, "S");
    assert_eq!(names(&state), ["search", "files", "weather"], "absent stays last");
    typed(&mut state, "sss");
    assert_eq!(state.sort().words(state.tab), "UPSTREAM, A to Z", "it goes round");
    typed(&mut state, "5sS");
    assert_eq!(state.tab, Tab::Events, "nothing to sort");
}

#[test]
fn a_chosen_row_stays_chosen_through_pictures_sorts_and_tabs() {
    let mut state = viewer(failover(), SMALL);
    typed(&mut state, "j");
    assert_eq!(chosen(&state), "search");
    typed(&mut state, "S");
    assert_eq!(chosen(&state), "search");
    let mut status = failover();
    status.upstreams.insert(0, upstream("audit", UpstreamState::Healthy));
    state.take(Message::Picture(Box::new(status)), later(1));
    assert_eq!(chosen(&state), "search");
    typed(&mut state, "2");
    assert_eq!(chosen(&state), "search");
    typed(&mut state, "4");
    assert_eq!(chosen(&state), "search");
    typed(&mut state, "6");
    assert_eq!(state.wanted_log(), Some("search"));
    typed(&mut state, "1");
    assert_eq!(state.wanted_log(), None, "nobody looks");
    let mut status = failover();
    status.upstreams.remove(1);
    state.take(Message::Picture(Box::new(status)), later(2));
    assert_eq!(chosen(&state), "files", "where it was, when it is gone");
    state.take(Message::Picture(Box::new(fleet_of_none())), later(3));
    typed(&mut state, "jkGg1S2");
    assert_eq!(names(&state), Vec::<String>::new());
}

fn fleet_of_none() -> Status {
    Status { upstreams: vec![], ..fleet() }
}

#[test]
fn moves_end_at_the_ends() {
    let mut state = viewer(crowd(300), SMALL);
    for (keys, expected) in
        [("k", "000"), ("j", "001"), ("G", "299"), ("j", "299"), ("k", "298"), ("g", "000")]
    {
        typed(&mut state, keys);
        assert_eq!(chosen(&state), format!("upstream-{expected}"), "after {keys}");
    }
    press(&mut state, Key::PageDown);
    assert_eq!(chosen(&state), "upstream-018");
    press(&mut state, Key::PageUp);
    press(&mut state, Key::PageUp);
    assert_eq!(chosen(&state), "upstream-000");
}

#[test]
fn a_lost_control_plane_leaves_its_last_picture_until_it_is_back() {
    let mut state = viewer(failover(), SMALL);
    let lost = |why: &str| Message::Lost { why: why.into(), again: Duration::from_secs(3) };
    state.take(lost("connection refused"), later(10));
    state.take(lost("no answer within 5s"), later(20));
    let known = state.lost.clone().unwrap();
    assert_eq!(
        (known.since, known.why.as_str()),
        (later(10), "no answer within 5s"),
        "since the first failure"
    );
    assert_eq!(known.again, later(23));
    assert_eq!(names(&state), ["files", "search", "weather"]);
    state.take(Message::Picture(Box::new(fleet())), later(30));
    assert!(state.lost.is_none());
    assert_eq!(names(&state), ["files", "weather"]);
}

#[test]
fn a_pause_holds_everything_still_but_the_connection() {
    let mut state = viewer(failover(), SMALL);
    state.take(Message::Past(events(1..=3)), now());
    typed(&mut state, "p");
    let status = Status { as_of: Some(later(5)), ..crowd(300) };
    state.take(Message::Picture(Box::new(status)), later(5));
    state.take(Message::Happened(events(4..=9)), later(5));
    state.take(Message::Lost { why: "gone".into(), again: Duration::ZERO }, later(6));
    assert_eq!((names(&state).len(), state.data().events.len(), state.data().history.len()), (3, 3, 1));
    assert!(state.lost.is_some(), "that it is old is said all the same");
    typed(&mut state, " ");
    assert_eq!((names(&state).len(), state.data().events.len(), state.data().history.len()), (300, 9, 2));
}

#[test]
fn events_and_lines_are_bounded_and_a_new_past_replaces_the_old_one() {
    let mut state = viewer(failover(), SMALL);
    for part in 0..50 {
        state.take(Message::Happened(events(part * 100 + 1..=part * 100 + 100)), now());
    }
    let kept: Vec<_> = state.data().events.iter().map(|event| event.position).collect();
    assert_eq!((kept.len(), kept.first(), kept.last()), (EVENTS, Some(&4_501), Some(&5_000)));
    state.take(Message::NoEvents("not here".into()), now());
    assert!(state.data().no_events.is_some());
    state.take(Message::Past(events(1..=2)), now());
    assert_eq!((state.data().events.len(), &state.data().no_events), (2, &None));

    typed(&mut state, "6");
    state.take(Message::LogOpened("files".into()), now());
    for _ in 0..30 {
        state.take(Message::Log("files".into(), lines("n1", &["x"; 100])), now());
    }
    for node in 0..100 {
        let part = LogPart { node_id: format!("n{node}"), said: Said::NoProcess };
        state.take(Message::Log("files".into(), part), now());
    }
    assert_eq!((state.data().log.lines.len(), state.data().log.notes.len()), (LINES, 32));
    state.take(Message::Log("search".into(), lines("n1", &["late"])), now());
    assert_eq!(state.data().log.lines.len(), LINES, "of a log that nobody reads any more");
}

#[test]
fn lines_of_several_nodes_stand_in_the_order_of_their_time() {
    let mut state = viewer(failover(), SMALL);
    state.take(Message::LogOpened("files".into()), now());
    state.take(Message::Log("files".into(), lines("n1", &["a", "c"])), now());
    state.take(Message::Log("files".into(), lines("n2", &["b", "d"])), now());
    let texts: Vec<_> = state.data().log.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["a", "b", "c", "d"]);
}

#[test]
fn the_log_is_that_of_the_chosen_upstream_and_arrows_lead_to_others() {
    let mut state = viewer(failover(), SMALL);
    typed(&mut state, "6");
    assert_eq!(state.wanted_log(), Some("files"));
    for (key, expected) in
        [(Key::Right, "search"), (Key::Right, "weather"), (Key::Right, "files"), (Key::Left, "weather")]
    {
        press(&mut state, key);
        assert_eq!(state.wanted_log(), Some(expected), "{key:?}");
    }
    state.take(Message::Picture(Box::new(fleet_of_none())), later(3));
    press(&mut state, Key::Right);
    assert_eq!(state.wanted_log(), None, "there are none");
}

#[test]
fn what_is_read_stays_where_it_is_while_more_comes() {
    let mut state = viewer(failover(), Size { columns: 100, rows: 24 });
    state.take(Message::Past(events(1..=100)), now());
    typed(&mut state, "5kkk");
    assert_eq!(state.back(), 3);
    state.take(Message::Happened(events(101..=105)), now());
    assert_eq!(state.back(), 8);
    state.take(Message::Happened(events(106..=700)), now());
    assert_eq!(state.back(), 482, "at most: what was read is gone");
    typed(&mut state, "Gkkk");
    state.take(Message::Happened(events(701..=705)), now());
    assert_eq!(state.back(), 8, "also when old ones make room for new ones");
    state.take(Message::Past(events(1..=105)), now());
    typed(&mut state, "g");
    let oldest = state.back();
    typed(&mut state, "kkk");
    assert_eq!(state.back(), oldest, "there is nothing beyond");
    assert!(text(&state).contains("number 1\n"), "{}", text(&state));
    typed(&mut state, "G");
    assert_eq!(state.back(), 0);
    state.take(Message::Happened(events(106..=110)), now());
    assert!(text(&state).contains("number 110\n"), "the newest is followed\n{}", text(&state));
}
