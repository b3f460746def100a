//! Events on their way up: in order, each until the control plane has it on its disk, and not one before that is
//! forgotten. Beside the exchange and for as long as it lasts, so that a backlog delays no directive.

use super::{EventSource, Position, reach::Api, stream};
use o1_process::backoff;
use o1_proto::{
    convert::encode_event,
    model::{Event, EventKind},
    wire::{
        AppendEventsRequest, AppendEventsResponse, EventBatch, EventCursor, EventsOpen, NodeIdentity,
        append_events_request::Msg, node_service_client::NodeServiceClient,
    },
};
use std::{collections::VecDeque, convert::Infallible, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Events of one batch.
const BATCH: usize = 256;
/// Bytes of one batch that has more than one event.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes of one event, as the contract has it.
const EVENT_BYTES: usize = 16 << 10;
/// Bytes of a text that had to be cut.
const CUT: usize = 1 << 10;
/// How long the control plane may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Waits between streams, the shortest and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Sends events; outlives connections, for what it says in the log.
#[derive(Debug, Default)]
pub(super) struct Sender {
    /// Streams in a row that got nothing done.
    failures: u32,
}

impl Sender {
    /// Sends what there is and what comes, until dropped. A stream that breaks while the exchange stands is opened
    /// again.
    pub async fn run(
        &mut self,
        client: NodeServiceClient<Api>,
        me: &NodeIdentity,
        source: &dyn EventSource,
    ) -> Infallible {
        loop {
            let Err(status) = self.stream(client.clone(), me, source).await;
            if status.code() == Code::Unimplemented {
                tracing::debug!("the control plane is of a build that takes no events: the node keeps them");
                std::future::pending().await
            }
            self.failed(&status);
            sleep(backoff::full_jitter(RETRY.0, RETRY.1, self.failures)).await;
        }
    }

    /// One stream, until it ends.
    async fn stream(
        &mut self,
        mut client: NodeServiceClient<Api>,
        me: &NodeIdentity,
        source: &dyn EventSource,
    ) -> Result<Infallible, Status> {
        let mut window = Window::new(Instant::now());
        let (say, said) = mpsc::channel(1);
        say.try_send(open(me, source)).expect("the queue is new");
        let opened = timeout_at(window.due(), client.append_events(ReceiverStream::new(said)));
        let mut hear = opened.await.map_err(|_| silent())??.into_inner();
        let mut changes = source.changed();
        loop {
            // Before looking: whatever comes after the look is a change.
            changes.mark_unchanged();
            let next = window.next(source);
            if next.is_none() && !window.waits() {
                // Everything is there.
                self.succeeded();
            }
            tokio::select! {
                place = say.reserve(), if next.is_some() => {
                    let (Ok(place), Some(batch)) = (place, next) else { return Err(closed()) };
                    place.send(window.send(batch, Instant::now()));
                }
                answer = hear.message() => {
                    let first = window.credits.is_none();
                    if let Some(through) = window.hear(&answer?.ok_or_else(closed)?, me)? {
                        source.delivered(through);
                        if !first {
                            self.succeeded();
                        }
                    }
                }
                () = super::changed(&mut changes) => {}
                () = sleep_until(window.due()), if window.waits() => return Err(silent()),
            }
        }
    }

    fn failed(&mut self, status: &Status) {
        self.failures = self.failures.saturating_add(1);
        let problem = stream::describe(status);
        // The first is how a connection ends, or a control plane.
        if self.failures == 2 {
            tracing::warn!(problem, "the control plane does not take events: the node keeps them");
        } else {
            tracing::debug!(problem, failures = self.failures, "the stream of events ended");
        }
    }

    fn succeeded(&mut self) {
        if std::mem::take(&mut self.failures) > 1 {
            tracing::info!("the control plane takes events again");
        }
    }
}

fn closed() -> Status {
    Status::unavailable("the control plane closed the stream of events")
}

fn silent() -> Status {
    Status::deadline_exceeded(format!("no answer to events within {ANSWER_LIMIT:?}"))
}

fn open(me: &NodeIdentity, source: &dyn EventSource) -> AppendEventsRequest {
    let cursor = |(epoch, seq)| EventCursor { node_uid: me.node_uid.clone(), epoch, seq };
    let open = EventsOpen {
        node_id: me.node_id.clone(),
        node_uid: me.node_uid.clone(),
        oldest: source.oldest().map(cursor),
        newest: source.newest().map(cursor),
    };
    AppendEventsRequest { msg: Some(Msg::Open(open)) }
}

/// Where one stream stands: what was sent, what is known to be on the control plane's disk, and what may be sent.
#[derive(Debug)]
struct Window {
    opened: Instant,
    /// `None`: nothing was heard yet.
    credits: Option<usize>,
    durable: Option<Position>,
    sent: Option<Position>,
    /// Sent and not heard of: where each batch ends, how many events it has, when it was sent.
    waiting: VecDeque<(Position, usize, Instant)>,
}

/// Events that follow each other, encoded.
#[derive(Debug)]
struct Batch {
    events: Vec<Vec<u8>>,
    end: Position,
}

impl Window {
    fn new(opened: Instant) -> Self {
        Self { opened, credits: None, durable: None, sent: None, waiting: VecDeque::new() }
    }

    /// The next batch, if there is one and it may be sent.
    fn next(&self, source: &dyn EventSource) -> Option<Batch> {
        let unheard: usize = self.waiting.iter().map(|(_, events, _)| events).sum();
        let room = self.credits?.saturating_sub(unheard).min(BATCH);
        let found = if room > 0 { source.after(self.sent.unwrap_or_default(), room) } else { Vec::new() };
        let (epoch, first) = found.first()?;
        let hole = hole(self.sent, *epoch, first);
        let mut batch = Batch { events: Vec::new(), end: (*epoch, 0) };
        let mut bytes = 0;
        let same = found.iter().take_while(|(of, _)| of == epoch).map(|(_, event)| event);
        for event in hole.iter().chain(same).take(room) {
            let body = encode(event);
            bytes += body.len();
            if bytes > BATCH_BYTES && !batch.events.is_empty() {
                break;
            }
            batch.events.push(body);
            batch.end.1 = event.seq;
        }
        Some(batch)
    }

    fn send(&mut self, batch: Batch, now: Instant) -> AppendEventsRequest {
        let Batch { events, end } = batch;
        self.waiting.push_back((end, events.len(), now));
        self.sent = Some(end);
        AppendEventsRequest { msg: Some(Msg::Batch(EventBatch { epoch: end.0, events })) }
    }

    /// Up to where events need not be kept any more, if the answer says something new.
    ///
    /// # Errors
    /// It is no answer to what was sent, or it asks for something again, which a new stream begins with.
    fn hear(&mut self, answer: &AppendEventsResponse, me: &NodeIdentity) -> Result<Option<Position>, Status> {
        let through = answer.durable_through.as_ref();
        if through.is_some_and(|through| through.node_uid != me.node_uid) {
            return Err(Status::internal("the control plane speaks of another node's events"));
        }
        let through = through.map(|through| (through.epoch, through.seq));
        let first = self.credits.is_none();
        self.credits = Some(usize::try_from(answer.credits).unwrap_or(usize::MAX));
        if first {
            (self.durable, self.sent) = (through, through);
            return Ok(through);
        }
        if through <= self.durable {
            let asks = !self.waiting.is_empty();
            return if asks { Err(Status::aborted("the control plane lacks an event")) } else { Ok(None) };
        }
        self.durable = through;
        while self.waiting.front().is_some_and(|(end, ..)| Some(*end) <= through) {
            self.waiting.pop_front();
        }
        Ok(through)
    }

    /// An answer is due.
    fn waits(&self) -> bool {
        self.credits.is_none() || !self.waiting.is_empty()
    }

    /// When it is late.
    fn due(&self) -> Instant {
        self.waiting.front().map_or(self.opened, |(.., sent)| *sent) + ANSWER_LIMIT
    }
}

/// What tells of the events that are missing before `first`: the node forgot them because they were on the control
/// plane's disk, and they no longer are. In the place of the last of them.
fn hole(sent: Option<Position>, epoch: u64, first: &Event) -> Option<Event> {
    let due = match sent? {
        (before, seq) if before == epoch => seq + 1,
        _ => 1,
    };
    (first.seq > due && first.kind != EventKind::EventsLost).then(|| Event {
        seq: first.seq - 1,
        at: first.at,
        uptime: first.uptime,
        kind: EventKind::EventsLost,
        entries: first.seq - due,
        reason: "the control plane lost them, and the node no longer had them".to_owned(),
        ..Event::default()
    })
}

/// As large as the contract allows.
fn encode(event: &Event) -> Vec<u8> {
    let bytes = encode_event(event);
    if bytes.len() <= EVENT_BYTES {
        return bytes;
    }
    let end = (0..=CUT).rev().find(|end| event.reason.is_char_boundary(*end)).unwrap_or_default();
    encode_event(&Event { reason: format!("{}…", &event.reason[..end]), ..event.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::NoEvents;
    use o1_proto::convert::decode_event;
    use tokio::sync::watch;

    /// The events of one epoch.
    struct Events(Vec<Event>);

    impl EventSource for Events {
        fn oldest(&self) -> Option<Position> {
            self.0.first().map(|event| (1, event.seq))
        }

        fn newest(&self) -> Option<Position> {
            self.0.last().map(|event| (1, event.seq))
        }

        fn after(&self, after: Position, limit: usize) -> Vec<(u64, Event)> {
            let behind = self.0.iter().filter(|event| (1, event.seq) > after);
            behind.take(limit).map(|event| (1, event.clone())).collect()
        }

        fn delivered(&self, _: Position) {}

        fn changed(&self) -> watch::Receiver<u64> {
            NoEvents.changed()
        }
    }

    fn event(seq: u64) -> Event {
        Event { seq, kind: EventKind::EntryJournaled, ..Event::default() }
    }

    fn me() -> NodeIdentity {
        NodeIdentity { node_uid: vec![7; 16], ..NodeIdentity::default() }
    }

    fn answer(through: Option<Position>, credits: u32) -> AppendEventsResponse {
        let cursor = |(epoch, seq)| EventCursor { node_uid: vec![7; 16], epoch, seq };
        AppendEventsResponse { durable_through: through.map(cursor), credits }
    }

    /// A stream of which this is the first answer.
    fn begun(through: Option<Position>, credits: u32) -> Window {
        let mut window = Window::new(Instant::now());
        assert_eq!(window.hear(&answer(through, credits), &me()).unwrap(), through);
        window
    }

    fn sent(window: &mut Window, source: &Events) -> Option<(usize, Position)> {
        let batch = window.next(source)?;
        let about = (batch.events.len(), batch.end);
        window.send(batch, Instant::now());
        Some(about)
    }

    #[tokio::test]
    async fn no_more_is_sent_than_there_are_credits_for() {
        let source = Events((1..=1000).map(event).collect());
        assert!(Window::new(Instant::now()).next(&source).is_none(), "nothing was heard yet");
        let mut window = begun(None, 600);
        let first: Vec<_> = std::iter::from_fn(|| sent(&mut window, &source)).collect();
        assert_eq!(first, [(256, (1, 256)), (256, (1, 512)), (88, (1, 600))]);
        assert_eq!(window.hear(&answer(Some((1, 256)), 600), &me()).unwrap(), Some((1, 256)));
        assert_eq!(sent(&mut window, &source), Some((256, (1, 856))));
        assert_eq!(sent(&mut window, &source), None);
        window.hear(&answer(Some((1, 856)), 10), &me()).unwrap();
        assert_eq!(sent(&mut window, &source), Some((10, (1, 866))), "it has to hurry less now");
        assert_eq!(sent(&mut window, &source), None);
    }

    #[tokio::test]
    async fn an_answer_that_says_nothing_new_asks_for_a_new_beginning() {
        let source = Events((1..=5).map(event).collect());
        let mut window = begun(Some((1, 2)), 3);
        assert_eq!(window.hear(&answer(Some((1, 2)), 2), &me()).unwrap(), None, "nothing is on its way");
        assert_eq!(sent(&mut window, &source), Some((2, (1, 4))), "but fewer are welcome");
        assert_eq!(window.hear(&answer(Some((1, 2)), 2), &me()).unwrap_err().code(), Code::Aborted);
        let mut window = begun(Some((1, 2)), 3);
        let foreign = AppendEventsResponse {
            durable_through: Some(EventCursor { node_uid: vec![8; 16], epoch: 1, seq: 4 }),
            credits: 3,
        };
        assert_eq!(window.hear(&foreign, &me()).unwrap_err().code(), Code::Internal);
    }

    #[test]
    fn a_hole_is_told_of_where_it_ends() {
        let told =
            |sent, epoch, first: &Event| hole(sent, epoch, first).map(|event| (event.seq, event.entries));
        assert_eq!(told(None, 3, &event(9)), None, "nobody knows what was before");
        assert_eq!(told(Some((3, 8)), 3, &event(9)), None);
        assert_eq!(told(Some((2, 8)), 3, &event(1)), None);
        assert_eq!(told(Some((3, 4)), 3, &event(9)), Some((8, 4)));
        assert_eq!(told(Some((2, 4)), 3, &event(9)), Some((8, 8)));
        let lost = Event { kind: EventKind::EventsLost, ..event(9) };
        assert_eq!(told(Some((3, 4)), 3, &lost), None, "the log says it by itself");
    }

    #[tokio::test]
    async fn batches_and_events_have_a_size() {
        let large = |seq| Event { reason: "é".repeat(1 << 19), ..event(seq) };
        let (cut, number) = decode_event(&encode(&large(5))).unwrap();
        assert_eq!((cut.seq, number), (5, 13));
        assert!((1000..1100).contains(&cut.reason.len()) && cut.reason.ends_with("é…"), "{}", cut.reason);
        let fits = |seq| Event { reason: "r".repeat(15 << 10), ..event(seq) };
        let source = Events((1..=256).map(fits).collect());
        let mut window = begun(None, 1000);
        let (count, end) = sent(&mut window, &source).unwrap();
        assert_eq!((count, end), (68, (1, 68)), "as many as a megabyte holds");
        assert_eq!(sent(&mut window, &source).unwrap().1, (1, 136), "and then the next ones");
    }
}
