//! The configuration and what becomes of it → what people and programs read.

use super::{
    failover::plural,
    nodes,
    page::{Line, Page, Span, Style},
    problems, span,
    table::Table,
};
use crate::{
    configs::{Changed, How, Refuser, ResourceChange, Revision, Rollout, RolloutState},
    model::{ConfigVersion, seconds},
};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use similar::{ChangeTag, TextDiff};
use std::time::Duration;

/// What kind of change it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It was made.
    Change,
    /// It was only asked what would happen.
    DryRun,
}

/// `o1ctl config apply --json` and `o1ctl config rollback --json`.
#[derive(Debug, Serialize)]
pub struct Done<'a> {
    /// What kind of change it was.
    pub kind: Kind,
    /// As it was sent.
    pub request_id: &'a str,
    /// What the control plane says.
    #[serde(flatten)]
    pub changed: &'a Changed,
    /// Null without `--wait`.
    pub waited: Option<&'a Waited>,
}

/// What waiting showed last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waited {
    /// The last picture.
    #[serde(flatten)]
    pub rollout: Rollout,
    /// How long it took; null: time was up.
    #[serde(rename = "took_seconds", serialize_with = "seconds")]
    pub took: Option<Duration>,
    /// How long it could take.
    #[serde(skip)]
    pub limit: Duration,
}

impl Waited {
    /// Whether every connected node runs it.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.rollout.state == RolloutState::Succeeded
    }
}

/// `o1ctl config history --json`.
#[derive(Debug, Serialize)]
pub struct HistoryReport<'a> {
    /// Newest first.
    pub revisions: &'a [Revision],
}

/// `o1ctl config show --json`.
#[derive(Debug, Serialize)]
pub struct ShowReport<'a> {
    /// What there is to know of it.
    pub revision: &'a Revision,
    /// Without its secrets.
    pub document: &'a str,
}

/// `o1ctl config import --json`.
#[derive(Debug, Serialize)]
pub struct ImportReport<'a> {
    /// What was read.
    pub file: &'a str,
    /// What came of it.
    pub document: &'a str,
    /// How many upstreams it has.
    pub servers: usize,
    /// What its author should do or know.
    pub notes: &'a [String],
    /// Whether it can be used as it is.
    pub valid: bool,
}

/// A file beside what should run.
pub struct Difference<'a> {
    /// What should run.
    pub revision: &'a Revision,
    /// Its document, without its secrets.
    pub running: &'a str,
    /// The name of the file.
    pub file: &'a str,
    /// Its document, without its secrets.
    pub new: &'a str,
    /// Nodes would run the same.
    pub same_meaning: bool,
}

impl Difference<'_> {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.same_meaning && self.running == self.new
    }

    fn what(&self) -> &'static str {
        match (self.running == self.new, self.same_meaning) {
            (true, true) => "nothing differs",
            (false, true) => "only the text differs: nodes would run the same",
            (true, false) => "a value differs that is not shown",
            (false, false) => "nodes would run something else",
        }
    }

    fn unified(&self) -> TextDiff<'_, '_, str> {
        TextDiff::from_lines(self.running, self.new)
    }
}

/// `o1ctl config diff --json`.
#[derive(Debug, Serialize)]
pub struct DifferenceReport<'a> {
    /// What should run.
    pub version: &'a ConfigVersion,
    /// The name of the file.
    pub file: &'a str,
    /// Something differs.
    pub differs: bool,
    /// Nodes would run the same.
    pub same_meaning: bool,
    /// The texts, as a unified diff; empty: they are the same.
    pub diff: String,
}

/// For programs.
#[must_use]
pub fn difference_report<'a>(difference: &Difference<'a>) -> DifferenceReport<'a> {
    let diff = match difference.running == difference.new {
        true => String::new(),
        false => {
            let names = (running_name(difference.revision), difference.file);
            difference.unified().unified_diff().header(&names.0, names.1).to_string()
        }
    };
    DifferenceReport {
        version: &difference.revision.version,
        file: difference.file,
        differs: !difference.is_none(),
        same_meaning: difference.same_meaning,
        diff,
    }
}

