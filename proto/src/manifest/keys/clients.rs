//! The sections that say what clients may do, and who may be one.

use super::{ABSENT, REQUIRED, Section, key};

pub(in crate::manifest) static CLIENTS: Section = Section {
    path: "clients",
    about: "What clients may do, on every route.",
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
        ),
    ],
};

pub(in crate::manifest) static CATALOGUE: Section = Section {
    path: "clients.catalogue",
    about: "Lists on routes of many upstreams: fetched in the background, answered from memory.",
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

pub(in crate::manifest) static AUTH: Section = Section {
    path: "clients.auth",
    about: "Who may use the gateway: whoever sends one of these tokens, as `Authorization: Bearer …`, with every request. The header goes no further than the gateway.",
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

pub(in crate::manifest) static TOKEN: Section = Section {
    path: "clients.auth.tokens[]",
    about: "A token that you hand out. `o1ctl token new` makes one; only its hash stands here. Without `servers`, `upstreams` and `tools` it may use everything.",
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

pub(in crate::manifest) static GRANT_TOOLS: Section = Section {
    path: "clients.auth.tokens[].tools",
    about: "Which tools may be listed and called, by their own name or by `<upstream>__<own name>`, with `*` for any characters. Also in `jwt.rules[]`.",
    keys: &[
        key("allow", "list of patterns", "[\"*\"]", "These."),
        key("deny", "list of patterns", "[]", "Not these, even when allowed."),
    ],
};

pub(in crate::manifest) static JWT: Section = Section {
    path: "clients.auth.jwt",
    about: "JSON Web Tokens of one issuer: signed by one of its keys, not expired, made by it and for this gateway. Whose they are is `sub`.",
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

pub(in crate::manifest) static CLAIM_RULE: Section = Section {
    path: "clients.auth.jwt.rules[]",
    about: "Gives access to whoever has one of the values in a claim.",
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
