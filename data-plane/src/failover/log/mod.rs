//! The node's durable log: which store of each upstream is active, the journal of writes with what became of them,
//! and the node's events until the control plane has them. What it says is what is so; it never decides anything.
//!
//! One file at a time (which one: [`segment`]; its bytes: [`format`]), one thread that writes it ([`writer`]), one
//! fold of everything in it ([`state`]).

mod codec;
mod disk;
mod failpoint;
mod format;
mod journal;
mod record;
mod segment;
mod state;
mod writer;

#[cfg(test)]
mod tests;

pub use failpoint::failpoint;
pub use journal::{Identity, Waiting};
pub use record::{Entry, NotDurable, Record};
pub use state::{Position, Run, State, UpstreamState};

use self::{
    disk::{Disk, Folder},
    writer::{Message, Pending, Writer},
};
use o1_process::Backoff;
use o1_proto::model::Event;
use std::{
    fmt, io,
    path::Path,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, SyncSender},
    },
    thread,
    time::{Duration, SystemTime},
};
use tokio::sync::{Semaphore, oneshot, watch};

/// Batches that may wait to be written; a large one counts as several.
const PLACES: u32 = 2048;
/// Bytes for which a batch needs one place.
const PLACE: usize = 32 << 10;
/// How long the end may take.
const CLOSING: Duration = Duration::from_secs(5);

/// What tests set otherwise.
#[derive(Debug, Clone)]
struct Settings {
    /// Undelivered events that are kept.
    keep_events: usize,
    /// No file shorter than this is replaced.
    compact_at: u64,
    /// The first wait after a failure is shorter than this, none is longer than the second.
    retry: [Duration; 2],
    now: fn() -> SystemTime,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keep_events: 100_000,
            compact_at: 4 << 20,
            retry: [Duration::from_millis(200), Duration::from_secs(10)],
            now: SystemTime::now,
        }
    }
}

/// What the thread and everybody else look at.
#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    /// How many events became durable.
    events: watch::Sender<u64>,
    sound: watch::Sender<bool>,
}

/// An open log.
pub struct Log {
    shared: Arc<Shared>,
    inbox: SyncSender<Message>,
    places: Arc<Semaphore>,
    closing: AtomicBool,
    /// Fails to change once the thread is gone.
    ended: watch::Receiver<()>,
    torn: u64,
    now: fn() -> SystemTime,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("sound", &*self.shared.sound.borrow()).finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log in `dir`, a folder of its own, which is made where there is none, and begins the events of
    /// `epoch`. A batch that was being written when the last process ended is cut. Blocks on the disk.
    ///
    /// # Errors
    /// The disk fails, another process has it open, a newer build wrote it, or it is of a later epoch: then it is
    /// not of this node. The message says what to do.
    pub fn open(dir: &Path, epoch: u64) -> io::Result<Self> {
        failpoint::arm();
        Self::open_on(Box::new(Folder::open(dir)?), epoch, Settings::default())
    }

    fn open_on(disk: Box<dyn Disk>, epoch: u64, settings: Settings) -> io::Result<Self> {
        let found = segment::find(&*disk, settings.keep_events)?;
        report(&found.content, found.last);
        let (mut state, torn, last) = (found.content.state, found.content.torn, found.last);
        if epoch < state.epoch {
            let what = format!(
                "the failover log {} is of epoch {} and this node is in epoch {epoch}: it belongs to another node, \
                 or the node's identity was made anew; move it away, or restore identity.json",
                disk.path("").display(),
                state.epoch
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        state.begin_epoch(epoch);
        let content = format::begin(&state).map_err(|format::TooLarge(size)| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the failover log says too much: {size} bytes"),
            )
        })?;
        let segment =
            segment::begin(&*disk, last + 1, &content, segment::OPEN).map_err(segment::Failed::error)?;
        segment::clear(&*disk, last + 1, (torn > 0).then_some(last));
        let delivered = state.delivered;
        let shared = Arc::new(Shared {
            state: RwLock::new(state),
            events: watch::Sender::new(0),
            sound: watch::Sender::new(true),
        });
        let now = settings.now;
        let writer = Writer {
            disk,
            shared: shared.clone(),
            look_at: writer::look_at(&settings, segment.length),
            file: Ok(segment),
            last: last + 1,
            backoff: Backoff::new(settings.retry[0], settings.retry[1]),
            delivered,
            settings,
        };
        let (inbox, messages) = mpsc::sync_channel(PLACES as usize + 1);
        let (end, ended) = watch::channel(());
        thread::Builder::new().name("failover-log".to_owned()).spawn(move || {
            writer.run(&messages);
            drop(end);
        })?;
        let places = Arc::new(Semaphore::new(PLACES as usize));
        Ok(Self { shared, inbox, places, closing: AtomicBool::new(false), ended, torn, now })
    }

