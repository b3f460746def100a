//! When files are written: from time to time while something changed, soon after a list did, only while the primary
//! answers, and once more when the process stops.

use super::{News, Snapshots};
use crate::{
    context::Context,
    plan::{Plan, Upstream},
    stores::Stores,
};
use o1_process::OnExit;
use o1_proto::model::Store;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// How soon after a list changed, and after the very first answer.
const SOON: Duration = Duration::from_secs(2);
/// How soon after a failure.
const AGAIN: Duration = Duration::from_secs(30);
/// Of all time, one part in so many may be spent on writing a file.
const SHARE: u32 = 10;
/// How often it is looked whether a primary answers again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What one upstream's file is behind with.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Pace {
    /// Counts changes.
    changes: u64,
    /// The first change that is in no file.
    dirty: Option<Instant>,
    /// The first change of a list that is in none.
    list: Option<Instant>,
    /// When the last attempt ended, and how long it took.
    last: Option<(Instant, Duration)>,
    failed: bool,
}

/// What a file that is being written holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(u64);

impl Pace {
    /// Notes a change; true when the file may be due sooner than before.
    pub(super) fn changed(&mut self, news: News, now: Instant) -> bool {
        if news == News::None {
            return false;
        }
        self.changes += 1;
        let mut sooner = self.dirty.is_none();
        self.dirty.get_or_insert(now);
        if news == News::List {
            sooner |= self.list.is_none();
            self.list.get_or_insert(now);
        }
        sooner
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.changes)
    }

    /// Notes the end of an attempt that began at `mark`.
    pub(super) fn ended(&mut self, well: bool, mark: Mark, now: Instant, took: Duration) {
        (self.last, self.failed) = (Some((now, took)), !well);
        if well {
            // What changed meanwhile may be anything.
            let since = (self.changes != mark.0).then_some(now);
            self.dirty = since;
            self.list = self.list.and(since);
        }
    }

    fn is_dirty(&self) -> bool {
        self.dirty.is_some()
    }

    /// When the file is to be written; `None`: nothing changed.
    fn due(&self, every: Duration) -> Option<Instant> {
        let dirty = self.dirty?;
        let Some((ended, took)) = self.last else { return Some(dirty + SOON) };
        let regular = if self.failed { ended + every.min(AGAIN) } else { ended + every };
        let soon = self.list.filter(|_| !self.failed).map(|list| list + SOON);
        Some(soon.map_or(regular, |soon| soon.min(regular)).max(ended + took * SHARE))
    }
}

/// Follows the plan from now on, and writes files until the process stops. Needs a runtime.
pub fn start(context: &Context) {
    let upkeep = upkeep(context.clone());
    context.tasks.spawn("snapshots", OnExit::Log, upkeep);
}

async fn upkeep(context: Context) {
    let Context { snapshots, stores, tasks, current, .. } = context;
    let (mut plans, stopping) = (current.watch(), tasks.stopping());
    loop {
        let plan = plans.borrow_and_update().clone();
        snapshots.follow(&plan, Instant::now());
        let next = snapshots.write_due(&plan, &stores).await;
        tokio::select! {
            () = stopping.cancelled() => break,
            () = snapshots.woken.notified() => {}
            () = sleep_until(next) => {}
            changed = plans.changed() => if changed.is_err() { break },
        }
    }
    for upstream in writable(&current.plan(), &stores) {
        if snapshots.shelf(&upstream.name).is_some_and(|shelf| shelf.lock().pace.is_dirty()) {
            let _ = snapshots.save(&upstream.name).await;
        }
    }
}

/// Upstreams whose primary answers at this moment, and that have a backup.
fn writable(plan: &Plan, stores: &Stores) -> Vec<Arc<Upstream>> {
    let is_writable = |upstream: &&Arc<Upstream>| {
        let standing = stores.gate(&upstream.name).standing();
        (standing.active, standing.reads) == (Store::Primary, Store::Primary)
    };
    let backed = plan.upstreams.iter().filter(|upstream| upstream.backup.is_some());
    backed.filter(is_writable).cloned().collect()
}

impl Snapshots {
    /// Writes every file that is due; gives when to look again.
    async fn write_due(&self, plan: &Plan, stores: &Stores) -> Instant {
        let due = |upstream: &Upstream| {
            self.shelf(&upstream.name)?.lock().pace.due(upstream.failover.snapshot_every)
        };
        for upstream in writable(plan, stores) {
            if due(&upstream).is_some_and(|due| due <= Instant::now()) {
                let _ = self.save(&upstream.name).await;
            }
        }
        let look = Instant::now() + LOOK_EVERY;
        let next = writable(plan, stores).iter().filter_map(|upstream| due(upstream)).min();
        next.map_or(look, |next| next.min(look))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(60);
    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn what_changed_is_due_from_time_to_time_and_a_list_soon() {
        let (now, mut pace) = (Instant::now(), Pace::default());
        assert_eq!(pace.due(EVERY), None, "nothing changed");
        assert!(!pace.changed(News::None, now));
        assert!(pace.changed(News::Some, now));
        assert_eq!(pace.due(EVERY), Some(now + SOON), "the very first");
        pace.ended(true, pace.mark(), now, MS);
        assert_eq!(pace.due(EVERY), None);
        let later = now + 10 * SOON;
        assert!(pace.changed(News::Some, later) && !pace.changed(News::Some, later + SOON));
        assert_eq!(pace.due(EVERY), Some(now + EVERY));
        assert!(pace.changed(News::List, later + MS));
        assert_eq!(pace.due(EVERY), Some(later + MS + SOON));
    }

    #[tokio::test(start_paused = true)]
    async fn what_changed_while_a_file_was_written_is_not_in_it() {
        let (now, mut pace) = (Instant::now(), Pace::default());
        pace.changed(News::Some, now);
        let mark = pace.mark();
        pace.changed(News::List, now);
        pace.ended(true, mark, now + MS, MS);
        assert_eq!(pace.due(EVERY), Some(now + MS + SOON));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_tried_again_and_a_slow_disk_is_left_in_peace() {
        let (now, mut pace) = (Instant::now(), Pace::default());
        pace.changed(News::List, now);
        pace.ended(false, pace.mark(), now, MS);
        assert_eq!(pace.due(EVERY), Some(now + AGAIN));
        assert_eq!(pace.due(AGAIN / 2), Some(now + AGAIN / 2));
        pace.ended(true, pace.mark(), now, SOON);
        pace.changed(News::List, now);
        assert_eq!(pace.due(EVERY), Some(now + SOON * SHARE));
    }
}
