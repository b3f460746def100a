//! The source of the configuration over a real store, on a disk that can be full.

use super::*;
use crate::{
    access::audit::{Entry, Outcome, Query},
    config::{Change, ChangeError, Changed, Wish},
    events,
    fleet::{NodeProgress, NodeRecord, NodeUid, SealKey, Standing},
    store::{ConfigRequest, Reply, RevisionHeader, Sqlite, suite},
};
use o1_proto::model::{Event, FailoverStats};
use std::{
    fs, io,
    sync::atomic::{AtomicBool, Ordering},
};

/// A store on a disk that can be full.
struct Disk {
    store: Sqlite,
    full: AtomicBool,
}

impl Store for Disk {
    fn append_revision(&self, new: NewRevision) -> Reply<'_, RevisionHeader> {
        if self.full.load(Ordering::SeqCst) {
            let source = io::Error::from(io::ErrorKind::StorageFull).into();
            let what = "store the configuration";
            return Box::pin(async move { Err(StoreError::Failed { what, source }) });
        }
        self.store.append_revision(new)
    }

    fn latest(&self) -> Reply<'_, Option<StoredRevision>> {
        self.store.latest()
    }

    fn revision(&self, number: u64) -> Reply<'_, Option<StoredRevision>> {
        self.store.revision(number)
    }

    fn revisions(&self, before: Option<u64>, limit: usize) -> Reply<'_, Vec<RevisionHeader>> {
        self.store.revisions(before, limit)
    }

    fn end_rollout(&self, revision: u64, state: RolloutState, report: RolloutReport) -> Reply<'_, ()> {
        self.store.end_rollout(revision, state, report)
    }

    fn config_request(&self, id: String) -> Reply<'_, Option<ConfigRequest>> {
        self.store.config_request(id)
    }

    fn keep_config_request(&self, request: ConfigRequest, now: SystemTime) -> Reply<'_, ()> {
        self.store.keep_config_request(request, now)
    }

    fn nodes(&self) -> Reply<'_, Vec<NodeRecord>> {
        self.store.nodes()
    }

    fn remember_node(&self, record: NodeRecord) -> Reply<'_, ()> {
        self.store.remember_node(record)
    }

    fn forget_node(&self, uid: NodeUid) -> Reply<'_, ()> {
        self.store.forget_node(uid)
    }

    fn drains(&self) -> Reply<'_, crate::fleet::Drains> {
        self.store.drains()
    }

    fn keep_drain(&self, node_id: String, drain: Option<crate::fleet::Drain>) -> Reply<'_, ()> {
        self.store.keep_drain(node_id, drain)
    }

    fn seal_keys(&self) -> Reply<'_, Vec<SealKey>> {
        self.store.seal_keys()
    }

    fn replace_seal_keys(&self, keys: Vec<SealKey>) -> Reply<'_, ()> {
        self.store.replace_seal_keys(keys)
    }

    fn failover_decisions(&self) -> Reply<'_, crate::health::Kept> {
        self.store.failover_decisions()
    }

    fn keep_decisions(&self, change: crate::health::Kept) -> Reply<'_, ()> {
        self.store.keep_decisions(change)
    }

    fn append_events(&self, append: events::Append) -> Reply<'_, events::Appended> {
        self.store.append_events(append)
    }

    fn append_own_event(&self, event: Event, now: SystemTime) -> Reply<'_, u64> {
        self.store.append_own_event(event, now)
    }

    fn event_cursor(&self, node: NodeUid) -> Reply<'_, Option<events::Cursor>> {
        self.store.event_cursor(node)
    }

    fn events(&self, query: events::EventQuery) -> Reply<'_, events::EventPage> {
        self.store.events(query)
    }

    fn event_range(&self) -> Reply<'_, events::Kept> {
        self.store.event_range()
    }

    fn newest_event(&self) -> watch::Receiver<u64> {
        self.store.newest_event()
    }

    fn prune_events(&self, keep: usize, older_than: SystemTime) -> Reply<'_, usize> {
        self.store.prune_events(keep, older_than)
    }

    fn event_account(&self, node: NodeUid, upstream: String) -> Reply<'_, FailoverStats> {
        self.store.event_account(node, upstream)
    }

    fn begin_audit(&self, entry: Entry, keep: usize) -> Reply<'_, u64> {
        self.store.begin_audit(entry, keep)
    }

    fn end_audit(&self, id: u64, outcome: Outcome, detail: String) -> Reply<'_, ()> {
        self.store.end_audit(id, outcome, detail)
    }

    fn audit(&self, query: Query) -> Reply<'_, Vec<Entry>> {
        self.store.audit(query)
    }
}

