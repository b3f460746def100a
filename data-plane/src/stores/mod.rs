//! Which store of an upstream serves at this moment, and how the stores are: what the failover path decides and the
//! data path obeys. A leaf: both meet here and nowhere else.
//!
//! [`Gate`] is one upstream's: calls come in by [`Gate::admit`], the failover path moves them by [`Gate::set`] and
//! waits until those that went elsewhere are gone. [`Health`] is what probes and breakers say of one store.
//!
//! It must never decide where calls should go: it counts them, holds them back and tells them.

mod gate;
mod health;
mod journal;
mod meta;
mod notice;

pub use gate::{Admitted, Barrier, Gate, Intent, Standing};
pub use health::Health;
pub use journal::{Journal, Kept};
pub use meta::{Answer, META_FAILOVER, Source, mark, meta, put, rfc3339};
pub use notice::{News, Notice};

use crate::plan::Plan;
use notice::Told;
use o1_proto::model::Store;
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::sync::broadcast;

/// Notices that a slow listener may be behind.
const NOTICES: usize = 64;

/// The gates of every upstream, by name. They outlive plans: where an upstream stands does not change because its
/// timeouts do.
pub struct Stores {
    gates: RwLock<HashMap<String, Arc<Gate>>>,
    notices: broadcast::Sender<Notice>,
    told: Told,
    journal: OnceLock<Arc<dyn Journal>>,
    /// How many gates do not stand at their primary.
    away: Arc<AtomicUsize>,
}

impl Default for Stores {
    fn default() -> Self {
        let notices = broadcast::Sender::new(NOTICES);
        Self {
            gates: RwLock::default(),
            notices,
            told: Told::default(),
            journal: OnceLock::new(),
            away: Arc::default(),
        }
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").field("gates", &self.gates).finish_non_exhaustive()
    }
}

impl Stores {
    /// The gate of this upstream; a new one stands at the primary.
    #[must_use]
    pub fn gate(&self, upstream: &str) -> Arc<Gate> {
        if let Some(gate) = self.gates.read().unwrap_or_else(PoisonError::into_inner).get(upstream) {
            return gate.clone();
        }
        let mut gates = self.gates.write().unwrap_or_else(PoisonError::into_inner);
        gates
            .entry(upstream.to_owned())
            .or_insert_with(|| Arc::new(Gate::new(upstream, self.away.clone())))
            .clone()
    }

    /// Tells whoever passes it on to clients.
    pub fn tell(&self, notice: Notice) {
        // Nobody listens: nobody is there to be told.
        let _ = self.notices.send(notice);
    }

    /// What clients should hear, from now on.
    #[must_use]
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// Notes that one client was told of a change of this upstream.
    pub fn told(&self, upstream: &str) {
        self.told.note(upstream);
    }

    /// Who hears how many clients were told of a change of an upstream, once.
    pub fn set_told(&self, told: impl Fn(&str, u64) + Send + Sync + 'static) {
        self.told.hook(Box::new(told));
    }

    /// Waits until clients were told, and for others that are told at about the same time; then passes the counts on.
    pub async fn gather_told(&self) {
        self.told.gather().await;
    }

    /// Where writes are kept while the primary is away; `None`: nowhere.
    #[must_use]
    pub fn journal(&self) -> Option<&Arc<dyn Journal>> {
        self.journal.get()
    }

    /// Gives it its journal, once.
    pub fn set_journal(&self, journal: Arc<dyn Journal>) {
        let _ = self.journal.set(journal);
    }

    /// Whether the active store of this upstream is not its primary. Costs next to nothing while all stand at theirs.
    #[must_use]
    pub fn is_away(&self, upstream: &str) -> bool {
        self.away.load(Relaxed) > 0 && self.gate(upstream).standing().active == Store::Backup
    }

    /// Forgets upstreams that the plan does not name, but for those that do not stand at their primary: they will,
    /// should they come back.
    pub fn retain(&self, plan: &Plan) {
        let mut gates = self.gates.write().unwrap_or_else(PoisonError::into_inner);
        let is_home = |gate: &Gate| gate.standing().active == Store::Primary;
        gates.retain(|name, gate| plan.upstream(name).is_some() || !is_home(gate));
    }
}
