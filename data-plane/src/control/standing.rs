//! When a node says where it stands with its failovers and what it sees of its stores: at first, when that changes, when
//! it is asked, and what it sees also now and then.

use super::{Node, changed, outbound::Outbound};
use o1_proto::{
    convert::{from_failover_state, from_store_health},
    model::{BreakerState, StoreHealth, Verdict},
    wire::{FailoverReport, Observation, Observations, sync_request::Msg},
};
use std::time::{Duration, SystemTime};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// The least time between two reports of changes.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// What is seen is said at least this often.
const OBSERVE_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Standing {
    changes: watch::Receiver<u64>,
    /// When the next report is due; `None`: nothing has changed.
    report: Option<Instant>,
    /// When the last one was said.
    reported: Option<Instant>,
    /// When observations are due, whatever happens.
    observe: Instant,
    seen: Option<Seen>,
}

/// What of observations does not wait.
type Seen = (bool, Vec<(String, [(Verdict, BreakerState); 2])>);

impl Standing {
    /// Everything is due.
    pub fn new(node: &dyn Node, now: Instant) -> Self {
        let changes = node.failover_changed();
        Self { changes, report: Some(now), reported: None, observe: now, seen: None }
    }

    /// The control plane wants to know.
    pub fn asked(&mut self, now: Instant) {
        self.report = Some(now);
    }

    /// Returns when it is time to speak.
    pub async fn due(&mut self) {
        loop {
            let due = self.report.map_or(self.observe, |report| report.min(self.observe));
            tokio::select! {
                () = sleep_until(due) => return,
                () = changed(&mut self.changes), if self.report.is_none() => {
                    let now = Instant::now();
                    self.report = Some(self.reported.map_or(now, |last| now.max(last + DEBOUNCE)));
                }
            }
        }
    }

    /// Says what is due.
    pub fn speak(&mut self, node: &dyn Node, outbound: &Outbound, now: Instant) {
        let reports = self.report.is_some_and(|due| due <= now);
        if reports {
            // Before looking: whatever comes after the look is a change.
            self.changes.mark_unchanged();
            (self.report, self.reported) = (None, Some(now));
            outbound.say(Msg::Failover(report(node)));
        }
        let (suspect, stores) = node.observations();
        let seen = Some((suspect, stores.iter().map(kept).collect()));
        if self.observe <= now || (reports && self.seen != seen) {
            (self.observe, self.seen) = (now + OBSERVE_EVERY, seen);
            outbound.say(Msg::Observations(observations(suspect, &stores)));
        }
    }
}

fn report(node: &dyn Node) -> FailoverReport {
    let now = SystemTime::now();
    let upstreams = node.failover();
    FailoverReport {
        upstreams: upstreams.iter().map(|(name, state)| from_failover_state(name, state, now)).collect(),
    }
}

type Seeing = (String, StoreHealth, StoreHealth);

fn kept((name, primary, backup): &Seeing) -> (String, [(Verdict, BreakerState); 2]) {
    (name.clone(), [primary, backup].map(|store| (store.verdict, store.breaker)))
}

fn observations(self_suspect: bool, stores: &[Seeing]) -> Observations {
    let observation = |(upstream, primary, backup): &Seeing| Observation {
        upstream: upstream.clone(),
        primary: Some(from_store_health(primary)),
        backup: Some(from_store_health(backup)),
    };
    Observations { self_suspect, upstreams: stores.iter().map(observation).collect() }
}