/// What a source hears.
struct Fleet {
    floor: watch::Sender<u64>,
    ended: watch::Sender<Option<Progress>>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self { floor: watch::Sender::new(0), ended: watch::Sender::new(None) }
    }
}

impl Fleet {
    fn heard(&self) -> Heard {
        Heard { generation_floor: self.floor.subscribe(), ended: self.ended.subscribe() }
    }

    /// The rollout of what runs ends in this way; `n2` refused it, if anybody did.
    async fn ends(&self, source: &mut Source, state: RolloutState) {
        let refused = NodeProgress {
            node_id: "n2".to_owned(),
            uid: NodeUid::from_bytes([2; 16]),
            standing: Standing::Refused,
            wave: Some(1),
            rejections: Vec::new(),
        };
        let now = SystemTime::now();
        let progress = Progress {
            version: running(source).version.clone(),
            base: None,
            state,
            wave: 1,
            waves: 1,
            began: now,
            ended: Some(now),
            nodes: if state == RolloutState::RollingBack { vec![refused] } else { Vec::new() },
        };
        self.ended.send_replace(Some(progress));
        source.ended().await;
    }
}

fn running(source: &Source) -> Arc<Revision> {
    source.published.borrow().running.clone().expect("something runs")
}

fn document(port: u16) -> Vec<u8> {
    format!("upstreams:\n  a:\n    primary: [{{url: 'http://127.0.0.1:{port}/mcp'}}]\n").into_bytes()
}

fn apply(port: u16) -> Change {
    Change {
        wish: Wish::Document(document(port), "only1.yaml".to_owned()),
        if_version: None,
        dry_run: false,
        request_id: String::new(),
        actor: "127.0.0.1:1".to_owned(),
        comment: "because".to_owned(),
    }
}

/// What came of a change, in short.
fn said(result: Result<Changed, ChangeError>) -> String {
    match result {
        Ok(changed) if changed.no_op => format!("{} no op", changed.version),
        Ok(changed) => changed.version.to_string(),
        Err(error) => format!("{error:?}").split(['(', ' ', '{']).next().unwrap().to_owned(),
    }
}

fn way(source: &Source) -> String {
    match &source.published.borrow().way {
        Way::Settled => "settled".to_owned(),
        Way::AtOnce => "at once".to_owned(),
        Way::Waves(base) => format!("waves from {}", base.version),
    }
}

fn revision(source: &Source) -> Option<u64> {
    source.published.borrow().running.as_ref().map(|running| running.version.revision)
}

fn rules(source: &Source) -> Vec<&'static str> {
    source.published.borrow().source.problems.iter().map(|problem| problem.rule).collect()
}

#[tokio::test]
async fn nothing_is_published_that_could_not_be_stored_and_it_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("only1.yaml");
    let write = |port: u16| {
        let text = format!("upstreams:\n  a:\n    primary: [{{url: 'http://127.0.0.1:{port}/mcp'}}]\n");
        fs::write(&path, text).unwrap();
    };
    let store = Sqlite::open(&dir.path().join("store.db")).unwrap();
    let disk = Arc::new(Disk { store, full: AtomicBool::new(false) });
    write(1);
    let fleet = Fleet::default();
    let mut source = Source::open(Some(path.clone()), disk.clone(), fleet.heard()).await.unwrap();
    assert_eq!((revision(&source), rules(&source)), (Some(1), vec![]));

    disk.full.store(true, Ordering::SeqCst);
    write(2);
    for _ in 0..2 {
        source.look().await;
        assert_eq!((revision(&source), rules(&source)), (Some(1), vec!["config-store"]));
    }
    disk.full.store(false, Ordering::SeqCst);
    source.look().await;
    assert_eq!((revision(&source), rules(&source)), (Some(2), vec![]));
}

