//! What is happening now: the picture of the fleet that people and programs ask for.
//!
//! [`Board`] takes it, on demand, from the fleet and the published configuration; [`picture`] is its shape and
//! [`upstream`] how a row of it comes about (pure). Every figure is measured or absent.
//!
//! This module must never keep a picture: a picture that is kept is old.

mod board;
mod picture;
pub(crate) mod time;
pub mod upstream;

pub use board::Board;
pub(crate) use picture::failover;
pub use picture::{
    ConfigTarget, ControlPlane, EndpointStatus, FleetStatus, NodeCounts, NodeStatus, RatesView,
    RolloutSummary, Source, TierStatus, UpstreamState, UpstreamStatus,
};
