//! Who is meant by a name or a URI, on a route of many upstreams. Never several: a call may cost something.

use super::{
    Router, capabilities,
    catalogue::{List, fetch},
    category::Category,
    lists::server,
    offer, requests, status,
};
use crate::{
    call::{Call, Session, Upstreams},
    failure::{Failure, Kind},
    mcp::Message,
    plan::Upstream,
};
use futures_util::future::join_all;
use std::{sync::Arc, time::Duration};

/// Younger lists are not fetched again only because a name is not on them.
const SURE_FOR: Duration = Duration::from_secs(2);
/// How long a caller waits for a list that is fetched again for its sake.
const AGAIN_WITHIN: Duration = Duration::from_secs(2);
/// How long a session's own upstream session may take to answer a list.
const OWN_WITHIN: Duration = Duration::from_secs(10);

impl<N: Upstreams> Router<N> {
    /// Whose the tool or prompt of this name is, and what its upstream calls it. Who may not use one learns no
    /// more than that it does not exist.
    pub(super) async fn owner_of(
        &self,
        call: &Call,
        category: Category,
        name: &str,
    ) -> Result<(Arc<Upstream>, String), Failure> {
        let find = |index: Arc<offer::Index>| {
            index.find(name).map(|shown| (shown.upstream.clone(), shown.item().name.clone()))
        };
        if let Some(found) = find(self.index(call, category).await?) {
            return Ok(found);
        }
        if let Some(named) = offer::by_name(server(call)?, &call.principal.access, category, name) {
            match self.known(call, &named.0, category)? {
                // Nobody knows yet what it offers: it says so itself.
                None => return Ok(named),
                // Not taken out because it does not answer, and not so fresh that the name cannot be new.
                Some(list) if list.age() >= SURE_FOR => {
                    self.learn(call, std::slice::from_ref(&named.0), category).await?;
                    if let Some(found) = find(self.index(call, category).await?) {
                        return Ok(found);
                    }
                }
                Some(_) => {}
            }
        }
        let what = if category == Category::Tools { "tool" } else { "prompt" };
        Err(Failure::new(Kind::UnknownName, format!("Unknown {what}: {name}")))
    }

    /// What the caller's view, or anybody, knows of an upstream's list.
    fn known(
        &self,
        call: &Call,
        upstream: &Arc<Upstream>,
        category: Category,
    ) -> Result<Option<Arc<List>>, Failure> {
        let view = self.view(call, &server(call)?.upstreams)?;
        let state = view.entry(upstream).map(|entry| entry.state()).unwrap_or_default();
        Ok(state.list(category).cloned().or_else(|| self.catalogue.last(upstream, category)))
    }

    /// Fetches what a name was looked for in vain on, of the view and of the session.
    async fn learn(
        &self,
        call: &Call,
        upstreams: &[Arc<Upstream>],
        category: Category,
    ) -> Result<(), Failure> {
        let view = self.view(call, &server(call)?.upstreams)?;
        let learns = upstreams.iter().map(|upstream| {
            let entry = view.entry(upstream);
            async move {
                match call.session() {
                    Some(session) if requests::State::of(session).is_used(&upstream.name) => {
                        self.check_own(call, session, upstream, category).await;
                    }
                    _ => {
                        if let Some(entry) = entry {
                            entry.again(AGAIN_WITHIN).await;
                        }
                    }
                }
            }
        });
        join_all(learns).await;
        Ok(())
    }

    /// Looks again at the lists that a session's own upstream sessions say have changed.
    pub(super) async fn check_suspects(&self, call: &Call, session: &Arc<Session>) {
        let state = requests::State::of(session);
        state.doubted(self.catalogue.doubts());
        let suspects = state.take_suspects();
        let known = |(key, category)| Some((call.plan.by_key(&key)?.clone(), category));
        let checks = suspects.into_iter().filter_map(known).map(|(upstream, category)| async move {
            self.check_own(call, session, &upstream, category).await;
        });
        join_all(checks).await;
    }

    /// Compares a list of the session's own upstream session with what others see. Servers may offer more to one
    /// session than to another; that is then this session's own.
    async fn check_own(
        &self,
        call: &Call,
        session: &Arc<Session>,
        upstream: &Arc<Upstream>,
        category: Category,
    ) {
        let Ok(server) = server(call) else { return };
        let Ok(view) = self.view(call, &server.upstreams) else { return };
        let entry = view.entry(upstream);
        let shared = async {
            if let Some(entry) = &entry {
                entry.again(AGAIN_WITHIN).await;
            }
        };
        let own = async {
            let handshake = self.next.handshake(call, upstream.clone()).await?;
            if !capabilities::offers(&handshake, category.capability()) {
                return Ok(None);
            }
            fetch(&*self.next, call, upstream, category).await.map(Some)
        };
        let (own, ()) = tokio::join!(tokio::time::timeout(OWN_WITHIN, own), shared);
        match own {
            Ok(Ok(own)) => {
                let state = entry.map(|entry| entry.state()).unwrap_or_default();
                let same = |list: &List| state.list(category).is_some_and(|seen| seen.digest == list.digest);
                let differs = own.filter(|list: &List| !same(list)).map(Arc::new);
                requests::State::of(session).keep_own(&upstream.key, category, differs);
            }
            Ok(Err(failure)) => {
                tracing::debug!(upstream = upstream.name, error = failure.chain(), "own list not answered");
            }
            Err(_) => tracing::debug!(upstream = upstream.name, "own list not answered in time"),
        }
    }

