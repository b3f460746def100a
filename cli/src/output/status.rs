//! A fleet → the page of `o1ctl status`.

use super::{
    cache,
    failover::{self, Tale},
    nodes,
    page::{Line, Page, Span, Style},
    problems,
    span::{self, UNKNOWN},
    table::Table,
};
use crate::{
    configs::RolloutState,
    failover::{DecisionState, Failover},
    model::{Node, NodeCounts, Status, Upstream, UpstreamState},
    verdict::STALE_AFTER,
};
use jiff::{Timestamp, tz::TimeZone};

/// What to show, and for whom.
pub struct View<'a> {
    /// Show this upstream alone.
    pub only: Option<&'a str>,
    /// Every node, where they were asked for.
    pub nodes: Option<&'a [Node]>,
    /// Everything that is known about an upstream, not only what is wrong with it.
    pub verbose: bool,
    /// Of the window; `None`: as many as there are.
    pub columns: Option<usize>,
    /// Now, by the clock of this machine.
    pub now: Timestamp,
    /// For times of day.
    pub zone: &'a TimeZone,
}

/// The whole page.
#[must_use]
pub fn page(status: &Status, view: &View<'_>) -> Page {
    let mut page = Page::default();
    page.push(header(status));
    if let Some(line) = age(status, view.now) {
        page.push(line);
    }
    if let Some(line) = decisions(status) {
        page.push(line);
    }
    if let Some(line) = rollout(status) {
        page.push(line);
    }
    page.gap();
    page.append(upstreams(status, view));
    if view.only.is_none() {
        page.append(refused(status, view));
        page.gap();
        page.append(node_section(status, view));
    }
    page
}

/// Who speaks, and what runs.
#[must_use]
pub fn header(status: &Status) -> Line {
    let plane = &status.control_plane;
    let config = match &plane.target {
        Some(target) => {
            let nodes = status.nodes;
            let all = nodes.connected + nodes.unreachable;
            format!("config rev {}, applied by {}", target.revision, nodes_of(nodes.synced, all))
        }
        None => "no valid configuration yet".to_owned(),
    };
    let decisions = plane.decisions.map(|state| format!(" · decisions {}", state.word())).unwrap_or_default();
    Line::of("only1", Style::Bold).and(
        format!(
            " · control plane {} up {} · {config}{decisions}",
            plane.listen,
            span::age(plane.started_at, status.as_of)
        ),
        Style::Plain,
    )
}

/// A line only when the control plane does not decide: the header may be cut.
#[must_use]
pub fn decisions(status: &Status) -> Option<Line> {
    let state = status.control_plane.decisions.filter(|state| *state != DecisionState::Active)?;
    let because = match status.control_plane.decisions_because.as_str() {
        "" => String::new(),
        because => format!(": {because}"),
    };
    Some(Line::of(format!("⚠️ decisions {}{because}", state.word()), Style::Warning))
}

/// A line only while a change is on its way, or when it came back. What a file says and does not run is told with it.
fn rollout(status: &Status) -> Option<Line> {
    let plane = &status.control_plane;
    let rollout = plane.rollout.as_ref()?;
    let (revision, because) = (rollout.revision, &rollout.because);
    let nodes = nodes_of(rollout.applied, rollout.nodes);
    let text = match rollout.state {
        RolloutState::Running => {
            format!(
                "revision {revision} is on its way: wave {} of {}, {nodes} run it",
                rollout.wave, rollout.waves
            )
        }
        RolloutState::RollingBack => {
            format!("⚠️ revision {revision} is taken back, {nodes} run what ran before: {because}")
        }
        RolloutState::RolledBack if plane.source.as_ref().is_none_or(|source| !source.refused) => {
            format!("⚠️ revision {revision} was rolled back: {because}")
        }
        _ => return None,
    };
    Some(Line::of(text, if rollout.state == RolloutState::Running { Style::Bold } else { Style::Warning }))
}

fn nodes_of(some: u32, all: u32) -> String {
    format!("{some} of {all} {}", if all == 1 { "node" } else { "nodes" })
}

