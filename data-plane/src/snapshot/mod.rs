//! THE BACKUP OF LAST RESORT: what this node kept of the answers of each primary that has a backup, in memory and on
//! disk, for the time in which nobody else answers. A leaf: the cache puts answers in and takes them out, the
//! failover path asks whether there is anything.
//!
//! [`book`] is one upstream's answers within bounds, [`file`] is how they get to the disk and back, [`upkeep`] decides
//! when. Whose answer it is and who may have it, the keys say, which the cache makes.
//!
//! It must never keep what a backup said, never give what another server said than the one that is configured, and
//! never put a file in place that it has not read back.

mod book;
mod file;
mod upkeep;

pub use upkeep::start;

use crate::plan::{self, Plan};
use book::{Book, Limits, News};
use bytes::Bytes;
use file::{Content, Refused};
use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    time::{Duration, SystemTime},
};
use tokio::{sync::Notify, time::Instant};
use upkeep::Pace;

/// For how long what belongs to an upstream that is not served any more, or has no backup any more, is kept: a
/// configuration that lost it by mistake and is rolled back within this time finds it again, and what an operator took
/// out on purpose is gone soon.
const GRACE: Duration = Duration::from_secs(3600);

/// What a question is known by, within the partition of those who may have the answer.
pub type Key = [u8; 32];

/// What a question is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// By everything that may change its answer.
    pub exact: Key,
    /// By everything but what its caller is able to do: of those that share this, the one answered last is given to who
    /// asks as nobody did before. Better than nothing, which is the choice.
    pub alike: Key,
}

/// What the primary answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The method.
    pub method: Box<str>,
    /// Its result, raw JSON.
    pub result: Bytes,
    /// When it came in.
    pub received: SystemTime,
    /// Whether the server said that anybody may have it.
    pub public: bool,
}

/// The file of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// When it was written.
    pub written_at: SystemTime,
    /// Its size.
    pub bytes: u64,
    /// The answers in it.
    pub entries: usize,
}

/// Whether there is something to serve from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing was answered yet.
    Absent,
    /// There is.
    Usable,
    /// There was a file, and it cannot be used: why, for people.
    Unusable(String),
}

/// What became of writing a file: how long it took and its size, or why it failed.
pub type Synced = Result<(Duration, u64), String>;

type OnSync = Box<dyn Fn(&str, &Synced) + Send + Sync>;

/// The snapshots of every upstream, by name.
#[derive(Default)]
pub struct Snapshots {
    /// `None`: in memory only.
    dir: Option<PathBuf>,
    limits: Limits,
    shelves: RwLock<HashMap<String, Arc<Shelf>>>,
    on_sync: OnceLock<OnSync>,
    /// Something is to be written soon.
    woken: Notify,
}

/// One upstream's.
#[derive(Debug)]
struct Shelf(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    book: Book,
    /// The file, if it holds answers of this book's server.
    info: Option<Info>,
    /// Why the file that was there cannot be used.
    trouble: Option<String>,
    pace: Pace,
    /// Since when no plan names it.
    gone: Option<Instant>,
}

