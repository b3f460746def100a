//! When calls to an endpoint fail at once instead of being sent, and when one may try again: a plain function of
//! (state, what happened, now). Only outages count; what an MCP server answered never does.
//!
//! Each call is let in with a number. A result counts only if nothing happened to the breaker since: what was sent
//! before it opened is part of the outage that opened it, so its failure prolongs nothing, and its late answer shows
//! that the endpoint finishes what it had, not that it takes more. Only the one call that tries, or a probe in its
//! place, closes an open breaker.

use o1_proto::model::{self, BreakerState};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::time::Instant;

/// How long a try may take before calls fail at once again.
pub(super) const TRY_MAX: Duration = Duration::from_secs(10);
/// Seconds that shares of failures look back.
const WINDOW: usize = 10;
/// This many calls or more in the window, and half of them failures, open it too.
const WINDOW_LEAST: u32 = 20;

/// One endpoint's.
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    phase: Phase,
    /// Of calls that are let in. Changes with the phase, and for each try.
    number: u64,
    /// Failures since the last success.
    failures: u32,
    recent: [Second; WINDOW],
    /// How often it opened since it was last closed.
    times: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Open {
        until: Instant,
    },
    HalfOpen {
        since: Instant,
        /// The one call that may try is on its way.
        out: bool,
    },
}

/// Failures of one second, counted from the beginning.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    number: u64,
    failures: u32,
}

/// How ready an endpoint is for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    /// It takes calls.
    Yes,
    /// One call may try.
    Try,
    /// The same, and nobody has for so long that probes cannot be expected to.
    Overdue,
    /// Calls fail at once.
    No,
}

/// When it is, how long the breaker stays open relative to what the rules say (see [`jitter`]), and the rules.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) rules: &'a model::Breaker,
    pub(super) now: Instant,
    /// When counting began.
    pub(super) began: Instant,
    pub(super) jitter: f64,
}

impl At<'_> {
    fn second(&self) -> u64 {
        self.now.saturating_duration_since(self.began).as_secs()
    }
}

/// A factor within ±20 %.
pub(super) fn jitter() -> f64 {
    0.8 + fastrand::f64() * 0.4
}

impl Default for Breaker {
    fn default() -> Self {
        let recent = [Second::default(); WINDOW];
        Self { phase: Phase::Closed, number: 1, failures: 0, recent, times: 0 }
    }
}

