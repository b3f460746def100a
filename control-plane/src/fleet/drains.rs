//! The nodes that shall take no new client sessions, by the order of an operator. An order belongs to the id that people
//! call a node by, so that it outlives the process it was given to.

use crate::status::time::rfc3339;
use serde::Serialize;
use std::{collections::BTreeMap, time::SystemTime};

/// An order to drain as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drain {
    /// Since when.
    #[serde(serialize_with = "rfc3339")]
    pub since: SystemTime,
    /// What the operator said.
    pub reason: String,
}

/// Every order that stands, by node id.
pub type Drains = BTreeMap<String, Drain>;
