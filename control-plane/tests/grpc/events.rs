//! Events: sent by nodes, kept, listed and watched.

use crate::harness::*;
use o1_control_plane::store::{Sqlite, Store as _};
use o1_proto::wire::{
    self, AppendEventsRequest, AppendEventsResponse, Event, EventBatch, EventCursor, EventFilter, EventType,
    EventsOpen, ListEventsRequest, StoredEvent, WatchEventsRequest, WatchEventsResponse,
    append_events_request::Msg, node_service_client::NodeServiceClient,
};
use prost::Message as _;
use std::{net::SocketAddr, time::SystemTime};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// One stream of events.
struct Sender {
    say: mpsc::Sender<AppendEventsRequest>,
    hear: Streaming<AppendEventsResponse>,
}

impl Sender {
    async fn try_open(listen: SocketAddr, uid: u8) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(16);
        let open =
            EventsOpen { node_id: format!("n{uid}"), node_uid: vec![uid; 16], ..EventsOpen::default() };
        say.try_send(AppendEventsRequest { msg: Some(Msg::Open(open)) }).unwrap();
        let mut client = NodeServiceClient::new(channel(listen).await);
        let hear = client.append_events(ReceiverStream::new(said)).await?.into_inner();
        Ok(Self { say, hear })
    }

    /// Opens a stream; where the node should begin.
    async fn open(plane: &Plane, uid: u8) -> (Self, Option<(u64, u64)>) {
        let mut sender = Self::try_open(plane.listen, uid).await.expect("a stream");
        let begin = sender.heard().await.expect("where to begin");
        assert_eq!(begin.credits, 1000);
        let begin = begin.durable_through;
        if let Some(begin) = &begin {
            assert_eq!(begin.node_uid, [uid; 16]);
        }
        (sender, begin.map(|begin| (begin.epoch, begin.seq)))
    }

    async fn heard(&mut self) -> Result<AppendEventsResponse, Status> {
        let answer = timeout(SOON, self.hear.message()).await.expect("an answer in time")?;
        Ok(answer.expect("the stream goes on"))
    }

    async fn say(&self, epoch: u64, events: Vec<Vec<u8>>) {
        let msg = Some(Msg::Batch(EventBatch { epoch, events }));
        self.say.send(AppendEventsRequest { msg }).await.expect("the stream is open");
    }

    /// Up to where the events are on the disk, after these.
    async fn send(&mut self, epoch: u64, events: impl IntoIterator<Item = Event>) -> (u64, u64) {
        self.say(epoch, events.into_iter().map(|event| event.encode_to_vec()).collect()).await;
        let through = self.heard().await.expect("an answer").durable_through.expect("something is stored");
        (through.epoch, through.seq)
    }

    async fn refused(mut self, epoch: u64, events: Vec<Vec<u8>>) -> Status {
        self.say(epoch, events).await;
        self.heard().await.expect_err("this is refused")
    }
}

fn event(seq: u64) -> Event {
    Event {
        seq,
        r#type: EventType::EntryJournaled.into(),
        upstream: if seq.is_multiple_of(2) { "even" } else { "odd" }.to_owned(),
        ..Event::default()
    }
}

/// A control plane to which these nodes said hello.
async fn plane_with(nodes: &[u8]) -> (Plane, Vec<Node>) {
    let plane = Plane::with(&document(3101)).await;
    let joined = join(&plane, nodes).await;
    (plane, joined)
}

async fn join(plane: &Plane, nodes: &[u8]) -> Vec<Node> {
    let mut joined = Vec::new();
    for uid in nodes {
        joined.push(join_in(plane, *uid, 2).await);
    }
    joined
}

async fn join_in(plane: &Plane, uid: u8, epoch: u64) -> Node {
    let node = wire::NodeIdentity { epoch, ..identity(uid) };
    Node::join(plane.listen, wire::Hello { node: Some(node), ..hello(uid) }).await.0
}

