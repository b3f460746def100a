//! What a layer is given at birth.

use crate::{current, logs::Logs, metrics::Metrics, seal::Keyring, snapshot::Snapshots, stores::Stores};
use o1_process::{Readiness, Tasks};
use std::{path::PathBuf, sync::Arc};

/// Shared by every layer; cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The plan in force.
    pub current: current::Reader,
    /// Every number.
    pub metrics: Arc<Metrics>,
    /// What child processes wrote to stderr.
    pub logs: Arc<Logs>,
    /// What tokens for clients are sealed with.
    pub keyring: Arc<Keyring>,
    /// Which store of each upstream serves.
    pub stores: Arc<Stores>,
    /// What was kept of the answers of primaries.
    pub snapshots: Arc<Snapshots>,
    /// Where tasks are spawned, and who says that the process stops.
    pub tasks: Tasks,
    /// Whether clients should come.
    pub readiness: Readiness,
    /// Our own executable, which starts stdio servers so that they cannot outlive us; `None`: they are started
    /// directly.
    pub launcher: Option<PathBuf>,
}
