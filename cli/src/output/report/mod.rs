//! Everything that is known of a fleet and of what happened → Markdown. Only what was measured: what is not, is said to
//! be absent.

mod episodes;
mod suggest;

use super::{
    events::{short, words},
    page::harmless,
    span,
};
use crate::{
    configs::Revision,
    events::{Bounds, Event, EventKind},
    inspect::{CallOutcome, NodeCalls},
    model::{Node, Status, Upstream, UpstreamState},
    verdict::Verdict,
};
use episodes::Episode;
use jiff::{Timestamp, tz::TimeZone};
use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

/// Lines of the timeline; the newest count.
const TIMELINE: usize = 60;
/// Rows of the table of failovers.
const EPISODES: usize = 40;

/// Rows of the tables of what is slowest.
const SLOWEST: usize = 10;

/// What the report is made of.
pub struct Facts<'a> {
    /// Who was asked.
    pub target: &'a str,
    /// From when on.
    pub since: Timestamp,
    /// Until when.
    pub now: Timestamp,
    /// For times.
    pub zone: &'a TimeZone,
    /// The fleet.
    pub status: &'a Status,
    /// Every node.
    pub nodes: &'a [Node],
    /// Since then, the oldest first.
    pub events: &'a [Event],
    /// There were more than could be read.
    pub truncated: bool,
    /// What is kept at all.
    pub bounds: Bounds,
    /// Since then, the newest first.
    pub revisions: &'a [Revision],
    /// The calls of late, of each node that tells.
    pub calls: &'a [NodeCalls],
    /// Of the fleet, now.
    pub verdict: Verdict,
}

/// The whole report.
#[must_use]
pub fn page(facts: &Facts<'_>) -> String {
    let episodes = episodes::of(facts.events);
    let mut page = Markdown::default();
    summary(&mut page, facts, &episodes);
    suggestions(&mut page, facts, &episodes);
    timeline(&mut page, facts);
    upstreams(&mut page, facts);
    failovers(&mut page, facts, &episodes);
    errors(&mut page, facts);
    slowest(&mut page, facts);
    page.0
}

/// Text that is being written.
#[derive(Default)]
struct Markdown(String);

impl Markdown {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn section(&mut self, title: &str) {
        let _ = write!(self.0, "\n## {title}\n\n");
    }

    fn header(&mut self, titles: &[&str]) {
        self.line(&format!("| {} |", titles.join(" | ")));
        self.line(&format!("|{}", " --- |".repeat(titles.len())));
    }

    fn row(&mut self, cells: &[String]) {
        let cells: Vec<_> = cells.iter().map(|cell| cell_of(cell)).collect();
        self.line(&format!("| {} |", cells.join(" | ")));
    }
}

/// What others wrote must not become markup: no cell, tag, code, link or picture.
fn cell_of(text: &str) -> String {
    let mut cell = String::new();
    for letter in harmless(text).chars() {
        match letter {
            '\\' | '|' | '[' | ']' | '!' => cell.extend(['\\', letter]),
            '<' => cell.push_str("&lt;"),
            '`' => cell.push('\''),
            letter => cell.push(letter),
        }
    }
    cell
}

