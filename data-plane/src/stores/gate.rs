//! Where one upstream's calls go, who is on the way there, and who waits.
//!
//! A call is counted under the same lock under which it is told where to go, so whoever moves the calls and then
//! waits for the count of the store they left sees each of them.

use super::Health;
use crate::failure::{Failure, Kind};
use o1_proto::model::{Phase, Store};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// How long a call waits while calls are held back.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a call is to a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// It changes nothing at the server; handshakes and whatever belongs to a session, too.
    Read,
    /// It may.
    Write,
    /// It has no end of its own.
    Stream,
    /// It belongs to what is on its way already, an answer or a cancellation, and is never held back.
    Aside,
}

/// Who is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Barrier {
    /// Nobody.
    #[default]
    Open,
    /// Whoever may change something.
    Writes,
    /// Everybody.
    Everything,
}

/// Where calls go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The store that the node's log calls active. Writes go there, or nowhere.
    pub active: Store,
    /// Where reads go.
    pub reads: Store,
    /// Who is held back.
    pub barrier: Barrier,
    /// What the node is doing.
    pub phase: Phase,
    /// Of the directive behind it.
    pub term: u64,
    /// What the node did by itself since.
    pub local_term: u64,
    /// Since when something other than the primary answers.
    pub since: Option<SystemTime>,
}

/// One upstream's. See the module.
#[derive(Debug)]
pub struct Gate {
    /// The name of the upstream.
    pub upstream: String,
    inner: Mutex<Inner>,
    /// Counts moves of reads or writes from one store to the other: what was answered before one says nothing after.
    moves: AtomicU64,
    changed: watch::Sender<u64>,
    left: Notify,
    /// Counts the gates of all upstreams that do not stand at their primary.
    away: Arc<AtomicUsize>,
    health: [Health; 2],
}

#[derive(Debug, Default)]
struct Inner {
    standing: Arc<Standing>,
    /// Cancelled when reads, or writes, of that store go elsewhere: streams and calls without an end go with it.
    moved: [CancellationToken; 2],
    /// Cancelled when nobody waits for the calls of that store any longer.
    cut: [CancellationToken; 2],
    /// Calls on the way, by store: those that only read, and others.
    reads: [u64; 2],
    writes: [u64; 2],
}

fn at(store: Store) -> usize {
    match store {
        Store::Primary => 0,
        Store::Backup => 1,
    }
}

impl Gate {
    /// At the primary, open.
    pub(super) fn new(upstream: &str, away: Arc<AtomicUsize>) -> Self {
        Self {
            upstream: upstream.to_owned(),
            inner: Mutex::default(),
            moves: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            left: Notify::new(),
            away,
            health: [Health::default(), Health::default()],
        }
    }

    /// One that belongs to nobody, for tests of other modules.
    #[cfg(test)]
    pub(crate) fn for_tests(upstream: &str) -> Self {
        Self::new(upstream, Arc::default())
    }

    /// What is known of a store.
    #[must_use]
    pub fn health(&self, store: Store) -> &Health {
        &self.health[at(store)]
    }

    /// Where calls go now.
    #[must_use]
    pub fn standing(&self) -> Arc<Standing> {
        self.lock().standing.clone()
    }

    /// Counts moves from one store to the other. Answers of before a move are not answers of after it.
    #[must_use]
    pub fn moves(&self) -> u64 {
        self.moves.load(Relaxed)
    }

