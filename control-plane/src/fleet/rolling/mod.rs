//! The registry and its rollout: who may have what, and what follows when a node answers. Pure, as the registry is.

use super::{
    Node, NodeProgress, NodeState, NodeUid, Outcome, Progress, Registry, RolloutState, Standing, SyncState,
    registry::pump,
    rollout::{Presence, Rollout, Seen, Step},
};
use crate::{
    clock::Now,
    config::{Revision, Version},
};
use o1_proto::model;
use std::{sync::Arc, time::SystemTime};
use tokio::time::Instant;

/// The rollout of the registry's target.
#[derive(Debug)]
pub(super) struct Rolling {
    rollout: Rollout,
    /// What nodes get whose turn has not come.
    base: Option<Arc<Revision>>,
    began: SystemTime,
    ended: Option<SystemTime>,
}

impl Registry {
    /// Nodes should run something else from now on: in waves, where there is a `base` to go back to.
    pub fn roll_out(&mut self, target: Arc<Revision>, base: Option<Arc<Revision>>, now: Now) -> Outcome {
        let mut out = Outcome { changed: true, ..Outcome::default() };
        let rollout = Rollout::new(base.is_some());
        base.iter().chain([&target]).for_each(|revision| self.recent.note(revision));
        self.rolling = Some(Rolling { rollout, base, began: now.wall, ended: None });
        self.target = Some(target);
        self.offer(now, &mut out);
        self.advance(now, &mut out);
        out
    }

    /// What this node should run at present.
    pub(super) fn target_of(&self, uid: NodeUid) -> Option<&Arc<Revision>> {
        let target = self.target.as_ref()?;
        let runs = self.nodes.get(&uid).is_some_and(|node| node.applied.as_ref() == Some(&target.version));
        match &self.rolling {
            Some(rolling) if !runs && !rolling.rollout.is_admitted(uid) => rolling.base.as_ref(),
            _ => Some(target),
        }
    }

    /// Whether it runs what it should. While its turn has not come, it runs something else rightly.
    #[must_use]
    pub fn sync(&self, node: &Node, now: Instant) -> SyncState {
        let target = self.target.as_ref().map(|target| &target.version);
        let sync = node.sync(target, now);
        let waits = self
            .rolling
            .as_ref()
            .is_some_and(|rolling| rolling.base.is_some() && !rolling.rollout.is_admitted(node.identity.uid));
        if waits && sync == SyncState::Stale { SyncState::Pending } else { sync }
    }

    /// How far the rollout of the target is; `None`: it was settled before this process began.
    #[must_use]
    pub fn progress(&self, now: Instant) -> Option<Progress> {
        let (rolling, target) = (self.rolling.as_ref()?, self.target.as_ref()?);
        let mut nodes: Vec<NodeProgress> =
            self.nodes.values().filter_map(|node| rolling.node(node, &target.version, now)).collect();
        nodes.sort_by(|a, b| (&a.node_id, a.uid).cmp(&(&b.node_id, b.uid)));
        let (wave, waves) =
            rolling.rollout.waves(nodes.iter().filter(|node| node.standing != Standing::Away).count());
        Some(Progress {
            version: target.version.clone(),
            base: rolling.base.as_ref().map(|base| base.version.clone()),
            state: rolling.state(),
            wave,
            waves,
            began: rolling.began,
            ended: rolling.ended,
            nodes,
        })
    }

    /// What some node may serve: the target, and what was before as long as it may have to come back.
    #[must_use]
    pub fn served(&self) -> Option<Arc<model::Fleet>> {
        let target = self.target.as_ref()?.fleet.clone();
        let Some(base) = self.rolling.as_ref().and_then(Rolling::unsettled_base) else { return Some(target) };
        let mut both = (*target).clone();
        let gone = base
            .fleet
            .upstreams
            .iter()
            .filter(|one| !target.upstreams.iter().any(|new| new.name == one.name));
        both.upstreams.extend(gone.cloned());
        Some(Arc::new(both))
    }

    /// A node said something. Where that changes nothing, the next tick is soon enough to look at all of them.
    pub(super) fn noticed(&mut self, uid: NodeUid, now: Now, out: &mut Outcome) {
        let (Some(rolling), Some(target)) = (&mut self.rolling, &self.target) else { return };
        let Some(node) = self.nodes.get(&uid) else { return };
        let runs = node.applied.as_ref() == Some(&target.version);
        if node.refuses(&target.version) || runs && rolling.rollout.answered(uid) {
            self.advance(now, out);
        }
    }

