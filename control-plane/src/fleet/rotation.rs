//! Carries out the schedule of the keys that nodes seal tokens with: on disk first, then to the nodes.
//!
//! It must never hand out a key that a restart would not know, and must never log one.

use super::{Hub, Schedule, SealKey, seal_keys::sealing_first};
use crate::{
    clock::Now,
    store::{Store, StoreError},
};
use std::{error::Error as _, sync::Arc, time::Duration};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often the schedule is looked at: clocks jump, and the longest life of a session may be configured anew.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// See the module.
pub struct Rotation {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    every: Duration,
    /// Oldest first, as stored.
    keys: Vec<SealKey>,
    /// As the nodes have them.
    sent: Vec<SealKey>,
}

impl Rotation {
    /// Takes up the stored keys, makes the first ones where there are none, and gives them to the hub.
    ///
    /// # Errors
    /// The store does not answer, or does not keep the first keys.
    pub async fn start(store: Arc<dyn Store>, hub: Arc<Hub>, every: Duration) -> Result<Self, StoreError> {
        let keys = store.seal_keys().await?;
        let mut this = Self { store, hub, every, keys, sent: Vec::new() };
        this.turn().await?;
        Ok(this)
    }

    /// Follows the schedule until the process stops.
    pub async fn run(mut self, stop: CancellationToken) {
        let wait = LOOK_EVERY.min(self.every / 4);
        loop {
            tokio::select! {
                () = sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = self.turn().await {
                let cause = error.source().map(ToString::to_string);
                tracing::warn!(%error, cause, "the keys that nodes seal with stay as they are, trying again");
            }
        }
    }

    async fn turn(&mut self) -> Result<(), StoreError> {
        let now = Now::read().wall;
        let due = self.schedule().due(self.keys.clone(), now, SealKey::mint);
        if due != self.keys {
            self.store.replace_seal_keys(due.clone()).await?;
            self.keys = due;
        }
        let send = sealing_first(&self.keys, now);
        if send != self.sent {
            tracing::info!(keys = send.len(), "other keys for the tokens of clients");
            self.hub.set_seal_keys(send.as_slice().into());
            self.sent = send;
        }
        Ok(())
    }

    fn schedule(&self) -> Schedule {
        let target = self.hub.look(|registry, _| registry.target().cloned());
        let clients = target.map(|target| target.fleet.clients.clone()).unwrap_or_default();
        Schedule { rotation: self.every, lifetime: clients.session_lifetime }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fleet::{Out, Outbox},
        store::Sqlite,
    };

    async fn given(hub: &Hub) -> Vec<SealKey> {
        let outbox = Outbox::new();
        let record = crate::fleet::sample_record("n1", 1);
        let hello = crate::fleet::Hello { identity: record.identity, applied: None, refused: None };
        hub.hello(hello, &outbox, Now::read()).expect("welcome");
        loop {
            if let Out::SealKeys(keys) = outbox.next().await.expect("more to come") {
                return keys.to_vec();
            }
        }
    }

    #[tokio::test]
    async fn keys_survive_a_restart_and_reach_the_nodes_that_come_later() {
        let dir = tempfile::tempdir().unwrap();
        let life = |every| {
            let store: Arc<dyn Store> = Arc::new(Sqlite::open(&dir.path().join("store.db")).unwrap());
            let hub = Arc::new(Hub::new(Vec::new(), Now::read()));
            async move { (Rotation::start(store, hub.clone(), every).await.unwrap(), hub) }
        };
        let (first, hub) = life(super::super::ROTATION).await;
        let secrets =
            |keys: Vec<SealKey>| keys.into_iter().map(|key| (key.id, key.secret)).collect::<Vec<_>>();
        let keys = secrets(given(&hub).await);
        assert_eq!(keys.len(), 2, "one that seals, and the next");
        drop(first);
        let (_, hub) = life(super::super::ROTATION).await;
        assert_eq!(secrets(given(&hub).await), keys);
    }
}
