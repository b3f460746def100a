//! The keys for tokens that clients carry: from the control plane or the disk to the node. On disk before the
//! first token is sealed with one, so that a restart opens what this life sealed.
//!
//! It must never log a key, nor let go of the keys there are for ones that are not whole.

use super::{Node, last_good::LastGood};
use crate::seal;
use o1_proto::wire::SealKeys;
use std::{io, sync::Arc};

pub(super) struct Keys {
    node: Arc<dyn Node>,
    files: LastGood,
}

impl Keys {
    pub fn new(node: Arc<dyn Node>, files: LastGood) -> Arc<Self> {
        Arc::new(Self { node, files })
    }

    /// Gives the node the keys on disk, if there are any. Blocks.
    pub fn cold_start(&self) {
        match self.files.keys().and_then(|found| found.map(|keys| read(&keys)).transpose()) {
            Ok(Some(keys)) => self.node.seal_with(&keys),
            Ok(None) => {}
            Err(problem) => tracing::warn!(
                problem,
                "the sealing keys on disk cannot be used: until the control plane sends them again, sessions of \
                 other nodes and of an earlier life are unknown here"
            ),
        }
    }

    /// Keeps keys, off the caller's thread, and gives them to the node.
    pub async fn take(self: Arc<Self>, sent: SealKeys) {
        let keys = match read(&sent) {
            Ok(keys) => keys,
            Err(problem) => {
                tracing::warn!(problem, "the control plane sent sealing keys that cannot be used");
                return;
            }
        };
        let this = self.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let known = this.files.keys().ok().flatten();
            if known.as_ref() == Some(&sent) { Ok(()) } else { this.files.keep_keys(&sent) }
        });
        if let Err(error) = kept.await.map_err(io::Error::other).flatten() {
            tracing::error!(%error, "the sealing keys are not on disk: a restart needs the control plane to open sessions");
        }
        self.node.seal_with(&keys);
        tracing::debug!(keys = keys.len(), "took the sealing keys");
    }
}

fn read(keys: &SealKeys) -> Result<Vec<seal::Key>, String> {
    if keys.keys.is_empty() {
        return Err("there is no key among them".to_owned());
    }
    let whole = keys.keys.iter().map(|key| {
        let (id, secret) = (key.id.as_slice().try_into().ok()?, key.secret.as_slice().try_into().ok()?);
        Some(seal::Key { id, secret })
    });
    whole.collect::<Option<_>>().ok_or_else(|| "a key has 4 bytes of id and 32 of secret".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use o1_proto::wire::SealKey;

    #[test]
    fn keys_that_are_not_whole_are_no_keys() {
        let key = |id: usize, secret: usize| SealKey { id: vec![1; id], secret: vec![2; secret] };
        assert_eq!(read(&SealKeys { keys: vec![key(4, 32), key(4, 32)] }).unwrap().len(), 2);
        for broken in [vec![], vec![key(3, 32)], vec![key(4, 32), key(4, 33)]] {
            assert!(read(&SealKeys { keys: broken }).is_err());
        }
    }
}
