//! WHO ANSWERS: on the aggregated route, finds the upstream that owns a name or a resource and puts together
//! what many say; on a route of one upstream, passes on.
//!
//! Owns names: it alone knows prefixes, and edits exactly the bytes of a name. It must never know endpoints,
//! connections or how an upstream is reached.

mod capabilities;
mod catalogue;
mod legacy;
mod listen;
mod merge;
mod modern;
mod names;
mod requests;
mod stream;

use crate::{
    call::{Call, Caller, Handle, Reply, Route, Upstreams},
    context::Context,
    failure::{Failure, Kind},
    mcp::{Message, method},
    plan::{Plan, Upstream},
};
use catalogue::Catalogue;
use std::sync::Arc;

/// The layer. Cheap to clone.
pub struct Router<N> {
    context: Context,
    next: Arc<N>,
    catalogue: Arc<Catalogue>,
}

impl<N> Clone for Router<N> {
    fn clone(&self) -> Self {
        Self { context: self.context.clone(), next: self.next.clone(), catalogue: self.catalogue.clone() }
    }
}

impl<N: Upstreams> Router<N> {
    /// The layer over `next`.
    #[must_use]
    pub fn new(context: &Context, next: N) -> Self {
        let catalogue = Arc::new(Catalogue::new(&context.metrics));
        Self { context: context.clone(), next: Arc::new(next), catalogue }
    }

    /// Who offers a tool or prompt of this name, and what it calls it.
    async fn owner_of(
        &self,
        call: &Call,
        message: &Message,
        name: &str,
    ) -> Result<(Arc<Upstream>, String), Failure> {
        let kind =
            if message.method() == method::TOOLS_CALL { method::TOOLS_LIST } else { method::PROMPTS_LIST };
        if let Some(found) = names::by_prefix(&call.plan, name) {
            return Ok(found);
        }
        if let Some(owner) = self.owner_without_prefix(call, kind, name).await {
            return Ok((owner, name.to_owned()));
        }
        let what = if kind == method::TOOLS_LIST { "tool" } else { "prompt" };
        Err(Failure::new(Kind::UnknownName, format!("Unknown {what}: {name}")))
    }

    /// Among upstreams whose names stand as they are, the one that lists this name; the only one there is,
    /// when there is one.
    async fn owner_without_prefix(
        &self,
        call: &Call,
        list: &'static str,
        name: &str,
    ) -> Option<Arc<Upstream>> {
        let mut candidates = call.plan.upstreams.iter().filter(|one| one.prefix.is_empty());
        let (first, more) = (candidates.next()?, candidates.next().is_some());
        if !more {
            return Some(first.clone());
        }
        let listed = |plan: &Plan| {
            let open = plan.upstreams.iter().filter(|one| one.prefix.is_empty());
            open.into_iter().find(|one| self.catalogue.lists(one, list, name)).cloned()
        };
        if let Some(found) = listed(&call.plan) {
            return Some(found);
        }
        let open: Vec<_> = call.plan.upstreams.iter().filter(|one| one.prefix.is_empty()).cloned().collect();
        self.learn(call, &open, &[list]).await;
        listed(&call.plan)
    }

    /// Who owns a resource: the upstream that lists it, one with a fitting template, or the only one with
    /// resources. Never several: a read may cost something.
    async fn owner_of_resource(&self, call: &Call, uri: &str) -> Result<Arc<Upstream>, Failure> {
        if let Some(owner) = self.catalogue.owner_of_resource(&call.plan, uri) {
            return Ok(owner);
        }
        let offering = self.offering(call, "resources").await;
        if let [only] = offering.as_slice() {
            return Ok(only.clone());
        }
        let unsure: Vec<_> = offering.iter().filter(|one| self.catalogue.is_stale(one)).cloned().collect();
        self.learn(call, &unsure, &[method::RESOURCES_LIST, method::TEMPLATES_LIST]).await;
        self.catalogue
            .owner_of_resource(&call.plan, uri)
            .ok_or_else(|| Failure::new(Kind::UnknownResource, format!("Resource not found: {uri}")))
    }

    /// The upstreams that can be reached and announce a capability.
    async fn offering(&self, call: &Call, capability: &str) -> Vec<Arc<Upstream>> {
        let handshakes = self.handshakes(call).await;
        let offers = |(upstream, handshake): (Arc<Upstream>, Result<Message, Failure>)| {
            let handshake = handshake.ok()?;
            capabilities::offers(&handshake, capability).then_some(upstream)
        };
        handshakes.into_iter().filter_map(offers).collect()
    }

    /// What every upstream says of itself, asked at once, in the plan's order.
    async fn handshakes(&self, call: &Call) -> Vec<(Arc<Upstream>, Result<Message, Failure>)> {
        let asks =
            call.plan.upstreams.iter().map(|upstream| async {
                (upstream.clone(), self.next.handshake(call, upstream.clone()).await)
            });
        futures_util::future::join_all(asks).await
    }
}

impl<N: Upstreams + Handle> Handle for Router<N> {
    async fn handle(&self, call: Call) -> Result<Reply, Failure> {
        match (&call.route, &call.caller) {
            (Route::One(_), _) => self.next.handle(call).await,
            (Route::Server(_), Caller::Modern) => self.modern(call).await,
            (Route::Server(_), Caller::Legacy(Some(session))) => {
                let session = session.clone();
                self.legacy(call, &session).await
            }
            (Route::Server(_), Caller::Legacy(None)) => {
                Err(Failure::new(Kind::MissingSession, "this route needs a session: send `initialize` first"))
            }
        }
    }
}

/// Who is meant by a message that the router does not know: the only upstream there is.
fn only(call: &Call, message: &Message) -> Result<Arc<Upstream>, Failure> {
    match call.plan.upstreams.as_slice() {
        [only] => Ok(only.clone()),
        _ => Err(Failure::new(
            Kind::UnknownMethod,
            format!("Method not found: {} (on this route no upstream can be told from it)", message.method()),
        )),
    }
}
