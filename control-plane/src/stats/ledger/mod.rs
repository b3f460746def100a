//! Every report once, and the sums.

use super::{
    BatchCounters, CacheCounters, Counters, EndpointCounters, Rates, Report, Sample, window::Window,
};
use crate::fleet::NodeUid;
use o1_proto::model::Tier;
use std::{
    collections::{BTreeMap, HashSet},
    error::Error,
    fmt,
};
use tokio::time::Instant;

/// The most upstreams that are known at one time, over all nodes.
const MAX_UPSTREAMS: usize = 10_000;
/// Of more endpoints of one upstream than these, ended boots are not remembered.
const MAX_ENDPOINTS: usize = 1_000;

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
    nodes: BTreeMap<NodeUid, Last>,
    upstreams: BTreeMap<String, UpstreamLedger>,
}

/// The last report of a node, beside what it says of upstreams.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    epoch: u64,
    seq: u64,
    sessions: u64,
    resident_bytes: Option<u64>,
}

/// What is known of one upstream.
#[derive(Debug, Default)]
pub struct UpstreamLedger {
    /// What ended boots, ended series and forgotten nodes had counted.
    closed: Totals,
    latest: BTreeMap<NodeUid, Series>,
    window: Window,
}

/// The last word of a node in its present boot.
#[derive(Debug)]
struct Series {
    sample: Sample,
    /// It stands in the last report of the node. Where it does not, the node counts on from here if it comes back.
    current: bool,
}

/// Everything that was counted of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests.
    pub counters: Counters,
    /// In the order of [`Tier::ALL`].
    pub cache: [CacheCounters; Tier::ALL.len()],
    /// By label.
    pub endpoints: BTreeMap<String, EndpointCounters>,
    /// Batches.
    pub batches: BatchCounters,
}

impl Totals {
    fn add(&mut self, sample: &Sample) {
        self.counters += sample.counters;
        for (sum, tier) in self.cache.iter_mut().zip(&sample.cache) {
            *sum += tier.counters;
        }
        self.batches += sample.batches.counters();
        for (label, endpoint) in &sample.endpoints {
            // A name is copied once for all nodes, not once for each.
            match self.endpoints.get_mut(label) {
                Some(sum) => *sum += endpoint.counters,
                None => drop(self.endpoints.insert(label.clone(), endpoint.counters)),
            }
        }
    }
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
        let last = self.nodes.entry(uid).or_default();
        if report.epoch < last.epoch {
            return Err(ReportError::EpochOver { current: last.epoch });
        }
        let rebooted = report.epoch > last.epoch;
        if !rebooted && report.seq <= last.seq {
            return Ok(last.seq);
        }
        let Report { epoch, seq, upstreams, sessions, resident_bytes } = report;
        *last = Last { epoch, seq, sessions, resident_bytes };
        if rebooted {
            self.close(uid);
        }
        let names: HashSet<&str> = upstreams.iter().map(|sample| sample.upstream.as_str()).collect();
        for (_, upstream) in self.upstreams.iter_mut().filter(|(name, _)| !names.contains(name.as_str())) {
            upstream.pause(uid);
        }
        for sample in upstreams {
            self.follow(uid, sample, at);
        }
        Ok(seq)
    }

    /// The node is gone for good; what it counted stays in the sums.
    pub fn forget(&mut self, uid: NodeUid) {
        self.nodes.remove(&uid);
        self.close(uid);
    }

    /// Drops the sums of upstreams that are no longer configured, unless a node still reports them.
    pub fn keep_only(&mut self, configured: impl Fn(&str) -> bool) {
        self.upstreams.retain(|name, upstream| configured(name) || upstream.latest().next().is_some());
    }

    /// The last report of a node.
    #[must_use]
    pub fn latest(&self, uid: NodeUid) -> Option<Latest<'_>> {
        let last = self.nodes.get(&uid)?;
        Some(Latest {
            sessions: last.sessions,
            resident_bytes: last.resident_bytes,
            upstreams: self.upstreams.values().filter_map(|upstream| upstream.current(uid)).collect(),
        })
    }

    /// What is known of each upstream, by name.
    pub fn upstreams(&self) -> impl Iterator<Item = (&str, &UpstreamLedger)> {
        self.upstreams.iter().map(|(name, upstream)| (name.as_str(), upstream))
    }

    /// What is known of an upstream; `None`: no node ever reported it.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<&UpstreamLedger> {
        self.upstreams.get(name)
    }

    /// Ends every series of a node.
    fn close(&mut self, uid: NodeUid) {
        for upstream in self.upstreams.values_mut() {
            if let Some(ended) = upstream.latest.remove(&uid) {
                upstream.end(uid, &ended.sample);
            }
        }
    }

    /// The series goes on with a new sample, or starts again if its counters did.
    fn follow(&mut self, uid: NodeUid, sample: Sample, at: Instant) {
        if self.upstreams.len() >= MAX_UPSTREAMS && !self.upstreams.contains_key(&sample.upstream) {
            return;
        }
        let upstream = self.upstreams.entry(sample.upstream.clone()).or_default();
        let mut before = None;
        if let Some(ended) = upstream.latest.remove(&uid) {
            if sample.restarted_since(&ended.sample) {
                upstream.end(uid, &ended.sample);
            } else if ended.current {
                before = Some(ended.sample);
            }
        }
        upstream.window.add(uid, before.as_ref(), &sample, at);
        upstream.latest.insert(uid, Series { sample, current: true });
    }
}

impl UpstreamLedger {
    /// The last word of each node that reports it, by uid.
    pub fn latest(&self) -> impl Iterator<Item = (NodeUid, &Sample)> {
        let current = self.latest.iter().filter(|(_, series)| series.current);
        current.map(|(uid, series)| (*uid, &series.sample))
    }

    /// Everything that was counted.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut sum = self.closed.clone();
        self.latest.values().for_each(|series| sum.add(&series.sample));
        sum
    }

    /// A node counts from the start again, or never again.
    fn end(&mut self, uid: NodeUid, ended: &Sample) {
        self.closed.add(ended);
        if self.closed.endpoints.len() > MAX_ENDPOINTS {
            self.closed.endpoints.retain(|label, _| ended.endpoints.contains_key(label));
        }
        self.window.forget(uid);
    }

    /// What a node reports of it; `None`: nothing any more.
    fn current(&self, uid: NodeUid) -> Option<&Sample> {
        self.latest.get(&uid).filter(|series| series.current).map(|series| &series.sample)
    }

    /// A node reports it no more.
    fn pause(&mut self, uid: NodeUid) {
        if let Some(series) = self.latest.get_mut(&uid) {
            series.current = false;
            self.window.forget(uid);
        }
    }

    /// What happened lately, over all nodes; `None`: no node has reported twice lately.
    #[must_use]
    pub fn rates(&self, now: Instant) -> Option<Rates> {
        self.window.rates(now)
    }
}

#[cfg(test)]
mod tests;
