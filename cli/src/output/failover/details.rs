//! What `--verbose` adds for an upstream that has a backup: each node's own view, and the account.

use super::{Tale, breaker, tale};
use crate::{
    failover::{Health, Node, Stats, Verdict},
    output::{
        page::{Line, Page, Span, Style},
        span::{self, UNKNOWN},
        table::Table,
    },
};

/// Each node that was heard.
#[must_use]
pub fn nodes(tale: &Tale<'_>, columns: Option<usize>) -> Page {
    let mut table = Table::new(&[
        "  NODE", "STORE", "PHASE", "TERM", "SINCE", "PRIMARY", "BREAKER", "BACKUP", "JOURNAL", "DEAD",
    ]);
    for node in &tale.failover.nodes {
        table.row(cells(node, tale), below(node));
    }
    if let Some(columns) = columns {
        table.fit(columns, &["DEAD", "TERM", "SINCE", "STORE"]);
    }
    if tale.failover.nodes.is_empty() { Page::default() } else { table.page() }
}

fn cells(node: &Node, tale: &Tale<'_>) -> Vec<Span> {
    let word = |text: Option<&str>| Span::from(text.unwrap_or(UNKNOWN));
    let own = if node.local_term > 0 { format!("+{}", node.local_term) } else { String::new() };
    vec![
        format!("  {}", node.node_id).into(),
        word(node.active_store.map(|store| store.word())),
        word(node.phase.map(tale::phase)),
        format!("{}{own}", node.term).into(),
        node.since.map_or_else(|| UNKNOWN.into(), |since| tale.clock(since).into()),
        health(&node.primary_health),
        breaker(node.primary_health.breaker),
        health(&node.backup_health),
        node.journal_pending.to_string().into(),
        node.dead_letters.to_string().into(),
    ]
}

fn health(health: &Health) -> Span {
    let style = match health.verdict {
        Verdict::Healthy => Style::Good,
        Verdict::Unhealthy => Style::Bad,
        Verdict::Unknown => Style::Dim,
    };
    match health.latency.filter(|_| health.verdict == Verdict::Healthy) {
        Some(latency) => Span::new(format!("healthy, {}", span::latency(latency)), style),
        None => Span::new(health.verdict.word(), style),
    }
}

fn below(node: &Node) -> Page {
    let mut page = Page::default();
    if !node.connected {
        page.push(Line::of("    not connected: this is what it said last", Style::Warning));
    }
    for (store, health) in [("primary", &node.primary_health), ("backup", &node.backup_health)] {
        if !health.error.is_empty() {
            page.push(Line::of(format!("    {store}: {}", health.error), Style::Bad));
        }
    }
    if node.refusal.is_none() && !node.message.is_empty() {
        page.push(format!("    {}", node.message));
    }
    page
}

/// The account, on a few lines.
#[must_use]
pub fn account(tale: &Tale<'_>) -> Page {
    let mut page = Page::default();
    let stats = &tale.failover.stats;
    let moment = |what: &str, at: Option<_>| match at {
        Some(at) => format!(", {what} {}", tale.clock(at)),
        None => String::new(),
    };
    page.push(Line::of(
        format!(
            "  failovers: {} ({} begun by nodes themselves), {} in all{}{}",
            stats.failover_count,
            stats.provisional_failovers,
            took(stats.total_failover_time),
            moment("last", stats.last_failover_time),
            moment("last restoration", stats.last_restoration_time),
        ),
        Style::Dim,
    ));
    page.push(Line::of(snapshots(stats, &moment("last", stats.last_backup_sync)), Style::Dim));
    page.push(Line::of(
        format!(
            "  sync-backs: {}, {} failed, {} entries of {} replayed in {}, {} dead letters",
            stats.sync_back_operations,
            stats.sync_back_failures,
            stats.entries_synced_back,
            stats.entries_in_failover,
            took(stats.total_sync_back_time),
            stats.dead_letter_entries,
        ),
        Style::Dim,
    ));
    page
}

fn snapshots(stats: &Stats, last: &str) -> String {
    let file = match stats.backup_file_exists {
        true => format!(", {}", span::bytes(stats.backup_file_size_bytes)),
        false => String::new(),
    };
    format!(
        "  backup syncs: {}, {} failed, {} in all{last}{file}",
        stats.backup_syncs_completed,
        stats.backup_sync_failures,
        took(stats.total_backup_sync_time),
    )
}

fn took(span: Option<std::time::Duration>) -> String {
    match span {
        Some(span) if span.as_secs() >= 60 => span::words(span),
        Some(span) if span.is_zero() => "0s".to_owned(),
        Some(span) => span::latency(span),
        None => UNKNOWN.to_owned(),
    }
}
