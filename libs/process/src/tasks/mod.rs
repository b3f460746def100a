//! Every task of a process has a name, an owner and an answer to "what if it ends?". Nothing else may spawn.

use futures_util::FutureExt as _;
use std::{
    any::Any,
    borrow::Cow,
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::task::AbortHandle;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// What it means that a task ended although nobody asked the process to stop. A panic is logged in every case;
/// an aborted task was ended on purpose and means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    /// The process is of no use without it: stop, in order.
    Shutdown,
    /// It is missed, not fatally: log a warning.
    Log,
    /// It was meant to end.
    Quiet,
}

/// The tasks of a process; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: CancellationToken,
    tracker: TaskTracker,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    tasks: BTreeMap<u64, Task>,
    /// The task whose end stopped the process.
    fault: Option<String>,
}

#[derive(Debug)]
struct Task {
    name: Cow<'static, str>,
    last: bool,
    /// `None` for the moment between registration and spawning.
    abort: Option<AbortHandle>,
}

impl Tasks {
    /// No tasks, not stopping.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` as a task. Must be called inside a runtime.
    ///
    /// The task should end soon after [`Tasks::stopping`]; [`Tasks::stopped_within`] waits for it.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, on_exit: OnExit, future: F) -> TaskHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.start(name.into(), on_exit, false, future)
    }

    /// As [`Tasks::spawn`], for a task that serves the drain itself, such as the admin server: nobody waits for
    /// it, it runs until every other task has ended and is aborted then.
    pub fn spawn_last<F>(&self, name: impl Into<Cow<'static, str>>, on_exit: OnExit, future: F) -> TaskHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.start(name.into(), on_exit, true, future)
    }

    /// Cancelled once the drain has begun: loops select on it, finish what they hold and return.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.shared.stopping.clone()
    }

    /// Begins the drain; again is harmless.
    pub fn begin_stop(&self) {
        self.shared.stopping.cancel();
    }

    /// The name of the [`OnExit::Shutdown`] task whose end began the drain; `None` if the operator did. A
    /// process with a fault should end with a failing exit code.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.running().fault.clone()
    }

    /// Waits until every task has ended, at most `limit`, then aborts what is left. Does not begin the drain.
    ///
    /// Returns false if tasks had to be cut; their names are logged.
    pub async fn stopped_within(&self, limit: Duration) -> bool {
        self.shared.tracker.close();
        let ended = tokio::time::timeout(limit, self.shared.tracker.wait()).await.is_ok();
        let running = self.running();
        if !ended {
            let names: Vec<&str> = running.tasks.values().filter(|t| !t.last).map(|t| &*t.name).collect();
            tracing::warn!(tasks = names.join(", "), limit = ?limit, "cut tasks that did not end in time");
        }
        let aborts: Vec<AbortHandle> = running.tasks.values().filter_map(|task| task.abort.clone()).collect();
        drop(running); // an aborted task takes this lock when it goes
        aborts.iter().for_each(AbortHandle::abort);
        ended
    }

    fn start<F>(&self, name: Cow<'static, str>, on_exit: OnExit, last: bool, future: F) -> TaskHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let id = {
            let mut running = self.running();
            let id = running.next;
            running.next += 1;
            running.tasks.insert(id, Task { name: name.clone(), last, abort: None });
            id
        };
        let entry = Entry { tasks: self.clone(), id, _tracked: (!last).then(|| self.shared.tracker.token()) };
        let body = async move {
            let result = AssertUnwindSafe(future).catch_unwind().await;
            entry.tasks.ended(&name, on_exit, result.err().as_deref());
        };
        #[expect(clippy::disallowed_methods, reason = "the one place that may spawn")]
        let abort = tokio::spawn(body).abort_handle();
        // Not while the lock is held across the spawn: a runtime that is going down drops the body, and with it
        // the entry, inside the call.
        if let Some(task) = self.running().tasks.get_mut(&id) {
            task.abort = Some(abort.clone());
        }
        TaskHandle { abort }
    }

    fn ended(&self, name: &str, on_exit: OnExit, panic: Option<&(dyn Any + Send)>) {
        if let Some(panic) = panic {
            tracing::error!(task = name, panic = panic_message(panic), "a task panicked");
        }
        if self.shared.stopping.is_cancelled() {
            return;
        }
        match on_exit {
            OnExit::Shutdown => {
                tracing::error!(task = name, "a task the process cannot do without has ended: stopping");
                self.running().fault.get_or_insert_with(|| name.to_owned());
                self.begin_stop();
            }
            OnExit::Log if panic.is_none() => tracing::warn!(task = name, "a task has ended"),
            OnExit::Log | OnExit::Quiet => {}
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task's place in the register; lives inside the task, so that it goes however the task ends.
struct Entry {
    tasks: Tasks,
    id: u64,
    _tracked: Option<TaskTrackerToken>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tasks.running().tasks.remove(&self.id);
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is not text")
}

/// A running task. Dropping the handle detaches the task.
#[derive(Debug)]
pub struct TaskHandle {
    abort: AbortHandle,
}

impl TaskHandle {
    /// Ends the task at its next await point.
    pub fn abort(&self) {
        self.abort.abort();
    }

    /// Ties the life of the task to the returned value.
    pub fn abort_on_drop(self) -> AbortOnDrop {
        AbortOnDrop { abort: Some(self.abort) }
    }
}

/// Aborts its task when dropped.
#[derive(Debug)]
#[must_use = "dropping it aborts the task"]
pub struct AbortOnDrop {
    abort: Option<AbortHandle>,
}

impl AbortOnDrop {
    /// Lets the task outlive this value.
    pub fn detach(mut self) {
        self.abort = None;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(abort) = &self.abort {
            abort.abort();
        }
    }
}

#[cfg(test)]
mod tests;
