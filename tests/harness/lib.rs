//! What the tests of the whole are made of: the real binaries as child processes ([`process`], [`planes`]), a
//! client and a backend that speak MCP in raw bytes ([`http`], [`mcp`], [`backend`]), a TCP balancer
//! ([`balancer`]), the official peers ([`peers`]), a pair of stores of which one is the other's backup ([`site`]),
//! gRPC in raw bytes over TLS ([`grpc`]), a terminal to draw on ([`tmux`]), a fleet for the programs of `examples/`
//! ([`tour`]), ports that can be used again ([`ports`]) and waiting for values instead of sleeping ([`wait`]).
//!
//! This crate must never use code of the product: a fault there would hide itself.

pub mod backend;
pub mod balancer;
pub mod binaries;
pub mod grpc;
pub mod http;
pub mod mcp;
pub mod peers;
pub mod planes;
pub mod ports;
pub mod process;
pub mod site;
pub mod tls;
pub mod tmux;
pub mod tour;
pub mod wait;

pub use backend::{Answer, Backend};
pub use balancer::Balancer;
pub use http::{Http, Reply};
pub use mcp::{Legacy, Modern};
pub use planes::{ControlPlane, DataPlane, Gateway, Pair};
pub use process::Process;
pub use tmux::Tmux;
pub use wait::{until, until_true};

use std::time::Duration;

/// How long the tests under load go on: long with `O1_LONG=1`, as the documents say; short otherwise.
#[must_use]
pub fn load_time() -> Duration {
    let long = std::env::var_os("O1_LONG").is_some_and(|value| value == "1");
    Duration::from_secs(if long { 30 } else { 5 })
}
