//! Wire ↔ model. Into the wire cannot fail; out of it every problem is collected, none guessed away.

mod auth;
mod cache;
mod clients;
mod event;
mod failover;
mod server;
mod spread;
mod tier;
mod time;
mod upstream;

pub use event::{
    breaker, decision_reason, decision_state, decode_event, decode_failover_stats, directive, encode_event,
    encode_failover_stats, event, event_kind, failover_state, failover_stats, from_breaker,
    from_decision_reason, from_decision_state, from_directive, from_event, from_event_kind,
    from_failover_state, from_failover_stats, from_phase, from_refusal, from_store, from_store_health,
    from_verdict, phase, refusal, store, store_health, verdict,
};
pub use failover::from_writes;
pub use tier::{from_tier, tier};
pub use time::{duration, duration_or, from_duration, from_system_time, system_time};

use crate::{
    digest,
    model::Fleet,
    wire::{Rejection, RejectionReason, Resource, ResourceKey, ResourceKind},
};
use prost::Message;
use std::ops::RangeInclusive;

/// Encodes a configuration as resources, sorted by (kind, name), digests filled in. The same fleet gives the
/// same bytes.
#[must_use]
pub fn encode(fleet: &Fleet) -> Vec<Resource> {
    let mut resources: Vec<_> = fleet
        .upstreams
        .iter()
        .map(|one| resource(ResourceKind::Upstream, &one.name, &upstream::encode(one)))
        .collect();
    resources.sort_by(|a, b| key_name(a).cmp(key_name(b)));
    resources.push(resource(ResourceKind::Clients, "clients", &clients::encode(&fleet.clients)));
    let mut servers: Vec<_> = fleet
        .servers
        .iter()
        .map(|one| resource(ResourceKind::Server, &one.name, &server::encode(one)))
        .collect();
    servers.sort_by(|a, b| key_name(a).cmp(key_name(b)));
    resources.extend(servers);
    resources.extend(auth::encode(&fleet.auth).map(|auth| resource(ResourceKind::Auth, "auth", &auth)));
    let caching = cache::encode(&fleet.caching);
    resources.extend(caching.map(|settings| resource(ResourceKind::Cache, "cache", &settings)));
    let batching = cache::encode_batching(fleet.batching);
    resources.extend(batching.map(|settings| resource(ResourceKind::Batching, "batching", &settings)));
    resources
}

/// Decodes what [`encode`] made, or says everything that is wrong with it.
///
/// # Errors
/// Every rejection, in the order of the resources: unknown kinds, bytes that do not decode, digests that do not
/// match, values that break a rule, names used twice.
pub fn decode(resources: &[Resource]) -> Result<Fleet, Vec<Rejection>> {
    let mut fleet = Fleet::default();
    let mut problems = Vec::new();
    for resource in resources {
        let key = resource.key.clone().unwrap_or_default();
        let mut at = At { key: &key, problems: &mut problems };
        if digest::payload(&resource.payload) != resource.digest {
            at.reject(RejectionReason::DigestMismatch, "", "the digest does not match the payload");
            continue;
        }
        match ResourceKind::try_from(key.kind) {
            Ok(ResourceKind::Upstream) => {
                fleet.upstreams.extend(upstream::decode(&mut at, &resource.payload))
            }
            Ok(ResourceKind::Clients) => {
                if let Some(found) = clients::decode(&mut at, &resource.payload) {
                    fleet.clients = found;
                }
            }
            Ok(ResourceKind::Auth) => {
                if let Some(found) = auth::decode(&mut at, &resource.payload) {
                    fleet.auth = found;
                }
            }
            Ok(ResourceKind::Cache) => {
                if let Some(found) = cache::decode(&mut at, &resource.payload) {
                    fleet.caching = found;
                }
            }
            Ok(ResourceKind::Batching) => {
                if let Some(found) = cache::decode_batching(&mut at, &resource.payload) {
                    fleet.batching = found;
                }
            }
            Ok(ResourceKind::Server) => fleet.servers.extend(server::decode(&mut at, &resource.payload)),
            Ok(ResourceKind::Unspecified) | Err(_) => {
                let what = format!("this build does not know resources of kind {}", key.kind);
                at.reject(RejectionReason::UnknownKind, "", what);
            }
        }
    }
    fleet.upstreams.sort_by(|a, b| a.name.cmp(&b.name));
    fleet.servers.sort_by(|a, b| a.name.cmp(&b.name));
    conflicts(&fleet, &mut problems);
    if problems.is_empty() { Ok(fleet) } else { Err(problems) }
}

/// Where resources contradict each other.
fn conflicts(fleet: &Fleet, problems: &mut Vec<Rejection>) {
    let mut conflict = |kind: ResourceKind, name: &str, field: &str, what: String| {
        let key = ResourceKey { kind: kind.into(), name: name.to_owned() };
        At { key: &key, problems }.reject(RejectionReason::Conflict, field, what);
    };
    for pair in fleet.upstreams.windows(2) {
        if let [first, second] = pair
            && first.name == second.name
        {
            let what = format!("two upstreams are named `{}`", first.name);
            conflict(ResourceKind::Upstream, &first.name, "", what);
        }
    }
    for pair in fleet.servers.windows(2) {
        if let [first, second] = pair
            && first.name == second.name
        {
            let what = format!("two servers are named `{}`", first.name);
            conflict(ResourceKind::Server, &first.name, "", what);
        }
    }
    for server in &fleet.servers {
        for name in &server.upstreams {
            if fleet.upstreams.iter().all(|one| one.name != *name) {
                let what = format!("there is no upstream `{name}`");
                conflict(ResourceKind::Server, &server.name, "upstreams", what);
            }
        }
    }
}

/// Where a decoder stands, and where it puts what it finds.
struct At<'a> {
    key: &'a ResourceKey,
    problems: &'a mut Vec<Rejection>,
}

impl At<'_> {
    fn reject(&mut self, reason: RejectionReason, field: &str, message: impl Into<String>) {
        self.problems.push(Rejection {
            resource: Some(self.key.clone()),
            reason: reason.into(),
            field_path: field.to_owned(),
            message: message.into(),
        });
    }

    /// A word of a newer contract: what it asks for cannot be guessed.
    fn unknown(&mut self, field: &str, what: &str) {
        self.reject(RejectionReason::InvalidField, field, format!("{what} that this build does not know"));
    }

    fn within(&mut self, field: &str, found: u32, range: RangeInclusive<u32>) {
        if !range.contains(&found) {
            let what = format!("{found} is not within {} and {}", range.start(), range.end());
            self.reject(RejectionReason::InvalidField, field, what);
        }
    }

    fn message<M: Message + Default>(&mut self, payload: &[u8]) -> Option<M> {
        match M::decode(payload) {
            Ok(message) => Some(message),
            Err(error) => {
                self.reject(RejectionReason::Decode, "", format!("the payload does not decode: {error}"));
                None
            }
        }
    }
}

fn resource(kind: ResourceKind, name: &str, message: &impl Message) -> Resource {
    let payload = message.encode_to_vec();
    Resource {
        key: Some(ResourceKey { kind: kind.into(), name: name.to_owned() }),
        digest: digest::payload(&payload),
        payload: payload.into(),
    }
}

fn key_name(resource: &Resource) -> &str {
    resource.key.as_ref().map_or("", |key| key.name.as_str())
}

#[cfg(test)]
mod tests;
