//! Updates that say what differs from what runs, and updates in parts.

use super::*;
use o1_proto::wire::{ConfigPart, ConfigUpdate, ResourceKey};
use prost::Message as _;

/// What leads from one fleet to another, at the next revision.
fn delta(nonce: u64, from: &ConfigUpdate, to: &Fleet) -> ConfigUpdate {
    let whole = update(nonce, from.to.as_ref().unwrap().revision + 1, to);
    let key = |one: &o1_proto::wire::Resource| one.key.clone().unwrap();
    let gone = |one: &&o1_proto::wire::Resource| !whole.resources.iter().any(|new| new.key == one.key);
    let removed = from.resources.iter().filter(gone).map(key).collect();
    let changed = whole.resources.iter().filter(|one| !from.resources.contains(one)).cloned().collect();
    ConfigUpdate { base: from.to.clone(), removed, resources: changed, ..whole }
}

#[tokio::test]
async fn what_differs_is_worked_into_what_runs_and_the_whole_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    let first = update(1, 1, &fleet(&["a", "b"]));
    peer.send(Msg::Config(first.clone())).await;
    assert_ack(&mut peer, 1, 1).await;
    let second = delta(2, &first, &fleet(&["b", "c"]));
    assert_eq!((second.resources.len(), second.removed.len()), (1, 1), "c comes, a goes, b is not mentioned");
    peer.send(Msg::Config(second.clone())).await;
    assert_ack(&mut peer, 2, 2).await;
    assert_eq!(running.applied(), [names(1, &["a", "b"]), names(2, &["b", "c"])]);
    running.leave(peer).await;

    let alone = Running::start(dir.path(), Some(plane.address));
    assert_eq!(alone.applied(), [names(2, &["b", "c"])], "its disk needs no base");
    let mut peer = plane.welcome().await;
    assert_eq!(peer.hello.applied, second.to);
    let kept = update(0, 2, &fleet(&["b", "c"]));
    peer.send(Msg::Config(delta(1, &kept, &fleet(&["b"])))).await;
    assert_ack(&mut peer, 1, 3).await;
    alone.leave(peer).await;
}

#[tokio::test]
async fn what_differs_from_something_else_is_handed_back_and_refuses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    let first = update(1, 5, &fleet(&["a", "b"]));
    peer.send(Msg::Config(first.clone())).await;
    assert_ack(&mut peer, 1, 5).await;

    let fits = delta(2, &first, &fleet(&["b", "c"]));
    let mut older = fits.clone();
    older.base.as_mut().unwrap().revision = 4;
    let mut removes = fits.clone();
    removes.removed.push(ResourceKey { kind: 1, name: "nobody".into() });
    let mut lacks = fits.clone();
    lacks.resources.clear();
    for wrong in [older, removes, lacks] {
        peer.send(Msg::Config(wrong)).await;
        let refused = nack(&mut peer).await;
        assert_eq!(reasons(&refused.rejections), [RejectionReason::BaseMismatch]);
        assert_eq!(refused.running.unwrap().revision, 5);
    }
    assert_eq!(running.link.status().refused, None);
    drop(peer);
    let mut again = plane.welcome().await;
    assert_eq!((again.hello.applied.clone(), again.hello.rejected.clone()), (first.to, None));
    again.send(Msg::Config(update(1, 6, &fleet(&["b", "c"])))).await;
    assert_ack(&mut again, 1, 6).await;
    running.leave(again).await;
}

fn cut(update: &ConfigUpdate, size: usize) -> Vec<ConfigPart> {
    let content = ConfigUpdate { nonce: 0, ..update.clone() }.encode_to_vec();
    let parts = u32::try_from(content.len().div_ceil(size)).unwrap();
    let chunks = (1..=parts).zip(content.chunks(size));
    let nonce = update.nonce;
    chunks.map(|(part, one)| ConfigPart { nonce, part, parts, content: one.to_vec().into() }).collect()
}

#[tokio::test]
async fn an_update_in_parts_is_applied_when_the_last_one_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let mut peer = plane.welcome().await;
    let mut parts = cut(&update(1, 1, &fleet(&["a", "b"])), 50);
    assert!(parts.len() > 3);
    let last = parts.pop().unwrap();
    for part in parts {
        peer.send(Msg::ConfigPart(part)).await;
    }
    peer.send(Msg::SealKeys(o1_proto::wire::SealKeys::default())).await;
    assert!(running.applied().is_empty());
    peer.send(Msg::ConfigPart(last)).await;
    assert_ack(&mut peer, 1, 1).await;
    assert_eq!(running.applied(), [names(1, &["a", "b"])]);
    running.leave(peer).await;
}

#[tokio::test]
async fn parts_that_contradict_each_other_end_the_connection_and_leave_what_runs() {
    let dir = after(&[1]).await;
    let mut plane = ControlPlane::start();
    let running = Running::start(dir.path(), Some(plane.address));
    let peer = plane.welcome().await;
    let parts = cut(&update(1, 2, &fleet(&["a", "b"])), 50);
    peer.send(Msg::ConfigPart(parts[0].clone())).await;
    peer.send(Msg::ConfigPart(parts[2].clone())).await;
    let status = running.status(|status| status.last_error.is_some()).await;
    assert!(status.last_error.unwrap().contains("came where another was due"));
    drop(peer);
    let mut again = plane.welcome().await;
    again.send(Msg::Config(update(1, 2, &fleet(&["a"])))).await;
    assert_ack(&mut again, 1, 2).await;
    running.leave(again).await;
}
