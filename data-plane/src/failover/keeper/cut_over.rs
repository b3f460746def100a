//! R1 to R3: writes wait, the last entries are replayed, then the primary serves.

use super::{super::log::failpoint, Keeper, sync_back::Stepped};
use crate::stores::News;
use o1_proto::model::{EventKind, Phase, Store};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How long writes may be held back at first; twice as long each time that is not enough …
const BARRIER: Duration = Duration::from_millis(500);
/// … up to less than what calls wait at a gate. Then what is still on its way is cut: nobody promised its client
/// anything yet.
const BARRIER_MAX: Duration = Duration::from_secs(2);

impl Keeper {
    pub(super) async fn cut_over(&mut self) {
        self.publish();
        failpoint("barrier");
        let barrier = BARRIER.saturating_mul(1 << self.lifted.min(8)).min(BARRIER_MAX);
        let deadline = Instant::now() + barrier;
        let mut settled = self.gate.writes_drained(Store::Backup, deadline).await;
        if !settled && barrier == BARRIER_MAX {
            tracing::warn!(upstream = self.name, "writes at the backup do not end: their outcome is unknown");
            self.gate.cut(Store::Backup);
            settled = self.gate.writes_drained(Store::Backup, Instant::now() + super::CUT).await;
        }
        // Behind whatever a call that is gone by now left with the log.
        settled = settled && self.shared.log.append(Vec::new()).await.is_ok();
        let deadline = deadline.max(Instant::now() + super::CUT);
        while settled {
            match self.replay_some(deadline, std::future::pending()).await {
                Stepped::Further(_) => {}
                Stepped::Empty => break,
                Stepped::Stuck => settled = false,
            }
        }
        let commit = self.machine.settled(self.shared.journal(&self.name)).filter(|_| settled);
        let Some(commit) = commit else {
            // Not in this time: writes go on, and so does the sync-back.
            self.machine.lift();
            self.lifted += 1;
            self.again.get_or_insert(Instant::now() + super::AGAIN);
            return self.publish();
        };
        let synced = self.shared.log.upstream(&self.name, |kept| kept.synced);
        let mut event = self.event(EventKind::Restored);
        let lasted = self.lasted(event.at);
        self.word.lasted = Some(lasted);
        self.publish();
        (event.to, event.active, event.duration) = (Some(Phase::Primary), Some(Store::Primary), Some(lasted));
        (event.decision_id, event.reason) = (self.decision.clone(), self.because.clone());
        event.entries = synced;
        let events = self.end_of_run(None).into_iter().chain([event]).collect();
        let committed = self.commit(commit, events).await;
        self.word.lasted = None;
        if !committed {
            self.machine.lift();
            return self.publish();
        }
        (self.on_backup, self.holds) = (None, false);
        self.publish();
        tracing::info!(
            upstream = self.name,
            after = ?lasted,
            entries = synced,
            because = self.because,
            "the primary is restored"
        );
        self.tell(News::Restored { after: lasted, synced_back: synced }, self.because.clone());
    }

    /// How long the failover was that ends now: never less than anybody was told while it lasted, by either clock.
    fn lasted(&self, now: Option<SystemTime>) -> Duration {
        let since = self.shared.log.upstream(&self.name, |kept| kept.stats.current_failover_since);
        let told = now.zip(since).and_then(|(now, since)| now.duration_since(since).ok());
        let lasted = self.on_backup.map_or(Duration::ZERO, |since| since.elapsed());
        lasted.max(told.unwrap_or_default())
    }
}
