//! Known already? What upstreams answered, kept for those who ask the same.
//!
//! [`key`] tells questions apart, [`scope`] knows what may have changed since when, [`entry`] is one answer in memory,
//! [`tier`] holds them within bounds and counts them.

pub mod entry;
pub mod key;
pub mod scope;
pub mod tier;
