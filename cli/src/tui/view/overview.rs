//! The fleet in one look: how much, how fast, from where.

use super::{
    super::{
        chart,
        history::{self, History, SLOT, Sample},
        state::State,
    },
    Body, body_rows, table,
};
use crate::{
    model::{Status, Totals},
    output::{
        page::{Line, Page, Style},
        span::{self, UNKNOWN},
    },
};
use std::time::Duration;

/// Between two charts.
const GAP: usize = 2;
/// Less than this much room is none for charts.
const ROOM: (usize, usize) = (60, 14);

/// One figure over time.
struct Chart {
    /// `THROUGHPUT 824/s`
    title: Line,
    below: String,
    values: Vec<Option<f64>>,
    /// What a full column stands for; `None`: the highest of them.
    full: Option<f64>,
}

pub(super) fn body(state: &State) -> Body {
    let rows = body_rows(state);
    let mut page = Page::default();
    let width = (state.size.columns + GAP) / 3;
    let charts = charts(state, width.saturating_sub(GAP));
    if state.size.columns >= ROOM.0 && rows >= ROOM.1 {
        let height = (rows / 6).min(8);
        page.append(side_by_side(&charts, width.saturating_sub(GAP), height));
        page.push(totals(&state.data().status));
        page.push("");
    } else if rows > 6 {
        charts.into_iter().for_each(|chart| page.push(chart.title));
    }
    let mut body = table::rows_only(state, rows.saturating_sub(page.len()));
    body.chosen = body.chosen.map(|line| page.len() + line);
    page.append(body.page);
    body.page = page;
    body
}

fn charts(state: &State, columns: usize) -> [Chart; 3] {
    let data = state.data();
    let newest = Sample::of(&data.status);
    let values = |of: &dyn Fn(&History, i64, &Sample) -> Option<f64>| data.history.latest(columns, of);
    let title = |name: &str, figure: Option<String>| {
        Line::of(name, Style::Dim)
            .and(" ", Style::Plain)
            .and(figure.as_deref().unwrap_or(UNKNOWN), Style::Bold)
    };
    let latency = |seconds: f64| span::latency(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let highest = |values: &[Option<f64>], word: &dyn Fn(f64) -> String| match most(values) {
        Some(most) => format!("highest {} in {}", word(most), time(values.len())),
        None => "nothing measured yet".to_owned(),
    };
    let rate = values(&|_, _, sample| sample.rate);
    let slowest = values(&|_, _, sample| sample.slowest);
    let hits = values(&History::hit_ratio);
    [
        Chart {
            title: title("REQ/S", newest.rate.map(span::rate)),
            below: highest(&rate, &span::rate),
            values: rate,
            full: None,
        },
        Chart {
            title: title("P99", newest.slowest.map(latency)).and(
                history::slowest(&data.status).map_or(String::new(), |one| format!(" {}", one.name)),
                Style::Dim,
            ),
            below: highest(&slowest, &latency),
            values: slowest,
            full: None,
        },
        Chart {
            title: title("CACHE HITS", data.history.hits().map(span::whole_percent)),
            below: match most(&hits) {
                Some(_) => "of look-ups, over 30s".to_owned(),
                None => "no look-ups lately".to_owned(),
            },
            values: hits,
            full: Some(1.0),
        },
    ]
}

fn most(values: &[Option<f64>]) -> Option<f64> {
    values.iter().flatten().copied().max_by(f64::total_cmp)
}

/// What so many columns stand for.
fn time(columns: usize) -> String {
    span::words(SLOT * u32::try_from(columns).unwrap_or(u32::MAX))
}

fn side_by_side(charts: &[Chart], columns: usize, rows: usize) -> Page {
    let columns_of: Vec<Vec<Line>> = charts
        .iter()
        .map(|chart| {
            let mut lines = vec![chart.title.clone()];
            lines.extend(chart::lines(&chart.values, chart.full, columns, rows).into_iter().map(Line::from));
            lines.push(Line::of(&chart.below, Style::Dim));
            lines
        })
        .collect();
    let mut page = Page::default();
    for row in 0..rows + 2 {
        let line =
            columns_of.iter().filter_map(|lines| lines.get(row)).fold(Line::default(), |line, part| {
                line.and_all(part.padded(columns)).and(" ".repeat(GAP), Style::Plain)
            });
        page.push(line);
    }
    page
}

/// Sums since the control plane started.
fn totals(status: &Status) -> Line {
    let all: Vec<&Totals> = status.upstreams.iter().filter_map(|upstream| upstream.totals.as_ref()).collect();
    if all.is_empty() {
        return Line::of("no node has reported yet", Style::Dim);
    }
    let sum = |of: fn(&Totals) -> u64| all.iter().map(|totals| of(totals)).sum::<u64>();
    let text = format!(
        "{} in flight · since the control plane started: {} requests, {} errors (timeouts: {})",
        sum(|totals| totals.active_requests),
        sum(|totals| totals.requests),
        sum(|totals| totals.errors),
        sum(|totals| totals.timeouts),
    );
    Line::of(text, Style::Dim)
}
