//! What a modern server says beside answers: one `subscriptions/listen` for all that a session wants to hear. A
//! filter cannot be changed, so another subscription takes the place of the one before once it stands.

use super::{
    Shared, answer,
    envelope::{self, object},
    exchange, naming, notification,
};
use crate::{
    call::{Backend, Messages},
    failure::{Failure, Kind},
    mcp::{
        self, Message, era,
        json::{self, Malformed},
        method, rpc,
    },
};
use futures_util::{FutureExt as _, StreamExt as _};
use o1_process::{Backoff, OnExit};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;

/// Resources that one session may watch.
const RESOURCES_MAX: usize = 1000;
/// Notifications that wait for a client that reads slowly; what is beyond is lost, as a notification may be.
const QUEUE: usize = 64;
/// A subscription that stood this long did not fail.
const LASTED: Duration = Duration::from_secs(10);

const LISTS: [&str; 3] = ["toolsListChanged", "promptsListChanged", "resourcesListChanged"];
const CHANGES: [&str; 3] = [method::TOOLS_CHANGED, method::PROMPTS_CHANGED, method::RESOURCES_CHANGED];

type Uris = BTreeSet<Arc<str>>;
type Ears = mpsc::Sender<Result<Message, Failure>>;

/// What a session wants to hear, and what came of it.
#[derive(Debug)]
pub(super) struct Listening {
    wanted: watch::Sender<Wanted>,
    standing: watch::Sender<Standing>,
    /// Somebody keeps the subscription.
    kept: AtomicBool,
}

#[derive(Debug, Clone, Default)]
struct Wanted {
    /// Counts changes.
    serial: u64,
    ears: Option<Ears>,
    resources: Uris,
}

/// What came of the wishes up to a serial.
#[derive(Debug, Clone)]
struct Standing {
    serial: u64,
    outcome: Outcome,
}

#[derive(Debug, Clone)]
enum Outcome {
    /// These resources are watched.
    Honoured(Uris),
    /// The server has no such subscriptions.
    Refused,
    /// It could not be asked.
    Failed(String),
}

impl Default for Listening {
    fn default() -> Self {
        let standing = Standing { serial: 0, outcome: Outcome::Honoured(Uris::new()) };
        Self {
            wanted: watch::Sender::default(),
            standing: watch::Sender::new(standing),
            kept: AtomicBool::new(false),
        }
    }
}

impl Listening {
    /// No longer wants to hear of a resource.
    pub(super) fn unwatch(&self, uri: &str) {
        self.want(|wanted| {
            wanted.resources.remove(uri);
        });
    }

    /// Changes what is wanted; its serial.
    fn want(&self, change: impl FnOnce(&mut Wanted)) -> u64 {
        self.wanted.send_modify(|wanted| {
            change(wanted);
            wanted.serial += 1;
        });
        self.wanted.borrow().serial
    }
}

/// Watches a resource from now on.
///
/// # Errors
/// The server does not offer it (`UnknownMethod`), cannot be asked, or there are too many.
pub(super) async fn watch<B: Backend>(shared: &Arc<Shared<B>>, uri: &str) -> Result<(), Failure> {
    let listening = &shared.listening;
    if listening.wanted.borrow().resources.len() >= RESOURCES_MAX {
        let what = format!("a session watches at most {RESOURCES_MAX} resources");
        return Err(Failure::new(Kind::InvalidParams, what));
    }
    let mut standing = listening.standing.subscribe();
    let serial = listening.want(|wanted| {
        wanted.resources.insert(uri.into());
    });
    keep(shared);
    let settled = standing.wait_for(|standing| standing.serial >= serial);
    let outcome = match tokio::time::timeout(shared.ground.connect, settled).await {
        Ok(Ok(standing)) => standing.outcome.clone(),
        _ => Outcome::Failed("it did not acknowledge the subscription in time".to_owned()),
    };
    let failure = match outcome {
        Outcome::Honoured(resources) if resources.contains(uri) => return Ok(()),
        Outcome::Honoured(_) | Outcome::Refused => {
            Failure::new(Kind::UnknownMethod, "the upstream does not offer subscriptions to this resource")
        }
        Outcome::Failed(why) => {
            Failure::new(Kind::Unreachable, "the upstream cannot be subscribed to now").because(why)
        }
    };
    listening.unwatch(uri);
    Err(failure)
}

