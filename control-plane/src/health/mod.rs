//! Which store of each upstream should serve: what nodes see goes in, decisions and directives come out.
//!
//! [`Decisions`] is the whole of it, one value for the fleet; [`Record`] is what of it outlives the process. Everything
//! here is a plain function of what was said and of the time that comes with it: no clock, no lock, no I/O. Who calls
//! it keeps records on disk before it sends a directive ([`Decisions::kept`] says that they are), carries directives
//! to nodes, and writes decisions into a log.
//!
//! This module must never decide by itself from data that is missing, must never use a term twice, and must never
//! order a backup by itself that most who know it see broken.
//!
//! - *Eligible* is a node that is connected, not draining, and does not suspect itself. *Fresh* is one whose view is
//!   not older than three probes, and at least 30 s. A fresh node that knows nothing of the primary stands in the way
//!   of a failover, as one that does not see it broken; it does not stand in the way of the way back, or an upstream
//!   whose processes idle on most nodes would never be restored.
//! - A node that turned to the backup by itself is followed if the quorum agrees or if every connected node did the
//!   same. Otherwise it is sent back, but not before the others had time to see what it saw.

mod decisions;
mod nodes;
mod orders;
mod record;
mod status;
mod tally;
mod upstream;

pub use decisions::{Change, Decision, Decisions};
pub use nodes::{NodeKey, Presence};
pub use orders::{ModeOrder, Order, OrderError};
pub use record::{Answer, Kept, Maintenance, Mode, Ordered, Record};
pub use status::{FailoverStatus, NodeFailover, Stage};

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

/// A view is fresh for at least this long.
pub const FRESH: Duration = Duration::from_secs(30);
/// Evaluations in a row that a quorum must last before the backup is ordered.
pub const SUSTAINED: u32 = 2;
/// After this long a failover counts as done, with those that lag behind.
pub const FAILING_OVER: Duration = Duration::from_secs(15);
/// After this long a restoration counts as done, with those that lag behind.
pub const SYNCING_BACK: Duration = Duration::from_secs(60);
/// The longest hold that repeated failovers lead to.
pub const MAX_HOLD: Duration = Duration::from_secs(15 * 60);
/// How far back failovers are counted.
pub const FLAP_WINDOW: Duration = Duration::from_secs(3600);
/// How long decisions wait for the nodes after the start.
pub const WARM_UP: Duration = Duration::from_secs(30);
/// A node that went away this long ago is no longer missed.
pub const MISSED: Duration = Duration::from_secs(600);
/// Directives are sent again to nodes that do not follow.
pub const RESEND: Duration = Duration::from_secs(30);
/// The same request id within this time is the same order.
pub const REQUEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// A moment, as the caller read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since the process began; never goes back.
    pub uptime: Duration,
    /// For people and for what outlives the process.
    pub wall: SystemTime,
}