/// A line only when the picture is old, or has no date at all.
#[must_use]
pub fn age(status: &Status, now: Timestamp) -> Option<Line> {
    let text = match status.as_of {
        Some(as_of) if now.duration_since(as_of) > STALE_AFTER => format!(
            "⚠️ stale: this picture is {} old, or the clocks of the two machines differ",
            span::words(span::since(as_of, now))
        ),
        Some(_) => return None,
        None => "⚠️ stale: this picture has no date".to_owned(),
    };
    Some(Line::of(text, Style::Warning))
}

/// Columns that only upstreams with a backup fill.
const FAILOVER: [&str; 2] = ["STORE", "BREAKER"];
/// The one that only snapshots fill.
const SNAPSHOT: &str = "LAST BACKUP SYNC";
/// What is needed least comes first.
const DISPENSABLE: [&str; 8] = ["ERAS", "TOOLS", "CACHE", "P50", SNAPSHOT, "ERRORS", "NODES", "P99"];

fn upstreams(status: &Status, view: &View<'_>) -> Page {
    let wanted = |upstream: &&Upstream| view.only.is_none_or(|only| only == upstream.name);
    if status.upstreams.is_empty() {
        let mut page = Page::default();
        page.push(match &status.control_plane.target {
            Some(_) => "no upstreams: the configuration names none",
            None => "no upstreams: the control plane waits for a valid configuration",
        });
        return page;
    }
    let shown: Vec<_> = status.upstreams.iter().filter(wanted).collect();
    let mut table = Table::new(&header_of(&shown));
    for upstream in &shown {
        table.row(cells(upstream, &shown, status.as_of), below(upstream, status, view));
    }
    if let Some(columns) = view.columns {
        table.fit(columns, &DISPENSABLE);
    }
    let mut page = table.page();
    if let Some(only) = view.only.filter(|_| shown.is_empty()) {
        page.push(format!("the configuration names no upstream `{only}` any more"));
    }
    page
}

/// With a backup somewhere, where it stands comes first.
fn header_of(shown: &[&Upstream]) -> Vec<&'static str> {
    let rates = ["REQ/S", "P50", "P99", "ERRORS", "CACHE"];
    if !any_backup(shown) {
        return [&["UPSTREAM", "STATE", "NODES", "ERAS", "TOOLS"][..], &rates, &["SINCE"]].concat();
    }
    let places = ["UPSTREAM", "STATE", FAILOVER[0], "SINCE", FAILOVER[1], "NODES", "ERAS", "TOOLS"];
    let last: &[_] = if any_sync(shown) { &[SNAPSHOT] } else { &[] };
    [&places[..], &rates, last].concat()
}

fn any_backup(shown: &[&Upstream]) -> bool {
    shown.iter().any(|upstream| upstream.failover.is_some())
}

fn any_sync(shown: &[&Upstream]) -> bool {
    let mut failovers = shown.iter().filter_map(|upstream| upstream.failover.as_ref());
    failovers.any(|failover| failover.is_snapshot() || failover.stats.last_backup_sync.is_some())
}

fn cells(upstream: &Upstream, shown: &[&Upstream], as_of: Option<Timestamp>) -> Vec<Span> {
    let eras = match (upstream.legacy, upstream.modern) {
        (true, true) => "both",
        (true, false) => "legacy",
        (false, true) => "modern",
        (false, false) => UNKNOWN,
    };
    let figure = |text: Option<String>| Span::from(text.unwrap_or_else(|| UNKNOWN.to_owned()));
    let failover = upstream.failover.as_ref();
    let since = || Span::from(span::age(since(upstream), as_of));
    let mut cells = vec![upstream.name.as_str().into(), place(upstream)];
    if any_backup(shown) {
        cells.extend([
            figure(failover.map(failover::store)),
            since(),
            failover::breaker(failover.and_then(|failover| failover.primary_breaker)),
        ]);
    }
    cells.extend([
        reached(upstream).into(),
        eras.into(),
        figure(upstream.tools.map(|tools| tools.to_string())),
    ]);
    cells.extend(rates(upstream));
    if !any_backup(shown) {
        cells.push(since());
    } else if any_sync(shown) {
        cells.push(figure(failover.map(|failover| failover::last_sync(failover, as_of))));
    }
    cells
}

