//! The legacy sessions with one endpoint that calls of modern clients share: opened when needed, again when lost,
//! closed when nobody has used them for a while.

use super::line::{Line, Note, Seat, Sharers};
use crate::{
    call::Backend,
    failure::{Failure, Kind},
    joint::Joint,
    mcp::{Message, era, own},
};
use o1_process::{OnExit, Tasks};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{broadcast, mpsc},
    time::Instant,
};

/// How long a session that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(60);
/// Sessions with one endpoint at a time. A call more finds no place.
const LINES_MAX: usize = 256;
/// What servers said by themselves and a subscription has not read yet.
const NOTES_MAX: usize = 256;

/// The sessions with one endpoint.
pub(super) struct Pool<B: Backend> {
    native: Arc<B>,
    tasks: Tasks,
    groups: Mutex<HashMap<Sharers, Arc<Group<B::Link>>>>,
    next: AtomicU64,
    notes: broadcast::Sender<Note>,
    is_swept: AtomicBool,
}

/// The sessions of those who may share them.
struct Group<L: crate::call::Link> {
    /// The one that serves them, or the first where each serves one call at a time.
    first: Joint<Arc<Line<L>>>,
    more: Mutex<Vec<Arc<Line<L>>>>,
}

impl<L: crate::call::Link> Group<L> {
    fn more(&self) -> MutexGuard<'_, Vec<Arc<Line<L>>>> {
        self.more.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> Vec<Arc<Line<L>>> {
        let first = self.first.peek().filter(|line| line.is_open());
        first.into_iter().chain(self.more().iter().cloned()).collect()
    }
}

impl<B: Backend> Pool<B> {
    pub(super) fn new(native: Arc<B>, tasks: &Tasks) -> Arc<Self> {
        Arc::new(Self {
            native,
            tasks: tasks.clone(),
            groups: Mutex::default(),
            next: AtomicU64::new(0),
            notes: broadcast::Sender::new(NOTES_MAX),
            is_swept: AtomicBool::new(false),
        })
    }

    /// What servers say by themselves from now on.
    pub(super) fn notes(&self) -> broadcast::Receiver<Note> {
        self.notes.subscribe()
    }

    /// A session, for what needs no place of its own on it.
    pub(super) async fn line(self: &Arc<Self>, sharers: &Sharers) -> Result<Arc<Line<B::Link>>, Failure> {
        self.group(sharers).first.get(|line| line.is_open(), self.open(sharers)).await
    }

    /// A place for a call; see [`Line::seat`].
    pub(super) async fn seat(
        self: &Arc<Self>,
        sharers: &Sharers,
        can_be_asked: bool,
    ) -> Result<(Seat<B::Link>, mpsc::Receiver<Message>), Failure> {
        let group = self.group(sharers);
        if let Some(seat) = self.line(sharers).await?.seat(can_be_asked) {
            return Ok(seat);
        }
        let free = |line: &Arc<Line<B::Link>>| line.is_open().then(|| line.seat(can_be_asked))?;
        let found = group.more().iter().find_map(free);
        if let Some(seat) = found {
            return Ok(seat);
        }
        let line = self.open(sharers).await?;
        let seat = line.seat(can_be_asked).ok_or_else(|| {
            Failure::new(Kind::Unreachable, "the upstream ended the session right after it was opened")
        })?;
        group.more().push(line);
        Ok(seat)
    }

    /// Ends every session.
    pub(super) async fn close(&self) {
        let groups: Vec<_> = self.groups().drain().map(|(_, group)| group).collect();
        let lines: Vec<_> = groups.iter().flat_map(|group| group.lines()).collect();
        futures_util::future::join_all(lines.iter().map(|line| line.close())).await;
    }

    /// True when there is no session.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.groups().is_empty()
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<Sharers, Arc<Group<B::Link>>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn group(&self, sharers: &Sharers) -> Arc<Group<B::Link>> {
        let group = || Arc::new(Group { first: Joint::default(), more: Mutex::default() });
        self.groups().entry(sharers.clone()).or_insert_with(group).clone()
    }

    async fn open(self: &Arc<Self>, sharers: &Sharers) -> Result<Arc<Line<B::Link>>, Failure> {
        self.sweep_from_now_on();
        let groups: Vec<_> = self.groups().values().cloned().collect();
        let lines: Vec<_> = groups.iter().flat_map(|group| group.lines()).collect();
        if lines.len() >= LINES_MAX {
            let idle = lines
                .iter()
                .filter_map(|line| Some((line.idle_since()?, line)))
                .min_by_key(|(since, _)| *since);
            match idle {
                Some((since, idle)) if idle.retire(since) => idle.close().await,
                _ => {
                    let words = format!("{LINES_MAX} sessions with the upstream are in use; try again later");
                    return Err(Failure::new(Kind::Unreachable, words));
                }
            }
        }
        let link = self.native.open(&own::initialize(b"0", era::LEGACY[0], &sharers.declared)).await?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(Line::new(id, link, sharers.clone(), self.notes.clone(), &self.tasks))
    }

    fn sweep_from_now_on(self: &Arc<Self>) {
        if self.is_swept.swap(true, Ordering::AcqRel) {
            return;
        }
        let (pool, stopping) = (Arc::downgrade(self), self.tasks.stopping());
        self.tasks.spawn("close idle legacy sessions", OnExit::Quiet, async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(IDLE / 4) => {}
                    () = stopping.cancelled() => return,
                }
                if !sweep(&pool).await {
                    return;
                }
            }
        });
    }
}

impl<B: Backend> Drop for Pool<B> {
    fn drop(&mut self) {
        for group in self.groups().values() {
            group.lines().iter().for_each(|line| line.closed.cancel());
        }
    }
}

/// Closes what has been idle for long; false when the pool is gone.
async fn sweep<B: Backend>(pool: &Weak<Pool<B>>) -> bool {
    let Some(pool) = pool.upgrade() else { return false };
    let limit = Instant::now().checked_sub(IDLE);
    let mut over = Vec::new();
    pool.groups().retain(|_, group| {
        let lines = group.lines();
        over.extend(lines.iter().filter(|line| limit.is_some_and(|limit| line.retire(limit))).cloned());
        group.more().retain(|line| line.is_open());
        // Held by somebody else: it is being used this very moment.
        lines.iter().any(|line| line.is_open()) || Arc::strong_count(group) > 1
    });
    futures_util::future::join_all(over.iter().map(|line| line.close())).await;
    true
}
