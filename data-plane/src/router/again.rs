//! How long to wait before an upstream is asked for its stream once more.

use o1_process::Backoff;
use std::time::Duration;
use tokio::time::Instant;

/// A stream that lasted this long was not a failure.
const LASTED: Duration = Duration::from_secs(10);
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// The jitter may choose nothing at all; that would be a loop.
const LEAST: Duration = Duration::from_millis(50);

/// See the module.
pub(super) struct Again(Backoff);

impl Again {
    pub fn new() -> Self {
        Self(Backoff::new(WAITS.0, WAITS.1))
    }

    /// The wait after a stream that was asked for at this moment.
    pub fn after(&mut self, began: Instant) -> Duration {
        if began.elapsed() >= LASTED {
            self.0.reset();
        }
        self.0.next().max(LEAST)
    }

    /// Another store answers from now on, of which nothing is known.
    pub fn moved(&mut self) {
        self.0.reset();
    }
}
