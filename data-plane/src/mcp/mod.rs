//! The grammar of MCP on the wire: JSON-RPC envelopes over raw bytes, methods, eras, header values, SSE frames.
//!
//! Owns how bytes are read and which bytes are changed. It must never build a model of a message: what the
//! gateway does not need to know stays the bytes it was, unknown fields, number spellings and key order
//! included. It does no I/O and imports nothing of the other layers.

mod envelope;
pub mod era;
pub mod header;
pub mod json;
pub mod message;
pub mod method;
pub mod own;
pub mod rpc;
mod scan;
pub mod sse;

pub use era::Era;
pub use message::{Kind, Message};
pub(crate) use scan::quote_or_escape;
