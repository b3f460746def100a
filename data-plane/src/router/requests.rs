//! Requests that servers send to a client: their ids are each server's own, so on a stream that many share
//! they get ids of the gateway, and the client's answers find their way back.

use super::{
    catalogue::{self, List},
    category::Category,
    offer::Indices,
    status::Followed,
};
use crate::{
    call::{Call, Messages, Session, Upstreams},
    failure::Failure,
    mcp::{Kind, Message, json, method},
    plan::{Key, Upstream},
    stores::{Gate, Stores},
};
use futures_util::StreamExt as _;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, watch};

/// Server requests that one session may have open.
const OPEN_MAX: usize = 1024;

/// What the router keeps for a session.
#[derive(Default)]
pub(super) struct State {
    inner: Mutex<Inner>,
    kind: OnceLock<catalogue::Kind>,
    indices: Indices,
    /// Wakes the client's stream: an upstream was used for the first time, or its lists may have changed.
    pub(super) stirred: Notify,
    /// Names of the upstreams that the client's stream hears, or tried to; `None` while the client has no stream.
    hears: watch::Sender<Option<HashSet<String>>>,
    /// What the client follows of the gateway's own.
    pub(super) followed: Followed,
    /// Whether the client was told to expect log messages; unknown of one that another node told.
    logging: OnceLock<bool>,
}

/// How long the first request of a session to an upstream waits until the client's stream hears it: what the
/// request sets off may be said there at once.
const HEARS_WITHIN: Duration = Duration::from_millis(500);

/// The digests of the lists that a client was last told of.
pub(super) type Told = [Option<[u8; 16]>; 4];

/// Lists that are a session's own: where its upstream session lists something else than others see.
#[derive(Clone, Default)]
pub(super) struct OwnLists {
    /// 0: there never were any.
    pub version: u64,
    lists: HashMap<(Key, Category), Arc<List>>,
}

impl OwnLists {
    pub(super) fn get(&self, upstream: &Upstream, category: Category) -> Option<Arc<List>> {
        self.lists.get(&(upstream.key, category)).cloned()
    }
}

#[derive(Default)]
struct Inner {
    /// Requests of servers, by the id they have towards the client, oldest first.
    asked: BTreeMap<u64, Asked>,
    last: u64,
    /// Requests of the client, by their raw id.
    calls: HashMap<Vec<u8>, Key>,
    /// Names of the upstreams that the session has talked to, with whatever credentials.
    used: HashSet<String>,
    /// What its own upstream sessions say has changed.
    suspects: HashSet<(Key, Category)>,
    /// Somebody looks at them, or is about to.
    checking: bool,
    /// Of the doubts about every list, those that were heard.
    doubts: u64,
    told: Told,
    own: Arc<OwnLists>,
}

/// A server's request that the client has not answered.
struct Asked {
    upstream: Key,
    /// The server's own id for it.
    id: Vec<u8>,
    /// How often the upstream's calls had moved to its other store: another server uses the same ids.
    moves: u64,
}

impl State {
    pub(super) fn of(session: &Session) -> &Self {
        session.router_state()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which view of the catalogue the session has.
    pub(super) fn kind(&self, session: &Session) -> &catalogue::Kind {
        self.kind.get_or_init(|| catalogue::Kind::of_session(session))
    }

    pub(super) fn indices(&self) -> &Indices {
        &self.indices
    }

    /// Notes that the session talks to an upstream; at first, waits until the client's stream hears it.
    async fn uses(&self, upstream: &str) {
        if !self.lock().used.insert(upstream.to_owned()) {
            return;
        }
        self.stirred.notify_one();
        let mut hears = self.hears.subscribe();
        let heard = hears.wait_for(|hears| hears.as_ref().is_none_or(|hears| hears.contains(upstream)));
        let _ = tokio::time::timeout(HEARS_WITHIN, heard).await;
    }

    /// The client has its stream, or has it no more.
    pub(super) fn has_stream(&self, has: bool) {
        self.hears.send_replace(has.then(HashSet::new));
    }

    /// The client's stream hears an upstream, as far as it has anything to say.
    pub(super) fn hears(&self, upstream: &str) {
        self.hears.send_modify(|hears| {
            if let Some(hears) = hears {
                hears.insert(upstream.to_owned());
            }
        });
    }

    /// Whether the session has talked to an upstream: if not, there is no upstream session that could say anything.
    pub(super) fn is_used(&self, upstream: &str) -> bool {
        self.lock().used.contains(upstream)
    }

    /// Notes which list the client has now.
    pub(super) fn told(&self, category: Category, digest: [u8; 16]) {
        self.lock().told[category.at()] = Some(digest);
    }

    /// Which lists the client was told of, to be changed in place.
    pub(super) fn with_told<T>(&self, with: impl FnOnce(&mut Told) -> T) -> T {
        with(&mut self.lock().told)
    }

    /// Whether any upstream session says that its lists have changed and nobody looks yet. Who is told so looks.
    pub(super) fn begins_check(&self) -> bool {
        let mut inner = self.lock();
        let begins = !inner.checking && !inner.suspects.is_empty();
        inner.checking |= begins;
        begins
    }

    /// Somebody has looked.
    pub(super) fn ends_check(&self) {
        self.lock().checking = false;
        self.stirred.notify_one();
    }

    /// The lists that the session's own upstream session may have changed; they are forgotten here.
    pub(super) fn take_suspects(&self) -> Vec<(Key, Category)> {
        std::mem::take(&mut self.lock().suspects).into_iter().collect()
    }

    /// Notes that all of an upstream's own lists may have changed, if there are any.
    pub(super) fn suspect_own(&self, upstream: &Key) {
        let mut inner = self.lock();
        let own: Vec<_> = inner.own.lists.keys().filter(|(key, _)| key == upstream).copied().collect();
        inner.suspects.extend(own);
        drop(inner);
        self.stirred.notify_one();
    }

    /// Notes how often every list was doubted; at each new doubt those of its own are looked at again, too.
    pub(super) fn doubted(&self, doubts: u64) {
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.doubts, doubts) != doubts {
            let own: Vec<_> = inner.own.lists.keys().copied().collect();
            inner.suspects.extend(own);
        }
    }

