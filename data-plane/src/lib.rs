//! The MCP gateway process: forwards, aggregates and reports. ARCHITECTURE.md draws the way of a call.

pub mod failure;
pub mod mcp;
