//! How soon a process that ended is started again.

use o1_process::Backoff;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// A process that lived this long did not fail to start: it is replaced at once.
const SETTLED: Duration = Duration::from_secs(10);
/// A process that lived this long makes earlier failures forgotten.
const STEADY: Duration = Duration::from_secs(60);

/// Counts the failures of one process slot. Never gives up.
pub(super) struct Pace {
    backoff: Backoff,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { backoff: Backoff::new(FIRST, LONGEST) }
    }

    /// The wait after a start that failed.
    pub(super) fn failed(&mut self) -> Duration {
        self.backoff.next()
    }

    /// The wait after the end of a process that had started.
    pub(super) fn ended(&mut self, lived: Duration) -> Duration {
        if lived >= STEADY {
            self.backoff.reset();
        }
        if lived >= SETTLED { Duration::ZERO } else { self.backoff.next() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_loop_is_slowed_down_to_half_a_minute_and_no_further() {
        let mut pace = Pace::new();
        let waits: Vec<Duration> = (0..200).map(|_| pace.ended(Duration::from_secs(1))).collect();
        assert!(waits[0] <= FIRST && waits.iter().all(|wait| *wait <= LONGEST), "{waits:?}");
        assert!(waits[20..].iter().any(|wait| *wait > LONGEST / 2), "it never slowed down: {waits:?}");
    }

    #[test]
    fn a_process_that_settled_is_replaced_at_once_and_a_steady_one_starts_over() {
        let mut pace = Pace::new();
        assert!((0..50).any(|_| pace.failed() > FIRST));
        assert_eq!(pace.ended(SETTLED), Duration::ZERO);
        assert!((0..50).any(|_| pace.failed() > FIRST), "ten seconds do not make fifty failures forgotten");
        assert_eq!(pace.ended(STEADY), Duration::ZERO);
        assert!(pace.failed() <= FIRST);
    }
}