/// What the server says from now on. A session has one such stream: another takes the place of the one before.
pub(super) fn stream<B: Backend>(shared: &Arc<Shared<B>>) -> Messages {
    let (ears, heard) = mpsc::channel(QUEUE);
    shared.listening.want(|wanted| wanted.ears = Some(ears));
    keep(shared);
    let closed = shared.closed.clone();
    ReceiverStream::new(heard).take_until(closed.cancelled_owned()).boxed()
}

/// Starts the keeper, unless there is one.
fn keep<B: Backend>(shared: &Arc<Shared<B>>) {
    if !shared.listening.kept.swap(true, Ordering::AcqRel) {
        let keeper = Keeper::new(shared.clone());
        shared.ground.tasks.spawn("translated subscription", OnExit::Quiet, keeper.run());
    }
}

/// What a subscription is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Filter {
    lists: [bool; 3],
    resources: Uris,
}

impl Filter {
    fn of(wanted: &Wanted, offered: [bool; 3]) -> Self {
        let lists = if wanted.ears.is_some() { offered } else { [false; 3] };
        Self { lists, resources: wanted.resources.clone() }
    }

    fn is_empty(&self) -> bool {
        self.lists == [false; 3] && self.resources.is_empty()
    }

    /// `params.notifications`.
    fn params(&self) -> Vec<u8> {
        let resources = serde_json::to_vec(&self.resources.iter().map(|uri| &**uri).collect::<Vec<_>>())
            .expect("strings serialise");
        let mut members: Vec<(&str, &[u8])> = Vec::new();
        members.extend(
            LISTS.into_iter().zip(self.lists).filter(|(_, on)| *on).map(|(key, _)| (key, &b"true"[..])),
        );
        if !self.resources.is_empty() {
            members.push(("resourceSubscriptions", &resources));
        }
        object(&[("notifications", &object(&members))])
    }
}

/// A subscription that the server acknowledged.
struct Open {
    filter: Filter,
    honoured: Filter,
    messages: Messages,
    since: Instant,
}

/// Why there is none.
enum NotOpen {
    Refused,
    Failed(Failure),
}

struct Keeper<B> {
    shared: Arc<Shared<B>>,
    open: Option<Open>,
    refused: Option<Filter>,
    backoff: Backoff,
    /// Not tried again before.
    pause: Option<Instant>,
    /// What was last tried for.
    tried: u64,
    /// The server may have said something while nobody listened.
    missed: bool,
}

