//! Values → what people and programs read. Everything here is a plain function of its arguments: the time, the
//! time zone and the width are given, nothing is asked of the machine.

pub mod audit;
pub mod cache;
pub mod calls;
pub mod codes;
pub mod config;
pub mod doctor;
pub mod drain;
pub mod events;
pub mod explain;
pub mod failover;
pub mod json;
pub mod logs;
pub mod nodes;
pub mod orders;
pub mod page;
pub mod problems;
pub mod report;
pub mod span;
pub mod status;
pub mod table;
pub mod tools;
pub mod upstreams;

#[cfg(test)]
pub(crate) mod tests;
