//! What clients should hear of a change between stores.

use o1_proto::model::Store;
use std::time::{Duration, SystemTime};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Of which upstream.
    pub upstream: String,
    /// What happened.
    pub news: News,
    /// When.
    pub at: SystemTime,
    /// For people: why.
    pub because: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Something other than the primary answers now.
    FailedOver {
        /// The active store; the primary while only reads are diverted.
        active: Store,
    },
    /// The primary answers again.
    Restored {
        /// How long it did not.
        after: Duration,
        /// Writes of meanwhile that the primary has now.
        synced_back: u64,
    },
}
