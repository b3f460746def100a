//! The audit → one entry each: when, who, what, what came of it; and below it why.

use super::page::{Line, Page, Style};
use crate::audit::Entry;
use jiff::tz::TimeZone;

/// For people, in their time zone, the oldest first.
#[must_use]
pub fn page(entries: &[Entry], zone: &TimeZone) -> Page {
    let mut page = Page::default();
    if entries.is_empty() {
        page.push("Nobody changed anything, and nobody was refused.");
    }
    for entry in entries.iter().rev() {
        let at = entry.at.map_or_else(
            || " ".repeat(19),
            |at| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        );
        let subject = if entry.subject.is_empty() { String::new() } else { format!(" ({})", entry.subject) };
        page.push(
            Line::of(at, Style::Dim)
                .and(format!("  {}  ", who(entry)), Style::Bold)
                .and(format!("{}{subject}: ", entry.action), Style::Plain)
                .and(outcome(entry), style(entry)),
        );
        if !entry.why.is_empty() {
            page.push(Line::of(format!("{}because: {}", " ".repeat(21), entry.why), Style::Dim));
        }
    }
    page
}

/// `ann (operator) from 10.0.0.1:5`, or whatever of it is known.
fn who(entry: &Entry) -> String {
    match (entry.who.as_str(), entry.role.as_str()) {
        ("", "local") => format!("somebody here, {}", entry.from),
        ("", _) => format!("somebody, {}", entry.from),
        (who, role) => format!("{who} ({role}), {}", entry.from),
    }
}

fn outcome(entry: &Entry) -> String {
    let detail = if entry.detail.is_empty() { String::new() } else { format!(", {}", entry.detail) };
    let again = match entry.repeated {
        0 => String::new(),
        more => format!(", and {more} times before"),
    };
    let word = if entry.outcome == "unknown" { "not known what came of it" } else { entry.outcome };
    format!("{word}{detail}{again}")
}

fn style(entry: &Entry) -> Style {
    match entry.outcome {
        "done" => Style::Good,
        "refused" => Style::Bad,
        _ => Style::Warning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(who: &str, role: &str, outcome: &'static str) -> Entry {
        Entry {
            id: 1,
            at: "2026-11-30T12:00:00Z".parse().ok(),
            kind: "change",
            who: who.to_owned(),
            role: role.to_owned(),
            from: "10.0.0.1:5".to_owned(),
            action: "ConfigService/ApplyConfig".to_owned(),
            subject: "only1.yaml".to_owned(),
            why: "a backup".to_owned(),
            outcome,
            detail: "version 1.7".to_owned(),
            request_id: String::new(),
            repeated: 0,
        }
    }

    #[test]
    fn an_entry_says_who_what_why_and_what_came_of_it() {
        let handshake = Entry {
            action: "handshake".to_owned(),
            subject: String::new(),
            why: String::new(),
            detail: "its certificate has expired".to_owned(),
            repeated: 3,
            ..entry("", "", "refused")
        };
        let entries = [handshake, entry("", "local", "unknown"), entry("ann", "editor", "done")];
        let text = page(&entries, &TimeZone::UTC).paint(false);
        insta::assert_snapshot!(text, @"
        2026-11-30 12:00:00  ann (editor), 10.0.0.1:5  ConfigService/ApplyConfig (only1.yaml): done, version 1.7
                             because: a backup
        2026-11-30 12:00:00  somebody here, 10.0.0.1:5  ConfigService/ApplyConfig (only1.yaml): not known what came of it, version 1.7
                             because: a backup
        2026-11-30 12:00:00  somebody, 10.0.0.1:5  handshake: refused, its certificate has expired, and 3 times before
        ");
        let lines: String = entries.iter().map(crate::output::json::line).collect();
        insta::assert_snapshot!("audit_json", lines);
        assert!(page(&[], &TimeZone::UTC).paint(false).starts_with("Nobody"));
    }
}
