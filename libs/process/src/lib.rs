//! What any long-running only1 process does, whatever its business: named [`tasks`], [`ready`] and draining,
//! the [`signal`] to stop, [`backoff`], the [`state_dir`], [`telemetry`], [`tls`] between processes, the [`admin`] HTTP server and the
//! [`metrics`] it shows.
//!
//! This crate must never know what a process is for: no MCP, no gRPC, no configuration.

pub mod admin;
pub mod backoff;
pub mod build_info;
pub mod metrics;
pub mod ready;
pub mod signal;
pub mod state_dir;
pub mod tasks;
pub mod telemetry;
pub mod tls;

pub use admin::{Admin, AdminReply};
pub use backoff::Backoff;
pub use build_info::VERSION;
pub use metrics::Exposition;
pub use ready::{Readiness, ReadyGuard};
pub use state_dir::StateDir;
pub use tasks::{AbortOnDrop, OnExit, TaskHandle, Tasks};
pub use telemetry::LogFormat;
