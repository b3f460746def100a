//! Every open session, by its id.

use crate::{
    call::{Serial, Session, SessionId},
    metrics::Metrics,
};
use std::{
    collections::HashMap,
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

    /// Takes a session in under an id. If there is one already (two requests brought an id from another node at
    /// once), that one stays, and is what this returns.
    pub(super) fn insert(&self, id: SessionId, session: Arc<Session>) -> Arc<Session> {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        session.set_id(id.clone());
        let held = by_id.entry(id).or_insert(session).clone();
        self.count(by_id.len());
        held
    }

    pub(super) fn remove(&self, session: &Session) {
        let Some(id) = session.id() else { return };
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

/// A serial that is never minted twice: 128 bits of the system's randomness.
pub(super) fn mint() -> Serial {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).expect("the system has randomness");
    serial
}
