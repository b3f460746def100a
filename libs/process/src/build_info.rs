//! Which build this is.

/// The version of the workspace; every only1 program has the same.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
