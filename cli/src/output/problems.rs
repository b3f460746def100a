//! Problems of a configuration document → lines that editors and people can follow.

use super::page::{Line, Page, Style};
use crate::model::Problem;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The document is refused.
    Problem,
    /// The document is accepted, but its author should know.
    Warning,
}

/// `only1.yaml:3:5: error: unknown key (rule unknown-key, at upstreams.a)`, and the hint below it.
#[must_use]
pub fn lines(problem: &Problem, kind: Kind, indent: &str) -> Page {
    let (word, style) = match kind {
        Kind::Problem => ("error", Style::Bad),
        Kind::Warning => ("warning", Style::Warning),
    };
    let place = match (problem.line, problem.column) {
        (0, _) => problem.file.clone(),
        (line, column) => format!("{}:{line}:{}", problem.file, column.max(1)),
    };
    let mut line = Line::of(format!("{indent}{place}: "), Style::Bold)
        .and(word, style)
        .and(format!(": {}", problem.what), Style::Plain);
    let at = if problem.path.is_empty() { String::new() } else { format!(" at {}", problem.path) };
    line = line.and(format!(" [{}{at}]", problem.rule), Style::Dim);
    let mut page = Page::default();
    page.push(line);
    if !problem.hint.is_empty() {
        page.push(format!("{indent}    hint: {}", problem.hint));
    }
    page
}

/// The page of `o1ctl config check`.
#[must_use]
pub fn page(file: &str, problems: &[Problem], warnings: &[Problem], strict: bool, upstreams: usize) -> Page {
    let mut all: Vec<_> = problems.iter().map(|problem| (problem, Kind::Problem)).collect();
    all.extend(warnings.iter().map(|warning| (warning, Kind::Warning)));
    all.sort_by_key(|(problem, _)| (problem.line, problem.column));
    let mut page = Page::default();
    for (problem, kind) in all {
        page.append(lines(problem, kind, ""));
    }
    page.gap();
    let counted = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let mut line = if !problems.is_empty() {
        Line::of("❌ not valid", Style::Bad)
            .and(format!(": {}", counted(problems.len(), "error")), Style::Plain)
    } else if strict && !warnings.is_empty() {
        Line::of("❌ refused by --strict", Style::Bad)
    } else {
        Line::of("✅ valid", Style::Good).and(format!(": {}", counted(upstreams, "upstream")), Style::Plain)
    };
    if !warnings.is_empty() {
        let separator = if problems.is_empty() && strict { ": " } else { ", " };
        line = line.and(format!("{separator}{}", counted(warnings.len(), "warning")), Style::Plain);
    }
    page.push(line.and(format!(" in {file}"), Style::Plain));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: u32, what: &str, hint: &str) -> Problem {
        Problem {
            file: "only1.yaml".into(),
            line,
            column: 5,
            rule: "unknown-key".into(),
            path: "upstreams.a.primry".into(),
            what: what.into(),
            hint: hint.into(),
        }
    }

    #[test]
    fn problems_and_warnings_come_in_the_order_of_the_file() {
        let problems =
            [problem(3, "unknown key `primry`", "did you mean `primary`?"), problem(9, "no colon", "")];
        let whole =
            Problem { path: String::new(), rule: "no-upstreams".into(), ..problem(0, "nothing to do", "") };
        let warnings = [problem(4, "`health` has no effect yet", ""), whole];
        insta::assert_snapshot!(page("only1.yaml", &problems, &warnings, false, 0).paint(false), @"
        only1.yaml: warning: nothing to do [no-upstreams]
        only1.yaml:3:5: error: unknown key `primry` [unknown-key at upstreams.a.primry]
            hint: did you mean `primary`?
        only1.yaml:4:5: warning: `health` has no effect yet [unknown-key at upstreams.a.primry]
        only1.yaml:9:5: error: no colon [unknown-key at upstreams.a.primry]

        ❌ not valid: 2 errors, 2 warnings in only1.yaml
        ");
    }

    #[test]
    fn a_valid_file_says_so_in_one_line() {
        assert_eq!(page("a.yaml", &[], &[], false, 1).paint(false), "✅ valid: 1 upstream in a.yaml\n");
        assert_eq!(page("a.yaml", &[], &[], true, 2).paint(false), "✅ valid: 2 upstreams in a.yaml\n");
    }

    #[test]
    fn strict_turns_a_warning_into_a_failure_that_names_the_flag() {
        let warnings = [problem(4, "`health` has no effect yet", "")];
        let lenient = page("a.yaml", &[], &warnings, false, 1).paint(false);
        assert!(lenient.ends_with("\n\n✅ valid: 1 upstream, 1 warning in a.yaml\n"), "{lenient}");
        let strict = page("a.yaml", &[], &warnings, true, 1).paint(false);
        assert!(strict.ends_with("\n\n❌ refused by --strict: 1 warning in a.yaml\n"), "{strict}");
    }
}
