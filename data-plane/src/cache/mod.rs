//! KNOWN ALREADY: answers a call from what an upstream answered before, or together with others who ask the same
//! now; every other call passes.
//!
//! [`eligible`] says what a call is to the cache, [`key`] tells questions apart, [`scope`] knows what may have changed
//! since when, [`entry`] is one answer in memory, [`tier`] holds them within bounds and counts them, [`flight`] is one
//! exchange for many, [`read`] puts them together. [`tap`] and [`listening`] hear what upstreams say has changed.
//! What the primary of an upstream with a backup says goes into the snapshot as well, and comes from there when
//! nobody else answers: [`kept`], [`overhear`].
//!
//! It must never give an answer to another principal than asked unless the server or the operator says that it is
//! everybody's, never let an answer land that an invalidation overtook, and never change more of one than its id
//! and its remaining life.

mod answer;
mod eligible;
pub mod entry;
mod flight;
mod freshness;
mod kept;
pub mod key;
mod listening;
mod overhear;
mod read;
pub mod scope;
mod tap;
pub mod tier;
mod writes;

use crate::{
    call::{Ask, Call, Handle, Reply, Route, Session, Upstreams},
    context::Context,
    failure::Failure,
    mcp::{Message, method},
    plan::{self, Plan},
    purge::{Forget, Order, Purged},
};
use eligible::{Method, Part};
use flight::Flights;
use kept::Kept;
use key::Key;
use listening::Listening;
use o1_process::OnExit;
use scope::{Scope, Scopes, Subject};
use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tier::Tiers;
use tokio::time::Instant;

/// How long what cannot serve any more may take up room.
const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// The layer. Cheap to clone.
pub struct Cache<N>(Arc<Inner<N>>);

impl<N> Clone for Cache<N> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<N> {
    next: N,
    context: Context,
    scopes: Scopes,
    tiers: Tiers,
    flights: Arc<Flights<read::Landed>>,
    seen: Seen,
    /// What is being fetched again behind its callers.
    refreshing: Mutex<HashSet<Key>>,
    listening: Listening,
}

impl<N: Upstreams> Cache<N> {
    /// The layer over `next`. Follows the plan from now on: tiers take its limits, and what it does not serve any
    /// more is forgotten.
    #[must_use]
    pub fn new(context: &Context, next: N) -> Self {
        let inner = Arc::new(Inner {
            next,
            context: context.clone(),
            scopes: Scopes::new(&context.metrics),
            tiers: Tiers::new(&context.current.plan().caching),
            flights: Arc::default(),
            seen: Seen::default(),
            refreshing: Mutex::default(),
            listening: Listening::default(),
        });
        let upkeep = inner.clone().upkeep();
        context.tasks.spawn("cache upkeep", OnExit::Log, upkeep);
        Self(inner)
    }

    /// What concerns `subject` may have changed at the upstream of that name, or at all: nothing that was asked for
    /// before answers for it any more.
    pub fn invalidate(&self, upstream: Option<&str>, subject: &Subject) {
        self.0.scopes.invalidate(upstream, subject);
    }
}

impl<N: Upstreams> Forget for Cache<N> {
    fn purge(&self, order: &Order) -> Purged {
        let (upstream, subject) =
            (order.upstream.as_deref(), order.tier.map_or(Subject::Everything, Subject::Tier));
        // Counted as purged where they are; whoever holds one already finds that it does not hold.
        let purged = self.0.tiers.purge(upstream, order.tier);
        self.invalidate(upstream, &subject);
        let late = self.0.tiers.purge(upstream, order.tier);
        Purged { entries: purged.entries + late.entries, bytes: purged.bytes + late.bytes }
    }
}

