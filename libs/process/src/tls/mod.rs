//! TLS between the processes of a fleet: [`files`] that certificates are read from, again and again, [`server`] and
//! [`client`] made of them, [`accept`] with handshakes that nobody waits for, [`certificate`] for what a verified
//! certificate says, and [`fault`], the words for everything that goes wrong.
//!
//! It must never log or show what is in a key file, and never takes one side's word for who it is: names come out of
//! certificates that were verified.

pub mod accept;
pub mod certificate;
pub mod client;
pub mod fault;
pub mod files;
pub mod server;

#[cfg(test)]
mod tests;

pub use accept::{Connection, Peer, Refused, listen};
pub use certificate::Certificate;
pub use client::{ClientFiles, Told};
pub use fault::Fault;
pub use files::{FileError, Pair};
pub use server::{Clients, Server, ServerFiles};

/// What HTTP/2 is called in a handshake.
pub const H2: &[u8] = b"h2";