/// For people.
#[must_use]
pub fn difference_page(difference: &Difference<'_>) -> Page {
    let mut page = Page::default();
    let name = running_name(difference.revision);
    if difference.running != difference.new {
        page.push(Line::of(format!("--- {name}"), Style::Bold));
        page.push(Line::of(format!("+++ {}", difference.file), Style::Bold));
        let diff = difference.unified();
        for hunk in diff.unified_diff().iter_hunks() {
            page.push(Line::of(hunk.header().to_string(), Style::Dim));
            for change in hunk.iter_changes() {
                let (sign, style) = match change.tag() {
                    ChangeTag::Equal => (' ', Style::Plain),
                    ChangeTag::Delete => ('-', Style::Bad),
                    ChangeTag::Insert => ('+', Style::Good),
                };
                page.push(Line::of(
                    format!("{sign}{}", change.value().trim_end_matches(['\r', '\n'])),
                    style,
                ));
            }
        }
        page.gap();
    }
    page.push(format!("{} ({name}, {})", difference.what(), difference.file));
    page
}

fn running_name(revision: &Revision) -> String {
    format!("running {}", version(&revision.version))
}

/// `1.7`, generation and revision.
fn version(version: &ConfigVersion) -> String {
    format!("{}.{}", version.generation, version.revision)
}

/// What became of a change.
#[must_use]
pub fn done_page(done: &Done<'_>) -> Page {
    let mut page = Page::default();
    let Changed { version: at, no_op, already_done, changes, warnings } = done.changed;
    let at = version(at);
    page.push(match (done.kind, no_op) {
        _ if *already_done => {
            format!("this request came before and led to version {at}: nothing was done now")
        }
        (_, true) => format!("version {at} says that already: nothing to change"),
        (Kind::DryRun, false) => {
            format!("{}; nothing was done, {at} runs on", changed_parts(changes, "would change"))
        }
        (Kind::Change, false) => format!("accepted as version {at}: {}", changed_parts(changes, "change")),
    });
    for change in changes {
        let (sign, style) = match change.change {
            How::Added => ('+', Style::Good),
            How::Updated => ('~', Style::Warning),
            How::Removed => ('-', Style::Bad),
            How::Unknown => ('?', Style::Plain),
        };
        page.push(Line::of(format!("  {sign} {}", change.resource), style));
    }
    for warning in warnings {
        page.append(problems::lines(warning, problems::Kind::Warning, "  "));
    }
    match done.waited {
        Some(waited) => page.append(outcome(waited)),
        None if done.kind == Kind::Change && !no_op && !already_done => {
            page.push(Line::of("  how it goes: o1ctl status, o1ctl config history", Style::Dim));
        }
        None => {}
    }
    page
}

fn changed_parts(changes: &[ResourceChange], verb: &str) -> String {
    match (changes.len(), verb) {
        (0, _) => "nodes run the same, only the text differs".to_owned(),
        (count, "change") => {
            format!("{count} {} {}", plural(count, "part"), if count == 1 { "changes" } else { "change" })
        }
        (count, verb) => format!("{count} {} {verb}", plural(count, "part")),
    }
}

