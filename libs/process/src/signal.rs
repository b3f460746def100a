//! The wish of the operator that the process ends.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from this call on, not only once it is awaited, and returns at the first SIGTERM or SIGINT. Call it
/// before anybody is told that the process runs: a signal that comes earlier ends the process on the spot. The
/// second of a kind is for another call: a caller that wants "twice means now" calls this again.
///
/// Must be called inside a runtime. Where the handler cannot be installed the signal keeps its default effect,
/// the end of the process, and the future never returns.
#[must_use = "a signal that is heard and not acted on is lost"]
pub fn terminate() -> impl Future<Output = ()> + Send + 'static {
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
    async move {
        tokio::select! {
            () = next(terminate.as_mut()) => {}
            () = next(interrupt.as_mut()) => {}
        }
    }
}

fn listen(kind: SignalKind) -> Option<Signal> {
    signal(kind)
        .inspect_err(
            |error| tracing::warn!(signal = kind.as_raw_value(), %error, "cannot listen for a signal"),
        )
        .ok()
}

async fn next(signal: Option<&mut Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}