    /// Goes as far as what nodes said allows.
    pub(super) fn advance(&mut self, now: Now, out: &mut Outcome) {
        let (Some(rolling), Some(target)) = (&mut self.rolling, &self.target) else { return };
        if rolling.rollout.end().is_some() {
            return;
        }
        let target = target.clone();
        let mut nodes: Vec<&Node> = self.nodes.values().collect();
        // Canaries should be nodes that stay, and the same ones each time.
        nodes.sort_by_key(|node| (node.draining, &node.identity.node_id, node.identity.uid));
        let seen: Vec<Seen> = nodes.iter().map(|node| seen(node, &target.version, now.instant)).collect();
        loop {
            match rolling.rollout.step(&seen, now.instant) {
                Step::Wait => return,
                Step::Admit(uids) => {
                    out.changed = true;
                    for uid in uids {
                        if let Some(node) = self.nodes.get_mut(&uid) {
                            pump(node, Some(&target), &self.recent, now, out);
                        }
                    }
                }
                Step::End(_) => {
                    rolling.ended = Some(now.wall);
                    break;
                }
            }
        }
        out.changed = true;
        // Nodes that come from now on get what the end says.
        self.offer(now, out);
        out.ended = self.progress(now.instant);
    }

    /// Sends every node what it should run, if it does not have it.
    fn offer(&mut self, now: Now, out: &mut Outcome) {
        let uids: Vec<NodeUid> = self.nodes.keys().copied().collect();
        for uid in uids {
            let target = self.target_of(uid).cloned();
            if let Some(node) = self.nodes.get_mut(&uid) {
                pump(node, target.as_ref(), &self.recent, now, out);
            }
            self.show(uid, now, out);
        }
    }
}

impl Rolling {
    /// What the fleet served before, as long as some of it may still.
    pub(super) fn unsettled_base(&self) -> Option<&Arc<Revision>> {
        let is_settled = self.rollout.end().is_some_and(|end| !end.is_stop());
        self.base.as_ref().filter(|_| !is_settled)
    }

    fn state(&self) -> RolloutState {
        use super::rollout::End;
        match self.rollout.end() {
            None => RolloutState::Running,
            Some(End::Succeeded) => RolloutState::Succeeded,
            Some(End::Failed) => RolloutState::Failed,
            Some(End::Refused | End::Silent) => RolloutState::RollingBack,
        }
    }

    /// `None`: it has nothing to do with it.
    fn node(&self, node: &Node, version: &Version, now: Instant) -> Option<NodeProgress> {
        let uid = node.identity.uid;
        let (state, seen) = (node.state(now), seen(node, version, now));
        let gone = matches!(state, NodeState::Left | NodeState::DuplicateIdentity);
        let wave = self.rollout.wave_of(uid);
        let standing = match seen.presence {
            _ if seen.refuses => Standing::Refused,
            _ if seen.runs => Standing::Applied,
            _ if self.rollout.is_silent(uid) => Standing::Silent,
            _ if gone => return None,
            Presence::There if wave.is_some() => Standing::Sent,
            Presence::There => Standing::Waiting,
            Presence::Expected | Presence::Away => Standing::Away,
        };
        let refused = node.refused.as_ref().filter(|_| standing == Standing::Refused);
        Some(NodeProgress {
            node_id: node.identity.node_id.clone(),
            uid,
            standing,
            wave,
            rejections: refused.map(|refusal| refusal.rejections.clone()).unwrap_or_default(),
        })
    }
}

fn seen(node: &Node, version: &Version, now: Instant) -> Seen {
    let presence = match node.state(now) {
        NodeState::Connected | NodeState::Draining if node.session.is_some() => Presence::There,
        NodeState::Connected | NodeState::Draining => Presence::Expected,
        NodeState::Unreachable if node.is_awaited(now) => Presence::Expected,
        NodeState::Unreachable | NodeState::Left | NodeState::DuplicateIdentity => Presence::Away,
    };
    Seen {
        uid: node.identity.uid,
        presence,
        runs: node.applied.as_ref() == Some(version),
        refuses: node.refuses(version),
    }
}

#[cfg(test)]
mod tests;
