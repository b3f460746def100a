//! From an update on the wire to a running configuration: verified, decoded, applied, kept, or refused with
//! every reason. Nothing is applied in part.
//!
//! Order: the node compiles and swaps, then the disk, then the acknowledgement. A crash between the first two
//! starts the node on the version before, which the control plane corrects at the next Hello. If the disk
//! refuses, the version runs and is acknowledged as running, because that is true and the sync state is derived
//! from it; an error is logged and [`Applied::durable`] is false until the next version is kept.

use super::{
    Node, ack,
    last_good::{APPLIED, LastGood},
    link::{Applied, LinkStatus, RefusedVersion},
};
use o1_proto::{
    convert, digest,
    model::Fleet,
    wire::{
        ConfigUpdate, ConfigVersion, Hello, NodeIdentity, Rejection, RejectionReason, Resource, ResourceKey,
    },
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, time::Instant};

/// In one log line; `/status` has them all.
const LOGGED_PROBLEMS: usize = 10;

/// What became of an update.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    /// It runs, now or already.
    Runs { version: ConfigVersion, took: Duration },
    /// Nothing has changed.
    Refused(Refusal),
}

/// A version that this node does not run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub version: ConfigVersion,
    /// What ran instead.
    pub running: Option<ConfigVersion>,
    /// At least one.
    pub rejections: Vec<Rejection>,
}

/// Applies updates, one at a time, and knows what runs. Outlives connections.
pub(super) struct Applier {
    node: Arc<dyn Node>,
    files: LastGood,
    link: watch::Sender<LinkStatus>,
    held: Mutex<Held>,
    /// Held while an update is being applied.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Held {
    applied: Option<ConfigVersion>,
    /// What `applied` consists of, for updates that say what differs from it.
    resources: Arc<[Resource]>,
    /// Since `applied` began to run.
    refused: Option<Refusal>,
}

impl Applier {
    pub fn new(node: Arc<dyn Node>, files: LastGood, link: watch::Sender<LinkStatus>) -> Self {
        Self { node, files, link, held: Mutex::default(), turn: Arc::default() }
    }

    /// Gives the node the newest configuration on disk that it can run. Blocks.
    pub fn cold_start(&self) {
        if !APPLIED.iter().any(|file| self.cold_start_from(file)) {
            tracing::info!("no configuration on disk: waiting for the control plane");
            return;
        }
        // It was refused beside what runs now, and neither a restart nor a new build can have cured it.
        if let Some(refusal) = self.files.refusal()
            && refusal.running == self.applied()
            && !refusal.rejections.iter().all(ack::passing)
        {
            tracing::info!(revision = refusal.version.revision, "this configuration stays refused");
            self.remember(refusal);
        }
    }

    fn cold_start_from(&self, file: &str) -> bool {
        let update = match self.files.applied(file) {
            Ok(Some(update)) => update,
            Ok(None) => return false,
            Err(problem) => {
                tracing::warn!(file, problem, "a configuration on disk cannot be used");
                return false;
            }
        };
        let applied = verify(&update).and_then(|(version, fleet)| {
            self.apply(&version, fleet)?;
            Ok(version)
        });
        match applied {
            Ok(version) => {
                tracing::info!(
                    file,
                    generation = version.generation,
                    revision = version.revision,
                    "serving the configuration that was applied last"
                );
                self.runs(version, update.resources, true);
                true
            }
            Err(rejections) => {
                let problems = summary(&rejections);
                tracing::warn!(file, problems, "a configuration on disk can no longer be applied");
                false
            }
        }
    }

    /// What to introduce this node with.
    pub fn hello(&self, node: NodeIdentity) -> Hello {
        let held = self.held();
        let refused = held.refused.clone();
        Hello {
            node: Some(node),
            applied: held.applied.clone(),
            rejected: refused.as_ref().map(|refusal| refusal.version.clone()),
            rejections: refused.map(|refusal| refusal.rejections).unwrap_or_default(),
        }
    }

    /// What runs now.
    pub fn applied(&self) -> Option<ConfigVersion> {
        self.held().applied.clone()
    }

