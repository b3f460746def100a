use super::{active, checkpoint, entry, event, open, positions, said, settings, sim::Sim, upstream};
use crate::failover::log::{Log, Settings};
use o1_proto::model::{EventKind, Store};

async fn until_sound(log: &Log, sound: bool) {
    log.is_sound().wait_for(|now| *now == sound).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_keeps_nothing_loses_nothing_and_ends() {
    let sim = Sim::default();
    let log = open(&sim, 1, settings());
    log.append(vec![entry("a", 1, 0), event("a", EventKind::EntryJournaled, 1)]).await.unwrap();
    sim.room(Some(30));
    let error =
        log.append(vec![entry("a", 2, 0), event("a", EventKind::EntryJournaled, 2)]).await.unwrap_err();
    assert_eq!(error.to_string(), "the failover log cannot keep it: no storage space");
    assert!(!*log.is_sound().borrow());
    assert!(!log.append_soon(vec![entry("a", 2, 0)]));
    assert!(log.append(vec![entry("a", 2, 0)]).await.is_err());
    assert_eq!(upstream(&log, "a").journal.len(), 1, "what is not durable is not so");

    sim.room(None);
    until_sound(&log, true).await;
    log.append(vec![entry("a", 3, 0), event("a", EventKind::EntryJournaled, 3)]).await.unwrap();
    assert_eq!(positions(&log), [(1, 1), (1, 2)], "the number of what was refused is given again");
    log.close().await;
    let state = &said(&sim).upstreams["a"];
    assert_eq!(state.journal.iter().map(|(seq, _)| seq).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(state.stats.entries_in_failover, 2);
    assert_eq!(sim.names().len(), 1, "what failed is removed: {:?}", sim.names());
}

#[tokio::test]
async fn after_a_failed_sync_the_file_is_never_used_again() {
    let sim = Sim::default();
    let log = open(&sim, 1, settings());
    log.append(vec![active("a", 1, Store::Backup)]).await.unwrap();
    for round in 0..5 {
        sim.fail_syncs(true);
        log.append(vec![active("a", 2, Store::Primary)]).await.unwrap_err();
        assert_eq!(upstream(&log, "a").active, Store::Backup);
        sim.fail_syncs(false);
        until_sound(&log, true).await;
        log.append(vec![entry("a", round, 0)]).await.unwrap();
    }
    log.close().await;
    let state = &said(&sim).upstreams["a"];
    assert_eq!((state.active, state.term, state.journal.len()), (Store::Backup, 1, 5));
}

#[tokio::test]
async fn a_folder_that_cannot_be_synced_is_a_failure_until_it_can() {
    let sim = Sim::default();
    let log = open(&sim, 1, Settings { compact_at: 1, ..settings() });
    sim.fail_folder_syncs(true);
    for seq in 1..=200 {
        if log.append(vec![entry("a", 1, 50), checkpoint("a", 1), checkpoint("a", seq)]).await.is_err() {
            break;
        }
    }
    until_sound(&log, false).await;
    sim.fail_folder_syncs(false);
    until_sound(&log, true).await;
    log.append(vec![entry("a", 999, 0)]).await.unwrap();
    log.close().await;
    assert_eq!(said(&sim).upstreams["a"].journal.iter().map(|(seq, _)| seq).collect::<Vec<_>>(), [999]);
    assert_eq!(sim.names().len(), 1);
}

#[tokio::test]
async fn a_compaction_that_finds_no_room_leaves_the_file_as_it_is() {
    let sim = Sim::default();
    let log = open(&sim, 1, Settings { compact_at: 2000, ..settings() });
    log.append(vec![entry("a", 1, 300)]).await.unwrap();
    let again = || log.append(vec![checkpoint("a", 7)]);
    while sim.length("wal-1.log") < 1960 {
        again().await.unwrap();
    }
    sim.room(Some(100));
    again().await.unwrap();
    log.append(vec![]).await.unwrap();
    assert!(*log.is_sound().borrow());
    assert_eq!(sim.names(), ["wal-1.log"]);
    sim.room(None);
    while sim.names() == ["wal-1.log"] {
        again().await.unwrap();
        assert!(sim.length("wal-1.log") < 6000);
    }
    log.append(vec![entry("a", 2, 0)]).await.unwrap();
    log.close().await;
    assert_eq!(said(&sim).upstreams["a"].journal.len(), 2);
}

#[tokio::test]
async fn the_file_stays_small_while_what_is_so_stays_small() {
    let sim = Sim::default();
    let log = open(&sim, 1, Settings { compact_at: 20_000, ..settings() });
    for seq in 1..=3000 {
        log.append(vec![entry("a", seq, 500), checkpoint("a", seq)]).await.unwrap();
    }
    log.append(vec![]).await.unwrap();
    let names = sim.names();
    let [name] = &names[..] else { panic!("{names:?}") };
    assert!(sim.length(name) < 22_000, "{} bytes in {name}", sim.length(name));
    assert_eq!(upstream(&log, "a").next_seq, 3001);
}

#[tokio::test]
async fn the_file_is_not_replaced_while_most_of_it_is_so() {
    let sim = Sim::default();
    let log = open(&sim, 1, Settings { compact_at: 1000, ..settings() });
    for seq in 1..=500 {
        log.append(vec![entry("a", seq, 500)]).await.unwrap();
    }
    assert_eq!(sim.names(), ["wal-1.log"]);
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_nothing_before_it_and_the_file_stays_beside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wal-1.log");
    let log = super::open_dir(dir.path(), 1, settings());
    log.append(vec![entry("a", 1, 0)]).await.unwrap();
    let whole = std::fs::metadata(&path).unwrap().len();
    log.append(vec![entry("a", 2, 0)]).await.unwrap();
    log.close().await;
    let bytes = std::fs::read(&path).unwrap();
    let torn = &bytes[..bytes.len() - 3];
    std::fs::write(&path, torn).unwrap();

    let log = super::open_dir(dir.path(), 2, settings());
    assert_eq!(log.torn(), torn.len() as u64 - whole);
    assert_eq!(upstream(&log, "a").journal.iter().map(|(seq, _)| seq).collect::<Vec<_>>(), [1]);
    assert_eq!(std::fs::read(dir.path().join("wal-1.torn")).unwrap(), torn);
    log.close().await;
    let log = super::open_dir(dir.path(), 3, settings());
    assert_eq!(log.torn(), 0);
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["lock", "wal-1.torn", "wal-3.log"]);
}

#[test]
fn a_log_that_cannot_be_used_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wal-7.log");
    std::fs::write(&path, b"only1wal\x02\0\0\0rubbish").unwrap();
    let error = Log::open(dir.path(), 1).unwrap_err().to_string();
    assert!(error.contains("wal-7.log: its checkpoint does not match its checksum"), "{error}");
    assert!(error.contains("move it away"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"only1wal\x02\0\0\0rubbish");
}