#[tokio::test]
async fn a_document_that_this_build_reads_differently_is_a_new_revision() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("only1.yaml");
    let content = b"upstreams:\n  a:\n    primary: [{url: 'http://127.0.0.1:1/mcp'}]\n".to_vec();
    fs::write(&path, &content).unwrap();
    let store = Arc::new(Sqlite::open(&dir.path().join("store.db")).unwrap());
    let digest = crate::config::Digest::new(b"of an earlier build".to_vec());
    let (source, created_at) = ("file:x".to_owned(), SystemTime::now());
    let earlier = NewRevision {
        generation: 3,
        digest: digest.clone(),
        content,
        source,
        created_at,
        ..suite::new_revision("")
    };
    store.append_revision(earlier).await.unwrap();
    let source = Source::open(Some(path), store, Fleet::default().heard()).await.unwrap();
    let running = source.published.borrow().running.clone().unwrap();
    assert_eq!((running.version.generation, running.version.revision), (3, 2));
    assert_ne!(running.version.digest, digest);
}

fn store(dir: &tempfile::TempDir) -> Arc<dyn Store> {
    Arc::new(Sqlite::open(&dir.path().join("store.db")).unwrap())
}

#[tokio::test]
async fn without_a_file_the_api_says_what_runs_and_a_restart_remembers_it() {
    let (dir, fleet) = (tempfile::tempdir().unwrap(), Fleet::default());
    let mut source = Source::open(None, store(&dir), fleet.heard()).await.unwrap();
    assert_eq!((running(&source).version.to_string(), way(&source)), ("1.1".into(), "at once".into()));
    assert_eq!(running(&source).fleet.upstreams.len(), 0, "nothing is configured");
    assert_eq!(said(source.change(apply(1)).await), "1.2");
    assert_eq!(way(&source), "waves from 1.1");
    assert_eq!(said(source.change(Change { dry_run: true, ..apply(2) }).await), "1.2");
    assert_eq!(said(source.change(Change { if_version: Some((1, 1)), ..apply(2) }).await), "Conflict");
    assert_eq!(said(source.change(Change { if_version: Some((1, 2)), ..apply(2) }).await), "1.3");
    assert_eq!(way(&source), "waves from 1.1", "nobody has said that 1.2 works");
    assert_eq!(said(source.change(apply(2)).await), "1.3 no op");
    assert_eq!(said(source.change(Change { wish: Wish::Revision(2), ..apply(0) }).await), "1.4");
    assert_eq!(said(source.change(Change { wish: Wish::Revision(9), ..apply(0) }).await), "NoRevision");
    let bad = Wish::Document(b"upstreams: 7".to_vec(), "x".to_owned());
    assert_eq!(said(source.change(Change { wish: bad, ..apply(0) }).await), "Invalid");
    drop(source);

    let store = store(&dir);
    let source = Source::open(None, store.clone(), fleet.heard()).await.unwrap();
    assert_eq!((running(&source).version.to_string(), way(&source)), ("1.4".into(), "waves from 1.1".into()));
    let headers = store.revisions(None, 9).await.unwrap();
    let states: Vec<_> = headers.iter().map(|header| header.rollout.word()).collect();
    assert_eq!(states, ["running", "superseded", "superseded", "superseded"]);
    assert_eq!(headers[0].account.rollback_of, Some(2));
    assert_eq!(
        (headers[1].account.actor.as_str(), headers[1].source.as_str()),
        ("127.0.0.1:1", "api:only1.yaml")
    );
}

#[tokio::test]
async fn a_request_id_is_one_change_also_after_a_restart() {
    let (dir, fleet) = (tempfile::tempdir().unwrap(), Fleet::default());
    let named = |id: &str, change| Change { request_id: id.to_owned(), ..change };
    let mut source = Source::open(None, store(&dir), fleet.heard()).await.unwrap();
    assert_eq!(said(source.change(named("a", apply(1))).await), "1.2");
    assert_eq!(said(source.change(named("b", apply(1))).await), "1.2 no op");
    assert_eq!(said(source.change(apply(2)).await), "1.3");
    for _ in 0..2 {
        let late = Change { if_version: Some((1, 1)), ..named("a", apply(1)) };
        assert_eq!(said(source.change(late).await), "1.2", "said once more, not done once more");
        assert_eq!(said(source.change(named("b", apply(1))).await), "1.2 no op");
        assert_eq!(said(source.change(named("a", apply(3))).await), "OtherRequest");
        assert_eq!(revision(&source), Some(3));
        drop(source);
        source = Source::open(None, store(&dir), fleet.heard()).await.unwrap();
    }
}

