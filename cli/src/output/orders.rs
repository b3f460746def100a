//! What became of an order → what people and programs read.

use super::{
    failover::plural,
    page::{Line, Page, Style},
    span,
};
use crate::{
    failover::{DecisionState, Failover, Mode, Node, Phase, decisions, phase},
    model::seconds,
    orders::{Ordered, SetMaintenance, SetMode},
};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use std::time::Duration;

/// What kind of order it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It was carried out.
    Order,
    /// It was only asked what would happen.
    DryRun,
}

/// `o1ctl failover --json` and `o1ctl restore --json`.
#[derive(Debug, Serialize)]
pub struct Done<'a> {
    /// Of which.
    pub upstream: &'a str,
    /// `primary` or `backup`.
    pub target: &'static str,
    /// What kind of order it was.
    pub kind: Kind,
    /// As it was sent.
    pub request_id: &'a str,
    /// What the control plane says.
    #[serde(flatten)]
    pub ordered: &'a Ordered,
    /// Null without `--wait`.
    pub waited: Option<&'a Waited>,
}

/// What waiting showed last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Waited {
    /// Connected nodes.
    pub nodes: usize,
    /// The ones that are not there, sorted.
    pub lagging: Vec<Lagging>,
    /// More that are not there, and did not say where they are.
    pub unheard: u64,
    /// Entries that wait on nodes.
    pub journal_pending: u64,
    /// Something else was decided meanwhile.
    pub superseded_by: Option<u64>,
    /// How long it took; null: time was up.
    #[serde(rename = "took_seconds", serialize_with = "seconds")]
    pub took: Option<Duration>,
    /// How long it was waited for, when time was up.
    #[serde(skip)]
    pub limit: Option<Duration>,
    /// The picture knows of the order.
    #[serde(skip)]
    pub known: bool,
}

/// A node that is not there yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lagging {
    /// Who.
    pub node_id: String,
    /// What it is doing.
    #[serde(serialize_with = "phase")]
    pub phase: Option<Phase>,
    /// Entries that it has to replay.
    pub journal_pending: u64,
    /// What it says, or why it does not follow; may be empty.
    pub message: String,
}

impl Lagging {
    /// What is known of it.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let message = match (node.refusal, node.message.as_str()) {
            (Some(refusal), "") => super::failover::refusal(refusal).to_owned(),
            (_, message) => message.to_owned(),
        };
        Self {
            node_id: node.node_id.clone(),
            phase: node.phase,
            journal_pending: node.journal_pending,
            message,
        }
    }
}

impl Waited {
    /// Every connected node is where it should be.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.known && self.superseded_by.is_none() && self.lagging.is_empty() && self.unheard == 0
    }

    /// Nothing more is to be waited for.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_there() || self.superseded_by.is_some()
    }

    fn there(&self) -> usize {
        self.nodes.saturating_sub(self.lagging.len())
    }
}

/// `2 of 3 nodes on the backup; not yet: n3 (draining the primary)`
#[must_use]
pub fn progress(waited: &Waited, target: &str) -> String {
    let mut late: Vec<_> = waited.lagging.iter().map(late).collect();
    if waited.unheard > 0 {
        late.push(format!("{} that said nothing yet", waited.unheard));
    }
    let late = if late.is_empty() { String::new() } else { format!("; not yet: {}", late.join(", ")) };
    let nodes = plural(waited.nodes, "node");
    format!("{} of {} {nodes} on the {target}{late}", waited.there(), waited.nodes)
}

fn late(node: &Lagging) -> String {
    let doing = node.phase.map_or("", super::failover::phase);
    let waiting = match node.journal_pending {
        0 => String::new(),
        count => format!(", {count} in the journal"),
    };
    let said = if node.message.is_empty() { String::new() } else { format!(": {}", node.message) };
    format!("{} ({doing}{waiting}{said})", node.node_id)
}

