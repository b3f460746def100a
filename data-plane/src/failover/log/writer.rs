//! The thread that owns the file. It takes what waits, writes it as one, asks the disk once to keep it, and only then
//! folds it and answers. After any failure it never touches that file again: it begins a new one from what is known
//! to be durable.

use super::{
    Settings, Shared,
    disk::Disk,
    failpoint::failpoint,
    format,
    record::{NotDurable, Record},
    segment::{self, COMPACTION, Failed, RECOVERY, Segment, Why},
    state::{Batch, Position},
};
use o1_process::Backoff;
use std::{
    io,
    sync::{
        Arc, PoisonError,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::SystemTime,
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};

/// The largest batch; a journaled call is far smaller.
pub(super) const MAX_BATCH: usize = 64 << 20;
/// Nothing more joins a group of this size.
const MAX_GROUP: usize = 4 << 20;

/// What the thread is asked.
pub(super) enum Message {
    Append(Pending),
    /// Everything before it is still written.
    Close,
}

/// A batch on its way.
pub(super) struct Pending {
    pub at: SystemTime,
    pub records: Vec<Record>,
    pub answer: Option<oneshot::Sender<Result<(), NotDurable>>>,
    /// Its place in the queue.
    pub place: OwnedSemaphorePermit,
}

/// A batch that is in the group.
type Encoded = (Batch, Option<oneshot::Sender<Result<(), NotDurable>>>);

pub(super) struct Writer {
    pub disk: Box<dyn Disk>,
    pub shared: Arc<Shared>,
    pub settings: Settings,
    /// The file, or why there is none.
    pub file: Result<Segment, Broken>,
    /// The n of the newest file that there may be.
    pub last: u64,
    /// Whether the file should be replaced is asked when it is this long.
    pub look_at: u64,
    pub backoff: Backoff,
    /// What the file says of deliveries.
    pub delivered: Position,
}

/// What a new file would say.
struct Folded {
    content: Vec<u8>,
    /// Which deliveries are in it.
    delivered: Position,
}

/// There is no file that could be written.
pub(super) struct Broken {
    why: String,
    retry_at: Instant,
}

/// If the thread dies of a fault of ours, whoever looks must see that nothing is durable any more.
struct Watched(Arc<Shared>);

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.sound.send_replace(false);
        }
    }
}

