//! Writes that the primary does not have yet, in order, each found again by what it is.

use super::{
    codec::{Codec, Reader, Unreadable, put_length},
    record::Entry,
};
use std::collections::{BTreeMap, BTreeSet};

/// What makes two writes the same: key, tool, principal and parameters. A digest, because clients choose them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity([u8; 32]);

impl Identity {
    /// Of a write. Reads all of its parameters: not to be made while the log is held.
    #[must_use]
    pub fn new(key: &str, tool: &str, principal: &str, params: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in [key.as_bytes(), tool.as_bytes(), principal.as_bytes(), params] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        Self(hasher.finalize().into())
    }

    fn of(entry: &Entry) -> Self {
        Self::new(&entry.key, &entry.tool, &entry.principal, &entry.params)
    }
}

/// The entries of one upstream that wait.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waiting {
    /// By `seq`.
    entries: BTreeMap<u64, (Identity, Entry)>,
    /// What each is, with its `seq`. Says nothing that `entries` does not: a client that tries a write again must not
    /// cost a look at everything that waits.
    known: BTreeSet<(Identity, u64)>,
}

impl Waiting {
    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// In the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter().map(|(seq, (_, entry))| (*seq, entry))
    }

    /// The oldest that is the same write.
    #[must_use]
    pub fn find(&self, identity: Identity) -> Option<u64> {
        self.known.range((identity, 0)..=(identity, u64::MAX)).next().map(|(_, seq)| *seq)
    }

    pub(super) fn insert(&mut self, seq: u64, entry: Entry) {
        self.remove(seq);
        let identity = Identity::of(&entry);
        self.known.insert((identity, seq));
        self.entries.insert(seq, (identity, entry));
    }

    pub(super) fn remove(&mut self, seq: u64) -> Option<Entry> {
        let (identity, entry) = self.entries.remove(&seq)?;
        self.known.remove(&(identity, seq));
        Some(entry)
    }
}

/// The entries alone, as a map has them.
impl Codec for Waiting {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        for (seq, entry) in self.iter() {
            seq.put(out);
            entry.put(out);
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let mut waiting = Self::default();
        for (seq, entry) in BTreeMap::<u64, Entry>::take(from)? {
            waiting.insert(seq, entry);
        }
        Ok(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::SystemTime;

    fn entry(key: &str, params: &str) -> Entry {
        Entry {
            key: key.into(),
            at: SystemTime::UNIX_EPOCH,
            tool: "write".into(),
            params: params.to_owned().into(),
            principal: "ann".into(),
        }
    }

    #[test]
    fn the_same_write_is_one_with_everything_the_same() {
        let mut waiting = Waiting::default();
        waiting.insert(4, entry("k", "{}"));
        let find = |key, tool, principal, params: &str| {
            waiting.find(Identity::new(key, tool, principal, params.as_bytes()))
        };
        assert_eq!(find("k", "write", "ann", "{}"), Some(4));
        for (key, tool, principal, params) in [
            ("kw", "rite", "ann", "{}"),
            ("", "write", "ann", "{}"),
            ("k", "write", "bob", "{}"),
            ("k", "write", "ann", "{ }"),
        ] {
            assert_eq!(find(key, tool, principal, params), None, "{key} {tool} {principal}");
        }
    }

    proptest! {
        /// Against a search through everything.
        #[test]
        fn the_oldest_of_an_identity_is_found_whatever_came_and_went(
            steps in prop::collection::vec((any::<bool>(), 0_u64..8, "[ab]", "[xy]"), 0..60)
        ) {
            let mut waiting = Waiting::default();
            for (comes, seq, key, params) in steps {
                if comes {
                    waiting.insert(seq, entry(&key, &params));
                } else {
                    waiting.remove(seq);
                }
                let mut bytes = Vec::new();
                waiting.put(&mut bytes);
                prop_assert_eq!(&Waiting::take(&mut Reader(&bytes)).unwrap(), &waiting);
                for (key, params) in ["a", "b"].iter().flat_map(|key| ["x", "y"].map(|params| (*key, params))) {
                    let oldest = waiting.iter().find(|(_, one)| one.key == key && *one.params == *params.as_bytes());
                    let found = waiting.find(Identity::new(key, "write", "ann", params.as_bytes()));
                    prop_assert_eq!(found, oldest.map(|(seq, _)| seq));
                }
            }
        }
    }
}
