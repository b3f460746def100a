//! Over a restart, a crash and a new configuration.

use super::*;
use crate::{
    context::Context,
    current,
    plan::{Upstream, Version},
    seal::Keyring,
    stores::Standing,
};
use o1_process::{Readiness, Tasks};
use o1_proto::model::{self, Fleet, Store};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

fn plan(upstreams: &[(&str, u16)]) -> Plan {
    let upstream = |(name, port): &(&str, u16)| model::Upstream {
        name: (*name).to_owned(),
        primary: vec![model::Endpoint {
            kind: model::EndpointKind::Http {
                url: format!("http://127.0.0.1:{port}/mcp").parse().unwrap(),
                transport: model::Transport::Http,
            },
            weight: 1,
        }],
        backup: Some(model::Backup::Snapshot),
        ..model::Upstream::default()
    };
    let fleet = Fleet { upstreams: upstreams.iter().map(upstream).collect(), ..Fleet::default() };
    Plan::compile(Version::default(), &fleet).unwrap()
}

fn upstream(port: u16) -> Arc<Upstream> {
    plan(&[("u", port)]).upstreams[0].clone()
}

fn keys(at: u8) -> Keys {
    Keys { exact: [at; 32], alike: [at; 32] }
}

fn answer(text: &str) -> Answer {
    Answer {
        method: "tools/list".into(),
        result: Bytes::from(text.to_owned()),
        received: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        public: true,
    }
}

fn content(text: &str) -> Content {
    Content {
        upstream: "u".to_owned(),
        identity: upstream(1).identity,
        written_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_456),
        answers: vec![(keys(1), answer(text)), (keys(2), Answer { public: false, ..answer("{}") })],
    }
}

fn said(snapshots: &Snapshots, upstream: &Upstream) -> Option<Bytes> {
    snapshots.find(upstream, &keys(1)).map(|answer| answer.result)
}

fn opened(dir: &Path) -> Snapshots {
    Snapshots::open(dir.to_owned())
}

#[test]
fn a_file_says_what_it_was_told_and_is_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("snapshots");
    let size = file::write(&dir, &content("[1]")).unwrap();
    let path = file::path(&dir, "u");
    assert_eq!(path, dir.join("u.o1snap"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&dir)), (0o600, 0o700));
    let found = file::all(&dir).unwrap().remove(0).unwrap();
    assert_eq!(found, (content("[1]"), size));
    assert_eq!(fs::metadata(&path).unwrap().len(), size);
}

#[test]
fn every_cut_and_every_changed_byte_is_noticed() {
    let good = content("[1]").encode();
    assert!(Content::decode(&good).is_ok());
    for length in 0..good.len() {
        assert!(Content::decode(&good[..length]).is_err(), "cut to {length} unnoticed");
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(Content::decode(&bad).is_err(), "byte {at} of {} changed unnoticed", good.len());
    }
    assert!(Content::decode(&[&good[..], b"x"].concat()).is_err());
}

#[test]
fn a_crash_at_any_byte_leaves_the_file_before() {
    let dir = tempfile::tempdir().unwrap();
    file::write(dir.path(), &content("[1]")).unwrap();
    let next = content("[2]").encode();
    let tmp = dir.path().join("u.o1snap.tmp");
    for length in 0..=next.len() {
        fs::write(&tmp, &next[..length]).unwrap();
        let snapshots = opened(dir.path());
        assert_eq!(said(&snapshots, &upstream(1)).unwrap(), "[1]", "cut to {length}");
        assert!(!tmp.exists());
    }
}

