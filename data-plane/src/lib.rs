//! The MCP gateway process: forwards, aggregates and reports. ARCHITECTURE.md draws the way of a call.

pub mod app;
pub mod path;

// the data path, top to bottom: a layer imports leaves, never another layer
pub mod cache;
pub mod listener;
pub mod router;
pub mod session;
pub mod upstream;

pub mod backend;

// the control path
pub mod control;
pub mod failover;

// leaves: import nothing above this line
pub mod call;
pub mod calls;
pub mod context;
pub mod current;
pub mod failure;
pub mod handle;
pub mod inventory;
pub mod joint;
pub mod logs;
pub mod mcp;
pub mod metrics;
pub mod pattern;
pub mod plan;
pub mod principal;
pub mod purge;
pub mod seal;
pub mod snapshot;
pub mod stores;
pub mod tls;
