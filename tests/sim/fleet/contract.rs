//! What tonic makes of the published protos.
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    missing_docs,
    dead_code,
    reason = "generated code"
)]

tonic::include_proto!("o1.control.v1");