impl<N: Upstreams> Inner<N> {
    async fn upkeep(self: Arc<Self>) {
        let mut plans = self.context.current.watch();
        let stopping = self.context.tasks.stopping();
        loop {
            let plan = plans.borrow_and_update().clone();
            self.tiers.configure(&plan.caching);
            // Each time: a call under the plan before may just have left something.
            self.scopes.retain(&plan);
            self.seen.retain(&plan);
            self.listening.retain(&plan);
            self.tiers.sweep(Instant::now());
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(SWEEP_EVERY) => {}
                changed = plans.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Asks the upstream. Boxed, because an exchange with one is large and an answer from memory is not: whoever
    /// waits for either has room for both.
    fn below(
        &self,
        call: Call,
        upstream: Arc<plan::Upstream>,
    ) -> Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send + '_>> {
        Box::pin(self.next.ask(call, upstream))
    }

    /// What takes no part.
    async fn pass(&self, call: Call, upstream: Arc<plan::Upstream>) -> Result<Reply, Failure> {
        if let (Ask::Message(message), Some(session)) = (&call.ask, call.session())
            && message.method() == method::CANCELLED
            && self.is_kept(message, session)
        {
            return Ok(Reply::accepted());
        }
        let (scope, kept) = (self.scopes.of(&upstream), Kept::new(&self.context, &call, &upstream));
        self.kept_or_instead(kept, self.below(call, upstream).await, &scope)
    }

    /// What came of asking for what may last: heard as it passes, or in place of it what was kept.
    fn kept_or_instead(
        &self,
        kept: Option<Kept>,
        asked: Result<Reply, Failure>,
        scope: &Arc<Scope>,
    ) -> Result<Reply, Failure> {
        let away = match &asked {
            Ok(reply) => kept::is_away_status(reply.status),
            Err(failure) => kept::is_away(failure),
        };
        if away && let Some(reply) = kept.as_ref().and_then(Kept::instead) {
            return Ok(reply);
        }
        let reply = tap::tapped(asked?, scope);
        Ok(match kept {
            Some(kept) => overhear::overheard(reply, kept),
            None => reply,
        })
    }

    /// Whether a cancellation is of a request for whose answer others wait.
    fn is_kept(&self, cancelled: &Message, session: &Session) -> bool {
        let id = cancelled.param(&["requestId"]).ok().flatten();
        id.is_some_and(|at| self.flights.keeps(&session.serial, &cancelled.bytes()[at]))
    }

    async fn write(&self, call: Call, upstream: Arc<plan::Upstream>) -> Result<Reply, Failure> {
        let scope = self.scopes.of(&upstream);
        let written = writes::Written::new(&scope);
        let reply = tap::tapped(self.below(call, upstream).await?, &scope);
        Ok(written.when_answered(reply))
    }
}

impl<N: Upstreams> Upstreams for Cache<N> {
    async fn ask(&self, call: Call, upstream: Arc<plan::Upstream>) -> Result<Reply, Failure> {
        if upstream.backup.is_some()
            && let Some(answer) = self.0.by_snapshot(&call, &upstream)
        {
            return answer;
        }
        match eligible::part(&call, &upstream) {
            Part::Nothing => self.0.pass(call, upstream).await,
            Part::Writes => self.0.write(call, upstream).await,
            Part::Reads(read) => self.0.read(call, upstream, read).await,
        }
    }

    async fn handshake(&self, call: &Call, upstream: Arc<plan::Upstream>) -> Result<Message, Failure> {
        if upstream.backup.is_some() {
            return Box::pin(self.0.kept_handshake(call, upstream)).await;
        }
        self.0.next.handshake(call, upstream).await
    }

    fn generation(&self, upstream: &plan::Upstream) -> u64 {
        self.0.next.generation(upstream)
    }
}

impl<N: Upstreams + Handle> Handle for Cache<N> {
    /// For calls that name their upstream by their route.
    async fn handle(&self, call: Call) -> Result<Reply, Failure> {
        match &call.route {
            Route::One(upstream) => {
                let upstream = upstream.clone();
                self.ask(call, upstream).await
            }
            Route::Server(_) => Box::pin(self.0.next.handle(call)).await,
        }
    }
}

/// Whether the last answer to a method was everybody's. A hint for whom to let wait for whom, and nothing else.
#[derive(Default)]
struct Seen(Mutex<HashMap<(plan::Key, &'static str), bool>>);

impl Seen {
    fn lock(&self) -> MutexGuard<'_, HashMap<(plan::Key, &'static str), bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, upstream: &plan::Upstream, method: Method, public: bool) {
        self.lock().insert((upstream.key, method.word()), public);
    }

    fn was_private(&self, upstream: &plan::Upstream, method: Method) -> bool {
        self.lock().get(&(upstream.key, method.word())) == Some(&false)
    }

    fn retain(&self, plan: &Plan) {
        self.lock().retain(|(key, _), _| plan.by_key(key).is_some());
    }
}

#[cfg(test)]
mod layer_tests;
#[cfg(test)]
mod tests;