impl Breaker {
    /// What it is called. Open until somebody tries.
    pub(super) fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether calls go through.
    pub(super) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether a success would change nothing.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_closed() && self.failures == 0
    }

    /// What calls are let in with while it is closed.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether a call may go there now.
    pub(super) fn ready(&self, now: Instant) -> Ready {
        match self.phase {
            Phase::Closed => Ready::Yes,
            Phase::Open { until } if now < until => Ready::No,
            Phase::Open { until } if now < until + TRY_MAX => Ready::Try,
            Phase::Open { .. } => Ready::Overdue,
            Phase::HalfOpen { since, out } if out || now >= since + TRY_MAX => Ready::No,
            Phase::HalfOpen { .. } => Ready::Try,
        }
    }

    /// When there is something to do about it next: to try, or to give up on a try.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Closed => None,
            Phase::Open { until } => Some(until),
            Phase::HalfOpen { since, .. } => Some(since + TRY_MAX),
        }
    }

    /// Lets a call in, if it may go. Its number has to come back by [`Breaker::succeeded`], [`Breaker::failed`] or
    /// [`Breaker::give_back`].
    pub(super) fn admit(&mut self, at: At<'_>) -> Option<u64> {
        self.lapse(at);
        match self.phase {
            Phase::Closed => return Some(self.number),
            Phase::Open { until } if at.now >= until => {
                self.phase = Phase::HalfOpen { since: at.now, out: true };
            }
            Phase::HalfOpen { ref mut out, .. } if !*out => *out = true,
            Phase::Open { .. } | Phase::HalfOpen { .. } => return None,
        }
        self.number += 1;
        Some(self.number)
    }

    /// A call was answered.
    pub(super) fn succeeded(&mut self, number: u64) {
        if number != self.number {
            return;
        }
        self.failures = 0;
        if matches!(self.phase, Phase::HalfOpen { .. }) {
            *self = Self { number: self.number + 1, ..Self::default() };
        }
    }

    /// A call met an outage. `answered`: how many were answered in the last seconds, see [`Answers`].
    pub(super) fn failed(&mut self, number: u64, answered: u32, at: At<'_>) {
        self.lapse(at);
        if number != self.number {
            return;
        }
        match self.phase {
            Phase::Open { .. } => {}
            Phase::HalfOpen { .. } => self.open(at.now, at),
            Phase::Closed => {
                self.failures = self.failures.saturating_add(1);
                let failed = self.count(at.second());
                let half = failed + answered >= WINDOW_LEAST && failed >= answered;
                if self.failures >= at.rules.failures.max(1) || half {
                    self.open(at.now, at);
                }
            }
        }
    }

    /// A call that was let in ended without any word on the endpoint.
    pub(super) fn give_back(&mut self, number: u64) {
        if let Phase::HalfOpen { out, .. } = &mut self.phase
            && number == self.number
        {
            *out = false;
        }
    }

    /// Gives up on a try that takes too long; true: it did. One that is still on its way counts as a failure, one
    /// that nobody makes does not.
    pub(super) fn lapse(&mut self, at: At<'_>) -> bool {
        let before = self.number;
        if let Phase::HalfOpen { since, out } = self.phase
            && at.now >= since + TRY_MAX
        {
            if !out {
                self.times = self.times.saturating_sub(1);
            }
            self.open(since + TRY_MAX, at);
        }
        self.number != before
    }

    /// A probe found the endpoint that it found dead before: whoever comes may try.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let Phase::Open { until } = &mut self.phase {
            *until = now.min(*until);
        }
    }

    fn open(&mut self, from: Instant, at: At<'_>) {
        let factor = 2_u32.saturating_pow(self.times);
        let wait = at.rules.open.saturating_mul(factor).min(at.rules.open_max);
        self.phase = Phase::Open { until: from + wait.mul_f64(at.jitter) };
        self.number += 1;
        self.failures = 0;
        self.recent = Default::default();
        self.times = self.times.saturating_add(1);
    }

    /// Counts a failure: how many there were lately.
    fn count(&mut self, second: u64) -> u32 {
        let one = &mut self.recent[place(second)];
        if one.number != second {
            *one = Second { number: second, failures: 0 };
        }
        one.failures = one.failures.saturating_add(1);
        let recent = |one: &&Second| one.number + WINDOW as u64 > second;
        self.recent.iter().filter(recent).map(|one| one.failures).sum()
    }
}

/// How many calls were answered in each of the last seconds. Counts without a lock, because most calls are.
#[derive(Debug, Default)]
pub(super) struct Answers([AtomicU64; WINDOW]);

impl Answers {
    /// One was, so long after counting began.
    pub(super) fn count(&self, since: Duration) {
        let (second, cell) = (since.as_secs(), &self.0[place(since.as_secs())]);
        let seen = cell.load(Relaxed);
        if seen >> 32 == second {
            cell.fetch_add(1, Relaxed);
        } else if cell.compare_exchange(seen, second << 32 | 1, Relaxed, Relaxed).is_err() {
            // Somebody else began the second.
            cell.fetch_add(1, Relaxed);
        }
    }

    /// How many lately.
    pub(super) fn recent(&self, since: Duration) -> u32 {
        let second = since.as_secs();
        let cells = self.0.iter().map(|cell| cell.load(Relaxed));
        let recent = cells.filter(|cell| (cell >> 32) + WINDOW as u64 > second);
        recent.fold(0, |sum, cell| sum.saturating_add((cell & u64::from(u32::MAX)) as u32))
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % WINDOW as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const RULES: model::Breaker =
        model::Breaker { failures: 3, open: Duration::from_secs(5), open_max: Duration::from_secs(15) };

    /// A breaker, and calls that are on their way.
    struct Scene {
        breaker: Breaker,
        began: Instant,
        now: Instant,
        out: Vec<u64>,
        answers: Answers,
    }

    impl Scene {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                breaker: Breaker::default(),
                began: now,
                now,
                out: Vec::new(),
                answers: Answers::default(),
            }
        }

