//! Whether a call that failed may be sent once more: what is known to have no effect, what was never sent, and what
//! the operator named; within a budget, so that a store that is down gets hardly more requests than one that is up.
//!
//! It must never allow a second request for what may have run and may not run twice, nor for an answer: a JSON-RPC
//! error is one.

use crate::{
    failure::{Failure, Kind},
    mcp::{Message, method},
    pattern::Pattern,
};
use http::StatusCode;
use o1_proto::model::Retry;
use std::time::Duration;
use tokio::time::Instant;

/// Whether a request may run twice: it only reads, or the operator said so.
pub(super) fn may_run_twice(rules: &Retry, message: &Message) -> bool {
    match message.method() {
        method::DISCOVER | method::RESOURCES_READ | method::COMPLETE => true,
        method::TOOLS_CALL => message.param_str(&["name"]).is_ok_and(|name| {
            name.is_some_and(|name| rules.tools.iter().any(|tool| Pattern::new(tool).fits(&name)))
        }),
        other => method::list_key(other).is_some(),
    }
}

/// Whether an endpoint did not work: what is tried elsewhere, what endpoints are left out for and breakers open for.
/// A server that refuses us, by 401 for one, does.
pub(super) fn is_outage(failure: &Failure) -> bool {
    matches!(failure.kind, Kind::Unreachable | Kind::Timeout) && failure.status().is_none_or(is_outage_status)
}

/// Whether a failure shows that the endpoint is there: it answered, though not with what was wanted.
pub(super) fn is_answer(failure: &Failure) -> bool {
    match failure.kind {
        Kind::Protocol | Kind::SessionLost | Kind::WrongEra => true,
        _ => failure.status().is_some_and(|status| !is_outage_status(status)),
    }
}

/// The same of an answer that is none: a page of a proxy, or of a server that stops.
pub(super) fn is_outage_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

/// Seconds that the budget looks back.
const WINDOW: usize = 10;

/// How many calls and retries there were in each of the last seconds.
#[derive(Debug)]
pub(super) struct Budget {
    began: Instant,
    seconds: [Second; WINDOW],
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    number: u64,
    calls: u64,
    retries: u64,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, seconds: [Second::default(); WINDOW] }
    }

    /// A call came.
    pub(super) fn call(&mut self, now: Instant) {
        self.second(now).calls += 1;
    }

    /// Whether there is one more retry in it; if so, it is taken.
    pub(super) fn take(&mut self, rules: &Retry, now: Instant) -> bool {
        let second = *self.second(now);
        let recent = |one: &&Second| one.number + WINDOW as u64 > second.number;
        let (calls, retries) = self
            .seconds
            .iter()
            .filter(recent)
            .fold((0, 0), |(calls, retries), one| (calls + one.calls, retries + one.retries));
        let percent = (retries + 1) * 100 <= calls * u64::from(rules.budget_percent);
        let some = second.retries < u64::from(rules.budget_min);
        if percent || some {
            self.second(now).retries += 1;
        }
        percent || some
    }

    fn second(&mut self, now: Instant) -> &mut Second {
        let number = now.saturating_duration_since(self.began).as_secs();
        let at = usize::try_from(number % WINDOW as u64).unwrap_or_default();
        let second = &mut self.seconds[at];
        if second.number != number {
            *second = Second { number, ..Second::default() };
        }
        second
    }
}

