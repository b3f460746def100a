//! What should run, the store and what is published, kept in step: judge, store, publish. In that order.
//!
//! One source owns the configuration: the file, where there is one ([`file`]), else whoever calls the API
//! ([`ordered`]). Both end here, and so do rollouts: what was stopped is taken back by a revision of its own.

mod file;
mod ordered;
#[cfg(test)]
mod tests;

use super::{
    Desk, Revision, Way,
    change::Asked,
    compile::{Compiled, compile},
};
use crate::{
    clock::Now,
    fleet::{Progress, RolloutReport, RolloutState},
    store::{Account, NewRevision, Store, StoreError, StoredRevision},
};
use blake3::Hash;
use file::File;
use o1_proto::problem::Problem;
use std::{error::Error as _, path::PathBuf, sync::Arc, time::Duration, time::SystemTime};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// Before what could not be taken back is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// What runs before anybody has said what should.
const EMPTY: &[u8] = b"# Nothing is configured yet: o1ctl config apply FILE\nupstreams: {}\n";

/// What nodes should run, and what the file has to say about it.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// What nodes should run; `None`: nothing was ever accepted.
    pub running: Option<Arc<Revision>>,
    /// How they get it.
    pub way: Way,
    /// What it takes back; `None`: nothing.
    pub undone: Option<Undone>,
    /// The file.
    pub source: SourceStatus,
}

/// A revision whose rollout was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// Which.
    pub revision: u64,
    /// Why.
    pub because: String,
}

/// Whether the newest content of the file is what runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// The file, as given; empty: there is none, and the API says what runs.
    pub path: String,
    /// When it was last looked at.
    pub checked_at: Option<SystemTime>,
    /// Since when it is not what runs; `None`: it is.
    pub refused_at: Option<SystemTime>,
    /// Why it is not.
    pub problems: Vec<Problem>,
}

/// What the source hears from the fleet.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Of the next revision, at least.
    pub generation_floor: watch::Receiver<u64>,
    /// The rollout that ended last.
    pub ended: watch::Receiver<Option<Progress>>,
}

/// See the module.
pub struct Source {
    /// The owner; `None`: the API is.
    file: Option<File>,
    store: Arc<dyn Store>,
    running: Option<Arc<Running>>,
    /// The last one that the fleet took, and can be given again.
    settled: Option<Arc<Running>>,
    /// A rollout that was stopped and is still to be taken back.
    undo: Option<RolloutReport>,
    generation: u64,
    published: watch::Sender<Published>,
    heard: Heard,
    desk: Desk,
    asked: mpsc::Receiver<Asked>,
}

/// The revision that nodes should run, and the document it came from.
struct Running {
    revision: Arc<Revision>,
    content: Vec<u8>,
    hash: Hash,
}

/// A revision that is about to be stored.
struct Acceptance {
    compiled: Compiled,
    content: Vec<u8>,
    source: String,
    account: Account,
    kind: Kind,
    request: Option<(String, Vec<u8>)>,
}

/// How a revision relates to what the fleet took last.
enum Kind {
    /// It is something new: in waves, and back if a node refuses it.
    New,
    /// It is what the fleet took, once more: at once.
    Again,
    /// The same, instead of the running one, whose rollout was stopped.
    Undo(RolloutReport),
}

/// What the source wakes up for.
enum Cause {
    Look,
    Outgrown,
    Ended,
    Retry,
    Asked(Asked),
}

impl Source {
    /// Takes up the latest stored revision, then looks at the file, if there is one, for the first time.
    ///
    /// # Errors
    /// The store cannot be read; or there is no file and it cannot be written.
    pub async fn open(
        path: Option<PathBuf>,
        store: Arc<dyn Store>,
        heard: Heard,
    ) -> Result<Self, StoreError> {
        let latest = store.latest().await?;
        let shown = path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let status = SourceStatus { path: shown, ..SourceStatus::default() };
        let published = watch::Sender::new(Published { source: status, ..Published::default() });
        let (desk, asked) = Desk::open();
        let mut source = Self {
            file: path.map(File::new),
            store,
            running: None,
            settled: None,
            undo: None,
            generation: 1,
            published,
            heard,
            desk,
            asked,
        };
        match latest {
            Some(stored) => source.resume(stored).await?,
            None if source.file.is_none() => source.begin().await?,
            None => {}
        }
        source.look().await;
        Ok(source)
    }

