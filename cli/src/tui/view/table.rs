//! Tables of which one row is chosen, and what else is known of that one.

use super::{
    super::{
        rows::{self, Row},
        state::{State, Tab},
    },
    Body, body_rows,
};
use crate::output::{
    cache,
    page::{Line, Page, Style},
    status::{self, View},
    table::Table,
};

/// What is needed least comes first.
const DISPENSABLE: [&str; 10] =
    ["LAST BACKUP SYNC", "P50", "COALESCED", "STALE", "BREAKER", "NODES", "ERRORS", "CACHE", "SINCE", "P99"];
/// Before the chosen row, and the others.
const MARKS: [&str; 2] = ["▸ ", "  "];

/// The table of the tab, and below it what is known of the chosen row where there is room.
pub(super) fn body(state: &State) -> Body {
    let rows = body_rows(state);
    let mut details = details(state);
    if rows < 12 || details.is_empty() {
        return rows_only(state, rows);
    }
    // Half of it, or what a short table leaves.
    let table = state.rows().0.len() + 3;
    details = details.cropped(state.size.columns, rows.saturating_sub(table).max(rows / 2));
    let mut body = rows_only(state, rows - details.len() - 1);
    body.page.push("");
    body.page.append(details);
    body
}

/// The table in so many lines, its title and its header included.
pub(super) fn rows_only(state: &State, rows: usize) -> Body {
    let (shown, all, chosen) = state.rows();
    let mut page = Page::default();
    page.push(title(state, shown.len(), all));
    if shown.is_empty() {
        return Body { page, chosen: None };
    }
    let columns = rows::columns(state.tab);
    let titles: Vec<_> = columns.iter().map(|column| column.title).collect();
    let mut table = Table::new(&titles);
    for row in &shown {
        table.row(columns.iter().map(|column| (column.cell)(row)).collect(), Page::default());
    }
    table.fit(state.size.columns.saturating_sub(MARKS[0].len()), &DISPENSABLE);
    let lines = table.page().into_lines();
    let (header, lines) = lines.split_first().expect("a table has a header");
    page.push(Line::of(MARKS[1], Style::Plain).and_all(header.clone()));
    let height = rows.saturating_sub(page.len()).max(1);
    // The chosen row in the middle, unless the table ends before.
    let first = chosen.saturating_sub(height / 2).min(lines.len().saturating_sub(height));
    let mut line = None;
    for (index, row) in lines.iter().enumerate().skip(first).take(height) {
        let is_chosen = index == chosen;
        if is_chosen {
            line = Some(page.len());
        }
        let mark = if is_chosen { MARKS[0] } else { MARKS[1] };
        page.push(Line::of(mark, Style::Bold).and_all(row.clone()));
    }
    Body { page, chosen: line }
}

fn title(state: &State, shown: usize, all: usize) -> Line {
    let status = &state.data().status;
    let what = match (state.tab, all) {
        (Tab::Cache, 0) => return Line::of("nothing was looked up in the cache yet", Style::Dim),
        (_, 0) if status.control_plane.target.is_none() => {
            let text = "no upstreams: the control plane waits for a valid configuration";
            return Line::of(text, Style::Warning);
        }
        (_, 0) => return Line::of("no upstreams: the configuration names none", Style::Plain),
        (Tab::Cache, 1) => "1 tier of an upstream".to_owned(),
        (Tab::Cache, all) => format!("{all} tiers of upstreams"),
        (_, 1) => "1 upstream".to_owned(),
        (_, all) => format!("{all} upstreams"),
    };
    let filter = match state.filter.as_str() {
        "" => String::new(),
        filter => format!(", {shown} with `{filter}`"),
    };
    Line::of(what, Style::Bold)
        .and(filter, Style::Bold)
        .and(format!(" · by {}", state.sort().words(state.tab)), Style::Dim)
}

/// Of the chosen row.
fn details(state: &State) -> Page {
    let (rows, _, chosen) = state.rows();
    let Some(row) = rows.get(chosen) else { return Page::default() };
    let known = match row.tier {
        Some(_) => kept(row),
        None => upstream(state, row),
    };
    let mut page = Page::default();
    if !known.is_empty() {
        page.push(Line::of(row.upstream.name.as_str(), Style::Bold));
    }
    page.append(known);
    page
}

fn upstream(state: &State, row: &Row<'_>) -> Page {
    let status = &state.data().status;
    let view = View {
        only: None,
        nodes: None,
        verbose: true,
        columns: Some(state.size.columns),
        now: state.now,
        zone: &state.zone,
    };
    status::below(row.upstream, status, &view)
}

fn kept(row: &Row<'_>) -> Page {
    let mut page = row.tier.map(cache::left).unwrap_or_default();
    page.append(cache::batches(row.upstream.batches));
    page
}
