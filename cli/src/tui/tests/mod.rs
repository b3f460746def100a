//! A fleet to look at.

mod drawn;
mod known;

use super::{Key, Message, State, paint};
use crate::{
    events::{Event, EventKind},
    failover::DecisionState,
    inspect::{LogLine, LogPart, Said},
    model::{Rates, Status, UpstreamState},
    output::tests::{
        NOW,
        failover::{at_rest, event, failed_over},
        fleet, moment, upstream,
    },
    terminal::Size,
};
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};
use std::time::Duration;

/// The usual window.
const SMALL: Size = Size { columns: 80, rows: 24 };

fn now() -> Timestamp {
    moment(NOW)
}

fn later(seconds: i64) -> Timestamp {
    now() + seconds.seconds()
}

fn viewer(status: Status, size: Size) -> State {
    State::new("http://127.0.0.1:7400".into(), TimeZone::UTC, now(), size, status)
}

/// Somebody types these characters.
fn typed(state: &mut State, keys: &str) {
    keys.chars().for_each(|c| state.take(Message::Key(Key::Char(c)), state.now));
}

fn press(state: &mut State, key: Key) {
    state.take(Message::Key(key), state.now);
}

/// Three upstreams, of which one is on its backup.
fn failover() -> Status {
    let mut status = fleet();
    status.control_plane.decisions = Some(DecisionState::Active);
    let mut files = upstream("files", UpstreamState::Healthy);
    files.failover = Some(failed_over());
    let mut search = upstream("search", UpstreamState::Degraded);
    search.failover = Some(at_rest());
    search.rates = Some(rates(3.1, 9));
    status.upstreams[0] = files;
    status.upstreams.insert(1, search);
    status
}

fn rates(per_second: f64, p99: u64) -> Rates {
    Rates {
        requests_per_second: per_second,
        p99: Some(Duration::from_millis(p99)),
        error_ratio: Some(0.0),
        ..Rates::default()
    }
}

/// So many upstreams, each with figures of its own.
fn crowd(count: u16) -> Status {
    let mut status = fleet();
    status.upstreams = (0..count)
        .map(|number| {
            let mut one = upstream(&format!("upstream-{number:03}"), UpstreamState::Healthy);
            one.rates = Some(rates(f64::from(number * 7 % count), u64::from(number)));
            one
        })
        .collect();
    status
}

/// A picture every 5 s, the last one now.
fn lived(pictures: i64, size: Size) -> State {
    let at = |number: i64| later((number + 1 - pictures) * 5);
    let picture = |number: i64| {
        let mut status = failover();
        status.as_of = Some(at(number));
        let wave = (number % 12 - 6).abs() as f64;
        status.upstreams[0].rates = Some(rates(100.0 + 20.0 * wave, 20 + u64::try_from(number % 7).unwrap()));
        for tier in status.upstreams.iter_mut().flat_map(|one| &mut one.cache) {
            tier.hits += 90 * u64::try_from(number).unwrap();
            tier.misses += 20 * u64::try_from(number / 10 * 10).unwrap();
        }
        status
    };
    let mut state = State::new("http://127.0.0.1:7400".into(), TimeZone::UTC, at(0), size, picture(0));
    for number in 1..pictures {
        // Once nothing came for a while.
        if !(5..8).contains(&number) {
            state.take(Message::Picture(Box::new(picture(number))), at(number));
        }
    }
    state
}

fn events(range: std::ops::RangeInclusive<u64>) -> Vec<Event> {
    range
        .map(|position| Event {
            position,
            at: Some(later(position.cast_signed())),
            reason: format!("number {position}"),
            ..event(EventKind::FailoverCommitted)
        })
        .collect()
}

fn lines(node: &str, texts: &[&str]) -> LogPart {
    let line = |(number, text): (usize, &&str)| LogLine {
        at: Some(later(i64::try_from(number).unwrap())),
        node_id: node.into(),
        pid: 41,
        text: (*text).into(),
    };
    LogPart { node_id: node.into(), said: Said::Lines(texts.iter().enumerate().map(line).collect(), 0) }
}

fn drawn(state: &State, colour: bool) -> Buffer {
    let size = state.size;
    let backend = TestBackend::new(size.columns.try_into().unwrap(), size.rows.try_into().unwrap());
    let mut terminal = Terminal::new(backend).unwrap();
    terminal.draw(|frame| paint(state, colour, frame.buffer_mut())).unwrap();
    terminal.backend().buffer().clone()
}

/// What a person reads.
fn text(state: &State) -> String {
    let buffer = drawn(state, false);
    let mut text = String::new();
    for row in 0..buffer.area.height {
        let mut line = String::new();
        let mut hidden = 0;
        for column in 0..buffer.area.width {
            let symbol = buffer[(column, row)].symbol();
            if hidden == 0 {
                line.push_str(symbol);
                hidden = unicode_width::UnicodeWidthStr::width(symbol).max(1);
            }
            hidden -= 1;
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
