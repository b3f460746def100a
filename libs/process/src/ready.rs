//! Whether the process may be sent work: everything that must come up first has registered and reported, and
//! no drain has begun.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// A handle to the one answer of a process; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    pending: Mutex<Vec<&'static str>>,
    draining: AtomicBool,
    ordered: AtomicBool,
}

impl Readiness {
    /// Nothing to wait for, not draining: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The process is not ready before the guard is dropped. `name` is what an operator reads: `config`.
    #[must_use = "the process counts as ready once the guard is dropped"]
    pub fn register(&self, name: &'static str) -> ReadyGuard {
        self.pending_mut().push(name);
        ReadyGuard { readiness: self.clone(), name }
    }

    /// Nothing is pending and no drain has begun.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_draining() && self.pending_mut().is_empty()
    }

    /// What has not reported yet, in the order of registration.
    #[must_use]
    pub fn pending(&self) -> Vec<&'static str> {
        self.pending_mut().clone()
    }

    /// The process takes no new work from now on. There is no way back.
    pub fn set_draining(&self) {
        self.state.draining.store(true, Ordering::Release);
    }

    /// Somebody who may say so wants the process to take no new work, or to take it again. True: that is news.
    pub fn order_drain(&self, drain: bool) -> bool {
        self.state.ordered.swap(drain, Ordering::AcqRel) != drain
    }

    /// What [`Readiness::order_drain`] said last.
    #[must_use]
    pub fn is_drain_ordered(&self) -> bool {
        self.state.ordered.load(Ordering::Acquire)
    }

    /// Whether a drain has begun, or was ordered.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.state.draining.load(Ordering::Acquire) || self.is_drain_ordered()
    }

    fn pending_mut(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.state.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by what is still starting; dropped when it has started.
#[derive(Debug)]
pub struct ReadyGuard {
    readiness: Readiness,
    name: &'static str,
}

impl Drop for ReadyGuard {
    fn drop(&mut self) {
        let mut pending = self.readiness.pending_mut();
        if let Some(index) = pending.iter().position(|name| *name == self.name) {
            pending.remove(index);
        }
        drop(pending);
        tracing::debug!(part = self.name, "ready");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_ready_when_the_last_guard_is_gone() {
        let readiness = Readiness::new();
        let (config, listener) = (readiness.register("config"), readiness.register("listener"));
        assert_eq!(readiness.pending(), ["config", "listener"]);
        drop(config);
        assert_eq!(readiness.pending(), ["listener"]);
        assert!(!readiness.is_ready());
        drop(listener);
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_drain_by_order_can_be_taken_back_and_one_that_ends_the_process_cannot() {
        let readiness = Readiness::new();
        assert!(readiness.order_drain(true) && !readiness.order_drain(true), "it is news once");
        assert!(readiness.is_draining() && !readiness.is_ready());
        assert!(readiness.order_drain(false) && readiness.is_ready());
        readiness.set_draining();
        readiness.order_drain(false);
        assert!(readiness.is_draining() && !readiness.is_drain_ordered());
    }

    #[test]
    fn two_guards_of_one_name_count_twice() {
        let readiness = Readiness::new();
        let (first, second) = (readiness.register("upstream"), readiness.register("upstream"));
        drop(first);
        assert!(!readiness.is_ready());
        drop(second);
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_draining_process_is_not_ready_whatever_else_is_true() {
        let readiness = Readiness::new();
        readiness.clone().set_draining();
        assert!(readiness.is_draining() && !readiness.is_ready());
    }
}
