//! JSON-RPC arrays, which only revision 2025-03-26 has: lists that are asked for in one session within the batching
//! window go to the server as one POST.
//!
//! Owns who waits, and which part of the reply is whose. It must never give a request another's answer, nor let one
//! that goes away, or is left out, harm the others. Only lists take part: they may be asked for again, so where a
//! server turns out to refuse arrays each goes alone, from then on without waiting.

use super::{HttpLink, resume};
use crate::{
    call::{Body, Messages, Reply, read_all},
    context::Context,
    current,
    failure::{Failure, Kind},
    mcp::{self, Message, json, method},
    metrics,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use o1_process::OnExit;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use tokio::{sync::mpsc, time::Instant};

/// The revision that has arrays. The ones before and after it do not.
pub(super) const REVISION: &str = "2025-03-26";
/// A list request is a few hundred bytes; what is larger goes alone.
const REQUEST_MAX: usize = 16 << 10;
/// No array is longer, whatever `batching.max` says.
const ARRAY_MAX: usize = 100;
/// What a server said beside answers and a caller has not read yet. More is dropped.
const ASIDES_MAX: usize = 16;

/// What every session with one server shares.
pub(super) struct Arrays {
    name: String,
    current: current::Reader,
    numbers: Arc<metrics::Upstream>,
    /// The server refused an array, or lost something of one.
    refused: AtomicBool,
}

impl Arrays {
    pub(super) fn new(upstream: &str, context: &Context) -> Self {
        let numbers = context.metrics.upstream(upstream);
        let (name, current) = (upstream.to_owned(), context.current.clone());
        Self { name, current, numbers, refused: AtomicBool::new(false) }
    }

    fn refuse(&self, why: &str) {
        if !self.refused.swap(true, Ordering::Relaxed) {
            tracing::info!(upstream = self.name, why, "the upstream gets no JSON-RPC arrays any more");
        }
    }
}

/// Those who wait in one session.
#[derive(Default)]
pub(super) struct Window(Mutex<Open>);

#[derive(Default)]
struct Open {
    /// Counts windows, so that the clock of one closes no other.
    serial: u64,
    batch: Option<Batch>,
}

/// Requests that go together.
struct Batch {
    since: Instant,
    waiters: Vec<Waiter>,
}

struct Waiter {
    request: Message,
    shares: mpsc::Sender<Share>,
}

/// What a waiter gets.
enum Share {
    /// Nothing: it goes alone.
    Alone,
    /// Something the server said; a response is the last.
    Said(Message),
    Failed(Failure),
}

/// What becomes of one who comes.
enum Entered {
    /// It waits with others.
    Waits,
    /// It opened the window of this number.
    Opened(u64),
    /// It was the last that was waited for.
    Filled(Batch),
    /// One with its id waits: an array cannot hold both.
    Twin,
}

impl Window {
    fn enter(&self, waiter: Waiter, max: usize, now: Instant) -> Entered {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(batch) = &mut open.batch else {
            open.serial += 1;
            open.batch = Some(Batch { since: now, waiters: vec![waiter] });
            return Entered::Opened(open.serial);
        };
        if batch.waiters.iter().any(|other| other.request.id() == waiter.request.id()) {
            return Entered::Twin;
        }
        batch.waiters.push(waiter);
        if batch.waiters.len() < max {
            return Entered::Waits;
        }
        open.batch.take().map_or(Entered::Waits, Entered::Filled)
    }

    /// Those of one window, unless they have gone.
    fn close(&self, serial: u64) -> Option<Batch> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.serial == serial { open.batch.take() } else { None }
    }
}

/// Asks together with others. `None`: the request goes alone.
pub(super) async fn ask(link: &HttpLink, request: &Message) -> Result<Option<Reply>, Failure> {
    let Some(mut shares) = enter(link, request) else { return Ok(None) };
    match shares.recv().await {
        Some(Share::Alone) => Ok(None),
        Some(Share::Failed(failure)) => Err(failure),
        Some(Share::Said(message)) if message.kind() == mcp::Kind::Response => {
            Ok(Some(Reply::json(message.bytes().clone())))
        }
        Some(Share::Said(message)) => Ok(Some(Reply::messages(rest(message, shares)))),
        None => Err(Failure::new(Kind::Draining, "the node is going away")),
    }
}

