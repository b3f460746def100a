//! The sections that say what is cached and what is sent together.

use super::{ABSENT, Section, key};

pub(in crate::manifest) static UPSTREAM_CACHE: Section = Section {
    path: "upstreams.<name>.cache",
    about: "Which of its answers are cached where its own word, `ttlMs` and `cacheScope`, is not enough. `*` in a name or URI stands for any characters; the exact name wins, then the longest pattern. A life is a duration; `default`, as long as the tier keeps answers; or `0s`, never, whatever the server says.",
    keys: &[
        key(
            "tools",
            "tool name → life",
            "{}",
            "Tools whose results are cached, by the upstream's own name; no others ever are. Name only tools that change nothing.",
        ),
        key("prompts", "prompt name → life", "{}", "The same for prompts."),
        key("resources", "URI → life", "{}", "The same for what `resources/read` answers."),
        key("lists", "life", ABSENT, "Lists and `server/discover`. Default: by the server's word."),
        key(
            "share",
            "word",
            "principal",
            "Who gets an answer that was fetched for another. `principal`: who asked, and everybody where the server says `cacheScope: public`. `session`: nobody beyond the session that asked (clients of 2026-07-28 have none: the principal). `everybody`: everybody, whatever the server says.",
        ),
    ],
};

pub(in crate::manifest) static CACHE: Section = Section {
    path: "cache",
    about: "What a node keeps of answers, in three tiers.",
    keys: &[
        key(
            "tools",
            "tier",
            "{ttl: 5m, entries: 1000}",
            "Results of tools that an upstream's `cache.tools` names.",
        ),
        key("resources", "tier", "{ttl: 30m, entries: 500}", "Answers to `resources/read`."),
        key(
            "catalogue",
            "tier",
            "{ttl: 2h, entries: 200, stale_if_error: 5m}",
            "Lists, `server/discover`, and prompts that an upstream's `cache.prompts` names.",
        ),
    ],
};

pub(in crate::manifest) static CACHE_TIER: Section = Section {
    path: "cache.<tier>",
    about: "One tier. Where a default differs by tier, see above.",
    keys: &[
        key(
            "ttl",
            "duration",
            ABSENT,
            "The longest life that a server's `ttlMs` may claim, and the life of what is cached for `default`.",
        ),
        key("entries", "number", ABSENT, "The most answers."),
        key(
            "bytes",
            "size",
            "64MiB",
            "The most bytes of answers. An answer larger than an eighth of it is not kept.",
        ),
        key(
            "eviction",
            "word",
            "tiny_lfu",
            "Who makes room: what is asked for least often (`tiny_lfu`), or what nobody asked for longest (`lru`).",
        ),
        key(
            "stale_if_error",
            "duration",
            "0s",
            "For how long an answer serves after its life where the server fails. What was invalidated never does.",
        ),
        key(
            "stale_while_revalidate",
            "duration",
            "0s",
            "For how long an answer serves after its life at once, while a new one is fetched.",
        ),
    ],
};

pub(in crate::manifest) static BATCHING: Section = Section {
    path: "batching",
    about: "List requests of many to one upstream: collected for a moment, equal ones sent as one.",
    keys: &[
        key(
            "window",
            "duration",
            "0ms",
            "How long a list waits for more; at most 100ms, 0ms is off. Lists that differ go to a server of 2025-03-26 as one JSON-RPC array.",
        ),
        key("max", "number", "10", "So many are sent without waiting any longer."),
    ],
};
