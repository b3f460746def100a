//! What may happen to the file, and what becomes of the fleet.

use crate::harness::*;
use o1_proto::wire::{self, ConfigRevision, GetConfigRequest, ListConfigRevisionsRequest};
use std::{fs, os::unix::fs::symlink};
use tokio::time::{Duration, Instant, sleep_until};

/// The document of a revision, 0 for the current one.
async fn content(plane: &Plane, revision: u64) -> String {
    let answer = plane.configs().await.get_config(GetConfigRequest { revision }).await.unwrap().into_inner();
    String::from_utf8(answer.document.unwrap().content).unwrap()
}

async fn revisions(plane: &Plane) -> Vec<u64> {
    let request = ListConfigRevisionsRequest::default();
    let found = plane.configs().await.list_config_revisions(request).await.unwrap().into_inner().revisions;
    found.iter().map(number).collect()
}

fn number(revision: &ConfigRevision) -> u64 {
    revision.version.as_ref().unwrap().revision
}

#[tokio::test]
async fn fifty_edits_in_a_second_end_with_the_last_one() {
    let plane = Plane::with(&document(3000)).await;
    let (mut node, _) = Node::join(plane.listen, hello(1)).await;
    let first = node.config().await;
    node.ack(&first).await;
    let start = Instant::now();
    for edit in 1..=50 {
        // Every second one is broken, the last one is not.
        plane.write(&if edit % 2 == 1 { BROKEN.to_owned() } else { document(3000 + edit) });
        sleep_until(start + Duration::from_millis(20) * u32::from(edit)).await;
    }
    let last = document(3050);
    eventually(async || match content(&plane, 0).await {
        found if found == last => Ok(()),
        other => Err(other),
    })
    .await;
    assert!(!plane.refused(false).await.refused);
    let mut target = plane.target().await.unwrap();
    loop {
        let update = node.config().await;
        node.ack(&update).await;
        if update.to.as_ref() == Some(&target) {
            break;
        }
        target = plane.target().await.unwrap();
    }
    assert!(target.revision < 10, "{} revisions of fifty edits", target.revision);
}

#[tokio::test]
async fn a_bad_edit_changes_nothing_and_names_its_line() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    let (mut node, _) = Node::join(plane.listen, running(1, &target)).await;
    plane.write(BROKEN);
    let source = plane.refused(true).await;
    let problem = source.problems.iter().find(|problem| problem.line == 3).expect("a problem in line 3");
    assert_eq!(problem.file, plane.config().display().to_string());
    assert!(problem.column > 0 && !problem.rule.is_empty() && problem.what.contains("primry"), "{problem:?}");
    assert!(problem.hint.contains("primary"), "did you mean: {problem:?}");
    assert!(source.refused_at.is_some());
    assert_eq!(plane.target().await.unwrap(), target);
    node.beat(1, Some(&target)).await;
    // What ran comes back: no new revision, nothing to send.
    plane.write(&document(3101));
    assert!(plane.refused(false).await.problems.is_empty());
    assert_eq!(plane.target().await.unwrap(), target);
    node.beat(2, Some(&target)).await;
}

#[tokio::test]
async fn an_editor_that_writes_aside_and_renames_is_noticed() {
    let plane = Plane::with(&document(3101)).await;
    for (revision, port) in [(2, 3102), (3, 3103)] {
        let aside = plane.config().with_extension("swp");
        fs::write(&aside, document(port)).unwrap();
        fs::rename(&aside, plane.config()).unwrap();
        plane.reaches(revision).await;
        assert_eq!(content(&plane, 0).await, document(port));
    }
}

#[tokio::test]
async fn a_swap_of_a_mounted_directory_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let etc = dir.path().join("etc");
    for port in [1, 2, 3] {
        fs::create_dir_all(etc.join(format!("..{port}"))).unwrap();
        fs::write(etc.join(format!("..{port}/only1.yaml")), document(port)).unwrap();
    }
    // As Kubernetes mounts a ConfigMap: the file is a link through `..data`, which is what is swapped.
    symlink("..1", etc.join("..data")).unwrap();
    symlink("..data/only1.yaml", etc.join("only1.yaml")).unwrap();
    let plane = Plane::over(dir).await;
    for port in [2, 3] {
        let aside = plane.dir.path().join("etc/..data_tmp");
        symlink(format!("..{port}"), &aside).unwrap();
        fs::rename(&aside, plane.dir.path().join("etc/..data")).unwrap();
        plane.reaches(u64::from(port)).await;
        assert_eq!(content(&plane, 0).await, document(port));
    }
}

