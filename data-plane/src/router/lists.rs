//! A list request: answered from memory, page by page, with names as the route has them.

use super::{
    Router, capabilities,
    catalogue::{self, Entry, View},
    category::Category,
    offer::{Index, Part, Wanted},
    requests, status,
};
use crate::{
    call::{Ask, Call, Caller, Reply, Route, Upstreams},
    failure::{Failure, Kind},
    mcp::{Message, json, rpc},
    plan::{Server, Upstream},
    principal::Principal,
    seal::{Keyring, Purpose},
};
use futures_util::future::join_all;
use std::sync::Arc;

/// The most bytes of items on one page.
const PAGE_BYTES: usize = 1 << 20;

impl<N: Upstreams> Router<N> {
    /// Answers a list request.
    pub(super) async fn list(
        &self,
        call: &Call,
        message: &Message,
        category: Category,
    ) -> Result<Reply, Failure> {
        let server = server(call)?;
        let index = self.index(call, category).await?;
        let from = match cursor(message)? {
            None => 0,
            Some(cursor) => {
                let place = Place { server, category, digest: index.digest };
                place.open(&self.context.keyring, &call.principal, &cursor).ok_or_else(bad_cursor)?
            }
        };
        if let Some(session) = call.session() {
            requests::State::of(session).told(category, index.digest);
        }
        let page = page(&index, from, call.plan.clients.catalogue.page as usize);
        let next = (page.end < index.shown.len()).then(|| {
            let place = Place { server, category, digest: index.digest };
            place.seal(&self.context.keyring, &call.principal, page.end)
        });
        let result = rendered(call, category, &index, page, next.as_deref());
        Ok(Reply::json(rpc::result(message.id().unwrap_or_default(), &result)))
    }

    /// What the caller sees of a category. Waits, once, for upstreams that nobody has seen yet.
    pub(super) async fn index(&self, call: &Call, category: Category) -> Result<Arc<Index>, Failure> {
        let server = server(call)?;
        let view = self.view(call, &server.upstreams)?;
        self.first(call, &view, |state| state.list(category).is_some()).await;
        self.index_now(call, &view, category)
    }

    /// The same of what is known now.
    pub(super) fn index_now(
        &self,
        call: &Call,
        view: &Arc<View>,
        category: Category,
    ) -> Result<Arc<Index>, Failure> {
        let server = server(call)?;
        let state = call.session().map(|session| requests::State::of(session));
        let own = state.map(|state| state.own_lists()).unwrap_or_default();
        let wanted = Wanted {
            server: server.clone(),
            access: call.principal.access.clone(),
            category,
            versions: (view.version(), own.version),
        };
        let make = || {
            let part = |upstream: &Arc<Upstream>| -> Part {
                let list = own.get(upstream, category);
                (upstream.clone(), list.or_else(|| self.list_of(view, upstream, category)))
            };
            let parts = server.upstreams.iter().map(part);
            let parts: Vec<_> = parts.chain(status::parts(server, category)).collect();
            Index::new(server, &call.principal.access, category, &parts, |name, first, other| {
                self.clashes.tell(server, name, first, other);
            })
        };
        let indices = match state {
            Some(state) if own.version > 0 => state.indices(),
            _ => &view.indices,
        };
        Ok(indices.get(&wanted, make))
    }

    /// What an upstream lists, as far as the view or anybody knows; `None` too while it is taken out because it
    /// does not answer.
    fn list_of(&self, view: &View, upstream: &Upstream, category: Category) -> Option<Arc<catalogue::List>> {
        let state = view.entry(upstream).map(|entry| entry.state()).unwrap_or_default();
        if upstream.hide_unreachable && state.failing.is_some() && category == Category::Tools {
            return None;
        }
        state.list(category).cloned().or_else(|| self.catalogue.last(upstream, category))
    }

    /// The view of clients like the caller.
    pub(super) fn view(&self, call: &Call, upstreams: &[Arc<Upstream>]) -> Result<Arc<View>, Failure> {
        let kind = match (&call.caller, &call.ask) {
            (Caller::Legacy(Some(session)), _) => {
                let state = requests::State::of(session);
                return Ok(self.catalogue.view(state.kind(session), upstreams));
            }
            (Caller::Modern, Ask::Message(message)) => catalogue::Kind::of_message(message),
            _ => return Err(Failure::new(Kind::MissingSession, "no session")),
        };
        Ok(self.catalogue.view(&kind, upstreams))
    }

