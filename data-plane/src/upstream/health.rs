//! What probes and live traffic say of an endpoint, and of a store: a plain function of (what was known, what was
//! seen). It must never let a probe overrule calls that succeed; whoever feeds it sees to that.

use o1_proto::model::{self, BreakerState, StoreHealth, Verdict};
use std::{
    cmp::Reverse,
    time::{Duration, SystemTime},
};

/// How soon an endpoint is looked at again while it is in doubt.
const FAST: Duration = Duration::from_secs(2);
/// How long it is at most before one that is dead for long is looked at again.
const SLOW: Duration = Duration::from_secs(15);
/// So many bad looks beyond the threshold are still fast ones.
const PATIENCE: u32 = 5;

/// What is known of one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Health {
    verdict: Verdict,
    /// Good ones since the last bad one.
    good: u32,
    /// Bad ones since the last good one.
    bad: u32,
    /// Refusals in a row.
    refused: u32,
    checked_at: Option<SystemTime>,
    latency: Option<Duration>,
    /// The last failure; empty after a good one.
    error: String,
}

/// One look at an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// It works: a probe says so, after so long, or a call.
    Good(Option<Duration>),
    /// It does not.
    Bad(String),
    /// It is there and refuses the gateway: so many of these in a row, and nothing is known of it any more.
    Refused(String),
    /// There was nothing to look at.
    Nothing,
}

impl Health {
    /// What it is taken for.
    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether the last look was a bad one.
    pub(super) fn is_bad(&self) -> bool {
        self.bad > 0
    }

    /// Whether the last look said that it does not work, or not for us.
    pub(super) fn is_ill(&self) -> bool {
        self.bad > 0 || self.refused > 0
    }

    /// Whether it said that it does.
    pub(super) fn is_well(&self) -> bool {
        self.good > 0
    }

    /// Whether a good look would change nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.verdict == Verdict::Healthy && !self.is_ill()
    }

    /// Takes one look into account.
    pub(super) fn saw(&mut self, seen: Seen, rules: &model::Health, at: SystemTime) {
        match seen {
            Seen::Good(latency) => {
                (self.good, self.bad, self.refused) = (self.good.saturating_add(1), 0, 0);
                self.latency = latency.or(self.latency);
                self.error.clear();
                // The first word on an endpoint needs no second one.
                if self.verdict == Verdict::Unknown || self.good >= rules.healthy {
                    self.verdict = Verdict::Healthy;
                }
            }
            Seen::Bad(error) => {
                (self.good, self.bad, self.refused) = (0, self.bad.saturating_add(1), 0);
                self.error = error;
                if self.bad >= rules.unhealthy {
                    self.verdict = Verdict::Unhealthy;
                }
            }
            Seen::Refused(error) => {
                (self.good, self.bad) = (0, 0);
                self.refused = self.refused.saturating_add(1);
                self.error = error;
                if self.refused >= rules.unhealthy {
                    self.verdict = Verdict::Unknown;
                }
            }
            Seen::Nothing => return,
        }
        self.checked_at = Some(at);
    }

    /// How long until the next look, but for jitter.
    pub(super) fn wait(&self, rules: &model::Health) -> Duration {
        let fast = FAST.min(rules.every);
        let slow = SLOW.min(rules.every);
        match self.verdict {
            Verdict::Unhealthy if self.bad > 0 => {
                let beyond = self.bad.saturating_sub(rules.unhealthy.saturating_add(PATIENCE));
                fast.saturating_mul(2_u32.saturating_pow(beyond)).min(slow)
            }
            Verdict::Unhealthy => fast,
            Verdict::Healthy | Verdict::Unknown if self.bad > 0 => fast,
            Verdict::Healthy if self.refused > 0 => fast,
            Verdict::Healthy | Verdict::Unknown => rules.every,
        }
    }
}

