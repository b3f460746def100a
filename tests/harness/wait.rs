//! Waiting for a value, with a limit: never for luck.

use std::{future::Future, time::Duration};
use tokio::time::{Instant, sleep};

/// Asks until the answer is there.
///
/// # Panics
/// It is not there within the time; the message says what was waited for.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    within: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(value) = ask().await {
            return value;
        }
        assert!(Instant::now() < end, "waited {within:?} in vain for: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until something is true.
///
/// # Panics
/// It is not true within the time.
pub async fn until_true<F: Future<Output = bool>>(what: &str, within: Duration, mut ask: impl FnMut() -> F) {
    until(what, within, || {
        let asked = ask();
        async move { asked.await.then_some(()) }
    })
    .await;
}

/// The value of a future that must come in time.
///
/// # Panics
/// It does not.
pub async fn in_time<T>(what: &str, within: Duration, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(within, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {within:?} in vain for: {what}"),
    }
}