impl<B: Backend> Keeper<B> {
    fn new(shared: Arc<Shared<B>>) -> Self {
        let backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));
        Self { shared, open: None, refused: None, backoff, pause: None, tried: 0, missed: false }
    }

    async fn run(mut self) {
        let (closed, stopping) = (self.shared.closed.clone(), self.shared.ground.tasks.stopping());
        tokio::select! {
            () = closed.cancelled() => {}
            () = stopping.cancelled() => {}
            () = self.follow() => {}
        }
    }

    /// Keeps the subscription as the session wants it.
    async fn follow(&mut self) {
        let mut wishes = self.shared.listening.wanted.subscribe();
        loop {
            let wanted = wishes.borrow_and_update().clone();
            self.settle(&wanted).await;
            let pause = self.pause;
            tokio::select! {
                changed = wishes.changed() => if changed.is_err() { return },
                () = left(wanted.ears.as_ref()) => self.shared.listening.wanted.send_modify(|now| {
                    // Another stream may have taken its place.
                    if now.ears.as_ref().is_some_and(mpsc::Sender::is_closed) {
                        now.ears = None;
                        now.serial += 1;
                    }
                }),
                message = next(&mut self.open) => self.heard(message, wanted.ears.as_ref()),
                () = until(pause) => {}
            }
        }
    }

    /// Opens another subscription if the one that stands is not for what is wanted.
    async fn settle(&mut self, wanted: &Wanted) {
        let filter = Filter::of(wanted, self.shared.offers.lists);
        if filter.is_empty() {
            (self.open, self.refused, self.pause, self.missed) = (None, None, None, false);
            self.report(wanted.serial, Outcome::Honoured(Uris::new()));
            return;
        }
        if let Some(open) = self.open.as_ref().filter(|open| open.filter == filter) {
            let honoured = open.honoured.resources.clone();
            self.pause = None;
            return self.report(wanted.serial, Outcome::Honoured(honoured));
        }
        if self.refused.as_ref() == Some(&filter) {
            self.pause = None;
            return self.report(wanted.serial, Outcome::Refused);
        }
        if self.tried == wanted.serial && self.pause.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.tried = wanted.serial;
        let outcome = match subscribe(&self.shared, &filter).await {
            Ok(open) => {
                (self.refused, self.pause) = (None, None);
                let honoured = open.honoured.resources.clone();
                self.replace(open, wanted.ears.as_ref());
                Outcome::Honoured(honoured)
            }
            Err(NotOpen::Refused) => {
                (self.refused, self.pause) = (Some(filter), None);
                Outcome::Refused
            }
            Err(NotOpen::Failed(failure)) => {
                tracing::debug!(error = failure.chain(), "no subscription at the upstream");
                self.pause = Some(Instant::now() + self.backoff.next().max(Duration::from_millis(50)));
                Outcome::Failed(failure.chain())
            }
        };
        self.report(wanted.serial, outcome);
    }

    fn report(&self, serial: u64, outcome: Outcome) {
        self.shared.listening.standing.send_replace(Standing { serial, outcome });
    }

    /// What the old subscription still said is heard before it ends.
    fn replace(&mut self, open: Open, ears: Option<&Ears>) {
        if let Some(mut old) = self.open.take() {
            while let Some(Some(Ok(message))) = old.messages.next().now_or_never() {
                self.pass(&message, ears);
            }
        }
        if std::mem::take(&mut self.missed) {
            let lists = CHANGES.into_iter().zip(open.honoured.lists).filter(|(_, on)| *on);
            let lists = lists.map(|(method, _)| notification(method, None));
            let resources = open.honoured.resources.iter();
            let resources = resources.map(|uri| notification(method::RESOURCES_UPDATED, Some(&naming(uri))));
            lists.chain(resources).for_each(|note| say(note, ears));
        }
        self.open = Some(open);
    }

    /// A message of the subscription, or its end.
    fn heard(&mut self, message: Option<Result<Message, Failure>>, ears: Option<&Ears>) {
        match message {
            Some(Ok(message)) if message.kind() == mcp::Kind::Notification => self.pass(&message, ears),
            _ => {
                if self.open.take().is_some_and(|open| open.since.elapsed() >= LASTED) {
                    self.backoff.reset();
                }
                self.missed = true;
                self.pause = Some(Instant::now() + self.backoff.next().max(Duration::from_millis(50)));
            }
        }
    }

    fn pass(&self, message: &Message, ears: Option<&Ears>) {
        if message.method() == method::TOOLS_CHANGED {
            self.shared.ground.tools.forget();
        }
        if message.kind() == mcp::Kind::Notification && message.method() != method::LISTEN_ACKNOWLEDGED {
            say(untagged(message), ears);
        }
    }
}

/// Asks the server for a subscription and waits for it to be acknowledged.
async fn subscribe<B: Backend>(shared: &Shared<B>, filter: &Filter) -> Result<Open, NotOpen> {
    let asked = async {
        let request = rpc::request(&shared.fresh_id(), method::LISTEN, &filter.params());
        let request = Message::parse(&request).expect("a request of our own is a message");
        let request = envelope::enveloped(&request, &shared.profile, None, &[])?;
        let headers = envelope::headers(&request, &[])?;
        let mut messages = exchange::open(&*shared.server, &request, &headers).await?;
        Ok((messages.next().await, messages))
    };
    let asked = tokio::time::timeout(shared.ground.connect, asked).await.unwrap_or_else(|_| {
        Err(Failure::new(Kind::Timeout, "the upstream did not acknowledge a subscription in time"))
    });
    let (first, messages) = asked.map_err(|failure| match failure.kind {
        // It answers, and has no word for this.
        Kind::SessionLost => NotOpen::Refused,
        _ => NotOpen::Failed(failure),
    })?;
    match first {
        Some(Ok(first)) if first.method() == method::LISTEN_ACKNOWLEDGED => {
            let honoured = honoured(&first).map_err(|malformed| NotOpen::Failed(unread(malformed)))?;
            Ok(Open { filter: filter.clone(), honoured, messages, since: Instant::now() })
        }
        Some(Ok(first)) => Err(match answer::code(&first) {
            Some(rpc::METHOD_NOT_FOUND | rpc::INVALID_PARAMS | rpc::INVALID_REQUEST) => NotOpen::Refused,
            _ => NotOpen::Failed(Failure::new(Kind::Protocol, "the upstream acknowledged no subscription")),
        }),
        Some(Err(failure)) => Err(NotOpen::Failed(failure)),
        None => Err(NotOpen::Failed(Failure::new(Kind::Unreachable, "the upstream ended a subscription"))),
    }
}

