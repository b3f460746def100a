//! The name of a configuration by its content: equal digests, equal configurations, on every machine.

use crate::wire::Resource;

/// blake3 of an encoded resource.
#[must_use]
pub fn payload(payload: &[u8]) -> Vec<u8> {
    blake3::hash(payload).as_bytes().to_vec()
}

/// blake3 over every (kind, name, digest), in the order of (kind, name), each part preceded by its length so
/// that no two sets of resources can run together.
#[must_use]
pub fn root(resources: &[Resource]) -> Vec<u8> {
    let mut rows: Vec<_> = resources
        .iter()
        .map(|resource| {
            let key = resource.key.as_ref();
            (
                key.map_or(0, |key| key.kind),
                key.map_or("", |key| key.name.as_str()),
                resource.digest.as_slice(),
            )
        })
        .collect();
    rows.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    for (kind, name, digest) in rows {
        hasher.update(&kind.to_be_bytes());
        for part in [name.as_bytes(), digest] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize().as_bytes().to_vec()
}
