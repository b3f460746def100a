//! What a node does by itself: at once by its breaker, or after a while because nobody tells it what to do. Plain
//! functions of what it sees.
//!
//! It must never act while an operator has said that nobody shall, and never bring back a store that other nodes
//! share while somebody else may know better.

use super::{Store, machine::Machine};
use o1_proto::model::{BreakerState, DecisionState, Failover, FastPath, StoreHealth, Verdict};
use std::time::Duration;

/// What the node knows of its control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// There should be one.
    pub configured: bool,
    /// It is there.
    pub connected: bool,
    /// Whether it decides.
    pub decisions: DecisionState,
    /// For how long nobody has decided; zero while somebody does.
    pub undecided: Duration,
}

/// What the node sees of one upstream.
#[derive(Debug, Clone)]
pub struct Sight<'a> {
    /// Where it stands.
    pub machine: Machine,
    /// Of the primary.
    pub primary: &'a StoreHealth,
    /// Of the backup.
    pub backup: &'a StoreHealth,
    /// There is a backup that could answer.
    pub backup_usable: bool,
    /// The backup is this node's alone: nobody else writes there.
    pub backup_is_own: bool,
    /// For how long the primary has been healthy; `None`: it is not.
    pub healthy_for: Option<Duration>,
    /// For how long the backup has been active.
    pub held_for: Duration,
    /// The last order says that nobody shall act by himself.
    pub pinned: bool,
}

/// Something to do, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    /// The store that should be active.
    pub target: Store,
    /// For people.
    pub because: &'static str,
}

/// Whether reads go to the backup although the primary is the active store.
#[must_use]
pub fn diverts(policy: &Failover, sight: &Sight<'_>) -> bool {
    policy.fast_path != FastPath::None
        && sight.machine.active == Store::Primary
        && sight.primary.breaker != BreakerState::Closed
        && is_fit(sight)
}

/// What the node should do by itself now.
#[must_use]
pub fn act(policy: &Failover, sight: &Sight<'_>, link: Link) -> Option<Act> {
    if sight.pinned || link.decisions == DecisionState::Maintenance {
        return None;
    }
    // Nobody decides: for long enough, or because nobody ever will.
    let orphaned = !link.configured || link.undecided >= policy.autonomy_after;
    match sight.machine.target {
        Store::Primary if !is_fit(sight) => None,
        Store::Primary
            if policy.fast_path == FastPath::Full && sight.primary.breaker == BreakerState::Open =>
        {
            Some(Act { target: Store::Backup, because: "the circuit breaker of the primary opened" })
        }
        Store::Primary if orphaned && sight.primary.verdict == Verdict::Unhealthy => Some(Act {
            target: Store::Backup,
            because: "this node sees the primary unhealthy, and no control plane decides",
        }),
        Store::Backup
            if orphaned
                && (sight.backup_is_own || !link.configured)
                && sight.held_for >= policy.min_hold
                && sight.healthy_for.is_some_and(|lasts| lasts >= policy.stable) =>
        {
            Some(Act {
                target: Store::Primary,
                because: "this node has seen the primary healthy for long enough, and no control plane decides",
            })
        }
        _ => None,
    }
}

