//! What happened lately at one upstream, from the reports of the last half minute.

use super::{Histogram, Sample, histogram::Merged};
use crate::fleet::NodeUid;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use tokio::time::Instant;

/// Reports older than this say nothing about now.
pub const WINDOW: Duration = Duration::from_secs(30);
/// Times are gathered in spans of this length, and leave the window with their span.
const SLOT: Duration = Duration::from_secs(1);
/// Points of one node that are kept, whatever the pace of its reports.
const MAX_POINTS: usize = 16;

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
    /// 0 to 1 of the look-ups in the cache that an entry answered; `None`: none were made.
    pub hit_ratio: Option<f64>,
}

/// The reports of the last half minute about one upstream.
#[derive(Debug, Default)]
pub struct Window {
    /// Each node has its own pace: its rate is between its own first and last point.
    points: BTreeMap<NodeUid, VecDeque<Point>>,
    /// The times that all nodes gained, by when the reports came, oldest first.
    slots: VecDeque<(Instant, Merged)>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    at: Instant,
    requests: u64,
    errors: u64,
    look_ups: u64,
    hits: u64,
}

impl Window {
    /// A node goes on from `before`; without that, what came before is not known and does not count.
    pub fn add(&mut self, uid: NodeUid, before: Option<&Sample>, sample: &Sample, at: Instant) {
        let points = self.points.entry(uid).or_default();
        while points.len() >= MAX_POINTS || points.front().is_some_and(|point| is_past(point.at, at)) {
            points.pop_front();
        }
        let (look_ups, hits) = sample.looked_up();
        let (requests, errors) = (sample.counters.requests, sample.counters.errors);
        points.push_back(Point { at, requests, errors, look_ups, hits });
        while self.slots.front().is_some_and(|slot| is_past(slot.0, at)) {
            self.slots.pop_front();
        }
        if let Some(before) = before {
            self.add_times(&before.latency, &sample.latency, at);
        }
    }

    fn add_times(&mut self, before: &Histogram, now: &Histogram, at: Instant) {
        let current = self.slots.back().is_some_and(|slot| at < slot.0 + SLOT);
        if !current {
            self.slots.push_back((at, Merged::default()));
        }
        if let Some((_, slot)) = self.slots.back_mut() {
            slot.add_gain(before, now);
        }
    }

    /// A node is gone, or counts from the start again.
    pub fn forget(&mut self, uid: NodeUid) {
        self.points.remove(&uid);
    }

    /// Adds up what each node gained between its first and its last report in the window.
    #[must_use]
    pub fn rates(&self, now: Instant) -> Option<Rates> {
        let (mut window, mut per_second) = (Duration::ZERO, 0.0);
        let (mut requests, mut errors) = (0_u64, 0_u64);
        let (mut look_ups, mut hits) = (0_u64, 0_u64);
        for points in self.points.values() {
            let first = points.iter().find(|point| !is_past(point.at, now));
            let (Some(first), Some(last)) = (first, points.back()) else { continue };
            let span = last.at.duration_since(first.at);
            if span.is_zero() {
                continue;
            }
            let gained = last.requests.saturating_sub(first.requests);
            requests += gained;
            errors += last.errors.saturating_sub(first.errors);
            look_ups += last.look_ups.saturating_sub(first.look_ups);
            hits += last.hits.saturating_sub(first.hits);
            per_second += ratio(gained, 1) / span.as_secs_f64();
            window = window.max(span);
        }
        if window.is_zero() {
            return None;
        }
        let mut times = Merged::default();
        self.slots.iter().filter(|slot| !is_past(slot.0, now)).for_each(|slot| times.add(&slot.1));
        Some(Rates {
            window,
            requests_per_second: per_second,
            error_ratio: (requests > 0).then(|| ratio(errors, requests)),
            p50: times.quantile(0.50),
            p99: times.quantile(0.99),
            hit_ratio: (look_ups > 0).then(|| ratio(hits, look_ups)),
        })
    }
}

/// Whether something is too old to say anything about `now`.
fn is_past(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) > WINDOW
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53 are exact, beyond it nobody can tell")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
