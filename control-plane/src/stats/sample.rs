//! What one node reports.

use super::Histogram;
use serde::Serialize;
use std::{ops::AddAssign, time::SystemTime};

/// One report of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The boot that counts.
    pub epoch: u64,
    /// Grows with each report of a boot.
    pub seq: u64,
    /// At most one for each upstream.
    pub upstreams: Vec<Sample>,
    /// Open client sessions.
    pub sessions: u64,
    /// Resident memory, bytes; `None`: not known.
    pub resident_bytes: Option<u64>,
}

/// One upstream on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its name.
    pub upstream: String,
    /// Since the start of the boot.
    pub counters: Counters,
    /// In flight when sampled.
    pub active_requests: u64,
    /// Times to the complete answer since the start of the boot.
    pub latency: Histogram,
    /// What the last attempt came to.
    pub reachability: Reachability,
    /// When that last changed.
    pub since: Option<SystemTime>,
    /// Why it is not reachable.
    pub last_error: String,
    /// It was seen to speak a revision with sessions.
    pub legacy: bool,
    /// It was seen to speak the revision without.
    pub modern: bool,
    /// In its last complete list.
    pub tools: Option<u32>,
}

/// What only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counters {
    /// Sent to the upstream.
    pub requests: u64,
    /// Of these, without a usable answer.
    pub errors: u64,
    /// Of the errors, out of time.
    pub timeouts: u64,
    /// Answers that say that the call failed.
    pub application_errors: u64,
    /// Bytes from the upstream.
    pub bytes_in: u64,
    /// Bytes to the upstream.
    pub bytes_out: u64,
}

impl Counters {
    /// Whether any of these has gone back since `earlier`: then they count from the start again.
    #[must_use]
    pub fn restarted_since(&self, earlier: &Self) -> bool {
        let pairs = self.parts().into_iter().zip(earlier.parts());
        pairs.into_iter().any(|(now, before)| now < before)
    }

    fn parts(&self) -> [u64; 6] {
        let Self { requests, errors, timeouts, application_errors, bytes_in, bytes_out } = *self;
        [requests, errors, timeouts, application_errors, bytes_in, bytes_out]
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, more: Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.errors = self.errors.saturating_add(more.errors);
        self.timeouts = self.timeouts.saturating_add(more.timeouts);
        self.application_errors = self.application_errors.saturating_add(more.application_errors);
        self.bytes_in = self.bytes_in.saturating_add(more.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(more.bytes_out);
    }
}

/// What the last attempt to reach an upstream came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reachability {
    /// Nothing was tried yet.
    Unknown,
    /// It answered.
    Reachable,
    /// It did not.
    Unreachable,
}
