//! Why a store did not do as asked.

use std::{error::Error, fmt, path::PathBuf};

type Source = Box<dyn Error + Send + Sync>;

/// Why a store did not do as asked. Nothing was changed, except after [`StoreError::Slow`], where it may have
/// been.
#[derive(Debug)]
pub enum StoreError {
    /// The file is not a database, or not a whole one.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A newer build wrote the database.
    TooNew {
        /// The file.
        path: PathBuf,
        /// The schema it has.
        found: i64,
        /// The newest schema that this build knows.
        known: i64,
    },
    /// It cannot be opened at all.
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Source,
    },
    /// It was asked and failed: a full disk, mostly.
    Failed {
        /// What was asked.
        what: &'static str,
        /// Why it failed.
        source: Source,
    },
    /// No answer in time, or too many questions waiting.
    Slow {
        /// What was asked.
        what: &'static str,
    },
    /// The thread that owns it has ended.
    Gone,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { path, what } => write!(
                f,
                "the store {} is damaged ({what}): put a backup in its place, or move it away to start with an \
                 empty history",
                path.display()
            ),
            Self::TooNew { path, found, known } => write!(
                f,
                "the store {} has schema {found} and this build knows up to {known}: start the newer build that \
                 wrote it, or choose another --state-dir",
                path.display()
            ),
            Self::Open { path, .. } => {
                write!(f, "cannot open the store {}: check its owner, mode and disk", path.display())
            }
            Self::Failed { what, .. } => write!(f, "the store could not {what}"),
            Self::Slow { what } => write!(f, "the store did not {what} in time: is the disk overloaded?"),
            Self::Gone => f.write_str("the store has ended: restart the control plane"),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Open { source, .. } | Self::Failed { source, .. } => Some(&**source),
            Self::Corrupt { .. } | Self::TooNew { .. } | Self::Slow { .. } | Self::Gone => None,
        }
    }
}