    /// Keeps a batch, as a whole or not at all. Durable when it returns; the order of calls is the order in the log.
    /// If the future is dropped, the batch may be kept all the same.
    ///
    /// # Errors
    /// It is not known to be durable. Nothing is until [`Log::is_sound`] says so again.
    pub async fn append(&self, batch: Vec<Record>) -> Result<(), NotDurable> {
        let at = (self.now)();
        let closed = || NotDurable::new("it has ended");
        let weight = places(&batch);
        // Where there is room, a batch has its place at the first poll, whatever the task has left of its time.
        let place = match self.places.clone().try_acquire_many_owned(weight) {
            Ok(place) => place,
            Err(_) => self.places.clone().acquire_many_owned(weight).await.map_err(|_| closed())?,
        };
        let (answer, answered) = oneshot::channel();
        let pending = Pending { at, records: batch, answer: Some(answer), place };
        self.inbox.try_send(Message::Append(pending)).map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Keeps a batch for somebody who cannot wait, in order with [`Log::append`]. False: it is not kept, because the
    /// log failed or too much waits. True: it will be, unless the log fails first.
    #[must_use]
    pub fn append_soon(&self, batch: Vec<Record>) -> bool {
        if !*self.shared.sound.borrow() {
            return false;
        }
        let Ok(place) = self.places.clone().try_acquire_many_owned(places(&batch)) else { return false };
        let pending = Pending { at: (self.now)(), records: batch, answer: None, place };
        self.inbox.try_send(Message::Append(pending)).is_ok()
    }

    /// What is so of an upstream after everything durable; of one of which nothing was ever said, what is so of any.
    /// Nothing becomes durable while `look` looks: it must be brief, and must not ask the log anything.
    pub fn upstream<T>(&self, name: &str, look: impl FnOnce(&UpstreamState) -> T) -> T {
        match self.state().upstreams.get(name) {
            Some(known) => look(known),
            None => look(&UpstreamState::default()),
        }
    }

    /// The names of all upstreams of which something was ever said, sorted.
    #[must_use]
    pub fn upstreams(&self) -> Vec<String> {
        self.state().upstreams.keys().cloned().collect()
    }

    /// Durable events behind `after` that were not delivered, with their epochs, in order, at most `limit`. Of an
    /// epoch they have no gaps, but for those that [`EventsLost`](o1_proto::model::EventKind::EventsLost) stands for.
    #[must_use]
    pub fn events_after(&self, after: Position, limit: usize) -> Vec<(u64, Event)> {
        self.state().events_after(after, limit)
    }

    /// The oldest event that was not delivered.
    #[must_use]
    pub fn oldest(&self) -> Option<Position> {
        self.state().events.front().map(|(epoch, event)| (*epoch, event.seq))
    }

    /// The newest event that was not delivered.
    #[must_use]
    pub fn newest(&self) -> Option<Position> {
        self.state().events.back().map(|(epoch, event)| (*epoch, event.seq))
    }

    /// The control plane has the events up to here: they may be forgotten. Becomes durable with the next batch; after
    /// a crash before that they are there again.
    pub fn delivered(&self, through: Position) {
        self.shared.state.write().unwrap_or_else(PoisonError::into_inner).forget(through);
    }

    /// Changes whenever events became durable.
    #[must_use]
    pub fn events(&self) -> watch::Receiver<u64> {
        self.shared.events.subscribe()
    }

    /// False from the moment at which a write failed until a new file could be begun.
    #[must_use]
    pub fn is_sound(&self) -> watch::Receiver<bool> {
        self.shared.sound.subscribe()
    }

    /// Bytes that were cut when the log was opened. The file they were in is kept beside it.
    #[must_use]
    pub const fn torn(&self) -> u64 {
        self.torn
    }

    /// Writes what waits and lets go of the folder. Whatever comes later is refused. Gives up after five seconds.
    pub async fn close(&self) {
        self.places.close();
        if !self.closing.swap(true, Ordering::Relaxed) {
            // One more fits than there are places; otherwise the thread is gone already.
            let _ = self.inbox.try_send(Message::Close);
        }
        let mut ended = self.ended.clone();
        if tokio::time::timeout(CLOSING, ended.changed()).await.is_err() {
            tracing::error!("the failover log did not end in time: what waited is not durable");
        }
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn places(batch: &[Record]) -> u32 {
    let weight: usize = batch.iter().map(Record::weight).sum();
    u32::try_from(1 + weight / PLACE).unwrap_or(PLACES).min(PLACES)
}

fn report(content: &format::Content, file: u64) {
    let (batches, torn) = (content.batches, content.torn);
    let (upstreams, events) = (content.state.upstreams.len(), content.state.events.len());
    let journaled: usize = content.state.upstreams.values().map(|one| one.journal.len()).sum();
    tracing::info!(batches, upstreams, journaled, events, "the failover log was read");
    if torn > 0 {
        let kept = segment::aside(file);
        tracing::warn!(torn, kept, "the end of the failover log was not whole and is cut");
    }
}
