//! MCP servers that run as child processes and speak newline-delimited JSON-RPC on stdin and stdout.
//!
//! Owns: starting, restarting and ending the processes of one endpoint, as whole process groups; the handshake of
//! each era. It must never look at what a call is about, log a message, an argument or an environment variable,
//! run a command through a shell, or leave a process behind.
//!
//! In reading order: [`Supervisor`] decides which processes run, `run` is one of them with its pipes and its end.
//! What is said through the pipes is a [`channel`](super::channel).

mod handshake;
mod outbox;
mod process;
mod restart;
mod run;
mod stderr;
mod supervisor;
#[cfg(test)]
mod tests;

pub use process::{EXEC_CHILD, exec_child, exec_exit_code};
pub use supervisor::Supervisor;

use crate::logs::Log;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// What to run. No `Debug`: `env` holds resolved secrets.
#[derive(Clone)]
pub struct Spec {
    /// The upstream, for logs and failures.
    pub name: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Added to the few variables a server inherits (`PATH`, `HOME`, …); the gateway's own are not passed on.
    pub env: Vec<(String, String)>,
    /// Where it runs; the gateway's own directory if `None`.
    pub cwd: Option<PathBuf>,
    /// How long a caller waits for a start, handshake included.
    pub connect: Duration,
    /// Our own binary, which runs the command as [`exec_child`] so that it dies with us. `None`: run it directly.
    pub launcher: Option<PathBuf>,
    /// A shared process that nobody used for this long is ended until somebody does; `None`: never.
    pub idle_stop: Option<Duration>,
    /// Where its stderr goes.
    pub log: Arc<Log>,
}
