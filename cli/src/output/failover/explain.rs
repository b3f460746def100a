//! One upstream → the whole story of `o1ctl explain UPSTREAM`: where it is and why, what each node sees, what keeps it
//! there, what happens next, and what an operator can do.

use super::{Tale, details, store, tale};
use crate::{
    events::Event,
    failover::{Decision, DecisionState, Failover, Mode, Store, Verdict},
    model::{Status, Upstream, UpstreamState},
    output::{
        page::{Line, Page, Style},
        span,
    },
    verdict::Verdict as Judged,
};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

/// What is asked.
pub struct Question<'a> {
    /// Which.
    pub upstream: &'a Upstream,
    /// Of the fleet.
    pub status: &'a Status,
    /// The control plane's last decision about it, where it keeps one.
    pub decided: Option<&'a Event>,
    /// As the exit code says.
    pub verdict: Judged,
    /// Of the window; `None`: as many as there are.
    pub columns: Option<usize>,
    /// For times of day.
    pub zone: &'a TimeZone,
}

/// `o1ctl explain UPSTREAM --json`.
#[derive(Debug, Serialize)]
pub struct Answer<'a> {
    /// As asked.
    pub asked: &'a str,
    /// As the exit code says.
    pub verdict: Judged,
    /// When the picture was taken.
    pub as_of: Option<Timestamp>,
    /// Whether the control plane decides.
    #[serde(serialize_with = "crate::failover::decisions")]
    pub decisions: Option<DecisionState>,
    /// Everything that is known of it.
    pub upstream: &'a Upstream,
    /// The last decision about it.
    pub last_decision: Option<&'a Event>,
    /// Why it is where it is; one sentence.
    pub why: Option<String>,
    /// What becomes of reads.
    pub reads: Option<String>,
    /// What becomes of writes.
    pub writes: Option<String>,
    /// What keeps it where it is.
    pub keeps: Vec<String>,
    /// What happens next.
    pub next: Option<String>,
    /// What an operator can do.
    pub orders: Vec<Order>,
}

/// Something that an operator can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Order {
    /// To be typed; words in capitals are to be replaced.
    pub command: String,
    /// What for.
    pub what: &'static str,
}

/// Explains.
#[must_use]
pub fn answer<'a>(question: &Question<'a>) -> Answer<'a> {
    let tale = Tale::of(question.upstream, question.status, question.zone);
    let tale = tale.as_ref();
    Answer {
        asked: &question.upstream.name,
        verdict: question.verdict,
        as_of: question.status.as_of,
        decisions: question.status.control_plane.decisions,
        upstream: question.upstream,
        last_decision: question.decided,
        why: tale.and_then(Tale::why),
        reads: tale.map(Tale::reads),
        writes: tale.map(Tale::writes),
        keeps: tale.map(keeps).unwrap_or_default(),
        next: tale.map(Tale::next),
        orders: tale.map(|tale| orders(tale, question.status)).unwrap_or_default(),
    }
}

/// What keeps it where it is.
fn keeps(tale: &Tale<'_>) -> Vec<String> {
    let failover = tale.failover;
    let mut found = Vec::new();
    if let Some(store) = failover.mode.pinned() {
        let until = failover.mode_until.map(|until| format!(" until {}", tale.clock(until)));
        found.push(format!("pinned to the {}{}", store.word(), until.unwrap_or_default()));
    }
    found.extend(tale.undecided());
    if failover.is_active() {
        found.extend(
            tale.hold()
                .map(|hold| format!("a failover lasts a while, so that it does not flap: until {hold}")),
        );
        let stable = failover.stable.map(|stable| format!(" of the {} that are needed", span::words(stable)));
        let stable = stable.unwrap_or_default();
        match failover.healthy_since {
            Some(since) => {
                found.push(format!("the primary has been healthy{}{stable}", tale.since(Some(since))))
            }
            None if failover.desired != Some(Store::Primary) => found.push(format!(
                "the primary is not healthy for enough nodes: {} of {} observers see it healthy",
                failover.observers_healthy, failover.observers
            )),
            None => {}
        }
    }
    if failover.decision == Decision::Blocked {
        found.push("neither the primary nor the backup works".to_owned());
    }
    if failover.journal_pending > 0 {
        let (count, noun) =
            (failover.journal_pending, if failover.journal_pending == 1 { "write" } else { "writes" });
        found.push(format!("{count} {noun} in journals: the primary takes over when none is left"));
    }
    found.extend(tale.hindrances());
    found
}

fn orders(tale: &Tale<'_>, status: &Status) -> Vec<Order> {
    let name = &tale.upstream.name;
    let failover = tale.failover;
    let mut found = Vec::new();
    let mut order = |command: String, what| found.push(Order { command, what });
    if status.control_plane.decisions == Some(DecisionState::Maintenance) {
        order("o1ctl maintenance off --reason TEXT".to_owned(), "decisions happen by themselves again");
    }
    if failover.mode.pinned().is_some() {
        order(format!("o1ctl unpin {name} --reason TEXT"), "the control plane decides again");
    }
    if failover.nodes_on_backup > 0 || failover.desired == Some(Store::Backup) {
        let force = if failover.primary_verdict == Verdict::Healthy { "" } else { " --force" };
        let what = match force {
            "" => "the primary now, without waiting",
            _ => "the primary now, although it is not known to work",
        };
        order(format!("o1ctl restore {name} --reason TEXT{force}"), what);
    } else {
        order(format!("o1ctl failover {name} --reason TEXT"), "the backup now, by hand");
    }
    if failover.mode == Mode::Auto {
        let at = if failover.is_active() { Store::Backup } else { Store::Primary };
        order(format!("o1ctl pin {name} {} --for 1h --reason TEXT", at.word()), "it stays where it is");
    }
    order(format!("o1ctl events --upstream {name}"), "what happened");
    found
}

