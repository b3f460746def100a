//! The process ends, or the power fails, at every operation on the disk, and at random ones.

use super::{
    active, any_record, checkpoint, dead, entry, event, folded, numbered, open, settings,
    sim::{ENDS, End, Sim},
    target,
};
use crate::failover::log::{Log, Record, Settings, State, state::Batch};
use o1_proto::model::{EventKind, Store};
use proptest::prelude::*;

fn small() -> Settings {
    Settings { compact_at: 600, ..settings() }
}

/// What a node might say, so that the file is replaced several times.
fn story() -> Vec<Vec<Record>> {
    let mut batches = vec![vec![target("a", 1, Store::Backup)]];
    for round in 0..8 {
        let first = round * 3 + 1;
        batches
            .push(vec![active("a", round + 1, Store::Backup), event("a", EventKind::FailoverCommitted, 0)]);
        batches.extend((first..first + 3).map(|seq| vec![entry("a", seq, 150)]));
        batches.push(vec![checkpoint("a", first), checkpoint("a", first + 1)]);
        let refused = if round == 1 { dead("a", first + 2) } else { checkpoint("a", first + 2) };
        batches.push(vec![refused, event("a", EventKind::SyncBackCompleted, 1)]);
        batches.push(vec![active("a", round + 1, Store::Primary), event("a", EventKind::Restored, 9)]);
    }
    batches
}

/// Says the batches one after the other until one is refused; how many were not.
async fn tell(sim: &Sim, batches: &[Vec<Record>]) -> usize {
    let Ok(log) = Log::open_on(Box::new(sim.clone()), 1, small()) else { return 0 };
    let mut kept = 0;
    for batch in batches {
        if log.append(batch.clone()).await.is_err() {
            break;
        }
        kept += 1;
        log.delivered((1, kept as u64 / 3));
    }
    log.close().await;
    kept
}

/// The next process finds all that was acknowledged, and of what was not, at most the one batch on its way.
async fn check(sim: &Sim, batches: &[Batch], kept: usize, end: End) -> Result<(), TestCaseError> {
    let found = sim.after(end);
    let log = open(&found, 2, small());
    let state = log.state().clone();
    log.close().await;
    // What was delivered may be there again; nothing else is missing, and nothing is there twice.
    let told = |fold: &State| {
        let skipped = fold.events.len().checked_sub(state.events.len());
        fold.upstreams == state.upstreams
            && skipped.is_some_and(|skipped| {
                skipped <= kept / 3 && fold.events.iter().skip(skipped).eq(&state.events)
            })
    };
    let possible = [kept, (kept + 1).min(batches.len())].map(|count| folded(&batches[..count]));
    prop_assert!(possible.iter().any(told), "{:?} after {} batches: {:?}", end, kept, state);
    prop_assert_eq!((state.epoch, state.next_event), (2, 1));
    let names = found.names();
    prop_assert_eq!(names.iter().filter(|name| !name.ends_with(".torn")).count(), 1, "{:?}", names);
    Ok(())
}

#[tokio::test]
async fn whatever_ends_it_at_whatever_step_nothing_acknowledged_is_lost() {
    let batches = story();
    let numbered = numbered(&batches);
    let sim = Sim::default();
    assert_eq!(tell(&sim, &batches).await, batches.len());
    let operations = sim.operations();
    let replaced = |name: &String| !["wal-1.log", "wal-2.log"].contains(&name.as_str());
    assert!(sim.names().iter().all(replaced), "the file is replaced at least twice: {:?}", sim.names());
    for operation in 1..=operations {
        let sim = Sim::default();
        sim.die_at(operation);
        let kept = tell(&sim, &batches).await;
        for end in ENDS {
            if let Err(error) = check(&sim, &numbered, kept, end).await {
                panic!("operation {operation} of {operations}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn a_start_that_is_ended_at_any_step_loses_nothing() {
    let batches = story();
    let numbered = numbered(&batches);
    let sim = Sim::default();
    assert_eq!(tell(&sim, &batches).await, batches.len());
    for operation in 1..12 {
        let again = sim.after(End::Killed);
        again.die_at(operation);
        let opened = Log::open_on(Box::new(again.clone()), 1, small());
        if let Ok(log) = opened {
            log.close().await;
        }
        for end in ENDS {
            check(&again, &numbered, batches.len(), end).await.unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_batches_survive_random_ends(
        batches in prop::collection::vec(prop::collection::vec(any_record(), 0..5), 1..20),
        operation in 1_usize..120,
        end in prop::sample::select(&ENDS[..]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let sim = Sim::default();
            sim.die_at(operation);
            let kept = tell(&sim, &batches).await;
            check(&sim, &numbered(&batches), kept, end).await
        })?;
    }
}
