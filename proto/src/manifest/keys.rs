//! Every key a document may have: one table for the parser, its messages and `docs/config.md`.

/// A mapping with fixed keys.
pub(super) struct Section {
    /// Where it stands: `upstreams.<name>.timeouts`; empty for the document itself.
    pub path: &'static str,
    pub about: &'static str,
    /// [`Effect::NotYet`]: the key it stands under was warned about, its own keys are not again.
    pub effect: Effect,
    pub keys: &'static [Key],
}

/// One key.
pub(super) struct Key {
    pub name: &'static str,
    /// The type, as the reference page shows it.
    pub takes: &'static str,
    /// What holds without the key, spelled as in a document; `REQUIRED` and `ABSENT` are no values.
    pub default: &'static str,
    pub effect: Effect,
    pub about: &'static str,
}

/// Whether this version acts on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Yes,
    /// Checked and accepted with a warning.
    NotYet,
    /// Only this value has an effect; others get the warning.
    Only(&'static str),
}

pub(super) const REQUIRED: &str = "required";
pub(super) const ABSENT: &str = "–";

impl Section {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const fn key(name: &'static str, takes: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { name, takes, default, effect: Effect::Yes, about }
}

impl Key {
    const fn not_yet(mut self) -> Self {
        self.effect = Effect::NotYet;
        self
    }

    const fn only(mut self, value: &'static str) -> Self {
        self.effect = Effect::Only(value);
        self
    }
}

/// Every section, in the order of the reference page.
pub(super) static SECTIONS: &[&Section] = &[
    &DOCUMENT,
    &UPSTREAM,
    &ENDPOINT,
    &TIMEOUTS,
    &TOOL_TIMEOUTS,
    &CLIENTS,
    &CATALOGUE,
    &AUTH,
    &TOKEN,
    &GRANT_TOOLS,
    &JWT,
    &CLAIM_RULE,
    &BALANCE,
    &HEALTH,
    &BREAKER,
    &FAILOVER,
    &UPSTREAM_CACHE,
    &TLS,
    &POOL,
    &SERVER,
    &SERVER_TOOLS,
    &SERVER_SELECTION,
    &CACHE,
    &CACHE_TIER,
    &BATCHING,
];

pub(super) static DOCUMENT: Section = Section {
    path: "",
    about: "The document: one for the whole fleet. What differs by node is a flag of `o1-data-plane`.",
    effect: Effect::Yes,
    keys: &[
        key(
            "upstreams",
            "name → upstream",
            "{}",
            "The MCP servers behind the gateway. The name is the path `/u/<name>/mcp`.",
        ),
        key("clients", "section", "{}", "What clients may do, on every route."),
        key(
            "servers",
            "name → server",
            "{}",
            "Virtual servers: a selection of upstreams and of what they offer, at `/mcp/<name>`.",
        ),
        key("cache", "section", "{}", "The tiers of the answer cache.").not_yet(),
        key(
            "batching",
            "section",
            "{}",
            "Collects list requests to one upstream for a moment and sends one.",
        )
        .not_yet(),
    ],
};

pub(super) static UPSTREAM: Section = Section {
    path: "upstreams.<name>",
    about: "One logical MCP server.",
    effect: Effect::Yes,
    keys: &[
        key("primary", "list of endpoints", REQUIRED, "Where the server is."),
        key("backup", "list of endpoints, or `snapshot`", ABSENT, "Where to turn when the primary fails; `snapshot` is the node's own copy, for reads.").not_yet(),
        key("prefix", "word, or `none`", ABSENT, "What its names begin with on the route `/mcp`: `<prefix>__<tool>`. Default: the upstream's name. `none`: names stay as they are."),
        key("headers", "name → text or reference", "{}", "Request headers for its URLs. A value is literal, `env:NAME` or `file:PATH`, read on the node; a variable holds the whole value, `Bearer …` included."),
        key("timeouts", "section", "{}", "How long a call may take."),
        key("unreachable_tools", "word", "keep", "While it cannot be reached, its tools are still listed (`keep`; a call answers an error that names the upstream) or not (`hide`)."),
        key("resources", "list of URI prefixes", "[]", "Resources that begin so are read here on shared routes when no upstream lists them."),
        key("balance", "word, or section", "round_robin", "How calls spread over the endpoints of a store: `round_robin`, `least_connections`, `random`, `weighted_random`, `consistent_hash`.").only("round_robin"),
        key("health", "section", "{}", "Active probes.").not_yet(),
        key("breaker", "section", "{}", "The circuit breaker of each endpoint.").not_yet(),
        key("failover", "section", ABSENT, "What happens to calls while the backup is active. Needs a `backup`.").not_yet(),
        key("cache", "section", "{}", "Which of its answers are cached.").not_yet(),
        key("tls", "section", "{}", "Certificates for its `https` URLs."),
        key("pool", "section", "{}", "Connections kept to each of its URLs."),
    ],
};

pub(super) static ENDPOINT: Section = Section {
    path: "upstreams.<name>.primary[]",
    about: "One URL or one command, also in `backup`: either `url` or `command` is required.",
    effect: Effect::Yes,
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
        key("weight", "number", "1", "Share of the calls among the endpoints of its store.").only("1"),
    ],
};