/// For people.
#[must_use]
pub fn page(answer: &Answer<'_>, question: &Question<'_>) -> Page {
    let mut page = Page::default();
    let upstream = question.upstream;
    page.push(Line::of(&upstream.name, Style::Bold));
    let Some(tale) = Tale::of(upstream, question.status, question.zone) else {
        without_backup(&mut page, upstream, question.columns);
        return page;
    };
    let failover = tale.failover;
    let place = super::state(upstream).unwrap_or_else(|| unserved(upstream.state).into());
    let mut line = Line::of("  ", Style::Plain);
    line.push(place);
    let served = format!("; store: {}{}", store(failover), tale.since(failover.serving_since()));
    page.push(line.and(served, Style::Plain));
    page.gap();
    fact(&mut page, "decision", &decision(&tale, question.decided), question.columns);
    fact(&mut page, "why", answer.why.as_deref().unwrap_or_default(), question.columns);
    fact(&mut page, "reads", answer.reads.as_deref().unwrap_or_default(), question.columns);
    fact(&mut page, "writes", answer.writes.as_deref().unwrap_or_default(), question.columns);
    fact(
        &mut page,
        "primary",
        &seen(&upstream.primary, failover.primary_verdict, &observers(failover)),
        question.columns,
    );
    let backup = upstream.backup.as_deref().unwrap_or_default();
    fact(&mut page, "backup", &seen(backup, failover.backup_verdict, ""), question.columns);
    for (index, reason) in answer.keeps.iter().enumerate() {
        fact(&mut page, if index == 0 { "kept by" } else { "" }, reason, question.columns);
    }
    fact(&mut page, "next", answer.next.as_deref().unwrap_or_default(), question.columns);
    page.gap();
    page.append(details::nodes(&tale, question.columns));
    page.gap();
    let width = answer.orders.iter().map(|order| order.command.chars().count()).max().unwrap_or(0);
    for order in &answer.orders {
        page.push(
            Line::of(format!("  {:<width$}", order.command), Style::Plain)
                .and(format!("  # {}", order.what), Style::Dim),
        );
    }
    page
}

/// Beside its name, and below it what does not fit into the window.
fn fact(page: &mut Page, name: &str, value: &str, columns: Option<usize>) {
    if value.is_empty() {
        return;
    }
    let mut text = Page::default();
    text.paragraph(value, 0, Style::Plain, columns.map(|columns| columns.saturating_sub(12)));
    let mut name = name;
    for line in text.into_lines() {
        page.push(Line::of(format!("  {name:<10}"), Style::Dim).and_all(line));
        name = "";
    }
}

fn seen(what: &str, verdict: Verdict, more: &str) -> String {
    format!("{what}, {}{more}", verdict.word())
}

fn observers(failover: &Failover) -> String {
    let breaker =
        failover.primary_breaker.map(|state| format!(", breaker {}", state.word())).unwrap_or_default();
    format!(
        "{breaker}; {} fresh {}: {} unhealthy, {} healthy",
        failover.observers,
        tale::plural(failover.observers.try_into().unwrap_or(usize::MAX), "observer"),
        failover.observers_unhealthy,
        failover.observers_healthy
    )
}

/// The last decision with its inputs, from the log where there is one.
fn decision(tale: &Tale<'_>, decided: Option<&Event>) -> String {
    let failover = tale.failover;
    let Some(desired) = failover.desired else { return "none yet".to_owned() };
    let reason = failover.last_reason.map(|reason| format!(", {}", reason.word())).unwrap_or_default();
    let same = decided.filter(|event| event.term == failover.term);
    let at = tale.since(same.and_then(|event| event.at).or(failover.since));
    let saw = same.map_or(failover.because.as_str(), |event| event.reason.as_str());
    let saw = if saw.is_empty() { String::new() } else { format!(": {saw}") };
    format!("{} (term {}{reason}){at}{saw}", desired.word(), failover.term)
}

fn without_backup(page: &mut Page, upstream: &Upstream, columns: Option<usize>) {
    page.push(format!("  {}", unserved(upstream.state)));
    page.gap();
    fact(page, "primary", &upstream.primary, columns);
    for error in &upstream.errors {
        fact(page, "error", error, columns);
    }
    let none = match &upstream.backup {
        None => "none: when the primary fails, calls fail. `backup` in its configuration names one",
        Some(_) => "the control plane says nothing of it: it may be of an older version",
    };
    fact(page, "backup", none, columns);
}

fn unserved(state: UpstreamState) -> &'static str {
    match state {
        UpstreamState::Healthy => "✅ healthy",
        UpstreamState::Degraded => "⚠️ degraded: some nodes do not reach it",
        UpstreamState::Unreachable => "❌ unreachable",
        UpstreamState::Unknown => "· not tried yet",
    }
}
