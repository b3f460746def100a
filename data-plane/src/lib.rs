//! The MCP gateway process: forwards, aggregates and reports. ARCHITECTURE.md draws the way of a call.

pub mod call;
pub mod control;
pub mod current;
pub mod failure;
pub mod mcp;
pub mod plan;
