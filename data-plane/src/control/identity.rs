//! Who this node is: a number minted once, and how often it has started since.

use super::Options;
use o1_process::StateDir;
use o1_proto::{convert::from_system_time, wire::NodeIdentity};
use serde::{Deserialize, Serialize};
use std::{io, time::SystemTime};

const FILE: &str = "identity.json";

/// One life of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Minted once.
    pub uid: [u8; 16],
    /// Counts lives, from 1.
    pub epoch: u64,
    /// When this one began.
    pub started_at: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    node_uid: String,
    epoch: u64,
}

impl Identity {
    /// Begins the next epoch; it is durable before this returns, so that no two lives share one.
    ///
    /// # Errors
    /// The file cannot be read, understood or replaced. A node does not guess who it is.
    pub fn begin_epoch(state: &StateDir) -> io::Result<Self> {
        let (uid, epoch) = match state.read(FILE)? {
            None => (mint()?, 0),
            Some(bytes) => parse(&bytes).ok_or_else(|| {
                let path = state.path(FILE);
                let what =
                    format!("{} does not hold an identity: delete it to make a new node", path.display());
                io::Error::new(io::ErrorKind::InvalidData, what)
            })?,
        };
        let identity = Self { uid, epoch: epoch + 1, started_at: SystemTime::now() };
        let stored = Stored { node_uid: identity.uid_hex(), epoch: identity.epoch };
        state.write_atomic(FILE, &serde_json::to_vec(&stored)?)?;
        Ok(identity)
    }

    /// As people and programs read it.
    #[must_use]
    pub fn uid_hex(&self) -> String {
        hex(&self.uid)
    }

    /// What the control plane is told.
    pub(super) fn describe(&self, options: &Options) -> NodeIdentity {
        NodeIdentity {
            node_id: options.node_id.clone(),
            node_uid: self.uid.to_vec(),
            epoch: self.epoch,
            labels: options.labels.clone(),
            build_version: options.build_version.to_owned(),
            started_at: Some(from_system_time(self.started_at)),
            listen: options.listen.to_string(),
            admin: options.admin.to_string(),
        }
    }
}

/// Lowercase hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mint() -> io::Result<[u8; 16]> {
    let mut uid = [0; 16];
    getrandom::fill(&mut uid).map_err(io::Error::other)?;
    Ok(uid)
}

fn parse(bytes: &[u8]) -> Option<([u8; 16], u64)> {
    let stored: Stored = serde_json::from_slice(bytes).ok()?;
    let uid = u128::from_str_radix(&stored.node_uid, 16).ok().filter(|_| stored.node_uid.len() == 32)?;
    Some((uid.to_be_bytes(), stored.epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uid_stays_and_the_epoch_grows_with_every_start() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let lives: Vec<_> = (0..3).map(|_| Identity::begin_epoch(&state).unwrap()).collect();
        assert_eq!(lives.iter().map(|life| life.epoch).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(lives.iter().all(|life| life.uid == lives[0].uid), "{lives:?}");
        assert_eq!(u128::from_str_radix(&lives[0].uid_hex(), 16).unwrap().to_be_bytes(), lives[0].uid);
    }

    #[test]
    fn two_nodes_are_never_the_same() {
        let mint = || {
            let dir = tempfile::tempdir().unwrap();
            Identity::begin_epoch(&StateDir::open(dir.path()).unwrap()).unwrap().uid
        };
        assert_ne!(mint(), mint());
    }

    #[test]
    fn a_damaged_identity_is_not_guessed() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        for damaged in ["", "{}", r#"{"node_uid":"12","epoch":1}"#, r#"{"node_uid":"zz","epoch":1}"#] {
            state.write_atomic(FILE, damaged.as_bytes()).unwrap();
            let error = Identity::begin_epoch(&state).unwrap_err().to_string();
            assert!(error.contains("identity.json does not hold an identity"), "{damaged}: {error}");
            assert_eq!(state.read(FILE).unwrap().unwrap(), damaged.as_bytes());
        }
    }
}
