//! Calls → a table: when, where, what, how it went.

use super::{
    page::{Page, Span, Style},
    span::{self, UNKNOWN},
    table::Table,
};
use crate::inspect::{Call, CallOutcome};
use jiff::tz::TimeZone;

/// What is needed least comes first.
const DISPENSABLE: [&str; 3] = ["STORE", "NODE", "METHOD"];

/// With fewer columns than these, names are no longer than this.
const ROOMY: usize = 120;
const SHORT: usize = 20;

/// For people, in their time zone, so wide: the header and a line for each, in the order in which they come.
#[must_use]
pub fn page<'a>(calls: impl Iterator<Item = &'a Call>, zone: &TimeZone, columns: usize) -> Page {
    let most = if columns < ROOMY { SHORT } else { usize::MAX };
    let header = ["TIME", "NODE", "UPSTREAM", "METHOD", "NAME", "TOOK", "STORE", "OUTCOME"];
    let mut table = Table::new(&header);
    for call in calls {
        let at = call.at.map(|at| at.to_zoned(zone.clone()).strftime("%H:%M:%S%.3f").to_string());
        let text = |text: &str| Span::from(if text.is_empty() { UNKNOWN } else { text });
        table.row(
            vec![
                text(&at.unwrap_or_default()),
                text(&call.node_id),
                text(&call.upstream),
                text(&call.method),
                text(&shortened(&call.name, most)),
                text(&call.took.map(span::latency).unwrap_or_default()),
                text(call.store.map_or("", |store| store.word())),
                outcome(call.outcome),
            ],
            Page::default(),
        );
    }
    table.fit(columns, &DISPENSABLE);
    table.page()
}

fn shortened(name: &str, most: usize) -> String {
    match name.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

fn outcome(outcome: CallOutcome) -> Span {
    match outcome {
        CallOutcome::Ok => Span::new("ok", Style::Good),
        CallOutcome::Cached => Span::new("cached", Style::Good),
        CallOutcome::ApplicationError => Span::new("call failed", Style::Warning),
        CallOutcome::Error => Span::new("no answer", Style::Bad),
        CallOutcome::Timeout => Span::new("timed out", Style::Bad),
        CallOutcome::Unknown => Span::from(UNKNOWN),
    }
}
