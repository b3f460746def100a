//! What caches, endpoints and batches did → the pages of `o1ctl cache`, and their part of `o1ctl status`.

use super::{
    page::{Line, Page, Span, Style},
    span::{self, UNKNOWN},
    table::Table,
};
use crate::{
    counts::{Batches, Endpoint, Purge, Purged, Tier},
    model::{Status, Upstream},
};
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// What is asked about.
#[derive(Debug, Clone, Copy, Default)]
pub struct View<'a> {
    /// This upstream alone.
    pub upstream: Option<&'a str>,
    /// This tier alone, by its word.
    pub tier: Option<&'a str>,
}

impl View<'_> {
    fn upstreams<'s>(&self, status: &'s Status) -> impl Iterator<Item = &'s Upstream> {
        status.upstreams.iter().filter(move |one| self.upstream.is_none_or(|only| only == one.name))
    }

    fn tiers<'s>(&self, upstream: &'s Upstream) -> impl Iterator<Item = &'s Tier> {
        upstream.cache.iter().filter(move |one| self.tier.is_none_or(|only| only == one.tier))
    }
}

/// `o1ctl cache stats --json`.
#[derive(Serialize)]
pub struct StatsReport<'a> {
    as_of: Option<Timestamp>,
    upstreams: Vec<UpstreamRow<'a>>,
}

#[derive(Serialize)]
struct UpstreamRow<'a> {
    name: &'a str,
    /// Lately.
    hit_ratio: Option<f64>,
    cache: Vec<&'a Tier>,
    batches: Option<Batches>,
}

/// For programs.
#[must_use]
pub fn report<'a>(status: &'a Status, view: &View<'_>) -> StatsReport<'a> {
    let row = |upstream: &'a Upstream| UpstreamRow {
        name: &upstream.name,
        hit_ratio: upstream.rates.and_then(|rates| rates.hit_ratio),
        cache: view.tiers(upstream).collect(),
        batches: upstream.batches,
    };
    StatsReport { as_of: status.as_of, upstreams: view.upstreams(status).map(row).collect() }
}

/// For people: tiers in which anything happened, or the one that was asked for.
#[must_use]
pub fn page(status: &Status, view: &View<'_>) -> Page {
    let mut table =
        Table::new(&["UPSTREAM", "TIER", "HITS", "STALE", "MISSES", "COALESCED", "RATE", "ENTRIES", "BYTES"]);
    let (mut rows, mut idle) = (0, Vec::new());
    for upstream in view.upstreams(status) {
        let tiers: Vec<_> = view.tiers(upstream).filter(|one| one.is_used() || view.tier.is_some()).collect();
        if tiers.is_empty() {
            idle.push(upstream.name.as_str());
        }
        for (index, tier) in tiers.iter().enumerate() {
            let mut below = left(tier);
            if index + 1 == tiers.len() {
                below.append(batches(upstream.batches));
            }
            table.row(cells(&upstream.name, tier), below);
        }
        rows += tiers.len();
    }
    let mut page = if rows > 0 { table.page() } else { Page::default() };
    if !idle.is_empty() {
        page.gap();
        page.push(Line::of(format!("nothing was looked up yet: {}", idle.join(", ")), Style::Dim));
    } else if rows == 0 {
        page.push("no upstreams: the configuration names none");
    }
    page
}

fn cells(upstream: &str, tier: &Tier) -> Vec<Span> {
    vec![
        upstream.into(),
        tier.tier.into(),
        tier.hits.to_string().into(),
        tier.stale.to_string().into(),
        tier.misses.to_string().into(),
        tier.coalesced.to_string().into(),
        tier.hit_ratio.map_or_else(|| UNKNOWN.to_owned(), span::percent).into(),
        tier.entries.to_string().into(),
        span::bytes(tier.bytes).into(),
    ]
}

/// What left a tier and what never came into it.
#[must_use]
pub fn left(tier: &Tier) -> Page {
    let mut page = Page::default();
    for (what, parts) in
        [("left", tier.evictions.parts().as_slice()), ("not kept", tier.skipped.parts().as_slice())]
    {
        let parts: Vec<_> = parts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        if !parts.is_empty() {
            page.push(Line::of(format!("  {what}: {}", parts.join(", ")), Style::Dim));
        }
    }
    page
}

/// What was sent for many callers at once.
#[must_use]
pub fn batches(batches: Option<Batches>) -> Page {
    let mut page = Page::default();
    let Some(Batches { batches, callers, waited_ms }) = batches.filter(|one| one.batches > 0) else {
        return page;
    };
    let each = |sum: f64| sum / batches as f64;
    let noun = if batches == 1 { "batch" } else { "batches" };
    let waited = span::latency(Duration::from_secs_f64(each(waited_ms) / 1e3));
    let text =
        format!("  {batches} {noun} for {callers} callers, {:.1} each, after {waited}", each(callers as f64));
    page.push(Line::of(text, Style::Dim));
    page
}