impl Shelf {
    fn new(book: Book) -> Arc<Self> {
        let kept = Kept { book, info: None, trouble: None, pace: Pace::default(), gone: None };
        Arc::new(Self(Mutex::new(kept)))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshots {
    /// Those of a directory, which is made when the first is written. Blocks on the disk; call it before anything is
    /// served.
    #[must_use]
    pub fn open(dir: PathBuf) -> Self {
        let found = file::all(&dir).unwrap_or_else(|error| {
            tracing::warn!(dir = %dir.display(), %error, "the snapshots of upstreams cannot be read: none is used");
            Vec::new()
        });
        let snapshots = Self { dir: Some(dir), ..Self::default() };
        for one in found {
            match one {
                Ok((content, bytes)) => snapshots.restore(content, bytes),
                Err(refused) => snapshots.refuse(&refused),
            }
        }
        snapshots
    }

    fn restore(&self, content: Content, bytes: u64) {
        let info = Info { written_at: content.written_at, bytes, entries: content.answers.len() };
        let mut book = Book::new(content.identity, self.limits);
        for (keys, answer) in content.answers {
            book.put(&keys, answer);
        }
        let shelf = Shelf::new(book);
        shelf.lock().info = Some(info);
        self.insert(&content.upstream, shelf);
    }

    fn refuse(&self, refused: &Refused) {
        tracing::warn!(
            upstream = refused.upstream,
            why = refused.why,
            "a snapshot cannot be used and was put aside: nothing is served from it"
        );
        let shelf = Shelf::new(Book::new([0; 32], self.limits));
        shelf.lock().trouble = Some(refused.why.clone());
        self.insert(&refused.upstream, shelf);
    }

    /// Keeps an answer that the primary gave, in place of the one before. Of a server that is not configured (any
    /// more) nothing is kept.
    pub fn record(&self, upstream: &plan::Upstream, keys: &Keys, answer: Answer) {
        let shelf = self.shelf(&upstream.name).unwrap_or_else(|| {
            let mut shelves = self.shelves.write().unwrap_or_else(PoisonError::into_inner);
            let new = || Shelf::new(Book::new(upstream.identity, self.limits));
            shelves.entry(upstream.name.clone()).or_insert_with(new).clone()
        });
        let mut kept = shelf.lock();
        if kept.book.identity != upstream.identity {
            return;
        }
        let news = kept.book.put(keys, answer);
        self.changed(&mut kept, news);
    }

    /// Forgets the answer that anybody would get to a question, because the server says now that it is not everybody's.
    pub fn forget(&self, upstream: &plan::Upstream, keys: &Keys) {
        let Some(shelf) = self.shelf(&upstream.name) else { return };
        let mut kept = shelf.lock();
        if kept.book.identity == upstream.identity && kept.book.forget(keys) {
            self.changed(&mut kept, News::Some);
        }
    }

    fn changed(&self, kept: &mut Kept, news: News) {
        if kept.pace.changed(news, Instant::now()) {
            self.woken.notify_one();
        }
    }

    /// What the primary last answered.
    #[must_use]
    pub fn find(&self, upstream: &plan::Upstream, keys: &Keys) -> Option<Answer> {
        let shelf = self.shelf(&upstream.name)?;
        let mut kept = shelf.lock();
        (kept.book.identity == upstream.identity).then(|| kept.book.find(keys))?
    }

    /// When the primary last said anything that is here.
    #[must_use]
    pub fn as_of(&self, upstream: &plan::Upstream) -> Option<SystemTime> {
        let shelf = self.shelf(&upstream.name)?;
        let kept = shelf.lock();
        (kept.book.identity == upstream.identity).then(|| kept.book.as_of())?
    }

    /// The largest result that is kept, in bytes.
    #[must_use]
    pub fn largest(&self) -> usize {
        usize::try_from(self.limits.largest()).unwrap_or(usize::MAX)
    }

    /// The file of an upstream, as it was last written or found; `None`: there is none that counts.
    #[must_use]
    pub fn info(&self, upstream: &str) -> Option<Info> {
        self.shelf(upstream)?.lock().info
    }

    /// Whether there is anything to serve from.
    #[must_use]
    pub fn is_usable(&self, upstream: &str) -> bool {
        self.state(upstream) == State::Usable
    }

    /// The same, with the reason.
    #[must_use]
    pub fn state(&self, upstream: &str) -> State {
        let Some(shelf) = self.shelf(upstream) else { return State::Absent };
        let kept = shelf.lock();
        match &kept.trouble {
            _ if !kept.book.is_empty() => State::Usable,
            Some(why) => State::Unusable(why.clone()),
            None => State::Absent,
        }
    }

    /// Who hears what became of each attempt to write a file, with the name of its upstream. It must not block. The
    /// first one counts.
    pub fn on_sync(&self, heard: impl Fn(&str, &Synced) + Send + Sync + 'static) {
        let _ = self.on_sync.set(Box::new(heard));
    }

    /// Writes the file of an upstream now, whether it changed or not; `None`: there is nothing to write, or nowhere.
    pub async fn save(&self, upstream: &str) -> Option<Synced> {
        let (dir, shelf) = (self.dir.clone()?, self.shelf(upstream)?);
        let began = Instant::now();
        let (content, mark) = {
            let kept = shelf.lock();
            if kept.book.is_empty() {
                return None;
            }
            let (identity, answers) = (kept.book.identity, kept.book.all());
            let content =
                Content { upstream: upstream.to_owned(), identity, written_at: SystemTime::now(), answers };
            (content, kept.pace.mark())
        };
        let (identity, written_at, entries) = (content.identity, content.written_at, content.answers.len());
        let written = tokio::task::spawn_blocking(move || file::write(&dir, &content)).await;
        let written = written.map_err(|error| error.to_string());
        let written = written.and_then(|written| written.map_err(|error| error.to_string()));
        let (ended, took) = (Instant::now(), began.elapsed());
        let mut kept = shelf.lock();
        kept.pace.ended(written.is_ok(), mark, ended, took);
        if let Ok(bytes) = written
            && kept.book.identity == identity
        {
            kept.info = Some(Info { written_at, bytes, entries });
            kept.trouble = None;
        }
        drop(kept);
        let synced = written.map(|bytes| (took, bytes));
        match &synced {
            Ok((took, bytes)) => tracing::debug!(upstream, ?took, bytes, entries, "snapshot written"),
            Err(error) => {
                tracing::warn!(upstream, error, "the snapshot was not written: the one before stands")
            }
        }
        if let Some(heard) = self.on_sync.get() {
            heard(upstream, &synced);
        }
        Some(synced)
    }

    /// Keeps to a plan: what another server said under a name goes at once, what no plan names after [`GRACE`].
    fn follow(&self, plan: &Plan, now: Instant) {
        if plan.version.is_none() {
            // Not configured yet: nothing was taken out.
            return;
        }
        let mut shelves = self.shelves.write().unwrap_or_else(PoisonError::into_inner);
        shelves.retain(|name, shelf| {
            let upstream = plan.upstream(name).filter(|upstream| upstream.backup.is_some());
            let mut kept = shelf.lock();
            let Some(upstream) = upstream else {
                let gone = *kept.gone.get_or_insert(now);
                let stays = now.saturating_duration_since(gone) < GRACE;
                if !stays && let Some(dir) = &self.dir {
                    file::remove(dir, name);
                }
                return stays;
            };
            kept.gone = None;
            if kept.book.identity != upstream.identity {
                self.exchange(&mut kept, upstream);
            }
            true
        });
    }

    /// Another server stands behind a name now. The file stays until the first one of the new server replaces it: the
    /// change may be taken back.
    fn exchange(&self, kept: &mut Kept, upstream: &plan::Upstream) {
        let had = !kept.book.is_empty();
        *kept = Kept {
            book: Book::new(upstream.identity, self.limits),
            info: None,
            trouble: kept.trouble.take(),
            pace: Pace::default(),
            gone: None,
        };
        if had {
            let why = "it holds the answers of another server than the one that is configured";
            tracing::warn!(upstream = upstream.name, "the snapshot is not used: {why}");
            kept.trouble = Some(why.to_owned());
        }
    }

    fn shelf(&self, upstream: &str) -> Option<Arc<Shelf>> {
        self.shelves.read().unwrap_or_else(PoisonError::into_inner).get(upstream).cloned()
    }

    fn insert(&self, upstream: &str, shelf: Arc<Shelf>) {
        self.shelves.write().unwrap_or_else(PoisonError::into_inner).insert(upstream.to_owned(), shelf);
    }
}

/// How many, never what: answers carry people's data.
impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let upstreams = self.shelves.read().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_struct("Snapshots").field("upstreams", &upstreams).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
