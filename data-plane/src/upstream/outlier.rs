//! When an endpoint that fails is left out, and when it comes back: the state of a store's endpoints and what
//! moves it. Only what says that an endpoint does not work counts: no connection, silence, 502, 503, 504; never
//! what an MCP server answered.

use o1_proto::model::Outlier;
use tokio::time::Instant;

/// What is known of one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ejection {
    /// Failures since the last success.
    failures: u32,
    /// How often it was left out of late. One is forgotten for each first ejection time that it has been back.
    times: u32,
    /// Left out until then; in the past: since when it has been back.
    until: Option<Instant>,
}

impl Ejection {
    /// Whether it is left out.
    pub(super) fn is_out(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// It answered.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// How often it was left out, less what time has healed.
    fn times(&self, rules: &Outlier, now: Instant) -> u32 {
        let back = self.until.map_or_else(Default::default, |until| now.saturating_duration_since(until));
        let healed = back.as_millis() / rules.eject.as_millis().max(1);
        self.times.saturating_sub(u32::try_from(healed).unwrap_or(u32::MAX))
    }
}

/// The endpoint at `at` failed. True: it is left out from now on. One that comes back and fails at once is left out
/// again at once, for longer.
pub(super) fn failed(all: &mut [Ejection], at: usize, rules: &Outlier, now: Instant) -> bool {
    let out = all.iter().filter(|one| one.is_out(now)).count();
    let most = most_out(all.len(), rules);
    let one = &mut all[at];
    one.failures = one.failures.saturating_add(1);
    if rules.failures == 0 || one.failures < rules.failures || one.is_out(now) || out >= most {
        return false;
    }
    one.times = one.times(rules, now).saturating_add(1);
    one.until = Some(now + rules.eject.saturating_mul(one.times).min(rules.eject_max));
    true
}

/// The most endpoints of a store that may be left out at a time: its percentage, but one unless that is none. The
/// only endpoint there is never is.
fn most_out(endpoints: usize, rules: &Outlier) -> usize {
    if endpoints < 2 || rules.max_percent == 0 {
        return 0;
    }
    (endpoints * rules.max_percent.min(100) as usize / 100).max(1)
}

/// Whether so few are left that all are used again.
pub(super) fn panics(endpoints: usize, out: usize, rules: &Outlier) -> bool {
    (endpoints - out.min(endpoints)) * 100 < endpoints * rules.panic_percent as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn rules() -> Outlier {
        Outlier {
            failures: 3,
            eject: 10 * SECOND,
            eject_max: 25 * SECOND,
            max_percent: 50,
            panic_percent: 50,
        }
    }

    /// What happens to the first of `count` endpoints: `f`ails, `s`ucceeds, or a second passes (`.`); `F`, `S`:
    /// the last of them. What is left out after each step, from the first: `x` or `-`.
    fn play(count: usize, rules: &Outlier, script: &str) -> Vec<String> {
        let (mut all, mut now) = (vec![Ejection::default(); count], Instant::now());
        let mut seen = Vec::new();
        for step in script.chars() {
            match step {
                'f' => drop(failed(&mut all, 0, rules, now)),
                'F' => drop(failed(&mut all, count - 1, rules, now)),
                's' => all[0].succeeded(),
                'S' => all[count - 1].succeeded(),
                _ => now += SECOND,
            }
            seen.push(all.iter().map(|one| if one.is_out(now) { 'x' } else { '-' }).collect());
        }
        seen
    }

    fn end(count: usize, rules: &Outlier, script: &str) -> String {
        play(count, rules, script).pop().unwrap_or_default()
    }

    #[test]
    fn so_many_failures_in_a_row_and_no_fewer() {
        for (script, expected) in [
            ("ff", "---"),
            ("fff", "x--"),
            ("ffsff", "---"),
            ("ffsfff", "x--"),
            ("ffFFfF", "x--"),
            ("sfff", "x--"),
        ] {
            assert_eq!(end(3, &rules(), script), expected, "{script}");
        }
        assert_eq!(end(3, &Outlier { failures: 0, ..rules() }, &"f".repeat(100)), "---", "0 is never");
    }

    #[test]
    fn it_comes_back_and_one_more_failure_is_enough() {
        let seconds = |count: usize| ".".repeat(count);
        assert_eq!(end(3, &rules(), &format!("fff{}", seconds(9))), "x--");
        assert_eq!(end(3, &rules(), &format!("fff{}", seconds(10))), "---");
        let back = format!("fff{}", seconds(10));
        assert_eq!(end(3, &rules(), &format!("{back}f")), "x--");
        assert_eq!(end(3, &rules(), &format!("{back}sff")), "---", "a success, and it counts anew");
        // The second time twice as long, the third no longer than the longest.
        assert_eq!(end(3, &rules(), &format!("{back}f{}", seconds(19))), "x--");
        assert_eq!(end(3, &rules(), &format!("{back}f{}", seconds(20))), "---");
        let third = format!("{back}f{}f", seconds(20));
        assert_eq!(end(3, &rules(), &format!("{third}{}", seconds(24))), "x--");
        assert_eq!(end(3, &rules(), &format!("{third}{}", seconds(25))), "---");
    }

    #[test]
    fn time_heals() {
        let seconds = |count: usize| ".".repeat(count);
        // Back for ten seconds: as if it had never been out. A failure while out makes nothing longer.
        let healed = format!("fffff{}s{}fff", seconds(10), seconds(10));
        assert_eq!(end(3, &rules(), &format!("{healed}{}", seconds(9))), "x--");
        assert_eq!(end(3, &rules(), &format!("{healed}{}", seconds(10))), "---");
    }

    #[test]
    fn no_more_than_the_percentage_one_at_least_and_never_the_only_one() {
        for (count, percent, expected) in [
            (1, 100, "-"),
            (2, 50, "x-"),
            (2, 100, "xx"),
            (3, 50, "x--"),
            (3, 70, "x-x"),
            (3, 1, "x--"),
            (3, 0, "---"),
            (4, 50, "x--x"),
        ] {
            let rules = Outlier { max_percent: percent, ..rules() };
            assert_eq!(end(count, &rules, "fffFFF"), expected, "{count} endpoints, {percent} %");
        }
        // Whoever was refused leaves when there is room.
        let late = format!("fff.....FFF{}F", ".".repeat(5));
        assert_eq!(end(3, &rules(), &late), "--x");
    }

    #[test]
    fn below_the_threshold_all_are_used() {
        for (endpoints, out, percent, expected) in [
            (2, 1, 50, false),
            (2, 2, 50, true),
            (3, 1, 50, false),
            (3, 2, 50, true),
            (4, 2, 50, false),
            (10, 10, 0, false),
            (10, 1, 100, true),
            (10, 0, 100, false),
            (1, 0, 50, false),
        ] {
            let rules = Outlier { panic_percent: percent, ..rules() };
            assert_eq!(panics(endpoints, out, &rules), expected, "{out} of {endpoints} out, {percent} %");
        }
    }
}
