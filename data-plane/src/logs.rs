//! What the processes of stdio upstreams wrote to stderr: the last lines of each upstream, and the next ones as
//! they come, for people who ask why it does not work.
//!
//! Bounded in every direction: lines kept, bytes of a line, lines a slow follower may be behind. It must never
//! be logged itself: a server may write secrets.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::SystemTime,
};
use tokio::sync::broadcast;

/// Lines kept of one upstream.
pub const LINES_MAX: usize = 200;
/// Bytes kept of one line.
pub const LINE_BYTES_MAX: usize = 4096;
/// Lines that a follower has not read yet; further ones push out the oldest, and it is told how many.
const BEHIND_MAX: usize = 1024;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it was read.
    pub at: SystemTime,
    /// The process that wrote it.
    pub pid: u32,
    /// Without its end; what was no UTF-8 is replaced.
    pub text: String,
}

/// The log of one upstream, over all its processes and configurations.
pub struct Log {
    lines: Mutex<VecDeque<Line>>,
    next: broadcast::Sender<Line>,
}

/// The logs of one node.
#[derive(Default)]
pub struct Logs(RwLock<BTreeMap<String, Arc<Log>>>);

impl Logs {
    /// The log of an upstream; empty when it is first named.
    #[must_use]
    pub fn of(&self, upstream: &str) -> Arc<Log> {
        if let Some(found) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(upstream) {
            return found.clone();
        }
        let mut logs = self.0.write().unwrap_or_else(PoisonError::into_inner);
        logs.entry(upstream.to_owned()).or_default().clone()
    }

    /// Forgets the logs of upstreams that are `served` no more, once their last process has ended.
    pub fn prune(&self, served: impl Fn(&str) -> bool) {
        let mut logs = self.0.write().unwrap_or_else(PoisonError::into_inner);
        logs.retain(|name, log| served(name) || Arc::strong_count(log) > 1);
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { lines: Mutex::default(), next: broadcast::Sender::new(BEHIND_MAX) }
    }
}

impl Log {
    /// Keeps a line and hands it to those who follow.
    pub fn push(&self, pid: u32, text: String) {
        let line = Line { at: SystemTime::now(), pid, text };
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line.clone());
        // Under the lock, so that a follower misses no line and gets none twice. Nobody may be following.
        let _ = self.next.send(line);
    }

    /// The last lines, oldest first.
    #[must_use]
    pub fn tail(&self) -> Vec<Line> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The last lines, and every one after them.
    #[must_use]
    pub fn follow(&self) -> (Vec<Line>, broadcast::Receiver<Line>) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        (lines.iter().cloned().collect(), self.next.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_gets_what_was_there_and_then_each_line_once() {
        let logs = Logs::default();
        let log = logs.of("files");
        (0..LINES_MAX + 5).for_each(|n| log.push(7, n.to_string()));
        let (tail, mut next) = logs.of("files").follow();
        assert_eq!((tail.len(), tail[0].text.as_str(), tail[0].pid), (LINES_MAX, "5", 7));
        log.push(8, "new".to_owned());
        assert_eq!(next.try_recv().unwrap().text, "new");
        assert!(next.try_recv().is_err());
        assert!(logs.of("other").tail().is_empty());
    }

    #[test]
    fn the_log_of_a_removed_upstream_goes_with_its_last_process() {
        let logs = Logs::default();
        logs.of("stays").push(1, "a".to_owned());
        let process = logs.of("goes");
        process.push(1, "b".to_owned());
        logs.prune(|name| name == "stays");
        assert_eq!(logs.of("goes").tail().len(), 1, "its process is still ending");
        drop(process);
        logs.prune(|name| name == "stays");
        assert_eq!((logs.of("stays").tail().len(), logs.of("goes").tail().len()), (1, 0));
    }
}
