//! Error codes and rules of the configuration, explained: for a terminal, for programs, and as the page
//! `docs/troubleshooting.md`. The words stand where the codes and the rules are made, in `o1_proto`.

use super::page::{Line, Page, Style};
use o1_proto::{
    codes::{self, Code},
    manifest::rules::{self, Rule},
};
use serde::Serialize;
use std::fmt::Write as _;

/// What was asked about.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The codes of this number or word, or in which this kind of failure ends.
    codes: Vec<&'static Code>,
    /// The rule of this id.
    rule: Option<&'static Rule>,
}

impl Found {
    /// Everything of this name; `None`: it is no code and no rule.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let codes = match word.parse::<i32>() {
            Ok(number) => codes::find(number).into_iter().collect(),
            Err(_) => codes::named(&word.replace('-', "_")),
        };
        let rule = rules::ALL.iter().copied().find(|rule| rule.id == word);
        (!codes.is_empty() || rule.is_some()).then_some(Self { codes, rule })
    }
}

/// `o1ctl explain CODE --json`.
#[derive(Serialize)]
pub struct Report {
    codes: Vec<CodeReport>,
    rules: Vec<RuleReport>,
}

#[derive(Serialize)]
struct CodeReport {
    number: i32,
    word: &'static str,
    defined_by: &'static str,
    kinds: &'static [&'static str],
    means: &'static str,
    todo: &'static [&'static str],
}

#[derive(Serialize)]
struct RuleReport {
    rule: &'static str,
    about: String,
    asks: String,
    warning: bool,
    todo: Vec<String>,
}

/// For programs.
#[must_use]
pub fn report(found: &Found) -> Report {
    let code = |code: &&'static Code| CodeReport {
        number: code.number,
        word: code.word,
        defined_by: code.by,
        kinds: code.kinds,
        means: code.means,
        todo: code.todo,
    };
    let rule = |rule: &'static Rule| RuleReport {
        rule: rule.id,
        about: rule.family.to_string(),
        asks: asks(rule),
        warning: is_warning(rule),
        todo: todo(rule),
    };
    Report {
        codes: found.codes.iter().map(code).collect(),
        rules: found.rule.map(rule).into_iter().collect(),
    }
}

/// For people.
#[must_use]
pub fn page(found: &Found, columns: Option<usize>) -> Page {
    let mut page = Page::default();
    for code in &found.codes {
        page.gap();
        let title = format!("{} {}", code.number, code.word);
        page.push(Line::of(title, Style::Bold).and(format!(", an error of {}", code.by), Style::Plain));
        page.paragraph(code.means, 2, Style::Plain, columns);
        if !code.kinds.is_empty() {
            let kinds = format!("in logs and metrics: {}", code.kinds.join(", "));
            page.paragraph(&kinds, 2, Style::Dim, columns);
        }
        what_to_do(&mut page, code.todo.iter().copied(), columns);
    }
    if let Some(rule) = found.rule {
        page.gap();
        let kind = if is_warning(rule) { "a warning" } else { "a rule" };
        let about = format!(", {kind} of the configuration, about {}", rule.family);
        page.push(Line::of(rule.id, Style::Bold).and(about, Style::Plain));
        page.paragraph(&asks(rule), 2, Style::Plain, columns);
        what_to_do(&mut page, todo(rule).iter().map(String::as_str), columns);
    }
    page
}

fn what_to_do<'a>(page: &mut Page, todo: impl Iterator<Item = &'a str>, columns: Option<usize>) {
    page.push(Line::of("  what to do", Style::Bold));
    for one in todo {
        page.paragraph(one, 4, Style::Plain, columns);
    }
}

const WARNING: &str = "Warning: ";

fn is_warning(rule: &Rule) -> bool {
    rule.asks.starts_with(WARNING)
}

/// As a sentence of its own.
fn asks(rule: &Rule) -> String {
    let Some(rest) = rule.asks.strip_prefix(WARNING) else { return rule.asks.to_owned() };
    let mut chars = rest.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn todo(rule: &Rule) -> Vec<String> {
    let found = "`o1ctl config check FILE` says each place that it is about, with line, column and a hint.";
    let outcome = if is_warning(rule) {
        "The configuration is accepted all the same; with `--strict` the check fails."
    } else {
        "A configuration that breaks it is refused as a whole, and the one before keeps running."
    };
    vec![found.to_owned(), outcome.to_owned()]
}

/// The part of `docs/troubleshooting.md` that is generated.
#[must_use]
pub fn troubleshooting() -> String {
    let mut text =
        "## Errors that clients see\n\nEach is a JSON-RPC error with this `code`; `error.message` \
                    says more. `o1ctl explain CODE` shows the same.\nErrors of an MCP server itself pass the \
                    gateway as they are.\n"
            .to_owned();
    for code in codes::ALL {
        let kinds = match code.kinds {
            [] => String::new(),
            kinds => format!(" In logs and `o1_failures_total`: `{}`.", kinds.join("`, `")),
        };
        // A string is never refused.
        let _ = write!(
            text,
            "\n### `{}` {}\n\n{} (Defined by {}.{kinds})\n\n",
            code.number, code.word, code.means, code.by
        );
        for todo in code.todo {
            let _ = writeln!(text, "- {todo}");
        }
    }
    text.push_str(
        "\n## Rules of the configuration\n\nEach problem names its rule; `o1ctl explain RULE` shows it, \
         `o1ctl config check FILE` finds the places.\nA configuration that breaks a rule is refused as a whole, \
         and the one before keeps running; a warning refuses nothing.\n\n| rule | about | asks |\n| --- | --- | --- |\n",
    );
    for rule in rules::ALL {
        let _ = writeln!(text, "| `{}` | {} | {} |", rule.id, rule.family, rule.asks.replace('|', "\\|"));
    }
    text
}
