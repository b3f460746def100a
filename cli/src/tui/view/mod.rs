//! What is known → the lines of a window of this size, and those → the cells of a terminal.
//!
//! Each line says in words what colour says too.

mod help;
pub(super) mod lists;
mod overview;
mod table;

use super::state::{Lost, State, TABS, Tab};
use crate::{
    output::{
        page::{Line, Page, Span, Style},
        span, status,
    },
    verdict::{self, Verdict},
};
use ratatui::{
    buffer::Buffer,
    style::{Color, Modifier, Style as Look},
};

/// What stands in the middle.
#[derive(Default)]
pub(super) struct Body {
    page: Page,
    /// The line of the chosen row.
    chosen: Option<usize>,
}

/// The window, a line for each of its rows, and the line of the chosen row.
fn window(state: &State) -> (Page, Option<usize>) {
    let rows = state.size.rows;
    let head = head(state);
    let body = match state.tab {
        _ if state.help => Body { page: help::page(), chosen: None },
        Tab::Overview => overview::body(state),
        Tab::Upstreams | Tab::Cache => table::body(state),
        Tab::Requests | Tab::Events | Tab::Logs => Body { page: lists::page(state, state.tab), chosen: None },
    };
    let chosen = body.chosen.map(|line| head.len() + line);
    let mut page = Page::default();
    page.append(head);
    page.append(body.page.cropped(state.size.columns, body_rows(state)));
    while page.len() + 1 < rows {
        page.push("");
    }
    page.push(footer(state));
    (page, chosen)
}

/// Lines between the head and the foot.
pub(super) fn body_rows(state: &State) -> usize {
    state.size.rows.saturating_sub(head(state).len() + 1)
}

fn head(state: &State) -> Page {
    let status = &state.data().status;
    let mut page = Page::default();
    let roomy = state.size.rows >= 12;
    if roomy {
        page.push(status::header(status));
    }
    if state.size.rows >= 3 {
        page.push(pulse(state));
    }
    if roomy {
        status::decisions(status).into_iter().for_each(|line| page.push(line));
        refused(state).into_iter().for_each(|line| page.push(line));
    }
    page.push(tabs(state));
    if state.size.rows >= 20 {
        page.gap();
    }
    page
}

/// How it is, and how old what is shown is: what is old comes first, because lines are cut at their end.
fn pulse(state: &State) -> Line {
    let status = &state.data().status;
    if let Some(lost) = &state.lost {
        return stale(state, lost);
    }
    if let Some(line) = status::age(status, state.now).filter(|_| state.paused().is_none()) {
        return line;
    }
    let (word, style) = match verdict::of_fleet(status, status.as_of.unwrap_or(state.now)) {
        Verdict::Healthy => ("✅ healthy", Style::Good),
        Verdict::Degraded => ("⚠️ degraded", Style::Warning),
        Verdict::FailoverActive => ("⚠️ failover active", Style::Warning),
        Verdict::Stale => ("⚠️ stale", Style::Warning),
    };
    let at = status.as_of.map(|as_of| span::clock(as_of, state.now, &state.zone));
    let at = at.map(|at| format!(" · as of {at}")).unwrap_or_default();
    Line::of(word, style).and(format!("{at} · nodes: {}", status::counts(status.nodes)), Style::Plain)
}

fn stale(state: &State, lost: &Lost) -> Line {
    let Lost { since, why, again } = lost;
    let left = span::since(state.now, *again);
    let next = if left.as_secs() < 1 { "now".to_owned() } else { format!("in {}", span::words(left)) };
    let at = span::clock(*since, state.now, &state.zone);
    let old = span::words(span::since(*since, state.now));
    Line::of(format!("⚠️ STALE since {at} ({old})"), Style::Bad)
        .and(format!(": {why}; trying again {next} · {}", state.target), Style::Warning)
}

fn refused(state: &State) -> Option<Line> {
    let source = state.data().status.control_plane.source.as_ref().filter(|source| source.refused)?;
    let text = format!("⚠️ CONFIG REFUSED: {} has problems, o1ctl status names them", source.path);
    Some(Line::of(text, Style::Warning))
}

/// All of them, or where there is no room for that, their numbers and the name of the one that is shown.
fn tabs(state: &State) -> Line {
    let line = |names: bool| {
        TABS.iter().enumerate().fold(Line::default(), |line, (index, tab)| {
            let chosen = *tab == state.tab;
            let name = if names || chosen { format!(" {}", tab.title()) } else { String::new() };
            let (open, close) = if chosen { ("[", "]") } else { (" ", " ") };
            let style = if chosen { Style::Bold } else { Style::Plain };
            line.and(format!("{open}{}{name}{close}", index + 1), style)
        })
    };
    let all = line(true);
    let width: usize = all.spans().iter().map(Span::width).sum();
    if width <= state.size.columns { all } else { line(false) }
}

fn footer(state: &State) -> Line {
    let filter = &state.filter;
    if state.typing {
        let keys = "  enter keeps it · esc drops it";
        return Line::of(format!("/{filter}▏"), Style::Bold).and(keys, Style::Dim);
    }
    let paused =
        state.paused().map(|since| format!("PAUSED {} · ", span::words(span::since(since, state.now))));
    let set = if filter.is_empty() { String::new() } else { format!("/{filter} (esc drops it) · ") };
    let keys = match state.tab {
        tab if tab.is_table() => "tab 1-6 view · ↑↓ choose · / filter · s S sort · p pause · ? help · q quit",
        Tab::Logs => "tab 1-6 view · ↑↓ scroll · ←→ upstream · / filter · p pause · ? help · q quit",
        _ => "tab 1-6 view · ↑↓ scroll · / filter · p pause · ? help · q quit",
    };
    Line::of(paused.unwrap_or_default(), Style::Warning).and(set, Style::Bold).and(keys, Style::Dim)
}

/// Paints the window.
pub(crate) fn paint(state: &State, colour: bool, on: &mut Buffer) {
    let area = on.area;
    let columns = state.size.columns.min(area.width.into());
    let (page, chosen) = window(state);
    let lines = page.lines().iter().take(area.height.into());
    for (row, (index, line)) in (area.y..area.bottom()).zip(lines.enumerate()) {
        let mut column = area.x;
        for span in line.padded(columns).spans() {
            let room = usize::from(area.right() - column);
            (column, _) = on.set_stringn(column, row, span.text(), room, look(span.style(), colour));
        }
        if chosen == Some(index) {
            let line = ratatui::layout::Rect::new(area.x, row, area.width, 1);
            on.set_style(line, Look::new().add_modifier(Modifier::REVERSED));
        }
    }
}

/// The sixteen colours that every theme defines, as in `output::page`; without colour only weight is left.
fn look(style: Style, colour: bool) -> Look {
    let look = Look::new();
    let coloured = |colour_of| if colour { look.fg(colour_of) } else { look };
    match style {
        Style::Plain => look,
        Style::Bold => look.add_modifier(Modifier::BOLD),
        Style::Dim => look.add_modifier(Modifier::DIM),
        Style::Good => coloured(Color::Green),
        Style::Warning => coloured(Color::Yellow),
        Style::Bad => coloured(Color::Red),
        Style::Source(number) => {
            coloured([Color::Cyan, Color::Magenta, Color::Blue][usize::from(number % 3)])
        }
    }
}