/// What a waiter hears until its answer.
fn rest(first: Message, shares: mpsc::Receiver<Share>) -> Messages {
    let later = stream::unfold(Some(shares), |shares| async move {
        let mut shares = shares?;
        let next = match shares.recv().await? {
            Share::Said(message) if message.kind() == mcp::Kind::Response => {
                return Some((Ok(message), None));
            }
            Share::Said(message) => return Some((Ok(message), Some(shares))),
            Share::Failed(failure) => failure,
            // It heard something of an array that is refused after all.
            Share::Alone => left_out(),
        };
        Some((Err(next), None))
    });
    stream::once(std::future::ready(Ok(first))).chain(later).boxed()
}

fn enter(link: &HttpLink, request: &Message) -> Option<mpsc::Receiver<Share>> {
    let window = link.0.window.as_ref()?;
    let server = &link.0.server.0;
    let is_list = method::list_key(request.method()).is_some();
    if !is_list || request.bytes().len() > REQUEST_MAX || server.arrays.refused.load(Ordering::Relaxed) {
        return None;
    }
    let batching = server.arrays.current.plan().batching;
    let max = usize::try_from(batching.max).map_or(ARRAY_MAX, |max| max.min(ARRAY_MAX));
    if batching.window.is_zero() || max < 2 {
        return None;
    }
    let (shares, received) = mpsc::channel(ASIDES_MAX + 1);
    let waiter = Waiter { request: request.clone(), shares };
    let (name, link) = ("send a JSON-RPC array", link.clone());
    match window.enter(waiter, max, Instant::now()) {
        Entered::Waits => {}
        Entered::Opened(serial) => {
            server.tasks.spawn(name, OnExit::Quiet, async move {
                tokio::time::sleep(batching.window).await;
                if let Some(batch) = link.0.window.as_ref().and_then(|window| window.close(serial)) {
                    send(&link, batch).await;
                }
            });
        }
        Entered::Filled(batch) => {
            server.tasks.spawn(name, OnExit::Quiet, async move { send(&link, batch).await });
        }
        Entered::Twin => return None,
    }
    Some(received)
}

/// Sends it and hands out what comes, as long as anybody waits.
async fn send(link: &HttpLink, batch: Batch) {
    let Batch { since, mut waiters } = batch;
    waiters.retain(|waiter| !waiter.shares.is_closed());
    if waiters.is_empty() {
        return;
    }
    link.0.server.0.arrays.numbers.batches().sent(waiters.len(), since.elapsed());
    let shares: Vec<_> = waiters.iter().map(|waiter| waiter.shares.clone()).collect();
    let nobody_waits = async {
        for share in &shares {
            share.closed().await;
        }
    };
    let mut waiting = Waiting::new(waiters);
    if waiting.places.len() == 1 {
        return waiting.alone();
    }
    tokio::select! {
        () = nobody_waits => {}
        () = exchange(link, &mut waiting) => {}
    }
}

async fn exchange(link: &HttpLink, waiting: &mut Waiting) {
    let arrays = &link.0.server.0.arrays;
    let reply = match link.post(waiting.array()).await {
        Ok(reply) => reply,
        Err(failure) => return waiting.fail(|| failure.again()),
    };
    let status = reply.status;
    if is_refusal(status) {
        arrays.refuse(&format!("it answered HTTP {status}"));
        return waiting.alone();
    }
    if !status.is_success() {
        let what = format!("the upstream answered HTTP {status}");
        return waiting.fail(|| Failure::new(Kind::of_status(status), what.clone()));
    }
    let mut parts = match Parts::of(link, reply).await {
        Ok(parts) => parts,
        Err(failure) => return waiting.fail(|| failure.again()),
    };
    while waiting.left > 0 {
        match parts.next().await {
            Ok(Some(part)) if waiting.take(&part) => {}
            Ok(Some(_)) => {
                arrays.refuse("it answered an array with an error");
                return waiting.alone();
            }
            Ok(None) => {
                arrays.refuse("it left a request out of its answer");
                return waiting.fail(left_out);
            }
            Err(failure) => return waiting.fail(|| failure.again()),
        }
    }
}

/// Whether this status is about the array: not about who asks, or how often, or about what stands in between. Servers
/// that expect an object fall over an array with a 500.
fn is_refusal(status: StatusCode) -> bool {
    match status.as_u16() {
        401 | 403 | 408 | 429 => false,
        status => (400..=501).contains(&status),
    }
}

fn left_out() -> Failure {
    Failure::new(Kind::Protocol, "the upstream left this request out of its answer to several")
}

/// A reply in parts, each of them messages: the body, or one event after the other.
enum Parts {
    Whole(Option<Bytes>),
    Events(Box<resume::Events>),
}

