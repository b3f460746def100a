//! The calls that nodes told of, put together over many questions.

use super::state::NOTES;
use crate::inspect::{Call, NodeCalls};
use std::collections::BTreeMap;

/// Calls that are kept.
pub(crate) const CALLS: usize = 500;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls {
    /// By time, oldest first.
    pub calls: Vec<Call>,
    /// Somebody answered.
    pub heard: bool,
    /// Calls that connected nodes saw since they began, and how many of them they wrote down.
    pub seen: u64,
    pub kept: u64,
    /// By node, why it does not tell.
    pub notes: BTreeMap<String, String>,
    /// Why nobody does.
    pub why: Option<String>,
}

impl Calls {
    /// What every node tells now.
    pub fn take(&mut self, told: Vec<NodeCalls>) {
        (self.heard, self.seen, self.kept, self.why) = (true, 0, 0, None);
        self.notes.clear();
        for NodeCalls { node_id, said } in told {
            match said {
                Ok(node) => {
                    self.seen += node.seen;
                    self.kept += node.kept;
                    // Most of them were told before.
                    let news: Vec<_> =
                        node.calls.into_iter().filter(|call| !self.calls.contains(call)).collect();
                    self.calls.extend(news);
                }
                Err(why) if self.notes.len() < NOTES => drop(self.notes.insert(node_id, why)),
                Err(_) => {}
            }
        }
        self.calls.sort_by_key(|call| call.at);
        let gone = self.calls.len().saturating_sub(CALLS);
        self.calls.drain(..gone);
    }
}
