//! The account that node and control plane give of failovers, beside what the test saw itself.

use crate::load::Told;
use o1_tests::{
    site::{PATIENCE, Site, failover},
    until_true,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

/// What adds up. Times are as exact as two clocks that are read one after the other.
const SUMS: [&str; 12] = [
    "failover_count",
    "total_failover_time",
    "backup_syncs_completed",
    "backup_sync_failures",
    "total_backup_sync_time",
    "sync_back_operations",
    "entries_synced_back",
    "sync_back_failures",
    "total_sync_back_time",
    "entries_in_failover",
    "dead_letter_entries",
    "provisional_failovers",
];

fn sums(stats: &Value) -> Option<[f64; SUMS.len()]> {
    stats
        .is_object()
        .then(|| SUMS.map(|name| stats[name].as_f64().unwrap_or_else(|| panic!("{name} in {stats}"))))
}

/// Nothing that adds up may ever be less than it was, wherever it is read, and no term smaller (invariants I5, I8).
#[derive(Default)]
pub struct Growing(BTreeMap<&'static str, (u64, [f64; SUMS.len()])>);

impl Growing {
    /// Compares what somebody says now with what they said before; who says nothing is not compared.
    pub fn see(&mut self, who: &'static str, failover: &Value) {
        let Some(now) = sums(&failover["stats"]) else { return };
        let term = failover["term"].as_u64().expect("a term");
        let (last, before) = self.0.entry(who).or_insert((term, now));
        assert!(term >= *last, "the term of the {who} went from {last} to {term}: {failover}");
        *last = term;
        for ((name, before), now) in SUMS.iter().zip(&*before).zip(&now) {
            assert!(now >= before, "{name} of the {who} went from {before} to {now}: {failover}");
        }
        *before = now;
    }
}

/// While the primary is active nothing waits for it (invariant I4).
pub async fn settled_at_home(site: &Site) {
    let unsettled =
        |failover: &Value| failover["active_store"] == "primary" && failover["journal_pending"] != 0;
    // The page is not one moment: what is so is so the next time, too.
    if unsettled(&site.node().await) {
        let again = site.node().await;
        assert!(!unsettled(&again), "the primary serves, and entries wait for it: {again}");
    }
}

/// Waits until the control plane gives the node's account.
pub async fn told(site: &Site) {
    until_true("the control plane to give the account of the node", PATIENCE, || async {
        let told = failover(&site.gateway.control).await.and_then(|failover| sums(&failover["stats"]));
        let own = sums(&site.node().await["stats"]);
        told.zip(own)
            .is_some_and(|(told, own)| told.iter().zip(own).all(|(told, own)| (told - own).abs() < 0.001))
    })
    .await;
}

/// Each sync-back that began failed, or brought its failover to its end.
pub fn every_sync_back_ended(node: &Value) {
    let count = |name: &str| node["stats"][name].as_u64().expect("a count");
    let (began, failed) = (count("sync_back_operations"), count("sync_back_failures"));
    let most = failed + count("failover_count");
    assert!((failed..=most).contains(&began), "{began} began, {failed} failed: {node}");
}

/// When things were done and seen: the true moment is between the two of each.
pub struct Moments {
    /// The primary was broken; calls were seen to go to the backup.
    pub over: [SystemTime; 2],
    /// It was repaired; calls were seen to go to it.
    pub back: [SystemTime; 2],
}

impl Moments {
    /// One failover, which is over, is what clients and clock say it was.
    pub fn agree(&self, told: &Told, node: &Value) {
        let stats = &node["stats"];
        let count = |name: &str| stats[name].as_u64().unwrap_or_else(|| panic!("{name} in {stats}"));
        let secs =
            |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default().as_secs_f64();
        let total = stats["total_failover_time"].as_f64().expect("a time");
        let (least, most) = (secs(self.over[1], self.back[0]), secs(self.over[0], self.back[1]));
        assert!((least..=most).contains(&total), "{total} s are not within {least} and {most}: {stats}");
        for (name, [from, to]) in [("last_failover_time", self.over), ("last_restoration_time", self.back)] {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(count(name));
            // Whole seconds.
            assert!(
                from <= at + Duration::from_secs(1) && at <= to,
                "{name}: {at:?} is not within {from:?} and {to:?}"
            );
        }
        let (journaled, unsure) = (&told.journaled, &told.unsure);
        let (journaled, unsure) = (journaled.load(Ordering::Relaxed), unsure.load(Ordering::Relaxed));
        let entries = count("entries_in_failover");
        assert!(
            (journaled..=journaled + unsure).contains(&entries),
            "{journaled} writes were acknowledged as kept, {unsure} were not answered: {stats}"
        );
        assert_eq!(count("entries_synced_back") + count("dead_letter_entries"), entries, "{stats}");
        assert_eq!(count("sync_back_operations"), count("sync_back_failures") + 1, "{stats}");
        assert_eq!((&stats["failover_active"], &stats["active_store"]), (&false.into(), &"primary".into()));
    }
}
