//! Styled text: lines of spans, painted at the end or not at all.
//!
//! Text that comes from elsewhere (errors of servers, names, log lines) is made harmless here: a control
//! character must never reach a terminal.

use unicode_width::UnicodeWidthChar as _;
use unicode_width::UnicodeWidthStr as _;

/// What a span means; the colour follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// Nothing special.
    #[default]
    Plain,
    /// A heading.
    Bold,
    /// Less important.
    Dim,
    /// As it should be.
    Good,
    /// Works, but somebody should look.
    Warning,
    /// Does not work.
    Bad,
    /// One of several sources, told apart by number.
    Source(u8),
}

/// A run of text in one style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    text: String,
    style: Style,
}

impl Span {
    /// Text in a style. Control characters become spaces or are shown escaped.
    #[must_use]
    pub fn new(text: impl AsRef<str>, style: Style) -> Self {
        Self { text: harmless(text.as_ref()), style }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it means.
    #[must_use]
    pub fn style(&self) -> Style {
        self.style
    }

    /// Columns it takes in a terminal.
    #[must_use]
    pub fn width(&self) -> usize {
        self.text.width()
    }
}

impl<T: AsRef<str>> From<T> for Span {
    fn from(text: T) -> Self {
        Self::new(text, Style::Plain)
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line(Vec<Span>);

impl Line {
    /// A line of one span.
    #[must_use]
    pub fn of(text: impl AsRef<str>, style: Style) -> Self {
        Self(vec![Span::new(text, style)])
    }

    /// Adds a span at the end.
    #[must_use]
    pub fn and(mut self, text: impl AsRef<str>, style: Style) -> Self {
        self.0.push(Span::new(text, style));
        self
    }

    /// Adds the spans of another line at the end.
    #[must_use]
    pub fn and_all(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub(crate) fn push(&mut self, span: Span) {
        self.0.push(span);
    }

    /// What it is made of.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.0
    }

    /// The text without its styles.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.iter().map(Span::text).collect()
    }

    /// Exactly so many columns wide: cut as by [`Page::cropped`], or filled up with blanks.
    #[must_use]
    pub fn padded(&self, columns: usize) -> Self {
        let line = self.cropped(columns);
        let width: usize = line.0.iter().map(Span::width).sum();
        line.and(" ".repeat(columns.saturating_sub(width)), Style::Plain)
    }

    /// As many lines as it takes, the further ones indented; broken between words where these are short. Blanks at its
    /// end are left out.
    #[must_use]
    pub fn broken(&self, columns: usize) -> Vec<Self> {
        const INDENT: usize = 4;
        let mut lines = vec![Self::default()];
        let mut left = columns;
        for span in &self.cropped(usize::MAX).0 {
            let mut text = String::new();
            for c in span.text.chars() {
                let width = c.width().unwrap_or(0);
                // Where there is no room for anything, there is none on the next line either.
                if width > left && columns > INDENT + 1 {
                    let word = text.rfind(' ').map_or(text.len(), |blank| blank + 1);
                    let word = if text[word..].width() > columns / 3 { text.len() } else { word };
                    let carried = text.split_off(word);
                    let next = Self::of(" ".repeat(INDENT), Style::Plain);
                    let line = lines.last_mut().expect("there is at least one line");
                    line.push(Span { text, style: span.style });
                    lines.push(next);
                    left = (columns - INDENT).saturating_sub(carried.width());
                    text = carried;
                }
                left = left.saturating_sub(width);
                text.push(c);
            }
            let line = lines.last_mut().expect("there is at least one line");
            line.push(Span { text, style: span.style });
        }
        lines
    }

    /// Cut to `columns`, the last one of them an ellipsis when something was cut.
    fn cropped(&self, columns: usize) -> Self {
        // Blanks at the end are not painted.
        let said =
            self.0.iter().rposition(|span| !span.text.trim_end().is_empty()).map_or(0, |last| last + 1);
        let line = &self.0[..said];
        if line.iter().map(Span::width).sum::<usize>() <= columns {
            return Self(line.to_vec());
        }
        let mut left = columns.saturating_sub(1);
        let mut spans = Vec::new();
        for span in line {
            let mut text = String::new();
            for c in span.text.chars() {
                let width = c.width().unwrap_or(0);
                if width > left {
                    left = 0;
                    break;
                }
                left -= width;
                text.push(c);
            }
            spans.push(Span { text, style: span.style });
        }
        spans.push(Span { text: "…".to_owned(), style: Style::Dim });
        Self(spans)
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Self::of(text, Style::Plain)
    }
}

impl From<String> for Line {
    fn from(text: String) -> Self {
        Self::of(text, Style::Plain)
    }
}

/// Lines in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page(Vec<Line>);

impl Page {
    /// Adds a line.
    pub fn push(&mut self, line: impl Into<Line>) {
        self.0.push(line.into());
    }