    /// Waits for what was never there, for all at once, and for nobody twice.
    pub(super) async fn first(&self, call: &Call, view: &View, there: impl Fn(&catalogue::State) -> bool) {
        if view.is_settled() {
            return;
        }
        let Ok(server) = server(call) else { return };
        let wait = call.plan.clients.catalogue.wait;
        let entries: Vec<_> = server.upstreams.iter().filter_map(|one| view.entry(one)).collect();
        let firsts = entries.iter().map(|entry: &Arc<Entry>| entry.first(wait, &there));
        join_all(firsts).await;
    }
}

/// The server whose route a call came in on.
pub(super) fn server(call: &Call) -> Result<&Arc<Server>, Failure> {
    match &call.route {
        Route::Server(server) => Ok(server),
        Route::One(_) => Err(Failure::new(Kind::Internal, "not a route of many upstreams")),
    }
}

/// The client's cursor. An empty one is what some clients send first.
fn cursor(message: &Message) -> Result<Option<String>, Failure> {
    let at =
        message.param(&["cursor"]).map_err(|malformed| Failure::new(Kind::InvalidParams, malformed.0))?;
    match at {
        None => Ok(None),
        Some(at) if &message.bytes()[at.clone()] == b"null" => Ok(None),
        Some(at) => match json::string(message.bytes(), &at) {
            Some(cursor) => Ok(Some(cursor.into_owned()).filter(|cursor| !cursor.is_empty())),
            None => Err(bad_cursor()),
        },
    }
}

fn bad_cursor() -> Failure {
    Failure::new(Kind::InvalidParams, "Invalid cursor")
}

/// Which list a cursor goes on with: the same route, the same category, unchanged.
struct Place<'a> {
    server: &'a Server,
    category: Category,
    digest: [u8; 16],
}

impl Place<'_> {
    fn prefix(&self) -> Vec<u8> {
        let mut inside = vec![self.category as u8];
        inside.extend_from_slice(&self.digest);
        inside.extend_from_slice(self.server.name.as_deref().unwrap_or_default().as_bytes());
        inside
    }

    fn seal(&self, keyring: &Keyring, principal: &Principal, from: usize) -> String {
        let mut inside = (from as u64).to_be_bytes().to_vec();
        inside.extend(self.prefix());
        keyring.seal(Purpose::Cursor, principal, &inside)
    }

    fn open(&self, keyring: &Keyring, principal: &Principal, cursor: &str) -> Option<usize> {
        let inside = keyring.open(Purpose::Cursor, principal, cursor)?;
        let (from, prefix) = inside.split_first_chunk::<8>()?;
        // A list that changed meanwhile would skip or repeat items: the client starts over.
        (prefix == self.prefix()).then_some(())?;
        usize::try_from(u64::from_be_bytes(*from)).ok()
    }
}

/// Which items stand on the page that begins at `from`; never none while there are any.
fn page(index: &Index, from: usize, items_max: usize) -> std::ops::Range<usize> {
    let from = from.min(index.shown.len());
    let mut bytes = 0;
    let fits = index.shown[from..].iter().take(items_max.max(1)).take_while(|shown| {
        let first = bytes == 0;
        bytes += shown.item().raw.len();
        first || bytes <= PAGE_BYTES
    });
    from..from + fits.count()
}

fn rendered(
    call: &Call,
    category: Category,
    index: &Index,
    page: std::ops::Range<usize>,
    next: Option<&str>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.push(b'{');
    out.extend_from_slice(&json::quote(crate::mcp::method::list_key(category.method()).unwrap_or_default()));
    out.extend_from_slice(b":[");
    for (at, shown) in index.shown[page].iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&shown.rendered());
    }
    out.push(b']');
    if let Some(next) = next {
        out.extend_from_slice(br#","nextCursor":"#);
        out.extend_from_slice(&json::quote(next));
    }
    if matches!(call.caller, Caller::Modern) {
        let (fresh_for, public) = index.freshness(call.plan.caching.catalogue.ttl);
        let ttl = fresh_for.as_millis();
        // What one caller sees is no other's business where callers are told apart.
        let scope = if public && call.principal.is_anonymous() { "public" } else { "private" };
        let meta = capabilities::server_info_meta();
        out.extend_from_slice(
            format!(r#","resultType":"complete","ttlMs":{ttl},"cacheScope":"{scope}","_meta":{meta}"#)
                .as_bytes(),
        );
    }
    out.push(b'}');
    out
}
