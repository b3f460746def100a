//! One child process: its own process group, its output line by line, its last words.

use crate::output::page::{Line, Span, Style};
use o1_process::{OnExit, Tasks};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    collections::VecDeque,
    io,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, BufReader},
    process::Command,
    sync::mpsc,
};

/// Lines kept for a report of its death.
const LAST: usize = 12;
/// Longer lines are cut.
const LINE_BYTES: usize = 16 << 10;

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The control plane.
    Control,
    /// The data plane.
    Data,
    /// The primary of the sample.
    Primary,
    /// The backup of the sample.
    Backup,
}

impl Role {
    /// In sentences.
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "the control plane",
            Self::Data => "the data plane",
            Self::Primary => "the sample's primary",
            Self::Backup => "the sample's backup",
        }
    }

    /// True when `up` is over with it. The sample's servers are there to be killed.
    pub fn essential(self) -> bool {
        matches!(self, Self::Control | Self::Data)
    }

    /// Before each line of its output.
    fn prefix(self) -> Span {
        match self {
            Self::Control => Span::new("control │ ", Style::Source(0)),
            Self::Data => Span::new("data    │ ", Style::Source(1)),
            Self::Primary => Span::new("primary │ ", Style::Source(2)),
            Self::Backup => Span::new("backup  │ ", Style::Source(2)),
        }
    }
}

/// A line that a child wrote.
pub struct Said {
    role: Role,
    text: String,
}

impl Said {
    /// With the prefix of its child.
    pub fn line(&self) -> Line {
        let mut line = Line::default();
        line.push(self.role.prefix());
        line.push(Span::from(&self.text));
        line
    }
}

/// A running child.
pub struct Child {
    /// What it is for.
    pub role: Role,
    /// Also the id of its process group.
    pub pid: u32,
    process: tokio::process::Child,
    last: Arc<Mutex<VecDeque<String>>>,
}

impl Child {
    /// Starts a child whose output goes to `said`. Dropping it kills it.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(
        role: Role,
        mut command: Command,
        said: &mpsc::Sender<Said>,
        tasks: &Tasks,
    ) -> io::Result<Self> {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0) // the terminal's Ctrl-C is for `up`, which then stops its children in order
            .kill_on_drop(true)
            .spawn()?;
        let pid = process.id().ok_or_else(|| io::Error::other("it ended at once"))?;
        let last = Arc::new(Mutex::new(VecDeque::with_capacity(LAST)));
        if let Some(stdout) = process.stdout.take() {
            listen(role, stdout, said.clone(), last.clone(), tasks);
        }
        if let Some(stderr) = process.stderr.take() {
            listen(role, stderr, said.clone(), last.clone(), tasks);
        }
        Ok(Self { role, pid, process, last })
    }

    /// Waits for its end. May be dropped and called again.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Signals the whole group; a group that is gone is none to worry about.
    pub fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _gone = kill_process_group(group, signal);
        }
    }

    /// The last lines it wrote.
    pub fn last_lines(&self) -> Vec<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

fn listen(
    role: Role,
    from: impl AsyncRead + Send + Unpin + 'static,
    said: mpsc::Sender<Said>,
    last: Arc<Mutex<VecDeque<String>>>,
    tasks: &Tasks,
) {
    let _detached = tasks.spawn("output of a child", OnExit::Quiet, async move {
        let mut from = BufReader::new(from);
        while let Ok(Some(text)) = line(&mut from).await {
            {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.len() == LAST {
                    last.pop_front();
                }
                last.push_back(text.clone());
            }
            if said.send(Said { role, text }).await.is_err() {
                return;
            }
        }
    });
}

/// The next line without its end, cut to [`LINE_BYTES`]; `None` at the end of the output.
async fn line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut any = false;
    loop {
        let chunk = from.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(any.then(|| String::from_utf8_lossy(&line).into_owned()));
        }
        any = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        line.extend_from_slice(&part[..part.len().min(LINE_BYTES - line.len())]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        from.consume(used);
        if end.is_some() {
            return Ok(Some(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_not_collected_without_end() {
        let long = "x".repeat(LINE_BYTES * 3);
        let text = format!("first\r\n\n{long}\nlast without an end");
        let mut from = BufReader::with_capacity(100, text.as_bytes());
        let mut lines = Vec::new();
        while let Some(line) = line(&mut from).await.unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, ["first", "", &long[..LINE_BYTES], "last without an end"]);
    }
}
