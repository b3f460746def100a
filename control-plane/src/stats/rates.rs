//! What happened lately, from the reports of the last half minute.

use super::{histogram::Merged, ledger::Point};
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// Reports older than this say nothing about now.
pub const WINDOW: Duration = Duration::from_secs(30);

/// What happened lately at one upstream, over all nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// The longest time between the first and the last report of one node.
    pub window: Duration,
    /// Over all nodes.
    pub requests_per_second: f64,
    /// 0 to 1; `None`: there were no requests.
    pub error_ratio: Option<f64>,
    /// Half of the answers came within this; `None`: there were no answers.
    pub p50: Option<Duration>,
    /// 99 of 100 answers came within this.
    pub p99: Option<Duration>,
}

/// Adds up the gains of each node between its first and its last report in the window.
#[must_use]
pub fn rates<'a>(series: impl Iterator<Item = &'a VecDeque<Point>>, now: Instant) -> Option<Rates> {
    let (mut window, mut per_second) = (Duration::ZERO, 0.0);
    let (mut requests, mut errors) = (0_u64, 0_u64);
    let mut latency = Merged::default();
    for points in series {
        let mut recent = points.iter().filter(|point| !is_past(point, now));
        let (Some(first), Some(last)) = (recent.next(), recent.next_back()) else { continue };
        let span = last.at.duration_since(first.at);
        if span.is_zero() {
            continue;
        }
        let gained = last.requests.saturating_sub(first.requests);
        requests += gained;
        errors += last.errors.saturating_sub(first.errors);
        per_second += ratio(gained, 1) / span.as_secs_f64();
        latency.add_gain(&first.latency, &last.latency);
        window = window.max(span);
    }
    (!window.is_zero()).then(|| Rates {
        window,
        requests_per_second: per_second,
        error_ratio: (requests > 0).then(|| ratio(errors, requests)),
        p50: latency.quantile(0.50),
        p99: latency.quantile(0.99),
    })
}

/// Whether a point is too old to say anything about `now`.
#[must_use]
pub fn is_past(point: &Point, now: Instant) -> bool {
    now.saturating_duration_since(point.at) > WINDOW
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53 are exact, beyond it nobody can tell")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
