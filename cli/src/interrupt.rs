//! Ctrl-C and SIGTERM, from the moment on that is meant.

use std::pin::Pin;

/// Returns at the next SIGINT or SIGTERM.
pub type Interrupt = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Listens from now on. [`o1_process::signal::terminate`] alone begins to listen when it is first awaited, and a
/// signal that comes before ends the process on the spot.
pub async fn listen() -> Interrupt {
    let mut asked: Interrupt = Box::pin(o1_process::signal::terminate());
    tokio::select! {
        biased;
        () = asked.as_mut() => Box::pin(std::future::ready(())), // already
        () = std::future::ready(()) => asked,
    }
}
