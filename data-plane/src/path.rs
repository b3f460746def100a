//! The order of the layers, nothing else. Bottom first, because each layer owns the next.

use crate::{
    backend::{Backends, Bridges},
    cache::Cache,
    context::Context,
    router::Router,
    session::Sessions,
    upstream::Upstream,
};
use std::sync::Arc;

/// The data path.
pub type Path = Sessions<Router<Cache<Upstream<Bridges<Backends>>>>>;

/// Builds the data path. Spawns what the layers do by themselves; needs a runtime.
#[must_use]
pub fn build(context: &Context) -> Arc<Path> {
    let backends = Bridges::new(context); // speaks MCP to one server, in the caller's era
    let upstream = Upstream::new(context, backends); // which endpoint, how long?
    let cache = Cache::new(context, upstream); // known already?
    let router = Router::new(context, cache); // who answers this name?
    Sessions::new(context, router) // who is asking, in which session?
}
