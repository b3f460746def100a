//! What outlives a plan: the backends of an upstream, by its key.

use super::{joint::Joint, store::Store};
use crate::{
    call::{Backend, Call, Connect},
    context::Context,
    current,
    failure::{Failure, Kind},
    mcp::{Era, Message},
    metrics,
    plan::{self, Key},
    stores::Stores,
};
use o1_proto::model;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long an upstream's answer to `server/discover` is taken for granted.
const DISCOVER_FRESH: Duration = Duration::from_secs(30);

/// One upstream, alive.
pub(super) struct Runtime<B> {
    pub(super) upstream: Arc<plan::Upstream>,
    pub(super) metrics: Arc<metrics::Upstream>,
    /// Cancelled when no plan serves it any more: streams end, sessions are over.
    pub(super) retired: CancellationToken,
    /// What its endpoints carry, and who is next.
    pub(super) store: Arc<Store>,
    endpoints: Vec<B>,
    /// Its answer to `server/discover`.
    discovered: Joint<(Instant, Message)>,
}

impl<B: Backend> Runtime<B> {
    pub(super) fn endpoint_at(&self, at: usize) -> &B {
        &self.endpoints[at]
    }

    pub(super) fn endpoints(&self) -> &[B] {
        &self.endpoints
    }

    /// Whether it speaks an era by itself: what the first endpoint says that can be asked.
    pub(super) async fn speaks(&self, era: Era) -> Result<bool, Failure> {
        let mut last = None;
        for at in self.store.order_from(0) {
            if let Err(failure) = self.store.check(at) {
                last = last.or(Some(failure));
                continue;
            }
            match self.endpoints[at].speaks(era).await {
                Ok(speaks) => return Ok(speaks),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.unwrap_or_else(|| Failure::new(Kind::Unreachable, "the upstream has no endpoint")))
    }

    /// Notes that an era was spoken, if the endpoint did so itself and nobody translated.
    pub(super) async fn spoke(&self, at: usize, era: Era) {
        if matches!(self.endpoints[at].speaks(era).await, Ok(true)) {
            self.metrics.spoke(era);
        }
    }

    /// What its tasks are called after.
    pub(super) fn called(&self) -> String {
        let (name, store) = (&self.upstream.name, self.upstream.store);
        if store == model::Store::Primary { name.clone() } else { format!("{name} {}", store.word()) }
    }

    /// Remembers that it answered.
    pub(super) fn reached(&self) {
        self.metrics.reached(self.upstream.store);
    }

    /// Remembers what a failure says about the upstream.
    pub(super) fn note(&self, failure: &Failure) {
        if matches!(failure.kind, Kind::Unreachable | Kind::Timeout) {
            self.metrics.missed(self.upstream.store, failure);
        }
    }

    /// Its answer to `server/discover`; concurrent callers share one request.
    pub(super) async fn discover(&self, call: &Call) -> Result<Message, Failure> {
        let fetched = async {
            let mut last = None;
            for at in self.store.order(call) {
                let pass = match self.store.attempt(at) {
                    Ok(pass) => pass,
                    Err(failure) => {
                        last = last.or(Some(failure));
                        continue;
                    }
                };
                match self.endpoints[at].discover().await {
                    Ok(answer) => {
                        pass.answered();
                        self.reached();
                        self.spoke(at, Era::Modern).await;
                        return Ok((Instant::now(), answer));
                    }
                    Err(failure) => {
                        pass.failed(&failure);
                        last = Some(failure);
                    }
                }
            }
            Err(last.unwrap_or_else(|| Failure::new(Kind::Unreachable, "the upstream has no endpoint")))
        };
        let fresh = |(at, _): &(Instant, Message)| at.elapsed() < DISCOVER_FRESH;
        let found = self.discovered.get(fresh, fetched).await.inspect_err(|failure| self.note(failure));
        Ok(found?.1)
    }
}

/// Every upstream that a plan serves, and those whose calls are still ending.
pub(super) struct Runtimes<C: Connect> {
    connect: C,
    current: current::Reader,
    metrics: Arc<metrics::Metrics>,
    stores: Arc<Stores>,
    by_key: RwLock<HashMap<Key, Arc<Runtime<C::Backend>>>>,
}

impl<C: Connect> Runtimes<C> {
    pub(super) fn new(context: &Context, connect: C) -> Self {
        Self {
            connect,
            current: context.current.clone(),
            metrics: context.metrics.clone(),
            stores: context.stores.clone(),
            by_key: RwLock::default(),
        }
    }

    /// The runtime of an upstream that the plan in force serves.
    pub(super) fn get(&self, upstream: &Arc<plan::Upstream>) -> Result<Arc<Runtime<C::Backend>>, Failure> {
        if let Some(found) = self.by_key.read().unwrap_or_else(PoisonError::into_inner).get(&upstream.key) {
            return Ok(found.clone());
        }
        let mut by_key = self.by_key.write().unwrap_or_else(PoisonError::into_inner);
        if !self.current.plan().serves(upstream) {
            return Err(Failure::new(
                Kind::Unreachable,
                "the upstream was removed or changed by a new configuration",
            ));
        }
        Ok(by_key.entry(upstream.key).or_insert_with(|| Arc::new(self.start(upstream))).clone())
    }

    /// Changes when another process of the upstream may answer than before.
    pub(super) fn generation(&self, upstream: &plan::Upstream) -> u64 {
        let by_key = self.by_key.read().unwrap_or_else(PoisonError::into_inner);
        let endpoints = by_key.get(&upstream.key).map(|runtime| runtime.endpoints());
        endpoints.into_iter().flatten().map(Backend::generation).sum()
    }

    fn start(&self, upstream: &Arc<plan::Upstream>) -> Runtime<C::Backend> {
        let metrics = self.metrics.upstream(&upstream.name);
        Runtime {
            endpoints: (0..upstream.endpoints.len()).map(|at| self.connect.backend(upstream, at)).collect(),
            store: Store::new(upstream, &metrics, self.stores.gate(&upstream.name)),
            metrics,
            upstream: upstream.clone(),
            retired: CancellationToken::new(),
            discovered: Joint::default(),
        }
    }

    /// Takes out what the plan in force does not serve.
    pub(super) fn take_unserved(&self) -> Vec<Arc<Runtime<C::Backend>>> {
        let mut by_key = self.by_key.write().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: a call under a newer plan may just have started what an older one lacks.
        let plan = self.current.plan();
        let gone: Vec<_> =
            by_key.iter().filter(|(_, one)| !plan.serves(&one.upstream)).map(|(key, _)| *key).collect();
        gone.iter().filter_map(|key| by_key.remove(key)).collect()
    }

    /// Takes out everything.
    pub(super) fn take_all(&self) -> Vec<Arc<Runtime<C::Backend>>> {
        self.by_key.write().unwrap_or_else(PoisonError::into_inner).drain().map(|(_, one)| one).collect()
    }
}
