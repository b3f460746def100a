//! Counters of the fleet from the reports of its nodes. Pure.
//!
//! [`Ledger`] takes each report once, however often and in whatever order it arrives, and adds up: what ended
//! boots had counted, plus what the running ones count. [`Rates`] are what happened between the reports of the
//! last half minute.
//!
//! This module must never guess: without two reports there is no rate.

mod histogram;
mod ledger;
mod sample;
mod window;

pub use histogram::Histogram;
pub use ledger::{Latest, Ledger, ReportError, Totals, UpstreamLedger};
pub use sample::{
    BatchCounters, Batches, CacheCounters, Cached, Counters, Endpoint, EndpointCounters, Evictions, LookUps,
    Reachability, Report, Sample, Skips,
};
pub use window::Rates;
