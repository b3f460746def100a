//! A two-way channel to one server that many requests share: a child process, or the event stream and the POSTs of
//! HTTP+SSE.
//!
//! Owns whose answer a message is, with ids and progress tokens made unique on the way in and restored on the way
//! out. It must never know what carries the messages ([`Outlet`]), nor look at what a call is about.
//!
//! In reading order: [`Part`] is what a client session has of a channel, [`Conversation`] is a channel seen from above, `link` is the same seen from below, `calls` is
//! the table in between.

mod calls;
mod conversation;
pub(super) mod line;
mod link;
mod part;
mod sharing;

pub(super) use conversation::END_MAX;
pub use conversation::{Conversation, Replies};
pub(super) use link::{Link, Outlet, ServerRequests};
pub(super) use part::{Part, ask};
