//! The sections of an upstream, but for how its calls are spread and what of it is cached.

use super::{ABSENT, REQUIRED, Section, key};

pub(in crate::manifest) static UPSTREAM: Section = Section {
    path: "upstreams.<name>",
    about: "One logical MCP server.",
    keys: &[
        key("primary", "list of endpoints", REQUIRED, "Where the server is."),
        key(
            "backup",
            "list of endpoints, or `snapshot`",
            ABSENT,
            "Where to turn when the primary fails; `snapshot` is the node's own copy, for reads.",
        ),
        key(
            "prefix",
            "word, or `none`",
            ABSENT,
            "What its names begin with on the route `/mcp`: `<prefix>__<tool>`. Default: the upstream's name. `none`: names stay as they are.",
        ),
        key(
            "headers",
            "name → text or reference",
            "{}",
            "Request headers for its URLs. A value is literal, `env:NAME` or `file:PATH`, read on the node; a variable holds the whole value, `Bearer …` included.",
        ),
        key("timeouts", "section", "{}", "How long a call may take."),
        key(
            "unreachable_tools",
            "word",
            "keep",
            "While it cannot be reached, its tools are still listed (`keep`; a call answers an error that names the upstream) or not (`hide`).",
        ),
        key(
            "resources",
            "list of URI prefixes",
            "[]",
            "Resources that begin so are read here on shared routes when no upstream lists them.",
        ),
        key(
            "balance",
            "word, or section",
            "round_robin",
            "How calls spread over the endpoints of a store: `round_robin`, `least_connections`, `random`, `weighted_random`, `consistent_hash`.",
        ),
        key("health", "section", "{}", "Active probes."),
        key("outlier", "section", "{}", "When an endpoint that fails is left out for a while."),
        key("retry", "section", "{}", "When a call that failed is sent once more, to another endpoint."),
        key("concurrency", "section", "{}", "How many calls each endpoint gets at a time."),
        key("breaker", "section", "{}", "The circuit breaker of each endpoint."),
        key("failover", "section", ABSENT, "What happens when the primary fails. Needs a `backup`."),
        key("cache", "section", "{}", "Which of its answers are cached."),
        key("tls", "section", "{}", "Certificates for its `https` URLs."),
        key("pool", "section", "{}", "Connections kept to each of its URLs."),
    ],
};

pub(in crate::manifest) static ENDPOINT: Section = Section {
    path: "upstreams.<name>.primary[]",
    about: "One URL or one command, also in `backup`: either `url` or `command` is required.",
    keys: &[
        key("url", "URL", ABSENT, "An MCP server over HTTP: absolute, `http` or `https`."),
        key(
            "transport",
            "word",
            "http",
            "With `url`. `http` is Streamable HTTP, `sse` the HTTP+SSE of revision 2024-11-05.",
        ),
        key(
            "command",
            "list of text",
            ABSENT,
            "A program and its arguments that speak MCP on standard input and output.",
        ),
        key(
            "env",
            "name → text or reference",
            "{}",
            "With `command`. Added to what a process inherits of the node's environment (`PATH`, `HOME`, locale and the like, never the rest); values as in `headers`.",
        ),
        key("cwd", "path", ABSENT, "With `command`. Its working directory; default: the node's own."),
        key(
            "processes",
            "word",
            "shared",
            "With `command`. `shared`: one process for everybody, started when first wanted. `per_session`: one for each client session.",
        ),
        key(
            "idle_stop",
            "duration",
            ABSENT,
            "With `processes: shared`. A process that nobody called, listens to or is subscribed at for this long is ended until somebody does. Default: never, because a server may keep state in memory.",
        ),
        key("weight", "number", "1", "Share of the calls among the endpoints of its store."),
    ],
};

pub(in crate::manifest) static TIMEOUTS: Section = Section {
    path: "upstreams.<name>.timeouts",
    about: "How long a call to the upstream may take.",
    keys: &[
        key("idle", "duration", "60s", "The longest silence inside a call; progress ends a silence."),
        key("total", "duration", "10m", "The longest call."),
        key(
            "connect",
            "duration",
            "10s",
            "The longest wait for a connection, or for a process to start and shake hands.",
        ),
        key(
            "tools",
            "tool name → section",
            "{}",
            "Other times for calls of some tools, by the upstream's own name; `*` stands for any characters. The exact name wins, then the longest pattern.",
        ),
    ],
};

