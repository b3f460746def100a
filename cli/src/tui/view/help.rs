//! What the keys do.

use crate::output::page::{Line, Page, Style};

const KEYS: [(&str, &str); 9] = [
    ("1-6, tab, shift-tab", "another view"),
    ("↑ ↓, k j, page up/down, g G", "choose a row, or scroll"),
    ("← →, h l", "in logs: another upstream"),
    ("/", "filter what is shown; enter keeps it, esc drops it"),
    ("s", "sort by the next column"),
    ("S", "the other way round"),
    ("p, space", "hold still what is shown, and go on"),
    ("?", "this page; any key closes it"),
    ("q, ctrl-c", "end"),
];

const NOTES: [&str; 5] = [
    "Figures are measured, or shown as –. Charts have a column for every 5 s, with",
    "· where nothing was measured. The log is that of the upstream that was chosen.",
    "",
    "When the control plane goes away the last picture stays, marked STALE; it is",
    "asked again until it answers.",
];

pub(super) fn page() -> Page {
    let mut page = Page::default();
    for (keys, what) in KEYS {
        page.push(Line::of(format!("  {keys:<28}"), Style::Bold).and(what, Style::Plain));
    }
    page.gap();
    NOTES.iter().for_each(|note| page.push(Line::of(format!("  {note}"), Style::Dim)));
    page
}
