//! What time it is, as a value: whoever decides is told, so that a test can tell it anything.

use std::time::SystemTime;
use tokio::time::Instant;

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For limits and ages. Never goes back.
    pub instant: Instant,
    /// For people. May jump.
    pub wall: SystemTime,
}

impl Now {
    /// Reads both clocks. Only the rim of the program calls this.
    #[must_use]
    pub fn read() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }
}
