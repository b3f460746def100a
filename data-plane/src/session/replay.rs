//! What a session's GET stream has carried last and has still to carry, by number, so that a client that lost
//! its connection goes on exactly where it stopped, and what is said while nobody listens waits for it.
//!
//! Bounded by count and by bytes. While a client listens, a message that does not fit waits, and with it the
//! upstreams; while nobody does, the oldest makes room.

use super::lease::Lease;
use crate::{
    call::{Event, Events, Messages},
    mcp::Message,
};
use futures_util::{StreamExt as _, stream};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// How many messages are kept.
const MESSAGES_MAX: usize = 128;
/// How many bytes of messages are kept. A larger message is carried all the same, and not kept.
const BYTES_MAX: usize = 256 << 10;

/// The state, for as long as the session lives. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Replay(Arc<Shared>);

#[derive(Default)]
struct Shared {
    kept: Mutex<Kept>,
    /// There is something to carry, or nothing more will come.
    filled: Notify,
    /// Something was carried, or the listener is gone.
    taken: Notify,
}

/// The decisions: numbers count from 1.
struct Kept {
    /// Tells our numbers from those of another node, or of another life of this one.
    epoch: u32,
    /// Those from `first` on.
    messages: VecDeque<Message>,
    bytes: usize,
    first: u64,
    /// The first one that no stream has carried, or that the present one has to carry again.
    unsent: u64,
    /// A client listens.
    listened: bool,
    /// Something feeds this.
    fed: bool,
}

impl Default for Kept {
    fn default() -> Self {
        let epoch = fastrand::u32(..);
        Self { epoch, messages: VecDeque::new(), bytes: 0, first: 1, unsent: 1, listened: false, fed: false }
    }
}

impl Kept {
    /// The number of the next message that comes in.
    fn next(&self) -> u64 {
        self.first + self.messages.len() as u64
    }

    fn is_full(&self) -> bool {
        self.messages.len() > MESSAGES_MAX || self.bytes > BYTES_MAX
    }

    /// Takes a message in, unless a client listens that has to take others first.
    fn push(&mut self, message: Message) -> Result<(), Message> {
        let waiting = usize::try_from(self.next() - self.unsent).unwrap_or(usize::MAX);
        if self.listened && waiting > 0 {
            let unsent: usize = self.messages.iter().rev().take(waiting).map(|one| one.bytes().len()).sum();
            if waiting >= MESSAGES_MAX || unsent + message.bytes().len() > BYTES_MAX {
                return Err(message);
            }
        }
        self.bytes += message.bytes().len();
        self.messages.push_back(message);
        self.make_room();
        Ok(())
    }

    /// Forgets the oldest, but nothing that a client who listens has still to take.
    fn make_room(&mut self) {
        while self.is_full()
            && !(self.listened && self.first >= self.unsent)
            && let Some(message) = self.messages.pop_front()
        {
            self.bytes -= message.bytes().len();
            self.first += 1;
            self.unsent = self.unsent.max(self.first);
        }
    }

    /// The message of this number.
    fn carry(&mut self, number: u64) -> Option<Message> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let message = self.messages.get(at)?.clone();
        self.unsent = self.unsent.max(number + 1);
        self.make_room();
        Some(message)
    }

    /// Where a stream begins: right after the event that the client names, if everything since is here; else
    /// with what no stream has carried.
    fn resume(&self, last: Option<&str>) -> u64 {
        let known = last.and_then(parse).filter(|(epoch, _)| *epoch == self.epoch).map(|(_, number)| number);
        match known {
            Some(last) if last < self.next() && last + 1 >= self.first => last + 1,
            _ => self.unsent,
        }
    }

    fn id(&self, number: u64) -> String {
        format!("{MARK}{:08x}-{number}", self.epoch)
    }
}

/// What our ids begin with, so that they are told from those of servers, whichever node made them.
const MARK: &str = "o1-";

/// Whether an event's id is one of ours.
pub(super) fn is_own(id: &str) -> bool {
    parse(id).is_some()
}

fn parse(id: &str) -> Option<(u32, u64)> {
    let (epoch, number) = id.strip_prefix(MARK)?.split_once('-')?;
    Some((u32::from_str_radix(epoch, 16).ok()?, number.parse().ok()?))
}

impl Replay {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something feeds it, so that a stream can be served without asking anybody.
    pub(super) fn is_fed(&self) -> bool {
        self.lock().fed
    }

    /// From now on it is fed, until what this returns has run to its end or is dropped.
    pub(super) fn feed(&self, messages: Messages) -> impl Future<Output = ()> + Send + use<> {
        self.lock().fed = true;
        let feeder = Feeder(self.clone());
        async move { feeder.run(messages).await }
    }

