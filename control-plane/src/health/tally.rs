//! What the nodes together see of the stores of one upstream.

use super::nodes::{NodeKey, Nodes};
use o1_proto::model::{StoreHealth, Verdict};
use std::{collections::BTreeMap, time::Duration};

/// What one node sees.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// When it said so.
    pub at: Duration,
    pub primary: StoreHealth,
    pub backup: StoreHealth,
}

/// The views of eligible nodes, counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub eligible: usize,
    pub fresh: usize,
    pub unhealthy: usize,
    pub healthy: usize,
    pub backup_unhealthy: usize,
    pub backup_healthy: usize,
    /// What one of those says that see the primary unhealthy.
    pub error: String,
    /// What one of those says that see the backup unhealthy.
    pub backup_error: String,
    /// When the first of the views is no longer fresh.
    pub until: Option<Duration>,
}

impl Tally {
    /// Counts the views that are fresh at `now`.
    pub fn of(seen: &BTreeMap<NodeKey, Seen>, nodes: &Nodes, fresh: Duration, now: Duration) -> Self {
        let mut tally = Self { eligible: nodes.eligible(), ..Self::default() };
        for (key, view) in seen {
            if !nodes.is_eligible(key) || now > view.at + fresh {
                continue;
            }
            tally.fresh += 1;
            let until = view.at + fresh;
            tally.until = Some(tally.until.map_or(until, |known| known.min(until)));
            match view.primary.verdict {
                Verdict::Healthy => tally.healthy += 1,
                Verdict::Unhealthy => {
                    tally.unhealthy += 1;
                    note(&mut tally.error, &view.primary.error);
                }
                Verdict::Unknown => {}
            }
            match view.backup.verdict {
                Verdict::Healthy => tally.backup_healthy += 1,
                Verdict::Unhealthy => {
                    tally.backup_unhealthy += 1;
                    note(&mut tally.backup_error, &view.backup.error);
                }
                Verdict::Unknown => {}
            }
        }
        tally
    }

    /// Nothing is decided on the word of fewer.
    pub fn is_enough(&self) -> bool {
        self.fresh > 0 && self.fresh >= self.eligible.min(3)
    }

    /// Enough nodes see that the primary does not work.
    pub fn is_down(&self) -> bool {
        self.is_enough() && self.unhealthy > 0 && self.unhealthy * 3 >= self.fresh * 2
    }

    /// Enough nodes see that it works.
    pub fn is_up(&self) -> bool {
        self.is_enough() && self.healthy > 0 && self.healthy * 10 >= (self.healthy + self.unhealthy) * 9
    }

    /// What most of those see that know it.
    pub fn primary(&self) -> Verdict {
        majority(self.healthy, self.unhealthy)
    }

    /// What most of those see that know it.
    pub fn backup(&self) -> Verdict {
        majority(self.backup_healthy, self.backup_unhealthy)
    }

    /// What a decision saw, for people.
    pub fn words(&self) -> String {
        if self.fresh == 0 {
            return "nobody has a fresh view".to_owned();
        }
        let observers = if self.fresh == 1 { "observer sees" } else { "observers see" };
        let of = |count: usize, what: &str| {
            format!("{count} of {} fresh {observers} the primary {what}", self.fresh)
        };
        let primary = match (self.unhealthy, self.error.as_str()) {
            (0, _) => of(self.healthy, "healthy"),
            (bad, "") => of(bad, "unhealthy"),
            (bad, error) => format!("{}: {error}", of(bad, "unhealthy")),
        };
        let backup = match (self.backup_healthy, self.backup_unhealthy) {
            (0, 0) => "backup unknown".to_owned(),
            (good, 0) => format!("backup healthy for {good}"),
            (good, bad) => format!("backup healthy for {good}, unhealthy for {bad}"),
        };
        format!("{primary}; {backup}")
    }
}

fn note(kept: &mut String, error: &str) {
    if kept.is_empty() {
        error.clone_into(kept);
    }
}

fn majority(healthy: usize, unhealthy: usize) -> Verdict {
    match healthy.cmp(&unhealthy) {
        std::cmp::Ordering::Greater => Verdict::Healthy,
        std::cmp::Ordering::Less => Verdict::Unhealthy,
        std::cmp::Ordering::Equal => Verdict::Unknown,
    }
}
