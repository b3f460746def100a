//! The log as the rest of the process uses it. It does not grow for ever: the oldest events go, hour by hour.

use super::{Append, Appended, Cursor, EventPage, EventQuery, Kept};
use crate::{
    clock::Now,
    fleet::{Decided, NodeUid},
    store::{Store, StoreError},
};
use o1_process::Backoff;
use o1_proto::model::{Event, EventKind};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

/// Events that are kept.
const KEEP: usize = 200_000;
/// For how long.
const KEEP_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often the rest goes.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// Events that go at once, so that the store has time for others in between.
pub const PRUNE_STEP: usize = 2000;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    store: Arc<dyn Store>,
}

impl Log {
    /// The log in this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Stores what a node sent. When this returns, a power failure does not take it back.
    ///
    /// # Errors
    /// The store cannot do it; the node still has them.
    pub async fn append(&self, append: Append) -> Result<Appended, StoreError> {
        self.store.append_events(append).await
    }

    /// Stores a decision of this control plane, which gets its number and, if it has none, its time here. Answers with
    /// its position, once it is on the disk: whoever decides waits for that before it acts.
    ///
    /// # Errors
    /// The store cannot do it: the decision must not be acted on.
    pub async fn decided(&self, event: Event) -> Result<u64, StoreError> {
        let now = Now::read().wall;
        let at = event.at.or(Some(now));
        self.store.append_own_event(Event { kind: EventKind::Decided, at, ..event }, now).await
    }

    /// Stores what was decided, as it comes, for ever. A store that cannot is tried again: what waits is bounded where
    /// it waits.
    pub async fn follow(&self, decided: &Decided) {
        loop {
            let event = decided.next().await;
            let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));
            while let Err(error) = self.decided(event.clone()).await {
                tracing::warn!(%error, decision = event.decision_id, "a decision is not in the log of events yet");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }

    /// Up to where the events of a node are here.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn cursor(&self, node: NodeUid) -> Result<Option<Cursor>, StoreError> {
        self.store.event_cursor(node).await
    }

    /// A page of events.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn page(&self, query: EventQuery) -> Result<EventPage, StoreError> {
        self.store.events(query).await
    }

    /// What there is at all.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn kept(&self) -> Result<Kept, StoreError> {
        self.store.event_range().await
    }

    /// The newest position, as it grows.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.store.newest_event()
    }

    /// Lets the oldest events go, now and every hour, until the process stops.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(PRUNE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = self.prune() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn prune(&self) {
        let mut gone = 0;
        loop {
            match self.store.prune_events(KEEP, Now::read().wall - KEEP_FOR).await {
                Ok(0) => break,
                Ok(some) => gone += some,
                Err(error) => {
                    tracing::warn!(%error, "old events could not be removed: trying again in an hour");
                    break;
                }
            }
        }
        if gone > 0 {
            tracing::info!(events = gone, "old events were removed");
        }
    }
}
