//! One list out of many: asked at once, in the plan's order, page by page, as raw items with prefixed names.

use super::{Router, capabilities, catalogue::List};
use crate::{
    call::{Call, Caller, Reply, Upstreams, read_response},
    failure::{Failure, Kind},
    mcp::{Message, header, json, method, rpc},
    plan::Upstream,
};
use bytes::Bytes;
use std::sync::Arc;

/// Pages asked of one upstream for one list.
const PAGES_MAX: usize = 200;
/// Items taken of one upstream for one list.
const ITEMS_MAX: usize = 20_000;

impl<N: Upstreams> Router<N> {
    /// Answers a list request with everybody's items on one page.
    pub(super) async fn list(
        &self,
        call: &Call,
        message: &Message,
        method: &'static str,
    ) -> Result<Reply, Failure> {
        if let Some(cursor) =
            message.param(&["cursor"]).map_err(|m| Failure::new(Kind::InvalidParams, m.0))?
        {
            // Every list is one page here, so no cursor of ours exists. An empty one is what some clients send first.
            if json::string(message.bytes(), &cursor).is_none_or(|cursor| !cursor.is_empty()) {
                return Err(Failure::new(Kind::InvalidParams, "Invalid cursor"));
            }
        }
        let lists = self.fetch_all(call, &call.plan.upstreams, method).await?;
        let result = merged(&call.caller, method, &lists);
        Ok(Reply::json(rpc::result(message.id().unwrap_or_default(), &result)))
    }

    /// Everybody's list. An upstream that does not answer contributes what it was last seen to offer.
    async fn fetch_all(
        &self,
        call: &Call,
        upstreams: &[Arc<Upstream>],
        method: &'static str,
    ) -> Result<Vec<(Arc<Upstream>, Arc<List>)>, Failure> {
        let asks = upstreams
            .iter()
            .map(|upstream| async move { (upstream.clone(), self.fetch(call, upstream, method).await) });
        let mut lists = Vec::with_capacity(upstreams.len());
        for (upstream, list) in futures_util::future::join_all(asks).await {
            match list {
                Ok(list) => {
                    self.catalogue.put(&call.plan, &upstream, method, &list);
                    lists.push((upstream, list));
                }
                // A client that speaks both eras goes on in the other one. A legacy client has none left.
                Err(failure) if failure.kind == Kind::WrongEra && matches!(call.caller, Caller::Modern) => {
                    return Err(wrong_era(&upstream, failure));
                }
                Err(failure) => {
                    tracing::debug!(
                        upstream = upstream.name,
                        method,
                        error = failure.chain(),
                        "list not answered"
                    );
                    lists.extend(self.catalogue.get(&upstream, method).map(|known| (upstream, known)));
                }
            }
        }
        Ok(lists)
    }

