//! Files that a configuration refers to (`file:` values, certificates) are read again when they change, without a
//! new configuration: a rotated credential takes effect within seconds. `env:` values never change.
//!
//! Looks instead of waiting for events: files are swapped through links and mounts that no event tells of.

use super::node::Node;
use o1_proto::model::{EndpointKind, Fleet, Reference};
use std::{collections::BTreeSet, fs, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often it looks. A change counts once two looks saw the same: a file may be half written.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Follows the files of the applied configuration until `stopping`.
pub(super) async fn follow(node: Arc<Node>, stopping: CancellationToken) {
    let (mut before, mut taken) = (None, None);
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stopping.cancelled() => return,
        }
        let looking = node.clone();
        let seen = tokio::task::spawn_blocking(move || looking.fleet().and_then(|fleet| fingerprint(&fleet)));
        let seen = seen.await.ok().flatten();
        if seen.is_some() && seen == before && seen != taken {
            taken = seen;
            let refreshing = node.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || refreshing.refresh()).await {
                tracing::error!(%error, "files of the configuration were not read again");
            }
        }
        before = seen;
    }
}

/// Says whether any file changed; `None`: the configuration refers to none.
fn fingerprint(fleet: &Fleet) -> Option<blake3::Hash> {
    let files = files(fleet);
    let mut hasher = blake3::Hasher::new();
    for path in &files {
        // One that cannot be read now is as different from its content as another content.
        let content = fs::read(path).map_err(|error| error.kind().to_string());
        let content =
            content.as_ref().map_or_else(|error| blake3::hash(error.as_bytes()), |c| blake3::hash(c));
        hasher.update(blake3::hash(path.as_bytes()).as_bytes()).update(content.as_bytes());
    }
    (!files.is_empty()).then(|| hasher.finalize())
}

fn files(fleet: &Fleet) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for upstream in &fleet.upstreams {
        let env = upstream.primary.iter().filter_map(|one| match &one.kind {
            EndpointKind::Stdio { env, .. } => Some(env.values()),
            EndpointKind::Http { .. } => None,
        });
        for reference in upstream.headers.values().chain(env.flatten()) {
            if let Reference::File(path) = reference {
                found.insert(path.as_str());
            }
        }
        found.extend(upstream.tls.ca.as_deref());
        found.extend(upstream.tls.identity.iter().flat_map(|one| [one.cert.as_str(), one.key.as_str()]));
    }
    found
}