#[test]
fn what_cannot_be_used_is_put_aside_and_said() {
    let whole = content("[1]").encode();
    let mut newer = whole.clone();
    newer[8] = 9;
    let other = Content { upstream: "v".to_owned(), ..content("[1]") }.encode();
    for (bytes, why) in [
        (&whole[..40], "it is cut off or damaged"),
        (&newer, "its format is 9, this build reads 1"),
        (&other, "it is the snapshot of `v`"),
        (&b"hello"[..], "it is no snapshot"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("u.o1snap"), dir.path().join("u.o1snap.bad"));
        fs::write(&path, bytes).unwrap();
        let snapshots = opened(dir.path());
        assert_eq!(said(&snapshots, &upstream(1)), None);
        assert_eq!(snapshots.state("u"), State::Unusable(format!("{why} ({})", aside.display())));
        assert!(!snapshots.is_usable("u") && snapshots.info("u").is_none());
        assert_eq!((fs::read(&aside).unwrap(), path.exists()), (bytes.to_vec(), false));
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_with_its_size_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let (snapshots, upstream) = (opened(dir.path()), upstream(1));
    assert_eq!((snapshots.state("u"), snapshots.save("u").await), (State::Absent, None));
    snapshots.record(&upstream, &keys(1), answer("[1]"));
    assert_eq!((snapshots.state("u"), snapshots.info("u")), (State::Usable, None));
    let (_, bytes) = snapshots.save("u").await.unwrap().unwrap();
    let info = snapshots.info("u").unwrap();
    assert_eq!((info.bytes, info.entries), (bytes, 1));
    assert!(info.written_at.elapsed().unwrap() < Duration::from_secs(60));
    let again = opened(dir.path());
    assert_eq!(again.find(&upstream, &keys(1)), Some(answer("[1]")));
    assert_eq!((again.state("u"), again.as_of(&upstream)), (State::Usable, Some(answer("").received)));
    let kept = again.info("u").unwrap();
    let millis = |info: Info| info.written_at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    assert_eq!((kept.bytes, kept.entries, millis(kept)), (info.bytes, 1, millis(info)));
}

#[tokio::test]
async fn each_attempt_is_told_and_one_that_fails_leaves_the_file_before() {
    let dir = tempfile::tempdir().unwrap();
    let (snapshots, upstream) = (opened(dir.path()), upstream(1));
    let (told, mut heard) = tokio::sync::mpsc::channel(4);
    snapshots.on_sync(move |name, synced| told.try_send((name.to_owned(), synced.clone())).unwrap());
    snapshots.record(&upstream, &keys(1), answer("[1]"));
    snapshots.save("u").await;
    let (name, synced) = heard.recv().await.unwrap();
    assert_eq!((name.as_str(), synced.unwrap().1), ("u", snapshots.info("u").unwrap().bytes));
    // Nothing can be written where a directory is in the way.
    let tmp = dir.path().join("u.o1snap.tmp");
    fs::create_dir(&tmp).unwrap();
    let before = snapshots.info("u");
    snapshots.record(&upstream, &keys(1), answer("[2]"));
    snapshots.save("u").await;
    let failed = heard.recv().await.unwrap().1.unwrap_err();
    assert!(failed.contains("u.o1snap"), "{failed}");
    assert_eq!(snapshots.info("u"), before);
    assert_eq!(file::all(dir.path()).unwrap()[0].as_ref().unwrap().0.answers[0].1, answer("[1]"));
}

#[test]
fn nothing_is_kept_or_given_of_another_server_than_the_one_that_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    file::write(dir.path(), &content("[1]")).unwrap();
    let (snapshots, old, new, now) = (opened(dir.path()), upstream(1), upstream(2), Instant::now());
    assert_eq!(said(&snapshots, &new), None);
    snapshots.follow(&plan(&[("u", 1)]), now);
    assert_eq!(said(&snapshots, &old).unwrap(), "[1]", "its own file");
    snapshots.follow(&plan(&[("u", 2)]), now);
    assert_eq!((said(&snapshots, &old), said(&snapshots, &new)), (None, None));
    assert!(matches!(snapshots.state("u"), State::Unusable(why) if why.contains("another server")));
    // A call that began under the plan before.
    snapshots.record(&old, &keys(1), answer("[1]"));
    assert_eq!(
        snapshots.state("u"),
        State::Unusable("it holds the answers of another server than the one that is configured".to_owned())
    );
    snapshots.record(&new, &keys(1), answer("[2]"));
    assert_eq!(said(&snapshots, &new).unwrap(), "[2]");
}

