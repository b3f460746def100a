//! S1 to S3: what was written during the failover, to the primary, in order, one after the other, each checked off
//! once the primary has it.

use super::{
    super::{Record, log::failpoint, replay::Applied},
    Keeper,
};
use o1_process::backoff;
use o1_proto::model::{Directive, Event, EventKind, Refusal};
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// The longest that one entry may take.
const ENTRY_WITHIN: Duration = Duration::from_secs(30);
const RETRY_BASE: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// A sync-back under way.
#[derive(Debug)]
pub(super) struct Run {
    began: Instant,
    entries: u64,
}

/// What became of one step.
pub(super) enum Stepped {
    /// One entry less waits.
    Further,
    /// None waits.
    Empty,
    /// Not now.
    Stuck,
}

impl Keeper {
    /// Replays until nothing waits, the order changes, or the primary does not take it.
    pub(super) async fn sync_back(&mut self, order: &mut watch::Receiver<Option<Directive>>) {
        self.publish();
        loop {
            let deadline = Instant::now() + ENTRY_WITHIN;
            let turned = async {
                // A keeper lives as long as its senders.
                let _ = order.changed().await;
                order.mark_changed();
            };
            match self.replay_one(deadline, turned).await {
                Stepped::Further => {}
                Stepped::Empty => break,
                Stepped::Stuck => return,
            }
        }
        if let Some(run) = self.run.take() {
            self.end_run(run, None);
        }
        let journal = self.shared.journal(&self.name);
        self.machine.replayed(journal);
        if journal.dead > 0 && !self.machine.accept_dead_letters {
            let what = format!(
                "the primary refused {} writes for good: look at them, then `o1ctl restore {} --force --reason …`",
                journal.dead, self.name
            );
            self.refuse(Refusal::DeadLetters, &what);
            self.again = Some(Instant::now() + super::AGAIN);
        }
    }

    /// Sends the oldest entry that waits, unless `turned` says first that something else is to be done: what was
    /// sent and not heard of is sent again, under its key.
    pub(super) async fn replay_one(
        &mut self,
        deadline: Instant,
        turned: impl Future<Output = ()>,
    ) -> Stepped {
        let kept = self.shared.log.upstream(&self.name);
        let first = kept.as_ref().and_then(|kept| kept.journal.first_key_value());
        let Some((seq, entry)) = first.map(|(seq, entry)| (*seq, entry.clone())) else {
            return Stepped::Empty;
        };
        drop(kept);
        let Some((plan, upstream)) = self.plan() else { return Stepped::Stuck };
        if self.run.is_none() {
            self.run = Some(Run { began: Instant::now(), entries: 0 });
            let event = self.event(EventKind::SyncBackStarted);
            let entries = self.shared.journal(&self.name).pending;
            self.shared.note(Event { entries, ..event });
        }
        let replayed = tokio::select! {
            biased;
            replayed = timeout_at(deadline, self.shared.replay.replay(&plan, &upstream, &entry)) => replayed,
            () = turned => return Stepped::Stuck,
        };
        failpoint("replayed");
        let record = match replayed {
            Ok(Applied::Done) => Record::Checkpoint { upstream: self.name.clone(), seq },
            Ok(Applied::Refused(why)) => Record::Dead { upstream: self.name.clone(), seq, why },
            Ok(Applied::NotNow(failure)) => return self.stuck(&failure.chain()),
            Err(_) => return self.stuck("the primary did not answer in time"),
        };
        let done = matches!(record, Record::Checkpoint { .. });
        let mut batch = vec![record];
        if let Some(Record::Dead { why, .. }) = batch.first() {
            tracing::warn!(
                upstream = self.name,
                seq,
                tool = entry.tool,
                why,
                "the primary refused a journaled write"
            );
            let event = self.event(EventKind::DeadLettered);
            let reason = format!("{} (entry {seq}): {why}", entry.tool);
            batch.push(Record::Event(Event { reason, ..event }));
        }
        if let Err(error) = self.shared.log.append(batch).await {
            self.not_durable(&error.to_string());
            return Stepped::Stuck;
        }
        failpoint("checkpointed");
        if let (true, Some(run)) = (done, &mut self.run) {
            (run.entries, self.synced) = (run.entries + 1, self.synced + 1);
        }
        self.failures = 0;
        self.shared.bump();
        Stepped::Further
    }

    fn stuck(&mut self, why: &str) -> Stepped {
        tracing::warn!(upstream = self.name, why, "the sync-back waits");
        if let Some(run) = self.run.take() {
            self.end_run(run, Some(why));
        }
        self.again = Some(Instant::now() + backoff::full_jitter(RETRY_BASE, RETRY_MAX, self.failures));
        self.failures = self.failures.saturating_add(1);
        self.word.message = format!("the sync-back waits: {why}");
        Stepped::Stuck
    }

    /// Accounts for a sync-back that is over; `why` it did not get to its end.
    pub(super) fn end_run(&self, run: Run, why: Option<&str>) {
        let kind = if why.is_none() { EventKind::SyncBackCompleted } else { EventKind::SyncBackFailed };
        let event = self.event(kind);
        let reason = why.unwrap_or_default().to_owned();
        self.shared.note(Event {
            entries: run.entries,
            duration: Some(run.began.elapsed()),
            reason,
            ..event
        });
    }
}
