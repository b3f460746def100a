//! S1 to S3: what was written during the failover, to the primary, in order, one after the other, each checked off
//! once the primary has it.

use super::{
    super::{
        Record,
        log::{Entry, Run, failpoint},
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

/// What became of one step.
pub(super) enum Stepped {
    /// So many entries wait no longer.
    Further(u64),
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
            let began = Instant::now();
            let turned = async {
                // A keeper lives as long as its senders.
                let _ = order.changed().await;
                order.mark_changed();
            };
            let done = match self.replay_some(began + ENTRY_WITHIN, turned).await {
                Stepped::Further(done) => done,
                Stepped::Empty => break,
                Stepped::Stuck => return,
            };
            tail = fits(done, began.elapsed());
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
            if !self.end_run("the primary refused entries for good").await {
                return;
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
        let (batch, pending, runs) = self.shared.log.upstream(&self.name, |kept| {
            let first = kept.journal.iter().take(BATCH).map(|(seq, entry)| (seq, entry.clone()));
            (first.collect::<Vec<_>>(), kept.journal.len() as u64, kept.run.is_some())
        });
        if batch.is_empty() {
            return Stepped::Empty;
        }
        if !runs {
            let event = self.event(EventKind::SyncBackStarted);
            let event = Event { entries: pending, ..event };
            if !self.say(vec![Record::Event(event)]).await {
                return Stepped::Stuck;
            }
        }
        let mut turned = std::pin::pin!(turned);
        let mut records = Vec::new();
        let mut done = 0;
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
            done += 1;
        }
        // What got there is checked off in any case.
        if !records.is_empty() && !self.check_off(records).await {
            return Stepped::Stuck;
        }
        match stopped {
            None => Stepped::Further(done),
            Some(None) => Stepped::Stuck,
            Some(Some(why)) => self.stuck(&why).await,
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
        if !self.say(records).await {
            return false;
        }
        failpoint("checkpointed");
        self.failures = 0;
        self.shared.bump();
        true
    }

    async fn stuck(&mut self, why: &str) -> Stepped {
        tracing::warn!(upstream = self.name, why, "the sync-back waits");
        if self.end_run(why).await {
            self.again = Some(Instant::now() + backoff::full_jitter(RETRY_BASE, RETRY_MAX, self.failures));
            self.failures = self.failures.saturating_add(1);
            self.word.message = format!("the sync-back waits: {why}");
        }
        Stepped::Stuck
    }

    /// Accounts for a sync-back that does not get to its end.
    async fn end_run(&mut self, why: &str) -> bool {
        match self.end_of_run(Some(why)) {
            Some(end) => self.say(vec![Record::Event(end)]).await,
            None => true,
        }
    }

    /// The event that accounts for the sync-back that is under way, if one is; `why` it does not get to its end.
    pub(super) fn end_of_run(&self, why: Option<&str>) -> Option<Event> {
        let now = self.event(EventKind::SyncBackFailed);
        let took = |run: &Run| now.uptime.saturating_sub(run.uptime);
        let mut event = self.shared.end_of_run(&self.name, took)?;
        event.from = now.from;
        match why {
            Some(why) => event.reason = why.to_owned(),
            None => event.kind = EventKind::SyncBackCompleted,
        }
        Some(event)
    }

    async fn say(&mut self, records: Vec<Record>) -> bool {
        let said = self.shared.log.append(records).await;
        if let Err(error) = &said {
            self.not_durable(&error.to_string());
        }
        said.is_ok()
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
