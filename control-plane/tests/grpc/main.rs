//! The control plane from outside: real gRPC and HTTP over loopback, a scripted node, real files, and for what only
//! a process can show, the real program.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by ending")]

mod admin_http;
mod changing;
mod config_file;
mod draining;
mod events;
mod failing_over;
mod harness;
mod inspecting;
mod nodes;
mod process;
mod purging;
mod services;
mod trusting;
mod updates;
mod watching;
