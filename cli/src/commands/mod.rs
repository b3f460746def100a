//! One module for each command.

pub mod check;
pub mod nodes;
pub mod status;
pub mod up;
pub mod watch;
