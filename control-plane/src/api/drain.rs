//! The order that a node takes no new client sessions: on disk first, then to the node.

use super::{encode, errors};
use crate::{
    clock::Now,
    fleet::{AskError, Drain, Hub},
    store::Store,
};
use o1_proto::wire::{SetNodeDrainRequest, SetNodeDrainResponse};
use std::sync::Arc;
use tokio::sync::Mutex;
use tonic::{Response, Status};

/// Where orders to drain are kept.
pub(super) struct Drains {
    store: Arc<dyn Store>,
    /// One order at a time, so that the disk and the fleet have them in the same order.
    turn: Mutex<()>,
}

impl Drains {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, turn: Mutex::new(()) }
    }

    pub(super) async fn set(
        self: Arc<Self>,
        hub: Arc<Hub>,
        asked: SetNodeDrainRequest,
        actor: String,
    ) -> Result<Response<SetNodeDrainResponse>, Status> {
        let SetNodeDrainRequest { node_id, drain, reason } = asked;
        // Each turn is as short as the store's own limit.
        let _turn = self.turn.lock().await;
        let stands = hub.look(|registry, _| registry.drain(&node_id).cloned());
        let known = hub.node_ids();
        // An order of a node that is forgotten can still be taken back.
        if stands.is_none() && !known.contains(&node_id) {
            return Err(errors::ask(&AskError::NoNode(known), &node_id));
        }
        if stands.is_some() == drain {
            let drain = stands.as_ref().map(encode::drain);
            return Ok(Response::new(SetNodeDrainResponse { no_op: true, drain }));
        }
        let order = drain.then(|| Drain { since: Now::read().wall, reason: reason.clone() });
        let kept = self.store.keep_drain(node_id.clone(), order.clone()).await;
        kept.map_err(|error| errors::store(&error))?;
        let answer = SetNodeDrainResponse { no_op: false, drain: order.as_ref().map(encode::drain) };
        hub.set_drain(&node_id, order);
        tracing::warn!(actor, node_id, drain, reason, "somebody ordered a node to drain, or to end that");
        Ok(Response::new(answer))
    }
}
