//! The same answers for programs. The keys are those of `model`, described in cli/README.md; a key is always
//! there, and null when its value is not known.

use crate::{
    model::{ConfigVersion, Node, Problem, Status, Upstream},
    verdict::Verdict,
};
use jiff::Timestamp;
use serde::Serialize;

/// `o1ctl status --json`.
#[derive(Serialize)]
pub struct StatusReport<'a> {
    /// As the exit code says.
    pub verdict: Verdict,
    /// The picture.
    #[serde(flatten)]
    pub status: &'a Status,
    /// Every node; null unless `--verbose`.
    pub node_list: Option<&'a [Node]>,
}

/// `o1ctl status UPSTREAM --json`.
#[derive(Serialize)]
pub struct UpstreamReport<'a> {
    /// As the exit code says.
    pub verdict: Verdict,
    /// When the picture was taken.
    pub as_of: Option<Timestamp>,
    /// The one asked for; null once the configuration names it no more.
    pub upstream: Option<&'a Upstream>,
}

/// Either of the two.
#[derive(Serialize)]
#[serde(untagged)]
pub enum AnyStatus<'a> {
    /// Everything.
    Fleet(StatusReport<'a>),
    /// One upstream.
    Upstream(UpstreamReport<'a>),
}

/// `o1ctl nodes --json`.
#[derive(Serialize)]
pub struct NodesReport<'a> {
    /// As the exit code says.
    pub verdict: Verdict,
    /// When the picture was taken.
    pub as_of: Option<Timestamp>,
    /// What nodes should run.
    pub target: Option<&'a ConfigVersion>,
    /// Sorted by name.
    pub nodes: &'a [Node],
}

/// `o1ctl config check --json`.
#[derive(Serialize)]
pub struct CheckReport<'a> {
    /// The document's name.
    pub file: &'a str,
    /// False also when `--strict` refuses a warning.
    pub valid: bool,
    /// Names of its upstreams; empty when it is not valid.
    pub upstreams: Vec<&'a str>,
    /// Each one refuses the document.
    pub problems: &'a [Problem],
    /// Worth knowing.
    pub warnings: &'a [Problem],
}

/// Indented, for one answer.
#[must_use]
pub fn pretty(report: &impl Serialize) -> String {
    let mut text =
        serde_json::to_string_pretty(report).expect("reports have string keys and no failing parts");
    text.push('\n');
    text
}

/// One line, for an answer among others.
#[must_use]
pub fn line(report: &impl Serialize) -> String {
    let mut text = serde_json::to_string(report).expect("reports have string keys and no failing parts");
    text.push('\n');
    text
}