/// Connected nodes that reach it, of all.
#[must_use]
pub fn reached(upstream: &Upstream) -> String {
    let all = upstream.nodes_reachable + upstream.nodes_unreachable + upstream.nodes_unknown;
    format!("{}/{all}", upstream.nodes_reachable)
}

/// Where it stands: its stores, or what is known of its reachability.
#[must_use]
pub fn place(upstream: &Upstream) -> Span {
    failover::state(upstream).unwrap_or_else(|| state(upstream.state))
}

/// Since when it stands there.
#[must_use]
pub fn since(upstream: &Upstream) -> Option<Timestamp> {
    let failover = upstream.failover.as_ref().filter(|_| failover::state(upstream).is_some());
    failover.and_then(Failover::serving_since).or(upstream.since)
}

/// Requests a second, p50, p99, errors and cache hits, lately.
#[must_use]
pub fn rates(upstream: &Upstream) -> [Span; 5] {
    let rates = upstream.rates.as_ref();
    let figure = |text: Option<String>| Span::from(text.unwrap_or_else(|| UNKNOWN.to_owned()));
    [
        figure(rates.map(|rates| span::rate(rates.requests_per_second))),
        figure(rates.and_then(|rates| rates.p50).map(span::latency)),
        figure(rates.and_then(|rates| rates.p99).map(span::latency)),
        figure(rates.and_then(|rates| rates.error_ratio).map(span::percent)),
        figure(rates.and_then(|rates| rates.hit_ratio).map(span::whole_percent)),
    ]
}

fn state(state: UpstreamState) -> Span {
    match state {
        UpstreamState::Healthy => Span::new("✅ healthy", Style::Good),
        UpstreamState::Degraded => Span::new("⚠️ degraded", Style::Warning),
        UpstreamState::Unreachable => Span::new("❌ unreachable", Style::Bad),
        UpstreamState::Unknown => Span::new("· unknown", Style::Dim),
    }
}

/// What is wrong and what to do about it; with `verbose`, what else is known.
#[must_use]
pub fn below(upstream: &Upstream, status: &Status, view: &View<'_>) -> Page {
    let mut page = Page::default();
    let since = match (upstream.since, status.as_of) {
        (Some(since), Some(as_of)) => format!(" since {}", span::clock(since, as_of, view.zone)),
        _ => String::new(),
    };
    let tale = Tale::of(upstream, status, view.zone);
    if let Some(tale) = &tale {
        page.append(failover::below(tale, view.columns));
    }
    match upstream.state {
        // Told above, and calls do not fail because the primary does.
        _ if tale.is_some_and(|tale| !tale.failover.is_at_rest()) => {}
        UpstreamState::Healthy => {}
        UpstreamState::Unknown if view.verbose => {
            page.push(Line::of("  no node has tried it yet: the first request to it will", Style::Dim));
        }
        UpstreamState::Unknown => {}
        UpstreamState::Unreachable => {
            page.push(format!("  no node reaches it{since}; requests to it fail"));
            errors(&mut page, upstream);
            page.push(format!("  check that it runs and answers: {}", upstream.primary));
        }
        UpstreamState::Degraded => {
            let all = upstream.nodes_reachable + upstream.nodes_unreachable;
            page.push(format!(
                "  {} it{since}",
                match upstream.nodes_unreachable {
                    1 => format!("1 of {all} nodes does not reach"),
                    some => format!("{some} of {all} nodes do not reach"),
                }
            ));
            errors(&mut page, upstream);
            if !view.verbose {
                page.push(format!("  which ones: o1ctl status {} --verbose", upstream.name));
            }
        }
    }
    if view.verbose {
        details(&mut page, upstream, status, view);
    }
    page
}

fn errors(page: &mut Page, upstream: &Upstream) {
    for error in &upstream.errors {
        page.push(Line::of(format!("    {error}"), Style::Bad));
    }
}

