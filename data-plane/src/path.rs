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

/// What the failover path replays writes through: the lowest layer that chooses endpoints.
pub type Primaries = Upstream<Bridges<Backends>>;

/// Builds the data path. Spawns what the layers do by themselves; needs a runtime.
#[must_use]
pub fn build(context: &Context) -> (Arc<Path>, Arc<Primaries>) {
    let backends = Bridges::new(context); // speaks MCP to one server, in the caller's era
    let upstream = Upstream::new(context, backends); // which endpoint, how long?
    let primaries = Arc::new(upstream.clone());
    let cache = Cache::new(context, upstream); // known already?
    let router = Router::new(context, cache); // who answers this name?
    (Sessions::new(context, router), primaries) // who is asking, in which session?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Call, Handle as _};

    /// Every open connection keeps room for a whole call and moves all of it with each request.
    #[test]
    fn a_call_that_memory_answers_takes_little_room() {
        fn room<F: Future>(_: impl Fn(&'static Path, Call) -> F) -> usize {
            size_of::<F>()
        }
        let room = room(|path, call| path.handle(call));
        assert!(room <= 8 << 10, "{room} bytes: box what only some calls need");
    }
}