impl Parts {
    async fn of(link: &HttpLink, reply: Reply) -> Result<Self, Failure> {
        let events = reply.is_event_stream();
        Ok(match reply.body {
            Body::Bytes(body) if events => Self::Events(Box::new(resume::Events::new(link.clone(), body))),
            Body::Bytes(body) => Self::Whole(Some(read_all(body).await?)),
            Body::Full(bytes) => Self::Whole(Some(bytes)),
            Body::Empty | Body::Messages(_) | Body::Events(_) => Self::Whole(None),
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Whole(bytes) => Ok(bytes.take().filter(|bytes| !bytes.trim_ascii().is_empty())),
            Self::Events(events) => events.next().await,
        }
    }
}

/// Those whose answer has not come, by their place in the array.
struct Waiting {
    places: Vec<Option<Waiter>>,
    left: usize,
}

impl Waiting {
    fn new(waiters: Vec<Waiter>) -> Self {
        Self { left: waiters.len(), places: waiters.into_iter().map(Some).collect() }
    }

    fn array(&self) -> Bytes {
        let requests: Vec<_> = self.places.iter().flatten().map(|one| &one.request.bytes()[..]).collect();
        Bytes::from([&b"["[..], &requests.join(&b','), b"]"].concat())
    }

    /// Hands out a part of the reply. False: the array as such is refused.
    fn take(&mut self, part: &Bytes) -> bool {
        let ids: Vec<_> =
            self.places.iter().map(|place| place.as_ref().and_then(|one| one.request.id())).collect();
        let Portions { answers, asides, refused } = portions(part, &ids);
        for aside in asides {
            // The room for the answer stays free. Who waits in a session is one client: whoever hears it, it does.
            let hears = |one: &&Waiter| one.shares.capacity() > 1 && !one.shares.is_closed();
            match self.places.iter().flatten().find(hears) {
                Some(waiter) => waiter.give(Share::Said(aside)),
                None => tracing::debug!(method = aside.method(), "nobody hears what came with an array"),
            }
        }
        for (place, answer) in answers {
            if let Some(waiter) = self.places.get_mut(place).and_then(Option::take) {
                self.left -= 1;
                waiter.give(Share::Said(answer));
            }
        }
        !(refused && self.left == self.places.len())
    }

    fn alone(&mut self) {
        self.give_all(|| Share::Alone);
    }

    fn fail(&mut self, failure: impl Fn() -> Failure) {
        self.give_all(|| Share::Failed(failure()));
    }

    fn give_all(&mut self, share: impl Fn() -> Share) {
        for waiter in self.places.iter_mut().filter_map(Option::take) {
            waiter.give(share());
        }
        self.left = 0;
    }
}

impl Waiter {
    /// Never waits: one who does not read must not hold up the others.
    fn give(&self, share: Share) {
        // It is full only of what is not the last, and closed where nobody waits.
        let _ = self.shares.try_send(share);
    }
}

/// What a part of the reply to an array holds.
#[derive(Debug, Default)]
pub struct Portions {
    /// Answers, with the place of whom they are for.
    pub answers: Vec<(usize, Message)>,
    /// What the server said beside answers.
    pub asides: Vec<Message>,
    /// There is an error that names none of the requests: it is about the array.
    pub refused: bool,
}

/// Splits a part of the reply to an array among those who wait, by their raw ids. A part is one message or an array
/// of them, in any order. What is for nobody is left out.
#[must_use]
pub fn portions(part: &Bytes, waiting: &[Option<&[u8]>]) -> Portions {
    let mut found = Portions::default();
    let whole = 0..part.len();
    let is_array = part.trim_ascii_start().first() == Some(&b'[');
    let items = if is_array { json::items(part, &whole) } else { Ok(vec![whole]) };
    for at in items.unwrap_or_default() {
        // In memory of its own: an answer may be kept for long, and must not keep those of the others.
        let bytes = Bytes::copy_from_slice(&part[at]);
        let Ok(message) = Message::parse(&bytes) else {
            found.refused |= is_error(&bytes);
            continue;
        };
        if message.kind() != mcp::Kind::Response {
            found.asides.push(message);
            continue;
        }
        match waiting.iter().position(|id| id.is_some() && *id == message.id()) {
            Some(place) => found.answers.push((place, message)),
            None => found.refused |= message.error().is_some(),
        }
    }
    found
}

/// An error without an id is no message, but says something.
fn is_error(bytes: &Bytes) -> bool {
    let error = json::find(bytes, &(0..bytes.len()), &["error", "code"]);
    matches!(error, Ok(Some(_)))
}

#[cfg(test)]
mod tests;
