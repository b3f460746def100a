//! ONE MCP SERVER: speaks MCP to one endpoint, over Streamable HTTP or a child process's standard streams.
//!
//! Owns connections, processes, handshakes and upstream sessions. It must never choose between endpoints,
//! try again, or know which client asks.

mod any;
mod bridge;
mod channel;
mod http;
mod sse;
pub mod stdio;

pub use any::Backends;
pub use bridge::Bridges;
pub use http::{Portions, portions};
