//! What a later process should know of the nodes, on its way to the store: the newest record of a node
//! replaces one that still waits, so that a slow disk costs no memory and holds nobody up.

use super::{Identity, NodeUid, Refusal};
use crate::{config::Version, store::Store};
use o1_process::Backoff;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    error::Error as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

/// What a later process should know of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Who it is.
    pub identity: Identity,
    /// What it said it runs.
    pub applied: Option<Version>,
    /// What it refused last.
    pub refused: Option<Refusal>,
    /// When it was last heard, as far as this record knows: heartbeats do not write records.
    pub last_heard: SystemTime,
    /// Its lease was over: a later process need not wait for it.
    #[serde(default)]
    pub away: bool,
}

/// The records that wait to be written. `None`: to be forgotten.
#[derive(Debug, Default)]
pub struct Records {
    waiting: Mutex<BTreeMap<NodeUid, Option<NodeRecord>>>,
    filled: Notify,
}

impl Records {
    /// Leaves records to be written.
    pub fn put(&self, records: Vec<(NodeUid, Option<NodeRecord>)>) {
        if !records.is_empty() {
            self.waiting().extend(records);
            self.filled.notify_one();
        }
    }

    /// Writes records as they come, until the process stops, and what waits then.
    pub async fn write_to(&self, store: &dyn Store, stop: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.filled.notified() => {}
                () = stop.cancelled() => break,
            }
            while !self.write(store).await && !stop.is_cancelled() {
                tokio::select! {
                    () = sleep(backoff.next()) => {}
                    () = stop.cancelled() => {}
                }
            }
            backoff.reset();
        }
        self.write(store).await;
    }

    /// Writes what waits. False: something could not be written, and waits again.
    async fn write(&self, store: &dyn Store) -> bool {
        loop {
            let Some((uid, record)) = self.waiting().pop_first() else { return true };
            let written = match &record {
                Some(record) => store.remember_node(record.clone()).await,
                None => store.forget_node(uid).await,
            };
            if let Err(error) = written {
                let cause = error.source().map(ToString::to_string);
                tracing::warn!(%error, cause, node_uid = %uid, "a node could not be remembered, trying again");
                self.waiting().entry(uid).or_insert(record); // unless a newer one came meanwhile
                return false;
            }
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<NodeUid, Option<NodeRecord>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record for tests.
#[cfg(test)]
pub(crate) fn sample_record(node_id: &str, uid: u8) -> NodeRecord {
    use super::{Reason, Rejection, ResourceKind, ResourceName};
    use crate::config::Digest;

    let version = |revision| Version { generation: 1, revision, digest: Digest::new(vec![uid; 32]) };
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000);
    NodeRecord {
        identity: Identity {
            node_id: node_id.to_owned(),
            uid: NodeUid::from_bytes([uid; 16]),
            epoch: 3,
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            build_version: "0.1.0".to_owned(),
            started_at: Some(at),
            listen: "127.0.0.1:8080".to_owned(),
            admin: "127.0.0.1:9090".to_owned(),
        },
        applied: Some(version(1)),
        refused: Some(Refusal {
            version: version(2),
            rejections: vec![Rejection {
                resource: Some(ResourceName { kind: ResourceKind::Upstream, name: "weather".to_owned() }),
                reason: Reason::LocalDependency,
                field_path: "headers.Authorization".to_owned(),
                message: "no such environment variable".to_owned(),
            }],
        }),
        last_heard: at,
        away: false,
    }
}
