//! Events over gRPC: what nodes send, what people list, what programs watch.
//!
//! A stream of a node is read no faster than the store takes what was read, and a watcher is served from the store, page
//! by page: nobody's speed costs memory.

use super::{errors, paging};
use crate::{
    clock::Now,
    events::{
        Append, Appended, Cursor, EventFilter, EventPage, EventQuery, Kept, Log, NewEvent, Order,
        StoredEvent, Writer,
    },
    fleet::{Hub, NodeUid},
};
use futures_util::{Stream, stream};
use o1_proto::{
    convert,
    wire::{self, AppendEventsRequest, AppendEventsResponse, append_events_request::Msg},
};
use prost::Message as _;
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// How long a node may take to say which events it has, once its stream is open.
const OPEN: Duration = Duration::from_secs(5);
/// Events that a node may have sent and not heard of, and the largest batch.
const CREDITS: u32 = 1000;
/// Bytes of one event.
const MAX_EVENT: usize = 16 << 10;
/// Above this there is no room left to count on.
const MAX_SEQ: u64 = 1 << 62;
/// Batches in a row that do not begin where they should.
const MAX_GAPS: u32 = 3;
/// Types that one filter can name.
const MAX_TYPES: usize = 100;
/// Events in one message of a watcher.
const PAGE: usize = 500;
/// The least time between two messages to a watcher that has seen everything.
const PACE: Duration = Duration::from_millis(50);
/// A watcher that sees no events hears this often how far it has come.
const BOOKMARK: Duration = Duration::from_secs(10);

/// Answers to the events that a node sends.
///
/// # Errors
/// The node did not open its stream as it should, `check` refuses it, or the store cannot be asked.
pub(super) async fn append(
    hub: &Hub,
    log: Log,
    stop: CancellationToken,
    mut inbound: Streaming<AppendEventsRequest>,
    check: &(dyn Fn(&str, NodeUid) -> Result<(), Status> + Send + Sync),
) -> Result<impl Stream<Item = Result<AppendEventsResponse, Status>> + use<>, Status> {
    let first = tokio::select! {
        first = timeout(OPEN, inbound.message()) => first,
        () = stop.cancelled() => return Err(errors::stopping()),
    };
    let first = first.map_err(|_| {
        Status::deadline_exceeded(format!("no open within {} s of opening the stream", OPEN.as_secs()))
    })??;
    let Some(AppendEventsRequest { msg: Some(Msg::Open(open)) }) = first else {
        return Err(errors::invalid("the first message of a stream of events must be open"));
    };
    let uid = <[u8; 16]>::try_from(open.node_uid)
        .map(NodeUid::from_bytes)
        .map_err(|uid| errors::invalid(format!("open.node_uid: 16 bytes, not {}", uid.len())))?;
    check(&open.node_id, uid)?;
    let known = hub.look(|registry, _| {
        registry.node(uid).map(|node| (node.identity.node_id.clone(), node.identity.epoch))
    });
    let (node_id, epoch) = known.ok_or_else(|| {
        Status::failed_precondition("open: this node is not known: say hello on Sync first")
    })?;
    let begin = log.cursor(uid).await.map_err(|error| errors::store(&error))?;
    let newest = open.newest.map(|newest| Cursor { epoch: newest.epoch, seq: newest.seq });
    if let Some(newest) = newest
        && let Some(begin) = begin.filter(|begin| *begin > newest)
    {
        tracing::warn!(
            node_id,
            ?begin,
            ?newest,
            "a node no longer has events that are stored here: was its disk replaced?"
        );
    }
    let upload = Upload { inbound, log, stop, uid, node_id, epoch, begin: Some(begin), gaps: 0 };
    Ok(stream::unfold(Some(upload), Upload::next))
}

/// One node's stream of events.
struct Upload {
    inbound: Streaming<AppendEventsRequest>,
    log: Log,
    stop: CancellationToken,
    uid: NodeUid,
    node_id: String,
    /// The node's present life.
    epoch: u64,
    /// The first answer, until it is given.
    begin: Option<Option<Cursor>>,
    gaps: u32,
}

impl Upload {
    /// The next answer. `None` as the state: it is the last one.
    async fn next(this: Option<Self>) -> Option<(Result<AppendEventsResponse, Status>, Option<Self>)> {
        let mut this = this?;
        let stop = this.stop.clone();
        let answer = tokio::select! {
            answer = this.answer() => answer?,
            () = stop.cancelled() => Err(errors::stopping()),
        };
        let goes_on = answer.is_ok();
        Some((answer, goes_on.then_some(this)))
    }