impl Writer {
    /// Until asked to end, or until nobody could ask.
    pub fn run(mut self, inbox: &Receiver<Message>) {
        let _watched = Watched(self.shared.clone());
        let mut group = Vec::new();
        loop {
            let message = match &self.file {
                Ok(_) => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Err(broken) => inbox.recv_timeout(broken.retry_at.saturating_duration_since(Instant::now())),
            };
            match message {
                Ok(Message::Append(first)) => {
                    let ends = self.append(first, inbox, &mut group);
                    if ends {
                        break;
                    }
                }
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.recover();
        }
        self.note_delivered();
    }

    /// Writes `first` and what waits behind it; whether the end was among it.
    fn append(&mut self, first: Pending, inbox: &Receiver<Message>, bytes: &mut Vec<u8>) -> bool {
        let mut group = Vec::new();
        let mut next = Some(Message::Append(first));
        let mut ends = false;
        let (mut seq, delivered) = {
            let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
            (state.next_event, Some(state.delivered).filter(|delivered| *delivered > self.delivered))
        };
        bytes.clear();
        while let Some(message) = next {
            let Message::Append(pending) = message else {
                ends = true;
                break;
            };
            let Pending { at, records, answer, place } = pending;
            drop(place);
            // Once in a group is enough.
            let delivered = delivered.filter(|_| group.is_empty());
            match encode(Batch { at, delivered, records }, bytes, &mut seq) {
                Ok(batch) => group.push((batch, answer)),
                Err(why) => refuse(answer, &why),
            }
            next = (bytes.len() < MAX_GROUP).then(|| inbox.try_recv().ok()).flatten();
        }
        if !group.is_empty() {
            self.commit(group, bytes);
        }
        bytes.shrink_to(MAX_GROUP);
        ends
    }

    fn commit(&mut self, group: Vec<Encoded>, bytes: &[u8]) {
        let written = match &mut self.file {
            Ok(segment) => write(segment, bytes),
            Err(broken) => {
                group.into_iter().for_each(|(_, answer)| refuse(answer, &broken.why));
                return;
            }
        };
        if let Err(error) = written {
            self.fail(&error);
            let why = error.to_string();
            group.into_iter().for_each(|(_, answer)| refuse(answer, &why));
            return;
        }
        let answers = self.fold(group);
        for answer in answers.into_iter().flatten() {
            let _ = answer.send(Ok(())); // who asked may be gone
        }
        self.compact();
    }

    /// What is durable is so.
    fn fold(&mut self, group: Vec<Encoded>) -> Vec<Option<oneshot::Sender<Result<(), NotDurable>>>> {
        let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = state.next_event;
        let mut answers = Vec::with_capacity(group.len());
        for (batch, answer) in group {
            self.delivered = batch.delivered.unwrap_or(self.delivered);
            state.apply(batch, self.settings.keep_events);
            answers.push(answer);
        }
        let added = state.next_event - before;
        drop(state);
        if added > 0 {
            self.shared.events.send_modify(|count| *count += added);
        }
        answers
    }

    /// Begins a new file when this one is large and mostly says what is no longer so.
    fn compact(&mut self) {
        let Ok(Segment { length, .. }) = self.file else { return };
        if length < self.look_at {
            return;
        }
        let Some(folded) = self.folded() else { return };
        let after = folded.content.len() as u64;
        if length < 4 * after {
            self.look_at = 4 * after;
            return;
        }
        match self.begin(&folded, COMPACTION) {
            Ok(()) => tracing::debug!(before = length, after, "the failover log was compacted"),
            Err(Failed::Before(error)) => {
                tracing::warn!(%error, "the failover log could not be compacted; it goes on growing for now");
                self.look_at = length + self.settings.compact_at;
            }
            Err(Failed::After(error)) => self.fail(&error),
        }
    }

    /// Begins a new file in place of one that failed, if it is time.
    fn recover(&mut self) {
        let Err(broken) = &mut self.file else { return };
        if Instant::now() < broken.retry_at {
            return;
        }
        broken.retry_at = Instant::now() + self.backoff.next();
        let Some(folded) = self.folded() else { return };
        match self.begin(&folded, RECOVERY) {
            Ok(()) => {
                self.backoff.reset();
                self.shared.sound.send_replace(true);
                tracing::info!("the failover log can be written again");
            }
            Err(failed) => {
                let error = failed.error();
                tracing::warn!(%error, "the failover log still cannot be written");
                if let Err(broken) = &mut self.file {
                    broken.why = error.to_string();
                }
            }
        }
    }

    /// A file that says what is so; `None`: that is too much for one.
    fn folded(&mut self) -> Option<Folded> {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        let content = format::begin(&state);
        let delivered = state.delivered;
        drop(state);
        match content {
            Ok(content) => Some(Folded { content, delivered }),
            Err(format::TooLarge(size)) => {
                tracing::error!(size, "the state is too large for one file of the failover log");
                self.look_at = u64::MAX;
                None
            }
        }
    }

    fn begin(&mut self, folded: &Folded, why: Why) -> Result<(), Failed> {
        self.last += 1;
        let segment = segment::begin(&*self.disk, self.last, &folded.content, why)?;
        self.delivered = folded.delivered;
        self.look_at = look_at(&self.settings, segment.length);
        self.file = Ok(segment);
        segment::clear(&*self.disk, self.last, None);
        Ok(())
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::error!(%error, "the failover log cannot be written: nothing is durable until it can");
        let retry_at = Instant::now() + self.backoff.next();
        self.file = Err(Broken { why: error.to_string(), retry_at });
        self.shared.sound.send_replace(false);
    }

    /// At the end, so that the next start sends less again. Whoever is not told sends it twice, which does no harm.
    fn note_delivered(&mut self) {
        let delivered = self.shared.state.read().unwrap_or_else(PoisonError::into_inner).delivered;
        if delivered <= self.delivered {
            return;
        }
        let batch = Batch { at: (self.settings.now)(), delivered: Some(delivered), records: Vec::new() };
        let mut bytes = Vec::new();
        if let Ok(segment) = &mut self.file
            && format::batch(&mut bytes, &batch, MAX_BATCH).is_ok()
            && let Err(error) = write(segment, &bytes)
        {
            tracing::warn!(%error, "which events were delivered is not in the failover log");
        }
    }
}

/// When a file that begins with `length` bytes should be looked at again.
pub(super) fn look_at(settings: &Settings, length: u64) -> u64 {
    settings.compact_at.max(4 * length)
}

/// Appends the bytes of a batch, whose events count on from `seq`, or says why not.
fn encode(mut batch: Batch, bytes: &mut Vec<u8>, seq: &mut u64) -> Result<Batch, String> {
    let mut next = *seq;
    for record in &mut batch.records {
        if let Record::Event(event) = record {
            event.seq = next;
            next += 1;
        }
    }
    match format::batch(bytes, &batch, MAX_BATCH) {
        Ok(()) => {
            *seq = next;
            Ok(batch)
        }
        Err(format::TooLarge(size)) => {
            Err(format!("{size} bytes at once are more than it takes ({MAX_BATCH})"))
        }
    }
}

fn write(segment: &mut Segment, bytes: &[u8]) -> io::Result<()> {
    failpoint("before_write");
    segment.sink.write(bytes)?;
    failpoint("after_write");
    segment.sink.sync()?;
    failpoint("after_sync");
    segment.length += bytes.len() as u64;
    Ok(())
}

fn refuse(answer: Option<oneshot::Sender<Result<(), NotDurable>>>, why: &str) {
    match answer {
        Some(answer) => {
            let _ = answer.send(Err(NotDurable::new(why))); // who asked may be gone
        }
        None => tracing::warn!(why, "something that nobody waits for is not in the failover log"),
    }
}
