//! The file, the store and what is published, kept in step: look, judge, store, publish. In that order.

use super::{
    Revision,
    compile::{Compiled, MAX_DOCUMENT_BYTES, compile, whole},
    judge::{Finding, Mark, Verdict, judge},
    watch::Watch,
};
use crate::{
    clock::Now,
    store::{NewRevision, Store, StoreError, StoredRevision},
};
use blake3::Hash;
use o1_proto::problem::Problem;
use std::{
    error::Error as _,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};
use tokio::{sync::watch, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

/// What nodes should run, and what the file has to say about it.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// What nodes should run; `None`: nothing was ever accepted.
    pub running: Option<Arc<Revision>>,
    /// The file.
    pub source: SourceStatus,
}

/// Whether the newest content of the file is what runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// The file, as given.
    pub path: String,
    /// When it was last looked at.
    pub checked_at: Option<SystemTime>,
    /// Since when it is not what runs; `None`: it is.
    pub refused_at: Option<SystemTime>,
    /// Why it is not.
    pub problems: Vec<Problem>,
}

/// See the module.
pub struct Source {
    path: PathBuf,
    store: Arc<dyn Store>,
    running: Option<Running>,
    last: Option<Mark>,
    /// Of the next revision, at least.
    generation: u64,
    published: watch::Sender<Published>,
    /// From before the first look, so that no edit falls between the two.
    watch: Watch,
    generation_floor: watch::Receiver<u64>,
}

/// The revision that nodes should run, and the document it came from.
struct Running {
    revision: Arc<Revision>,
    content: Vec<u8>,
    hash: Hash,
}