pub(in crate::manifest) static TOOL_TIMEOUTS: Section = Section {
    path: "upstreams.<name>.timeouts.tools.<tool>",
    about: "How long a call of the tool may take.",
    keys: &[
        key("idle", "duration", ABSENT, "As for the upstream, which is the default."),
        key("total", "duration", ABSENT, "As for the upstream, which is the default."),
    ],
};

pub(in crate::manifest) static HEALTH: Section = Section {
    path: "upstreams.<name>.health",
    about: "Active probes.",
    keys: &[
        key("every", "duration", "10s", "Time between two probes."),
        key("timeout", "duration", "5s", "How long a probe may take; shorter than `every`."),
        key("healthy", "number", "2", "Good probes in a row until an endpoint counts as healthy."),
        key("unhealthy", "number", "3", "Bad probes in a row until it counts as unhealthy."),
        key(
            "path",
            "URL path",
            ABSENT,
            "Probe URLs with `GET` on this path, expecting 2xx. Default: ask in MCP.",
        ),
    ],
};

pub(in crate::manifest) static BREAKER: Section = Section {
    path: "upstreams.<name>.breaker",
    about: "The circuit breaker of each endpoint.",
    keys: &[
        key(
            "failures",
            "number",
            "5",
            "Calls in a row without connection or answer in time, or with HTTP 502–504, that open it; so do half of at least 20 within 10 s.",
        ),
        key(
            "open",
            "duration",
            "5s",
            "How long it stays open before one call may try; twice as long each time that call fails.",
        ),
        key("open_max", "duration", "60s", "The longest that it stays open."),
    ],
};

pub(in crate::manifest) static FAILOVER: Section = Section {
    path: "upstreams.<name>.failover",
    about: "What happens when the primary fails.",
    keys: &[
        key(
            "writes",
            "word",
            "reject",
            "`reject` them, `journal` them and replay later, or `pass_through` to a backup that is a true peer.",
        ),
        key(
            "journal_tools",
            "list of tool names",
            "[]",
            "With `writes: journal`: the tools whose calls may be journaled, by the upstream's own name; `*` stands for any characters.",
        ),
        key(
            "read_tools",
            "list of tool names",
            "[]",
            "Tools that only read: the backup answers them whatever `writes` says; names as in `journal_tools`. Those of `retry.tools` and `cache.tools` count, too.",
        ),
        key(
            "fast_path",
            "word",
            "reads",
            "What a node may do by its breaker before the control plane decides: nothing (`none`: calls fail fast), answer reads from the backup (`reads`), or fail over (`full`).",
        ),
        key("min_hold", "duration", "60s", "The shortest stay on the backup."),
        key("stable", "duration", "30s", "How long the primary must be healthy before it is restored."),
        key(
            "autonomy_after",
            "duration",
            "15s",
            "How long a node waits for a control plane that is away before it acts alone.",
        ),
        key(
            "drain",
            "duration",
            "2s",
            "How long calls in flight may take to end before the backup takes over.",
        ),
        key(
            "snapshot_every",
            "duration",
            "60s",
            "With `backup: snapshot`: how often it is written while the primary is active; also soon after a list changed.",
        ),
    ],
};

pub(in crate::manifest) static TLS: Section = Section {
    path: "upstreams.<name>.tls",
    about: "Certificates for `https` URLs: paths of PEM files on the node, read again when they change.",
    keys: &[
        key("ca", "path", ABSENT, "The authorities to trust instead of the system's."),
        key("cert", "path", ABSENT, "The client certificate; needs `key`."),
        key("key", "path", ABSENT, "The client certificate's key; needs `cert`."),
    ],
};

pub(in crate::manifest) static POOL: Section = Section {
    path: "upstreams.<name>.pool",
    about: "Connections kept to each URL.",
    keys: &[key(
        "idle",
        "number",
        "100",
        "The most that are kept without a request, not above `concurrency.max`. HTTP/2 needs one.",
    )],
};