/// What is left of the time of a call when an attempt has failed; a retry in less would only fail once more.
pub(super) const LEAST_TIME: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::rpc;

    const SECOND: Duration = Duration::from_secs(1);

    fn rules(percent: u32, min: u32) -> Retry {
        Retry { budget_percent: percent, budget_min: min, ..Retry::default() }
    }

    /// Retries that are allowed when every one of `calls` in each second asks for one.
    fn allowed(rules: &Retry, calls: &[u64]) -> Vec<u64> {
        let mut now = Instant::now();
        let mut budget = Budget::new(now);
        let mut all = Vec::new();
        for calls in calls {
            let mut taken = 0;
            for _ in 0..*calls {
                budget.call(now);
                taken += u64::from(budget.take(rules, now));
            }
            all.push(taken);
            now += SECOND;
        }
        all
    }

    #[test]
    fn a_percentage_of_the_calls_and_some_each_second() {
        for (percent, min, calls, expected) in [
            (20, 0, vec![100, 100, 0, 50], vec![20, 20, 0, 10]),
            (20, 3, vec![5, 5, 0, 5], vec![3, 3, 0, 3]),
            (0, 3, vec![1000, 2, 1000], vec![3, 2, 3]),
            (0, 0, vec![1000], vec![0]),
            (100, 0, vec![7, 7], vec![7, 7]),
        ] {
            assert_eq!(allowed(&rules(percent, min), &calls), expected, "{percent} %, {min} a second");
        }
    }

    #[test]
    fn calls_of_the_last_ten_seconds_count_and_no_older_ones() {
        let rules = rules(20, 0);
        let now = Instant::now();
        for (later, expected) in [(0, true), (9, true), (10, false), (500, false)] {
            let mut budget = Budget::new(now);
            (0..5).for_each(|_| budget.call(now));
            assert_eq!(budget.take(&rules, now + later * SECOND), expected, "{later} s later");
        }
        // What was taken counts as long, too.
        let mut budget = Budget::new(now);
        (0..5).for_each(|_| budget.call(now));
        assert!(budget.take(&rules, now));
        assert!(!budget.take(&rules, now + 9 * SECOND));
    }

    // landscape A.2, row 62: others retry tools because of what they answered, or whatever they are
    #[test]
    fn reads_and_named_tools_may_run_twice_and_nothing_else() {
        let rules = Retry { tools: vec!["get_*".into(), "sum".into()], ..Retry::default() };
        let may = |method: &str, params: &str| {
            may_run_twice(&rules, &Message::parse(&rpc::request(b"1", method, params.as_bytes())).unwrap())
        };
        for method in
            ["server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list"]
        {
            assert!(may(method, "{}"), "{method}");
        }
        assert!(may("resources/read", r#"{"uri":"a:b"}"#) && may("completion/complete", "{}"));
        assert!(may("tools/call", r#"{"name":"get_x"}"#) && may("tools/call", r#"{"name":"sum"}"#));
        for (method, params) in [
            ("tools/call", r#"{"name":"sums"}"#),
            ("tools/call", r#"{"name":"set_x"}"#),
            ("tools/call", "{}"),
            ("prompts/get", r#"{"name":"sum"}"#),
            ("tasks/get", "{}"),
            ("resources/subscribe", "{}"),
            ("x/list", "{}"),
        ] {
            assert!(!may(method, params), "{method} {params}");
        }
    }

    #[test]
    fn what_a_server_answered_is_no_outage() {
        for (kind, expected) in [
            (Kind::Unreachable, true),
            (Kind::Timeout, true),
            (Kind::Protocol, false),
            (Kind::SessionLost, false),
            (Kind::Overloaded, false),
            (Kind::InvalidParams, false),
        ] {
            assert_eq!(is_outage(&Failure::new(kind, "x")), expected, "{kind:?}");
        }
        for (kind, expected) in [
            (Kind::Unreachable, false),
            (Kind::Timeout, false),
            (Kind::Protocol, true),
            (Kind::SessionLost, true),
            (Kind::WrongEra, true),
            // Our own limit, our own fault, the client's.
            (Kind::Overloaded, false),
            (Kind::Internal, false),
            (Kind::InvalidParams, false),
        ] {
            assert_eq!(is_answer(&Failure::new(kind, "x")), expected, "{kind:?}");
        }
        for (status, outage) in
            [(401, false), (403, false), (429, false), (500, false), (502, true), (503, true), (504, true)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            let failure = Failure::new(Kind::Unreachable, "x").with_status(status);
            assert_eq!((is_outage(&failure), is_answer(&failure)), (outage, !outage), "{status}");
        }
        for (status, expected) in
            [(500, false), (502, true), (503, true), (504, true), (505, false), (429, false)]
        {
            assert_eq!(is_outage_status(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }
}
