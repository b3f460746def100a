//! Changes through the API, as programs ask for them, and the pictures of their rollouts.

use crate::harness::*;
use o1_proto::wire::{
    self, ApplyConfigRequest, ApplyConfigResponse, ConfigDocument, ConfigVersion, ListConfigRevisionsRequest,
    RollbackConfigRequest, Rollout, RolloutState, WatchRolloutRequest,
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

fn document_of(port: u16) -> ApplyConfigRequest {
    let document = ConfigDocument { content: document(port).into_bytes(), source: "mine.yaml".to_owned() };
    ApplyConfigRequest { document: Some(document), ..Default::default() }
}

async fn apply(plane: &Plane, request: ApplyConfigRequest) -> Result<ApplyConfigResponse, Status> {
    Ok(plane.configs().await.apply_config(request).await?.into_inner())
}

async fn applied(plane: &Plane, port: u16) -> ConfigVersion {
    apply(plane, document_of(port)).await.unwrap().version.unwrap()
}

async fn refused(plane: &Plane, request: ApplyConfigRequest) -> (Code, String) {
    let status = apply(plane, request).await.unwrap_err();
    (status.code(), status.message().to_owned())
}

/// A node that runs what the control plane began with.
async fn node(plane: &Plane, uid: u8) -> Node {
    let target = plane.target().await.unwrap();
    Node::join(plane.listen, running(uid, &target)).await.0
}

async fn watch(plane: &Plane, revision: u64) -> Streaming<wire::WatchRolloutResponse> {
    let request = WatchRolloutRequest { revision, min_interval: None };
    plane.configs().await.watch_rollout(request).await.unwrap().into_inner()
}

/// The last picture, with which the stream ends.
async fn last(stream: &mut Streaming<wire::WatchRolloutResponse>) -> Rollout {
    let mut found = None;
    while let Some(picture) = timeout(SOON, stream.message()).await.expect("a picture in time").unwrap() {
        found = picture.rollout;
    }
    found.expect("at least one picture")
}

/// The first picture like this.
async fn until(
    stream: &mut Streaming<wire::WatchRolloutResponse>,
    is_it: impl Fn(&Rollout) -> bool,
) -> Rollout {
    loop {
        let picture = timeout(SOON, stream.message()).await.expect("a picture in time").unwrap();
        let rollout = picture.expect("it goes on").rollout.unwrap();
        if is_it(&rollout) {
            return rollout;
        }
    }
}

fn missing() -> wire::Rejection {
    wire::Rejection {
        reason: wire::RejectionReason::LocalDependency.into(),
        message: "no such variable".to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_rollout_is_seen_wave_by_wave_until_it_is_over() {
    let plane = Plane::without_file().await;
    let (mut one, mut two, mut three) = (node(&plane, 1).await, node(&plane, 2).await, node(&plane, 3).await);
    let version = applied(&plane, 3101).await;
    assert_eq!(version.revision, 2);
    let mut pictures = watch(&plane, 0).await;
    let first = until(&mut pictures, |rollout| rollout.sent == 1).await;
    assert_eq!((first.wave, first.waves, first.applied, first.waiting), (1, 3, 0, 2), "{first:?}");
    assert_eq!(first.version, Some(version.clone()));
    let update = one.config().await;
    one.ack(&update).await;
    let second = until(&mut pictures, |rollout| rollout.wave == 2).await;
    assert_eq!((second.applied, second.sent, second.waiting), (1, 1, 1), "{second:?}");
    for node in [&mut two, &mut three] {
        let update = node.config().await;
        assert_eq!(update.to, Some(version.clone()));
        node.ack(&update).await;
    }
    let end = last(&mut pictures).await;
    assert_eq!((end.state(), end.applied), (RolloutState::Succeeded, 3), "{end:?}");
    // Who asks later gets the end alone.
    let mut later = watch(&plane, 2).await;
    assert_eq!(last(&mut later).await.state(), RolloutState::Succeeded);
    let mut past = watch(&plane, 1).await;
    assert_eq!(last(&mut past).await.state(), RolloutState::Succeeded);
    let request = WatchRolloutRequest { revision: 9, min_interval: None };
    assert_eq!(plane.configs().await.watch_rollout(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_refusal_is_seen_with_its_reasons_and_so_is_the_way_back() {
    let plane = Plane::without_file().await;
    let began_with = plane.target().await.unwrap();
    let (mut one, mut two, mut three) = (node(&plane, 1).await, node(&plane, 2).await, node(&plane, 3).await);
    applied(&plane, 3101).await;
    let mut pictures = watch(&plane, 2).await;
    let update = one.config().await;
    one.ack(&update).await;
    let update = two.config().await;
    two.nack(&update, Some(&began_with), vec![missing()]).await;
    let back = until(&mut pictures, |rollout| rollout.rolled_back_to.is_some()).await;
    assert_eq!(back.state(), RolloutState::RollingBack, "{back:?}");
    for node in [&mut one, &mut two, &mut three] {
        let update = node.config().await;
        let to = update.to.clone().unwrap();
        assert_eq!(
            (to.revision, &to.root_digest),
            (3, &began_with.root_digest),
            "what was, under a new name"
        );
        node.ack(&update).await;
    }
    let end = last(&mut pictures).await;
    assert_eq!((end.state(), end.applied, end.refused), (RolloutState::RolledBack, 3, 1), "{end:?}");
    assert_eq!((end.nodes[0].node_id.as_str(), &end.nodes[0].rejections), ("n2", &vec![missing()]));
    assert!(end.because.contains("`n2` refused it: no such variable"), "{end:?}");
    let summary = plane.status().await.control_plane.unwrap().rollout.unwrap();
    assert_eq!((summary.state(), summary.revision), (RolloutState::RolledBack, 2), "{summary:?}");
    let list = ListConfigRevisionsRequest::default();
    let found = plane.configs().await.list_config_revisions(list).await.unwrap().into_inner().revisions;
    assert_eq!((found[0].undoes, found[0].rollback_of, found[0].actor.as_str()), (2, 1, "control plane"));
    assert_eq!(found[1].rejections[0].node_id, "n2");

    // The next process knows it too.
    let dir = plane.stop().await;
    let plane = Plane::without_file_over(dir).await;
    let mut later = watch(&plane, 2).await;
    let end = last(&mut later).await;
    assert_eq!((end.state(), end.refused), (RolloutState::RolledBack, 1), "{end:?}");
}

#[tokio::test]
async fn something_newer_takes_over() {
    let plane = Plane::without_file().await;
    let (mut one, mut two) = (node(&plane, 1).await, node(&plane, 2).await);
    applied(&plane, 3101).await;
    let mut pictures = watch(&plane, 2).await;
    let update = one.config().await;
    applied(&plane, 3102).await;
    assert_eq!(last(&mut pictures).await.state(), RolloutState::Superseded);
    one.ack(&update).await;
    for node in [&mut one, &mut two] {
        let update = node.config().await;
        assert_eq!(update.to.as_ref().unwrap().revision, 3, "the second never saw the one between");
        node.ack(&update).await;
    }
    let mut pictures = watch(&plane, 3).await;
    assert_eq!(last(&mut pictures).await.state(), RolloutState::Succeeded);
}

#[tokio::test]
async fn what_cannot_be_done_is_said_and_changes_nothing() {
    let plane = Plane::without_file().await;
    let version = applied(&plane, 3101).await;
    let stale = ConfigVersion { revision: 1, ..version.clone() };
    let (code, why) =
        refused(&plane, ApplyConfigRequest { if_version: Some(stale), ..document_of(3102) }).await;
    assert!(code == Code::Aborted && why.contains("1.2"), "{why}");
    let broken = ConfigDocument { content: BROKEN.into(), source: "mine.yaml".to_owned() };
    let broken = ApplyConfigRequest { document: Some(broken), ..Default::default() };
    let (code, why) = refused(&plane, broken).await;
    assert!(code == Code::InvalidArgument && why.contains("mine.yaml:3:"), "{why}");
    assert_eq!(refused(&plane, ApplyConfigRequest::default()).await.0, Code::InvalidArgument);
    let long = ApplyConfigRequest { comment: "x".repeat(1001), ..document_of(3102) };
    assert_eq!(refused(&plane, long).await.0, Code::InvalidArgument);
    let mut client = plane.configs().await;
    for (to_revision, reason, code) in
        [(1, "", Code::InvalidArgument), (0, "x", Code::InvalidArgument), (7, "x", Code::NotFound)]
    {
        let request = RollbackConfigRequest { to_revision, reason: reason.to_owned(), ..Default::default() };
        assert_eq!(client.rollback_config(request).await.unwrap_err().code(), code, "{to_revision} {reason}");
    }
    let dry = apply(&plane, ApplyConfigRequest { dry_run: true, ..document_of(3102) }).await.unwrap();
    assert_eq!((dry.version, dry.changes.len()), (Some(version.clone()), 1), "one upstream differs");
    assert_eq!(plane.target().await, Some(version));
}

#[tokio::test]
async fn a_file_refuses_both_and_is_named() {
    let plane = Plane::with(&document(3101)).await;
    let file = plane.config().display().to_string();
    let (code, why) = refused(&plane, document_of(3102)).await;
    assert!(code == Code::FailedPrecondition && why.contains(&file), "{why}");
    let request =
        RollbackConfigRequest { to_revision: 1, reason: "x".to_owned(), ..RollbackConfigRequest::default() };
    let status = plane.configs().await.rollback_config(request).await.unwrap_err();
    assert!(status.code() == Code::FailedPrecondition && status.message().contains(&file), "{status}");
}