    /// The stream of a client, which names the last event it has. With `primed` it begins with an id to go on
    /// after.
    pub(super) fn stream(&self, last: Option<&str>, primed: bool, lease: Lease) -> Events {
        let (at, prime) = {
            let mut kept = self.lock();
            kept.listened = true;
            let at = kept.resume(last);
            // What is carried once more must not make room before it is.
            kept.unsent = at;
            (at, primed.then(|| Event { id: kept.id(at - 1), message: None }))
        };
        let listener = Listener { replay: self.clone(), at, _lease: lease };
        let events = stream::unfold(listener, |mut listener| async move {
            let event = listener.next().await?;
            Some((event, listener))
        });
        stream::iter(prime).chain(events).boxed()
    }
}

struct Feeder(Replay);

impl Feeder {
    async fn run(self, mut messages: Messages) {
        while let Some(Ok(message)) = messages.next().await {
            let mut waiting = Some(message);
            while let Some(message) = waiting.take() {
                let taken = self.0.0.taken.notified();
                match self.0.lock().push(message) {
                    Ok(()) => self.0.0.filled.notify_one(),
                    Err(message) => waiting = Some(message),
                }
                if waiting.is_some() {
                    taken.await;
                }
            }
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.0.lock().fed = false;
        self.0.0.filled.notify_one();
    }
}

/// The one client that listens.
struct Listener {
    replay: Replay,
    /// The number of the next event.
    at: u64,
    _lease: Lease,
}

impl Listener {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let filled = self.replay.0.filled.notified();
            {
                let mut kept = self.replay.lock();
                if let Some(message) = kept.carry(self.at) {
                    let id = kept.id(self.at);
                    self.at += 1;
                    self.replay.0.taken.notify_one();
                    return Some(Event { id, message: Some(message) });
                }
                if !kept.fed {
                    return None;
                }
            }
            filled.await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut kept = self.replay.lock();
        kept.listened = false;
        kept.make_room();
        drop(kept);
        self.replay.0.taken.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        call::Session,
        failure::{Failure, Kind},
        session::tests::session,
    };
    use bytes::Bytes;
    use o1_process::{OnExit, Tasks};
    use std::time::Duration;
    use tokio::{sync::mpsc, time::timeout};
    use tokio_stream::wrappers::ReceiverStream;