    /// Woken after each change of where calls go.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Sends calls elsewhere from now on. Only the failover path does.
    pub fn set(&self, standing: Standing) {
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.standing, Arc::new(standing));
        let now = inner.standing.clone();
        match (before.active, now.active) {
            (Store::Primary, Store::Backup) => drop(self.away.fetch_add(1, Relaxed)),
            (Store::Backup, Store::Primary) => drop(self.away.fetch_sub(1, Relaxed)),
            _ => {}
        }
        if (before.reads, before.active) != (now.reads, now.active) {
            self.moves.fetch_add(1, Relaxed);
            for store in [Store::Primary, Store::Backup] {
                if store != now.reads {
                    std::mem::take(&mut inner.moved[at(store)]).cancel();
                }
            }
        }
        drop(inner);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Lets a call in, perhaps after a wait.
    ///
    /// # Errors
    /// `Overloaded`, unsent: calls were held back for too long.
    pub async fn admit(self: &Arc<Self>, intent: Intent) -> Result<Admitted, Failure> {
        let mut changes = self.changed.subscribe();
        let patience = Instant::now() + PATIENCE;
        loop {
            changes.mark_unchanged();
            if let Some(admitted) = self.enter(intent) {
                return Ok(admitted);
            }
            if timeout_at(patience, changes.changed()).await.is_err() {
                let what = "the upstream is changing over to its other store and did not finish in time";
                return Err(Failure::new(Kind::Overloaded, format!("{what}: try again")).unsent());
            }
        }
    }

    fn enter(self: &Arc<Self>, intent: Intent) -> Option<Admitted> {
        let mut inner = self.lock();
        let standing = inner.standing.clone();
        let held = match standing.barrier {
            Barrier::Open => false,
            Barrier::Writes => intent == Intent::Write,
            Barrier::Everything => intent != Intent::Aside,
        };
        if held {
            return None;
        }
        let to_active = matches!(intent, Intent::Write | Intent::Aside);
        let store = if to_active { standing.active } else { standing.reads };
        match intent {
            Intent::Write => inner.writes[at(store)] += 1,
            Intent::Read => inner.reads[at(store)] += 1,
            Intent::Stream | Intent::Aside => {}
        }
        let (moved, cut) = (inner.moved[at(store)].clone(), inner.cut[at(store)].clone());
        let moves = self.moves();
        Some(Admitted { gate: self.clone(), store, intent, standing, moves, moved, cut })
    }

    /// Waits until no call is on its way to a store. True: none is; false: not by `deadline`.
    pub async fn drained(&self, store: Store, deadline: Instant) -> bool {
        self.wait_until(deadline, |inner| inner.reads[at(store)] + inner.writes[at(store)] == 0).await
    }

    /// The same of those that may change something.
    pub async fn writes_drained(&self, store: Store, deadline: Instant) -> bool {
        self.wait_until(deadline, |inner| inner.writes[at(store)] == 0).await
    }

