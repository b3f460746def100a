//! Notices that something may have happened to a file: its directory is watched, because editors rename and
//! Kubernetes swaps symlinks, and a poll catches what the watch does not (a network disk, a symlink that leads
//! out of the directory, a directory that did not exist).
//!
//! This module must never say *what* happened: whoever is told looks for himself.

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

/// Looks at the file at least this often.
pub const POLL: Duration = Duration::from_secs(5);
/// How long a directory must be quiet before the file is looked at: an editor writes in several steps.
pub const QUIET: Duration = Duration::from_millis(500);
/// The file is looked at after this long even if the directory never gets quiet.
pub const IMPATIENCE: Duration = Duration::from_secs(2);

/// Watches the directory of one file.
#[derive(Debug)]
pub struct Watch {
    directory: PathBuf,
    changed: Arc<Notify>,
    watcher: Option<Watcher>,
    /// The last complaint, so that it is not repeated with every poll.
    complaint: Option<String>,
}

#[derive(Debug)]
struct Watcher {
    /// Device and inode of the directory: another directory of the same name is not being watched.
    directory: (u64, u64),
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Starts to watch. If that cannot be done now, it is tried again with every poll.
    #[must_use]
    pub fn new(file: &Path) -> Self {
        let directory = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut watch = Self { directory, changed: Arc::new(Notify::new()), watcher: None, complaint: None };
        watch.ensure();
        watch
    }

    /// Returns when it is time to look at the file again: a while after something happened, or at the next poll.
    pub async fn wait(&mut self) {
        if timeout(POLL, self.changed.notified()).await.is_ok() {
            let latest = Instant::now() + IMPATIENCE;
            loop {
                let quiet = (Instant::now() + QUIET).min(latest);
                if timeout_at(quiet, self.changed.notified()).await.is_err() {
                    break;
                }
            }
        }
        self.ensure();
    }

    /// Watches the directory that has this name now.
    fn ensure(&mut self) {
        let found = fs::metadata(&self.directory).map(|metadata| (metadata.dev(), metadata.ino()));
        if let (Ok(found), Some(watcher)) = (&found, &self.watcher)
            && *found == watcher.directory
        {
            return;
        }
        self.watcher = None;
        let watcher = found.and_then(|found| watch(&self.directory, found, self.changed.clone()));
        let complaint = watcher.as_ref().err().map(ToString::to_string);
        if let Some(error) = complaint.as_ref().filter(|error| self.complaint.as_ref() != Some(error)) {
            let directory = self.directory.display();
            tracing::warn!(%directory, error, poll = ?POLL, "cannot watch the directory, polling instead");
        }
        self.complaint = complaint;
        self.watcher = watcher.ok();
    }
}

fn watch(path: &Path, directory: (u64, u64), changed: Arc<Notify>) -> io::Result<Watcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // To read the file is an event too. An error means that events were lost: look.
        if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
            changed.notify_one();
        }
    })
    .map_err(io::Error::other)?;
    watcher.watch(path, RecursiveMode::NonRecursive).map_err(io::Error::other)?;
    Ok(Watcher { directory, _watcher: watcher })
}
