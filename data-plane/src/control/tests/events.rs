//! Events on their way to the control plane's disk.

use super::*;
use o1_proto::model::EventKind;
use tonic::Status;

async fn begin(places: &[Position]) -> (tempfile::TempDir, ControlPlane, Peer, Running, Arc<TestLog>) {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let log = TestLog::of(places);
    let running = Running::start_logging(dir.path(), Some(plane.address), TestNode::default(), log.clone());
    let peer = plane.welcome().await;
    (dir, plane, peer, running, log)
}

/// The stream that comes after another one, and what it begins with is answered.
async fn again(plane: &mut ControlPlane, through: Option<Position>) -> EventPeer {
    let stream = plane.events().await;
    stream.answer(through, 1000).await;
    stream
}

#[tokio::test]
async fn everything_is_sent_once_in_order_and_kept_until_it_is_durable() {
    let places = [(1, 3), (1, 4), (2, 1), (2, 2)];
    let (_dir, mut plane, peer, running, log) = begin(&places).await;
    let mut stream = plane.events().await;
    let me = peer.hello.node.clone().unwrap();
    assert_eq!((&stream.open.node_id, &stream.open.node_uid), (&me.node_id, &me.node_uid));
    let place = |cursor: Option<wire::EventCursor>| cursor.map(|one| (one.epoch, one.seq));
    assert_eq!(place(stream.open.oldest.clone()), Some((1, 3)));
    assert_eq!(place(stream.open.newest.clone()), Some((2, 2)));
    stream.answer(None, 1000).await;
    assert_eq!(stream.seqs().await, (1, vec![3, 4]));
    assert_eq!(stream.seqs().await, (2, vec![1, 2]));
    assert_eq!(log.kept(), places, "it was sent, and that is all that is known");
    stream.answer(Some((1, 4)), 1000).await;
    log.until_delivered((1, 4)).await;
    assert_eq!(log.kept(), [(2, 1), (2, 2)]);
    stream.answer(Some((2, 2)), 1000).await;
    log.until_delivered((2, 2)).await;
    log.push((2, 3));
    assert_eq!(stream.seqs().await, (2, vec![3]), "a new one, and nothing twice");
    running.leave(peer).await;
}

#[tokio::test]
async fn what_was_not_durable_is_sent_again_after_a_broken_stream() {
    let (_dir, mut plane, peer, running, log) = begin(&[(1, 1), (1, 2), (1, 3)]).await;
    let mut stream = again(&mut plane, None).await;
    assert_eq!(stream.seqs().await, (1, vec![1, 2, 3]));
    stream.fail(Status::unavailable("the disk is slow")).await;
    let mut stream = again(&mut plane, Some((1, 1))).await;
    assert_eq!(stream.seqs().await, (1, vec![2, 3]));
    assert_eq!(log.kept(), [(1, 2), (1, 3)]);
    stream.answer(Some((1, 1)), 1000).await;
    drop(stream);
    let mut stream = again(&mut plane, Some((1, 1))).await;
    assert_eq!(stream.seqs().await, (1, vec![2, 3]), "it was asked for them again");
    stream.answer(Some((1, 3)), 1000).await;
    log.until_delivered((1, 3)).await;
    running.leave(peer).await;
}

#[tokio::test]
async fn events_outlive_the_control_plane() {
    let (_dir, mut plane, peer, running, log) = begin(&[(1, 1)]).await;
    let address = plane.address;
    let mut stream = again(&mut plane, None).await;
    assert_eq!(stream.seqs().await, (1, vec![1]));
    drop((stream, peer, plane));
    log.push((1, 2));
    let mut plane = ControlPlane::start_at(address);
    let peer = plane.welcome().await;
    let mut stream = again(&mut plane, None).await;
    assert_eq!(stream.seqs().await, (1, vec![1, 2]));
    running.leave(peer).await;
}

#[tokio::test]
async fn no_more_is_on_its_way_than_the_control_plane_takes() {
    let places: Vec<_> = (1..=25).map(|seq| (1, seq)).collect();
    let (_dir, mut plane, peer, running, log) = begin(&places).await;
    let mut stream = plane.events().await;
    stream.answer(None, 10).await;
    assert_eq!(stream.seqs().await, (1, (1..=10).collect()));
    stream.answer(Some((1, 10)), 10).await;
    assert_eq!(stream.seqs().await, (1, (11..=20).collect()));
    stream.answer(Some((1, 20)), 3).await;
    assert_eq!(stream.seqs().await, (1, (21..=23).collect()));
    stream.answer(Some((1, 23)), 10).await;
    assert_eq!(stream.seqs().await, (1, vec![24, 25]));
    stream.answer(Some((1, 25)), 10).await;
    log.until_delivered((1, 25)).await;
    assert_eq!(log.kept(), []);
    running.leave(peer).await;
}

#[tokio::test]
async fn a_control_plane_that_lost_its_disk_is_told_what_is_gone() {
    let (_dir, mut plane, peer, running, log) = begin(&[(1, 9), (1, 10)]).await;
    let mut stream = again(&mut plane, Some((1, 5))).await;
    let (epoch, events) = stream.batch().await;
    let told: Vec<_> = events.iter().map(|event| (event.seq, event.kind, event.entries)).collect();
    let (lost, journaled) = (EventKind::EventsLost, EventKind::EntryJournaled);
    assert_eq!((epoch, told), (1, vec![(8, lost, 3), (9, journaled, 0), (10, journaled, 0)]));
    stream.answer(Some((1, 10)), 1000).await;
    log.until_delivered((1, 10)).await;
    running.leave(peer).await;
}

#[tokio::test]
async fn a_control_plane_of_an_older_build_is_asked_once_and_served_as_ever() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    plane.no_events.store(true, Ordering::Release);
    let log = TestLog::of(&[(1, 1)]);
    let running = Running::start_logging(dir.path(), Some(plane.address), TestNode::default(), log.clone());
    let mut peer = plane.accept().await;
    peer.welcome(Duration::from_millis(500), SOON).await;
    // A second: a stream that only broke would have been opened again.
    while peer.heartbeats.len() < 3 {
        tokio::select! {
            message = peer.next() => panic!("not a heartbeat: {message:?}"),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
    peer.send(Msg::Config(update(1, 1, &fleet(&["a"])))).await;
    assert_ack(&mut peer, 1, 1).await;
    assert_eq!(plane.asked.load(Ordering::Acquire), 1);
    assert_eq!(log.kept(), [(1, 1)], "the next control plane may be newer");
    running.leave(peer).await;
}
