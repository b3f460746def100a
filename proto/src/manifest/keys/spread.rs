//! The sections that say how calls spread over endpoints.

use super::{ABSENT, REQUIRED, Section, key};

pub(in crate::manifest) static BALANCE: Section = Section {
    path: "upstreams.<name>.balance",
    about: "The long form of `balance`.",
    keys: &[
        key("algorithm", "word", REQUIRED, "As in the short form."),
        key(
            "key",
            "word",
            ABSENT,
            "With `consistent_hash`: what is hashed, `session` (the default), `principal`, `tool` or `header:NAME`.",
        ),
        key(
            "virtual_nodes",
            "number",
            ABSENT,
            "With `consistent_hash`: points of each endpoint on the ring. Default: 150.",
        ),
    ],
};

pub(in crate::manifest) static OUTLIER: Section = Section {
    path: "upstreams.<name>.outlier",
    about: "Leaves out an endpoint whose calls fail, for a while.",
    keys: &[
        key("failures", "number", "5", "Failures in a row that leave it out; 0: never."),
        key(
            "eject",
            "duration",
            "30s",
            "For how long the first time; each further time so much longer. One is forgotten for each such time without another.",
        ),
        key("eject_max", "duration", "5m", "The longest."),
        key(
            "max_percent",
            "number",
            "50",
            "The most endpoints left out at a time, percent of the store; one may be unless it is 0, and never the only one.",
        ),
        key(
            "panic_percent",
            "number",
            "50",
            "With fewer than so many percent left, all are used again: that many failures say more about the network than about endpoints.",
        ),
    ],
};

pub(in crate::manifest) static RETRY: Section = Section {
    path: "upstreams.<name>.retry",
    about: "Sends a call that failed once more, to another endpoint: what was never sent, reads, and tools named here.",
    keys: &[
        key("attempts", "number", "2", "Attempts in all, 1 to 5; 1: none is sent again."),
        key(
            "tools",
            "list of tool names",
            "[]",
            "Tools whose calls may be sent again although they may have run, by the upstream's own name; `*` stands for any characters.",
        ),
        key(
            "budget_percent",
            "number",
            "20",
            "Retries are at most so many percent of the calls of the last ten seconds …",
        ),
        key("budget_min", "number", "3", "… and so many a second in any case."),
    ],
};

pub(in crate::manifest) static CONCURRENCY: Section = Section {
    path: "upstreams.<name>.concurrency",
    about: "How many calls each endpoint gets at a time.",
    keys: &[
        key("max", "number", ABSENT, "Calls in flight. Default: as many as there are."),
        key("queue", "number", "100", "With `max`: calls that wait for a place; more are refused."),
        key("wait", "duration", "10s", "With `max`: the longest wait for a place."),
    ],
};
