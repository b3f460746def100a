//! Threads for connections, each with a runtime of its own: a connection stays on the thread that it is given to, so
//! that nothing of its calls is handed from thread to thread, and no thread is woken for another.
//!
//! Knows nothing of what a connection carries.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::runtime::{Builder, EnterGuard, Handle};
use tokio_util::sync::CancellationToken;

/// How long what a thread only blocks on may hold up the end of the process.
const END_WITHIN: Duration = Duration::from_secs(1);

/// The threads. They end, and what still runs there with them, when this is dropped.
pub struct Workers {
    threads: Vec<Thread>,
    ended: CancellationToken,
}

struct Thread {
    runtime: Handle,
    /// Connections it has.
    open: Arc<AtomicUsize>,
    joined: Option<JoinHandle<()>>,
}

impl Workers {
    /// None: connections run where they are accepted.
    #[must_use]
    pub fn none() -> Self {
        Self { threads: Vec::new(), ended: CancellationToken::new() }
    }

    /// So many threads.
    ///
    /// # Errors
    /// The system gives no more of them.
    pub fn start(count: usize) -> io::Result<Self> {
        let mut workers = Self::none();
        for _ in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handle, ended) = (runtime.handle().clone(), workers.ended.clone());
            let joined = std::thread::Builder::new().name("o1-calls".to_owned()).spawn(move || {
                runtime.block_on(ended.cancelled());
                runtime.shutdown_timeout(END_WITHIN);
            })?;
            workers.threads.push(Thread { runtime: handle, open: Arc::default(), joined: Some(joined) });
        }
        Ok(workers)
    }

    /// A place for a connection, on the thread that has the fewest.
    pub(super) fn place(&self) -> Place {
        let thread = self.threads.iter().min_by_key(|thread| thread.open.load(Relaxed));
        Place(thread.map(|thread| {
            thread.open.fetch_add(1, Relaxed);
            (thread.runtime.clone(), thread.open.clone())
        }))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.ended.cancel();
        for joined in self.threads.iter_mut().filter_map(|thread| thread.joined.take()) {
            // One that panicked has said so.
            let _ = joined.join();
        }
    }
}

/// Where a connection runs, for as long as it does.
pub(super) struct Place(Option<(Handle, Arc<AtomicUsize>)>);

impl Place {
    /// Sockets that are made and tasks that are spawned belong there until what this returns is dropped.
    pub(super) fn enter(&self) -> Option<EnterGuard<'_>> {
        self.0.as_ref().map(|(runtime, _)| runtime.enter())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((_, open)) = &self.0 {
            open.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn connections_are_spread_and_each_stays_on_its_thread() {
        let workers = Workers::start(3).unwrap();
        let tasks = o1_process::Tasks::new();
        let (tell, told) = mpsc::channel();
        let places: Vec<_> = (0..9).map(|_| workers.place()).collect();
        for place in &places {
            let (_there, tell) = (place.enter(), tell.clone());
            tasks.spawn("connection", o1_process::OnExit::Quiet, async move {
                tokio::task::yield_now().await;
                tell.send(std::thread::current().id()).unwrap();
            });
        }
        let mut threads: Vec<_> = told.iter().take(9).collect();
        threads.sort_unstable_by_key(|thread| format!("{thread:?}"));
        assert!(threads.chunk_by(|a, b| a == b).all(|one| one.len() == 3), "{threads:?}");
        assert!(!threads.contains(&std::thread::current().id()));
        drop(places);
        assert!(workers.threads.iter().all(|thread| thread.open.load(Relaxed) == 0));
    }

    #[tokio::test]
    async fn without_threads_a_connection_runs_where_it_was_accepted() {
        let place = Workers::none().place();
        assert!(place.enter().is_none());
    }
}
