//! The wish of the operator that the process ends.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Returns at the first SIGTERM or SIGINT. The second of a kind is for another call: a caller that wants
/// "twice means now" awaits this again.
///
/// Where the handler cannot be installed the signal keeps its default effect, the end of the process, and this
/// never returns.
pub async fn terminate() {
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
    tokio::select! {
        () = next(terminate.as_mut()) => {}
        () = next(interrupt.as_mut()) => {}
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
