//! Which store of an upstream serves at this moment, and how the stores are: what the failover path decides and the
//! data path obeys. A leaf: both meet here and nowhere else.
//!
//! [`Gate`] is one upstream's: calls come in by [`Gate::admit`], the failover path moves them by [`Gate::set`] and
//! waits until those that went elsewhere are gone. [`Health`] is what probes and breakers say of one store.
//!
//! It must never decide where calls should go: it counts them, holds them back and tells them.

mod gate;
mod health;

pub use gate::{Admitted, Barrier, Gate, Intent, Standing};
pub use health::Health;

use crate::plan::Plan;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

/// The gates of every upstream, by name. They outlive plans: where an upstream stands does not change because its
/// timeouts do.
#[derive(Debug, Default)]
pub struct Stores(RwLock<HashMap<String, Arc<Gate>>>);

impl Stores {
    /// The gate of this upstream; a new one stands at the primary.
    #[must_use]
    pub fn gate(&self, upstream: &str) -> Arc<Gate> {
        if let Some(gate) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(upstream) {
            return gate.clone();
        }
        let mut gates = self.0.write().unwrap_or_else(PoisonError::into_inner);
        gates.entry(upstream.to_owned()).or_insert_with(|| Arc::new(Gate::new(upstream))).clone()
    }

    /// Forgets upstreams that the plan does not name.
    pub fn retain(&self, plan: &Plan) {
        let mut gates = self.0.write().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|name, _| plan.upstream(name).is_some());
    }
}
