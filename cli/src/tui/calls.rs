//! The calls that nodes told of, put together over many questions.

use super::state::NOTES;
use crate::inspect::{Call, NodeCalls};
use std::collections::{BTreeMap, HashSet};

/// Calls that are kept.
pub(crate) const CALLS: usize = 500;
/// The fewest that each node is asked for.
const EACH: usize = 20;

/// How many calls each of so many nodes is asked for. None: nobody knows yet how many there are.
pub(crate) fn of_each(nodes: usize) -> u32 {
    let each = CALLS.checked_div(nodes).map_or(EACH, |each| each.max(EACH));
    u32::try_from(each).unwrap_or(u32::MAX)
}

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
        // Most of them were told before. Not by their time: a call that took long is told after younger ones.
        let known: HashSet<&Call> = self.calls.iter().collect();
        let mut news = Vec::new();
        for NodeCalls { node_id, said } in told {
            match said {
                Ok(node) => {
                    self.seen += node.seen;
                    self.kept += node.kept;
                    news.extend(node.calls.into_iter().filter(|call| !known.contains(call)));
                }
                Err(why) if self.notes.len() < NOTES => drop(self.notes.insert(node_id, why)),
                Err(_) => {}
            }
        }
        self.calls.extend(news);
        self.calls.sort_by_key(|call| call.at);
        let gone = self.calls.len().saturating_sub(CALLS);
        self.calls.drain(..gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::{CallOutcome, CallsSeen};
    use jiff::Timestamp;

    fn told(node: &str, seconds: impl Iterator<Item = i64>) -> NodeCalls {
        let call = |second| Call {
            at: Timestamp::from_second(second).ok(),
            node_id: node.into(),
            upstream: "files".into(),
            method: "tools/call".into(),
            name: String::new(),
            outcome: CallOutcome::Ok,
            took: None,
            store: None,
        };
        let said = CallsSeen { calls: seconds.map(call).collect(), seen: 1, kept: 1 };
        NodeCalls { node_id: node.into(), said: Ok(said) }
    }

    fn seconds(calls: &Calls) -> Vec<i64> {
        calls.calls.iter().filter_map(|call| Some(call.at?.as_second())).collect()
    }

    #[test]
    fn a_call_that_took_long_is_told_after_younger_ones_and_once() {
        let mut calls = Calls::default();
        calls.take(vec![told("n1", [5, 7].into_iter())]);
        calls.take(vec![told("n1", [1, 5, 7].into_iter()), told("n2", [5].into_iter())]);
        calls.take(vec![told("n1", [1, 5, 7].into_iter()), told("n2", [5].into_iter())]);
        assert_eq!(seconds(&calls), [1, 5, 5, 7]);
    }

    #[test]
    fn the_newest_are_kept_of_all_nodes() {
        let mut calls = Calls::default();
        let all = || (0..50).map(|node| told(&format!("n{node}"), 0..20)).collect();
        calls.take(all());
        calls.take(all());
        assert_eq!(calls.calls.len(), CALLS);
        assert_eq!(seconds(&calls).iter().min(), Some(&10), "of a thousand, the younger half");
    }

    #[test]
    fn the_more_nodes_the_fewer_calls_of_each() {
        assert_eq!([0, 1, 2, 25, 26, 1000].map(of_each), [20, 500, 250, 20, 20, 20]);
    }
}
