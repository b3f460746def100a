//! Child processes that a test can end in every way, whose output is kept for when the test fails, and that never
//! outlive it: their whole process group is killed on drop, and by the kernel should the test itself be killed.

use crate::wait::until;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

/// The last lines that a process wrote.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    const KEPT: usize = 20_000;

    fn push(&self, line: String) {
        let mut lines = self.0.lock().expect("no holder of the log panics");
        if lines.len() == Self::KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Everything that is kept.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.lock().expect("no holder of the log panics").make_contiguous().join("\n")
    }

    /// The first line that satisfies the question.
    #[must_use]
    pub fn find<T>(&self, question: impl FnMut(&String) -> Option<T>) -> Option<T> {
        self.0.lock().expect("no holder of the log panics").iter().find_map(question)
    }

    fn read(self, from: impl Read + Send + 'static) -> JoinHandle<()> {
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                self.push(String::from_utf8_lossy(&line).into_owned());
            }
        })
    }
}

/// A child process.
pub struct Process {
    name: String,
    child: Child,
    /// What it wrote to standard output.
    pub stdout: Log,
    /// What it wrote to standard error.
    pub stderr: Log,
    readers: [JoinHandle<()>; 2],
}

impl Process {
    /// Starts a program in a process group of its own. It also ends with the thread that calls this, so call it
    /// from the test itself, not from a task.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(name: &str, program: &Path, configure: impl FnOnce(&mut Command)) -> Self {
        // setpriv ties the child to this process, so that a killed test leaves nothing behind, and then becomes
        // the program: the pid is the program's.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        configure(&mut command);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let (stdout, stderr) = (Log::default(), Log::default());
        let readers = [
            stdout.clone().read(child.stdout.take().expect("stdout is piped")),
            stderr.clone().read(child.stderr.take().expect("stderr is piped")),
        ];
        Self { name: name.to_owned(), child, stdout, stderr, readers }
    }

    /// Its pid, which is also the id of its group.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Its standard input; closed when dropped.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid(), signal);
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// The kernel does not know our own child.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_none()
    }

    /// How it ended.
    ///
    /// # Panics
    /// It does not end in time.
    pub async fn exit(&mut self, within: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        until(&what, within, || std::future::ready(self.child.try_wait().expect("the child is ours"))).await
    }

    /// Everything that it wrote to standard output and standard error, after its end.
    ///
    /// # Panics
    /// A process that it left behind keeps its pipes open.
    pub async fn output(&self) -> (String, String) {
        until("the end of the output", Duration::from_secs(10), || {
            std::future::ready(self.readers.iter().all(JoinHandle::is_finished).then_some(()))
        })
        .await;
        (self.stdout.text(), self.stderr.text())
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// The process is gone.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero()))
            .expect("the process runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has memory");
        let kilobytes = line.split_whitespace().nth(1).expect("VmRSS has a value");
        kilobytes.parse::<u64>().expect("VmRSS is a number") * 1024
    }

    /// Open file descriptors.
    ///
    /// # Panics
    /// The process is gone.
    #[must_use]
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid().as_raw_nonzero()))
            .expect("the process runs")
            .count()
    }

    /// Pids of every process below this one, whatever their groups.
    #[must_use]
    pub fn descendants(&self) -> Vec<i32> {
        let parents: Vec<(i32, i32)> = pids().filter_map(|pid| Some((pid, parent(pid)?))).collect();
        let mut found = vec![self.pid().as_raw_nonzero().get()];
        let mut next = 0;
        while let Some(&of) = found.get(next) {
            found.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
            next += 1;
        }
        found.split_off(1)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            let mut err = std::io::stderr().lock();
            let _ = writeln!(err, "--- {} wrote:\n{}\n{}", self.name, self.stdout.text(), self.stderr.text());
            let _ = writeln!(err, "--- end of {}", self.name);
        }
    }
}

fn pids() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc")
        .expect("Linux has /proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The parent of a living process; `None` for one that is gone or a zombie.
fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in brackets and may hold anything; state and parent follow the last bracket.
    let mut after = stat.rsplit_once(") ")?.1.split(' ');
    (after.next()? != "Z").then(|| after.next()?.parse().ok())?
}

/// Whether a process exists and is not a zombie.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    parent(pid).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::until_true;

    #[tokio::test]
    async fn a_dropped_process_takes_its_group_along() {
        let process = Process::start("sh", "/bin/sh".as_ref(), |command| {
            command.args(["-c", "sleep 1000 & sleep 1000 & echo ready; wait"]);
        });
        until("its children", Duration::from_secs(10), || async {
            process.stdout.find(|line| (line == "ready").then_some(()))
        })
        .await;
        let children = process.descendants();
        assert_eq!(children.len(), 2);
        assert!(process.resident_bytes() > 0 && process.open_files() > 2);
        drop(process);
        for child in children {
            until_true("a child to be gone", Duration::from_secs(10), || async { !is_alive(child) }).await;
        }
    }

    #[tokio::test]
    async fn the_end_and_the_output_of_a_process_are_known() {
        let mut process = Process::start("sh", "/bin/sh".as_ref(), |command| {
            command.args(["-c", "cat; echo problem >&2; exit 7"]);
        });
        process.stdin().unwrap().write_all(b"from stdin\n").unwrap();
        assert_eq!(process.exit(Duration::from_secs(10)).await.code(), Some(7));
        assert_eq!(process.output().await, ("from stdin".to_owned(), "problem".to_owned()));
    }
}