async fn list(plane: &Plane, request: ListEventsRequest) -> wire::ListEventsResponse {
    plane.statuses().await.list_events(request).await.unwrap().into_inner()
}

async fn all(plane: &Plane) -> Vec<StoredEvent> {
    list(plane, ListEventsRequest { page_size: 1000, ..Default::default() }).await.events
}

/// (position, node, epoch, seq) of each.
fn places(events: &[StoredEvent]) -> Vec<(u64, &str, u64, u64)> {
    let place = |event: &StoredEvent| {
        let EventCursor { epoch, seq, .. } = *event.cursor.as_ref().unwrap();
        assert_eq!(event.event.as_ref().unwrap().seq, seq);
        (event.position, epoch, seq)
    };
    let named = |event| {
        let (position, epoch, seq) = place(event);
        (position, event.node_id.as_str(), epoch, seq)
    };
    events.iter().map(named).collect()
}

fn positions(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|event| event.position).collect()
}

async fn watch(
    plane: &Plane,
    after_position: Option<u64>,
    filter: EventFilter,
) -> Result<Streaming<WatchEventsResponse>, Status> {
    let request = WatchEventsRequest { after_position, filter: Some(filter) };
    Ok(plane.statuses().await.watch_events(request).await?.into_inner())
}

async fn told(stream: &mut Streaming<WatchEventsResponse>) -> WatchEventsResponse {
    timeout(SOON, stream.message()).await.expect("something in time").unwrap().expect("the stream goes on")
}

/// Reads until this position was looked at.
async fn until(stream: &mut Streaming<WatchEventsResponse>, position: u64) -> Vec<StoredEvent> {
    let mut events = Vec::new();
    loop {
        let message = told(stream).await;
        events.extend(message.events);
        if message.through_position >= position {
            assert_eq!(message.through_position, position);
            return events;
        }
    }
}

#[tokio::test]
async fn events_of_two_nodes_are_stored_once_each_without_gaps() {
    let (plane, _nodes) = plane_with(&[1, 2]).await;
    let (mut a, begin) = Sender::open(&plane, 1).await;
    let (mut b, _) = Sender::open(&plane, 2).await;
    assert_eq!(begin, None);
    assert_eq!(a.send(2, [event(1), event(2)]).await, (2, 2));
    assert_eq!(b.send(2, [event(1)]).await, (2, 1));
    assert_eq!(a.send(2, [event(1), event(2), event(3)]).await, (2, 3), "two of them once more");
    assert_eq!(b.send(2, [event(2)]).await, (2, 2));
    let found = all(&plane).await;
    let expected = [(1, "n1", 2, 1), (2, "n1", 2, 2), (3, "n2", 2, 1), (4, "n1", 2, 3), (5, "n2", 2, 2)];
    assert_eq!(places(&found), expected);
    assert!(found.iter().all(|event| event.stored_at.is_some()));
    assert_eq!(found[2].cursor.as_ref().unwrap().node_uid, [2; 16]);
}

#[tokio::test]
async fn many_streams_at_once_lose_nothing_and_repeat_nothing() {
    let (plane, _nodes) = plane_with(&[1, 2, 3, 4]).await;
    let sends = (1..=4).map(async |uid| {
        // Two streams of one node send the same, as after a connection that only seems to be dead.
        let ((mut one, _), (mut two, _)) = (Sender::open(&plane, uid).await, Sender::open(&plane, uid).await);
        for from in (1..=300).step_by(30) {
            let batch = || (from..from + 30).map(event);
            let (one, two) = tokio::join!(one.send(2, batch()), two.send(2, batch()));
            assert_eq!((one, two), ((2, from + 29), (2, from + 29)));
        }
    });
    futures_util::future::join_all(sends).await;
    let page = list(&plane, ListEventsRequest { page_size: 1000, ..Default::default() }).await;
    let rest = ListEventsRequest { page_size: 1000, page_token: page.next_page_token, ..Default::default() };
    let mut found = page.events;
    found.extend(list(&plane, rest).await.events);
    assert_eq!(positions(&found), (1..=1200).collect::<Vec<_>>());
    for node in ["n1", "n2", "n3", "n4"] {
        let seqs: Vec<u64> = places(&found).iter().filter(|one| one.1 == node).map(|one| one.3).collect();
        assert_eq!(seqs, (1..=300).collect::<Vec<_>>(), "{node}");
    }
}

