//! How many calls one endpoint gets at a time. Who comes while all places are taken waits in a queue of a bounded
//! length, first come first served, for a bounded time.

use crate::{
    failure::{Failure, Kind},
    metrics,
};
use o1_proto::model::Concurrency;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one endpoint.
#[derive(Debug)]
pub(super) struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicU32,
    queue: u32,
    wait: Duration,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub(super) struct Permit(#[expect(dead_code, reason = "its drop is its use")] OwnedSemaphorePermit);

/// One who waits; gone from the queue when dropped.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    /// `None`: there is no limit.
    pub(super) fn new(rules: &Concurrency) -> Option<Self> {
        let places = (rules.max? as usize).clamp(1, Semaphore::MAX_PERMITS);
        Some(Self {
            places: Arc::new(Semaphore::new(places)),
            waiting: AtomicU32::new(0),
            queue: rules.queue,
            wait: rules.wait,
        })
    }

    /// Whether there is a place at once.
    pub(super) fn is_free(&self) -> bool {
        self.places.available_permits() > 0
    }

    /// A place, perhaps after a wait.
    ///
    /// # Errors
    /// `Overloaded`: the queue is full, or the wait was too long. Nothing was sent.
    pub(super) async fn enter(&self, metrics: &Arc<metrics::Endpoint>) -> Result<Permit, Failure> {
        if let Ok(permit) = self.places.clone().try_acquire_owned() {
            return Ok(Permit(permit));
        }
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Waiting(&self.waiting);
        if waiting >= self.queue {
            metrics.refused();
            return Err(overloaded("the upstream has as many calls as it takes, and as many wait as may"));
        }
        let queued = metrics.queued();
        let entered = tokio::time::timeout(self.wait, self.places.clone().acquire_owned()).await;
        drop((queued, place));
        match entered {
            Ok(permit) => Ok(Permit(permit.expect("the places are never closed"))),
            Err(_) => {
                metrics.refused();
                Err(overloaded("the upstream has as many calls as it takes, and none ended in time"))
            }
        }
    }
}

fn overloaded(what: &'static str) -> Failure {
    Failure::new(Kind::Overloaded, format!("{what}: try again later")).unsent()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};

    const SECOND: Duration = Duration::from_secs(1);

    fn gate(max: u32, queue: u32) -> (Gate, Arc<metrics::Endpoint>) {
        let rules = Concurrency { max: Some(max), queue, wait: 10 * SECOND };
        (Gate::new(&rules).expect("there is a limit"), Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_served_in_the_order_in_which_they_came() {
        let (gate, metrics) = gate(1, 100);
        let first = gate.enter(&metrics).await.unwrap();
        let mut waiting: FuturesUnordered<_> = (0..20)
            .map(|number| {
                let mut wait = Box::pin(gate.enter(&metrics));
                assert!(wait.as_mut().now_or_never().is_none(), "it queues now");
                async move {
                    let permit = wait.await.unwrap();
                    tokio::time::sleep(SECOND / 10).await;
                    drop(permit);
                    number
                }
            })
            .collect();
        drop(first);
        let mut served = Vec::new();
        while let Some(number) = waiting.next().await {
            served.push(number);
        }
        assert_eq!(served, (0..20).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_at_once_and_a_long_wait_in_the_end() {
        let (gate, metrics) = gate(2, 1);
        let held = [gate.enter(&metrics).await.unwrap(), gate.enter(&metrics).await.unwrap()];
        assert!(!gate.is_free());
        let began = tokio::time::Instant::now();
        let mut waits = Box::pin(gate.enter(&metrics));
        assert!(waits.as_mut().now_or_never().is_none());
        let refused = gate.enter(&metrics).await.unwrap_err();
        assert_eq!((refused.kind, refused.is_unsent()), (Kind::Overloaded, true));
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(waits.await.unwrap_err().kind, Kind::Overloaded);
        assert_eq!(began.elapsed(), 10 * SECOND);
        drop(held);
        assert!(gate.enter(&metrics).now_or_never().unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_leaves_the_queue_and_takes_no_place_along() {
        let (gate, metrics) = gate(1, 1);
        let held = gate.enter(&metrics).await.unwrap();
        for _ in 0..5 {
            assert!(
                tokio::time::timeout(SECOND, gate.enter(&metrics)).await.is_err(),
                "its turn in the queue"
            );
        }
        let mut last = Box::pin(gate.enter(&metrics));
        assert!(last.as_mut().now_or_never().is_none(), "the place in the queue is free again");
        drop(held);
        drop(last);
        assert!(gate.is_free());
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }
}
