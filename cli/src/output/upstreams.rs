//! Upstreams → the table of `o1ctl upstreams`, each with its endpoints below it.

use super::{
    failover,
    page::{Line, Page, Span, Style},
    span::UNKNOWN,
    status::{place, reached},
    table::Table,
};
use crate::{
    counts::Endpoint,
    model::{Status, Upstream},
    verdict::Verdict,
};
use jiff::Timestamp;
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

/// What is needed least comes first.
const DISPENSABLE: [&str; 5] = ["TOOLS", "REQUESTS", "ERRORS", "STORE", "NODES"];

/// `o1ctl upstreams --json`.
#[derive(Serialize)]
pub struct Report<'a> {
    /// As the exit code says.
    pub verdict: Verdict,
    /// When the picture was taken.
    pub as_of: Option<Timestamp>,
    /// Sorted by name.
    pub upstreams: &'a [Upstream],
}

/// For people; in a window of so many columns, if it is one.
#[must_use]
pub fn page(upstreams: &[Upstream], status: &Status, columns: Option<usize>) -> Page {
    let mut page = Page::default();
    if upstreams.is_empty() {
        page.push(match &status.control_plane.target {
            Some(_) => "no upstreams: the configuration names none",
            None => "no upstreams: the control plane waits for a valid configuration",
        });
        return page;
    }
    let mut table = Table::new(&[
        "UPSTREAM",
        "STATE",
        "STORE",
        "BREAKER",
        "ERAS",
        "NODES",
        "TOOLS",
        "IN FLIGHT",
        "REQUESTS",
        "ERRORS",
    ]);
    let labels = upstreams.iter().flat_map(|one| &one.endpoints).map(|one| one.endpoint.width());
    // One long command must not push the figures of all others out of the window.
    let width = labels.max().unwrap_or(0).min(columns.map_or(60, |columns| columns / 2));
    for upstream in upstreams {
        table.row(cells(upstream), below(upstream, width));
    }
    table.page_within(columns, &DISPENSABLE)
}

fn cells(upstream: &Upstream) -> Vec<Span> {
    let figure = |text: Option<String>| Span::from(text.unwrap_or_else(|| UNKNOWN.to_owned()));
    let failover = upstream.failover.as_ref();
    let eras = match (upstream.legacy, upstream.modern) {
        (true, true) => "both",
        (true, false) => "legacy",
        (false, true) => "modern",
        (false, false) => UNKNOWN,
    };
    let total = |read: fn(&crate::model::Totals) -> u64| {
        figure(upstream.totals.as_ref().map(|totals| read(totals).to_string()))
    };
    vec![
        upstream.name.as_str().into(),
        place(upstream),
        figure(failover.map(failover::store)),
        failover::breaker(failover.and_then(|failover| failover.primary_breaker)),
        eras.into(),
        reached(upstream).into(),
        figure(upstream.tools.map(|tools| tools.to_string())),
        total(|totals| totals.active_requests),
        total(|totals| totals.requests),
        total(|totals| totals.errors),
    ]
}

fn below(upstream: &Upstream, width: usize) -> Page {
    let mut page = Page::default();
    if upstream.endpoints.is_empty() {
        let backup =
            upstream.backup.as_ref().map(|backup| format!(" · backup: {backup}")).unwrap_or_default();
        let text = format!("  {}{backup}: no node has sent anything there yet", upstream.primary);
        page.push(Line::of(text, Style::Dim));
    }
    for endpoint in &upstream.endpoints {
        let (text, style) = figures(endpoint);
        let blanks = " ".repeat(width.saturating_sub(endpoint.endpoint.width()));
        page.push(Line::from(format!("  {}{blanks}  ", endpoint.endpoint)).and(text, style));
    }
    for error in &upstream.errors {
        page.push(Line::of(format!("  {error}"), Style::Bad));
    }
    page
}

/// `3 nodes, 1 leaves it out · 4 in flight, 2 waiting · 40 sent, 3 again, 1 refused`
fn figures(endpoint: &Endpoint) -> (String, Style) {
    let some = |count: u64, what: &str| if count > 0 { format!(", {count} {what}") } else { String::new() };
    let nodes = if endpoint.nodes == 1 { "1 node".to_owned() } else { format!("{} nodes", endpoint.nodes) };
    let out = match endpoint.nodes_ejecting {
        0 => String::new(),
        1 => ", 1 leaves it out".to_owned(),
        some => format!(", {some} leave it out"),
    };
    let text = format!(
        "{nodes}{out} · {} in flight{} · {} sent{}{}{}",
        endpoint.in_flight,
        some(endpoint.waiting, "waiting"),
        endpoint.picks,
        some(endpoint.retries, "retries"),
        some(endpoint.ejections, "times left out"),
        some(endpoint.refused, "refused"),
    );
    let style = if endpoint.nodes_ejecting > 0 || endpoint.waiting > 0 { Style::Warning } else { Style::Dim };
    (text, style)
}
