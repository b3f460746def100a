//! Every report once, and the sums.

use super::{Counters, Histogram, Rates, Report, Sample, rates};
use crate::fleet::NodeUid;
use std::{
    collections::{BTreeMap, VecDeque},
    error::Error,
    fmt,
};
use tokio::time::Instant;

/// Points of one series that are kept, whatever the pace of the reports.
const MAX_POINTS: usize = 16;

/// Why a report does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportError {
    /// The node never said hello.
    UnknownNode,
    /// A later boot of the node has reported already.
    EpochOver {
        /// The later boot.
        current: u64,
    },
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownNode => f.write_str("this node is not known here: open Sync and say hello first"),
            Self::EpochOver { current } => {
                write!(f, "this boot is over: boot {current} of the node has reported")
            }
        }
    }
}

impl Error for ReportError {}

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    nodes: BTreeMap<NodeUid, NodeLedger>,
    /// What ended boots, dropped series and forgotten nodes had counted, by upstream.
    closed: BTreeMap<String, Counters>,
}

#[derive(Debug, Default)]
struct NodeLedger {
    epoch: u64,
    seq: u64,
    sessions: u64,
    resident_bytes: Option<u64>,
    series: BTreeMap<String, Series>,
}

#[derive(Debug)]
struct Series {
    latest: Sample,
    points: VecDeque<Point>,
}

/// What a rate is made of.
#[derive(Debug, Clone)]
pub struct Point {
    /// When the report arrived.
    pub at: Instant,
    /// As in [`Counters::requests`].
    pub requests: u64,
    /// As in [`Counters::errors`].
    pub errors: u64,
    /// As in [`Sample::latency`].
    pub latency: Histogram,
}

/// The last report of one node.
#[derive(Debug)]
pub struct Latest<'a> {
    /// As in [`Report::sessions`].
    pub sessions: u64,
    /// As in [`Report::resident_bytes`].
    pub resident_bytes: Option<u64>,
    /// By name.
    pub upstreams: Vec<&'a Sample>,
}

impl Ledger {
    /// Takes a report. Answers with the number of the newest report that counts: an older one changes nothing.
    ///
    /// # Errors
    /// A later boot of the node has reported already.
    pub fn accept(&mut self, uid: NodeUid, report: Report, at: Instant) -> Result<u64, ReportError> {
        let node = self.nodes.entry(uid).or_default();
        if report.epoch < node.epoch {
            return Err(ReportError::EpochOver { current: node.epoch });
        }
        if report.epoch > node.epoch {
            fold(&mut self.closed, std::mem::take(&mut node.series));
            (node.epoch, node.seq) = (report.epoch, 0);
        }
        if report.seq <= node.seq {
            return Ok(node.seq);
        }
        node.seq = report.seq;
        node.sessions = report.sessions;
        node.resident_bytes = report.resident_bytes;
        let mut earlier = std::mem::take(&mut node.series);
        for sample in report.upstreams {
            let before = earlier.remove(&sample.upstream);
            let series = Series::follow(before, sample, at, &mut self.closed);
            node.series.insert(series.latest.upstream.clone(), series);
        }
        // What is left is no longer reported, and would count from the start if it came back.
        fold(&mut self.closed, earlier);
        Ok(node.seq)
    }

    /// The node is gone for good; what it counted stays in the sums.
    pub fn forget(&mut self, uid: NodeUid) {
        if let Some(node) = self.nodes.remove(&uid) {
            fold(&mut self.closed, node.series);
        }
    }

    /// Drops the sums of upstreams that are no longer configured.
    pub fn keep_only(&mut self, configured: impl Fn(&str) -> bool) {
        self.closed.retain(|name, _| configured(name));
    }

    /// The last report of a node.
    #[must_use]
    pub fn latest(&self, uid: NodeUid) -> Option<Latest<'_>> {
        let node = self.nodes.get(&uid)?;
        Some(Latest {
            sessions: node.sessions,
            resident_bytes: node.resident_bytes,
            upstreams: node.series.values().map(|series| &series.latest).collect(),
        })
    }

    /// What one node last said of an upstream.
    #[must_use]
    pub fn sample(&self, uid: NodeUid, upstream: &str) -> Option<&Sample> {
        Some(&self.nodes.get(&uid)?.series.get(upstream)?.latest)
    }

    /// Everything that was counted of an upstream.
    #[must_use]
    pub fn totals(&self, upstream: &str) -> Counters {
        let mut sum = self.closed.get(upstream).copied().unwrap_or_default();
        for series in self.nodes.values().filter_map(|node| node.series.get(upstream)) {
            sum += series.latest.counters;
        }
        sum
    }

    /// What happened at an upstream lately, over all nodes; `None`: no node has reported twice lately.
    #[must_use]
    pub fn rates(&self, upstream: &str, now: Instant) -> Option<Rates> {
        let series = self.nodes.values().filter_map(|node| node.series.get(upstream));
        rates::rates(series.map(|series| &series.points), now)
    }
}

impl Series {
    /// The series goes on with a new sample, or starts again if its counters did.
    fn follow(
        before: Option<Self>,
        latest: Sample,
        at: Instant,
        closed: &mut BTreeMap<String, Counters>,
    ) -> Self {
        let mut points = match before {
            Some(before) if latest.counters.restarted_since(&before.latest.counters) => {
                *closed.entry(latest.upstream.clone()).or_default() += before.latest.counters;
                VecDeque::new()
            }
            Some(before) => before.points,
            None => VecDeque::new(),
        };
        let Counters { requests, errors, .. } = latest.counters;
        points.push_back(Point { at, requests, errors, latency: latest.latency.clone() });
        while points.len() > MAX_POINTS || points.front().is_some_and(|point| rates::is_past(point, at)) {
            points.pop_front();
        }
        Self { latest, points }
    }
}

fn fold(closed: &mut BTreeMap<String, Counters>, series: BTreeMap<String, Series>) {
    for (name, series) in series {
        *closed.entry(name).or_default() += series.latest.counters;
    }
}

#[cfg(test)]
mod tests;
