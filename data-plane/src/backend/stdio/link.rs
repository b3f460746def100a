//! One process from below: its pipes are read and written here, and its end is noticed and made known here.

use super::{
    Spec,
    calls::{self, Calls, Noted, Opened},
    line::{self, Line},
    outbox::{self, Outbox, Queue},
    process::{self, Pipes, Process},
    stderr,
};
use crate::{
    failure::{Failure, Kind},
    mcp::{
        Era, Message, json,
        message::{self, Invalid},
        method, rpc,
    },
};
use bytes::Bytes;
use o1_process::{AbortOnDrop, OnExit, Tasks};
use std::{
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, BufReader},
    sync::{broadcast, oneshot, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The longest line a server may write.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;
/// Messages that belong to no request and that a subscriber has not read yet.
const UNSOLICITED_MAX: usize = 256;
/// After one sign of the end, how long the others may take: the exit status, the last lines in the pipes.
const SETTLE: Duration = Duration::from_millis(500);

/// What happens to a request of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerRequests {
    /// The process is shared: nobody can be asked, and we declared that to the server.
    Refuse,
    /// They go to the one client the process is for.
    Forward,
}

/// What every process of an endpoint has in common.
pub(super) struct Ground {
    pub(super) spec: Spec,
    pub(super) tasks: Tasks,
    /// Ends every process.
    pub(super) stop: CancellationToken,
    /// How many run.
    pub(super) running: watch::Sender<usize>,
}