/// `wave 2 of 3: 3 of 30 nodes run it, 2 were sent it`
#[must_use]
pub fn progress(rollout: &Rollout) -> String {
    let all = rollout.nodes();
    let of = format!("{} of {all} {}", rollout.applied, plural(usize::try_from(all).unwrap_or(2), "node"));
    let mut text = match rollout.state {
        RolloutState::RollingBack => format!("{}; going back: {of} run what ran before", rollout.because),
        _ if rollout.wave == 0 => "waiting for nodes to come back".to_owned(),
        _ => format!("wave {} of {}: {of} run it", rollout.wave, rollout.waves),
    };
    for (count, what) in [(rollout.sent, "sent"), (rollout.silent, "silent"), (rollout.away, "away")] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

fn outcome(waited: &Waited) -> Page {
    let (rollout, mut page) = (&waited.rollout, Page::default());
    let all = rollout.nodes();
    let nodes =
        |count: u32| format!("{count} of {all} {}", plural(usize::try_from(all).unwrap_or(2), "node"));
    let after = waited.took.map(|took| format!(", after {}", span::latency(took))).unwrap_or_default();
    let away = match rollout.away {
        0 => String::new(),
        away => format!("; {away} away, which get it when they are back"),
    };
    match rollout.state {
        RolloutState::Succeeded if all == 0 => {
            page.push(Line::of(format!("  no node is there to run it{away}"), Style::Warning));
        }
        RolloutState::Succeeded => {
            page.push(Line::of(format!("  ✅ {} run it{after}{away}", nodes(rollout.applied)), Style::Good));
        }
        RolloutState::RolledBack => {
            page.push(Line::of(format!("  ❌ rolled back{after}: {}", rollout.because), Style::Bad));
            page.append(refusals(&rollout.refused));
            let to = rollout.rolled_back_to.as_ref().map(|to| format!(", as version {}", version(to)));
            page.push(format!("  what ran before runs again{}", to.unwrap_or_default()));
        }
        RolloutState::Failed => {
            let refused = rollout.refused.len();
            let text =
                format!("  ❌ {refused} {} refused it, and nothing ran before", plural(refused, "node"));
            page.push(Line::of(text, Style::Bad));
            page.append(refusals(&rollout.refused));
        }
        RolloutState::Superseded => {
            let text = "  ⚠️ something newer came before it was everywhere: o1ctl config history";
            page.push(Line::of(text, Style::Warning));
        }
        RolloutState::Unknown | RolloutState::Running | RolloutState::RollingBack => {
            let limit = span::latency(waited.limit);
            let text = format!("  ⚠️ not over after {limit}: {}; it goes on", progress(rollout));
            page.push(Line::of(text, Style::Warning));
        }
    }
    page
}

fn refusals(refused: &[Refuser]) -> Page {
    let mut page = Page::default();
    for node in refused {
        page.push(format!("    {} refused it:", node.node_id));
        for rejection in &node.rejections {
            page.push(Line::of(format!("      {}", nodes::reason(rejection)), Style::Bad));
        }
    }
    page
}

/// The history, newest first.
#[must_use]
pub fn history_page(revisions: &[Revision], now: Timestamp, zone: &TimeZone) -> Page {
    if revisions.is_empty() {
        let mut page = Page::default();
        page.push("no configuration was ever accepted");
        return page;
    }
    let mut table = Table::new(&["REVISION", "VERSION", "WHEN", "ROLLOUT", "WHO", "WHAT"]);
    for revision in revisions {
        let when = revision.created_at.map(|at| span::clock(at, now, zone));
        let cells = vec![
            revision.version.revision.to_string().into(),
            version(&revision.version).into(),
            when.unwrap_or_else(|| span::UNKNOWN.to_owned()).into(),
            Span::new(revision.rollout.word(), style(revision.rollout)),
            if revision.actor.is_empty() { span::UNKNOWN } else { &revision.actor }.into(),
            what(revision).into(),
        ];
        table.row(cells, below(revision));
    }
    table.page()
}

fn style(state: RolloutState) -> Style {
    match state {
        RolloutState::Succeeded => Style::Good,
        RolloutState::Failed | RolloutState::RolledBack => Style::Bad,
        RolloutState::Running | RolloutState::RollingBack => Style::Warning,
        RolloutState::Unknown | RolloutState::Superseded => Style::Dim,
    }
}

fn what(revision: &Revision) -> String {
    match (revision.undoes, revision.rollback_of) {
        (Some(undone), Some(of)) => format!("takes {undone} back: {of} again"),
        (_, Some(of)) => format!("{of} again"),
        (_, None) => revision.source.clone(),
    }
}

fn below(revision: &Revision) -> Page {
    let mut page = Page::default();
    if !revision.comment.is_empty() {
        page.push(Line::of(format!("  {}", revision.comment), Style::Dim));
    }
    // Of what was taken back, the revision that does says why.
    if revision.rollout == RolloutState::Failed {
        page.append(refusals(&revision.refused));
    }
    page
}

/// Who made a revision, when and why.
#[must_use]
pub fn about(revision: &Revision, now: Timestamp, zone: &TimeZone) -> Page {
    let when = revision.created_at.map(|at| format!(" · {}", span::clock(at, now, zone))).unwrap_or_default();
    let who = if revision.actor.is_empty() { String::new() } else { format!(" · by {}", revision.actor) };
    let mut page = Page::default();
    let text = format!("version {}{when}{who} · {}", version(&revision.version), what(revision));
    page.push(
        Line::of(text, Style::Dim).and(format!(" · {}", revision.rollout.word()), style(revision.rollout)),
    );
    if !revision.comment.is_empty() {
        page.push(Line::of(format!("  {}", revision.comment), Style::Dim));
    }
    page
}

/// A document on a terminal.
#[must_use]
pub fn document_page(text: &str) -> Page {
    let mut page = Page::default();
    text.lines().for_each(|line| page.push(line));
    page
}
