//! Every report once, and the sums.

use super::{Counters, Rates, Report, Sample, window::Window};
use crate::fleet::NodeUid;
use std::{
    collections::{BTreeMap, HashSet},
    error::Error,
    fmt,
};
use tokio::time::Instant;

/// The most upstreams that are known at one time, over all nodes.
const MAX_UPSTREAMS: usize = 10_000;

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
    closed: Counters,
    /// The last word of each node that reports it.
    latest: BTreeMap<NodeUid, Sample>,
    window: Window,
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
        // What is no longer reported would count from the start if it came back.
        let names: HashSet<&str> = upstreams.iter().map(|sample| sample.upstream.as_str()).collect();
        self.close(uid, |name| rebooted || !names.contains(name));
        for sample in upstreams {
            self.follow(uid, sample, at);
        }
        Ok(seq)
    }

    /// The node is gone for good; what it counted stays in the sums.
    pub fn forget(&mut self, uid: NodeUid) {
        self.nodes.remove(&uid);
        self.close(uid, |_| true);
    }

    /// Drops the sums of upstreams that are no longer configured, unless a node still reports them.
    pub fn keep_only(&mut self, configured: impl Fn(&str) -> bool) {
        self.upstreams.retain(|name, upstream| configured(name) || !upstream.latest.is_empty());
    }

    /// The last report of a node.
    #[must_use]
    pub fn latest(&self, uid: NodeUid) -> Option<Latest<'_>> {
        let last = self.nodes.get(&uid)?;
        Some(Latest {
            sessions: last.sessions,
            resident_bytes: last.resident_bytes,
            upstreams: self.upstreams.values().filter_map(|upstream| upstream.latest.get(&uid)).collect(),
        })
    }

    /// What is known of an upstream; `None`: no node ever reported it.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<&UpstreamLedger> {
        self.upstreams.get(name)
    }

    /// Ends the series of a node whose upstreams are `over`.
    fn close(&mut self, uid: NodeUid, over: impl Fn(&str) -> bool) {
        for (name, upstream) in &mut self.upstreams {
            if over(name)
                && let Some(sample) = upstream.latest.remove(&uid)
            {
                upstream.closed += sample.counters;
                upstream.window.forget(uid);
            }
        }
    }

    /// The series goes on with a new sample, or starts again if its counters did.
    fn follow(&mut self, uid: NodeUid, sample: Sample, at: Instant) {
        if self.upstreams.len() >= MAX_UPSTREAMS && !self.upstreams.contains_key(&sample.upstream) {
            return;
        }
        let upstream = self.upstreams.entry(sample.upstream.clone()).or_default();
        let mut before = upstream.latest.get(&uid);
        if let Some(ended) = before.take_if(|before| sample.counters.restarted_since(&before.counters)) {
            upstream.closed += ended.counters;
            upstream.window.forget(uid);
        }
        upstream.window.add(uid, before, &sample, at);
        upstream.latest.insert(uid, sample);
    }
}

impl UpstreamLedger {
    /// The last word of each node that reports it, by uid.
    pub fn latest(&self) -> impl Iterator<Item = (NodeUid, &Sample)> {
        self.latest.iter().map(|(uid, sample)| (*uid, sample))
    }

    /// Everything that was counted.
    #[must_use]
    pub fn totals(&self) -> Counters {
        let mut sum = self.closed;
        for sample in self.latest.values() {
            sum += sample.counters;
        }
        sum
    }

    /// What happened lately, over all nodes; `None`: no node has reported twice lately.
    #[must_use]
    pub fn rates(&self, now: Instant) -> Option<Rates> {
        self.window.rates(now)
    }
}

#[cfg(test)]
mod tests;
