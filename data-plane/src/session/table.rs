//! Every open session, by id.

use crate::{
    call::{Session, SessionId},
    metrics::Metrics,
};
use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering},
};

pub(super) struct Table {
    by_id: RwLock<HashMap<SessionId, Arc<Session>>>,
    metrics: Arc<Metrics>,
}

impl Table {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        Self { by_id: RwLock::default(), metrics: metrics.clone() }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn insert(&self, session: Arc<Session>) {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.insert(session.id.clone(), session);
        self.count(by_id.len());
    }

    pub(super) fn remove(&self, id: &str) {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.remove(id);
        self.count(by_id.len());
    }

    pub(super) fn drain(&self) -> Vec<Arc<Session>> {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        self.count(0);
        by_id.drain().map(|(_, session)| session).collect()
    }

    fn count(&self, len: usize) {
        self.metrics.sessions.store(i64::try_from(len).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

/// An id that cannot be guessed: 128 bits of the system's randomness.
pub(super) fn mint() -> SessionId {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes.iter().fold(String::with_capacity(32), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}
