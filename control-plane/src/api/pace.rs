//! When a watcher gets its next picture: after a change, not too soon after the one before, and now and then without a
//! change, so that it knows that the stream is alive. A slow reader sees fewer pictures, never older ones.

use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

/// The least time between two pictures on one stream.
pub(super) const FLOOR: Duration = Duration::from_millis(200);
/// A picture comes at least this often.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The pace of one watcher.
pub(super) struct Pace {
    changes: watch::Receiver<u64>,
    interval: Duration,
    /// The last picture: when it was taken, and the changes that it shows.
    sent: Option<(Instant, u64)>,
}

impl Pace {
    /// So long between two pictures, within what is allowed.
    pub fn new(changes: watch::Receiver<u64>, interval: Duration) -> Self {
        Self { changes, interval: interval.clamp(FLOOR, HEARTBEAT), sent: None }
    }

    /// Whether it is the first picture.
    pub fn is_first(&self) -> bool {
        self.sent.is_none()
    }

    /// The changes that a picture shows which is taken after this.
    pub fn shows(&self) -> u64 {
        *self.changes.borrow()
    }

    /// A picture was taken.
    pub fn sent(&mut self, taken: Instant, shows: u64) {
        self.sent = Some((taken, shows));
    }

    /// Returns when it is time for a picture. True: nothing has changed.
    pub async fn wait(&mut self) -> bool {
        let Some((taken, shown)) = self.sent else { return false };
        let changed = self.changes.wait_for(|count| *count != shown);
        let changed = timeout_at(taken + HEARTBEAT, changed).await.is_ok();
        if changed {
            sleep_until(taken + self.interval).await;
        }
        !changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pictures_come_with_changes_not_too_often_and_now_and_then_without() {
        let (changes, seen) = watch::channel(0);
        let mut pace = Pace::new(seen, Duration::from_secs(1));
        let start = Instant::now();
        assert!(!pace.wait().await && pace.is_first(), "the first one at once");
        pace.sent(Instant::now(), pace.shows());
        (0..5).for_each(|_| changes.send_modify(|count| *count += 1));
        assert!(!pace.wait().await);
        assert_eq!(start.elapsed(), Duration::from_secs(1), "five changes, one picture");
        // What changes while a picture is taken may not be in it.
        let shows = pace.shows();
        changes.send_modify(|count| *count += 1);
        pace.sent(Instant::now(), shows);
        assert!(!pace.wait().await);
        pace.sent(Instant::now(), pace.shows());
        assert!(pace.wait().await, "alive");
        assert_eq!(start.elapsed(), Duration::from_secs(12));
    }
}
