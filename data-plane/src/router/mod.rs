//! WHO ANSWERS: on the aggregated route, finds the upstream that owns a name or a resource and puts together
//! what many say; on a route of one upstream, passes on.
//!
//! Owns names: it alone knows prefixes, and edits exactly the bytes of a name. It must never know endpoints,
//! connections or how an upstream is reached.

mod again;
mod alone;
mod capabilities;
mod catalogue;
mod category;
mod filtered;
mod inventory;
mod legacy;
mod listen;
mod lists;
mod modern;
mod names;
mod notices;
mod offer;
mod owners;
mod purge;
mod requests;
mod status;
mod stream;

use crate::{
    call::{Call, Caller, Handle, Reply, Route, Upstreams},
    context::Context,
    failure::{Failure, Kind},
    mcp::Message,
    plan::{Server, Upstream},
};
use catalogue::Catalogue;
use o1_process::OnExit;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// The layer. Cheap to clone.
pub struct Router<N> {
    context: Context,
    next: Arc<N>,
    catalogue: Arc<Catalogue<N>>,
    clashes: Arc<Clashes>,
}

impl<N> Clone for Router<N> {
    fn clone(&self) -> Self {
        Self {
            context: self.context.clone(),
            next: self.next.clone(),
            catalogue: self.catalogue.clone(),
            clashes: self.clashes.clone(),
        }
    }
}

impl<N: Upstreams> Router<N> {
    /// The layer over `next`.
    #[must_use]
    pub fn new(context: &Context, next: N) -> Self {
        let next = Arc::new(next);
        let catalogue = Catalogue::new(context, &next);
        let (stores, stopping) = (context.stores.clone(), context.tasks.stopping());
        context.tasks.spawn("clients told", OnExit::Quiet, async move {
            loop {
                tokio::select! {
                    () = stores.gather_told() => {}
                    () = stopping.cancelled() => return,
                }
            }
        });
        Self { context: context.clone(), next, catalogue, clashes: Arc::default() }
    }
}

impl<N: Upstreams + Handle> Handle for Router<N> {
    async fn handle(&self, call: Call) -> Result<Reply, Failure> {
        match (&call.route, &call.caller) {
            // Nothing is hidden from it, and nothing to be told of.
            (Route::One(upstream), _)
                if upstream.backup.is_none() && call.principal.access.every_tool(upstream) =>
            {
                self.next.handle(call).await
            }
            (Route::One(upstream), _) => {
                let upstream = upstream.clone();
                Box::pin(self.one(call, &upstream)).await
            }
            // Boxed: a connection keeps room for the largest call it may carry, also for one that passes.
            (Route::Server(_), Caller::Modern) => Box::pin(self.modern(call)).await,
            (Route::Server(_), Caller::Legacy(Some(session))) => {
                let session = session.clone();
                Box::pin(self.legacy(call, &session)).await
            }
            (Route::Server(_), Caller::Legacy(None)) => {
                Err(Failure::new(Kind::MissingSession, "this route needs a session: send `initialize` first"))
            }
        }
    }
}

/// Who is meant by a message that the router does not know: the only upstream there is.
fn only(call: &Call, message: &Message) -> Result<Arc<Upstream>, Failure> {
    let server = lists::server(call)?;
    let mut usable = server.upstreams.iter().filter(|one| call.principal.access.upstream(one));
    match (usable.next(), usable.next()) {
        (Some(only), None) => Ok(only.clone()),
        _ => Err(Failure::new(
            Kind::UnknownMethod,
            format!("Method not found: {} (on this route no upstream can be told from it)", message.method()),
        )),
    }
}

/// Names that several upstreams claim, each told to the log once.
#[derive(Default)]
struct Clashes(Mutex<HashSet<(Option<String>, String, String)>>);

/// Clashes remembered; more are told again.
const CLASHES_MAX: usize = 4096;

impl Clashes {
    fn tell(&self, server: &Server, name: &str, first: &Upstream, other: &Upstream) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= CLASHES_MAX {
            told.clear();
        }
        if told.insert((server.name.clone(), name.to_owned(), other.name.clone())) {
            tracing::warn!(
                server = server.name.as_deref().unwrap_or("-"),
                name,
                served_by = first.name,
                hidden = other.name,
                "two upstreams offer the same name or URI: the first serves it; a prefix or `rename` tells tools apart"
            );
        }
    }
}

#[cfg(test)]
mod tests;