/// Whether the backup could take over.
fn is_fit(sight: &Sight<'_>) -> bool {
    sight.backup_usable
        && sight.backup.verdict != Verdict::Unhealthy
        && sight.backup.breaker != BreakerState::Open
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn health(verdict: Verdict, breaker: BreakerState) -> StoreHealth {
        StoreHealth { verdict, breaker, ..StoreHealth::default() }
    }

    fn link(undecided: u64) -> Link {
        let connected = undecided == 0;
        let decisions = DecisionState::Active;
        Link { configured: true, connected, decisions, undecided: Duration::from_secs(undecided) }
    }

    /// On the primary, which is dead; the backup is well.
    fn dead<'a>(primary: &'a StoreHealth, backup: &'a StoreHealth) -> Sight<'a> {
        Sight {
            machine: Machine::default(),
            primary,
            backup,
            backup_usable: true,
            backup_is_own: false,
            healthy_for: None,
            held_for: Duration::ZERO,
            pinned: false,
        }
    }

    #[test]
    fn the_fast_path_goes_as_far_as_the_operator_lets_it() {
        let (open, well) =
            (health(Verdict::Unknown, BreakerState::Open), health(Verdict::Healthy, BreakerState::Closed));
        for (path, diverted, acts) in
            [(FastPath::None, false, false), (FastPath::Reads, true, false), (FastPath::Full, true, true)]
        {
            let policy = Failover { fast_path: path, ..Failover::default() };
            let sight = dead(&open, &well);
            assert_eq!(diverts(&policy, &sight), diverted, "{path:?}");
            assert_eq!(act(&policy, &sight, link(0)).is_some(), acts, "{path:?}");
        }
    }

    #[test]
    fn a_breaker_that_tries_again_keeps_reads_away_until_it_closes() {
        let well = health(Verdict::Healthy, BreakerState::Closed);
        for (breaker, diverted) in
            [(BreakerState::Open, true), (BreakerState::HalfOpen, true), (BreakerState::Closed, false)]
        {
            let primary = health(Verdict::Unknown, breaker);
            assert_eq!(diverts(&Failover::default(), &dead(&primary, &well)), diverted);
        }
    }

    #[test]
    fn nobody_turns_to_a_backup_that_is_dead_too() {
        let open = health(Verdict::Unhealthy, BreakerState::Open);
        let policy = Failover { fast_path: FastPath::Full, ..Failover::default() };
        for backup in
            [health(Verdict::Unhealthy, BreakerState::Closed), health(Verdict::Unknown, BreakerState::Open)]
        {
            let sight = dead(&open, &backup);
            assert!(!diverts(&policy, &sight) && act(&policy, &sight, link(1000)).is_none());
        }
        let unknown = health(Verdict::Unknown, BreakerState::Closed);
        let sight = Sight { backup_usable: false, ..dead(&open, &unknown) };
        assert!(act(&policy, &sight, link(1000)).is_none());
        assert!(
            act(&policy, &dead(&open, &unknown), link(0)).is_some(),
            "a process that nobody started yet may do"
        );
    }

    #[test]
    fn alone_it_waits_until_nobody_has_decided_for_long_enough() {
        let (dead_one, well) = (
            health(Verdict::Unhealthy, BreakerState::Closed),
            health(Verdict::Healthy, BreakerState::Closed),
        );
        let policy = Failover::default();
        for (undecided, acts) in [(0, false), (14, false), (15, true)] {
            assert_eq!(
                act(&policy, &dead(&dead_one, &well), link(undecided)).is_some(),
                acts,
                "{undecided} s"
            );
        }
        let unsure = health(Verdict::Unknown, BreakerState::Closed);
        assert!(act(&policy, &dead(&unsure, &well), link(1000)).is_none(), "missing data is no reason");
        let nobody = Link { configured: false, ..link(0) };
        assert!(act(&policy, &dead(&dead_one, &well), nobody).is_some());
        for held in [
            act(&policy, &Sight { pinned: true, ..dead(&dead_one, &well) }, link(1000)),
            act(
                &policy,
                &dead(&dead_one, &well),
                Link { decisions: DecisionState::Maintenance, ..link(1000) },
            ),
        ] {
            assert_eq!(held, None);
        }
    }

    #[test]
    fn alone_it_restores_only_what_nobody_else_uses_and_only_after_the_hold() {
        let well = health(Verdict::Healthy, BreakerState::Closed);
        let policy = Failover::default();
        let on_backup = Machine { active: Store::Backup, target: Store::Backup, ..Machine::default() };
        let sight = |own: bool, healthy: Option<u64>, held: u64| Sight {
            machine: on_backup,
            backup_is_own: own,
            healthy_for: healthy.map(Duration::from_secs),
            held_for: SECOND * u32::try_from(held).unwrap(),
            ..dead(&well, &well)
        };
        for (own, healthy, held, undecided, acts) in [
            (true, Some(30), 60, 15, true),
            (true, Some(29), 60, 15, false),
            (true, Some(30), 59, 15, false),
            (true, None, 600, 600, false),
            (true, Some(30), 60, 0, false),
            (false, Some(300), 600, 600, false),
        ] {
            let act = act(&policy, &sight(own, healthy, held), link(undecided));
            assert_eq!(act.is_some(), acts, "own {own}, healthy {healthy:?}, held {held}, alone {undecided}");
        }
        let nobody = Link { configured: false, ..link(0) };
        assert!(act(&policy, &sight(false, Some(30), 60), nobody).is_some(), "there is nobody else");
    }
}