pub(super) static TIMEOUTS: Section = Section {
    path: "upstreams.<name>.timeouts",
    about: "How long a call to the upstream may take.",
    effect: Effect::Yes,
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

pub(super) static TOOL_TIMEOUTS: Section = Section {
    path: "upstreams.<name>.timeouts.tools.<tool>",
    about: "How long a call of the tool may take.",
    effect: Effect::Yes,
    keys: &[
        key("idle", "duration", ABSENT, "As for the upstream, which is the default."),
        key("total", "duration", ABSENT, "As for the upstream, which is the default."),
    ],
};

pub(super) static CLIENTS: Section = Section {
    path: "clients",
    about: "What clients may do, on every route.",
    effect: Effect::Yes,
    keys: &[
        key(
            "origins",
            "list of origins",
            "[]",
            "Allowed `Origin` values, `scheme://host[:port]`; the port may be `*`. Loopback origins are always allowed.",
        ),
        key(
            "hosts",
            "list of host names",
            "[]",
            "Allowed `Host` names, beside loopback names and the bound address.",
        ),
        key("max_body", "size", "4MiB", "The largest request body."),
        key("session_idle", "duration", "30m", "Idle sessions end after this long."),
        key(
            "session_lifetime",
            "duration",
            "24h",
            "Sessions end this long after they began, however busy they are; the client opens another.",
        ),
        key("max_sessions", "number", "10000", "The most sessions a node holds."),
        key("catalogue", "section", "{}", "How lists of many upstreams are kept and answered."),
        key(
            "auth",
            "section, or `none`",
            ABSENT,
            "Who may use the gateway. Without it everybody may, and nodes listen on loopback addresses only. `none`: everybody, on every address.",
        ),
        key(
            "sse",
            "`true` or `false`",
            "false",
            "Serve clients of HTTP+SSE (2024-11-05) at `/sse`, `/mcp/<server>/sse` and `/u/<name>/sse`. Their requests must reach the node that holds their stream.",
        ),
        key(
            "failover_metadata",
            "word",
            "during-failover",
            "When results say which store they came from: `always`, `during-failover`, `never`.",
        )
        .not_yet(),
    ],
};

pub(super) static AUTH: Section = Section {
    path: "clients.auth",
    about: "Who may use the gateway: whoever sends one of these tokens, as `Authorization: Bearer …`, with every request. The header goes no further than the gateway.",
    effect: Effect::Yes,
    keys: &[
        key("tokens", "list of tokens", "[]", "Tokens that you hand out."),
        key("jwt", "section", ABSENT, "JSON Web Tokens of an issuer."),
        key(
            "resource",
            "URL without path",
            ABSENT,
            "How clients spell the gateway, `https://mcp.example`; needed behind a proxy that terminates TLS. Default: `http://` and the `Host` header.",
        ),
    ],
};

pub(super) static CATALOGUE: Section = Section {
    path: "clients.catalogue",
    about: "Lists on routes of many upstreams: fetched in the background, answered from memory.",
    effect: Effect::Yes,
    keys: &[
        key("page", "number", "500", "The most items on one page of a list."),
        key(
            "refresh",
            "duration",
            "5m",
            "How often lists are fetched again from upstreams that say neither `list_changed` nor `ttlMs`.",
        ),
        key(
            "wait",
            "duration",
            "10s",
            "How long a list waits, once, for an upstream that never answered one. Later its items join by `list_changed`.",
        ),
    ],
};

pub(super) static TOKEN: Section = Section {
    path: "clients.auth.tokens[]",
    about: "A token that you hand out. `o1ctl token new` makes one; only its hash stands here. Without `servers`, `upstreams` and `tools` it may use everything.",
    effect: Effect::Yes,
    keys: &[
        key(
            "name",
            "word",
            REQUIRED,
            "Whose it is. Sessions belong to the name: a new token under an old name goes on with them.",
        ),
        key("blake3", "hexadecimal", ABSENT, "The hash of the token; this or `sha256`."),
        key(
            "sha256",
            "hexadecimal",
            ABSENT,
            "The hash of the token, as `printf %s TOKEN | sha256sum` prints it.",
        ),
        key("servers", "list of patterns", "[\"*\"]", "The virtual servers it may use."),
        key("upstreams", "list of patterns", "[\"*\"]", "The upstreams it may use, on every route."),
        key("tools", "section", "{}", "The tools it may use."),
    ],
};

pub(super) static GRANT_TOOLS: Section = Section {
    path: "clients.auth.tokens[].tools",
    about: "Which tools may be listed and called, by their own name or by `<upstream>__<own name>`, with `*` for any characters. Also in `jwt.rules[]`.",
    effect: Effect::Yes,
    keys: &[
        key("allow", "list of patterns", "[\"*\"]", "These."),
        key("deny", "list of patterns", "[]", "Not these, even when allowed."),
    ],
};

pub(super) static JWT: Section = Section {
    path: "clients.auth.jwt",
    about: "JSON Web Tokens of one issuer: signed by one of its keys, not expired, made by it and for this gateway. Whose they are is `sub`.",
    effect: Effect::Yes,
    keys: &[
        key(
            "issuer",
            "text",
            REQUIRED,
            "The exact value of `iss`; also where clients are told to ask for a token.",
        ),
        key(
            "audience",
            "list of text",
            "[]",
            "Accepted values of `aud`. Default: the URL of the route (`https://mcp.example/mcp`), or `resource` itself.",
        ),
        key(
            "jwks",
            "`file:PATH`, or URL",
            REQUIRED,
            "The issuer's keys: a file on the node, read again when it changes, or a URL, read again when a key is not in it.",
        ),
        key(
            "algorithms",
            "list of words",
            "[RS256, ES256, EdDSA]",
            "Accepted signatures: also `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES384`.",
        ),
        key("clock_skew", "duration", "60s", "How far the issuer's clock may be off."),
        key(
            "rules",
            "list of rules",
            "[]",
            "Who may use what. Without rules a valid token may use everything; with rules, what any rule gives that fits it.",
        ),
    ],
};

pub(super) static CLAIM_RULE: Section = Section {
    path: "clients.auth.jwt.rules[]",
    about: "Gives access to whoever has one of the values in a claim.",
    effect: Effect::Yes,
    keys: &[
        key(
            "claim",
            "text",
            REQUIRED,
            "Such as `scope`, `groups` or `sub`. What it holds is a text, words with spaces between, or a list.",
        ),
        key("values", "list of text", REQUIRED, "One of them is enough."),
        key("servers", "list of patterns", "[\"*\"]", "As in `tokens[]`."),
        key("upstreams", "list of patterns", "[\"*\"]", "As in `tokens[]`."),
        key("tools", "section", "{}", "As in `tokens[]`."),
    ],
};

pub(super) static BALANCE: Section = Section {
    path: "upstreams.<name>.balance",
    about: "The long form of `balance`.",
    effect: Effect::NotYet,
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

pub(super) static HEALTH: Section = Section {
    path: "upstreams.<name>.health",
    about: "Active probes.",
    effect: Effect::NotYet,
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

pub(super) static BREAKER: Section = Section {
    path: "upstreams.<name>.breaker",
    about: "The circuit breaker of each endpoint.",
    effect: Effect::NotYet,
    keys: &[
        key("failures", "number", "5", "Failures in a row that open it."),
        key("open", "duration", "5s", "How long it stays open before one call may try."),
    ],
};

pub(super) static FAILOVER: Section = Section {
    path: "upstreams.<name>.failover",
    about: "What happens while the backup is active.",
    effect: Effect::NotYet,
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
            "With `writes: journal`: the tools whose calls may be journaled.",
        ),
        key(
            "fast_path",
            "word",
            "reads",
            "What a node may do before the control plane decides: `none`, `reads`, `full`.",
        ),
        key("min_hold", "duration", "60s", "The shortest stay on the backup."),
        key("stable", "duration", "30s", "How long the primary must be healthy before it is restored."),
    ],
};

pub(super) static UPSTREAM_CACHE: Section = Section {
    path: "upstreams.<name>.cache",
    about: "Which of its answers are cached.",
    effect: Effect::NotYet,
    keys: &[key("tools", "tool name → duration", "{}", "Tools whose results are cached, and for how long.")],
};

pub(super) static TLS: Section = Section {
    path: "upstreams.<name>.tls",
    about: "Certificates for `https` URLs: paths of PEM files on the node, read again when they change.",
    effect: Effect::Yes,
    keys: &[
        key("ca", "path", ABSENT, "The authorities to trust instead of the system's."),
        key("cert", "path", ABSENT, "The client certificate; needs `key`."),
        key("key", "path", ABSENT, "The client certificate's key; needs `cert`."),
    ],
};

pub(super) static POOL: Section = Section {
    path: "upstreams.<name>.pool",
    about: "Connections kept to each URL.",
    effect: Effect::Yes,
    keys: &[
        key("max", "number", "100", "The most connections.").not_yet(),
        key(
            "idle",
            "number",
            "100",
            "The most that are kept without a request, not above `max`. HTTP/2 needs one.",
        ),
    ],
};

pub(super) static SERVER: Section = Section {
    path: "servers.<name>",
    about: "A virtual server, at `/mcp/<name>`.",
    effect: Effect::Yes,
    keys: &[
        key(
            "upstreams",
            "list of upstream names",
            REQUIRED,
            "Whose tools, resources and prompts it offers, in the order in which they are listed.",
        ),
        key("tools", "section", "{}", "Which tools it offers, and as what."),
        key("prompts", "section", "{}", "Which prompts it offers."),
        key("resources", "section", "{}", "Which resources and templates it offers, by URI."),
    ],
};

pub(super) static SERVER_TOOLS: Section = Section {
    path: "servers.<name>.tools",
    about: "Which tools a virtual server offers. `*` in a pattern stands for any characters. A tool is meant by the upstream's own name for it or by `<upstream>__<own name>`.",
    effect: Effect::Yes,
    keys: &[
        key("allow", "list of patterns", "[\"*\"]", "Offered."),
        key("deny", "list of patterns", "[]", "Not offered, even when allowed."),
        key(
            "rename",
            "tool → name",
            "{}",
            "What a tool is called here, whole: no prefix is added. The old name does not exist here.",
        ),
        key("describe", "tool → text", "{}", "What its description is here."),
    ],
};

pub(super) static SERVER_SELECTION: Section = Section {
    path: "servers.<name>.prompts",
    about: "Which prompts a virtual server offers, by the same patterns; also `resources`, by URI.",
    effect: Effect::Yes,
    keys: &[
        key("allow", "list of patterns", "[\"*\"]", "Offered."),
        key("deny", "list of patterns", "[]", "Not offered, even when allowed."),
    ],
};

pub(super) static CACHE: Section = Section {
    path: "cache",
    about: "The tiers of the answer cache.",
    effect: Effect::NotYet,
    keys: &[
        key(
            "tools",
            "tier",
            "{ttl: 5m, entries: 1000}",
            "Results of tools named in an upstream's `cache.tools`.",
        ),
        key("resources", "tier", "{ttl: 30m, entries: 500}", "Answers to `resources/read`."),
        key("catalogue", "tier", "{ttl: 2h, entries: 200}", "Lists, `server/discover`, and prompts."),
    ],
};

pub(super) static CACHE_TIER: Section = Section {
    path: "cache.<tier>",
    about: "One tier. Defaults differ by tier, see above.",
    effect: Effect::NotYet,
    keys: &[
        key("ttl", "duration", ABSENT, "The longest life of an answer that does not say its own."),
        key("entries", "number", ABSENT, "The most answers kept."),
    ],
};

pub(super) static BATCHING: Section = Section {
    path: "batching",
    about: "Batching of list requests.",
    effect: Effect::NotYet,
    keys: &[
        key("window", "duration", "0ms", "How long to collect; at most 100ms, 0ms is off."),
        key("max", "number", "10", "The most requests in a batch."),
    ],
};
