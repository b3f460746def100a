//! A real process on a real disk, ended by itself at each of the log's points.

use super::{checkpoint, entry, event, open_dir, settings, upstream};
use crate::failover::log::{Settings, failpoint};
use o1_proto::model::EventKind;
use std::{path::Path, process::Command};

const FOLDER: &str = "O1_TEST_FAILOVER_LOG";
/// A child that has this writes one file until the system lets it grow no more.
const NEVER_COMPACTS: &str = "O1_TEST_FAILOVER_LOG_GROWS";
const BATCHES: u64 = 60;

fn small() -> Settings {
    let compact_at = if std::env::var_os(NEVER_COMPACTS).is_some() { u64::MAX } else { 3000 };
    Settings { compact_at, ..settings() }
}

/// Run by the other test, in a process of its own; says to a file what it was told is durable.
#[tokio::test]
async fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    failpoint::arm();
    let folder = Path::new(&folder);
    let log = open_dir(folder, 1, small());
    for seq in 1..=BATCHES {
        let batch =
            vec![entry("a", seq, 80), checkpoint("a", seq - 1), event("a", EventKind::EntryJournaled, seq)];
        while log.append(batch.clone()).await.is_err() {
            let mut sound = log.is_sound();
            sound.wait_for(|sound| *sound).await.unwrap();
        }
        log.delivered((1, seq));
        // Whole or not at all: the process may be killed while it writes this.
        std::fs::write(folder.with_extension("new"), seq.to_string()).unwrap();
        std::fs::rename(folder.with_extension("new"), folder.with_extension("told")).unwrap();
    }
    log.close().await;
}

#[tokio::test]
async fn a_process_killed_at_each_point_loses_nothing_that_it_was_told_is_durable() {
    let points = [
        ("open_tmp", 0..=0),
        ("open_renamed", 0..=0),
        ("before_write:7", 6..=6),
        ("after_write:7", 6..=6),
        ("after_sync:7", 6..=6),
        ("compaction_tmp", 1..=BATCHES - 1),
        ("compaction_renamed", 1..=BATCHES - 1),
        ("compaction_renamed:2", 2..=BATCHES - 1),
        ("nowhere", BATCHES..=BATCHES),
    ];
    for (point, expected) in points {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("log");
        let told = dies(Command::new(std::env::current_exe().unwrap()), &folder, point);
        // The point of a compaction is behind the answer, so it may not have been written down.
        let slack = u64::from(point.starts_with("compaction"));
        assert!(expected.contains(&told), "{point}: told of {told}");

        let log = open_dir(&folder, 2, small());
        let found = log.upstream("a", |state| state.next_seq.saturating_sub(1));
        assert!((told..=told + 1 + slack).contains(&found), "{point}: told of {told}, found {found}");
        if found > 0 {
            let state = upstream(&log, "a");
            assert_eq!(state.journal.iter().map(|(seq, _)| seq).collect::<Vec<_>>(), [found], "{point}");
            assert_eq!(state.stats.entries_in_failover, found, "{point}");
        }
        log.close().await;
    }
}

/// Runs the child until it dies at this point; what it was told last.
fn dies(mut child: Command, folder: &Path, point: &str) -> u64 {
    let ended = child
        .args(["--exact", "failover::log::tests::killed::child", "--nocapture"])
        .env(FOLDER, folder)
        .env("O1_FAILPOINT", point)
        .output()
        .unwrap();
    assert_eq!(ended.status.success(), point == "nowhere", "{point}: {ended:?}");
    let told = std::fs::read_to_string(folder.with_extension("told"));
    told.map_or(0, |text| text.parse().unwrap())
}

/// The system refuses to let the file grow, so that another is begun in the middle of the work.
#[tokio::test]
async fn a_process_killed_while_it_recovers_from_a_full_disk_loses_nothing_either() {
    for point in ["recovery_tmp", "recovery_renamed", "recovery_renamed:2", "nowhere"] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("log");
        let mut limited = Command::new("sh");
        // In units of 512 bytes. A process that does not ignore the signal would be ended by it.
        limited.args(["-c", "trap '' XFSZ; ulimit -f 12; exec \"$@\"", "sh"]);
        limited.arg(std::env::current_exe().unwrap()).env(NEVER_COMPACTS, "1");
        let told = dies(limited, &folder, point);
        assert!(told > 5, "{point}: the file was never full, or at once: told of {told}");
        assert_eq!(told == BATCHES, point == "nowhere", "{point}");

        let log = open_dir(&folder, 2, small());
        let state = upstream(&log, "a");
        // What could not be written may be there all the same, or not; nothing else is uncertain.
        let found = state.next_seq - 1;
        assert!((told..=told + 1).contains(&found), "{point}: told of {told}, found {found}");
        assert_eq!(state.journal.iter().map(|(seq, _)| seq).collect::<Vec<_>>(), [found], "{point}");
        log.close().await;
    }
}
