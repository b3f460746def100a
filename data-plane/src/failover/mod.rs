//! Which store of an upstream serves, and what becomes of writes meanwhile.

pub mod log;
