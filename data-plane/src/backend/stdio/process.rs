//! One child process and its group: started without a shell, ended as a whole.

use super::Spec;
use crate::failure::{Failure, Kind};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid};
use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

/// The first argument that makes our own binary a launcher: see [`exec_child`].
pub const EXEC_CHILD: &str = "--exec-child";

/// What [`exec_exit_code`] says if there is no such program.
pub(super) const EXIT_NOT_FOUND: u8 = 203;
/// What it says if there is one that cannot be run.
pub(super) const EXIT_CANNOT_RUN: u8 = 204;

/// How long a server may take to end after its stdin closed, and again after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// How long those it left behind may take. Short, because it also passes when they have ended and their new parent is
/// slow to reap them.
const ORPHAN_GRACE: Duration = Duration::from_millis(500);

/// What a server inherits from us. Everything else in our environment may be a credential of the gateway.
const INHERITED: [&str; 16] = [
    "HOME",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
];

/// A running process. Dropping it kills the group at once; [`Process::end`] is the gentle way.
pub(super) struct Process {
    group: Group,
    child: Child,
    /// The process id of the leader, which is also the id of the group.
    pub(super) pid: u32,
}

/// The three pipes of a process, our ends.
pub(super) struct Pipes {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

/// Starts the command of `spec` as the leader of a group of its own.
///
/// With a launcher the child asks the kernel to be killed when its parent *thread* ends (`PR_SET_PDEATHSIG`), so
/// this must run on a thread that lives as long as the runtime: a worker, never the pool of blocking threads.
pub(super) fn spawn(spec: &Spec) -> Result<(Process, Pipes), Failure> {
    let Some((program, arguments)) = spec.command.split_first() else {
        return Err(Failure::new(Kind::Unreachable, format!("{} has an empty command", spec.name)));
    };
    let mut command = match &spec.launcher {
        None => Command::new(program),
        Some(launcher) => {
            let mut command = Command::new(launcher);
            command.arg(EXEC_CHILD).arg(std::process::id().to_string()).arg(program);
            command
        }
    };
    command.args(arguments).env_clear();
    command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.envs(spec.env.iter().map(|(name, value)| (name, value)));
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let cannot = |error: io::Error| {
        let program = program_name(program);
        Failure::new(Kind::Unreachable, format!("{} cannot be started: `{program}`", spec.name))
            .because(error)
    };
    let mut child = command.spawn().map_err(cannot)?;
    let pid = child.id().expect("a child that was not waited for has an id");
    let group = Group { id: i32::try_from(pid).ok().and_then(Pid::from_raw) };
    let pipe = "the pipe was asked for above and is taken once";
    let pipes = Pipes {
        stdin: child.stdin.take().expect(pipe),
        stdout: child.stdout.take().expect(pipe),
        stderr: child.stderr.take().expect(pipe),
    };
    Ok((Process { child, group, pid }, pipes))
}

/// The last part of the path of a program: what may be logged of a command.
pub(super) fn program_name(program: &str) -> &str {
    Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or("?")
}

impl Process {
    /// Waits for the end of the leader. Cancel safe.
    pub(super) async fn exited(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends the whole group: waits for the leader, whose stdin the caller has closed, then SIGTERM, then SIGKILL,
    /// then the same for what it left behind. Takes at most four times [`GRACE`].
    ///
    /// Returns how the leader ended; `None` if not even SIGKILL ended it (it hangs in the kernel).
    pub(super) async fn end(mut self) -> Option<ExitStatus> {
        let mut status = self.exited_within(GRACE).await;
        for signal in [Signal::TERM, Signal::KILL] {
            if status.is_none() {
                self.group.signal(signal);
                status = self.exited_within(GRACE).await;
            }
        }
        if status.is_some() {
            for signal in [Signal::TERM, Signal::KILL] {
                if !self.group.is_empty() {
                    self.group.signal(signal);
                    self.group.emptied_within(ORPHAN_GRACE).await;
                }
            }
            // What is left now, if anything, are zombies of a parent that does not reap them.
            self.group.id = None;
        }
        status
    }

    async fn exited_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        timeout(limit, self.child.wait()).await.ok()?.ok()
    }
}

/// A process group that is killed when dropped. As long as it has a member, no other group can get its id.
struct Group {
    /// `None` once it is known to have ended.
    id: Option<Pid>,
}

impl Group {
    fn is_empty(&self) -> bool {
        self.id.is_none_or(|id| test_kill_process_group(id).is_err())
    }

    /// The only errors are that there is nobody to signal, or nobody whom we may.
    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            let _ = kill_process_group(id, signal);
        }
    }

    /// Nothing tells us when somebody else's children end, so this looks again and again.
    async fn emptied_within(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while !self.is_empty() && Instant::now() < until {
            self.reap();
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Members whose parent ended are ours if we are process 1 of a container, and nobody else will reap them. Not
    /// to be called before the leader was waited for: its status would be lost.
    fn reap(&self) {
        let Some(id) = self.id else { return };
        while let Ok(Some(_)) = waitpgid(id, WaitOptions::NOHANG) {}
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The launcher: `<our binary> --exec-child <pid of the data plane> <program> [argument…]`. Asks the kernel to kill
/// this process when the data plane ends, however it ends, and then becomes the program.
///
/// `arguments` are those after [`EXEC_CHILD`]. Returns only if that failed; exit with [`exec_exit_code`] then.
pub fn exec_child(arguments: impl IntoIterator<Item = OsString>) -> io::Error {
    let mut arguments = arguments.into_iter();
    let parent = arguments.next().and_then(|parent| parent.to_str()?.parse::<i32>().ok());
    let (Some(parent), Some(program)) = (parent.and_then(Pid::from_raw), arguments.next()) else {
        return io::Error::new(
            io::ErrorKind::InvalidInput,
            "usage: --exec-child <pid of the parent> <program> [argument…]",
        );
    };
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // The parent may have ended before the kernel was asked; nobody would tell us any more.
    if rustix::process::getppid() != Some(parent) {
        return io::Error::new(io::ErrorKind::NotConnected, "the data plane has ended");
    }
    std::process::Command::new(program).args(arguments).exec()
}

/// The exit code of a launcher that could not become its program. Unlike 126 and 127 of shells, no server ends with
/// it by itself.
#[must_use]
pub fn exec_exit_code(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::NotFound { EXIT_NOT_FOUND } else { EXIT_CANNOT_RUN }
}