    /// Lists of its own that differ from what others see.
    pub(super) fn own_lists(&self) -> Arc<OwnLists> {
        self.lock().own.clone()
    }

    /// Keeps a list of its own, or none.
    pub(super) fn keep_own(&self, upstream: &Key, category: Category, list: Option<Arc<List>>) {
        let mut inner = self.lock();
        let place = (*upstream, category);
        if list.is_none() && !inner.own.lists.contains_key(&place) {
            return;
        }
        let mut own = OwnLists::clone(&inner.own);
        own.version += 1;
        match list {
            Some(list) => own.lists.insert(place, list),
            None => own.lists.remove(&place),
        };
        inner.own = Arc::new(own);
    }

    /// Notes what the client was told of log messages.
    pub(super) fn announced_logging(&self, logging: bool) {
        let _ = self.logging.set(logging);
    }

    /// Whether the client may be sent log messages.
    pub(super) fn may_log(&self) -> bool {
        self.logging.get() != Some(&false)
    }

    /// A message of a server as the client may see it; `None`: not at all. `moves` counts how often the calls of its
    /// upstream had gone to the other store when it was asked.
    pub(super) fn outward(&self, upstream: &Key, moves: u64, message: Message) -> Option<Message> {
        match (message.kind(), message.method()) {
            // The client hears of it when what it sees has changed.
            (Kind::Notification, changed) if method::LIST_CHANGED.contains(&changed) => {
                let of = Category::ALL.into_iter().filter(|one| one.changed() == changed);
                self.lock().suspects.extend(of.map(|category| (*upstream, category)));
                self.stirred.notify_one();
                None
            }
            (Kind::Request, _) => {
                let mut inner = self.lock();
                if inner.asked.len() >= OPEN_MAX {
                    // A client that left the oldest unanswered for so long will not answer it.
                    inner.asked.pop_first();
                }
                inner.last += 1;
                let ours = inner.last;
                let id = message.id().unwrap_or_default().to_vec();
                inner.asked.insert(ours, Asked { upstream: *upstream, id, moves });
                Some(message.with_id(ours.to_string().as_bytes()))
            }
            (Kind::Notification, method::CANCELLED) => {
                let at = message.param(&["requestId"]).ok().flatten()?;
                let theirs = &message.bytes()[at.clone()];
                let mut inner = self.lock();
                let ours = inner
                    .asked
                    .iter()
                    .find(|(_, asked)| asked.upstream == *upstream && asked.id == theirs)
                    .map(|(id, _)| *id)?;
                inner.asked.remove(&ours);
                Some(message.spliced(vec![(at, ours.to_string().into_bytes())]))
            }
            _ => Some(message),
        }
    }

    /// Whose request a client's response answers, when that was asked, and under which id the server knows it.
    fn inward(&self, response: &Message) -> Option<(Key, u64, Message)> {
        let id = std::str::from_utf8(response.id()?).ok()?.parse::<u64>().ok()?;
        let asked = self.lock().asked.remove(&id)?;
        Some((asked.upstream, asked.moves, response.with_id(&asked.id)))
    }