fn details(page: &mut Page, upstream: &Upstream, status: &Status, view: &View<'_>) {
    let backup = upstream.backup.as_deref().unwrap_or("none");
    page.push(Line::of(format!("  primary: {} · backup: {backup}", upstream.primary), Style::Dim));
    if let Some(totals) = upstream.totals {
        let text = format!(
            "  {} requests, {} errors (timeouts: {}), {} application errors, {} in flight, {} in, {} out",
            totals.requests,
            totals.errors,
            totals.timeouts,
            totals.application_errors,
            totals.active_requests,
            span::bytes(totals.bytes_in),
            span::bytes(totals.bytes_out),
        );
        page.push(Line::of(text, Style::Dim));
    }
    page.append(cache::details(upstream));
    if let Some(tale) = Tale::of(upstream, status, view.zone) {
        page.append(failover::details::account(&tale));
        page.append(failover::details::nodes(&tale, view.columns));
    }
    for node in view.nodes.unwrap_or_default() {
        let Some(seen) = node.upstreams.iter().find(|seen| seen.upstream == upstream.name) else {
            continue;
        };
        let since = match (seen.since, status.as_of) {
            (Some(since), Some(as_of)) => format!(" since {}", span::clock(since, as_of, view.zone)),
            _ => String::new(),
        };
        let (text, style) = match seen.reachable {
            Some(true) => (format!("reaches it{since}"), Style::Dim),
            Some(false) => (format!("does not reach it{since}: {}", seen.last_error), Style::Bad),
            None => ("has not tried it".to_owned(), Style::Dim),
        };
        page.push(Line::of(format!("  node {} {text}", node.node_id), style));
    }
}

fn refused(status: &Status, view: &View<'_>) -> Page {
    let mut page = Page::default();
    let Some(source) = status.control_plane.source.as_ref().filter(|source| source.refused) else {
        return page;
    };
    page.push(Line::default());
    let since = match (source.refused_at, status.as_of) {
        (Some(since), Some(as_of)) => format!(" since {}", span::clock(since, as_of, view.zone)),
        _ => String::new(),
    };
    let running = match &status.control_plane.target {
        Some(target) => format!("revision {} keeps running", target.revision),
        None => "nothing runs".to_owned(),
    };
    page.push(
        Line::of("⚠️ CONFIG REFUSED", Style::Warning)
            .and(format!("{since}: the content of {} is not used, {running}", source.path), Style::Plain),
    );
    for problem in &source.problems {
        page.append(problems::lines(problem, problems::Kind::Problem, "  "));
    }
    page
}

fn node_section(status: &Status, view: &View<'_>) -> Page {
    let mut page = Page::default();
    page.push(Line::of("NODES", Style::Bold).and(format!("  {}", counts(status.nodes)), Style::Plain));
    if status.nodes.connected == 0 {
        page.push("  clients are not served: start a node with o1-data-plane --control URL");
    }
    match view.nodes {
        Some(nodes) => {
            page.gap();
            page.append(nodes::table(nodes, status, view.columns));
        }
        None if status.nodes.rejected + status.nodes.stale + status.nodes.unreachable > 0 => {
            page.push("  which ones, and why: o1ctl nodes");
        }
        None => {}
    }
    page
}

/// `3 connected (1 draining), 1 unreachable · 2 synced, 1 REJECTED`
#[must_use]
pub fn counts(nodes: NodeCounts) -> String {
    let some = |parts: &[(u32, &str)]| {
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        parts.map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
    };
    let connected = match nodes.draining {
        0 => "connected".to_owned(),
        draining => format!("connected ({draining} draining)"),
    };
    let there = some(&[(nodes.connected, connected.as_str()), (nodes.unreachable, "unreachable")]);
    let sync = some(&[
        (nodes.synced, "synced"),
        (nodes.pending, "pending"),
        (nodes.stale, "stale"),
        (nodes.rejected, "REJECTED"),
    ]);
    match (there.is_empty(), sync.is_empty()) {
        (true, _) => "none".to_owned(),
        (false, true) => there,
        (false, false) => format!("{there} · {sync}"),
    }
}
