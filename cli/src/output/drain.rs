//! What came of `o1ctl drain`.

use super::{
    events::short,
    page::{Line, Page, Style},
    span,
};
use crate::{
    model::seconds,
    model::{DrainOrder, Node, NodeState},
};
use serde::Serialize;
use std::time::Duration;

/// The whole answer.
#[derive(Serialize)]
pub struct Done<'a> {
    /// Which node.
    pub node_id: &'a str,
    /// Whether it shall drain now.
    pub drain: bool,
    /// It was ordered so already.
    pub no_op: bool,
    /// The order that stands.
    pub order: Option<&'a DrainOrder>,
    /// What came of waiting; null: nobody waited.
    pub waited: Option<&'a Waited>,
}

/// A wait.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Waited {
    /// How it was seen last.
    #[serde(flatten)]
    pub seen: Seen,
    /// How long it took; null: time was up.
    #[serde(rename = "took_seconds", serialize_with = "seconds")]
    pub took: Option<Duration>,
    /// How long it was waited for, when time was up.
    #[serde(skip)]
    pub limit: Option<Duration>,
}

/// Nodes report what they have every five seconds, a tenth more or less. Nothing open for longer than that was said by a
/// report that is younger than the order.
pub const SETTLED: Duration = Duration::from_secs(6);

/// Looks at picture after picture until a node is as it was ordered.
#[derive(Debug, Default)]
pub struct Settling {
    /// Since when nothing is open, as far as pictures show.
    since: Option<Duration>,
}

impl Settling {
    /// Whether it is as it was ordered, and not only by a report that may be older than the order: what a picture shows
    /// `at` some moment, and for how long it must have been so.
    pub fn is_done(&mut self, seen: &Seen, drain: bool, at: Duration, settled: Duration) -> bool {
        if !seen.is_done(drain) {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(at);
        !drain || at.saturating_sub(since) >= settled
    }
}

/// What a node still has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Seen {
    /// It is there.
    pub connected: bool,
    /// It says that it takes no new sessions.
    pub draining: bool,
    /// Open sessions; null: it did not report yet.
    pub sessions: Option<u64>,
    /// Requests in flight, over all upstreams.
    pub in_flight: u64,
}

impl Seen {
    /// How a node looks in a picture.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        Self {
            connected: matches!(node.state, NodeState::Connected | NodeState::Draining),
            draining: node.state == NodeState::Draining,
            sessions: node.sessions,
            in_flight: node.upstreams.iter().map(|one| one.totals.active_requests).sum(),
        }
    }

    /// Whether it is as it was ordered, by its last report.
    #[must_use]
    pub fn is_done(&self, drain: bool) -> bool {
        match drain {
            true => self.draining && self.sessions == Some(0) && self.in_flight == 0,
            false => self.connected && !self.draining,
        }
    }

    /// What is still open or in flight.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.sessions.unwrap_or_default().saturating_add(self.in_flight)
    }
}

/// For those who wait.
#[must_use]
pub fn progress(node: &str, seen: &Seen, drain: bool) -> String {
    if !seen.connected {
        return format!("{node} is not connected");
    }
    match (drain, seen.draining) {
        (true, false) => format!("{node} has not heard it yet"),
        (false, true) => format!("{node} still drains"),
        (false, false) => format!("{node} takes new sessions"),
        (true, true) if seen.is_done(true) => {
            format!(
                "{node} drains: nothing is open by its last report; the next one tells whether that is still so"
            )
        }
        (true, true) => format!("{node} drains: {}", left(seen)),
    }
}

fn left(seen: &Seen) -> String {
    let sessions = match seen.sessions {
        None => "it has not reported yet".to_owned(),
        Some(1) => "1 session".to_owned(),
        Some(count) => format!("{count} sessions"),
    };
    let requests = if seen.in_flight == 1 { "request" } else { "requests" };
    format!("{sessions}, {} {requests} in flight", seen.in_flight)
}

/// For people.
#[must_use]
pub fn page(done: &Done<'_>) -> Page {
    let mut page = Page::default();
    let node = done.node_id;
    let first = match (done.drain, done.no_op) {
        (true, false) => format!("{node} takes no new sessions from now on"),
        (true, true) => format!("{node} was ordered to drain already: nothing to order"),
        (false, false) => format!("{node} takes new sessions again"),
        (false, true) => format!("{node} was not ordered to drain: nothing to end"),
    };
    page.push(Line::of(first, Style::Bold));
    if let Some(order) = done.order.filter(|_| done.no_op) {
        page.push(format!("  because: {}", order.reason));
    }
    let Some(waited) = done.waited else {
        if done.drain {
            page.push(format!(
                "  what it still has: o1ctl nodes; to end it: o1ctl drain {node} --undo --reason TEXT"
            ));
        }
        return page;
    };
    match (waited.took, done.drain) {
        (Some(took), true) => {
            let text = format!(
                "  ✅ nothing is open or in flight any more, after {}: it can be stopped",
                short(took)
            );
            page.push(Line::of(text, Style::Good));
        }
        (Some(took), false) => {
            page.push(Line::of(format!("  ✅ it says so itself, after {}", short(took)), Style::Good));
        }
        (None, drain) => {
            let limit = span::words(waited.limit.unwrap_or_default());
            let seen = progress(node, &waited.seen, drain);
            page.push(Line::of(format!("  ⚠️ not done within {limit}: {seen}"), Style::Warning));
            if drain && !waited.seen.is_done(true) {
                page.push("  sessions end when their clients do, or after `clients.session_idle`; stopping the node ends them now, and other nodes go on with them");
            }
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_open_once_a_report_after_the_order_says_so() {
        let seen = |draining, sessions| Seen { connected: true, draining, sessions, in_flight: 0 };
        let after = |pictures: &[(u64, Seen)]| {
            let mut settling = Settling::default();
            pictures
                .iter()
                .find(|(at, seen)| settling.is_done(seen, true, Duration::from_secs(*at), SETTLED))
                .map(|(at, _)| *at)
        };
        let quiet = || seen(true, Some(0));
        assert_eq!(after(&[(0, quiet()), (5, quiet()), (6, quiet())]), Some(6));
        assert_eq!(
            after(&[(0, quiet()), (3, seen(true, Some(1))), (6, quiet()), (9, quiet())]),
            None,
            "anew"
        );
        assert_eq!(
            after(&[(0, quiet()), (2, Seen { in_flight: 1, ..quiet() }), (7, quiet()), (13, quiet())]),
            Some(13)
        );
        assert_eq!(after(&[(0, seen(false, Some(0))), (7, quiet())]), None, "it had not heard the order");
        assert_eq!(after(&[(0, quiet()), (3, Seen::default()), (7, quiet())]), None, "it was gone meanwhile");
        assert_eq!(after(&[(0, seen(true, None)), (9, seen(true, None))]), None, "it never reported");
        let back = seen(false, Some(4));
        assert!(Settling::default().is_done(&back, false, Duration::ZERO, SETTLED), "it says that itself");
    }
}