    /// The upstreams that wait for an answer of the client.
    pub(super) fn waiting(&self) -> Vec<Key> {
        let mut keys: Vec<_> = self.lock().asked.values().map(|asked| asked.upstream).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Who is at work on the client's request with this raw id.
    pub(super) fn worker_of(&self, id: &[u8]) -> Option<Key> {
        self.lock().calls.get(id).copied()
    }
}

/// A client's request, known by its id for as long as it is at work.
struct Working {
    session: Arc<Session>,
    id: Vec<u8>,
}

impl Drop for Working {
    fn drop(&mut self) {
        State::of(&self.session).lock().calls.remove(&self.id);
    }
}

/// Sends a request of a session and gives its messages with the servers' requests renumbered. Meanwhile
/// `notifications/cancelled` finds it.
pub(super) async fn tracked<N: Upstreams>(
    next: &N,
    call: Call,
    upstream: Arc<Upstream>,
    session: &Arc<Session>,
    gate: &Gate,
) -> Result<crate::call::Reply, Failure> {
    let key = upstream.key;
    State::of(session).uses(&upstream.name).await;
    let id = match &call.ask {
        crate::call::Ask::Message(message) => message.id().unwrap_or_default().to_vec(),
        _ => Vec::new(),
    };
    State::of(session).lock().calls.insert(id.clone(), key);
    let working = Working { session: session.clone(), id };
    let mut reply = next.ask(call, upstream).await?;
    // Not before: it may have waited until calls went to the other store.
    let moves = gate.moves();
    reply.body = match reply.body {
        crate::call::Body::Messages(messages) => {
            crate::call::Body::Messages(renumbered(messages, working, key, moves))
        }
        // One JSON answer: no requests in it, and it is at work no longer than it takes to arrive.
        other => other,
    };
    Ok(reply)
}

fn renumbered(messages: Messages, working: Working, key: Key, moves: u64) -> Messages {
    messages
        .filter_map(move |message| {
            let message = match message {
                Ok(message) => State::of(&working.session).outward(&key, moves, message).map(Ok),
                Err(failure) => Some(Err(failure)),
            };
            async move { message }
        })
        .boxed()
}

/// The upstream of a client's response and the response as it knows it; `None`: nobody there waits for it.
pub(super) fn answered(
    stores: &Stores,
    call: &Call,
    session: &Session,
    response: &Message,
) -> Option<(Arc<Upstream>, Message)> {
    let (key, moves, response) = State::of(session).inward(response)?;
    let upstream = call.plan.by_key(&key).cloned()?;
    (stores.gate(&upstream.name).moves() == moves).then_some((upstream, response))
}

/// The upstream that a client's `notifications/cancelled` concerns.
pub(super) fn cancelled(call: &Call, session: &Session, notification: &Message) -> Option<Arc<Upstream>> {
    let at: json::Span = notification.param(&["requestId"]).ok().flatten()?;
    let key = State::of(session).worker_of(&notification.bytes()[at])?;
    call.plan.by_key(&key).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const A: Key = [1; 32];
    const B: Key = [2; 32];

    fn message(text: &str) -> Message {
        Message::parse(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn asks(state: &State, upstream: &Key, id: &str) -> String {
        let request = message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"roots/list"}}"#));
        let seen = state.outward(upstream, 0, request).expect("a request is always passed on");
        String::from_utf8(seen.id().unwrap().to_vec()).unwrap()
    }

    fn answers(state: &State, id: &str) -> Option<(Key, String)> {
        let response = message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
        let (key, _, response) = state.inward(&response)?;
        Some((key, String::from_utf8(response.id().unwrap().to_vec()).unwrap()))
    }

    #[test]
    fn equal_ids_of_two_servers_are_told_apart() {
        let state = State::default();
        let (a, b) = (asks(&state, &A, "0"), asks(&state, &B, "0"));
        assert_ne!(a, b);
        assert_eq!(answers(&state, &b), Some((B, "0".to_owned())));
        assert_eq!(answers(&state, &a), Some((A, "0".to_owned())));
        assert_eq!(answers(&state, &a), None, "answered once");
    }

    #[test]
    fn a_client_that_never_answers_loses_the_oldest_requests_not_the_newest() {
        let state = State::default();
        let first = asks(&state, &A, "\"first\"");
        for _ in 0..OPEN_MAX {
            asks(&state, &A, "7");
        }
        let last = asks(&state, &A, "\"last\"");
        assert_eq!(answers(&state, &first), None);
        assert_eq!(answers(&state, &last), Some((A, "\"last\"".to_owned())));
        assert!(state.lock().asked.len() < OPEN_MAX);
    }
}