#[tokio::test]
async fn a_file_that_goes_and_comes_back_is_noticed_and_what_runs_is_kept() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await.unwrap();
    fs::remove_file(plane.config()).unwrap();
    let source = plane.refused(true).await;
    assert_eq!(source.problems[0].rule, "config-missing");
    assert_eq!(plane.target().await.unwrap(), target);
    plane.write(&document(3101));
    plane.refused(false).await;
    assert_eq!(plane.target().await.unwrap(), target, "the same document is no new revision");
    fs::remove_file(plane.config()).unwrap();
    plane.write(&document(3102));
    plane.reaches(2).await;
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_watched_again() {
    let plane = Plane::with(&document(3101)).await;
    let etc = plane.dir.path().join("etc");
    fs::remove_dir_all(&etc).unwrap();
    plane.refused(true).await;
    fs::create_dir(&etc).unwrap();
    plane.write(&document(3102));
    plane.reaches(2).await;
    plane.write(&document(3103));
    plane.reaches(3).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_a_document_is_refused() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await;
    fs::remove_file(plane.config()).unwrap();
    fs::create_dir(plane.config()).unwrap();
    assert_eq!(plane.refused(true).await.problems[0].rule, "config-unreadable");
    fs::remove_dir(plane.config()).unwrap();
    fs::write(plane.config(), vec![b'#'; (4 << 20) + 1]).unwrap();
    eventually(async || match plane.refused(true).await.problems[0].rule.as_str() {
        "config-too-large" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    assert_eq!(plane.target().await, target);
}

#[tokio::test]
async fn without_a_file_it_starts_and_waits_for_one() {
    let plane = Plane::over(tempfile::tempdir().unwrap()).await;
    let source = plane.refused(true).await;
    assert_eq!(source.problems[0].rule, "config-missing");
    let (mut node, welcome) = Node::join(plane.listen, hello(1)).await;
    assert_eq!(welcome.target, None);
    fs::create_dir(plane.dir.path().join("etc")).unwrap();
    plane.write(&document(3101));
    assert_eq!(node.config().await.to.unwrap().revision, 1);
}

#[tokio::test]
async fn a_restart_keeps_every_revision_and_makes_none() {
    let plane = Plane::with(&document(3101)).await;
    plane.write(&document(3102));
    let target = plane.reaches(2).await;
    let plane = Plane::over(plane.stop().await).await;
    assert_eq!(plane.target().await, Some(target));
    assert_eq!(revisions(&plane).await, [2, 1]);
    assert_eq!(content(&plane, 1).await, document(3101));
    let dir = plane.stop().await;
    fs::write(config_in(dir.path()), document(3103)).unwrap();
    let plane = Plane::over(dir).await;
    assert_eq!(
        plane.target().await.unwrap().revision,
        3,
        "what was edited meanwhile is accepted at the start"
    );
}

#[tokio::test]
async fn a_restart_over_a_broken_file_serves_what_was_accepted() {
    let plane = Plane::with(&document(3101)).await;
    let target = plane.target().await;
    let dir = plane.stop().await;
    fs::write(config_in(dir.path()), BROKEN).unwrap();
    let plane = Plane::over(dir).await;
    assert!(plane.refused(true).await.problems.iter().any(|problem| problem.line == 3));
    assert_eq!(plane.target().await, target);
    let (mut node, _) = Node::join(plane.listen, hello(1)).await;
    assert_eq!(node.config().await.to, target);
}

#[tokio::test]
async fn revisions_are_listed_in_pages_newest_first() {
    let plane = Plane::with(&document(3101)).await;
    for revision in 2..=3 {
        plane.write(&document(3100 + u16::try_from(revision).unwrap()));
        plane.reaches(revision).await;
    }
    let mut client = plane.configs().await;
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListConfigRevisionsRequest { page_size: 1, page_token: token };
        let page = client.list_config_revisions(request).await.unwrap().into_inner();
        seen.extend(page.revisions.iter().map(number));
        assert!(page.revisions[0].source.starts_with("file:/"), "{page:?}");
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, [3, 2, 1]);
    for page_token in ["nonsense", "revision:x", "node:1"] {
        let request = ListConfigRevisionsRequest { page_size: 1, page_token: page_token.to_owned() };
        let status = client.list_config_revisions(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{page_token}");
    }
}

#[tokio::test]
async fn secrets_do_not_come_back_and_what_is_not_there_is_said_so() {
    let document = format!("{}    headers: {{X-Key: hunter2, Y-Key: 'env:KEY'}}\n", document(3101));
    let plane = Plane::with(&document).await;
    let shown = content(&plane, 0).await;
    assert!(!shown.contains("hunter2") && shown.contains("<redacted>"), "{shown}");
    assert!(shown.contains("env:KEY"), "a reference is no secret: {shown}");
    let status = plane.configs().await.get_config(GetConfigRequest { revision: 7 }).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert!(status.message().contains('7'), "{status}");
}

#[tokio::test]
async fn a_document_is_checked_without_being_accepted() {
    let plane = Plane::with(&document(3101)).await;
    let mut client = plane.configs().await;
    let mut check = async |content: &str| {
        let document =
            wire::ConfigDocument { content: content.as_bytes().to_vec(), source: "mine.yaml".to_owned() };
        let request = wire::ValidateConfigRequest { document: Some(document) };
        client.validate_config(request).await.unwrap().into_inner()
    };
    let good = check(&document(3102)).await;
    assert!(good.valid && good.problems.is_empty(), "{good:?}");
    let bad = check(BROKEN).await;
    assert!(!bad.valid);
    assert!(bad.problems.iter().any(|problem| problem.line == 3 && problem.file == "mine.yaml"), "{bad:?}");
    assert_eq!(plane.target().await.unwrap().revision, 1);
}