    async fn wait_until(&self, deadline: Instant, is: impl Fn(&Inner) -> bool) -> bool {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if is(&self.lock()) {
                return true;
            }
            if timeout_at(deadline, left).await.is_err() {
                return is(&self.lock());
            }
        }
    }

    /// Ends what is still on its way to a store: nobody knows whether it ran.
    pub fn cut(&self, store: Store) {
        std::mem::take(&mut self.lock().cut[at(store)]).cancel();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that was let in; on its way until it is dropped.
#[derive(Debug)]
pub struct Admitted {
    gate: Arc<Gate>,
    /// Where it goes.
    pub store: Store,
    intent: Intent,
    /// How things stood when it was let in.
    pub standing: Arc<Standing>,
    moves: u64,
    moved: CancellationToken,
    cut: CancellationToken,
}

impl Admitted {
    /// Cancelled when nobody waits for it any longer.
    #[must_use]
    pub fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// Cancelled when such calls go to the other store.
    #[must_use]
    pub fn moved(&self) -> CancellationToken {
        self.moved.clone()
    }

    /// Whether calls go elsewhere than when it was let in.
    #[must_use]
    pub fn is_past(&self) -> bool {
        self.gate.moves() != self.moves
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if matches!(self.intent, Intent::Stream | Intent::Aside) {
            return;
        }
        let mut inner = self.gate.lock();
        let counts = if self.intent == Intent::Write { &mut inner.writes } else { &mut inner.reads };
        counts[at(self.store)] -= 1;
        let empty = counts[at(self.store)] == 0;
        drop(inner);
        if empty {
            self.gate.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    const SECOND: Duration = Duration::from_secs(1);

    fn gate() -> Arc<Gate> {
        Arc::new(Gate::for_tests("x"))
    }

    fn standing(active: Store, reads: Store, barrier: Barrier) -> Standing {
        Standing { active, reads, barrier, ..Standing::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn reads_and_writes_go_where_they_are_sent() {
        let gate = gate();
        let stores = async |gate: &Arc<Gate>| {
            let (read, write) = (gate.admit(Intent::Read).await, gate.admit(Intent::Write).await);
            (read.unwrap().store, write.unwrap().store)
        };
        assert_eq!(stores(&gate).await, (Store::Primary, Store::Primary));
        gate.set(standing(Store::Primary, Store::Backup, Barrier::Open));
        assert_eq!(stores(&gate).await, (Store::Backup, Store::Primary));
        gate.set(standing(Store::Backup, Store::Backup, Barrier::Open));
        assert_eq!(stores(&gate).await, (Store::Backup, Store::Backup));
        assert_eq!(gate.moves(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_moves_the_calls_sees_each_that_went_before() {
        let gate = gate();
        let call = gate.admit(Intent::Write).await.unwrap();
        gate.set(standing(Store::Primary, Store::Primary, Barrier::Everything));
        let mut drained = Box::pin(gate.drained(Store::Primary, Instant::now() + 10 * SECOND));
        assert!(drained.as_mut().now_or_never().is_none());
        drop(call);
        assert_eq!(drained.now_or_never(), Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_held_back_waits_and_is_let_in_or_refused_as_unsent() {
        let gate = gate();
        gate.set(standing(Store::Primary, Store::Primary, Barrier::Writes));
        assert!(gate.admit(Intent::Read).now_or_never().is_some(), "reads are not held");
        let mut write = Box::pin(gate.admit(Intent::Write));
        assert!(write.as_mut().now_or_never().is_none());
        gate.set(standing(Store::Backup, Store::Backup, Barrier::Open));
        assert_eq!(write.await.unwrap().store, Store::Backup);
        gate.set(standing(Store::Backup, Store::Backup, Barrier::Everything));
        let refused = gate.admit(Intent::Read).await.unwrap_err();
        assert_eq!((refused.kind, refused.is_unsent()), (Kind::Overloaded, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_does_not_end_is_cut_and_streams_go_with_the_move() {
        let gate = gate();
        let (call, stream) =
            (gate.admit(Intent::Read).await.unwrap(), gate.admit(Intent::Stream).await.unwrap());
        assert!(!gate.drained(Store::Primary, Instant::now() + SECOND).await, "it hangs");
        gate.set(standing(Store::Backup, Store::Backup, Barrier::Open));
        assert!(stream.moved().is_cancelled() && call.is_past() && !call.cut().is_cancelled());
        gate.cut(Store::Primary);
        assert!(call.cut().is_cancelled());
        let next = gate.admit(Intent::Read).await.unwrap();
        assert!(!next.moved().is_cancelled() && !next.cut().is_cancelled() && !next.is_past());
    }

    #[test]
    fn a_word_that_says_nothing_new_wakes_nobody() {
        use o1_proto::model::{StoreHealth, Verdict};
        let gate = gate();
        let watch = gate.health(Store::Primary).watch();
        let healthy = StoreHealth { verdict: Verdict::Healthy, consecutive: 1, ..StoreHealth::default() };
        gate.health(Store::Primary).tell(healthy.clone());
        assert!(watch.has_changed().unwrap());
        let mut watch = gate.health(Store::Primary).watch();
        watch.mark_unchanged();
        gate.health(Store::Primary).tell(StoreHealth { consecutive: 2, ..healthy });
        assert!(!watch.has_changed().unwrap());
        assert_eq!(gate.health(Store::Primary).now().consecutive, 2);
    }
}