    /// Adds a paragraph behind `indent` blanks: broken between words where it is wider than `columns`, if there is
    /// such a limit.
    pub fn paragraph(&mut self, text: &str, indent: usize, style: Style, columns: Option<usize>) {
        let room = columns.map_or(usize::MAX, |columns| columns.saturating_sub(indent));
        let text = harmless(text);
        let mut line = String::new();
        for word in text.split(' ') {
            if !line.is_empty() && line.width() + 1 + word.width() > room {
                self.push(Line::of(format!("{:indent$}{line}", ""), style));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.push(Line::of(format!("{:indent$}{line}", ""), style));
    }

    /// Adds an empty line, unless the page is empty.
    pub fn gap(&mut self) {
        if !self.0.is_empty() {
            self.0.push(Line::default());
        }
    }

    /// Adds every line of another page.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The lines.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.0
    }

    /// The lines.
    #[must_use]
    pub fn into_lines(self) -> Vec<Line> {
        self.0
    }

    /// How many lines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without lines.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fits a window: long lines are cut, and the last line says how many more there are.
    #[must_use]
    pub fn cropped(&self, columns: usize, rows: usize) -> Self {
        let mut lines: Vec<_> = self.0.iter().map(|line| line.cropped(columns)).collect();
        if lines.len() > rows {
            let kept = rows.saturating_sub(1);
            let hidden = format!("… {} more lines; enlarge the window to see them", lines.len() - kept);
            lines.truncate(kept);
            lines.push(Line::of(hidden, Style::Dim).cropped(columns));
        }
        Self(lines)
    }

    /// The text, one `\n` after each line, with escape codes when `colour`.
    #[must_use]
    pub fn paint(&self, colour: bool) -> String {
        let mut text = String::new();
        for line in &self.0 {
            let mut painted = String::new();
            for span in &line.0 {
                match code(span.style).filter(|_| colour && !span.text.is_empty()) {
                    Some(code) => {
                        painted.push_str(code);
                        painted.push_str(&span.text);
                        painted.push_str("\x1b[0m");
                    }
                    None => painted.push_str(&span.text),
                }
            }
            text.push_str(painted.trim_end_matches(' '));
            text.push('\n');
        }
        text
    }
}

/// Only the sixteen colours that every theme defines.
fn code(style: Style) -> Option<&'static str> {
    match style {
        Style::Plain => None,
        Style::Bold => Some("\x1b[1m"),
        Style::Dim => Some("\x1b[2m"),
        Style::Good => Some("\x1b[32m"),
        Style::Warning => Some("\x1b[33m"),
        Style::Bad => Some("\x1b[31m"),
        Style::Source(number) => Some(["\x1b[36m", "\x1b[35m", "\x1b[34m"][usize::from(number % 3)]),
    }
}

/// Line breaks and tabs become spaces; what else controls a terminal, or changes the direction of text, is
/// shown escaped.
#[must_use]
pub fn harmless(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => safe.push(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => safe.extend(c.escape_unicode()),
            c if c.is_control() => safe.extend(c.escape_debug()),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_cannot_drive_the_terminal() {
        let mut page = Page::default();
        page.push("refused\x1b[2J\x07 \u{202e}gnp.exe\r\nsecond");
        assert_eq!(page.paint(false), "refused\\u{1b}[2J\\u{7} \\u{202e}gnp.exe  second\n");
    }

    #[test]
    fn colour_is_added_only_when_asked_for() {
        let mut page = Page::default();
        page.push(Line::of("healthy", Style::Good).and(" as ever", Style::Plain));
        assert_eq!(page.paint(false), "healthy as ever\n");
        assert_eq!(page.paint(true), "\x1b[32mhealthy\x1b[0m as ever\n");
    }

    #[test]
    fn a_paragraph_is_broken_between_words_where_there_is_a_limit() {
        let broken = |columns| {
            let mut page = Page::default();
            page.paragraph("日本 is unhealthy: averylongword", 2, Style::Plain, columns);
            page.paint(false)
        };
        assert_eq!(broken(Some(14)), "  日本 is\n  unhealthy:\n  averylongword\n");
        assert_eq!(broken(None), "  日本 is unhealthy: averylongword\n");
    }

    #[test]
    fn a_long_line_is_broken_in_columns_and_says_everything() {
        let line = Line::of("12:00 ", Style::Dim).and("日本語のサーバー down", Style::Bad);
        let broken = |columns| line.broken(columns).iter().map(Line::text).collect::<Vec<_>>();
        assert_eq!(broken(80), ["12:00 日本語のサーバー down"]);
        assert_eq!(broken(11), ["12:00 日本", "    語のサ", "    ーバー ", "    down"]);
        assert_eq!(broken(24), ["12:00 日本語のサーバー ", "    down"]);
        assert_eq!(broken(5), ["12:00 日本語のサーバー down"], "no room: cut when it is shown");
        assert_eq!(Line::default().broken(9), [Line::default()]);
    }

    #[test]
    fn a_page_is_cut_to_the_window_in_columns_not_in_characters() {
        let mut page = Page::default();
        page.push("日本語のサーバー");
        page.push("short");
        page.push("third");
        assert_eq!(page.cropped(7, 2).paint(false), "日本語…\n… 2 mo…\n");
        assert_eq!(page.cropped(16, 3), page);
        let mut padded = Page::default();
        padded.push(Line::of("name", Style::Bold).and("      ", Style::Plain).and("", Style::Dim));
        assert_eq!(padded.cropped(5, 3).paint(false), "name\n");
    }
}
