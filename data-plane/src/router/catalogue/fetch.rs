//! One upstream's list, asked for page by page.

use super::{super::category::Category, List};
use crate::{
    call::{Ask, Call, Caller, Upstreams, read_response},
    failure::{Failure, Kind},
    mcp::{Message, header, json, rpc},
    plan::Upstream,
};
use bytes::Bytes;
use http::HeaderValue;
use std::{sync::Arc, time::Duration};

/// Pages asked of one upstream for one list.
const PAGES_MAX: usize = 200;
/// Items taken of one upstream for one list.
const ITEMS_MAX: usize = 20_000;
/// Bytes taken of one upstream for one list.
const BYTES_MAX: usize = 64 << 20;
/// The longest life that an upstream may claim for a list.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);

/// All pages of a list, through the caller's own connection to the upstream.
///
/// # Errors
/// As the upstream fails. A server that does not know the method has an empty list.
pub(in crate::router) async fn fetch<N: Upstreams>(
    next: &N,
    call: &Call,
    upstream: &Arc<Upstream>,
    category: Category,
) -> Result<List, Failure> {
    let (mut items, mut bytes, mut ttl, mut public) = (Vec::new(), 0, Some(TTL_MAX), true);
    let mut cursor: Option<Vec<u8>> = None;
    for number in 0..PAGES_MAX {
        let ask = page_call(call, category, number, cursor.as_deref());
        let answer = read_response(next.ask(ask, upstream.clone()).await?).await?;
        let Some(result) = answer.result() else {
            if number == 0 && is_method_not_found(&answer) {
                return Ok(List::none(category));
            }
            return Err(Failure::new(Kind::Protocol, "the upstream answered a list with an error"));
        };
        let page = Page::read(&answer, &result, category)?;
        bytes += page.items.iter().map(Bytes::len).sum::<usize>();
        items.extend(page.items);
        ttl = ttl.zip(page.ttl).map(|(all, page)| all.min(page));
        public &= page.public;
        // A server that hands out the same cursor for ever has told everything.
        if page.next.is_none() || page.next == cursor {
            break;
        }
        cursor = page.next;
        if items.len() >= ITEMS_MAX || bytes >= BYTES_MAX {
            tracing::warn!(
                upstream = upstream.name,
                method = category.method(),
                items = items.len(),
                "the list is longer than any: the rest is left out"
            );
            items.truncate(ITEMS_MAX);
            break;
        }
    }
    Ok(List::new(category, items, ttl, public))
}

/// A list request of our own: the caller's envelope, our id, our cursor.
fn page_call(call: &Call, category: Category, page: usize, cursor: Option<&[u8]>) -> Call {
    let method = category.method();
    let mut params = Vec::from(b"{");
    let asked = match &call.ask {
        Ask::Message(message) => Some(message),
        _ => None,
    };
    if let (Caller::Modern, Some(asked)) = (&call.caller, asked)
        && let Ok(Some(meta)) = asked.param(&["_meta"])
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
    // Derived from the caller's id, so unique among what it has in flight; a string, so unlike its own.
    let of = String::from_utf8_lossy(asked.and_then(Message::id).unwrap_or(b"-"));
    let id = json::quote(&format!("o1:{method}:{page}:{of}"));
    let message =
        Message::parse(&rpc::request(&id, method, &params)).expect("a request of our own is a message");
    let mut page = call.with_message(message);
    // Whoever fetches a list keeps it, and fetches it again to learn whether it changed.
    page.fresh = true;
    if matches!(call.caller, Caller::Modern) {
        page.headers.insert(header::METHOD, HeaderValue::from_static(method));
        page.headers.remove(header::NAME);
    }
    page
}

struct Page {
    items: Vec<Bytes>,
    ttl: Option<Duration>,
    public: bool,
    next: Option<Vec<u8>>,
}

impl Page {
    fn read(answer: &Message, result: &json::Span, category: Category) -> Result<Self, Failure> {
        let text = answer.bytes();
        let broken = |malformed: json::Malformed| {
            Failure::new(Kind::Protocol, "the upstream's list is malformed").because(malformed)
        };
        let key = crate::mcp::method::list_key(category.method()).unwrap_or_default();
        let mut page = Self { items: Vec::new(), ttl: None, public: false, next: None };
        for (name, at) in json::members(text, result).map_err(broken)? {
            match &*name {
                "ttlMs" => page.ttl = ttl(&text[at]),
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

fn ttl(raw: &[u8]) -> Option<Duration> {
    let ms = std::str::from_utf8(raw).ok()?.parse().ok()?;
    Some(Duration::from_millis(ms).min(TTL_MAX))
}

fn is_method_not_found(answer: &Message) -> bool {
    let code = answer.error().map(|error| json::find(answer.bytes(), &error, &["code"]));
    matches!(code, Some(Ok(Some(at))) if &answer.bytes()[at.clone()] == b"-32601")
}
