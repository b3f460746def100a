//! How calls spread over the endpoints of a store, and how many each endpoint takes.

use super::shown;
use serde::Serialize;
use std::time::Duration;

/// How an endpoint is chosen for a call that may go to any.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other; an endpoint of weight 2 twice.
    #[default]
    RoundRobin,
    /// Of two random ones the one with fewer calls in flight for its weight.
    LeastConnections,
    /// Any.
    Random,
    /// Any, by weight.
    WeightedRandom,
    /// The same key, the same endpoint, while it is there and not overloaded.
    ConsistentHash {
        /// What is hashed.
        key: HashKey,
        /// Points of an endpoint of weight 1 on the ring, 1 to 10,000.
        virtual_nodes: u32,
    },
}

impl Balance {
    /// Points of an endpoint on the ring where nothing is said.
    pub const VIRTUAL_NODES: u32 = 150;
}

/// What consistent hashing hashes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashKey {
    /// The legacy session; for modern callers, who have none, the principal.
    #[default]
    Session,
    /// Who asks.
    Principal,
    /// The name of the tool or prompt, the URI of the resource; for other methods the principal.
    Tool,
    /// The value of a header of the client, by lowercase name; the principal where it is absent.
    Header(String),
}

/// When an endpoint that fails is left out for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outlier {
    /// So many failures in a row; 0: never.
    pub failures: u32,
    /// For how long the first time; each further time so much longer.
    #[serde(serialize_with = "shown::duration")]
    pub eject: Duration,
    /// The longest.
    #[serde(serialize_with = "shown::duration")]
    pub eject_max: Duration,
    /// The most endpoints left out at a time, percent of the store; one may be unless it is 0. The only one never is.
    pub max_percent: u32,
    /// With fewer than this many percent left, all are used again: too many failures say more about the node, or
    /// the load, than about endpoints.
    pub panic_percent: u32,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            failures: 5,
            eject: Duration::from_secs(30),
            eject_max: Duration::from_secs(300),
            max_percent: 50,
            panic_percent: 50,
        }
    }
}

/// When a call that failed is sent once more, to another endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// Attempts in all; 1: none is sent again.
    pub attempts: u32,
    /// Tools whose calls may be sent again although they may have run, by the upstream's own name; `*` stands for any
    /// characters. Reads always may, and what was never sent.
    pub tools: Vec<String>,
    /// The budget: retries may be so many percent of the calls of the last ten seconds …
    pub budget_percent: u32,
    /// … and this many a second in any case.
    pub budget_min: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 2, tools: Vec::new(), budget_percent: 20, budget_min: 3 }
    }
}

/// How many calls one endpoint gets at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Concurrency {
    /// In flight; `None`: as many as there are.
    pub max: Option<u32>,
    /// Waiting for a place; more are refused.
    pub queue: u32,
    /// The longest wait for a place.
    #[serde(serialize_with = "shown::duration")]
    pub wait: Duration,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { max: None, queue: 100, wait: Duration::from_secs(10) }
    }
}
