//! What the doctor found → a list, or JSON.

use super::page::{Line, Page, Style};
use serde::Serialize;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Works, but somebody should look.
    Warn,
    /// Something does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What kind of thing, one word from a closed set: `config`.
    pub check: &'static str,
    /// How it went.
    pub state: State,
    /// What was found.
    pub what: String,
    /// What to do; empty: nothing.
    pub todo: String,
}

impl Check {
    /// As it should be.
    #[must_use]
    pub fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, state: State::Ok, what: what.into(), todo: String::new() }
    }

    /// Somebody should look.
    #[must_use]
    pub fn warn(check: &'static str, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { check, state: State::Warn, what: what.into(), todo: todo.into() }
    }

    /// Something does not work.
    #[must_use]
    pub fn fail(check: &'static str, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { check, state: State::Fail, what: what.into(), todo: todo.into() }
    }
}

/// `o1ctl doctor --json`.
#[derive(Serialize)]
pub struct Report<'a> {
    /// The worst of all checks.
    pub state: State,
    /// In the order in which they were made.
    pub checks: &'a [Check],
}

/// The worst of all checks.
#[must_use]
pub fn worst(checks: &[Check]) -> State {
    checks.iter().map(|check| check.state).max().unwrap_or(State::Ok)
}

/// Columns of a mark, and of the gap behind it.
const MARK: usize = 9;

/// For people.
#[must_use]
pub fn page(checks: &[Check], columns: Option<usize>) -> Page {
    let mut page = Page::default();
    let width = checks.iter().map(|check| check.check.len()).max().unwrap_or(0);
    for check in checks {
        let (mark, style) = match check.state {
            State::Ok => ("✅ ok  ", Style::Good),
            State::Warn => ("⚠️ warn", Style::Warning),
            State::Fail => ("❌ FAIL", Style::Bad),
        };
        let indent = MARK + width + 2;
        let mut text = Page::default();
        text.paragraph(&check.what, indent, Style::Plain, columns);
        let mut lines = text.into_lines().into_iter();
        let first = lines.next().map(|line| line.text().trim_start().to_owned()).unwrap_or_default();
        page.push(
            Line::of(mark, style)
                .and(format!("  {:width$}  ", check.check), Style::Bold)
                .and(first, Style::Plain),
        );
        lines.for_each(|line| page.push(line));
        if !check.todo.is_empty() {
            page.paragraph(&format!("→ {}", check.todo), indent, Style::Plain, columns);
        }
    }
    page.gap();
    page.push(sum(checks));
    page
}

fn sum(checks: &[Check]) -> Line {
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    let (warn, fail) = (count(State::Warn), count(State::Fail));
    let warnings = if warn == 1 { "1 warning".to_owned() } else { format!("{warn} warnings") };
    let checks = checks.len();
    match (fail, warn) {
        (0, 0) => Line::of(format!("{checks} checks, nothing to do"), Style::Good),
        (0, _) => Line::of(format!("{checks} checks, {warnings}"), Style::Warning),
        (fail, 0) => Line::of(format!("{checks} checks, {fail} failed"), Style::Bad),
        (fail, _) => Line::of(format!("{checks} checks, {fail} failed, {warnings}"), Style::Bad),
    }
}
