//! The configurations that nodes may still run, so that a node can be sent what differs from its own. Pure.

use crate::config::{Revision, Version};
use std::{collections::VecDeque, sync::Arc};

/// How many are kept. A node that runs an older one is sent a whole configuration.
const KEPT: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<Arc<Revision>>);

impl Recent {
    /// Nodes are going to run this.
    pub fn note(&mut self, revision: &Arc<Revision>) {
        if self.of(&revision.version).is_some() {
            return;
        }
        self.0.truncate(KEPT - 1);
        self.0.push_front(revision.clone());
    }

    /// The configuration of this name, generation, revision and digest.
    pub fn of(&self, version: &Version) -> Option<&Arc<Revision>> {
        self.0.iter().find(|revision| revision.version == *version)
    }
}
