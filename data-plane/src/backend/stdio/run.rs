//! One process from below: its pipes are read and written here, and its end is noticed and made known here.

use super::{
    Spec,
    outbox::{self, Queue},
    process::{self, Pipes, Process},
    stderr,
};
use crate::backend::channel::{
    Link, ServerRequests,
    line::{self, Line},
};
use crate::{
    failure::{Failure, Kind},
    mcp::Era,
};
use o1_process::{AbortOnDrop, OnExit, Tasks};
use std::{
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, BufReader},
    sync::{oneshot, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The longest line a server may write.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;
/// After one sign of the end, how long the others may take: the exit status, the last lines in the pipes.
const SETTLE: Duration = Duration::from_millis(500);

/// What every process of an endpoint has in common.
pub(super) struct Ground {
    pub(super) spec: Spec,
    pub(super) tasks: Tasks,
    /// Ends every process.
    pub(super) stop: CancellationToken,
    /// How many run.
    pub(super) running: watch::Sender<usize>,
}

/// Why a process is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Stopped,
    Exited(Option<ExitStatus>),
    OutputClosed,
    InputClosed,
    Stalled,
    LineTooLong,
    /// The launcher could not become the program: see `process::exec_exit_code`.
    NoProgram {
        found: bool,
    },
}

/// Starts a process. It ends when the returned guard is dropped.
pub(super) async fn start(
    ground: &Arc<Ground>,
    era: Era,
    server_requests: ServerRequests,
) -> Result<Started, Failure> {
    let running = Running::new(ground.clone());
    // After it was counted: whoever stops waits for it, or it sees that there is a stop.
    if ground.stop.is_cancelled() {
        return Err(Failure::new(Kind::Unreachable, format!("{} is stopped", ground.spec.name)));
    }
    let (started, start) = oneshot::channel();
    let name = format!("stdio {}", ground.spec.name);
    // In a task, because a task runs on a worker thread, as `process::spawn` needs it.
    ground.tasks.spawn(name, OnExit::Quiet, async move {
        let ground = &running.ground;
        match process::spawn(&ground.spec) {
            Err(failure) => drop(started.send(Err(failure))),
            Ok((process, pipes)) => {
                let (outbox, queue) = outbox::new();
                let (name, pid) = (ground.spec.name.clone(), Some(process.pid));
                let stop = ground.stop.child_token();
                let link = Arc::new(Link::new(name, era, server_requests, pid, Box::new(outbox), stop));
                let (alive, fault) = (link.stop.clone().drop_guard(), Arc::new(Fault::default()));
                // Nobody takes it: the guard drops here and ends the process.
                drop(started.send(Ok(Started { link: link.clone(), alive, fault: fault.clone() })));
                run(ground, &link, &fault, process, pipes, queue).await;
            }
        }
    });
    start.await.unwrap_or_else(|_| Err(Failure::new(Kind::Internal, "the task of a process was cut")))
}

/// A process that runs.
pub(super) struct Started {
    pub(super) link: Arc<Link>,
    /// Ends it when dropped.
    pub(super) alive: DropGuard,
    pub(super) fault: Arc<Fault>,
}

/// What a pipe, or the launcher, found wrong.
#[derive(Default)]
pub(super) struct Fault(OnceLock<Cause>);

impl Fault {
    /// True if the command itself is wrong, so that its end says nothing about a server.
    pub(super) fn is_no_program(&self) -> bool {
        matches!(self.0.get(), Some(Cause::NoProgram { .. }))
    }
}

/// Counts a process.
struct Running {
    ground: Arc<Ground>,
}

impl Running {
    fn new(ground: Arc<Ground>) -> Self {
        ground.running.send_modify(|count| *count += 1);
        Self { ground }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ground.running.send_modify(|count| *count -= 1);
    }
}

/// Makes the end of a process known however its task ends.
struct Over<'l>(&'l Link);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.calls().fail(Kind::Unreachable, "was cut");
        self.0.closed.cancel();
        self.0.gone.cancel();
    }
}

