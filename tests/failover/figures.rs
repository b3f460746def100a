//! What was seen of one fault: what clients lost, how long it took, and what was kept.

use crate::load::{Read, Told};
use o1_tests::site::Site;
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// One row.
#[derive(Debug)]
pub struct Figures {
    pub fault: &'static str,
    /// Reads in all, and those that failed.
    pub reads: (usize, usize),
    /// From the first failed read to the next that was answered; the longest.
    pub gap: Duration,
    /// From the fault until the backup was the active store; `None`: it never was.
    pub failed_over: Option<Duration>,
    /// From the repair until the primary was the active store again.
    pub restored: Option<Duration>,
    pub acked: usize,
    /// Acknowledged, and not at the primary in the end.
    pub lost: usize,
    /// At the primary more than once.
    pub twice: usize,
    pub failovers: u64,
    /// Entries that the primary got by sync-back.
    pub synced_back: u64,
    /// Entries that were journaled, and those of which the account says what became of them; `None`: not home yet.
    pub account: Option<(u64, u64)>,
}

impl Figures {
    /// Compares what clients were told with what the primary has, and with what the node says of it.
    pub fn of(fault: &'static str, site: &Site, told: &Arc<Told>, node: &Value) -> Self {
        let written = site.primary.written();
        let acked = told.acked.lock().expect("no holder panics").clone();
        let reads = told.reads.lock().expect("no holder panics");
        let failed = reads.iter().filter(|(.., who)| who.is_err()).count();
        let lost = acked.iter().filter(|id| !written.contains_key(*id)).count();
        let twice = written.values().filter(|times| **times > 1).count();
        let count = |name: &str| node["stats"][name].as_u64().unwrap_or_default();
        let settled = count("entries_synced_back") + count("dead_letter_entries");
        let home = node["phase"] == "primary" && node["journal_pending"] == 0;
        Self {
            fault,
            reads: (reads.len(), failed),
            gap: gap(&reads),
            failed_over: None,
            restored: None,
            acked: acked.len(),
            lost,
            twice,
            failovers: count("failover_count"),
            synced_back: count("entries_synced_back"),
            account: home.then(|| (count("entries_in_failover"), settled)),
        }
    }

    /// No acknowledged write is lost, none took effect twice, and the account leaves none out.
    pub fn keeps(&self) {
        assert!(self.acked > 0, "nobody wrote: {self:?}");
        assert_eq!((self.lost, self.twice), (0, 0), "{self:?}");
        if let Some((journaled, settled)) = self.account {
            assert_eq!(journaled, settled, "{self:?}");
        }
    }

    /// As a row of docs/failover.md.
    pub fn row(&self) -> String {
        let time = |time: Option<Duration>| {
            time.map_or_else(|| "–".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()))
        };
        format!(
            "| {} | {} of {} | {:.0} ms | {} | {} | {} | {} | {} | {} | {} |",
            self.fault,
            self.reads.1,
            self.reads.0,
            self.gap.as_secs_f64() * 1000.0,
            time(self.failed_over),
            time(self.restored),
            self.acked,
            self.lost,
            self.twice,
            self.failovers,
            self.synced_back
        )
    }
}

/// The longest time in which no read was answered although some were tried.
fn gap(reads: &[Read]) -> Duration {
    let mut sorted: Vec<_> = reads.iter().collect();
    sorted.sort_by_key(|(began, ..)| *began);
    let (mut longest, mut failing) = (Duration::ZERO, None);
    for (began, took, who) in sorted {
        match (who, failing) {
            (Err(_), None) => failing = Some(*began),
            (Ok(_), Some(since)) => {
                longest = longest.max((*began + *took).saturating_duration_since(since));
                failing = None;
            }
            _ => {}
        }
    }
    longest
}
