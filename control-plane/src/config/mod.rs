//! From the file that people edit, or the document that they send, to the revision that nodes run.
//!
//! [`compile`] says what a document means or everything that is wrong with it; [`judge`] says what to do about
//! what was found on disk (both pure); [`watch`] notices that something happened there; [`source`] puts them
//! together, and takes every [`change`]. The running configuration survives whatever happens to the file.
//!
//! This module must never talk to a node, and must never publish what has not been stored.

pub mod change;
pub mod compile;
pub mod judge;
pub mod source;
pub mod version;
pub mod watch;

pub use change::{Change, ChangeError, Changed, Desk, How, ResourceChange, Wish};
pub use compile::{Compiled, compile};
pub use source::{Heard, Published, Source, SourceStatus, Undone};
pub use version::{Digest, Revision, Version, Way};
