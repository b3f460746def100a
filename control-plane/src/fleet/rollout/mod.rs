//! How a configuration reaches the nodes: one, then a tenth of them, then all; each wave when the one before runs it.
//! Pure: it is shown the nodes and the time, and says who may have it next.
//!
//! A refusal stops it. Nodes that are away are not waited for, beyond the time in which they may be on their way back;
//! a node that falls silent with it is replaced by another, unless more fall silent than run it.

use super::{ANSWER, NodeUid};
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

/// How long the answer of a node is waited for.
const PATIENCE: std::time::Duration = ANSWER;
/// Fewer silent nodes are an accident.
const MIN_SILENT: usize = 3;
/// The number of the wave that is everybody.
const LAST: u32 = 3;

/// One node, as far as a rollout cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub uid: NodeUid,
    /// Whether it can be asked.
    pub presence: Presence,
    /// It says that it runs the configuration.
    pub runs: bool,
    /// It says that it refuses the configuration.
    pub refuses: bool,
}

/// Whether a node can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has a stream.
    There,
    /// It had one a moment ago.
    Expected,
    /// It is not waited for.
    Away,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing, before something happens.
    Wait,
    /// These may have it too. Never empty.
    Admit(Vec<NodeUid>),
    /// It is over.
    End(End),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every node that was there runs it.
    Succeeded,
    /// Everybody was asked at once, and some refused.
    Failed,
    /// A node refused it: nobody else may have it, and who has it should get what was before.
    Refused,
    /// More nodes fell silent with it than run it: the same follows.
    Silent,
}

