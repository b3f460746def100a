use super::{checkpoint, entry, event, open, open_dir, positions, settings, sim::Sim, target, upstream};
use crate::failover::log::{Log, Record};
use futures_util::future::join_all;
use o1_proto::model::{EventKind, Store};
use std::{
    os::unix::fs::PermissionsExt as _,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
};

#[tokio::test]
async fn a_thousand_appends_at_once_share_few_syncs() {
    let sim = Sim::default();
    let log = open(&sim, 1, settings());
    let before = sim.syncs();
    let appends = (1..=1000).map(|seq| log.append(vec![entry("a", seq, 100)]));
    let mut all = pin!(join_all(appends));
    {
        let _held = sim.hold();
        assert!(all.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert!(all.await.iter().all(Result::is_ok));
    let syncs = sim.syncs() - before;
    assert!((1..=3).contains(&syncs), "{syncs} syncs for 1000 appends");
    assert_eq!(upstream(&log, "a").journal.len(), 1000);
}

#[tokio::test]
async fn the_order_of_calls_is_the_order_in_the_log() {
    let sim = Sim::default();
    let log = open(&sim, 1, settings());
    let mut waiting = Vec::new();
    {
        let _held = sim.hold();
        for number in 0..600 {
            let batch = vec![event("a", EventKind::Decided, number)];
            if number % 3 == 0 {
                assert!(log.append_soon(batch));
            } else {
                let mut append = Box::pin(log.append(batch));
                assert!(append.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                waiting.push(append);
            }
        }
    }
    assert!(join_all(waiting).await.iter().all(Result::is_ok));
    log.append(vec![]).await.unwrap();
    let order: Vec<_> = log.events_after((0, 0), 1000).iter().map(|(_, event)| event.entries).collect();
    assert_eq!(order, (0..600).collect::<Vec<_>>());
    assert_eq!(super::said(&sim).events.len(), 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_of_many_tasks_finds_what_it_was_told_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::open(dir.path(), 1).unwrap());
    let task = |task: u64, log: Arc<Log>| async move {
        let name = format!("u{task}");
        for seq in 1..=20 {
            log.append(vec![entry(&name, seq, 10), target(&name, seq, Store::Backup)]).await.unwrap();
            let state = upstream(&log, &name);
            assert_eq!((state.journal.len() as u64, state.term), (seq, seq));
        }
    };
    join_all((0..16).map(|number| {
        tokio::task::spawn_blocking({
            let (log, handle) = (log.clone(), tokio::runtime::Handle::current());
            move || handle.block_on(task(number, log))
        })
    }))
    .await
    .into_iter()
    .for_each(Result::unwrap);
    log.close().await;
    let again = Log::open(dir.path(), 2).unwrap();
    assert_eq!(again.upstreams().len(), 16);
    assert!(again.upstreams().iter().all(|name| upstream(&again, name).journal.len() == 20));
}

#[tokio::test]
async fn a_log_that_nobody_reads_is_full_and_says_so() {
    let sim = Sim::default();
    let log = open(&sim, 1, settings());
    let accepted = {
        let _held = sim.hold();
        let large = || vec![entry("a", 1, 1 << 20)];
        (0..200).take_while(|_| log.append_soon(large())).count()
    };
    // 64 MiB wait, and what the thread took already.
    assert!((60..=80).contains(&accepted), "{accepted} of 200 MiB");
    log.append(vec![checkpoint("a", 1)]).await.unwrap();
    assert!(log.append_soon(vec![entry("a", 2, 1 << 20)]), "there is room again");
}

#[tokio::test]
async fn what_is_too_large_is_refused_alone() {
    let sim = Sim::default();
    let log = open(&sim, 1, settings());
    let marked = |size| vec![event("a", EventKind::Decided, 0), entry("a", 1, size)];
    let (large, small) = tokio::join!(log.append(marked(65 << 20)), log.append(marked(0)));
    let error = large.unwrap_err().to_string();
    assert!(error.starts_with("the failover log cannot keep it: 68"), "{error}");
    small.unwrap();
    assert_eq!(positions(&log), [(1, 1)], "what is refused takes no number");
    assert!(*log.is_sound().borrow());
}

#[tokio::test]
async fn a_closed_log_has_written_what_waited_and_takes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(dir.path(), 1, settings());
    assert!((1..=50).all(|seq| log.append_soon(vec![entry("a", seq, 0)])));
    log.close().await;
    log.close().await;
    assert_eq!(
        log.append(vec![entry("a", 51, 0)]).await.unwrap_err().to_string(),
        "the failover log cannot keep it: it has ended"
    );
    assert!(!log.append_soon(vec![entry("a", 51, 0)]));
    let again = open_dir(dir.path(), 2, settings());
    assert_eq!(upstream(&again, "a").journal.len(), 50);
}

#[tokio::test]
async fn a_folder_has_one_log_and_its_files_are_for_the_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("failover");
    let log = Log::open(&folder, 1).unwrap();
    let error = Log::open(&folder, 1).unwrap_err().to_string();
    assert!(error.contains("is in use by process"), "{error}");
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(folder.clone()), mode(folder.join("wal-1.log"))), (0o700, 0o600));
    log.append(vec![Record::Withdrawn { upstream: "a".into(), seq: 1 }]).await.unwrap();
    log.close().await;
    Log::open(&folder, 2).unwrap();
}
