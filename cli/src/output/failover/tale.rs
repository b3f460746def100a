//! Why is an upstream where it is, what becomes of calls, what happens next? Sentences without a full stop.

use crate::{
    failover::{
        Decision, DecisionReason, DecisionState, Failover, Node, Phase, Refusal, Store, Verdict, Writes,
    },
    model::{Status, Upstream},
    output::span,
};
use jiff::{Timestamp, tz::TimeZone};

/// An upstream that has a backup, at one moment.
pub struct Tale<'a> {
    /// Which.
    pub upstream: &'a Upstream,
    /// What is known of its stores.
    pub failover: &'a Failover,
    status: &'a Status,
    zone: &'a TimeZone,
}

impl<'a> Tale<'a> {
    /// `None`: it has no backup.
    #[must_use]
    pub fn of(upstream: &'a Upstream, status: &'a Status, zone: &'a TimeZone) -> Option<Self> {
        Some(Self { upstream, failover: upstream.failover.as_ref()?, status, zone })
    }

    /// A moment as people read it.
    #[must_use]
    pub fn clock(&self, moment: Timestamp) -> String {
        span::clock(moment, self.status.as_of.unwrap_or(moment), self.zone)
    }

    /// ` since 17:02:11`, or nothing.
    #[must_use]
    pub fn since(&self, moment: Option<Timestamp>) -> String {
        moment.map(|moment| format!(" since {}", self.clock(moment))).unwrap_or_default()
    }