#[tokio::test]
async fn a_gap_is_asked_for_and_never_stored() {
    let (plane, _nodes) = plane_with(&[1]).await;
    let (mut sender, _) = Sender::open(&plane, 1).await;
    assert_eq!(sender.send(2, [event(1)]).await, (2, 1));
    assert_eq!(sender.send(2, [event(3)]).await, (2, 1), "from there, please");
    assert_eq!(sender.send(2, [event(2), event(3)]).await, (2, 3));
    let lost = Event { r#type: EventType::EventsLost.into(), entries: 6, ..event(9) };
    assert_eq!(sender.send(2, [lost, event(10)]).await, (2, 10), "they are gone, and it says so");
    let seqs: Vec<u64> = places(&all(&plane).await).iter().map(|one| one.3).collect();
    assert_eq!(seqs, [1, 2, 3, 9, 10]);

    for _ in 0..2 {
        assert_eq!(sender.send(2, [event(12)]).await, (2, 10));
    }
    let status = sender.refused(2, vec![event(12).encode_to_vec()]).await;
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("event 11 of epoch 2"), "{status}");
}

#[tokio::test]
async fn a_node_goes_on_where_it_was_after_each_side_was_restarted() {
    let (plane, nodes) = plane_with(&[1]).await;
    let (mut sender, _) = Sender::open(&plane, 1).await;
    assert_eq!(sender.send(1, [event(1), event(2)]).await, (1, 2));
    assert_eq!(sender.send(2, [event(1)]).await, (2, 1), "the next epoch");
    drop((sender, nodes));
    let dir = plane.stop().await;

    let plane = Plane::over(dir).await;
    let _node = join_in(&plane, 1, 3).await;
    let (mut sender, begin) = Sender::open(&plane, 1).await;
    assert_eq!(begin, Some((2, 1)));
    assert_eq!(sender.send(2, [event(1), event(2)]).await, (2, 2));
    assert_eq!(sender.send(3, [event(1)]).await, (3, 1));
    assert_eq!(sender.send(2, [event(2)]).await, (3, 1), "it is there already");
    let expected = [(1, "n1", 1, 1), (2, "n1", 1, 2), (3, "n1", 2, 1), (4, "n1", 2, 2), (5, "n1", 3, 1)];
    assert_eq!(places(&all(&plane).await), expected);
}