/// What all endpoints together say of their store, and since when (`before` is what was said last): one that works
/// is enough.
pub(super) fn store(
    endpoints: &[(&Health, BreakerState)],
    before: &StoreHealth,
    at: SystemTime,
) -> StoreHealth {
    let all = || endpoints.iter().map(|(health, _)| *health);
    let any = |is: BreakerState| endpoints.iter().any(|(_, breaker)| *breaker == is);
    let verdict = if all().any(|one| one.verdict == Verdict::Healthy) {
        Verdict::Healthy
    } else if all().all(|one| one.verdict == Verdict::Unhealthy) {
        Verdict::Unhealthy
    } else {
        Verdict::Unknown
    };
    let breaker = if any(BreakerState::Closed) {
        BreakerState::Closed
    } else if any(BreakerState::HalfOpen) {
        BreakerState::HalfOpen
    } else {
        BreakerState::Open
    };
    // Who speaks for the store: the best of those that are as it is.
    let alike = all().filter(|one| one.verdict == verdict);
    let best = alike.max_by_key(|one| (!one.is_ill(), one.good, Reverse(one.bad)));
    let mut errors = all().map(|one| &one.error).filter(|error| !error.is_empty());
    let error = errors.next_back().filter(|_| verdict != Verdict::Healthy);
    StoreHealth {
        verdict,
        breaker,
        consecutive: best.map_or(0, |best| if verdict == Verdict::Unhealthy { best.bad } else { best.good }),
        since: if verdict == before.verdict { before.since } else { Some(at) },
        checked_at: all().filter_map(|one| one.checked_at).max(),
        latency: best.and_then(|best| best.latency),
        error: error.cloned().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rules() -> model::Health {
        model::Health { every: 10 * SECOND, ..model::Health::default() }
    }

    /// An endpoint that was looked at: `g`ood, `b`ad, `r`efused, `n`othing to look at.
    fn seen(script: &str) -> Health {
        let mut health = Health::default();
        for (second, look) in script.chars().enumerate() {
            let look = match look {
                'g' => Seen::Good(Some(SECOND)),
                'b' => Seen::Bad("gone".into()),
                'r' => Seen::Refused("HTTP 401".into()),
                _ => Seen::Nothing,
            };
            health.saw(look, &rules(), then(second));
        }
        health
    }

    fn then(second: usize) -> SystemTime {
        SystemTime::UNIX_EPOCH + SECOND * u32::try_from(second).unwrap()
    }

    #[test]
    fn a_verdict_needs_so_many_in_a_row_and_the_first_good_one_is_enough() {
        use Verdict::{Healthy, Unhealthy, Unknown};
        for (script, verdict, good, bad) in [
            ("", Unknown, 0, 0),
            ("g", Healthy, 1, 0),
            ("b", Unknown, 0, 1),
            ("bb", Unknown, 0, 2),
            ("bbg", Healthy, 1, 0),
            ("bbb", Unhealthy, 0, 3),
            ("bbbg", Unhealthy, 1, 0),
            ("bbbgg", Healthy, 2, 0),
            ("bbbgbg", Unhealthy, 1, 0),
            ("gbb", Healthy, 0, 2),
            ("gbbgbb", Healthy, 0, 2),
            ("gbbb", Unhealthy, 0, 3),
            // Starts no row, breaks none, counts in none.
            ("nnn", Unknown, 0, 0),
            ("gbbnb", Unhealthy, 0, 3),
            ("bbbgng", Healthy, 2, 0),
            // A server that refuses us is there; whether it works is another question.
            ("rrrr", Unknown, 0, 0),
            ("grr", Healthy, 0, 0),
            ("grrr", Unknown, 0, 0),
            ("gbbrb", Healthy, 0, 1),
            ("bbbrr", Unhealthy, 0, 0),
            ("bbbrrr", Unknown, 0, 0),
            ("bbbrrrg", Healthy, 1, 0),
        ] {
            let health = seen(script);
            assert_eq!((health.verdict, health.good, health.bad), (verdict, good, bad), "{script}");
        }
    }

    #[test]
    fn the_next_look_is_soon_while_in_doubt_and_late_when_settled() {
        for (script, seconds) in [
            ("", 10),
            ("g", 10),
            ("n", 10),
            ("b", 2),
            ("gb", 2),
            ("gbb", 2),
            ("gr", 2),
            ("grrr", 10),
            ("gbbb", 2),
            ("gbbbg", 2),
            ("gbbbgg", 10),
            ("bbbbbbbb", 2),
            ("bbbbbbbbb", 4),
            ("bbbbbbbbbb", 8),
            ("bbbbbbbbbbb", 10),
            ("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", 10),
        ] {
            assert_eq!(seen(script).wait(&rules()), seconds * SECOND, "{script}");
        }
        let often = model::Health { every: SECOND, ..rules() };
        assert!(["g", "b", "bbbbbbbbbbbb"].iter().all(|script| seen(script).wait(&often) == SECOND));
        let seldom = model::Health { every: 100 * SECOND, ..rules() };
        assert_eq!(seen("g").wait(&seldom), 100 * SECOND);
        assert_eq!(seen("bbbbbbbbbbbbbbbbbbbb").wait(&seldom), SLOW, "it is noticed when it is back");
    }

    #[test]
    fn one_endpoint_that_works_is_enough_for_a_store() {
        use {
            BreakerState::{Closed, HalfOpen, Open},
            Verdict::{Healthy, Unhealthy, Unknown},
        };
        for (endpoints, verdict, breaker, consecutive, error) in [
            (&[("", Closed)][..], Unknown, Closed, 0, ""),
            (&[("ggg", Closed)], Healthy, Closed, 3, ""),
            (&[("g", Open), ("bbbb", Open)], Healthy, Open, 1, ""),
            (&[("bbbb", Open), ("bbb", Closed)], Unhealthy, Closed, 3, "gone"),
            (&[("bbb", Open), ("b", Open)], Unknown, Open, 0, "gone"),
            (&[("bbb", Open), ("bbb", HalfOpen)], Unhealthy, HalfOpen, 3, "gone"),
            (&[("bbb", Open), ("n", HalfOpen), ("g", Closed)], Healthy, Closed, 1, ""),
            (&[("gb", Closed)], Healthy, Closed, 0, ""),
            (&[("gb", Closed), ("g", Closed)], Healthy, Closed, 1, ""),
            (&[("r", Closed)], Unknown, Closed, 0, "HTTP 401"),
        ] {
            let all: Vec<_> = endpoints.iter().map(|(script, breaker)| (seen(script), *breaker)).collect();
            let all: Vec<_> = all.iter().map(|(health, breaker)| (health, *breaker)).collect();
            let seen = store(&all, &StoreHealth::default(), then(9));
            assert_eq!(
                (seen.verdict, seen.breaker, seen.consecutive, &*seen.error),
                (verdict, breaker, consecutive, error),
                "{endpoints:?}"
            );
        }
    }

    #[test]
    fn since_is_when_the_verdict_of_the_store_changed() {
        let told = |script: &str, before: &StoreHealth, at: usize| {
            store(&[(&seen(script), BreakerState::Closed)], before, then(at))
        };
        let first = told("g", &StoreHealth::default(), 1);
        assert_eq!((first.since, first.latency), (Some(then(1)), Some(SECOND)));
        let second = told("gb", &first, 2);
        assert_eq!((second.since, second.checked_at), (Some(then(1)), Some(then(1))));
        assert_eq!(told("gbbb", &second, 3).since, Some(then(3)));
        assert_eq!(told("n", &StoreHealth::default(), 3).since, None, "nothing is known yet");
    }
}