        fn at(&self) -> At<'static> {
            At { rules: &RULES, now: self.now, began: self.began, jitter: 1.0 }
        }

        /// A call comes (`c`), the oldest on its way is answered (`a`), fails (`f`), is cancelled (`x`); the newest is
        /// answered (`A`) or fails (`F`); a probe finds it again (`h`); a second passes (`.`). What it is after each
        /// step: `-` closed, `o` open, `h` half-open; `!`: a call was refused.
        fn step(&mut self, step: char) -> char {
            let newest = step.is_uppercase();
            let one = |out: &mut Vec<u64>| if newest { out.pop() } else { Some(out.remove(0)) };
            let at = self.at();
            match step {
                'c' => match self.breaker.admit(at) {
                    Some(number) => self.out.push(number),
                    None => return '!',
                },
                'a' | 'A' => {
                    self.answers.count(at.now - at.began);
                    self.breaker.succeeded(one(&mut self.out).unwrap());
                }
                'f' | 'F' => {
                    let answered = self.answers.recent(at.now - at.began);
                    self.breaker.failed(one(&mut self.out).unwrap(), answered, at);
                }
                'x' => self.breaker.give_back(one(&mut self.out).unwrap()),
                'h' => self.breaker.hurry(self.now),
                _ => {
                    self.now += SECOND;
                    let at = self.at();
                    self.breaker.lapse(at);
                }
            }
            match self.breaker.state() {
                BreakerState::Closed => '-',
                BreakerState::HalfOpen => 'h',
                BreakerState::Open => 'o',
            }
        }
    }

    fn play(script: &str) -> String {
        let mut scene = Scene::new();
        script.chars().map(|step| scene.step(step)).collect()
    }

    /// What it is at the end.
    fn end(script: &str) -> char {
        play(script).chars().last().unwrap_or_default()
    }

    fn seconds(count: usize) -> String {
        ".".repeat(count)
    }

    #[test]
    fn so_many_failures_in_a_row_open_it_and_a_success_counts_anew() {
        for (script, seen) in [
            ("cfcfcf", "-----o"),
            ("cfcfcacfcf", "----------"),
            // Whoever comes then is refused, for as long as the rules say; the next one tries.
            ("cccfffc....c", "-----o!oooo!"),
            ("cccfff.....c", "-----ooooooh"),
            ("cccfff.....ca", "-----ooooooh-"),
            ("cccfff.....cf", "-----ooooooho"),
        ] {
            assert_eq!(play(script), seen, "{script}");
        }
    }

    #[test]
    fn each_time_it_stays_open_twice_as_long_up_to_the_longest() {
        let mut script = "cccfff".to_owned();
        for open in [5, 10, 15, 15] {
            assert_eq!(end(&format!("{script}{}c", seconds(open - 1))), '!', "{open} s");
            script += &format!("{}c", seconds(open));
            assert_eq!(end(&script), 'h', "{open} s");
            script.push('f');
            assert_eq!(end(&script), 'o', "{open} s");
        }
        // A success, and it begins anew.
        let again = format!("{script}{}cacccfff", seconds(15));
        assert_eq!(end(&format!("{again}{}c", seconds(4))), '!');
        assert_eq!(end(&format!("{again}{}c", seconds(5))), 'h');
    }

    #[test]
    fn half_of_at_least_twenty_in_ten_seconds_open_it() {
        let pairs = |count: usize| "cacf".repeat(count);
        assert_eq!(end(&pairs(9)), '-', "eighteen");
        assert_eq!(end(&pairs(10)), 'o');
        assert_eq!(end(&format!("caca{}", pairs(10))), '-', "ten of twenty-two");
        assert_eq!(end(&format!("{}{}{}", pairs(5), seconds(9), pairs(5))), 'o', "within ten seconds");
        assert_eq!(end(&format!("{}{}{}", pairs(5), seconds(10), pairs(5))), '-', "not within ten");
    }

    #[test]
    fn one_call_tries_and_whoever_goes_away_makes_room_for_the_next() {
        let half = format!("cccfff{}c", seconds(5));
        assert_eq!(end(&format!("{half}c")), '!', "there is one already");
        assert_eq!(end(&format!("{half}xc")), 'h', "it was cancelled");
        assert_eq!(end(&format!("{half}xcc")), '!');
        assert_eq!(end(&format!("{half}xcxcxca")), '-', "as often as you like");
    }

    #[test]
    fn a_try_that_takes_too_long_counts_as_failed_and_one_that_nobody_makes_does_not() {
        let half = format!("cccfff{}c", seconds(5));
        assert_eq!(end(&format!("{half}{}", seconds(9))), 'h');
        assert_eq!(end(&format!("{half}{}", seconds(10))), 'o');
        assert_eq!(end(&format!("{half}{}c", seconds(19))), '!', "twice as long");
        assert_eq!(end(&format!("{half}{}c", seconds(20))), 'h');
        assert_eq!(end(&format!("{half}{}a", seconds(12))), 'o', "too late");
        assert_eq!(end(&format!("{half}x{}c", seconds(14))), '!', "as long as before");
        assert_eq!(end(&format!("{half}x{}c", seconds(15))), 'h');
    }

    #[test]
    fn what_was_sent_before_it_changed_says_nothing_after() {
        // A fourth call is on its way all the time: the newest, while the others fail.
        let open = "ccccfff";
        assert_eq!(end(&format!("{open}a")), 'o', "a late answer closes nothing");
        let half = format!("{open}{}c", seconds(5));
        assert_eq!(end(&format!("{half}a")), 'h', "nor does it for the one that tries");
        assert_eq!(end(&format!("{half}f")), 'h', "and a late failure opens nothing");
        assert_eq!(end(&format!("{half}fA")), '-');
        assert_eq!(end(&format!("{half}Afcfcf")), '-', "it does not count after the outage, either");
    }

    #[test]
    fn a_probe_that_finds_it_again_lets_the_next_call_try() {
        assert_eq!(play("cccfffchc"), "-----o!oh");
        assert_eq!(play("h"), "-", "nothing to hurry");
        assert_eq!(end("cccfffhcf....c"), '!', "a try that fails makes it longer all the same");
    }

    #[test]
    fn who_was_not_tried_for_long_is_told_from_who_is_due() {
        let mut scene = Scene::new();
        "cccfff".chars().for_each(|step| {
            scene.step(step);
        });
        for (after, expected) in [(4, Ready::No), (5, Ready::Try), (14, Ready::Try), (15, Ready::Overdue)] {
            assert_eq!(scene.breaker.ready(scene.began + after * SECOND), expected, "{after} s");
        }
        assert_eq!(scene.breaker.due(), Some(scene.began + 5 * SECOND));
    }

    #[test]
    fn the_time_varies_by_a_fifth() {
        let all: Vec<_> = (0..1000).map(|_| jitter()).collect();
        assert!(all.iter().all(|one| (0.8..=1.2).contains(one)));
        assert!(all.iter().any(|one| *one < 0.85) && all.iter().any(|one| *one > 1.15));
    }

    #[test]
    fn every_answer_of_a_crowd_is_counted() {
        let answers = Answers::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5000).for_each(|_| answers.count(7 * SECOND)));
            }
        });
        assert_eq!((answers.recent(16 * SECOND), answers.recent(17 * SECOND)), (20_000, 0));
    }

    proptest! {
        // resilience4j: permits of cancelled calls were lost, and the breaker stood half-open for ever.
        #[test]
        fn at_most_one_call_tries_and_no_permit_is_ever_lost(script in "[cfaxAFh.]{0,200}") {
            let mut scene = Scene::new();
            let mut tries = std::collections::BTreeSet::new();
            for step in script.chars() {
                if !"c.h".contains(step) && scene.out.is_empty() {
                    continue;
                }
                let seen = scene.step(step);
                tries.retain(|number| scene.out.contains(number));
                if step == 'c' && seen == 'h' {
                    tries.extend(scene.out.last());
                }
                if scene.breaker.state() == BreakerState::HalfOpen {
                    let current = tries.iter().filter(|number| **number == scene.breaker.number);
                    prop_assert!(current.count() <= 1);
                }
            }
            // Everybody goes away: whatever happened, a call is let in soon.
            while !scene.out.is_empty() {
                scene.step('x');
            }
            (0..40).for_each(|_| { scene.step('.'); });
            prop_assert_ne!(scene.step('c'), '!');
        }
    }
}