#[tokio::test]
async fn what_this_build_does_not_know_is_kept_as_it_came() {
    let (plane, nodes) = plane_with(&[1]).await;
    let (mut sender, _) = Sender::open(&plane, 1).await;
    let mut body = Event { r#type: 7777, ..event(1) }.encode_to_vec();
    // Field 999, a string of three bytes.
    prost::encoding::string::encode(999, &"new".to_owned(), &mut body);
    sender.say(2, vec![body.clone()]).await;
    sender.heard().await.unwrap();
    let found = list(
        &plane,
        ListEventsRequest {
            filter: Some(EventFilter { types: vec![7777], ..Default::default() }),
            ..Default::default()
        },
    )
    .await;
    assert_eq!(found.events[0].event.as_ref().unwrap().r#type, 7777);
    drop((sender, nodes));
    let dir = plane.stop().await;
    let store = Sqlite::open(&dir.path().join("state/store.db")).unwrap();
    let query = o1_control_plane::events::EventQuery {
        filter: Default::default(),
        order: o1_control_plane::events::Order::After(0),
        limit: 1,
    };
    assert_eq!(store.events(query).await.unwrap().events[0].body, body);
}

#[tokio::test]
async fn who_is_not_known_or_sends_nonsense_is_refused_and_told_why() {
    let (plane, _nodes) = plane_with(&[1]).await;
    let stranger = Sender::try_open(plane.listen, 9).await.err().expect("nobody knows it");
    assert_eq!(stranger.code(), Code::FailedPrecondition, "{stranger}");
    let good = event(1).encode_to_vec();
    let huge = Event { reason: "r".repeat(16 << 10), ..event(1) }.encode_to_vec();
    let cases: [(u64, Vec<Vec<u8>>, &str); 6] = [
        (3, vec![good.clone()], "batch.epoch: 3 is not within 1 and 2"),
        (0, vec![good.clone()], "batch.epoch: 0"),
        (2, vec![], "batch.events: 0 are not 1 to 1000"),
        (2, vec![good.clone(); 1001], "batch.events: 1001"),
        (2, vec![good.clone(), huge], "batch.events[1]: 16"),
        (2, vec![event(0).encode_to_vec()], "batch.events[0].seq: 0"),
    ];
    for (epoch, events, why) in cases {
        let (sender, _) = Sender::open(&plane, 1).await;
        let status = sender.refused(epoch, events).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(why), "{why}: {status}");
    }
    let (sender, _) = Sender::open(&plane, 1).await;
    let status = sender.refused(2, vec![vec![0xff; 9]]).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(all(&plane).await, []);
}

#[tokio::test]
async fn lists_go_through_everything_page_by_page_in_both_directions() {
    let (plane, _nodes) = plane_with(&[1]).await;
    let (mut sender, _) = Sender::open(&plane, 1).await;
    for from in (1..=2500).step_by(500) {
        assert_eq!(sender.send(2, (from..from + 500).map(event)).await, (2, from + 499));
    }
    for newest_first in [false, true] {
        let (mut found, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page =
                list(&plane, ListEventsRequest { page_size: 400, page_token, newest_first, filter: None })
                    .await;
            assert_eq!((page.oldest_position, page.newest_position), (1, 2500));
            found.extend(positions(&page.events));
            pages += 1;
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        if newest_first {
            found.reverse();
        }
        assert_eq!((found, pages), ((1..=2500).collect(), 7));
    }
    let first = list(&plane, ListEventsRequest::default()).await;
    assert_eq!(first.events.len(), 100);
    let mut statuses = plane.statuses().await;
    let foreign = [
        ListEventsRequest { page_token: first.next_page_token, newest_first: true, ..Default::default() },
        ListEventsRequest { page_token: "event:x".into(), ..Default::default() },
        ListEventsRequest { page_size: -1, ..Default::default() },
    ];
    for request in foreign {
        let status = statuses.list_events(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
}

#[tokio::test]
async fn filters_hold_for_lists_and_for_watchers() {
    let (plane, _nodes) = plane_with(&[1, 2]).await;
    let filter = EventFilter {
        upstream: "even".to_owned(),
        node_id: "n2".to_owned(),
        types: vec![EventType::EntryJournaled.into()],
        since: None,
    };
    let mut watcher = watch(&plane, Some(0), filter.clone()).await.unwrap();
    assert_eq!(told(&mut watcher).await, WatchEventsResponse::default(), "it begins");
    let ((mut a, _), (mut b, _)) = (Sender::open(&plane, 1).await, Sender::open(&plane, 2).await);
    a.send(2, (1..=4).map(event)).await;
    b.send(2, (1..=4).map(event)).await;
    b.send(2, [Event { r#type: EventType::Restored.into(), ..event(5) }, event(6)]).await;
    let request = ListEventsRequest { filter: Some(filter), ..Default::default() };
    assert_eq!(positions(&list(&plane, request).await.events), [6, 8, 10]);
    let watched = until(&mut watcher, 10).await;
    assert_eq!(positions(&watched), [6, 8, 10]);
    let late = EventFilter {
        since: Some(o1_proto::convert::from_system_time(SystemTime::now() + SOON)),
        ..Default::default()
    };
    assert_eq!(list(&plane, ListEventsRequest { filter: Some(late), ..Default::default() }).await.events, []);
}

#[tokio::test]
async fn a_watcher_goes_on_where_it_was_also_at_another_control_plane_process() {
    let (plane, nodes) = plane_with(&[1]).await;
    let (mut sender, _) = Sender::open(&plane, 1).await;
    sender.send(2, (1..=3).map(event)).await;
    let mut watcher = watch(&plane, None, EventFilter::default()).await.unwrap();
    let begin = told(&mut watcher).await;
    assert_eq!((begin.events.len(), begin.through_position), (0, 3), "only what comes");
    sender.send(2, (4..=5).map(event)).await;
    assert_eq!(positions(&until(&mut watcher, 5).await), [4, 5]);
    let mut second = watch(&plane, Some(2), EventFilter::default()).await.unwrap();
    assert_eq!(positions(&until(&mut second, 5).await), [3, 4, 5]);

    let ended = async |stream: &mut Streaming<WatchEventsResponse>| {
        timeout(SOON, stream.message()).await.expect("an end in time").unwrap_err()
    };
    let (stopped, ()) = tokio::join!(plane.stop(), async {
        assert_eq!(ended(&mut watcher).await.code(), Code::Unavailable);
        assert_eq!(ended(&mut second).await.code(), Code::Unavailable);
        assert_eq!(sender.heard().await.unwrap_err().code(), Code::Unavailable);
        drop((watcher, second, sender, nodes));
    });
    let plane = Plane::over(stopped).await;
    let _nodes = join(&plane, &[1]).await;
    let (mut sender, begin) = Sender::open(&plane, 1).await;
    assert_eq!(begin, Some((2, 5)));
    sender.send(2, (6..=7).map(event)).await;
    let mut third = watch(&plane, Some(5), EventFilter::default()).await.unwrap();
    assert_eq!(positions(&until(&mut third, 7).await), [6, 7]);
}

#[tokio::test]
async fn a_slow_watcher_sees_everything_in_order() {
    let (plane, _nodes) = plane_with(&[1]).await;
    let mut watcher = watch(&plane, Some(0), EventFilter::default()).await.unwrap();
    let (mut sender, _) = Sender::open(&plane, 1).await;
    for from in (1..=3000).step_by(1000) {
        sender.send(2, (from..from + 1000).map(|seq| Event { reason: "r".repeat(1000), ..event(seq) })).await;
    }
    assert_eq!(positions(&until(&mut watcher, 3000).await), (1..=3000).collect::<Vec<_>>());
}

#[tokio::test]
async fn behind_the_oldest_there_is_nothing_to_watch_and_the_refusal_says_what_there_is() {
    let (plane, nodes) = plane_with(&[1]).await;
    let (mut sender, _) = Sender::open(&plane, 1).await;
    sender.send(2, (1..=10).map(event)).await;
    drop((sender, nodes));
    let dir = plane.stop().await;
    {
        let store = Sqlite::open(&dir.path().join("state/store.db")).unwrap();
        assert_eq!(store.prune_events(4, SystemTime::UNIX_EPOCH).await.unwrap(), 6);
    }
    let plane = Plane::over(dir).await;
    for (after, part) in
        [(0, "oldest position is 7"), (5, "oldest position is 7"), (11, "newest position, 10")]
    {
        let status = watch(&plane, Some(after), EventFilter::default()).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status}");
        assert!(status.message().contains(part), "{status}");
    }
    let mut watcher = watch(&plane, Some(6), EventFilter::default()).await.unwrap();
    assert_eq!(positions(&until(&mut watcher, 10).await), [7, 8, 9, 10]);
    let page = list(&plane, ListEventsRequest::default()).await;
    assert_eq!((page.oldest_position, page.newest_position), (7, 10));
    assert_eq!(positions(&page.events), [7, 8, 9, 10]);
}