    /// What nodes should run, and how the file is, from now on.
    #[must_use]
    pub fn published(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// Where changes are asked for.
    #[must_use]
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// Follows the file, the callers and the rollouts until the process stops.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let cause = tokio::select! {
                () = wait(self.file.as_mut()) => Cause::Look,
                Ok(()) = self.heard.generation_floor.changed() => Cause::Outgrown,
                Ok(()) = self.heard.ended.changed() => Cause::Ended,
                Some(asked) = self.asked.recv() => Cause::Asked(asked),
                () = sleep(RETRY), if self.undo.is_some() => Cause::Retry,
                () = stop.cancelled() => return,
            };
            tokio::select! {
                () = self.follow(cause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn follow(&mut self, cause: Cause) {
        match cause {
            Cause::Look => self.look().await,
            Cause::Outgrown => self.outgrow().await,
            Cause::Ended => self.ended().await,
            Cause::Retry => self.take_back().await,
            Cause::Asked((change, reply)) => {
                // Who no longer waits learns from the history what came of it.
                let _ = reply.send(self.change(change).await);
            }
        }
    }

    /// Stores a revision and, once that is done, publishes it.
    async fn accept(&mut self, new: Acceptance, now: SystemTime) -> Result<(), StoreError> {
        let Acceptance { compiled, content, source, account, kind, request } = new;
        self.generation = self.generation.max(*self.heard.generation_floor.borrow());
        let base = match kind {
            Kind::New => self.settled.clone(),
            Kind::Again | Kind::Undo(_) => None,
        };
        let is_settled = !matches!(kind, Kind::New);
        let undone = self.running.as_ref().map(|running| running.revision.version.revision);
        let undoes = match kind {
            Kind::Undo(report) => undone.map(|revision| (revision, report)),
            Kind::New | Kind::Again => None,
        };
        let new = NewRevision {
            generation: self.generation,
            digest: compiled.digest,
            content: content.clone(),
            source,
            account,
            base: base.as_ref().map(|base| base.revision.version.revision),
            created_at: now,
            undoes,
            request,
        };
        let header = self.store.append_revision(new).await?;
        tracing::info!(
            version = %header.version, source = header.source, actor = header.account.actor,
            comment = header.account.comment, upstreams = compiled.fleet.upstreams.len(), "configuration accepted"
        );
        for warning in compiled.warnings {
            tracing::warn!(%warning, "the accepted configuration has a warning");
        }
        let revision = Revision {
            version: header.version,
            fleet: compiled.fleet,
            accepted_at: header.created_at,
            source: header.source,
        };
        let way = base.map_or(Way::AtOnce, |base| Way::Waves(base.revision.clone()));
        let because = header.account.comment;
        let undone = header.undoes.map(|revision| Undone { revision, because });
        self.undo = None;
        self.publish(Running::new(revision, content), way, undone);
        if is_settled {
            self.settled = self.running.clone();
        }
        Ok(())
    }

    /// Takes up what an earlier process stored. Where this build reads the same document differently, that is a
    /// new revision; where it cannot read it, nodes keep what they have. A rollout that was under way goes on: who
    /// has it and who refused it is what nodes say.
    async fn resume(&mut self, stored: StoredRevision) -> Result<(), StoreError> {
        let StoredRevision { header, content } = stored;
        let version = header.version.clone();
        self.generation = version.generation;
        let under_way = header.rollout == RolloutState::Running;
        if let Some(base) = header.base.filter(|_| under_way) {
            self.settled = self.readable(base).await?.map(Arc::new);
        }
        if let Some(undone) = header.undoes {
            self.recall(undone, &header.account.comment).await?;
        }
        match compile(&header.source, &content) {
            Ok(compiled) if compiled.digest == version.digest => {
                tracing::info!(%version, source = header.source, "configuration resumed from the store");
                let way = match &self.settled {
                    Some(base) => Way::Waves(base.revision.clone()),
                    None if under_way => Way::AtOnce,
                    None => Way::Settled,
                };
                let revision = Revision {
                    version,
                    fleet: compiled.fleet,
                    accepted_at: header.created_at,
                    source: header.source,
                };
                let is_settled = header.rollout == RolloutState::Succeeded || header.undoes.is_some();
                let because = header.account.comment;
                let undone = header.undoes.map(|revision| Undone { revision, because });
                self.publish(Running::new(revision, content), way, undone);
                if is_settled {
                    self.settled = self.running.clone();
                }
            }
            Ok(compiled) => {
                tracing::info!(%version, "this build reads the stored configuration differently");
                let (source, account, kind) = (header.source, header.account, Kind::New);
                let new = Acceptance { compiled, content, source, account, kind, request: None };
                self.accept(new, Now::read().wall).await?;
            }
            Err(refused) => {
                let problems = listed(&refused.problems);
                tracing::error!(%version, problems, "this build cannot read the stored configuration");
            }
        }
        Ok(())
    }

    /// A stored revision, if this build reads it as the one did that stored it.
    async fn readable(&self, number: u64) -> Result<Option<Running>, StoreError> {
        let Some(StoredRevision { header, content }) = self.store.revision(number).await? else {
            return Ok(None);
        };
        let compiled = compile(&header.source, &content).ok();
        let same = compiled.filter(|compiled| compiled.digest == header.version.digest);
        Ok(same.map(|compiled| {
            let revision = Revision {
                version: header.version,
                fleet: compiled.fleet,
                accepted_at: header.created_at,
                source: header.source,
            };
            Running::new(revision, content)
        }))
    }

    /// The first revision, where nobody has said what should run: nodes are ready, and there is something to go back
    /// to.
    async fn begin(&mut self) -> Result<(), StoreError> {
        let Ok(compiled) = compile("nothing", EMPTY) else { return Ok(()) };
        let compiled = Compiled { warnings: Vec::new(), ..compiled };
        let account =
            Account { comment: "the beginning: nothing is configured".to_owned(), ..Account::default() };
        let (content, source, kind) = (EMPTY.to_vec(), "empty".to_owned(), Kind::Again);
        let new = Acceptance { compiled, content, source, account, kind, request: None };
        self.accept(new, Now::read().wall).await
    }

    /// A node runs what this store never accepted: the same configuration again, under a name that nodes take for
    /// newer than that.
    async fn outgrow(&mut self) {
        let floor = *self.heard.generation_floor.borrow_and_update();
        let Some(running) = self.running.clone() else { return };
        let revision = &running.revision;
        if revision.version.generation >= floor {
            return;
        }
        tracing::warn!(
            generation = floor,
            "starting a new generation: nodes know a history that this store does not"
        );
        let is_settled =
            self.settled.as_ref().is_some_and(|settled| settled.revision.version == revision.version);
        let new = Acceptance {
            compiled: running.compiled(),
            content: running.content.clone(),
            source: revision.source.clone(),
            account: Account {
                comment: format!("generation {floor}: nodes know a history that this store does not"),
                rollback_of: Some(revision.version.revision),
                ..Account::default()
            },
            kind: if is_settled { Kind::Again } else { Kind::New },
            request: None,
        };
        if let Err(error) = self.accept(new, Now::read().wall).await {
            let cause = error.source().map(ToString::to_string);
            tracing::error!(%error, cause, "the new generation could not be stored");
        }
    }

    fn publish(&mut self, running: Running, way: Way, undone: Option<Undone>) {
        let running = Arc::new(running);
        self.running = Some(running.clone());
        self.published.send_modify(|published| {
            published.running = Some(running.revision.clone());
            (published.way, published.undone) = (way, undone);
        });
    }
}

impl Running {
    fn new(revision: Revision, content: Vec<u8>) -> Self {
        Self { revision: Arc::new(revision), hash: blake3::hash(&content), content }
    }

    /// As it was when it was accepted; its warnings were said then.
    fn compiled(&self) -> Compiled {
        Compiled {
            fleet: self.revision.fleet.clone(),
            digest: self.revision.version.digest.clone(),
            warnings: Vec::new(),
        }
    }
}

/// Until it is time to look at the file, for ever where there is none.
async fn wait(file: Option<&mut File>) {
    match file {
        Some(file) => file.wait().await,
        None => std::future::pending().await,
    }
}

fn listed(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("; ")
}
