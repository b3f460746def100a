//! The sessions that ended here, so that their ids, which can be opened for as long as they live, stay ended.
//! Bounded: where more sessions end than are remembered, the ones that ended first are forgotten first.

use crate::call::Serial;
use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

/// How many are remembered: some MiB.
const MAX: usize = 1 << 16;

#[derive(Default)]
pub(super) struct Ended(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    known: HashSet<Serial>,
    order: VecDeque<Serial>,
}

impl Ended {
    pub(super) fn insert(&self, serial: Serial) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.known.insert(serial) {
            return;
        }
        inner.order.push_back(serial);
        if inner.order.len() > MAX
            && let Some(first) = inner.order.pop_front()
        {
            inner.known.remove(&first);
        }
    }

    pub(super) fn contains(&self, serial: &Serial) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known.contains(serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered_and_the_memory_is_bounded() {
        let ended = Ended::default();
        let serial = |n: usize| (n as u128).to_be_bytes();
        for n in 0..MAX + 10 {
            ended.insert(serial(n));
            ended.insert(serial(n));
        }
        assert!(!ended.contains(&serial(9)) && ended.contains(&serial(10)));
        assert!(ended.contains(&serial(MAX + 9)) && !ended.contains(&serial(MAX + 10)));
        let inner = ended.0.lock().unwrap();
        assert_eq!((inner.known.len(), inner.order.len()), (MAX, MAX));
    }
}
