//! What clients should hear of a change between stores, and how many did.

use o1_proto::model::Store;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::sync::Notify;

/// Clients that are told within this time are counted together.
const TOGETHER: Duration = Duration::from_secs(1);

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

type Hook = Box<dyn Fn(&str, u64) + Send + Sync>;

/// How many clients were told, by upstream, until somebody takes the counts.
#[derive(Default)]
pub(super) struct Told {
    counts: Mutex<BTreeMap<String, u64>>,
    some: Notify,
    hook: OnceLock<Hook>,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Told {
    pub(super) fn hook(&self, hook: Hook) {
        let _ = self.hook.set(hook);
    }

    pub(super) fn note(&self, upstream: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(upstream.to_owned()).or_default() += 1;
        drop(counts);
        self.some.notify_one();
    }

    pub(super) async fn gather(&self) {
        self.some.notified().await;
        tokio::time::sleep(TOGETHER).await;
        let counts = std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(hook) = self.hook.get() {
            counts.iter().for_each(|(upstream, count)| hook(upstream, *count));
        }
    }
}
