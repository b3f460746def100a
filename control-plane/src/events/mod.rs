//! What happened, on every node and here: the log of events, how it is read, and the accounts that it gives.
//!
//! [`Log`] writes to the store and reads from it; nothing of it is kept in memory, so that readers and writers of any
//! speed cost none. An event counts once it is on the disk, never before, and is never changed after that.

mod log;
mod record;

pub use log::{Log, PRUNE_STEP};
pub use record::{
    Append, Appended, Cursor, EventFilter, EventPage, EventQuery, Kept, NewEvent, Order, StoredEvent, Writer,
};

use crate::{
    fleet::NodeUid,
    store::{Store, StoreError},
};
use o1_proto::model::FailoverStats;

/// The account of one upstream on one node: every event of it that was ever stored, also those that are pruned by now.
/// Equal to the node's own as soon as the node's events are here.
///
/// # Errors
/// The store cannot be asked.
pub async fn stats(store: &dyn Store, node: NodeUid, upstream: &str) -> Result<FailoverStats, StoreError> {
    store.event_account(node, upstream.to_owned()).await
}
