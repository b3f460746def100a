//! Lines of stderr → one line each: when, which node, which process, what.

use super::page::{Line, Page, Style};
use crate::inspect::LogLine;
use jiff::tz::TimeZone;

/// Which colour each node has; the same for as long as lines come.
#[derive(Debug, Default)]
pub struct Sources(Vec<String>);

impl Sources {
    fn style(&mut self, node_id: &str) -> Style {
        let known = self.0.iter().position(|known| known == node_id);
        let at = known.unwrap_or_else(|| {
            self.0.push(node_id.to_owned());
            self.0.len() - 1
        });
        Style::Source(u8::try_from(at % 3).unwrap_or(0))
    }
}

/// For people, in their time zone.
#[must_use]
pub fn page(lines: &[LogLine], sources: &mut Sources, zone: &TimeZone) -> Page {
    let mut page = Page::default();
    for line in lines {
        let at = line.at.map_or_else(
            || " ".repeat(23),
            |at| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        );
        let style = sources.style(&line.node_id);
        page.push(
            Line::of(at, Style::Dim)
                .and(format!(" {} ", line.node_id), style)
                .and(format!("[{}] ", line.pid), Style::Dim)
                .and(&line.text, Style::Plain),
        );
    }
    page
}
