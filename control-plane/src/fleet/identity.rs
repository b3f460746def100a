//! Who a node says it is, and what it says against a configuration.

use crate::config::version::from_hex;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, time::SystemTime};

/// Minted by the node at its first boot, kept in its state directory. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NodeUid([u8; 16]);

impl NodeUid {
    /// The uid of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for NodeUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<NodeUid> for String {
    fn from(uid: NodeUid) -> Self {
        uid.to_string()
    }
}

impl TryFrom<String> for NodeUid {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = from_hex(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("a node uid has 32 hexadecimal digits")
    }
}

/// Who a node says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Configured by the operator; what people call the node.
    pub node_id: String,
    /// Which node it is, whatever people call it.
    pub uid: NodeUid,
    /// Counts its boots.
    pub epoch: u64,
    /// Set by the operator.
    pub labels: BTreeMap<String, String>,
    /// Which build it runs.
    pub build_version: String,
    /// When its process started.
    pub started_at: Option<SystemTime>,
    /// Where clients reach it.
    pub listen: String,
    /// Where its admin HTTP answers.
    pub admin: String,
}

/// One reason why a node refused a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The resource at fault; `None`: the configuration as a whole.
    pub resource: Option<ResourceName>,
    /// What kind of fault.
    pub reason: Reason,
    /// Inside the resource.
    pub field_path: String,
    /// For people.
    pub message: String,
}

impl fmt::Display for Rejection {
    /// `weather: headers.Authorization: no such environment variable`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(resource) = &self.resource {
            write!(f, "{}: ", resource.name)?;
        }
        if !self.field_path.is_empty() {
            write!(f, "{}: ", self.field_path)?;
        }
        f.write_str(&self.message)
    }
}

/// A resource by kind and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceName {
    /// What it is.
    pub kind: ResourceKind,
    /// What it is called.
    pub name: String,
}

/// What a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// One logical MCP server.
    Upstream,
    /// What clients may do.
    Clients,
    /// A virtual server.
    Server,
    /// Who may use the gateway.
    Auth,
    /// What nodes keep of answers.
    Cache,
    /// How list requests are collected.
    Batching,
    /// A kind that this build does not know, by its number.
    Other(i32),
}

/// Why a configuration was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The bytes are not the message they claim to be.
    Decode,
    /// The node does not know the kind of resource.
    UnknownKind,
    /// A value breaks a rule.
    InvalidField,
    /// Something it needs is not on the node.
    LocalDependency,
    /// The digest does not match the bytes.
    DigestMismatch,
    /// Older than what runs.
    VersionRegression,
    /// Two resources contradict each other.
    Conflict,
    /// The node failed for a reason of its own.
    Internal,
    /// It was made for another configuration than the one that the node runs.
    BaseMismatch,
    /// A reason that this build does not know, by its number.
    Other(i32),
}