/// An upstream's part of `o1ctl status --verbose`.
#[must_use]
pub fn details(upstream: &Upstream) -> Page {
    let mut page = Page::default();
    for endpoint in &upstream.endpoints {
        let style = if endpoint.nodes_ejecting > 0 { Style::Warning } else { Style::Dim };
        page.push(Line::of(endpoint_words(endpoint), style));
    }
    for tier in upstream.cache.iter().filter(|tier| tier.is_used()) {
        let text = format!(
            "  cache {}: {} hits, {} stale, {} misses, {} coalesced; {} entries, {}",
            tier.tier,
            tier.hits,
            tier.stale,
            tier.misses,
            tier.coalesced,
            tier.entries,
            span::bytes(tier.bytes),
        );
        page.push(Line::of(text, Style::Dim));
    }
    page
}

fn endpoint_words(endpoint: &Endpoint) -> String {
    let mut parts = vec![format!("{} picks, {} in flight", endpoint.picks, endpoint.in_flight)];
    let counts = [
        (endpoint.waiting, "waiting"),
        (endpoint.retries, "retries"),
        (endpoint.queued, "had to wait"),
        (endpoint.refused, "got no place"),
    ];
    parts
        .extend(counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")));
    let out = match (endpoint.nodes_ejecting, endpoint.ejections) {
        (0, 0) => String::new(),
        (0, times) => format!("; was left out {}", times_word(times)),
        (nodes, times) => {
            format!("; left out by {nodes} of {} nodes, {} in all", endpoint.nodes, times_word(times))
        }
    };
    format!("  endpoint {}: {}{out}", endpoint.endpoint, parts.join(", "))
}

fn times_word(times: u64) -> String {
    if times == 1 { "once".to_owned() } else { format!("{times} times") }
}

/// `o1ctl cache purge --json`.
#[derive(Serialize)]
pub struct PurgeReport<'a> {
    upstream: Option<&'a str>,
    tier: Option<&'a str>,
    entries: u64,
    bytes: u64,
    nodes: Vec<PurgeRow<'a>>,
}

#[derive(Serialize)]
struct PurgeRow<'a> {
    node_id: &'a str,
    result: &'static str,
    entries: Option<u64>,
    bytes: Option<u64>,
    error: Option<&'a str>,
}

impl<'a> PurgeRow<'a> {
    fn of(purge: &'a Purge) -> Self {
        let row = |result| Self { node_id: &purge.node_id, result, entries: None, bytes: None, error: None };
        match &purge.done {
            Purged::Purged { entries, bytes } => {
                Self { entries: Some(*entries), bytes: Some(*bytes), ..row("purged") }
            }
            Purged::Absent => row("absent"),
            Purged::Failed { error } => Self { error: Some(error), ..row("failed") },
        }
    }
}

/// For programs.
#[must_use]
pub fn purge_report<'a>(purges: &'a [Purge], view: &View<'a>) -> PurgeReport<'a> {
    let (entries, bytes) = sums(purges);
    PurgeReport {
        upstream: view.upstream,
        tier: view.tier,
        entries,
        bytes,
        nodes: purges.iter().map(PurgeRow::of).collect(),
    }
}

/// For people.
#[must_use]
pub fn purge_page(purges: &[Purge], view: &View<'_>) -> Page {
    let mut table = Table::new(&["NODE", "ENTRIES", "BYTES", "RESULT"]);
    for Purge { node_id, done } in purges {
        let none = || Span::from(UNKNOWN);
        let (entries, bytes, result) = match done {
            Purged::Purged { entries, bytes } => {
                (entries.to_string().into(), span::bytes(*bytes).into(), Span::new("✅ purged", Style::Good))
            }
            Purged::Absent => (none(), none(), Span::new("· serves no such upstream", Style::Dim)),
            Purged::Failed { error } => (none(), none(), Span::new(format!("❌ {error}"), Style::Bad)),
        };
        table.row(vec![node_id.as_str().into(), entries, bytes, result], Page::default());
    }
    let mut page = table.page();
    page.gap();
    let (entries, bytes) = sums(purges);
    let done = purges.iter().filter(|one| !matches!(one.done, Purged::Failed { .. })).count();
    let of = view.upstream.map_or_else(|| "all upstreams".to_owned(), |name| format!("upstream {name}"));
    let tier = view.tier.map_or_else(|| "all tiers".to_owned(), |tier| format!("tier {tier}"));
    page.push(format!(
        "{entries} {} ({}) of {of}, {tier}, left the cache of {done} of {} {}",
        if entries == 1 { "entry" } else { "entries" },
        span::bytes(bytes),
        purges.len(),
        if purges.len() == 1 { "node" } else { "nodes" },
    ));
    page
}

fn sums(purges: &[Purge]) -> (u64, u64) {
    purges.iter().fold((0, 0), |(all, size), one| match one.done {
        Purged::Purged { entries, bytes } => (all + entries, size + bytes),
        Purged::Absent | Purged::Failed { .. } => (all, size),
    })
}
