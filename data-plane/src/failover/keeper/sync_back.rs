//! S1 to S3: what was written during the failover, to the primary, in order, one after the other, each checked off
//! once the primary has it.

use super::{
    super::{
        Record,
        log::{Entry, failpoint},
        replay::Applied,
    },
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
/// Entries that are checked off together. After a crash as many at most are sent again, under their keys.
const BATCH: usize = 64;
/// Writes are held back when what waits can be replayed in this time, as far as the last ones tell.
const TAIL: Duration = Duration::from_millis(200);
/// Where so long no less waits than before, writes are held back until nothing does: a primary that takes them more
/// slowly than they come would never have them all. Who waits too long is refused, and nothing was done.
const STALLED: Duration = Duration::from_secs(2);
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
    /// Fewer entries wait.
    Further,
    /// None waits.
    Empty,
    /// Not now.
    Stuck,
}

impl Keeper {
    /// Replays until so little waits that it can be done while writes are held back, the order changes, or the primary
    /// does not take it.
    pub(super) async fn sync_back(&mut self, order: &mut watch::Receiver<Option<Directive>>) {
        self.publish();
        let mut tail = 0;
        let (mut least, mut since) = (u64::MAX, Instant::now());
        loop {
            let (began, before) = (Instant::now(), self.synced);
            let turned = async {
                // A keeper lives as long as its senders.
                let _ = order.changed().await;
                order.mark_changed();
            };
            match self.replay_some(began + ENTRY_WITHIN, turned).await {
                Stepped::Further => {}
                Stepped::Empty => break,
                Stepped::Stuck => return,
            }
            tail = fits(self.synced - before, began.elapsed());
            let pending = self.shared.journal(&self.name).pending;
            if pending <= tail {
                break;
            }
            if pending < least {
                (least, since) = (pending, Instant::now());
            } else if !self.holds && since.elapsed() >= STALLED {
                tracing::warn!(upstream = self.name, pending, "writes wait until the primary has caught up");
                self.holds = true;
                self.publish();
            }
        }
        let journal = self.shared.journal(&self.name);
        self.machine.replayed(journal, tail);
        if journal.dead > 0 && !self.machine.accept_dead_letters {
            if let Some(run) = self.run.take() {
                self.end_run(&run, Some("the primary refused entries for good"));
            }
            let what = format!(
                "the primary refused {} writes for good: look at them, then `o1ctl restore {} --force --reason …`",
                journal.dead, self.name
            );
            self.refuse(Refusal::DeadLetters, &what);
            self.again = Some(Instant::now() + super::AGAIN);
        }
    }

    /// Sends the oldest entries that wait, unless `turned` says first that something else is to be done. What was sent
    /// and not heard of is sent again, under its key.
    pub(super) async fn replay_some(
        &mut self,
        deadline: Instant,
        turned: impl Future<Output = ()>,
    ) -> Stepped {
        let kept = self.shared.log.upstream(&self.name);
        let first = kept.iter().flat_map(|kept| kept.journal.iter()).take(BATCH);
        let batch: Vec<(u64, Entry)> = first.map(|(seq, entry)| (*seq, entry.clone())).collect();
        drop(kept);
        if batch.is_empty() {
            return Stepped::Empty;
        }
        if self.run.is_none() {
            self.run = Some(Run { began: Instant::now(), entries: 0 });
            let event = self.event(EventKind::SyncBackStarted);
            let entries = self.shared.journal(&self.name).pending;
            self.shared.note(Event { entries, ..event });
        }
        let mut turned = std::pin::pin!(turned);
        let mut records = Vec::new();
        let mut stopped = None;
        for (seq, entry) in batch {
            let Some((plan, upstream)) = self.plan() else {
                stopped = Some(None);
                break;
            };
            let replayed = tokio::select! {
                biased;
                replayed = timeout_at(deadline, self.shared.replay.replay(&plan, &upstream, &entry)) => replayed,
                () = &mut turned => {
                    stopped = Some(None);
                    break;
                }
            };
            failpoint("replayed");
            match replayed {
                Ok(Applied::Done) => {
                    records.push(Record::Checkpoint { upstream: self.name.clone(), seq });
                }
                Ok(Applied::Refused(why)) => records.extend(self.dead(seq, &entry, why)),
                Ok(Applied::NotNow(failure)) => stopped = Some(Some(failure.chain())),
                Err(_) => stopped = Some(Some("the primary did not answer in time".to_owned())),
            }
            if stopped.is_some() {
                break;
            }
        }
        // What got there is checked off in any case.
        if !records.is_empty() && !self.check_off(records).await {
            return Stepped::Stuck;
        }
        match stopped {
            None => Stepped::Further,
            Some(None) => Stepped::Stuck,
            Some(Some(why)) => self.stuck(&why),
        }
    }

    /// The primary refused an entry for good.
    fn dead(&self, seq: u64, entry: &Entry, why: String) -> [Record; 2] {
        tracing::warn!(
            upstream = self.name,
            seq,
            tool = entry.tool,
            why,
            "the primary refused a journaled write"
        );
        let reason = format!("{} (entry {seq}): {why}", entry.tool);
        let event = Event { reason, ..self.event(EventKind::DeadLettered) };
        [Record::Dead { upstream: self.name.clone(), seq, why }, Record::Event(event)]
    }

    /// Makes durable what became of entries.
    async fn check_off(&mut self, records: Vec<Record>) -> bool {
        let done = records.iter().filter(|record| matches!(record, Record::Checkpoint { .. })).count() as u64;
        if let Err(error) = self.shared.log.append(records).await {
            self.not_durable(&error.to_string());
            return false;
        }
        failpoint("checkpointed");
        if let Some(run) = &mut self.run {
            (run.entries, self.synced) = (run.entries + done, self.synced + done);
        }
        self.failures = 0;
        self.shared.bump();
        true
    }

    fn stuck(&mut self, why: &str) -> Stepped {
        tracing::warn!(upstream = self.name, why, "the sync-back waits");
        if let Some(run) = self.run.take() {
            self.end_run(&run, Some(why));
        }
        self.again = Some(Instant::now() + backoff::full_jitter(RETRY_BASE, RETRY_MAX, self.failures));
        self.failures = self.failures.saturating_add(1);
        self.word.message = format!("the sync-back waits: {why}");
        Stepped::Stuck
    }

    /// Accounts for a sync-back that is over; `why` it did not get to its end.
    pub(super) fn end_run(&self, run: &Run, why: Option<&str>) {
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

/// How many entries can be replayed within [`TAIL`], if so many took so long.
fn fits(entries: u64, took: Duration) -> u64 {
    let each = took.as_micros() / u128::from(entries.max(1));
    u64::try_from(TAIL.as_micros() / each.max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_a_tail_if_the_last_entries_say_so() {
        let ms = Duration::from_millis;
        for (entries, took, expected) in
            [(64, ms(64), 200), (64, ms(6400), 2), (0, ms(500), 0), (1, ms(300), 0)]
        {
            assert_eq!(fits(entries, took), expected, "{entries} in {took:?}");
        }
    }
}
