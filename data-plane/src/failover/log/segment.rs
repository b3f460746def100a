//! Which file is the log: `wal-<n>.log` with the largest n. A file has that name only once everything that was so is
//! in it and on the disk; only then is the one before removed. So whenever the process ends, the file with the
//! largest n says all that was ever acknowledged.

use super::{
    disk::{Disk, Sink},
    failpoint::failpoint,
    format::{self, Content},
    state::State,
};
use std::io;

/// The file that is being written.
pub(super) struct Segment {
    pub sink: Box<dyn Sink>,
    pub length: u64,
}

/// Why a new file is begun: the points at which a test can end the process meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Why {
    tmp: &'static str,
    renamed: &'static str,
}

/// The process begins.
pub(super) const OPEN: Why = Why { tmp: "open_tmp", renamed: "open_renamed" };
/// The file has grown.
pub(super) const COMPACTION: Why = Why { tmp: "compaction_tmp", renamed: "compaction_renamed" };
/// The file before could not be written.
pub(super) const RECOVERY: Why = Why { tmp: "recovery_tmp", renamed: "recovery_renamed" };

/// Why there is no new file.
pub(super) enum Failed {
    /// The one before is still the log.
    Before(io::Error),
    /// After a crash either could be the log: nothing may be written to the one before.
    After(io::Error),
}

impl Failed {
    pub fn error(self) -> io::Error {
        match self {
            Self::Before(error) | Self::After(error) => error,
        }
    }
}

/// What the folder holds.
pub(super) struct Found {
    /// What the newest file says; nothing where there is none.
    pub content: Content,
    /// Its n.
    pub last: u64,
}

/// Reads the newest file.
///
/// # Errors
/// The disk fails, or the file cannot be used; the message names it and says what to do.
pub(super) fn find(disk: &dyn Disk, keep: usize) -> io::Result<Found> {
    let Some(last) = disk.list()?.iter().filter_map(|name| number(name)).max() else {
        return Ok(Found { content: Content { state: State::default(), batches: 0, torn: 0 }, last: 0 });
    };
    let file = name(last);
    let content = format::read(&disk.read(&file)?, keep).map_err(|unreadable| {
        let what = format!(
            "cannot use {}: {}. It alone says which store of each upstream is active and which writes wait: \
             start the build that wrote it, or restore it, or move it away to go on without what it says",
            disk.path(&file).display(),
            unreadable.0
        );
        io::Error::new(io::ErrorKind::InvalidData, what)
    })?;
    Ok(Found { content, last })
}

/// Makes `content`, which [`format::begin`] made, the log.
pub(super) fn begin(disk: &dyn Disk, n: u64, content: &[u8], why: Why) -> Result<Segment, Failed> {
    let (tmp, file) = (format!("{}.tmp", name(n)), name(n));
    let written = disk.create(&tmp).and_then(|mut sink| {
        sink.write(content)?;
        sink.sync()?;
        Ok(sink)
    });
    let sink = written.map_err(|error| {
        discard(disk, &tmp);
        Failed::Before(error)
    })?;
    failpoint(why.tmp);
    if let Err(error) = disk.rename(&tmp, &file) {
        discard(disk, &tmp);
        return Err(Failed::After(error));
    }
    failpoint(why.renamed);
    disk.sync().map_err(Failed::After)?;
    Ok(Segment { sink, length: content.len() as u64 })
}

/// Removes what file `n` stands for. File `torn`, from which something was cut, stays under another name, for people;
/// of such only the last.
pub(super) fn clear(disk: &dyn Disk, n: u64, torn: Option<u64>) {
    let Ok(names) = disk.list() else { return };
    for old in &names {
        let log = number(old.strip_suffix(".tmp").unwrap_or(old)).is_some_and(|number| number != n);
        let aside = torn.is_some() && old.starts_with("wal-") && old.ends_with(".torn");
        if (log || aside) && torn.is_none_or(|torn| *old != name(torn)) {
            discard(disk, old);
        }
    }
    if let Some(torn) = torn
        && let Err(error) = disk.rename(&name(torn), &aside(torn))
    {
        tracing::warn!(%error, "the torn file of the failover log could not be put aside");
    }
}

/// What a file from which something was cut is called afterwards.
pub(super) fn aside(n: u64) -> String {
    format!("wal-{n}.torn")
}

fn discard(disk: &dyn Disk, file: &str) {
    match disk.remove(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "an old file of the failover log stays for now");
        }
        _ => {}
    }
}

fn name(n: u64) -> String {
    format!("wal-{n}.log")
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix("wal-")?.strip_suffix(".log")?.parse().ok()
}