    fn message(n: u64, size: usize) -> Message {
        let pad = "x".repeat(size);
        let text = format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"n":{n},"pad":"{pad}"}}}}"#);
        Message::parse(&Bytes::from(text)).unwrap()
    }

    fn number(message: &Message) -> u64 {
        let at = message.param(&["n"]).unwrap().unwrap();
        std::str::from_utf8(&message.bytes()[at]).unwrap().parse().unwrap()
    }

    /// A replay that is fed, and the session whose stream it is.
    struct Scene {
        tasks: Tasks,
        replay: Replay,
        session: Arc<Session>,
        feed: mpsc::Sender<Result<Message, Failure>>,
        said: u64,
    }

    impl Scene {
        fn new() -> Self {
            let replay = Replay::default();
            let (feed, fed) = mpsc::channel(1);
            let tasks = Tasks::new();
            tasks.spawn("feed", OnExit::Quiet, replay.feed(ReceiverStream::new(fed).boxed()));
            Self { tasks, replay, session: session(), feed, said: 0 }
        }

        async fn say(&mut self, count: u64, size: usize) {
            for _ in 0..count {
                self.said += 1;
                let sent = self.feed.send(Ok(message(self.said, size)));
                timeout(Duration::from_secs(10), sent).await.expect("room in time").unwrap();
            }
            // The feeder has taken the last one once there is room for another.
            let settled = timeout(Duration::from_secs(10), self.feed.reserve()).await;
            drop(settled.expect("room in time").unwrap());
            tokio::task::yield_now().await;
        }

        fn listen(&self, last: Option<&str>) -> Events {
            self.replay.stream(last, false, Lease::take(&self.session).expect("nobody else listens"))
        }
    }

    async fn take(events: &mut Events, count: usize) -> (Vec<u64>, String) {
        let (mut numbers, mut last) = (Vec::new(), String::new());
        for _ in 0..count {
            let event = timeout(Duration::from_secs(10), events.next()).await.expect("an event").unwrap();
            numbers.push(number(&event.message.unwrap()));
            last = event.id;
        }
        (numbers, last)
    }

    #[tokio::test]
    async fn a_client_goes_on_after_the_event_it_has_and_gets_each_message_once() {
        let mut scene = Scene::new();
        let mut events = scene.listen(None);
        scene.say(3, 0).await;
        let (numbers, second) = take(&mut events, 2).await;
        assert_eq!(numbers, [1, 2]);
        let (_, _third_was_lost_with_the_connection) = take(&mut events, 1).await;
        drop(events);
        scene.say(2, 0).await;
        let mut events = scene.listen(Some(&second));
        scene.say(1, 0).await;
        let (numbers, last) = take(&mut events, 4).await;
        assert_eq!(numbers, [3, 4, 5, 6]);
        drop(events);
        let mut events = scene.listen(Some(&last));
        scene.say(1, 0).await;
        assert_eq!(take(&mut events, 1).await.0, [7], "nothing twice");
    }

    #[tokio::test]
    async fn an_unknown_id_begins_with_what_no_stream_has_carried() {
        let mut scene = Scene::new();
        let mut events = scene.listen(None);
        scene.say(2, 0).await;
        let (_, known) = take(&mut events, 2).await;
        drop(events);
        scene.say(1, 0).await;
        let foreign = format!("o1-{:08x}-1", parse(&known).unwrap().0 ^ 1);
        for unknown in [None, Some(foreign.as_str()), Some("7"), Some("not-ours"), Some("-1"), Some("")] {
            scene.replay.lock().unsent = 3;
            let mut events = scene.listen(unknown);
            assert_eq!(take(&mut events, 1).await.0, [3], "{unknown:?}");
        }
        for ahead in [99, u64::MAX] {
            let ahead = format!("{}-{ahead}", &known[..8]);
            scene.replay.lock().unsent = 3;
            assert_eq!(take(&mut scene.listen(Some(&ahead)), 1).await.0, [3], "{ahead}");
        }
    }

    #[tokio::test]
    async fn what_is_said_while_nobody_listens_waits_within_bounds() {
        let mut scene = Scene::new();
        let mut events = scene.listen(None);
        scene.say(1, 0).await;
        let (_, first) = take(&mut events, 1).await;
        drop(events);
        let many = MESSAGES_MAX as u64 + 50;
        scene.say(many, 0).await;
        assert!(scene.replay.lock().messages.len() <= MESSAGES_MAX);
        // Too old: what was missed first is gone, and nothing claims otherwise by going on after `first`.
        let (numbers, _) = take(&mut scene.listen(Some(&first)), MESSAGES_MAX).await;
        let oldest = many + 2 - MESSAGES_MAX as u64;
        assert_eq!(numbers, (oldest..=many + 1).collect::<Vec<_>>());
        scene.say(1, BYTES_MAX * 2).await;
        assert!(scene.replay.lock().bytes <= BYTES_MAX);
    }

    #[tokio::test]
    async fn a_client_that_reads_slowly_loses_nothing_and_a_large_message_passes() {
        let mut scene = Scene::new();
        let mut events = scene.listen(None);
        scene.say(MESSAGES_MAX as u64 / 2, 0).await;
        let feed = scene.feed.clone();
        let first = scene.said + 1;
        scene.tasks.spawn("feed", OnExit::Quiet, async move {
            for n in first..first + 200 {
                let size = if n % 50 == 0 { BYTES_MAX * 2 } else { 100 };
                feed.send(Ok(message(n, size))).await.unwrap();
            }
        });
        let (numbers, _) = take(&mut events, MESSAGES_MAX / 2 + 200).await;
        assert_eq!(numbers, (1..first + 200).collect::<Vec<_>>());
        assert!(scene.replay.lock().bytes <= BYTES_MAX);
    }

    #[tokio::test]
    async fn the_stream_ends_with_its_source_after_all_that_was_said() {
        let mut scene = Scene::new();
        let mut events = scene.listen(None);
        scene.say(2, 0).await;
        let Scene { feed, replay, session, .. } = scene;
        let _ = feed.send(Err(Failure::new(Kind::Unreachable, "gone"))).await;
        assert_eq!(take(&mut events, 2).await.0, [1, 2]);
        assert!(timeout(Duration::from_secs(10), events.next()).await.expect("an end").is_none());
        assert!(!replay.is_fed());
        drop(events);
        assert!(Lease::take(&session).is_some(), "another may listen");
    }

    #[tokio::test]
    async fn the_first_event_of_a_primed_stream_is_an_id_to_go_on_after() {
        let mut scene = Scene::new();
        let mut events = scene.replay.stream(None, true, Lease::take(&scene.session).unwrap());
        let prime = events.next().await.unwrap();
        assert!(prime.message.is_none());
        drop(events);
        scene.say(2, 0).await;
        assert_eq!(take(&mut scene.listen(Some(&prime.id)), 2).await.0, [1, 2]);
    }
}
