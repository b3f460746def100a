//! Calls that wait for answers of their clients. Bounded in number and in time: a call whose time is over is
//! cancelled at the server.

use super::{envelope::Asked, exchange::Exchange};
use crate::{
    call::Backend,
    failure::{Failure, Kind},
    plan::Key,
    principal::Principal,
    seal::{Keyring, Purpose},
};
use o1_process::{AbortOnDrop, OnExit, TaskHandle, Tasks};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How long a client may take for one round of answers.
const ROUND: Duration = Duration::from_secs(10 * 60);
/// Calls that wait on this node, of all clients.
const PARKED_MAX: usize = 1024;
/// What a `requestState` of ours begins with inside, so that no other token is taken for one.
const MARK: &[u8; 4] = b"o1p1";

/// Where calls of every endpoint wait: a client's answers may come by another endpoint than its question went.
pub(super) struct Parked<B: Backend> {
    /// Tells a state of this process from one of another node, or of this one before it was started again.
    instance: [u8; 16],
    tasks: Tasks,
    keyring: Arc<Keyring>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting<B>>>,
}

struct Waiting<B: Backend> {
    exchange: Exchange<B>,
    binding: [u8; 32],
    /// Ends its wait.
    _clock: AbortOnDrop,
}

/// Who asked, for whom a state is.
pub(super) struct Holder<'a> {
    pub(super) upstream: &'a Key,
    pub(super) principal: &'a Principal,
}

impl<B: Backend> Parked<B> {
    pub(super) fn new(tasks: &Tasks, keyring: &Arc<Keyring>) -> Arc<Self> {
        let mut instance = [0; 16];
        getrandom::fill(&mut instance).expect("the system has random numbers");
        Arc::new(Self {
            instance,
            tasks: tasks.clone(),
            keyring: keyring.clone(),
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
        })
    }

    /// Keeps a call; the state that finds it again, once.
    pub(super) fn keep(
        self: &Arc<Self>,
        exchange: Exchange<B>,
        holder: &Holder<'_>,
    ) -> Result<String, Failure> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let binding = binding(holder.upstream, &exchange.asked);
        {
            let mut waiting = self.waiting();
            if waiting.len() >= PARKED_MAX {
                let words = "as many calls as may wait for answers of their clients do; try again later";
                return Err(Failure::new(Kind::TooManySessions, words));
            }
            let _clock = self.clock(id).abort_on_drop();
            waiting.insert(id, Waiting { exchange, binding, _clock });
        }
        let mut inside = Vec::with_capacity(28);
        inside.extend_from_slice(MARK);
        inside.extend_from_slice(&self.instance);
        inside.extend_from_slice(&id.to_be_bytes());
        Ok(self.keyring.seal(Purpose::RequestState, holder.principal, &inside))
    }

    /// Ends the wait of a call whose client does not come back.
    fn clock(self: &Arc<Self>, id: u64) -> TaskHandle {
        let (parked, stopping) = (Arc::downgrade(self), self.tasks.stopping());
        self.tasks.spawn("a call waits for its client", OnExit::Quiet, async move {
            tokio::select! {
                () = tokio::time::sleep(ROUND) => {}
                () = stopping.cancelled() => {}
            }
            let over = parked.upgrade().and_then(|parked| parked.waiting().remove(&id));
            // Dropping it tells the server.
            drop(over);
        })
    }

    /// The call that a state is of, if the answers in `asked` can be for it. It stays where it is otherwise.
    pub(super) fn find(&self, asked: &Asked, holder: &Holder<'_>) -> Result<Exchange<B>, Failure> {
        let unknown = || {
            Failure::new(
                Kind::InvalidParams,
                "`requestState` is unknown or too old; the call it belonged to may have run",
            )
        };
        let id = asked
            .state
            .as_deref()
            .and_then(|state| self.keyring.open(Purpose::RequestState, holder.principal, state))
            .and_then(|inside| {
                let id = inside.strip_prefix(MARK)?.strip_prefix(&self.instance)?;
                Some(u64::from_be_bytes(id.try_into().ok()?))
            })
            .ok_or_else(unknown)?;
        let mut waiting = self.waiting();
        let found = waiting.get(&id).filter(|found| found.binding == binding(holder.upstream, asked));
        for input in &found.ok_or_else(unknown)?.exchange.pending {
            if let Some(given) = asked.given.get(&input.key) {
                input.answered(given)?;
            }
        }
        waiting.remove(&id).map(|found| found.exchange).ok_or_else(unknown)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting<B>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a state is for beside its principal: one upstream, one method, one name.
fn binding(upstream: &Key, asked: &Asked) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(upstream);
    for part in [&asked.method, &asked.name] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().into()
}
