//! Events → one line each: when, who, of which upstream, what.

use super::{
    page::{Line, Page, Style},
    span,
};
use crate::events::{Event, EventKind};
use jiff::tz::TimeZone;

/// For people, in their time zone.
#[must_use]
pub fn page(events: &[Event], zone: &TimeZone) -> Page {
    let mut page = Page::default();
    for event in events {
        let at = event.at.map_or_else(
            || " ".repeat(23),
            |at| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        );
        let who = if event.node_id.is_empty() { "control plane" } else { &event.node_id };
        let of = if event.upstream.is_empty() { String::new() } else { format!("{}: ", event.upstream) };
        page.push(
            Line::of(at, Style::Dim)
                .and(format!("  {who}  "), Style::Plain)
                .and(of, Style::Bold)
                .and(words(event), style(event.kind)),
        );
    }
    page
}

fn style(kind: EventKind) -> Style {
    match kind {
        EventKind::FailoverStarted | EventKind::FailoverCommitted | EventKind::ProvisionalStarted => {
            Style::Warning
        }
        EventKind::SyncBackFailed | EventKind::BackupSyncFailed | EventKind::DeadLettered => Style::Bad,
        EventKind::Restored => Style::Good,
        _ => Style::Plain,
    }
}

/// What happened, in a sentence without a full stop.
#[must_use]
pub fn words(event: &Event) -> String {
    let because = |what: String| match event.reason.as_str() {
        "" => what,
        reason => format!("{what}: {reason}"),
    };
    let took = event.duration.map(|span| format!(" in {}", short(span))).unwrap_or_default();
    let term = term(event);
    match event.kind {
        EventKind::NodeStarted => because("the node started".to_owned()),
        EventKind::NodeStopping => because("the node is stopping".to_owned()),
        EventKind::FailoverStarted => because(format!("failing over to the backup{term}")),
        EventKind::FailoverCommitted => because(format!("failed over to the backup{term}")),
        EventKind::FailoverAborted => because(format!("called the failover off{term}")),
        EventKind::SyncBackStarted => because(format!("syncing back{}", waiting(event))),
        EventKind::SyncBackCompleted => format!("synced back {}{took}", entries(event.entries)),
        EventKind::SyncBackFailed => {
            because(format!("sync-back failed after {}{took}", entries(event.entries)))
        }
        EventKind::Restored => restored(event),
        EventKind::BreakerChanged => {
            let state = event.breaker.map_or("in another state", |state| state.word());
            because(format!("the breaker of the primary is {state}"))
        }
        EventKind::BackupSyncCompleted => format!("wrote the snapshot, {}{took}", span::bytes(event.bytes)),
        EventKind::BackupSyncFailed => because("could not write the snapshot".to_owned()),
        EventKind::EntryJournaled => because("kept a write in the journal".to_owned()),
        EventKind::DeadLettered => because("the primary refused a write for good".to_owned()),
        EventKind::ClientsNotified => {
            format!(
                "told {} client {}",
                event.entries,
                if event.entries == 1 { "session" } else { "sessions" }
            )
        }
        EventKind::ProvisionalStarted => {
            because("reads go to the backup, by the node's own breaker".to_owned())
        }
        EventKind::ProvisionalEnded => because("reads go to the primary again".to_owned()),
        EventKind::Decided => match event.active_store {
            Some(store) => because(format!("decided for the {}{term}", store.word())),
            None => because(format!("decided{term}")),
        },
        EventKind::EventsLost => {
            format!("the node had no room for {} older events: they are lost", event.entries)
        }
        EventKind::Unknown => because("something that this version of o1ctl does not know".to_owned()),
    }
}

/// `restored the primary after 4m 12s, 12 entries synced back`
fn restored(event: &Event) -> String {
    let after = event.duration.map(|span| format!(" after {}", short(span))).unwrap_or_default();
    let back = match event.entries {
        0 => String::new(),
        count => format!(", {} synced back", entries(count)),
    };
    format!("restored the primary{after}{back}{}", term(event))
}

fn term(event: &Event) -> String {
    match (event.term, event.local_term) {
        (0, 0) => String::new(),
        (_, own) if own > 0 => " (by the node itself)".to_owned(),
        (term, _) => format!(" (term {term})"),
    }
}

fn waiting(event: &Event) -> String {
    if event.entries == 0 { String::new() } else { format!(" {}", entries(event.entries)) }
}

fn entries(count: u64) -> String {
    format!("{count} {}", if count == 1 { "entry" } else { "entries" })
}

/// Short spans with a fraction.
pub(super) fn short(span: std::time::Duration) -> String {
    if span.as_secs() < 10 { span::latency(span) } else { span::words(span) }
}