#[tokio::test]
async fn a_file_refuses_the_api_and_says_its_name() {
    let (dir, fleet) = (tempfile::tempdir().unwrap(), Fleet::default());
    let path = dir.path().join("only1.yaml");
    let mut source = Source::open(Some(path.clone()), store(&dir), fleet.heard()).await.unwrap();
    for change in [apply(1), Change { wish: Wish::Revision(1), ..apply(1) }] {
        match source.change(change).await {
            Err(ChangeError::OwnedBy(owner)) => assert_eq!(owner, path),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(revision(&source), None);
}

#[tokio::test]
async fn what_was_stopped_is_taken_back_and_a_restart_does_not_try_it_again() {
    let (dir, fleet) = (tempfile::tempdir().unwrap(), Fleet::default());
    let path = dir.path().join("only1.yaml");
    let open = async || Source::open(Some(path.clone()), store(&dir), fleet.heard()).await.unwrap();
    fs::write(&path, document(1)).unwrap();
    let mut source = open().await;
    assert_eq!(way(&source), "at once", "there is nothing to go back to");
    fleet.ends(&mut source, RolloutState::Succeeded).await;
    fs::write(&path, document(2)).unwrap();
    source.look().await;
    assert_eq!((revision(&source), way(&source)), (Some(2), "waves from 1.1".into()));
    fleet.ends(&mut source, RolloutState::RollingBack).await;
    for restarts in 0..2 {
        assert_eq!(revision(&source), Some(3), "{restarts}");
        assert_eq!((way(&source), rules(&source)), ("at once".into(), vec!["config-rolled-back"]));
        assert_eq!(running(&source).version.digest, compile("x", &document(1)).unwrap().digest);
        let undone = source.published.borrow().undone.clone().unwrap();
        assert_eq!((undone.revision, undone.because.as_str()), (2, "node `n2` refused it"));
        source.look().await;
        drop(source);
        source = open().await;
    }
    // Any edit is another try; the same as before the trouble is none.
    fs::write(&path, document(1)).unwrap();
    source.look().await;
    assert_eq!((revision(&source), rules(&source)), (Some(3), vec![]));
    fs::write(&path, document(2)).unwrap();
    source.look().await;
    assert_eq!((revision(&source), way(&source)), (Some(4), "waves from 1.3".into()));
    let headers = store(&dir).revisions(None, 9).await.unwrap();
    let states: Vec<_> = headers.iter().map(|header| (header.rollout.word(), header.undoes)).collect();
    assert_eq!(
        states,
        [("running", None), ("superseded", Some(2)), ("rolled_back", None), ("succeeded", None)]
    );
    assert_eq!(headers[2].report.refused[0].node_id, "n2");
}

#[tokio::test]
async fn taking_back_is_tried_again_when_the_disk_is_full() {
    let (dir, fleet) = (tempfile::tempdir().unwrap(), Fleet::default());
    let sqlite = Sqlite::open(&dir.path().join("store.db")).unwrap();
    let disk = Arc::new(Disk { store: sqlite, full: AtomicBool::new(false) });
    let mut source = Source::open(None, disk.clone(), fleet.heard()).await.unwrap();
    assert_eq!(said(source.change(apply(1)).await), "1.2");
    disk.full.store(true, Ordering::SeqCst);
    fleet.ends(&mut source, RolloutState::RollingBack).await;
    assert_eq!(revision(&source), Some(2));
    disk.full.store(false, Ordering::SeqCst);
    source.take_back().await;
    assert_eq!((revision(&source), source.undo.is_none()), (Some(3), true));
    assert_eq!(running(&source).fleet.upstreams.len(), 0);
}

#[tokio::test]
async fn what_a_newer_change_replaced_is_not_taken_back() {
    let (dir, fleet) = (tempfile::tempdir().unwrap(), Fleet::default());
    let mut source = Source::open(None, store(&dir), fleet.heard()).await.unwrap();
    assert_eq!(said(source.change(apply(1)).await), "1.2");
    let stale = running(&source).version.clone();
    assert_eq!(said(source.change(apply(2)).await), "1.3");
    fleet.ends(&mut source, RolloutState::RollingBack).await;
    assert_eq!(revision(&source), Some(4), "of what runs");
    let late = Progress { version: stale, ..fleet.ended.borrow().clone().unwrap() };
    fleet.ended.send_replace(Some(late));
    source.ended().await;
    assert_eq!(revision(&source), Some(4), "of what does not");
}