    /// Whose a resource is: of the upstream that lists it, has the template that fits best, is named for it by the
    /// operator, or is the only one with resources.
    pub(super) async fn owner_of_resource(&self, call: &Call, uri: &str) -> Result<Arc<Upstream>, Failure> {
        if status::is_own(uri) {
            return Err(status::unknown(uri));
        }
        if let Some(owner) = self.resource_on_a_list(call, uri).await? {
            return Ok(owner);
        }
        let server = server(call)?;
        let usable = |one: &&Arc<Upstream>| {
            offer::face(server, &call.principal.access, Category::Resources, one, uri).is_ok()
        };
        let hints = server.upstreams.iter().filter(usable).flat_map(|one| {
            let fitting = one.resources.iter().filter(|prefix| uri.starts_with(prefix.as_str()));
            fitting.map(move |prefix| (prefix.len(), one))
        });
        if let Some((_, owner)) = hints.max_by_key(|(length, _)| *length) {
            return Ok(owner.clone());
        }
        let offering = self.offering(call, "resources").await?;
        if let [only] = offering.as_slice() {
            if usable(&only) {
                return Ok(only.clone());
            }
        } else {
            let mut old = Vec::new();
            for upstream in &offering {
                if self.known(call, upstream, Category::Resources)?.is_none_or(|list| list.age() >= SURE_FOR)
                {
                    old.push(upstream.clone());
                }
            }
            self.learn(call, &old, Category::Resources).await?;
            if let Some(owner) = self.resource_on_a_list(call, uri).await? {
                return Ok(owner);
            }
        }
        Err(status::unknown(uri))
    }

    async fn resource_on_a_list(&self, call: &Call, uri: &str) -> Result<Option<Arc<Upstream>>, Failure> {
        let resources = self.index(call, Category::Resources).await?;
        if let Some(shown) = resources.find(uri) {
            return Ok(Some(shown.upstream.clone()));
        }
        let templates = self.index(call, Category::Templates).await?;
        // Completion names the template itself.
        if let Some(shown) = templates.find(uri) {
            return Ok(Some(shown.upstream.clone()));
        }
        let server = server(call)?;
        let fitting = templates.shown.iter().rev().filter_map(|shown| {
            let literal = fits(&shown.name, uri)?;
            let face = offer::face(server, &call.principal.access, Category::Resources, &shown.upstream, uri);
            face.is_ok().then_some((literal, &shown.upstream))
        });
        // Of equals the last wins here, which is the first of the route.
        Ok(fitting.max_by_key(|(literal, _)| *literal).map(|(_, upstream)| upstream.clone()))
    }

    /// The upstreams of the route that the caller may use and that announce a capability.
    pub(super) async fn offering(
        &self,
        call: &Call,
        capability: &str,
    ) -> Result<Vec<Arc<Upstream>>, Failure> {
        let offers = |(upstream, handshake): (Arc<Upstream>, Option<Message>)| {
            capabilities::offers(&handshake?, capability).then_some(upstream)
        };
        Ok(self.handshakes(call).await?.into_iter().filter_map(offers).collect())
    }

    /// What every upstream of the route that the caller may use said of itself.
    pub(super) async fn handshakes(
        &self,
        call: &Call,
    ) -> Result<Vec<(Arc<Upstream>, Option<Message>)>, Failure> {
        let server = server(call)?;
        let view = self.view(call, &server.upstreams)?;
        self.first(call, &view, |state| state.handshake.is_some()).await;
        let usable = server.upstreams.iter().filter(|one| call.principal.access.upstream(one));
        let said = |one: &Arc<Upstream>| view.entry(one).and_then(|entry| entry.state().handshake);
        Ok(usable.map(|one| (one.clone(), said(one))).collect())
    }
}

/// How many characters of a URI an RFC 6570 template says literally; `None` when the URI cannot come from it. An
/// expression stands for any text: what exactly it admits is for the upstream to say.
fn fits(template: &str, uri: &str) -> Option<usize> {
    let mut literals = Vec::new();
    let mut rest = template;
    while let Some((literal, expression)) = rest.split_once('{') {
        literals.push(literal);
        rest = expression.split_once('}')?.1;
    }
    let last = rest;
    let Some((first, middle)) = literals.split_first() else {
        return (uri == template).then_some(template.len());
    };
    let mut at = uri.strip_prefix(first)?;
    for literal in middle {
        at = at.split_once(literal)?.1;
    }
    let literal = first.len() + middle.iter().map(|one| one.len()).sum::<usize>() + last.len();
    at.ends_with(last).then_some(literal)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn templates_are_matched_by_their_literals() {
        for (template, uri, fit) in [
            ("test://template/{id}/data", "test://template/7/data", Some(21)),
            ("test://template/{id}/data", "test://template/7/other", None),
            ("test://template/{id}/data", "else://template/7/data", None),
            ("demo://{a}/{b}", "demo://x/y", Some(8)),
            ("demo://{a}/{b}", "demo://x", None),
            ("file:///{+path}", "file:///a/b/c.txt", Some(8)),
            ("plain://x", "plain://x", Some(9)),
            ("plain://x", "plain://y", None),
            ("broken://{x", "broken://1", None),
        ] {
            assert_eq!(fits(template, uri), fit, "{template} {uri}");
        }
    }
}