fn date(moment: Timestamp, zone: &TimeZone) -> String {
    moment.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn summary(page: &mut Markdown, facts: &Facts<'_>, episodes: &[Episode]) {
    let (status, plane) = (facts.status, &facts.status.control_plane);
    page.line("# only1 report\n");
    let (from, to) = (date(facts.since, facts.zone), date(facts.now, facts.zone));
    let zone = facts.now.to_zoned(facts.zone.clone()).strftime("%:z").to_string();
    let span = span::words(span::since(facts.since, facts.now));
    page.line(&format!("{from} to {to} (UTC{zone}), {span}, from the control plane at {}.", facts.target));
    page.section("Summary");
    let word = match facts.verdict {
        Verdict::Healthy => "healthy",
        Verdict::Degraded => "degraded",
        Verdict::FailoverActive => "a failover is active",
        Verdict::Stale => "not known: the picture is old",
    };
    page.line(&format!("- **Now:** {word}."));
    let up = span::age(plane.started_at, status.as_of);
    let revision = plane.target.as_ref().map_or("none".to_owned(), |target| target.revision.to_string());
    page.line(&format!(
        "- **Control plane:** version {}, up {up}, configuration revision {revision}; revisions since then: {}.",
        plane.version,
        facts.revisions.len()
    ));
    page.line(&format!("- **Nodes:** {}.", super::status::counts(status.nodes)));
    let states = |wanted| status.upstreams.iter().filter(|one| one.state == wanted).count();
    page.line(&format!(
        "- **Upstreams:** {}, of which healthy: {}, degraded: {}, unreachable: {}, not tried: {}.",
        status.upstreams.len(),
        states(UpstreamState::Healthy),
        states(UpstreamState::Degraded),
        states(UpstreamState::Unreachable),
        states(UpstreamState::Unknown)
    ));
    let over: Vec<_> = episodes.iter().filter_map(|one| one.lasted).collect();
    let longest = over.iter().max().map(|span| format!(", the longest {}", short(*span)));
    page.line(&format!(
        "- **Failovers, by upstream and node:** {}, of which over: {}{}.",
        episodes.len(),
        over.len(),
        longest.unwrap_or_default()
    ));
    if facts.truncated {
        page.line(&format!(
            "- **Incomplete:** only the newest {} events were read; a shorter `--since` reads all.",
            facts.events.len()
        ));
    }
    if facts.events.is_empty() && facts.bounds.newest == 0 {
        page.line("- **Events:** none were ever stored.");
    }
}

fn suggestions(page: &mut Markdown, facts: &Facts<'_>, episodes: &[Episode]) {
    page.section("Suggestions");
    let found = suggest::all(facts, episodes);
    if found.is_empty() {
        page.line("None: none of the rules behind this section applies.");
    }
    for text in found {
        page.line(&format!("- {text}"));
    }
}

/// Events that come one by one with calls, or every minute, would hide all others.
fn is_told(event: &&Event) -> bool {
    !matches!(
        event.kind,
        EventKind::EntryJournaled
            | EventKind::ClientsNotified
            | EventKind::BackupSyncCompleted
            | EventKind::Unknown
    )
}

fn timeline(page: &mut Markdown, facts: &Facts<'_>) {
    page.section("Timeline");
    let mut told: Vec<(Option<Timestamp>, String)> = facts
        .events
        .iter()
        .filter(is_told)
        .map(|event| {
            let who = if event.node_id.is_empty() { "control plane" } else { &event.node_id };
            let of = if event.upstream.is_empty() { String::new() } else { format!("{}: ", event.upstream) };
            (event.at, format!("{who}: {of}{}", words(event)))
        })
        .collect();
    told.extend(facts.revisions.iter().map(|revision| {
        let by = if revision.actor.is_empty() { String::new() } else { format!(" by {}", revision.actor) };
        let why = if revision.comment.is_empty() { String::new() } else { format!(": {}", revision.comment) };
        (revision.created_at, format!("control plane: revision {}{by}{why}", revision.version.revision))
    }));
    told.sort_by_key(|(at, _)| *at);
    if told.is_empty() {
        return page.line("Nothing happened.");
    }
    let left_off = told.len().saturating_sub(TIMELINE);
    if left_off > 0 {
        page.line(&format!(
            "The newest {TIMELINE}; {left_off} before them are left off: `o1ctl events --since …`.\n"
        ));
    }
    page.header(&["When", "What"]);
    for (at, what) in told.into_iter().skip(left_off) {
        let at = at.map_or(span::UNKNOWN.to_owned(), |at| date(at, facts.zone));
        page.row(&[at, what]);
    }
}

fn upstreams(page: &mut Markdown, facts: &Facts<'_>) {
    page.section("Upstreams");
    if facts.status.upstreams.is_empty() {
        return page.line("The configuration names none.");
    }
    let started = facts.status.control_plane.started_at;
    let since = started.map_or("it started".to_owned(), |at| date(at, facts.zone));
    page.line(&format!(
        "Counts are since the control plane started ({since}), not since the beginning of this report; latencies are \
         of the last half minute.\n"
    ));
    page.header(&[
        "Upstream",
        "State",
        "Store",
        "Requests",
        "Errors",
        "Timeouts",
        "Failed calls",
        "p50",
        "p99",
        "Cache hits",
    ]);
    for upstream in &facts.status.upstreams {
        page.row(&row(upstream));
    }
}

fn row(upstream: &Upstream) -> Vec<String> {
    let absent = || span::UNKNOWN.to_owned();
    let (totals, rates) = (upstream.totals, upstream.rates);
    let count = |read: fn(&crate::model::Totals) -> u64| {
        totals.as_ref().map_or_else(absent, |totals| read(totals).to_string())
    };
    let looked: u64 = upstream.cache.iter().map(crate::counts::Tier::look_ups).sum();
    let hits: u64 = upstream.cache.iter().map(|tier| tier.hits + tier.stale).sum();
    vec![
        upstream.name.clone(),
        super::status::place(upstream).text().to_owned(),
        upstream.failover.as_ref().map_or_else(absent, super::failover::store),
        count(|totals| totals.requests),
        count(|totals| totals.errors),
        count(|totals| totals.timeouts),
        count(|totals| totals.application_errors),
        rates.and_then(|rates| rates.p50).map_or_else(absent, span::latency),
        rates.and_then(|rates| rates.p99).map_or_else(absent, span::latency),
        if looked == 0 { absent() } else { span::percent(hits as f64 / looked as f64) },
    ]
}

fn failovers(page: &mut Markdown, facts: &Facts<'_>, episodes: &[Episode]) {
    page.section("Failovers");
    if episodes.is_empty() {
        return page.line("None.");
    }
    let left_off = episodes.len().saturating_sub(EPISODES);
    if left_off > 0 {
        page.line(&format!("The newest {EPISODES}; {left_off} before them are left off.\n"));
    }
    page.header(&["Upstream", "Node", "From", "Lasted", "Entries synced back", "Why"]);
    for one in episodes.iter().skip(left_off) {
        page.row(&[
            one.upstream.clone(),
            one.node.clone(),
            one.from.map_or("before".to_owned(), |at| date(at, facts.zone)),
            match (one.is_over, one.lasted) {
                (true, Some(lasted)) => short(lasted),
                (true, None) => span::UNKNOWN.to_owned(),
                (false, _) => "still active".to_owned(),
            },
            one.synced_back.map_or(span::UNKNOWN.to_owned(), |count| count.to_string()),
            one.why.clone(),
        ]);
    }
}

fn errors(page: &mut Markdown, facts: &Facts<'_>) {
    page.section("Errors");
    let mut any = false;
    let mut say = |text: String| {
        any = true;
        page.line(&format!("- {}", cell_of(&text)));
    };
    for upstream in &facts.status.upstreams {
        for error in &upstream.errors {
            say(format!("{}, now: {error}", upstream.name));
        }
    }
    for node in facts.nodes {
        for rejection in &node.rejections {
            say(format!("{} refuses the configuration: {}", node.node_id, super::nodes::reason(rejection)));
        }
    }
    if let Some(source) = facts.status.control_plane.source.as_ref().filter(|source| source.refused) {
        for problem in &source.problems {
            say(format!("{}: {} ({})", source.path, problem.what, problem.rule));
        }
    }
    for ((upstream, kind), count) in troubles(facts.events) {
        let of = if upstream.is_empty() { String::new() } else { format!("{upstream}: ") };
        let what = match kind {
            "backup_sync_failed" => "snapshots that could not be written",
            "sync_back_failed" => "sync-backs that did not get to their end",
            "dead_lettered" => "writes that the primary refused for good",
            _ => "times that a node lost events",
        };
        say(format!("{of}{what}: {count}"));
    }
    if !any {
        page.line("None are known.");
    }
}

fn troubles(events: &[Event]) -> BTreeMap<(&str, &'static str), u64> {
    let mut counts = BTreeMap::new();
    for event in events {
        if matches!(
            event.kind,
            EventKind::BackupSyncFailed
                | EventKind::SyncBackFailed
                | EventKind::DeadLettered
                | EventKind::EventsLost
        ) {
            *counts.entry((event.upstream.as_str(), event.kind.word())).or_default() += 1;
        }
    }
    counts
}

fn slowest(page: &mut Markdown, facts: &Facts<'_>) {
    page.section("Slowest");
    let p99 = |one: &Upstream| one.rates.and_then(|rates| rates.p99);
    let mut measured: Vec<_> =
        facts.status.upstreams.iter().filter_map(|one| Some((p99(one)?, one.name.as_str()))).collect();
    measured.sort_by(|a, b| b.cmp(a));
    if measured.is_empty() {
        page.line("No upstream was called in the last half minute.");
    } else {
        page.header(&["Upstream", "p99 of the last half minute"]);
        for (p99, name) in measured.into_iter().take(SLOWEST) {
            page.row(&[name.to_owned(), span::latency(p99)]);
        }
    }
    tools(page, facts);
}

/// Of single tools nothing is added up: nodes remember some calls of late, and these are counted here.
fn tools(page: &mut Markdown, facts: &Facts<'_>) {
    let told = facts.calls.iter().filter_map(|node| node.said.as_ref().ok());
    let calls = told.flat_map(|seen| &seen.calls);
    let mut took: BTreeMap<(&str, &str), Vec<Duration>> = BTreeMap::new();
    let mut oldest = None;
    for call in calls.filter(|call| call.method == "tools/call" && call.outcome != CallOutcome::Cached) {
        if let Some(span) = call.took {
            took.entry((&call.upstream, &call.name)).or_default().push(span);
            oldest = oldest.into_iter().chain(call.at).min();
        }
    }
    page.line("");
    if took.is_empty() {
        return page
            .line("Single tools: absent. No node remembers a call of one; what they took is not added up.");
    }
    let since = oldest.map_or(String::new(), |at| format!(", the oldest of {}", date(at, facts.zone)));
    page.line(&format!(
        "Single tools are not added up. Of the calls that nodes remember (some of the latest{since}):\n"
    ));
    let mut rows: Vec<_> = took
        .into_iter()
        .filter_map(|(tool, spans)| Some((spans.iter().copied().max()?, median(&spans)?, spans.len(), tool)))
        .collect();
    rows.sort_by_key(|(longest, median, ..)| std::cmp::Reverse((*median, *longest)));
    page.header(&["Upstream", "Tool", "Calls", "Median", "Longest"]);
    for (longest, median, count, (upstream, tool)) in rows.into_iter().take(SLOWEST) {
        let (upstream, tool) = (upstream.to_owned(), tool.to_owned());
        page.row(&[upstream, tool, count.to_string(), span::latency(median), span::latency(longest)]);
    }
}

fn median(spans: &[Duration]) -> Option<Duration> {
    let mut sorted = spans.to_vec();
    sorted.sort();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests;
