//! One module for each command.

pub mod cache;
pub mod check;
pub mod config;
mod end;
pub mod events;
pub mod explain;
pub mod logs;
pub mod nodes;
pub mod orders;
pub mod sample_calls;
pub mod status;
pub mod token;
pub mod tools;
pub mod top;
pub mod up;
pub mod watch;
