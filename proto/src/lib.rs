//! The contract between the data plane, the control plane and the programs that ask them.
//!
//! Wire in, model out: generated messages ([`wire`]) are turned into validated values ([`model`]) by
//! [`convert`], once, at the edge; behind it nobody handles a message that may be half empty. [`digest`] names
//! a configuration by its content, [`problem`] carries what is wrong with one, [`codes`] says what the gateway's error
//! codes mean, and `manifest` (feature of the same name) reads the YAML document that operators write.
//!
//! This crate must never do I/O, and must never enable tonic's `transport`: who connects, to whom and under
//! which limits is for the programs to say.

pub mod codes;
pub mod convert;
pub mod digest;
pub mod model;
pub mod problem;
pub mod wire;

#[cfg(feature = "manifest")]
pub mod manifest;