/// The life of a process.
async fn run(
    ground: &Arc<Ground>,
    link: &Arc<Link>,
    fault: &Arc<Fault>,
    mut process: Process,
    pipes: Pipes,
    queue: Queue,
) {
    let _over = Over(link);
    let (began, process_id) = (Instant::now(), process.pid);
    let program = ground.spec.command.first().map_or("?", |program| process::program_name(program));
    tracing::info!(upstream = link.name, pid = process_id, program, era = ?link.era, "server process started");

    let Pipes { stdin, stdout, stderr: errors } = pipes;
    let (_reader, output_done) =
        side(&ground.tasks, link, "stdout", read(link.clone(), fault.clone(), stdout));
    let (_writer, input_done) =
        side(&ground.tasks, link, "stdin", write(link.clone(), fault.clone(), queue, stdin));
    let (_errors, errors_done) = side(&ground.tasks, link, "stderr", {
        let (log, pid) = (ground.spec.log.clone(), process.pid);
        async move { stderr::read(&log, pid, errors).await }
    });
    let found = |or: Cause| fault.0.get().copied().unwrap_or(or);
    let mut cause = tokio::select! {
        biased;
        () = link.stop.cancelled() => Cause::Stopped,
        status = process.exited() => Cause::Exited(status.ok()),
        () = output_done.cancelled() => found(Cause::OutputClosed),
        () = input_done.cancelled() => found(Cause::InputClosed),
    };
    // A server that dies shows it in three places, in any order. The exit status says most.
    if matches!(cause, Cause::OutputClosed | Cause::InputClosed)
        && let Ok(status) = timeout(SETTLE, process.exited()).await
    {
        cause = Cause::Exited(status.ok());
    }
    if let Cause::Exited(Some(status)) = cause
        && ground.spec.launcher.is_some()
        && let Some(code @ (process::EXIT_NOT_FOUND | process::EXIT_CANNOT_RUN)) =
            status.code().and_then(|code| u8::try_from(code).ok())
    {
        cause = Cause::NoProgram { found: code != process::EXIT_NOT_FOUND };
        let _ = fault.0.set(cause);
    }
    if matches!(cause, Cause::Exited(_)) {
        // Its last answers may still be in the pipe.
        let _ = timeout(SETTLE, output_done.cancelled()).await;
    }
    let (kind, why) = cause.words();
    link.calls().refuse(&why);
    link.closed.cancel();
    if cause != Cause::Stopped {
        link.calls().fail(kind, &why);
    }
    // The writer writes what is queued and closes stdin, which asks the server to end.
    link.stop.cancel();
    let status = process.end().await;
    let _ = timeout(SETTLE, errors_done.cancelled()).await;
    link.calls().fail(kind, &why);
    let status = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
    let lived = began.elapsed();
    tracing::info!(upstream = link.name, pid = process_id, %status, ?lived, why, "server process ended");
}

/// Runs one side of a process; the token tells when it is done. Aborted when the guard drops.
fn side(
    tasks: &Tasks,
    link: &Link,
    what: &str,
    work: impl Future<Output = ()> + Send + 'static,
) -> (AbortOnDrop, CancellationToken) {
    let done = CancellationToken::new();
    let finished = done.clone().drop_guard();
    let task = tasks.spawn(format!("stdio {} {what}", link.name), OnExit::Quiet, async move {
        work.await;
        drop(finished);
    });
    (task.abort_on_drop(), done)
}

impl Cause {
    /// What to call it, and words that complete "<name> …".
    fn words(self) -> (Kind, String) {
        let why = match self {
            Self::Stopped => "was stopped".to_owned(),
            Self::Exited(None) => "ended".to_owned(),
            Self::Exited(Some(status)) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended (exit status {code})"),
                (None, Some(signal)) => format!("ended (signal {signal})"),
                (None, None) => "ended".to_owned(),
            },
            Self::NoProgram { found: false } => "cannot be started: there is no such program".to_owned(),
            Self::NoProgram { found: true } => "cannot be started: the program cannot be run".to_owned(),
            Self::OutputClosed => "closed its output".to_owned(),
            Self::InputClosed => "closed its input".to_owned(),
            Self::Stalled => format!("read no input for {} s", outbox::STALL.as_secs()),
            Self::LineTooLong => format!("wrote a line of more than {} MiB", LINE_BYTES_MAX >> 20),
        };
        (if self == Self::LineTooLong { Kind::Protocol } else { Kind::Unreachable }, why)
    }
}

async fn write(link: Arc<Link>, fault: Arc<Fault>, queue: Queue, pipe: impl tokio::io::AsyncWrite + Unpin) {
    match queue.write(pipe, link.stop.clone()).await {
        outbox::Ended::Stalled => {
            let _ = fault.0.set(Cause::Stalled);
        }
        outbox::Ended::Broken(error) => {
            tracing::debug!(upstream = link.name, pid = link.pid, %error, "stdin of the server broke");
        }
        outbox::Ended::Done => {}
    }
}

async fn read(link: Arc<Link>, fault: Arc<Fault>, pipe: impl AsyncRead + Unpin) {
    let mut reader = BufReader::with_capacity(READ_BYTES, pipe);
    loop {
        match line::next(&mut reader, LINE_BYTES_MAX).await {
            Ok(Some(Line::Whole(line))) => link.receive(&line.into()),
            Ok(Some(Line::Cut(_))) => {
                let _ = fault.0.set(Cause::LineTooLong);
                return;
            }
            Ok(None) | Err(_) => return,
        }
        // A full buffer holds hundreds of lines; those they are for must get their turn.
        tokio::task::coop::consume_budget().await;
    }
}
