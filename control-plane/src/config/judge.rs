//! What to do about what was found where the configuration should be. Pure.

use super::{
    Compiled, compile,
    compile::{too_large, whole},
};
use blake3::Hash;
use o1_proto::problem::Problem;

/// What a look at the file found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A document.
    Content(Vec<u8>),
    /// More than anybody should write by hand: this many bytes.
    TooLarge(u64),
    /// No file.
    Missing,
    /// A file that cannot be read, and why.
    Unreadable(String),
}

/// What distinguishes one finding from the next, without keeping the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// A document of this hash.
    Content(Hash),
    /// As [`Finding::TooLarge`].
    TooLarge(u64),
    /// As [`Finding::Missing`].
    Missing,
    /// As [`Finding::Unreadable`].
    Unreadable(String),
}

impl Finding {
    /// What distinguishes this finding.
    #[must_use]
    pub fn mark(&self) -> Mark {
        match self {
            Self::Content(content) => Mark::Content(blake3::hash(content)),
            Self::TooLarge(bytes) => Mark::TooLarge(*bytes),
            Self::Missing => Mark::Missing,
            Self::Unreadable(why) => Mark::Unreadable(why.clone()),
        }
    }
}

/// What to do.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// As at the last look: nothing.
    Unchanged,
    /// The file says what runs: clear what an earlier look found wrong.
    Running,
    /// A valid document that says something new: store it, then publish it.
    Accept {
        /// The document.
        content: Vec<u8>,
        /// What it means.
        compiled: Compiled,
    },
    /// Keep what runs, and say why the file does not. At least one problem, in the order of the document.
    Refuse(Vec<Problem>),
}

/// Decides. `last` is the mark of the look before, `running` the hash of the document that runs. Returns the mark
/// of this look too.
#[must_use]
pub fn judge(file: &str, finding: Finding, last: Option<&Mark>, running: Option<Hash>) -> (Mark, Verdict) {
    let mark = finding.mark();
    let verdict = if last == Some(&mark) {
        Verdict::Unchanged
    } else if running.is_some_and(|running| mark == Mark::Content(running)) {
        Verdict::Running
    } else {
        verdict(file, finding)
    };
    (mark, verdict)
}

fn verdict(file: &str, finding: Finding) -> Verdict {
    let problem = match finding {
        Finding::Content(content) => {
            return match compile(file, &content) {
                Ok(compiled) => Verdict::Accept { content, compiled },
                Err(refused) => Verdict::Refuse(refused.problems),
            };
        }
        Finding::TooLarge(bytes) => too_large(file, bytes),
        Finding::Missing => {
            let hint = "create it, or start with --config PATH; `o1ctl config check FILE` checks one";
            whole(file, "config-missing", "there is no such file", hint)
        }
        Finding::Unreadable(why) => {
            let what = format!("the file cannot be read: {why}");
            whole(file, "config-unreadable", &what, "check its owner and mode")
        }
    };
    Verdict::Refuse(vec![problem])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "upstreams:\n  a:\n    primary: [{url: 'http://127.0.0.1:1/mcp'}]\n";
    const BAD: &str = "upstreams:\n  a:\n    primry: []\n";

    fn content(text: &str) -> Finding {
        Finding::Content(text.as_bytes().to_vec())
    }

    /// What the verdict is called, and the rules that were broken.
    fn named(finding: &Finding, last: Option<&Finding>, running: Option<&str>) -> String {
        let running = running.map(|text| blake3::hash(text.as_bytes()));
        match judge("only1.yaml", finding.clone(), last.map(Finding::mark).as_ref(), running).1 {
            Verdict::Unchanged => "unchanged".to_owned(),
            Verdict::Running => "running".to_owned(),
            Verdict::Accept { compiled, .. } => format!("accept {}", compiled.fleet.upstreams.len()),
            Verdict::Refuse(problems) => {
                let rules: Vec<_> = problems.iter().map(|problem| problem.rule).collect();
                format!("refuse {}", rules.join(" "))
            }
        }
    }

    #[test]
    fn every_finding_has_its_verdict() {
        let unreadable = Finding::Unreadable("permission denied".into());
        let cases: &[(Finding, Option<Finding>, Option<&str>, &str)] = &[
            (content(GOOD), None, None, "accept 1"),
            (content(GOOD), None, Some("other"), "accept 1"),
            (content(GOOD), None, Some(GOOD), "running"),
            (content(GOOD), Some(content(BAD)), Some(GOOD), "running"),
            (content(GOOD), Some(Finding::Missing), Some(GOOD), "running"),
            (content(GOOD), Some(content(GOOD)), Some(GOOD), "unchanged"),
            (content(BAD), Some(content(BAD)), Some(GOOD), "unchanged"),
            (Finding::Missing, None, Some(GOOD), "refuse config-missing"),
            (Finding::Missing, None, None, "refuse config-missing"),
            (Finding::Missing, Some(Finding::Missing), None, "unchanged"),
            (unreadable.clone(), None, Some(GOOD), "refuse config-unreadable"),
            (unreadable.clone(), Some(unreadable), None, "unchanged"),
            (Finding::TooLarge(5 << 20), None, Some(GOOD), "refuse config-too-large"),
        ];
        for (finding, last, running, expected) in cases {
            assert_eq!(&named(finding, last.as_ref(), *running), expected, "{finding:?}");
        }
    }

    #[test]
    fn a_bad_document_is_refused_with_its_line() {
        let Verdict::Refuse(problems) = judge("only1.yaml", content(BAD), None, None).1 else {
            panic!("accepted");
        };
        assert!(problems.iter().any(|problem| problem.line == 3), "{problems:?}");
    }
}
