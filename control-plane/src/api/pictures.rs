//! The pictures that watchers of the status get: taken and encoded for all of them together, at most one each [`FLOOR`], so that
//! many watchers cost little more than one.
//!
//! This module must never hand out a picture that is older than that, nor an older one after a newer one.

use super::{encode, pace::FLOOR};
use crate::{clock::Now, status::Board};
use prost::{Message as _, bytes::Bytes};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// One picture.
pub(super) struct Picture {
    /// A `FleetStatus`.
    pub encoded: Bytes,
    /// When.
    pub taken: Instant,
    /// It shows the fleet after so many changes, or more.
    pub shows: u64,
}

/// See the module.
pub(super) struct Pictures {
    board: Board,
    latest: Mutex<Option<Arc<Picture>>>,
}

impl Pictures {
    pub fn of(board: Board) -> Self {
        Self { board, latest: Mutex::default() }
    }

    /// The newest picture, or a new one where that has become old.
    pub fn recent(&self) -> Arc<Picture> {
        let mut latest = self.latest();
        match &*latest {
            Some(picture) if picture.taken.elapsed() < FLOOR => picture.clone(),
            _ => self.take(&mut latest),
        }
    }

    /// A new picture.
    pub fn fresh(&self) -> Arc<Picture> {
        self.take(&mut self.latest())
    }

    /// Under the lock: who waits for it gets this one.
    fn take(&self, latest: &mut Option<Arc<Picture>>) -> Arc<Picture> {
        // First the count: what changes meanwhile may not be in the picture.
        let shows = *self.board.changes().borrow();
        let (taken, status) = (Instant::now(), encode::fleet(self.board.fleet(Now::read())));
        let picture = Arc::new(Picture { encoded: status.encode_to_vec().into(), taken, shows });
        *latest = Some(picture.clone());
        picture
    }

    fn latest(&self) -> MutexGuard<'_, Option<Arc<Picture>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