    /// `None`: the node has ended the stream, or the connection broke.
    async fn answer(&mut self) -> Option<Result<AppendEventsResponse, Status>> {
        if let Some(begin) = self.begin.take() {
            return Some(Ok(self.durable(begin)));
        }
        loop {
            match self.inbound.message().await.ok()??.msg {
                Some(Msg::Batch(batch)) => return Some(self.take(batch).await),
                Some(Msg::Open(_)) => return Some(Err(errors::invalid("a second open on one stream"))),
                None => {} // of a newer node
            }
        }
    }

    async fn take(&mut self, batch: wire::EventBatch) -> Result<AppendEventsResponse, Status> {
        let events = self.decode(&batch).inspect_err(|status| {
            tracing::warn!(node_id = self.node_id, why = status.message(), "events of a node were refused");
        })?;
        let writer = Writer { uid: self.uid, node_id: self.node_id.clone(), epoch: batch.epoch };
        let append = Append { writer, events, now: Now::read().wall };
        match self.log.append(append).await.map_err(|error| errors::store(&error))? {
            Appended::Through(through) => {
                self.gaps = 0;
                Ok(self.durable(Some(through)))
            }
            Appended::Gap { expected, durable } => {
                self.gaps += 1;
                let Cursor { epoch, seq } = expected;
                tracing::warn!(
                    node_id = self.node_id,
                    epoch,
                    seq,
                    "an event of a node is missing: it is asked for it"
                );
                if self.gaps >= MAX_GAPS {
                    return Err(Status::failed_precondition(format!(
                        "batch: event {seq} of epoch {epoch} is due and did not come; what is gone for good is told by \
                         EVENTS_LOST"
                    )));
                }
                Ok(self.durable(durable))
            }
        }
    }

    fn decode(&self, batch: &wire::EventBatch) -> Result<Vec<NewEvent>, Status> {
        if !(1..=self.epoch).contains(&batch.epoch) {
            return Err(errors::invalid(format!(
                "batch.epoch: {} is not within 1 and {}, which the node said hello with",
                batch.epoch, self.epoch
            )));
        }
        let count = batch.events.len();
        if !(1..=CREDITS as usize).contains(&count) {
            return Err(errors::invalid(format!("batch.events: {count} are not 1 to {CREDITS}")));
        }
        let one = |(index, body): (usize, &Vec<u8>)| {
            decode(body).map_err(|what| errors::invalid(format!("batch.events[{index}]{what}")))
        };
        batch.events.iter().enumerate().map(one).collect()
    }

    fn durable(&self, through: Option<Cursor>) -> AppendEventsResponse {
        let durable_through = through.map(|through| cursor(self.uid.as_bytes().to_vec(), through));
        AppendEventsResponse { durable_through, credits: CREDITS }
    }
}

fn decode(body: &[u8]) -> Result<NewEvent, String> {
    if body.len() > MAX_EVENT {
        return Err(format!(": {} bytes are more than {MAX_EVENT}", body.len()));
    }
    let (event, number) = convert::decode_event(body).map_err(|error| format!(": not an event: {error}"))?;
    if !(1..=MAX_SEQ).contains(&event.seq) {
        return Err(format!(".seq: {} is not within 1 and {MAX_SEQ}", event.seq));
    }
    Ok(NewEvent { event, number, body: body.to_vec() })
}

fn cursor(node_uid: Vec<u8>, at: Cursor) -> wire::EventCursor {
    wire::EventCursor { node_uid, epoch: at.epoch, seq: at.seq }
}

/// A page of what happened.
///
/// # Errors
/// The request breaks a rule, or the store cannot be asked.
pub(super) async fn list(
    log: &Log,
    request: wire::ListEventsRequest,
) -> Result<wire::ListEventsResponse, Status> {
    let limit = paging::size(request.page_size)?;
    // A token goes on in its own direction only.
    let kind = if request.newest_first { "event-before" } else { "event" };
    let from = paging::key(kind, &request.page_token)?
        .map(|key| key.parse().map_err(|_| paging::unknown(&request.page_token)))
        .transpose()?;
    let order = if request.newest_first { Order::Before(from) } else { Order::After(from.unwrap_or(0)) };
    let query = EventQuery { filter: filter(request.filter)?, order, limit };
    let EventPage { events, more, kept } = log.page(query).await.map_err(|error| errors::store(&error))?;
    let next_page_token = match events.last() {
        Some(last) if more => paging::token(kind, &last.position.to_string()),
        _ => String::new(),
    };
    Ok(wire::ListEventsResponse {
        events: events.into_iter().map(stored).collect(),
        next_page_token,
        oldest_position: kept.oldest,
        newest_position: kept.newest,
    })
}