/// For people.
#[must_use]
pub fn page(done: &Done<'_>) -> Page {
    let mut page = Page::default();
    let Done { upstream, target, ordered, .. } = done;
    let told =
        format!("{} {}", ordered.nodes, plural(ordered.nodes.try_into().unwrap_or(usize::MAX), "node"));
    let first = match (done.kind, ordered.no_op) {
        (_, true) => {
            format!("{upstream} is on the {target} already (term {}): nothing to order", ordered.term)
        }
        (Kind::DryRun, false) => {
            format!(
                "would order the {target} for {upstream} (term {}) at {told}; nothing was done",
                ordered.term
            )
        }
        (Kind::Order, false) => {
            format!("ordered the {target} for {upstream} (term {}) at {told}", ordered.term)
        }
    };
    page.push(first);
    if ordered.journal_pending > 0 {
        let pending = ordered.journal_pending;
        let noun = if pending == 1 { "write is" } else { "writes are" };
        page.push(format!("  {pending} {noun} replayed to the primary first"));
    }
    for warning in &ordered.warnings {
        page.push(Line::of(format!("  ⚠️ {warning}"), Style::Warning));
    }
    match done.waited {
        Some(waited) => page.push(outcome(waited, target)),
        None if done.kind == Kind::Order && !ordered.no_op => {
            page.push(Line::of(format!("  how it goes: o1ctl status {upstream} --watch"), Style::Dim));
        }
        None => {}
    }
    page
}

fn outcome(waited: &Waited, target: &str) -> Line {
    let progress = progress(waited, target);
    if let Some(term) = waited.superseded_by {
        let text = format!("  ⚠️ something newer was decided meanwhile (term {term}): {progress}");
        return Line::of(text, Style::Warning);
    }
    match (waited.took, waited.limit) {
        (Some(took), _) => Line::of(format!("  {progress} after {}", span::latency(took)), Style::Good),
        (None, limit) => {
            let limit = limit.map(span::latency).unwrap_or_default();
            Line::of(format!("  ⚠️ not done after {limit}: {progress}; the order stands"), Style::Warning)
        }
    }
}

/// One order as both kinds of readers get it.
pub struct Answer<R> {
    /// For programs.
    pub report: R,
    /// For people.
    pub text: Page,
}

/// `o1ctl pin --json` and `o1ctl unpin --json`.
#[derive(Debug, Serialize)]
pub struct ModeReport<'a> {
    upstream: &'a str,
    mode: Mode,
    mode_until: Option<Timestamp>,
    request_id: &'a str,
    failover: Option<&'a Failover>,
}

/// What became of a pin.
#[must_use]
pub fn mode_page<'a>(
    order: &'a SetMode,
    failover: Option<&'a Failover>,
    zone: &TimeZone,
) -> Answer<ModeReport<'a>> {
    let name = &order.upstream;
    let mode_until = failover.and_then(|failover| failover.mode_until);
    let mut text = Page::default();
    match order.mode.pinned() {
        Some(store) => {
            let until = match (mode_until, order.expires_in) {
                (Some(until), _) => {
                    let now = Timestamp::now();
                    format!("until {}", span::clock(until, now, zone))
                }
                (None, Some(span)) => format!("for {}", span::words(span)),
                (None, None) => format!("until somebody runs o1ctl unpin {name} --reason TEXT"),
            };
            text.push(format!("{name} is pinned to the {} {until}", store.word()));
        }
        None => text.push(format!("{name} is not pinned: the control plane decides")),
    }
    text.push(Line::of(format!("  where it is: o1ctl explain {name}"), Style::Dim));
    let request_id = &order.signed.request_id;
    Answer { report: ModeReport { upstream: name, mode: order.mode, mode_until, request_id, failover }, text }
}

/// `o1ctl maintenance --json`.
#[derive(Debug, Serialize)]
pub struct MaintenanceReport<'a> {
    maintenance: bool,
    #[serde(serialize_with = "decisions")]
    decisions: Option<DecisionState>,
    request_id: &'a str,
}

/// What became of maintenance.
#[must_use]
pub fn maintenance_page(
    order: &SetMaintenance,
    decisions: Option<DecisionState>,
) -> Answer<MaintenanceReport<'_>> {
    let mut text = Page::default();
    let state = decisions.map(|state| format!("; decisions are {}", state.word())).unwrap_or_default();
    if order.enabled {
        let until = match order.expires_in {
            Some(span) => format!("for {}", span::words(span)),
            None => "until somebody runs o1ctl maintenance off --reason TEXT".to_owned(),
        };
        text.push(format!("maintenance: nothing happens by itself {until}{state}"));
    } else {
        text.push(format!("maintenance is over{state}"));
    }
    let request_id = &order.signed.request_id;
    Answer { report: MaintenanceReport { maintenance: order.enabled, decisions, request_id }, text }
}