    /// Applies an update as soon as no other is being applied, off the caller's thread. Dropping the future
    /// gives up the turn, or, once begun, only the news of the outcome.
    pub async fn take(self: Arc<Self>, update: ConfigUpdate) -> Outcome {
        let turn = self.turn.clone().lock_owned().await;
        let version = update.to.clone().unwrap_or_default();
        let (this, running) = (self.clone(), self.applied());
        let taken = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            this.take_now(update)
        });
        taken.await.unwrap_or_else(|error| {
            tracing::error!(%error, revision = version.revision, "applying a configuration failed");
            let what = format!("the node failed while it applied the configuration: {error}");
            let refusal =
                Refusal { version, running, rejections: vec![ack::whole(RejectionReason::Internal, what)] };
            self.refused(refusal.clone());
            Outcome::Refused(refusal)
        })
    }

    fn take_now(&self, update: ConfigUpdate) -> Outcome {
        let started = Instant::now();
        let (running, resources) = {
            let held = self.held();
            (held.applied.clone(), held.resources.clone())
        };
        let to = update.to.clone().unwrap_or_default();
        if running.as_ref() == Some(&to) {
            return Outcome::Runs { version: to, took: started.elapsed() };
        }
        let applied = newer(running.as_ref(), &to)
            .and_then(|()| whole(update, running.as_ref(), &resources))
            .and_then(|update| verify(&update).map(|(version, fleet)| (update, version, fleet)))
            .and_then(|(update, version, fleet)| self.apply(&version, fleet).map(|()| update));
        let update = match applied {
            Ok(update) => update,
            Err(rejections) => return self.refuse(Refusal { version: to, running, rejections }),
        };
        let kept = self.files.keep(&update);
        let took = started.elapsed();
        tracing::info!(generation = to.generation, revision = to.revision, ?took, "applied a configuration");
        if let Err(error) = &kept {
            tracing::error!(
                %error,
                revision = to.revision,
                "the running configuration is not on disk: a restart would serve an older one"
            );
        }
        self.runs(to.clone(), update.resources, kept.is_ok());
        Outcome::Runs { version: to, took }
    }

    fn refuse(&self, refusal: Refusal) -> Outcome {
        if refusal.rejections.iter().any(|one| one.reason() == RejectionReason::BaseMismatch) {
            // Nothing is wrong with the version: the whole of it comes next.
            let (revision, problems) = (refusal.version.revision, summary(&refusal.rejections));
            tracing::warn!(revision, problems, "an update does not fit what runs");
        } else {
            if let Err(error) = self.files.keep_refusal(&refusal) {
                tracing::warn!(%error, "a refusal is not on disk: after a restart it is asked again");
            }
            self.refused(refusal.clone());
        }
        Outcome::Refused(refusal)
    }

    fn apply(&self, version: &ConfigVersion, fleet: Fleet) -> Result<(), Vec<Rejection>> {
        self.node
            .apply(ack::version(version), fleet)
            .map_err(|problems| problems.into_iter().map(ack::rejection).collect())
    }

    fn runs(&self, version: ConfigVersion, resources: Vec<Resource>, durable: bool) {
        let applied = Applied { version: ack::version(&version), since: SystemTime::now(), durable };
        *self.held() = Held { applied: Some(version), resources: resources.into(), refused: None };
        self.link.send_modify(|status| (status.applied, status.refused) = (Some(applied), None));
    }

    /// A version was refused just now.
    fn refused(&self, refusal: Refusal) {
        tracing::warn!(
            generation = refusal.version.generation,
            revision = refusal.version.revision,
            count = refusal.rejections.len(),
            problems = summary(&refusal.rejections),
            "refused a configuration"
        );
        self.remember(refusal);
    }

    fn remember(&self, refusal: Refusal) {
        let refused = RefusedVersion {
            version: ack::version(&refusal.version),
            reasons: refusal.rejections.iter().map(ack::describe).collect(),
        };
        self.held().refused = Some(refusal);
        self.link.send_modify(|status| status.refused = Some(refused));
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `to` may follow `running`. The same version with another digest may not: one name, one content.
fn newer(running: Option<&ConfigVersion>, to: &ConfigVersion) -> Result<(), Vec<Rejection>> {
    let order = |version: &ConfigVersion| (version.generation, version.revision);
    match running {
        Some(running) if order(to) == order(running) => {
            let what = format!("revision {} runs already, with other content", to.revision);
            Err(vec![ack::whole(RejectionReason::VersionRegression, what)])
        }
        Some(running) if order(to) < order(running) => {
            let what = format!(
                "revision {} of generation {} is older than what runs, revision {} of generation {}",
                to.revision, to.generation, running.revision, running.generation
            );
            Err(vec![ack::whole(RejectionReason::VersionRegression, what)])
        }
        Some(_) | None => Ok(()),
    }
}

/// The update with everything that its version consists of: what it says differs from what runs is worked in. Pure.
fn whole(
    update: ConfigUpdate,
    running: Option<&ConfigVersion>,
    resources: &[Resource],
) -> Result<ConfigUpdate, Vec<Rejection>> {
    let ConfigUpdate { nonce, to, resources: changed, base: Some(base), removed } = update else {
        return Ok(update);
    };
    let misfit = |what: String| vec![ack::whole(RejectionReason::BaseMismatch, what)];
    if running != Some(&base) {
        let what =
            format!("the update says what differs from revision {}, which does not run", base.revision);
        return Err(misfit(what));
    }
    let mut all: BTreeMap<_, _> = resources.iter().map(|one| (name(one.key.as_ref()), one.clone())).collect();
    for key in &removed {
        if all.remove(&name(Some(key))).is_none() {
            return Err(misfit(format!("the update removes `{}`, which is not there", key.name)));
        }
    }
    all.extend(changed.into_iter().map(|one| (name(one.key.as_ref()), one)));
    let resources: Vec<_> = all.into_values().collect();
    if to.as_ref().is_some_and(|to| digest::root(&resources) != to.root_digest) {
        return Err(misfit(
            "what differs and what runs are not together what the version's digest names".into(),
        ));
    }
    Ok(ConfigUpdate { nonce, to, resources, base: None, removed: Vec::new() })
}

fn name(key: Option<&ResourceKey>) -> (i32, String) {
    key.map_or_else(Default::default, |key| (key.kind, key.name.clone()))
}

/// The version and the content of an update, or everything that is wrong with it. Pure.
fn verify(update: &ConfigUpdate) -> Result<(ConfigVersion, Fleet), Vec<Rejection>> {
    let mut rejections = Vec::new();
    match &update.to {
        None => {
            let what = "the update does not say which version it is";
            rejections.push(ack::whole(RejectionReason::Decode, what));
        }
        Some(to) if digest::root(&update.resources) != to.root_digest => {
            let what = "the resources are not the ones that the version's digest names";
            rejections.push(ack::whole(RejectionReason::DigestMismatch, what));
        }
        Some(_) => {}
    }
    match (convert::decode(&update.resources), &update.to) {
        (Ok(fleet), Some(to)) if rejections.is_empty() => Ok((to.clone(), fleet)),
        (Ok(_), _) => Err(rejections),
        (Err(more), _) => {
            rejections.extend(more);
            Err(rejections)
        }
    }
}

fn summary(rejections: &[Rejection]) -> String {
    let mut text = rejections.iter().take(LOGGED_PROBLEMS).map(ack::describe).collect::<Vec<_>>().join("; ");
    if rejections.len() > LOGGED_PROBLEMS {
        text.push_str(&format!("; and {} more", rejections.len() - LOGGED_PROBLEMS));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use o1_proto::wire::{Resource, ResourceKey, ResourceKind};

    fn version(generation: u64, revision: u64, digest: u8) -> ConfigVersion {
        ConfigVersion { generation, revision, root_digest: vec![digest] }
    }

    #[test]
    fn only_a_later_version_may_follow() {
        let running = version(2, 5, 0);
        for to in [version(2, 6, 0), version(3, 1, 0)] {
            assert_eq!(newer(Some(&running), &to), Ok(()), "{to:?}");
        }
        for to in [version(2, 5, 9), version(2, 4, 0), version(1, 99, 0)] {
            let rejections = newer(Some(&running), &to).unwrap_err();
            assert_eq!(rejections[0].reason(), RejectionReason::VersionRegression, "{to:?}");
        }
        assert_eq!(newer(None, &version(0, 0, 0)), Ok(()));
    }

    #[test]
    fn everything_that_is_wrong_with_an_update_is_said_at_once() {
        let resource = |kind: i32, name: &str, payload: &'static [u8]| Resource {
            key: Some(ResourceKey { kind, name: name.into() }),
            digest: digest::payload(payload),
            payload: payload.into(),
        };
        let update = ConfigUpdate {
            nonce: 1,
            to: Some(version(1, 1, 0)),
            base: None,
            removed: Vec::new(),
            resources: vec![
                resource(ResourceKind::Upstream.into(), "broken", b"\xff"),
                resource(99, "unknown", b""),
            ],
        };
        let reasons: Vec<_> = verify(&update).unwrap_err().iter().map(Rejection::reason).collect();
        let expected =
            [RejectionReason::DigestMismatch, RejectionReason::Decode, RejectionReason::UnknownKind];
        assert_eq!(reasons, expected);
        let nameless = ConfigUpdate { to: None, ..ConfigUpdate::default() };
        assert_eq!(verify(&nameless).unwrap_err()[0].reason(), RejectionReason::Decode);
    }

    #[test]
    fn a_long_list_of_problems_is_cut_in_the_log() {
        let many = vec![ack::whole(RejectionReason::Conflict, "no"); LOGGED_PROBLEMS + 3];
        assert!(summary(&many).ends_with("no; and 3 more"), "{}", summary(&many));
        assert_eq!(summary(&many[..2]), "no; no");
    }
}
