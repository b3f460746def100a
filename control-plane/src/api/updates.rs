//! Configurations as nodes get them: what differs from what they run, in parts that are small enough for the buffer of
//! each stream to stay small. What goes to many nodes is encoded once.

use super::encode;
use crate::config::{Revision, Version};
use o1_proto::{
    convert,
    wire::{ConfigPart, ConfigUpdate, Resource, ResourceKey, SyncResponse, sync_response::Msg},
};
use prost::{Message as _, bytes::Bytes};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

/// The most content of one message, bytes.
const PART: usize = 32 << 10;
/// Encoded updates that are kept: a rollout, and those who are on their way back from one.
const KEPT: usize = 4;

/// Encodes updates and keeps the latest ones. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Updates(Arc<Mutex<VecDeque<Kept>>>);

struct Kept {
    base: Option<Version>,
    to: Version,
    content: Bytes,
}

/// What is left to send of one update.
#[derive(Default)]
pub(super) struct Parts {
    nonce: u64,
    parts: u32,
    sent: u32,
    content: Bytes,
}

impl Updates {
    /// The update from `base`, or from nothing, to `to`.
    pub(super) fn parts(&self, nonce: u64, base: Option<&Revision>, to: &Revision) -> Parts {
        let content = self.content(base, to);
        let parts = u32::try_from(content.len().div_ceil(PART).max(1)).unwrap_or(u32::MAX);
        Parts { nonce, parts, sent: 0, content }
    }

    fn content(&self, base: Option<&Revision>, to: &Revision) -> Bytes {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let version = base.map(|base| &base.version);
        if let Some(known) =
            kept.iter().find(|known| known.base.as_ref() == version && known.to == to.version)
        {
            return known.content.clone();
        }
        let content = Bytes::from(update(base, to).encode_to_vec());
        kept.truncate(KEPT - 1);
        kept.push_front(Kept { base: version.cloned(), to: to.version.clone(), content: content.clone() });
        content
    }
}

impl Iterator for Parts {
    type Item = SyncResponse;

    fn next(&mut self) -> Option<SyncResponse> {
        if self.sent == self.parts {
            return None;
        }
        self.sent += 1;
        let content = self.content.split_to(PART.min(self.content.len()));
        let msg = if self.parts == 1 {
            let update = ConfigUpdate::decode(content).expect("it was encoded here");
            Msg::Config(ConfigUpdate { nonce: self.nonce, ..update })
        } else {
            Msg::ConfigPart(ConfigPart { nonce: self.nonce, part: self.sent, parts: self.parts, content })
        };
        Some(SyncResponse { msg: Some(msg) })
    }
}

fn update(base: Option<&Revision>, to: &Revision) -> ConfigUpdate {
    let mut resources = convert::encode(&to.fleet);
    let mut removed = Vec::new();
    if let Some(base) = base {
        let all: HashMap<_, _> = resources.iter().map(|one| (name(&one.key), one.digest.clone())).collect();
        let had = convert::encode(&base.fleet);
        removed.extend(
            had.iter().filter(|one| !all.contains_key(&name(&one.key))).filter_map(|one| one.key.clone()),
        );
        let had: HashMap<_, _> = had.iter().map(|one| (name(&one.key), &one.digest)).collect();
        resources.retain(|one: &Resource| had.get(&name(&one.key)) != Some(&&one.digest));
    }
    ConfigUpdate {
        nonce: 0,
        to: Some(encode::version(&to.version)),
        resources,
        base: base.map(|base| encode::version(&base.version)),
        removed,
    }
}

fn name(key: &Option<ResourceKey>) -> (i32, String) {
    key.as_ref().map_or_else(Default::default, |key| (key.kind, key.name.clone()))
}
