//! A value that many need and one fetches. Who waited while an attempt failed shares its failure: a server that
//! hangs costs each caller one wait, not a turn in a queue of waits.

use crate::failure::Failure;
use std::future::Future;
use tokio::{sync::Mutex, time::Instant};

/// The value, or that it has to be fetched.
pub struct Joint<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Option<T>,
    /// The last attempt that failed, and when it ended.
    failed: Option<(Instant, Failure)>,
}

impl<T> Default for Joint<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { value: None, failed: None }) }
    }
}

impl<T: Clone> Joint<T> {
    /// The value if it is still good, else what `fetch` brings.
    ///
    /// # Errors
    /// The fetch failed, ours or the one we waited for.
    pub async fn get(
        &self,
        good: impl Fn(&T) -> bool,
        fetch: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let came = Instant::now();
        // Held while fetching, so that concurrent callers fetch once. A caller that gives up lets the next try.
        let mut state = self.state.lock().await;
        if let Some(value) = state.value.as_ref().filter(|value| good(value)) {
            return Ok(value.clone());
        }
        if let Some((_, failure)) = state.failed.as_ref().filter(|(ended, _)| *ended > came) {
            return Err(failure.again());
        }
        match fetch.await {
            Ok(value) => {
                state.failed = None;
                state.value = Some(value.clone());
                Ok(value)
            }
            Err(failure) => {
                state.failed = Some((Instant::now(), failure.again()));
                Err(failure)
            }
        }
    }

    /// The value, unless somebody is fetching it.
    #[must_use]
    pub fn peek(&self) -> Option<T> {
        self.state.try_lock().ok()?.value.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(10);

    async fn hangs() -> Result<u8, Failure> {
        tokio::time::sleep(LIMIT).await;
        Err(Failure::new(Kind::Timeout, "silence").because("of the server"))
    }

    #[tokio::test(start_paused = true)]
    async fn callers_of_a_server_that_hangs_wait_once_not_in_turns() {
        let joint = Joint::default();
        let began = Instant::now();
        let callers = (0..50).map(|_| joint.get(|_| true, hangs()));
        for failed in futures_util::future::join_all(callers).await {
            let failure = failed.unwrap_err();
            assert_eq!(failure.kind, Kind::Timeout);
            assert_eq!(failure.chain(), "silence: of the server");
        }
        assert_eq!(began.elapsed(), LIMIT);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(joint.get(|_| true, async { Ok(7) }).await.unwrap(), 7, "a later caller tries again");
    }

    #[tokio::test(start_paused = true)]
    async fn one_fetch_serves_all_until_the_value_is_no_longer_good() {
        let joint = Joint::default();
        let fetched = std::cell::Cell::new(0_u32);
        let fetch = || async {
            tokio::time::sleep(LIMIT).await;
            fetched.set(fetched.get() + 1);
            Ok(fetched.get())
        };
        let all = futures_util::future::join_all((0..5).map(|_| joint.get(|_| true, fetch()))).await;
        assert!(all.into_iter().all(|value| value.unwrap() == 1));
        assert_eq!(joint.peek(), Some(1));
        assert_eq!(joint.get(|value| *value > 1, fetch()).await.unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_gives_up_leaves_the_attempt_to_the_next() {
        let joint = Joint::default();
        assert!(tokio::time::timeout(LIMIT / 2, joint.get(|_| true, hangs())).await.is_err());
        assert_eq!(joint.get(|_| true, async { Ok(1) }).await.unwrap(), 1);
    }
}
