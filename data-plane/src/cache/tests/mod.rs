//! What the storage of the cache must keep up, whatever happens to it: keys, a model under a paused clock, threads.

mod keys;
mod model;
mod threads;

use super::{
    entry::{Entry, Terms},
    scope::{Scope, Scopes, Subject},
};
use crate::{
    call::{Ask, Call, Caller, Route},
    mcp::Message,
    metrics::{CacheSample, Metrics},
    plan::{Plan, Upstream},
    principal::{Access, Principal},
};
use bytes::Bytes;
use http::HeaderMap;
use o1_proto::model::{Caching, Eviction, Tier, TierLimits};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// A message from its text.
pub(super) fn message(text: impl Into<String>) -> Message {
    Message::parse(&Bytes::from(text.into())).unwrap()
}

/// A modern call of a principal, without headers.
pub(super) fn call(principal: &str, text: impl Into<String>) -> Call {
    Call {
        plan: Arc::new(Plan::empty()),
        route: Route::One(Arc::new(Upstream::bare("u"))),
        principal: Arc::new(Principal { id: principal.to_owned(), access: Access::everything() }),
        caller: Caller::Modern,
        ask: Ask::Message(message(text)),
        headers: HeaderMap::new(),
        fresh: false,
    }
}

/// The modern request that is about `subject`.
pub(super) fn request_of(subject: &Subject) -> String {
    let (method, params) = match subject {
        Subject::List(method) => (*method, "{}".to_owned()),
        Subject::Tool(name) => ("tools/call", format!(r#"{{"name":"{name}"}}"#)),
        Subject::Prompt(name) => ("prompts/get", format!(r#"{{"name":"{name}"}}"#)),
        Subject::Resource(uri) => ("resources/read", format!(r#"{{"uri":"{uri}"}}"#)),
        wide => panic!("no request is about {wide:?}"),
    };
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}

/// Numbers, and a scope that counts there as the upstream `u`.
pub(super) fn scope() -> (Arc<Metrics>, Arc<Scope>) {
    let metrics = Arc::new(Metrics::default());
    let scope = Scopes::new(&metrics).of(&Upstream::bare("u"));
    (metrics, scope)
}

/// A resource of `u` as an answer of so many bytes, received now and fresh for `life`.
pub(super) fn resource(scope: &Arc<Scope>, uri: &str, size: usize, life: Duration) -> Arc<Entry> {
    answer(scope, Subject::Resource(uri.into()), size, life)
}

/// An answer of so many bytes about `subject`, received now and fresh for `life`.
pub(super) fn answer(scope: &Arc<Scope>, subject: Subject, size: usize, life: Duration) -> Arc<Entry> {
    let frame = r#"{"jsonrpc":"2.0","id":1,"result":{"x":""}}"#;
    let text = frame.replace("\"\"", &format!("\"{}\"", "x".repeat(size.saturating_sub(frame.len()))));
    let stamp = scope.now();
    let received = Instant::now();
    let terms = Terms { scope: scope.clone(), subject, stamp, public: true, received, life, hinted: true };
    Arc::new(Entry::new(&message(text), terms).unwrap())
}

/// The same limits for every tier, without windows.
pub(super) fn caching(entries: u32, bytes: u64, eviction: Eviction) -> Caching {
    let tier = TierLimits {
        ttl: Duration::from_secs(60),
        entries,
        bytes,
        eviction,
        stale_if_error: Duration::ZERO,
        stale_while_revalidate: Duration::ZERO,
    };
    Caching { tools: tier.clone(), resources: tier.clone(), catalogue: tier }
}

/// What was counted for one tier of an upstream.
pub(super) fn counted(metrics: &Metrics, upstream: &str, tier: Tier) -> CacheSample {
    let samples = metrics.samples();
    samples.iter().find(|(name, _)| name == upstream).map(|(_, sample)| sample.cache[tier.at()]).unwrap()
}
