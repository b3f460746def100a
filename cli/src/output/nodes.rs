//! Nodes → the table of `o1ctl nodes`.

use super::{
    page::{Line, Page, Span, Style},
    span::{self, UNKNOWN},
    table::Table,
};
use crate::model::{Node, NodeState, Rejection, Status, SyncState};
use jiff::SignedDuration;

/// What is needed least comes first.
const DISPENSABLE: [&str; 6] = ["MEMORY", "SESSIONS", "VERSION", "UPTIME", "LAST HEARD", "LISTEN"];

/// The whole page; in a window of so many columns, if it is one. `status` dates the nodes and says what they should run.
#[must_use]
pub fn page(nodes: &[Node], status: &Status, columns: Option<usize>) -> Page {
    if nodes.is_empty() {
        let mut page = Page::default();
        page.push("no node has ever connected: start one with o1-data-plane --control URL");
        return page;
    }
    table(nodes, status, columns)
}

/// The table, with reasons below the nodes that have trouble.
#[must_use]
pub fn table(nodes: &[Node], status: &Status, columns: Option<usize>) -> Page {
    let mut table = Table::new(&[
        "NODE",
        "STATE",
        "SYNC",
        "REVISION",
        "VERSION",
        "LISTEN",
        "LAST HEARD",
        "UPTIME",
        "SESSIONS",
        "MEMORY",
    ]);
    for node in nodes {
        table.row(cells(node, status), below(node));
    }
    table.page_within(columns, &DISPENSABLE)
}

fn cells(node: &Node, status: &Status) -> Vec<Span> {
    let figure = |text: Option<String>| Span::from(text.unwrap_or_else(|| UNKNOWN.to_owned()));
    let word = |text: &str| figure(Some(text.to_owned()).filter(|text| !text.is_empty()));
    vec![
        node.node_id.as_str().into(),
        state(node.state),
        sync(node.sync),
        revision(node, status).into(),
        word(&node.version),
        word(&node.listen),
        heard(node, status).into(),
        uptime(node, status).into(),
        figure(node.sessions.map(|sessions| sessions.to_string())),
        figure(node.resident_bytes.map(span::bytes)),
    ]
}

fn heard(node: &Node, status: &Status) -> String {
    match (node.last_heard, status.as_of) {
        (Some(then), Some(now)) => format!("{} ago", span::words(span::since(then, now))),
        _ => UNKNOWN.to_owned(),
    }
}

fn state(state: NodeState) -> Span {
    match state {
        NodeState::Connected => Span::new("✅ connected", Style::Good),
        NodeState::Draining => Span::new("⚠️ draining", Style::Warning),
        NodeState::Unreachable => Span::new("❌ unreachable", Style::Bad),
        NodeState::DuplicateIdentity => Span::new("❌ duplicate identity", Style::Bad),
        NodeState::Left => Span::new("· left", Style::Dim),
        NodeState::Unknown => Span::new("· unknown", Style::Dim),
    }
}

fn sync(sync: SyncState) -> Span {
    match sync {
        SyncState::Synced => Span::new("synced", Style::Good),
        SyncState::Pending => Span::new("pending", Style::Plain),
        SyncState::Stale => Span::new("stale", Style::Warning),
        SyncState::Rejected => Span::new("REJECTED", Style::Bad),
        SyncState::Never => Span::new("never", Style::Dim),
        SyncState::Unknown => Span::new(UNKNOWN, Style::Dim),
    }
}

/// What it runs, and what it should run where that differs.
fn revision(node: &Node, status: &Status) -> String {
    let runs = node.applied.as_ref().map_or(UNKNOWN.to_owned(), |applied| applied.revision.to_string());
    match &status.control_plane.target {
        Some(target) if node.applied.as_ref() != Some(target) => {
            format!("{runs} (target {})", target.revision)
        }
        _ => runs,
    }
}

/// By the node's own clock, which may differ from the one that dates the picture.
fn uptime(node: &Node, status: &Status) -> String {
    if !matches!(node.state, NodeState::Connected | NodeState::Draining) {
        return UNKNOWN.to_owned(); // nobody knows whether the process still runs
    }
    let skew = SignedDuration::from_millis(node.clock_skew_ms.unwrap_or(0));
    let its_now = status.as_of.and_then(|as_of| as_of.checked_add(skew).ok());
    span::age(node.started_at, its_now)
}

fn below(node: &Node) -> Page {
    let mut page = Page::default();
    if let Some(order) = &node.drain {
        let undo = format!("o1ctl drain {} --undo --reason TEXT", node.node_id);
        page.push(Line::of(
            format!("  ordered to drain: {} (to end it: {undo})", order.reason),
            Style::Warning,
        ));
    }
    match node.state {
        NodeState::Unreachable => page.push(format!(
            "  it may still serve with the configuration it has; look at its log, and at http://{}/health",
            node.admin
        )),
        NodeState::DuplicateIdentity => {
            page.push(
                "  two live processes use the state directory, or a copy of it: stop one, or give it its own",
            );
        }
        _ => {}
    }
    if !node.rejections.is_empty() {
        let what =
            node.rejected.as_ref().map_or(String::new(), |version| format!(" revision {}", version.revision));
        let still = match &node.applied {
            Some(applied) => format!("still serves revision {}", applied.revision),
            None => "serves nothing".to_owned(),
        };
        page.push(format!("  refused{what} and {still}:"));
        for rejection in &node.rejections {
            page.push(Line::of(format!("    {}", reason(rejection)), Style::Bad));
        }
    }
    page
}

/// `upstream weather, headers.Authorization: variable X is not set (local_dependency)`
pub(super) fn reason(rejection: &Rejection) -> String {
    let place: Vec<_> = [&rejection.resource, &rejection.field]
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(String::as_str)
        .collect();
    let separator = if place.is_empty() { "" } else { ": " };
    format!("{}{separator}{} ({})", place.join(", "), rejection.message, rejection.reason)
}
