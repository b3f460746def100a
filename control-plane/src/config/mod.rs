//! From the file that people edit to the revision that nodes run.
//!
//! [`compile`] says what a document means or everything that is wrong with it; [`judge`] says what to do about
//! what was found on disk (both pure); [`watch`] notices that something happened there; [`source`] puts them
//! together. The running configuration survives whatever happens to the file.
//!
//! This module must never talk to a node, and must never publish what has not been stored.

pub mod compile;
pub mod judge;
pub mod source;
pub mod version;
pub mod watch;

pub use compile::{Compiled, compile};
pub use source::{Published, Source, SourceStatus};
pub use version::{Digest, Revision, Version};