#[test]
fn what_no_plan_names_stays_for_a_while_and_is_then_gone() {
    let dir = tempfile::tempdir().unwrap();
    file::write(dir.path(), &content("[1]")).unwrap();
    let (snapshots, path, now) = (opened(dir.path()), dir.path().join("u.o1snap"), Instant::now());
    snapshots.follow(&Plan::empty(), now + 2 * GRACE);
    assert!(snapshots.is_usable("u"), "before the first configuration nothing is out of it");
    snapshots.follow(&plan(&[]), now);
    snapshots.follow(&plan(&[("u", 1)]), now + GRACE / 2);
    snapshots.follow(&plan(&[]), now + GRACE);
    snapshots.follow(&plan(&[]), now + GRACE * 2 - Duration::from_secs(1));
    assert_eq!((said(&snapshots, &upstream(1)).unwrap(), path.exists()), ("[1]".into(), true));
    snapshots.follow(&plan(&[]), now + GRACE * 2);
    assert_eq!((snapshots.state("u"), path.exists()), (State::Absent, false));
}

#[test]
fn a_name_that_means_another_place_is_no_path() {
    let dir = Path::new("/d");
    for name in ["../u", "", ".", "a/b", "u.o1snap"] {
        let path = file::path(dir, name);
        assert_eq!(path.parent(), Some(dir), "{name}");
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with('+'), "{name}");
    }
}

/// A node's context that serves one upstream, over a directory.
fn context(dir: &Path) -> (Context, current::Writer) {
    let (writer, reader) = current::cell();
    writer.swap(Arc::new(plan(&[("u", 1)])));
    let context = Context {
        current: reader,
        metrics: Arc::default(),
        logs: Arc::default(),
        keyring: Keyring::local(),
        stores: Arc::default(),
        snapshots: Arc::new(opened(dir)),
        tasks: Tasks::new(),
        readiness: Readiness::new(),
        launcher: None,
    };
    (context, writer)
}

#[tokio::test(start_paused = true)]
async fn a_changed_list_is_on_the_disk_within_seconds_and_only_while_the_primary_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (context, _writer) = context(dir.path());
    let (snapshots, gate, upstream) = (&context.snapshots, context.stores.gate("u"), upstream(1));
    let (told, mut heard) = tokio::sync::mpsc::channel(4);
    snapshots.on_sync(move |_, synced| told.try_send(synced.is_ok()).unwrap());
    start(&context);
    let mut synced = async || {
        let began = Instant::now();
        assert!(heard.recv().await.unwrap());
        began.elapsed()
    };
    let said = || said(&opened(dir.path()), &upstream).unwrap();
    snapshots.record(&upstream, &keys(1), answer("[1]"));
    assert!(synced().await < Duration::from_secs(3));
    assert_eq!(said(), "[1]");
    tokio::time::sleep(Duration::from_secs(100)).await;
    snapshots.record(&upstream, &keys(1), answer("[2]"));
    assert!(synced().await < Duration::from_secs(3));
    assert_eq!(said(), "[2]");
    // What is no list is written from time to time.
    snapshots.record(&upstream, &keys(2), Answer { method: "resources/read".into(), ..answer("{}") });
    let waited = synced().await;
    assert!(waited > Duration::from_secs(50) && waited < Duration::from_secs(66), "{waited:?}");
    snapshots.record(&upstream, &keys(1), answer("[3]"));
    gate.set(Standing { active: Store::Backup, reads: Store::Backup, ..Standing::default() });
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(said(), "[2]", "nothing is written while the primary is away");
    gate.set(Standing::default());
    assert!(synced().await < Duration::from_secs(10));
    assert_eq!(said(), "[3]");
    snapshots.record(&upstream, &keys(1), answer("[4]"));
    context.tasks.begin_stop();
    assert!(context.tasks.stopped_within(Duration::from_secs(1)).await);
    assert_eq!(said(), "[4]", "a node that is asked to stop writes what it has");
}
