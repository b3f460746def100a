//! Owns the configuration, its history and the status of the fleet.
//!
//! [`config`] turns the file that people edit into revisions, [`store`] keeps them, [`fleet`] hands them to nodes
//! and knows what each node runs, [`health`] decides which store of an upstream serves, [`stats`] adds up what nodes
//! count, [`events`] is what happened, [`status`] is the picture of it all, [`metrics`] the same for Prometheus,
//! [`access`] is who may what, and [`api`] and [`admin`] are the doors. [`app`] puts them together.
//!
//! This program must never see an MCP payload, and nothing it does may be needed for a node to go on serving.

pub mod access;
pub mod admin;
pub mod api;
pub mod app;
pub mod args;
pub mod clock;
pub mod config;
pub mod events;
pub mod fleet;
pub mod health;
pub mod metrics;
pub mod stats;
pub mod status;
pub mod store;