fn filter(filter: Option<wire::EventFilter>) -> Result<EventFilter, Status> {
    let wire::EventFilter { upstream, node_id, types, since } = filter.unwrap_or_default();
    if types.len() > MAX_TYPES {
        return Err(errors::invalid(format!("filter.types: at most {MAX_TYPES}, not {}", types.len())));
    }
    Ok(EventFilter { upstream, node_id, types, since: convert::system_time(since.as_ref()) })
}

fn stored(event: StoredEvent) -> wire::StoredEvent {
    let uid = event.uid.map(|uid| uid.as_bytes().to_vec()).unwrap_or_default();
    wire::StoredEvent {
        position: event.position,
        cursor: Some(cursor(uid, event.cursor)),
        node_id: event.node_id,
        // It could be decoded when it came; a disk that changed it since has nothing to say.
        event: wire::Event::decode(&*event.body).ok(),
        stored_at: Some(convert::from_system_time(event.stored_at)),
    }
}

/// What happens, as it comes in.
///
/// # Errors
/// The request breaks a rule, begins where nothing is kept, or the store cannot be asked.
pub(super) async fn watch(
    log: Log,
    stop: CancellationToken,
    request: wire::WatchEventsRequest,
) -> Result<impl Stream<Item = Result<wire::WatchEventsResponse, Status>> + use<>, Status> {
    let filter = filter(request.filter)?;
    let newest = log.newest();
    let kept = log.kept().await.map_err(|error| errors::store(&error))?;
    let through = request.after_position.unwrap_or(kept.newest);
    within(through, kept)?;
    let watch = Watch { log, stop, filter, newest, through, sent: None };
    Ok(stream::unfold(Some(watch), Watch::next))
}

/// Whether everything behind this position is there.
fn within(through: u64, kept: Kept) -> Result<(), Status> {
    let Kept { oldest, newest } = kept;
    if through.saturating_add(1) < oldest {
        return Err(errors::out_of_range(format!(
            "after_position: events behind {through} are no longer kept; the oldest position is {oldest}: list what \
             there is, and watch on from there"
        )));
    }
    if through > newest {
        return Err(errors::out_of_range(format!(
            "after_position: {through} is beyond the newest position, {newest}: it is of another store; the oldest \
             position is {oldest}"
        )));
    }
    Ok(())
}

/// One watcher.
struct Watch {
    log: Log,
    stop: CancellationToken,
    filter: EventFilter,
    newest: watch::Receiver<u64>,
    /// What was looked at.
    through: u64,
    /// When it last heard something.
    sent: Option<Instant>,
}

impl Watch {
    /// The next message. `None` as the state: it is the last one.
    async fn next(this: Option<Self>) -> Option<(Result<wire::WatchEventsResponse, Status>, Option<Self>)> {
        let mut this = this?;
        let stop = this.stop.clone();
        let message = tokio::select! {
            message = this.message() => message,
            () = stop.cancelled() => Err(errors::stopping()),
        };
        this.sent = Some(Instant::now());
        let goes_on = message.is_ok();
        Some((message, goes_on.then_some(this)))
    }

    async fn message(&mut self) -> Result<wire::WatchEventsResponse, Status> {
        loop {
            let events = self.look().await?;
            let Some(sent) = self.sent.filter(|_| events.is_empty()) else {
                return Ok(self.tell(events));
            };
            match timeout_at(sent + BOOKMARK, self.newest.changed()).await {
                Ok(_) => sleep_until(sent + PACE).await,
                Err(_) => return Ok(self.tell(Vec::new())),
            }
        }
    }

    fn tell(&self, events: Vec<StoredEvent>) -> wire::WatchEventsResponse {
        let events = events.into_iter().map(stored).collect();
        wire::WatchEventsResponse { events, through_position: self.through }
    }

    /// The next events behind what was looked at; none: there are none yet.
    async fn look(&mut self) -> Result<Vec<StoredEvent>, Status> {
        if *self.newest.borrow_and_update() <= self.through {
            return Ok(Vec::new());
        }
        let query =
            EventQuery { filter: self.filter.clone(), order: Order::After(self.through), limit: PAGE };
        let EventPage { events, more, kept } =
            self.log.page(query).await.map_err(|error| errors::store(&error))?;
        // What was pruned meanwhile was never seen.
        within(self.through, kept)?;
        self.through = match events.last() {
            Some(last) if more => last.position,
            _ => kept.newest,
        };
        Ok(events)
    }
}
