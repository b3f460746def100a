//! What `o1ctl top` knows and what it shows of it.
//!
//! Everything here is a plain function of what came in: [`State`] takes one [`Message`] after the other (keys, pictures,
//! events, the time), and `view` turns it into the lines of a window of any size. `commands::top` has the sockets, the
//! keyboard and the clock.
//!
//! Nothing here may grow without limit: a viewer stays open for weeks.

mod calls;
mod chart;
mod history;
mod keys;
mod rows;
mod state;
mod view;

pub(crate) use calls::of_each;
pub(crate) use keys::Key;
pub(crate) use state::{EVENTS, Message, State};
pub(crate) use view::paint;

#[cfg(test)]
mod tests;