    /// Refreshes what is known of some upstreams, as far as they answer.
    pub(super) async fn learn(&self, call: &Call, upstreams: &[Arc<Upstream>], methods: &[&'static str]) {
        for method in methods {
            if let Err(failure) = self.fetch_all(call, upstreams, method).await {
                tracing::debug!(method, error = failure.chain(), "list not answered");
            }
        }
    }

    async fn fetch(
        &self,
        call: &Call,
        upstream: &Arc<Upstream>,
        method: &'static str,
    ) -> Result<Arc<List>, Failure> {
        let handshake = self.next.handshake(call, upstream.clone()).await?;
        let capability = match method {
            method::TOOLS_LIST => "tools",
            method::PROMPTS_LIST => "prompts",
            _ => "resources",
        };
        let (mut items, mut ttl_ms, mut public, mut cursor) = (Vec::new(), None::<u64>, true, None);
        if !capabilities::offers(&handshake, capability) {
            return Ok(Arc::new(List::new(method, items, ttl_ms, public)));
        }
        for page in 0..PAGES_MAX {
            let mut ask = call.with_message(page_request(call, method, page, cursor.as_deref())?);
            if matches!(call.caller, Caller::Modern) {
                // The client may have asked for something else, such as a resource whose owner is looked for.
                ask.headers.insert(header::METHOD, http::HeaderValue::from_static(method));
                ask.headers.remove(header::NAME);
            }
            let answer = read_response(self.next.ask(ask, upstream.clone()).await?).await?;
            let Some(result) = answer.result() else {
                if is_method_not_found(&answer) {
                    break;
                }
                return Err(Failure::new(Kind::Protocol, "the upstream answered a list with an error"));
            };
            let page = Page::read(&answer, &result, method)?;
            items.extend(page.items);
            ttl_ms = match (ttl_ms, page.ttl_ms) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            public &= page.public;
            cursor = page.next;
            if cursor.is_none() || items.len() >= ITEMS_MAX {
                break;
            }
        }
        Ok(Arc::new(List::new(method, items, ttl_ms, public)))
    }
}

/// A list request of our own: the client's envelope, our id, our cursor.
fn page_request(call: &Call, method: &str, page: usize, cursor: Option<&[u8]>) -> Result<Message, Failure> {
    let crate::call::Ask::Message(asked) = &call.ask else {
        return Err(Failure::new(Kind::Internal, "a list is asked for with a message"));
    };
    let mut params = Vec::from(b"{");
    if matches!(call.caller, Caller::Modern)
        && let Some(meta) = asked.param(&["_meta"]).map_err(|m| Failure::new(Kind::InvalidParams, m.0))?
    {
        params.extend_from_slice(br#""_meta":"#);
        params.extend_from_slice(&asked.bytes()[meta]);
    }
    if let Some(cursor) = cursor {
        if params.len() > 1 {
            params.push(b',');
        }
        params.extend_from_slice(br#""cursor":"#);
        params.extend_from_slice(cursor);
    }
    params.push(b'}');
    // Derived from the client's id, so unique among what this client has in flight; a string, so unlike its own.
    let id = format!("o1:{method}:{page}:{}", String::from_utf8_lossy(asked.id().unwrap_or(b"-")));
    Ok(Message::parse(&rpc::request(&json::quote(&id), method, &params))
        .expect("a request of our own is a message"))
}

struct Page {
    items: Vec<Bytes>,
    ttl_ms: Option<u64>,
    public: bool,
    next: Option<Vec<u8>>,
}

impl Page {
    fn read(answer: &Message, result: &json::Span, method: &str) -> Result<Self, Failure> {
        let text = answer.bytes();
        let broken = |malformed: json::Malformed| {
            Failure::new(Kind::Protocol, "the upstream's list is malformed").because(malformed)
        };
        let key = method::list_key(method).unwrap_or_default();
        let mut page = Self { items: Vec::new(), ttl_ms: None, public: false, next: None };
        for (name, at) in json::members(text, result).map_err(broken)? {
            match &*name {
                "ttlMs" => page.ttl_ms = std::str::from_utf8(&text[at]).ok().and_then(|ttl| ttl.parse().ok()),
                "cacheScope" => page.public = json::string(text, &at).as_deref() == Some("public"),
                "nextCursor" => page.next = Some(text[at].to_vec()).filter(|cursor| cursor != b"null"),
                name if name == key => {
                    page.items = json::items(text, &at)
                        .map_err(broken)?
                        .into_iter()
                        .map(|at| text.slice(at))
                        .collect();
                }
                _ => {}
            }
        }
        Ok(page)
    }
}

/// The merged result. Only names change; everything else in an item is the bytes its upstream sent.
fn merged(caller: &Caller, method: &str, lists: &[(Arc<Upstream>, Arc<List>)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.push(b'{');
    out.extend_from_slice(&json::quote(method::list_key(method).unwrap_or_default()));
    out.extend_from_slice(b":[");
    let mut first = true;
    for (upstream, list) in lists {
        for item in &list.items {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            match &item.name {
                // The prefix goes behind the opening quote: names are not even unescaped.
                Some(name) if !upstream.prefix.is_empty() && item.raw.get(name.start) == Some(&b'"') => {
                    out.extend_from_slice(&item.raw[..=name.start]);
                    out.extend_from_slice(upstream.prefix.as_bytes());
                    out.extend_from_slice(&item.raw[name.start + 1..]);
                }
                _ => out.extend_from_slice(&item.raw),
            }
        }
    }
    out.push(b']');
    if matches!(caller, Caller::Modern) {
        let ttl = lists.iter().map(|(_, list)| list.ttl_ms.unwrap_or(0)).min().unwrap_or(0);
        let scope =
            if !lists.is_empty() && lists.iter().all(|(_, list)| list.public) { "public" } else { "private" };
        let meta = capabilities::server_info_meta();
        out.extend_from_slice(
            format!(r#","resultType":"complete","ttlMs":{ttl},"cacheScope":"{scope}","_meta":{meta}"#)
                .as_bytes(),
        );
    }
    out.push(b'}');
    out
}

fn is_method_not_found(answer: &Message) -> bool {
    let code = answer.error().map(|error| json::find(answer.bytes(), &error, &["code"]));
    matches!(code, Some(Ok(Some(at))) if &answer.bytes()[at.clone()] == b"-32601")
}

/// What a modern client is told on a route that is not modern as a whole.
pub(super) fn wrong_era(upstream: &Upstream, failure: Failure) -> Failure {
    let name = &upstream.name;
    Failure::new(
        Kind::WrongEra,
        format!("upstream `{name}` speaks only revisions with `initialize`: use one of those on this route, or /u/<upstream>/mcp"),
    )
    .because(failure)
}
