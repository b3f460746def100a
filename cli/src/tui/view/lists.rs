//! Lists that grow at their end: calls, events, and the lines of a log.

use super::{
    super::state::{State, Tab},
    body_rows,
};
use crate::output::{
    calls, events, logs,
    page::{Line, Page, Style},
};
use std::collections::BTreeMap;

/// Nodes of which it is shown why they have no log.
const NOTES: usize = 3;

/// What the filter leaves, a line for each, the oldest first.
fn entries(state: &State, tab: Tab) -> Vec<Line> {
    let data = state.data();
    let page = match tab {
        Tab::Requests => calls::page(data.calls.calls.iter(), &state.zone, state.size.columns),
        Tab::Events => events::page(&data.events, &state.zone),
        Tab::Logs if log_head(state).is_ok() => {
            logs::page(&data.log.lines, &mut logs::Sources::default(), &state.zone)
        }
        _ => Page::default(),
    };
    let word = state.filter.to_lowercase();
    let mut lines = page.into_lines();
    // The header of a table stands in the head.
    lines.drain(..lines.len().min(usize::from(tab == Tab::Requests)));
    lines.retain(|line| word.is_empty() || line.text().to_lowercase().contains(&word));
    lines
}

/// The same as lines of the window: long ones are broken, because their end is what one wants to read.
fn lines(entries: &[Line], state: &State) -> Vec<Line> {
    entries.iter().flat_map(|entry| entry.broken(state.size.columns)).collect()
}

/// How many that are.
pub(crate) fn count(state: &State, tab: Tab) -> usize {
    lines(&entries(state, tab), state).len()
}

/// Lines of the list that there is room for.
pub(crate) fn height(state: &State, tab: Tab) -> usize {
    body_rows(state).saturating_sub(head(state, tab, 0).len())
}

pub(super) fn page(state: &State, tab: Tab) -> Page {
    let entries = entries(state, tab);
    let lines = lines(&entries, state);
    let mut page = head(state, tab, entries.len());
    let height = body_rows(state).saturating_sub(page.len());
    let last = lines.len() - state.back().min(lines.len());
    let first = last.saturating_sub(height);
    for line in lines.into_iter().take(last).skip(first) {
        page.push(line);
    }
    page
}

fn head(state: &State, tab: Tab, shown: usize) -> Page {
    let data = state.data();
    let (what, all, newest) = match tab {
        Tab::Requests => ("requests".to_owned(), data.calls.calls.len(), data.calls.why.as_deref()),
        Tab::Events => ("events".to_owned(), data.events.len(), data.no_events.as_deref()),
        _ => match log_head(state) {
            Ok(what) => (what, data.log.lines.len(), data.log.ended.as_deref()),
            Err(line) => {
                let mut page = Page::default();
                page.push(line);
                return page;
            }
        },
    };
    let filter = match state.filter.as_str() {
        "" => String::new(),
        filter => format!(", {shown} with `{filter}`"),
    };
    let count = match all {
        0 if tab == Tab::Requests && !data.calls.heard => "nodes are asked for them".to_owned(),
        0 => "none yet".to_owned(),
        all if tab == Tab::Requests => {
            let calls = &data.calls;
            format!("the newest {all}; nodes wrote down {} of {}", calls.kept, calls.seen)
        }
        all => format!("the newest {all}"),
    };
    let below = match state.back() {
        0 => String::new(),
        1 => " · 1 newer line below, G goes there".to_owned(),
        back => format!(" · {back} newer lines below, G goes there"),
    };
    let mut page = Page::default();
    page.push(
        Line::of(format!("{what}: "), Style::Bold)
            .and(format!("{count}{filter}"), Style::Plain)
            .and(below, Style::Warning),
    );
    if let Some(why) = newest {
        page.push(Line::of(format!("⚠️ no more come: {why}"), Style::Warning));
    }
    let notes = match tab {
        Tab::Requests => notes(&data.calls.notes),
        Tab::Logs => notes(&data.log.notes),
        _ => Vec::new(),
    };
    notes.into_iter().for_each(|line| page.push(line));
    if tab == Tab::Requests && all > 0 {
        let table = calls::page(data.calls.calls.iter(), &state.zone, state.size.columns);
        table.into_lines().into_iter().take(1).for_each(|header| page.push(header));
    }
    page
}

/// Whose log it is; or why there is none to show.
fn log_head(state: &State) -> Result<String, Line> {
    let Some(wanted) = state.log_of() else {
        return Err(Line::of("no upstreams: there is no log to read", Style::Plain));
    };
    if state.data().log.upstream == wanted {
        return Ok(format!("stderr of {wanted}"));
    }
    let when = if state.paused().is_some() { "comes when p goes on" } else { "is asked for" };
    Err(Line::of(format!("stderr of {wanted}: "), Style::Bold).and(when, Style::Dim))
}

fn notes(notes: &BTreeMap<String, String>) -> Vec<Line> {
    let words = notes.iter().take(NOTES);
    let mut lines: Vec<_> =
        words.map(|(node, note)| Line::of(format!("node {node}: {note}"), Style::Dim)).collect();
    if notes.len() > NOTES {
        lines.push(Line::of(format!("and {} more nodes", notes.len() - NOTES), Style::Dim));
    }
    lines
}
