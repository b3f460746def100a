//! Collects what is wrong with a document while it is read. Decides nothing about it.

use super::{
    Refused,
    node::At,
    rules::{self, Rule},
};
use crate::problem::Problem;
use std::cell::RefCell;

/// More than a person reads, less than a message may carry.
const MOST: usize = 1_000;

/// The problems and warnings found so far. Shared by everything that reads one document.
pub(super) struct Report<'a> {
    file: &'a str,
    problems: RefCell<Findings>,
    warnings: RefCell<Findings>,
}

#[derive(Default)]
struct Findings {
    listed: Vec<Problem>,
    unlisted: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a str) -> Self {
        Self { file, problems: RefCell::default(), warnings: RefCell::default() }
    }

    /// The document breaks a rule.
    pub(super) fn problem(
        &self,
        rule: &'static Rule,
        at: At,
        path: &str,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let found = self.finding(rule, at, path, what.into(), hint.into());
        self.problems.borrow_mut().add(found);
    }

    /// The document is valid here, but its author should know something.
    pub(super) fn warning(
        &self,
        rule: &'static Rule,
        at: At,
        path: &str,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let found = self.finding(rule, at, path, what.into(), hint.into());
        self.warnings.borrow_mut().add(found);
    }

    /// The warnings of a document without problems, or everything.
    pub(super) fn finish(self) -> Result<Vec<Problem>, Refused> {
        let problems = self.problems.into_inner().finish(self.file, "problems");
        let warnings = self.warnings.into_inner().finish(self.file, "warnings");
        if problems.is_empty() { Ok(warnings) } else { Err(Refused { problems, warnings }) }
    }

    fn finding(&self, rule: &'static Rule, at: At, path: &str, what: String, hint: String) -> Problem {
        Problem {
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            rule: rule.id,
            path: path.to_owned(),
            what,
            hint,
        }
    }
}

impl Findings {
    fn add(&mut self, found: Problem) {
        if self.listed.len() < MOST {
            self.listed.push(found);
        } else {
            self.unlisted += 1;
        }
    }

    /// In the order of the document.
    fn finish(mut self, file: &str, noun: &str) -> Vec<Problem> {
        self.listed.sort_by_key(|found| (found.line, found.column));
        if self.unlisted > 0 {
            self.listed.push(Problem {
                file: file.to_owned(),
                line: 0,
                column: 0,
                rule: rules::TOO_MANY_PROBLEMS.id,
                path: String::new(),
                what: format!("{} more {noun} are not listed", self.unlisted),
                hint: "correct these first".to_owned(),
            });
        }
        self.listed
    }
}