impl Source {
    /// Takes up the latest stored revision, then looks at the file for the first time.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn open(
        path: PathBuf,
        store: Arc<dyn Store>,
        generation_floor: watch::Receiver<u64>,
    ) -> Result<Self, StoreError> {
        let latest = store.latest().await?;
        let source = SourceStatus { path: path.display().to_string(), ..SourceStatus::default() };
        let published = watch::Sender::new(Published { running: None, source });
        let watch = Watch::new(&path);
        let (running, last, generation) = (None, None, 1);
        let mut source = Self { path, store, running, last, generation, published, watch, generation_floor };
        if let Some(stored) = latest {
            source.resume(stored).await?;
        }
        source.look().await;
        Ok(source)
    }

    /// What nodes should run, and how the file is, from now on.
    #[must_use]
    pub fn published(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// Follows the file until the process stops.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let outgrown = tokio::select! {
                () = self.watch.wait() => false,
                Ok(()) = self.generation_floor.changed() => true,
                () = stop.cancelled() => return,
            };
            tokio::select! {
                () = self.follow(outgrown) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn follow(&mut self, outgrown: bool) {
        if outgrown {
            self.outgrow().await;
        } else {
            self.look().await;
        }
    }

    /// Looks at the file and does what follows.
    async fn look(&mut self) {
        let (path, name) = (self.path.clone(), self.name());
        let (last, running) = (self.last.clone(), self.running.as_ref().map(|running| running.hash));
        // Reading and parsing take a while, and the disk may hang.
        let looked = spawn_blocking(move || judge(&name, find(&path), last.as_ref(), running));
        let Ok((mark, verdict)) = looked.await else {
            tracing::error!(path = %self.path.display(), "reading the configuration panicked");
            return;
        };
        self.last = Some(mark);
        let now = Now::read().wall;
        self.published.send_if_modified(|published| {
            published.source.checked_at = Some(now);
            false // nobody waits for this
        });
        match verdict {
            Verdict::Unchanged => {}
            Verdict::Running => self.note(Vec::new(), now),
            Verdict::Refuse(problems) => self.note(problems, now),
            Verdict::Accept { content, compiled } => {
                let source = format!("file:{}", absolute(&self.path).display());
                match self.accept(compiled, content, source, now).await {
                    Ok(()) => self.note(Vec::new(), now),
                    Err(error) => {
                        self.last = None; // look again at the next poll, it may work then
                        self.note(vec![not_stored(&self.name(), &error)], now);
                    }
                }
            }
        }
    }

    /// Stores a revision and, once that is done, publishes it.
    async fn accept(
        &mut self,
        compiled: Compiled,
        content: Vec<u8>,
        source: String,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        self.generation = self.generation.max(*self.generation_floor.borrow());
        let new = NewRevision {
            generation: self.generation,
            digest: compiled.digest,
            content: content.clone(),
            source,
            created_at: now,
        };
        let header = self.store.append_revision(new).await?;
        tracing::info!(
            version = %header.version, source = header.source,
            upstreams = compiled.fleet.upstreams.len(), "configuration accepted"
        );
        for warning in compiled.warnings {
            tracing::warn!(%warning, "the accepted configuration has a warning");
        }
        self.publish(
            Revision {
                version: header.version,
                fleet: compiled.fleet,
                accepted_at: header.created_at,
                source: header.source,
            },
            content,
        );
        Ok(())
    }

    /// Takes up what an earlier process stored. Where this build reads the same document differently, that is a
    /// new revision; where it cannot read it, nodes keep what they have.
    async fn resume(&mut self, stored: StoredRevision) -> Result<(), StoreError> {
        let StoredRevision { header, content } = stored;
        let version = header.version.clone();
        self.generation = version.generation;
        match compile(&header.source, &content) {
            Ok(compiled) if compiled.digest == version.digest => {
                tracing::info!(%version, source = header.source, "configuration resumed from the store");
                self.publish(
                    Revision {
                        version,
                        fleet: compiled.fleet,
                        accepted_at: header.created_at,
                        source: header.source,
                    },
                    content,
                );
            }
            Ok(compiled) => {
                tracing::info!(%version, "this build reads the stored configuration differently");
                self.accept(compiled, content, header.source, Now::read().wall).await?;
            }
            Err(refused) => {
                let problems = listed(&refused.problems);
                tracing::error!(%version, problems, "this build cannot read the stored configuration");
            }
        }
        Ok(())
    }

    /// A node runs what this store never accepted: the same configuration again, under a name that nodes take for
    /// newer than that.
    async fn outgrow(&mut self) {
        let floor = *self.generation_floor.borrow_and_update();
        let Some(Running { revision, content, .. }) = &self.running else { return };
        if revision.version.generation >= floor {
            return;
        }
        let compiled = Compiled {
            fleet: revision.fleet.clone(),
            digest: revision.version.digest.clone(),
            warnings: Vec::new(),
        };
        let (content, source) = (content.clone(), revision.source.clone());
        tracing::warn!(
            generation = floor,
            "starting a new generation: nodes know a history that this store does not"
        );
        if let Err(error) = self.accept(compiled, content, source, Now::read().wall).await {
            let cause = error.source().map(ToString::to_string);
            tracing::error!(%error, cause, "the new generation could not be stored");
        }
    }

    fn publish(&mut self, revision: Revision, content: Vec<u8>) {
        let revision = Arc::new(revision);
        let hash = blake3::hash(&content);
        self.running = Some(Running { revision: revision.clone(), content, hash });
        self.published.send_modify(|published| published.running = Some(revision));
    }

    /// Notes what is wrong with the file, or that nothing is, and logs it once.
    fn note(&self, problems: Vec<Problem>, now: SystemTime) {
        if self.published.borrow().source.problems == problems {
            return;
        }
        let path = self.path.display();
        let running = self.running.as_ref().map(|running| running.revision.version.to_string());
        let listed = listed(&problems);
        match (problems.is_empty(), running) {
            (true, running) => tracing::info!(%path, running, "the file is what runs again"),
            (false, Some(running)) => {
                tracing::warn!(%path, running, problems = listed, "configuration refused, keeping what runs");
            }
            (false, None) => {
                tracing::warn!(%path, problems = listed, "no configuration yet, nodes keep what they have");
            }
        }
        self.published.send_modify(|published| {
            published.source.refused_at = (!problems.is_empty()).then_some(now);
            published.source.problems = problems;
        });
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

fn find(path: &Path) -> Finding {
    let limit = MAX_DOCUMENT_BYTES as u64;
    let read = || -> io::Result<Finding> {
        // Before it is opened: to open a pipe waits for its writer.
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return Ok(Finding::Unreadable("it is not a file".to_owned()));
        }
        let mut content = Vec::new();
        File::open(path)?.take(limit + 1).read_to_end(&mut content)?;
        if content.len() as u64 > limit {
            return Ok(Finding::TooLarge(metadata.len().max(limit + 1)));
        }
        Ok(Finding::Content(content))
    };
    match read() {
        Ok(finding) => finding,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Finding::Missing,
        Err(error) => Finding::Unreadable(error.to_string()),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn listed(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

fn not_stored(file: &str, error: &StoreError) -> Problem {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    whole(file, "config-store", &format!("{error}{cause}"), "it is tried again every few seconds")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events,
        fleet::{NodeRecord, NodeUid, SealKey},
        store::{Reply, RevisionHeader, Sqlite},
    };
    use o1_proto::model::{Event, FailoverStats};
    use std::{
        io,
        sync::atomic::{AtomicBool, Ordering},
    };

    /// A store on a disk that can be full.
    struct Disk {
        store: Sqlite,
        full: AtomicBool,
    }

    impl Store for Disk {
        fn append_revision(&self, new: NewRevision) -> Reply<'_, RevisionHeader> {
            if self.full.load(Ordering::SeqCst) {
                let source = io::Error::from(io::ErrorKind::StorageFull).into();
                let what = "store the configuration";
                return Box::pin(async move { Err(StoreError::Failed { what, source }) });
            }
            self.store.append_revision(new)
        }

        fn latest(&self) -> Reply<'_, Option<StoredRevision>> {
            self.store.latest()
        }

        fn revision(&self, number: u64) -> Reply<'_, Option<StoredRevision>> {
            self.store.revision(number)
        }

        fn revisions(&self, before: Option<u64>, limit: usize) -> Reply<'_, Vec<RevisionHeader>> {
            self.store.revisions(before, limit)
        }

        fn nodes(&self) -> Reply<'_, Vec<NodeRecord>> {
            self.store.nodes()
        }

        fn remember_node(&self, record: NodeRecord) -> Reply<'_, ()> {
            self.store.remember_node(record)
        }

        fn forget_node(&self, uid: NodeUid) -> Reply<'_, ()> {
            self.store.forget_node(uid)
        }

        fn seal_keys(&self) -> Reply<'_, Vec<SealKey>> {
            self.store.seal_keys()
        }

        fn replace_seal_keys(&self, keys: Vec<SealKey>) -> Reply<'_, ()> {
            self.store.replace_seal_keys(keys)
        }

        fn failover_decisions(&self) -> Reply<'_, crate::health::Kept> {
            self.store.failover_decisions()
        }

        fn keep_decisions(&self, change: crate::health::Kept) -> Reply<'_, ()> {
            self.store.keep_decisions(change)
        }

        fn append_events(&self, append: events::Append) -> Reply<'_, events::Appended> {
            self.store.append_events(append)
        }

        fn append_own_event(&self, event: Event, now: SystemTime) -> Reply<'_, u64> {
            self.store.append_own_event(event, now)
        }

        fn event_cursor(&self, node: NodeUid) -> Reply<'_, Option<events::Cursor>> {
            self.store.event_cursor(node)
        }

        fn events(&self, query: events::EventQuery) -> Reply<'_, events::EventPage> {
            self.store.events(query)
        }

        fn event_range(&self) -> Reply<'_, events::Kept> {
            self.store.event_range()
        }

        fn newest_event(&self) -> watch::Receiver<u64> {
            self.store.newest_event()
        }

        fn prune_events(&self, keep: usize, older_than: SystemTime) -> Reply<'_, usize> {
            self.store.prune_events(keep, older_than)
        }

        fn event_account(&self, node: NodeUid, upstream: String) -> Reply<'_, FailoverStats> {
            self.store.event_account(node, upstream)
        }
    }

    fn revision(source: &Source) -> Option<u64> {
        source.published.borrow().running.as_ref().map(|running| running.version.revision)
    }

    fn rules(source: &Source) -> Vec<&'static str> {
        source.published.borrow().source.problems.iter().map(|problem| problem.rule).collect()
    }

    #[tokio::test]
    async fn nothing_is_published_that_could_not_be_stored_and_it_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("only1.yaml");
        let write = |port: u16| {
            let text = format!("upstreams:\n  a:\n    primary: [{{url: 'http://127.0.0.1:{port}/mcp'}}]\n");
            fs::write(&path, text).unwrap();
        };
        let store = Sqlite::open(&dir.path().join("store.db")).unwrap();
        let disk = Arc::new(Disk { store, full: AtomicBool::new(false) });
        write(1);
        let floor = watch::Sender::new(0);
        let mut source = Source::open(path.clone(), disk.clone(), floor.subscribe()).await.unwrap();
        assert_eq!((revision(&source), rules(&source)), (Some(1), vec![]));

        disk.full.store(true, Ordering::SeqCst);
        write(2);
        for _ in 0..2 {
            source.look().await;
            assert_eq!((revision(&source), rules(&source)), (Some(1), vec!["config-store"]));
        }
        disk.full.store(false, Ordering::SeqCst);
        source.look().await;
        assert_eq!((revision(&source), rules(&source)), (Some(2), vec![]));
    }

    #[tokio::test]
    async fn a_document_that_this_build_reads_differently_is_a_new_revision() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("only1.yaml");
        let content = b"upstreams:\n  a:\n    primary: [{url: 'http://127.0.0.1:1/mcp'}]\n".to_vec();
        fs::write(&path, &content).unwrap();
        let store = Arc::new(Sqlite::open(&dir.path().join("store.db")).unwrap());
        let digest = crate::config::Digest::new(b"of an earlier build".to_vec());
        let (source, created_at) = ("file:x".to_owned(), SystemTime::now());
        let earlier = NewRevision { generation: 3, digest: digest.clone(), content, source, created_at };
        store.append_revision(earlier).await.unwrap();
        let floor = watch::Sender::new(0);
        let source = Source::open(path, store, floor.subscribe()).await.unwrap();
        let running = source.published.borrow().running.clone().unwrap();
        assert_eq!((running.version.generation, running.version.revision), (3, 2));
        assert_ne!(running.version.digest, digest);
    }
}