/// A running process.
pub(super) struct Link {
    pub(super) name: String,
    pub(super) era: Era,
    pub(super) pid: u32,
    server_requests: ServerRequests,
    calls: Mutex<Calls>,
    outbox: Outbox,
    unsolicited: broadcast::Sender<Message>,
    /// Holds what comes before anybody subscribes.
    backlog: Mutex<Option<broadcast::Receiver<Message>>>,
    /// Something on stdout was no message; said once.
    noisy: AtomicBool,
    /// What a pipe found wrong with the server.
    fault: OnceLock<Cause>,
    /// The process shall end.
    stop: CancellationToken,
    /// It takes no more requests.
    closed: CancellationToken,
    /// Nothing of it is left.
    gone: CancellationToken,
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
) -> Result<(Arc<Link>, DropGuard), Failure> {
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
                let link = Arc::new(Link::new(ground, era, server_requests, process.pid, outbox));
                let guard = link.stop.clone().drop_guard();
                // Nobody takes it: the guard drops here and ends the process.
                drop(started.send(Ok((link.clone(), guard))));
                run(ground, &link, process, pipes, queue).await;
            }
        }
    });
    start.await.unwrap_or_else(|_| Err(Failure::new(Kind::Internal, "the task of a process was cut")))
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
async fn run(ground: &Arc<Ground>, link: &Arc<Link>, mut process: Process, pipes: Pipes, queue: Queue) {
    let _over = Over(link);
    let began = Instant::now();
    let program = ground.spec.command.first().map_or("?", |program| process::program_name(program));
    tracing::info!(upstream = link.name, pid = link.pid, program, era = ?link.era, "server process started");

    let Pipes { stdin, stdout, stderr: errors } = pipes;
    let (_reader, output_done) = side(&ground.tasks, link, "stdout", link.clone().read(stdout));
    let (_writer, input_done) = side(&ground.tasks, link, "stdin", link.clone().write(queue, stdin));
    let (_errors, errors_done) = side(&ground.tasks, link, "stderr", {
        let (log, pid) = (ground.spec.log.clone(), link.pid);
        async move { stderr::read(&log, pid, errors).await }
    });
    let fault = |or: Cause| link.fault.get().copied().unwrap_or(or);
    let mut cause = tokio::select! {
        biased;
        () = link.stop.cancelled() => Cause::Stopped,
        status = process.exited() => Cause::Exited(status.ok()),
        () = output_done.cancelled() => fault(Cause::OutputClosed),
        () = input_done.cancelled() => fault(Cause::InputClosed),
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
        let _ = link.fault.set(cause);
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
    tracing::info!(upstream = link.name, pid = link.pid, %status, ?lived, why, "server process ended");
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

impl Link {
    fn new(ground: &Ground, era: Era, server_requests: ServerRequests, pid: u32, outbox: Outbox) -> Self {
        let (unsolicited, backlog) = broadcast::channel(UNSOLICITED_MAX);
        let name = ground.spec.name.clone();
        Self {
            calls: Mutex::new(Calls::new(name.clone(), era, Instant::now())),
            name,
            era,
            pid,
            server_requests,
            outbox,
            unsolicited,
            backlog: Mutex::new(Some(backlog)),
            noisy: AtomicBool::new(false),
            fault: OnceLock::new(),
            stop: ground.stop.child_token(),
            closed: CancellationToken::new(),
            gone: CancellationToken::new(),
        }
    }

    pub(super) fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a request. It is not sent yet: see [`Link::send`].
    pub(super) fn open(&self, message: &Message) -> Result<Opened, Failure> {
        self.calls().open(message, Instant::now())
    }

    /// Queues a line, waiting for a place.
    pub(super) async fn send(&self, line: Bytes) -> Result<(), Failure> {
        self.outbox.push(line).await.map_err(|_| self.ended())
    }

    /// Queues a line of our own, or drops it when the server has long stopped reading.
    pub(super) fn send_now(&self, line: Bytes) {
        if !self.outbox.push_now(line) && !self.closed.is_cancelled() {
            tracing::debug!(
                upstream = self.name,
                pid = self.pid,
                "dropped a message the server does not read"
            );
        }
    }

    /// Forgets a request and tells the server so.
    pub(super) fn cancel(&self, key: u64) {
        let line = self.calls().cancel(key, Instant::now());
        if let Some(line) = line {
            self.send_now(line);
        }
    }

    /// True if the command itself is wrong, so that its end says nothing about a server.
    pub(super) fn has_no_program(&self) -> bool {
        matches!(self.fault.get(), Some(Cause::NoProgram { .. }))
    }

    /// Why nothing can be sent any more.
    pub(super) fn ended(&self) -> Failure {
        let calls = self.calls();
        let why = calls.refusal().unwrap_or("is ending");
        Failure::new(Kind::Unreachable, format!("{} {why}", self.name))
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Message> {
        let backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner).take();
        backlog.unwrap_or_else(|| self.unsolicited.subscribe())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled() || self.stop.is_cancelled()
    }

    pub(super) async fn closed(&self) {
        tokio::select! {
            () = self.closed.cancelled() => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Waits until nothing of the process is left.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Begins the end.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    async fn write(self: Arc<Self>, queue: Queue, pipe: impl tokio::io::AsyncWrite + Unpin) {
        match queue.write(pipe, self.stop.clone()).await {
            outbox::Ended::Stalled => {
                let _ = self.fault.set(Cause::Stalled);
            }
            outbox::Ended::Broken(error) => {
                tracing::debug!(upstream = self.name, pid = self.pid, %error, "stdin of the server broke");
            }
            outbox::Ended::Done => {}
        }
    }

    async fn read(self: Arc<Self>, pipe: impl AsyncRead + Unpin) {
        let mut reader = BufReader::with_capacity(READ_BYTES, pipe);
        loop {
            match line::next(&mut reader, LINE_BYTES_MAX).await {
                Ok(Some(Line::Whole(line))) => self.receive(&line.into()),
                Ok(Some(Line::Cut(_))) => {
                    let _ = self.fault.set(Cause::LineTooLong);
                    return;
                }
                Ok(None) | Err(_) => return,
            }
            // A full buffer holds hundreds of lines; those they are for must get their turn.
            tokio::task::coop::consume_budget().await;
        }
    }

    fn receive(&self, line: &Bytes) {
        if line.trim_ascii().is_empty() {
            return;
        }
        match Message::parse(line) {
            Ok(message) => match message.kind() {
                message::Kind::Response => self.answer(&message),
                message::Kind::Notification => self.note(message),
                message::Kind::Request => self.serve(message),
            },
            Err(invalid) => {
                if !self.is_bad_answer(line, &invalid) && !self.noisy.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        upstream = self.name,
                        pid = self.pid,
                        "the server writes lines to stdout that are no messages; they are skipped"
                    );
                }
            }
        }
    }

    /// A response that is none would leave its caller waiting.
    fn is_bad_answer(&self, line: &Bytes, invalid: &Invalid) -> bool {
        let line = line.trim_ascii();
        let Invalid::Shape { id: Some(id), .. } = invalid else {
            return false;
        };
        let method = json::find(line, &(0..line.len()), &["method"]);
        let call = if matches!(method, Ok(None)) { self.calls().take(id) } else { None };
        let words = || format!("{} answered with something that is no JSON-RPC response", self.name);
        call.map(|call| call.fail(Failure::new(Kind::Protocol, words()))).is_some()
    }

    fn answer(&self, message: &Message) {
        let call = message.id().and_then(|id| self.calls().take(id));
        match call {
            Some(call) => call.answer(message),
            None => tracing::debug!(upstream = self.name, "dropped an answer nobody waits for"),
        }
    }

    fn note(&self, message: Message) {
        let noted = self.calls().note(message, Instant::now());
        match noted {
            Noted::Done => {}
            Noted::Overrun(key) => self.send_now(calls::cancelled(key)),
            // Nobody may be listening; then it is nobody's.
            Noted::Unsolicited(message) => drop(self.unsolicited.send(message)),
        }
    }

    fn serve(&self, message: Message) {
        let Some(id) = message.id().map(<[u8]>::to_vec) else {
            return;
        };
        if message.method() == method::PING {
            return self.send_now(rpc::result(&id, b"{}"));
        }
        let words = format!("this client does not serve `{}`", message.method());
        if self.server_requests == ServerRequests::Refuse || self.unsolicited.send(message).is_err() {
            self.send_now(rpc::error(Some(&id), rpc::METHOD_NOT_FOUND, &words, None));
        }
    }
}