    /// Why it is where it is; `None`: nothing happened.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        let said = |what: String| match self.failover.because.as_str() {
            "" => Some(what),
            because => Some(format!("{what}: {because}")),
        };
        if let Some(store) = self.failover.mode.pinned() {
            return said(format!("an operator pinned it to the {}", store.word()));
        }
        if self.failover.last_reason == Some(DecisionReason::Manual) && self.failover.is_active() {
            return said(format!("an operator ordered the {}", self.wanted().word()));
        }
        self.primary_trouble().or_else(|| {
            let because = Some(&self.failover.because).filter(|text| !text.is_empty())?;
            Some(format!("it was decided for the {}: {because}", self.wanted().word()))
        })
    }

    /// What nodes say that see the primary unhealthy.
    #[must_use]
    pub fn primary_trouble(&self) -> Option<String> {
        let all = self.failover.connected().count();
        let seeing = || {
            let unhealthy = |node: &&Node| node.primary_health.verdict == Verdict::Unhealthy;
            self.failover.connected().filter(unhealthy)
        };
        let count = seeing().count();
        if count == 0 {
            return None;
        }
        let mut errors: Vec<_> = seeing().map(|node| node.primary_health.error.as_str()).collect();
        errors.sort_unstable();
        errors.dedup();
        errors.retain(|error| !error.is_empty());
        let what = match errors.as_slice() {
            [] => String::new(),
            [one] => format!(": {one}"),
            [one, rest @ ..] => format!(": {one} (and {} other {})", rest.len(), plural(rest.len(), "error")),
        };
        let since = self.since(seeing().filter_map(|node| node.primary_health.since).min());
        Some(format!("primary unhealthy{what} on {count} of {all} {}{since}", plural(all, "node")))
    }

    /// What becomes of reads and writes, in one sentence.
    #[must_use]
    pub fn calls(&self) -> String {
        let (reads, writes) = (self.reads(), self.writes());
        match self.failover.journal_pending {
            0 if reads == writes => format!("Reads and writes {reads}"),
            0 => format!("Reads {reads}; writes {writes}"),
            1 => format!("Reads {reads}; 1 write waits in the journal"),
            count => format!("Reads {reads}; {count} writes wait in the journal"),
        }
    }

    /// What becomes of reads.
    #[must_use]
    pub fn reads(&self) -> String {
        let failover = self.failover;
        let works = failover.backup_verdict != Verdict::Unhealthy;
        let (from, how) = match failover.is_snapshot() || (!works && failover.stats.backup_file_exists) {
            true => ("come from the snapshot", ", marked stale"),
            false if works => ("go to the backup", ""),
            false => ("to the backup fail", ""),
        };
        let all = failover.nodes_on_primary + failover.nodes_on_backup;
        match failover.nodes_on_backup + failover.nodes_provisional.min(failover.nodes_on_primary) {
            0 if failover.primary_verdict == Verdict::Unhealthy => "to the primary fail".to_owned(),
            0 => "go to the primary".to_owned(),
            some if some < all => format!("{from} on {some} of {all} nodes{how}"),
            _ => format!("{from}{how}"),
        }
    }

    /// What becomes of writes.
    #[must_use]
    pub fn writes(&self) -> String {
        let failover = self.failover;
        let all = failover.nodes_on_primary + failover.nodes_on_backup;
        let waiting = match failover.journal_pending {
            0 => String::new(),
            count => format!("; {count} {} there", if count == 1 { "waits" } else { "wait" }),
        };
        let becomes = match (failover.nodes_on_backup, failover.writes) {
            (0, _) if failover.nodes_provisional > 0 => "are refused until the control plane decides",
            (0, _) if failover.primary_verdict == Verdict::Unhealthy => "to the primary fail",
            (0, _) => "go to the primary",
            (_, Some(Writes::Reject)) => "are refused",
            (_, Some(Writes::Journal)) => "of `journal_tools` are kept in the journal, others are refused",
            (_, Some(Writes::PassThrough)) if waiting.is_empty() => return self.reads(),
            (_, Some(Writes::PassThrough)) => "go to the backup",
            (_, None) if failover.is_snapshot() && waiting.is_empty() => "are refused",
            (_, None) => "do what its `failover.writes` says",
        };
        let some = failover.nodes_on_backup;
        let part = if some > 0 && some < all { format!(" on {some} of {all} nodes") } else { String::new() };
        format!("{becomes}{part}{waiting}")
    }

    /// What happens next, or what it waits for.
    #[must_use]
    pub fn next(&self) -> String {
        let failover = self.failover;
        if let Some(store) = failover.mode.pinned() {
            let until = failover.mode_until.map_or_else(
                || format!("until somebody runs o1ctl unpin {}", self.upstream.name),
                |until| format!("until {}", self.clock(until)),
            );
            return format!("Pinned to the {}: nothing happens by itself {until}", store.word());
        }
        match failover.decision {
            Decision::FailingOver => self.on_the_way(Store::Backup),
            Decision::SyncingBack => match failover.journal_pending {
                0 => self.on_the_way(Store::Primary),
                count => format!(
                    "{count} {} being replayed to the primary, which takes over when none is left",
                    if count == 1 { "write is" } else { "writes are" }
                ),
            },
            _ => self.undecided().unwrap_or_else(|| self.by_itself()),
        }
    }

    /// Why nothing happens by itself at present.
    #[must_use]
    pub fn undecided(&self) -> Option<String> {
        let text = match self.status.control_plane.decisions? {
            DecisionState::Active => return None,
            DecisionState::WarmingUp => {
                "The control plane has just started: it decides when the nodes are back"
            }
            DecisionState::Frozen => {
                "Decisions are frozen: nodes decide by themselves until the control plane does"
            }
            DecisionState::Maintenance => {
                "Nothing happens by itself until somebody runs o1ctl maintenance off"
            }
            DecisionState::Shadow => {
                "The control plane logs what it would decide, and orders nothing (shadow)"
            }
        };
        Some(text.to_owned())
    }

    fn by_itself(&self) -> String {
        let failover = self.failover;
        match failover.decision {
            Decision::Blocked => {
                "Neither store works: everything stays where it is until one of them does".to_owned()
            }
            Decision::Suspect => format!(
                "{} of {} fresh {} the primary unhealthy: fails over by itself when enough do",
                failover.observers_unhealthy,
                failover.observers,
                if failover.observers == 1 { "observer sees" } else { "observers see" },
            ),
            _ if !failover.is_active() => "Fails over by itself when the primary is unhealthy".to_owned(),
            _ => self.restores(),
        }
    }

    fn restores(&self) -> String {
        let stable = self
            .failover
            .stable
            .map_or_else(|| "long enough".to_owned(), |stable| format!("for {}", span::words(stable)));
        let hold = self.hold().map(|hold| format!(", not before {hold}")).unwrap_or_default();
        // A node whose breaker is open sees more than its probes do, and one node is not the fleet.
        let whose = match self.primary_trouble() {
            Some(_) => "For enough observers the primary",
            None => "The primary",
        };
        match (self.failover.healthy_since, self.status.as_of) {
            (Some(since), Some(now)) => format!(
                "{whose} has been healthy for {}: restored by itself once it has been {stable}{hold}",
                span::words(span::since(since, now)),
            ),
            _ => format!("Restored by itself once the primary has been healthy {stable}{hold}"),
        }
    }

    /// The moment before which nothing is restored, while it is to come.
    #[must_use]
    pub fn hold(&self) -> Option<String> {
        let hold = self.failover.hold_until?;
        (self.status.as_of.is_none_or(|now| hold > now)).then(|| self.clock(hold))
    }

    fn on_the_way(&self, store: Store) -> String {
        let to = store.word();
        let names: Vec<_> = self.failover.not_on(store).map(|node| node.node_id.as_str()).collect();
        match names.as_slice() {
            [] => format!("Nodes are on their way to the {to}"),
            [one] => format!("Node {one} is on its way to the {to}"),
            [some @ .., last] if some.len() < 5 => {
                format!("Nodes {} and {last} are on their way to the {to}", some.join(", "))
            }
            some => format!("{} nodes are on their way to the {to}", some.len()),
        }
    }

    /// The store that should serve.
    #[must_use]
    pub fn wanted(&self) -> Store {
        let active = || self.failover.active().unwrap_or(Store::Backup);
        self.failover.desired.unwrap_or_else(active)
    }

    /// What stands in the way, by node, and what to do about it.
    #[must_use]
    pub fn hindrances(&self) -> Vec<String> {
        let mut found: Vec<_> = self.failover.connected().filter_map(|node| self.refused(node)).collect();
        let dead = self.failover.dead_letters();
        let said = self.failover.connected().any(|node| node.refusal == Some(Refusal::DeadLetters));
        if dead > 0 && !said {
            found.push(format!(
                "{dead} {} refused by the primary for good (dead letters): o1ctl events --upstream {} --type dead_lettered",
                if dead == 1 { "write was" } else { "writes were" },
                self.upstream.name
            ));
        }
        found
    }

    fn refused(&self, node: &Node) -> Option<String> {
        let name = &self.upstream.name;
        let why = node.refusal?;
        let hint = match why {
            Refusal::UnknownUpstream | Refusal::NoBackup => "; see o1ctl nodes".to_owned(),
            Refusal::TermConflict => "; is there a second control plane?".to_owned(),
            Refusal::DeadLetters => format!("; o1ctl restore {name} --force --reason TEXT gives them up"),
            Refusal::NotDurable => "; see its log".to_owned(),
            Refusal::StaleTerm | Refusal::BackupUnusable => String::new(),
        };
        let message = if node.message.is_empty() { String::new() } else { format!(" ({})", node.message) };
        Some(format!("node {} does not follow: {}{message}{hint}", node.node_id, refusal(why)))
    }
}

/// Why a node does not follow, in words.
#[must_use]
pub fn refusal(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::StaleTerm => "it has accepted a newer term already",
        Refusal::UnknownUpstream => "its configuration has no such upstream",
        Refusal::NoBackup => "its configuration has no backup for it",
        Refusal::BackupUnusable => "it has no snapshot that can be read",
        Refusal::TermConflict => "the same term had another target before",
        Refusal::DeadLetters => "the primary refused writes for good",
        Refusal::NotDurable => "its disk failed",
    }
}

/// What a node is doing, in words.
#[must_use]
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Primary => "on the primary",
        Phase::Provisional => "reads from the backup",
        Phase::DrainingPrimary => "draining the primary",
        Phase::Backup => "on the backup",
        Phase::SyncingBack => "syncing back",
        Phase::Cutover => "switching back",
    }
}

/// With a capital letter.
#[must_use]
pub fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// `1 node`, `3 nodes`.
#[must_use]
pub fn plural(count: usize, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}
