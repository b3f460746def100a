//! What is known of one store, told by probes and breakers, heard by the failover path and by status.

use o1_proto::model::{BreakerState, StoreHealth, Verdict};
use tokio::sync::watch;

/// A place for it. The latest word counts.
#[derive(Debug)]
pub struct Health(watch::Sender<StoreHealth>);

impl Default for Health {
    fn default() -> Self {
        Self(watch::Sender::new(StoreHealth::default()))
    }
}

impl Health {
    /// What is known now.
    #[must_use]
    pub fn now(&self) -> StoreHealth {
        self.0.borrow().clone()
    }

    /// The verdict and the breaker alone.
    #[must_use]
    pub fn words(&self) -> (Verdict, BreakerState) {
        let health = self.0.borrow();
        (health.verdict, health.breaker)
    }

    /// Follows it. Woken when the verdict, the breaker or the words of the failure change, not by each probe.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<StoreHealth> {
        self.0.subscribe()
    }

    /// The latest word.
    pub fn tell(&self, health: StoreHealth) {
        self.0.send_if_modified(|known| {
            let news = known.verdict != health.verdict
                || known.breaker != health.breaker
                || known.error != health.error;
            *known = health;
            news
        });
    }
}