fn say(message: Message, ears: Option<&Ears>) {
    if let Some(Err(mpsc::error::TrySendError::Full(_))) = ears.map(|ears| ears.try_send(Ok(message))) {
        tracing::warn!("a client reads too slowly: a notification of its upstream was lost");
    }
}

async fn left(ears: Option<&Ears>) {
    match ears {
        Some(ears) => ears.closed().await,
        None => std::future::pending().await,
    }
}

async fn next(open: &mut Option<Open>) -> Option<Result<Message, Failure>> {
    match open {
        Some(open) => open.messages.next().await,
        None => std::future::pending().await,
    }
}

async fn until(pause: Option<Instant>) {
    match pause {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What an acknowledgement honours.
fn honoured(acknowledged: &Message) -> Result<Filter, Malformed> {
    let text = acknowledged.bytes();
    let mut filter = Filter::default();
    for (on, key) in filter.lists.iter_mut().zip(LISTS) {
        *on = acknowledged.param(&["notifications", key])?.is_some_and(|at| &text[at] == b"true");
    }
    if let Some(at) =
        acknowledged.param(&["notifications", "resourceSubscriptions"])?.filter(|at| text[at.start] == b'[')
    {
        let uris = json::items(text, &at)?;
        filter.resources = uris.iter().filter_map(|at| Some(json::string(text, at)?.into())).collect();
    }
    Ok(filter)
}

fn unread(malformed: Malformed) -> Failure {
    Failure::new(Kind::Protocol, "the upstream's acknowledgement cannot be read").because(malformed)
}

/// A notification without the name of the subscription that it came by.
fn untagged(message: &Message) -> Message {
    let text = message.bytes();
    let edits = || -> Result<json::Edits, Malformed> {
        let Some(meta) = message.param(&["_meta"])?.filter(|at| text[at.start] == b'{') else {
            return Ok(Vec::new());
        };
        let alone = json::members(text, &meta)?.iter().all(|(key, _)| key == era::META_SUBSCRIPTION);
        match message.param(&[])?.filter(|_| alone) {
            Some(params) => json::revise(text, &params, &["_meta"], &[]),
            None => json::revise(text, &meta, &[era::META_SUBSCRIPTION], &[]),
        }
    };
    // What cannot be read is left for the client to judge.
    message.spliced(edits().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn notifications_lose_the_name_of_their_subscription_and_nothing_else() {
        for (from, to) in [
            (
                r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"L"},"uri":"x:y"}}"#,
                r#"{"jsonrpc":"2.0","method":"m","params":{"uri":"x:y"}}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","method":"m","params":{"uri":"x:y","_meta":{"a":1.10,"io.modelcontextprotocol/subscriptionId":1}}}"#,
                r#"{"jsonrpc":"2.0","method":"m","params":{"uri":"x:y","_meta":{"a":1.10}}}"#,
            ),
            (r#"{"jsonrpc":"2.0","method":"m"}"#, r#"{"jsonrpc":"2.0","method":"m"}"#),
        ] {
            let message = Message::parse(&Bytes::from(from)).unwrap();
            assert_eq!(untagged(&message).bytes(), to.as_bytes());
        }
    }

    #[test]
    fn a_filter_is_the_union_of_what_a_session_wants() {
        let (ears, _heard) = mpsc::channel(1);
        let mut wanted = Wanted::default();
        assert!(Filter::of(&wanted, [true; 3]).is_empty());
        wanted.resources = ["b:b", "a:\"a"].into_iter().map(Into::into).collect();
        assert_eq!(
            Filter::of(&wanted, [true; 3]).params(),
            br#"{"notifications":{"resourceSubscriptions":["a:\"a","b:b"]}}"#
        );
        wanted.ears = Some(ears);
        let filter = Filter::of(&wanted, [true, false, true]);
        assert_eq!(
            filter.params(),
            br#"{"notifications":{"toolsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["a:\"a","b:b"]}}"#
        );
        let acknowledged = [
            &br#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":"#[..],
            &filter.params(),
            b"}",
        ]
        .concat();
        assert_eq!(honoured(&Message::parse(&acknowledged.into()).unwrap()).unwrap(), filter);
    }
}
