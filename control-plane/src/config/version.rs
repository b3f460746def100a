//! The name of an accepted configuration, and the accepted configuration itself.

use o1_proto::model;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc, time::SystemTime};

/// The name of one accepted configuration. Two versions are the same only if all three parts are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Bumped only when the store is replaced by an older or foreign one.
    pub generation: u64,
    /// +1 for each accepted change.
    pub revision: u64,
    /// What the configuration consists of.
    pub digest: Digest,
}

impl Version {
    /// Whether nodes take `self` for newer than `other`.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.generation, self.revision) > (other.generation, other.revision)
    }
}

/// `1.7`, generation and revision.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.revision)
    }
}

/// The root digest of a configuration. Nodes report what they like, so the length is not fixed; written as
/// lowercase hexadecimal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest(Vec<u8>);

impl Digest {
    /// The bytes of a digest.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes as given.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        from_hex(&text).map(Self).ok_or("a digest is written in pairs of hexadecimal digits")
    }
}

/// Reads pairs of hexadecimal digits.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|char| char.to_digit(16)).collect();
    let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
    let byte = |[high, low]: &[u32; 2]| u8::try_from(high << 4 | low).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

/// A stored configuration that nodes should run.
#[derive(Debug, Clone)]
pub struct Revision {
    /// Its name.
    pub version: Version,
    /// What it means.
    pub fleet: Arc<model::Fleet>,
    /// When it was stored.
    pub accepted_at: SystemTime,
    /// Where it came from: `file:/etc/only1.yaml`.
    pub source: String,
}

/// How nodes get a revision.
#[derive(Debug, Clone, Default)]
pub enum Way {
    /// They have it, or get it when they come.
    #[default]
    Settled,
    /// All at once: there is nothing to go back to, or this goes back.
    AtOnce,
    /// In waves, and back to this if one refuses.
    Waves(Arc<Revision>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_as_they_are_written() {
        for bytes in [vec![], vec![0], vec![0x0f, 0xf0, 0xff]] {
            let digest = Digest::new(bytes);
            assert_eq!(Digest::try_from(digest.to_string()), Ok(digest));
        }
        for text in ["0", "xy", "0é"] {
            assert!(Digest::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn generation_outweighs_revision() {
        let version = |generation, revision| Version { generation, revision, digest: Digest::new(vec![]) };
        assert!(version(2, 1).is_newer_than(&version(1, 9)));
        assert!(version(1, 9).is_newer_than(&version(1, 8)));
        assert!(!version(1, 8).is_newer_than(&version(1, 8)));
    }
}