impl End {
    /// Whether nodes should get what was before.
    #[must_use]
    pub fn is_stop(self) -> bool {
        matches!(self, Self::Refused | Self::Silent)
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Rollout {
    in_waves: bool,
    /// From 1; 0: not begun.
    wave: u32,
    /// Whoever is there or comes may have it.
    everyone: bool,
    admitted: BTreeMap<NodeUid, u32>,
    /// Admitted nodes whose answer is waited for, and until when.
    waiting: BTreeMap<NodeUid, Instant>,
    /// Admitted nodes whose answer did not come in time.
    silent: BTreeSet<NodeUid>,
    end: Option<End>,
}

impl Rollout {
    /// In waves, or to everybody at once. The latter is never stopped: there is nothing to go back to.
    #[must_use]
    pub fn new(in_waves: bool) -> Self {
        Self {
            in_waves,
            wave: u32::from(!in_waves),
            everyone: !in_waves,
            admitted: BTreeMap::new(),
            waiting: BTreeMap::new(),
            silent: BTreeSet::new(),
            end: None,
        }
    }

    /// How it ended; `None`: it did not.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// The number of the present wave, and of all of them for so many nodes.
    #[must_use]
    pub fn waves(&self, nodes: usize) -> (u32, u32) {
        let all = if self.in_waves { u32::try_from(nodes).unwrap_or(LAST).clamp(1, LAST) } else { 1 };
        (self.wave.min(all), all.max(self.wave.min(LAST)))
    }

    /// Whether this node may have it.
    #[must_use]
    pub fn is_admitted(&self, uid: NodeUid) -> bool {
        match self.end {
            Some(end) if end.is_stop() => self.admitted.contains_key(&uid),
            Some(_) => true,
            None => self.everyone || self.admitted.contains_key(&uid),
        }
    }

    /// Whether its answer did not come in time.
    #[must_use]
    pub fn is_silent(&self, uid: NodeUid) -> bool {
        self.silent.contains(&uid)
    }

    /// The wave in which it was told; `None`: it was not.
    #[must_use]
    pub fn wave_of(&self, uid: NodeUid) -> Option<u32> {
        self.admitted.get(&uid).copied()
    }

    /// A node says that it runs it. False: others are waited for, and nothing follows.
    pub fn answered(&mut self, uid: NodeUid) -> bool {
        self.waiting.remove(&uid);
        self.waiting.is_empty()
    }

    /// What to do now. To be asked again until it says to wait, or that it is over. `nodes` stand in the order in which
    /// they should be told.
    pub fn step(&mut self, nodes: &[Seen], now: Instant) -> Step {
        if self.end.is_some() {
            return Step::Wait;
        }
        if self.in_waves && nodes.iter().any(|node| node.refuses) {
            return self.finish(End::Refused);
        }
        self.listen(nodes, now);
        let running = count(nodes, |node| node.runs);
        if self.in_waves && self.silent.len() >= MIN_SILENT && self.silent.len() > running {
            return self.finish(End::Silent);
        }
        if !self.waiting.is_empty() && !self.everyone {
            return Step::Wait;
        }
        let is_expected = nodes.iter().any(|node| node.presence == Presence::Expected && !node.runs);
        if !self.everyone {
            let all = count(nodes, |node| node.presence != Presence::Away);
            let there = count(nodes, |node| node.presence == Presence::There && node.runs);
            if all > 0 {
                self.wave = self.wave.max(1);
            }
            while self.wave < LAST && self.wave > 0 && there >= goal(self.wave, all) {
                self.wave += 1;
            }
            let goal = goal(self.wave, all);
            if goal < all {
                let fresh = self.fresh(nodes, goal.saturating_sub(there));
                match (fresh.is_empty(), is_expected) {
                    (false, _) => return self.admit(fresh, now),
                    (true, true) => return Step::Wait,
                    (true, false) => {}
                }
            } else if count(nodes, |node| node.presence == Presence::There) == 0 && is_expected {
                return Step::Wait;
            }
            // Nobody is left out by now, or by this.
            self.everyone = true;
        }
        let fresh = self.fresh(nodes, usize::MAX);
        if !fresh.is_empty() {
            return self.admit(fresh, now);
        }
        if is_expected || !self.waiting.is_empty() {
            return Step::Wait;
        }
        let refused = nodes.iter().any(|node| node.refuses);
        self.finish(if refused { End::Failed } else { End::Succeeded })
    }

    /// Notes who answered, and who did not in time.
    fn listen(&mut self, nodes: &[Seen], now: Instant) {
        let answered: BTreeSet<NodeUid> =
            nodes.iter().filter(|node| node.runs || node.refuses).map(|node| node.uid).collect();
        self.waiting.retain(|uid, _| !answered.contains(uid));
        self.silent.retain(|uid| !answered.contains(uid));
        let silent = &mut self.silent;
        self.waiting.retain(|uid, until| {
            let waits = now < *until;
            if !waits {
                silent.insert(*uid);
            }
            waits
        });
    }

    /// The first so many nodes that could be told.
    fn fresh(&self, nodes: &[Seen], most: usize) -> Vec<NodeUid> {
        let is_fresh = |node: &&Seen| {
            node.presence == Presence::There
                && !node.runs
                && !node.refuses
                && !self.admitted.contains_key(&node.uid)
        };
        nodes.iter().filter(is_fresh).take(most).map(|node| node.uid).collect()
    }

    fn admit(&mut self, uids: Vec<NodeUid>, now: Instant) -> Step {
        for uid in &uids {
            self.admitted.insert(*uid, self.wave);
            self.waiting.insert(*uid, now + PATIENCE);
        }
        Step::Admit(uids)
    }

    fn finish(&mut self, end: End) -> Step {
        self.end = Some(end);
        self.waiting.clear();
        Step::End(end)
    }
}

/// How many of `all` nodes run it at the end of a wave.
fn goal(wave: u32, all: usize) -> usize {
    match wave {
        0 | 1 => 1,
        2 => all.div_ceil(10).max(2),
        _ => all,
    }
}

fn count(nodes: &[Seen], is_counted: impl Fn(&Seen) -> bool) -> usize {
    nodes.iter().filter(|node| is_counted(node)).count()
}

#[cfg(test)]
mod tests;
