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
    /// Something happened, and this long may pass before somebody looks.
    latest: Option<Instant>,
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
        let changed = Arc::new(Notify::new());
        let mut watch = Self { directory, changed, watcher: None, latest: None, complaint: None };
        watch.ensure();
        watch
    }

    /// Returns when it is time to look at the file again: a while after something happened, or at the next poll.
    /// Who stops waiting and waits again misses nothing.
    pub async fn wait(&mut self) {
        if self.latest.is_none() && timeout(POLL, self.changed.notified()).await.is_ok() {
            self.latest = Some(Instant::now() + IMPATIENCE);
        }
        while let Some(latest) = self.latest {
            let quiet = (Instant::now() + QUIET).min(latest);
            if timeout_at(quiet, self.changed.notified()).await.is_err() {
                self.latest = None;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits, and says how long that took.
    async fn waited(watch: &mut Watch) -> Duration {
        let start = Instant::now();
        watch.wait().await;
        start.elapsed()
    }

    #[tokio::test]
    async fn a_change_is_told_once_it_is_quiet_and_nothing_is_told_at_the_poll() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("only1.yaml");
        let mut watch = Watch::new(&file);
        fs::write(&file, "a").unwrap();
        let change = waited(&mut watch).await;
        assert!(change >= QUIET && change < POLL, "{change:?}");
        fs::read(&file).unwrap();
        let poll = waited(&mut watch).await;
        assert!(poll >= POLL, "to read a file changes nothing: {poll:?}");
    }

    #[tokio::test]
    async fn a_directory_of_the_same_name_is_watched_in_place_of_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        fs::create_dir(&etc).unwrap();
        let mut watch = Watch::new(&etc.join("only1.yaml"));
        // Both exist at one time, so that the second cannot get the inode of the first.
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::rename(&etc, dir.path().join("old")).unwrap();
        fs::rename(&other, &etc).unwrap();
        watch.wait().await;
        fs::write(etc.join("only1.yaml"), "a").unwrap();
        let change = waited(&mut watch).await;
        assert!(change < POLL, "it had to wait for the poll: {change:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_that_never_gets_quiet_is_looked_at_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(&dir.path().join("only1.yaml"));
        let changed = watch.changed.clone();
        let noise = async {
            loop {
                changed.notify_one();
                tokio::time::sleep(QUIET / 5).await;
            }
        };
        let waited = tokio::select! {
            waited = waited(&mut watch) => waited,
            () = noise => unreachable!("noise does not end"),
        };
        assert!(waited >= IMPATIENCE && waited < IMPATIENCE + QUIET, "{waited:?}");
    }
}
