//! One module for each command.

pub mod audit;
pub mod cache;
pub mod certs;
pub mod check;
pub mod config;
pub mod doctor;
pub mod drain;
mod end;
pub mod events;
pub mod explain;
pub mod logs;
pub mod nodes;
pub mod orders;
pub mod pages;
pub mod report;
pub mod sample_calls;
pub mod status;
mod teller;
pub mod token;
pub mod tools;
pub mod top;
pub mod up;
pub mod upstreams;
pub mod watch;
