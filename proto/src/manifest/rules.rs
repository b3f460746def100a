//! Every rule a document is held to: its stable id, its family, what it asks. Ids are never renamed or reused.

use std::fmt;

/// A rule that a document can break, or that makes it worth a warning.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Kebab-case, stable.
    pub id: &'static str,
    /// What it belongs to.
    pub family: Family,
    /// What it asks of a document, one sentence.
    pub asks: &'static str,
}

/// What a rule is about, in the order of the reference page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// The YAML itself, keys and values of every section.
    Document,
    /// Ports and limits.
    Limits,
    /// Certificates and keys.
    Tls,
    /// Names, prefixes and what refers to them.
    Names,
    /// Weights of endpoints.
    Weights,
    /// Probe timings, thresholds and paths.
    Health,
    /// The balancing algorithm and its key.
    Balancing,
    /// Virtual nodes of consistent hashing.
    VirtualNodes,
    /// Connection pools.
    Pools,
    /// Cache lifetimes and capacities.
    Cache,
    /// Batching window and size.
    Batching,
    /// Failover policy, backup and breaker.
    Failover,
    /// Where a server is and how it is started.
    Endpoints,
    /// Request headers and the environment of child processes.
    Secrets,
    /// What clients may do.
    Clients,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Document => "document",
            Self::Limits => "ports and limits",
            Self::Tls => "TLS pairs",
            Self::Names => "names",
            Self::Weights => "weights",
            Self::Health => "health timings",
            Self::Balancing => "balancing",
            Self::VirtualNodes => "virtual nodes",
            Self::Pools => "pools",
            Self::Cache => "cache",
            Self::Batching => "batching",
            Self::Failover => "failover",
            Self::Endpoints => "endpoints",
            Self::Secrets => "headers and environment",
            Self::Clients => "clients",
        })
    }
}

/// Declares the rules and [`ALL`] together, so that none can be missing from it.
macro_rules! rules {
    ($($name:ident $id:literal $family:ident $asks:literal;)*) => {
        $(pub(super) static $name: Rule = Rule { id: $id, family: Family::$family, asks: $asks };)*
        /// Every rule, grouped by family.
        pub static ALL: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    YAML_ENCODING "yaml-encoding" Document "The document is UTF-8.";
    YAML_SIZE "yaml-size" Document "At most 1 MiB, 100,000 values and 32 levels, aliases expanded.";
    YAML_SYNTAX "yaml-syntax" Document "The document is YAML 1.2.";
    YAML_UNSUPPORTED "yaml-unsupported" Document "One document; no tags, no merge keys (`<<`), every key a word.";
    DUPLICATE_KEY "duplicate-key" Document "A key appears once in its mapping.";
    UNKNOWN_KEY "unknown-key" Document "Only known keys appear.";
    MISSING_KEY "missing-key" Document "Required keys are present.";
    VALUE_TYPE "value-type" Document "A value has the type its key takes.";
    DURATION_SYNTAX "duration-syntax" Document "A duration is a whole number and `ms`, `s`, `m` or `h`, at most a year.";
    SIZE_SYNTAX "size-syntax" Document "A size is a whole number and `B`, `KiB`, `MiB` or `GiB`.";
    TOO_MANY_PROBLEMS "too-many-problems" Document "At most 1,000 problems (and warnings) are listed; the rest is counted.";
    NO_UPSTREAMS "no-upstreams" Document "Warning: without upstreams nothing is served.";

    CATALOGUE_LIMIT "catalogue-limit" Limits "`page` is 1 to 10,000, `refresh` at least 1s, `wait` at most 30s.";
    CLIENT_LIMIT "client-limit" Limits "`max_sessions` is at least 1, `max_body` 1 KiB to 1 GiB, `session_idle` and `session_lifetime` at least 1s.";
    TIMEOUT_RANGE "timeout-range" Limits "Timeouts are at least 1ms, and `idle` is not above `total`.";
    TIMEOUT_TOOL "timeout-tool" Limits "A tool with times of its own has a name, and says `idle` or `total`.";

    TLS_PAIR "tls-pair" Tls "A certificate comes with its key, and a key with its certificate.";
    TLS_UNUSED "tls-unused" Tls "Warning: certificates are for `https` URLs; this upstream has none.";

    UPSTREAM_NAME "upstream-name" Names "An upstream's name is letters, digits, `_` and `-`, at most 48, begins with a letter or digit, has no `__` and no `_` at its end.";
    UPSTREAM_PREFIX "upstream-prefix" Names "A prefix is spelled like an upstream's name, or is `none`.";
    PREFIX_CLASH "prefix-clash" Names "No two upstreams have the same prefix.";
    SERVER_NAME "server-name" Names "A virtual server's name is spelled like an upstream's name.";
    SERVER_UPSTREAM "server-upstream" Names "A virtual server names at least one upstream; each exists and is named once.";
    SERVER_TOOLS "server-tools" Names "Patterns are not empty, and `allow` has at least one.";
    SERVER_RENAME "server-rename" Names "A tool's new name is 1 to 64 letters, digits, `_`, `-` and `.`, and given once.";
    SERVER_DESCRIBE "server-describe" Names "A tool's new description is 1 byte to 16 KiB.";
    RESOURCE_PREFIX "resource-prefix" Names "A URI prefix begins with a scheme, such as `file:`, and belongs to one upstream.";
    UNREACHABLE_TOOLS "unreachable-tools" Names "`unreachable_tools` is `keep` or `hide`.";

    ENDPOINT_WEIGHT "endpoint-weight" Weights "A weight is 1 to 1,000,000.";

    HEALTH_INTERVAL "health-interval" Health "Probes are at least 100ms apart.";
    HEALTH_TIMEOUT "health-timeout" Health "A probe's timeout is at least 1ms and shorter than the interval.";
    HEALTH_THRESHOLD "health-threshold" Health "The thresholds `healthy` and `unhealthy` are at least 1.";
    HEALTH_PATH "health-path" Health "A probe's path begins with `/` and is a valid URL path.";

    BALANCE_ALGORITHM "balance-algorithm" Balancing "The algorithm is one that exists.";
    BALANCE_KEY "balance-key" Balancing "`key` is `session`, `principal`, `tool` or `header:NAME`, and goes with `consistent_hash`.";
    BALANCE_VIRTUAL_NODES "balance-virtual-nodes" VirtualNodes "`virtual_nodes` is 1 to 10,000, and goes with `consistent_hash`.";

    OUTLIER_RANGE "outlier-range" Balancing "`eject` is 1ms to `eject_max`, percentages are 0 to 100.";
    RETRY_RANGE "retry-range" Balancing "`attempts` is 1 to 5, `budget_percent` 0 to 100.";
    RETRY_TOOL "retry-tool" Balancing "The tools to call again have names.";

    POOL_SIZE "pool-size" Pools "A pool's `idle` is not above `concurrency.max`.";
    CONCURRENCY_RANGE "concurrency-range" Pools "An endpoint gets at least 1 call at a time.";

    CACHE_TTL "cache-ttl" Cache "A tier's `ttl` is at least 1ms.";
    CACHE_ENTRIES "cache-entries" Cache "A tier holds at least 1 entry.";
    CACHE_BYTES "cache-bytes" Cache "A tier holds at least 1 byte.";
    CACHE_EVICTION "cache-eviction" Cache "`eviction` is `tiny_lfu` or `lru`.";
    CACHE_LIFE "cache-life" Cache "A life is a duration, zero for never, or the word `default`.";
    CACHE_SHARE "cache-share" Cache "`share` is `principal`, `session` or `everybody`.";
    CACHE_TOOL "cache-tool" Cache "The tools to cache have names.";
    CACHE_PROMPT "cache-prompt" Cache "The prompts to cache have names.";
    CACHE_RESOURCE "cache-resource" Cache "The resources to cache have URIs, or patterns with `*`.";

    BATCHING_WINDOW "batching-window" Batching "The window is at most 100ms.";
    BATCHING_MAX "batching-max" Batching "A batch holds at least 1 request.";

    FAILOVER_POLICY "failover-policy" Failover "`writes` and `fast_path` are words that exist and fit the backup.";
    FAILOVER_JOURNAL_TOOLS "failover-journal-tools" Failover "`writes: journal` names its tools, and only it does.";
    FAILOVER_READ_TOOLS "failover-read-tools" Failover "The tools that only read have names.";
    FAILOVER_WITHOUT_BACKUP "failover-without-backup" Failover "A failover policy needs a backup.";
    BACKUP_STORE "backup-store" Failover "A backup is at least one endpoint, or the word `snapshot`.";
    BACKUP_IS_PRIMARY "backup-is-primary" Failover "A backup endpoint is not also a primary one.";
    BREAKER_THRESHOLD "breaker-threshold" Failover "A breaker opens after at least 1 failure, for at least 1ms and at first no longer than `open_max`.";

    STORE_EMPTY "store-empty" Endpoints "A primary has at least one endpoint.";
    ENDPOINT_KIND "endpoint-kind" Endpoints "An endpoint has either `url` or `command`, and only keys that go with it.";
    ENDPOINT_URL "endpoint-url" Endpoints "A URL is absolute, http or https, with a host, without credentials and fragment, its port not 0.";
    ENDPOINT_TRANSPORT "endpoint-transport" Endpoints "The transport is `http` (Streamable HTTP) or `sse` (HTTP+SSE, 2024-11-05).";
    ENDPOINT_COMMAND "endpoint-command" Endpoints "A command is a list: the program, then its arguments, without NUL characters.";
    ENDPOINT_CWD "endpoint-cwd" Endpoints "A working directory is not empty and has no NUL character.";
    ENDPOINT_PROCESSES "endpoint-processes" Endpoints "`processes` is `shared` or `per_session`.";
    ENDPOINT_IDLE_STOP "endpoint-idle-stop" Endpoints "`idle_stop` is at least 1s, and goes with a shared process.";
    ENDPOINT_DUPLICATE "endpoint-duplicate" Endpoints "A store lists a URL once.";

    HEADER_NAME "header-name" Secrets "A header's name is valid, and appears once whatever its case.";
    HEADER_FORBIDDEN "header-forbidden" Secrets "Headers that belong to HTTP framing or to MCP are not set by hand.";
    HEADER_VALUE "header-value" Secrets "A literal header value is printable ASCII.";
    HEADERS_UNUSED "headers-unused" Secrets "Warning: headers are for URLs; this upstream has only commands.";
    ENV_NAME "env-name" Secrets "An environment variable's name is not empty and has neither `=` nor NUL.";
    ENV_VALUE "env-value" Secrets "A literal environment value has no NUL character.";
    REFERENCE "reference" Secrets "`env:` is followed by a variable's name, `file:` by a path.";
    REFERENCE_INSIDE "reference-inside" Secrets "Warning: `env:` and `file:` count only at the beginning of a value, `${…}` nowhere.";

    CLIENT_ORIGIN "client-origin" Clients "An origin is `scheme://host`, `scheme://host:port` or `scheme://host:*`.";
    CLIENT_HOST "client-host" Clients "A host is a name or an address, without scheme, port and path.";
    CLIENT_AUTH "client-auth" Clients "`auth` is `none`, or lists tokens, or describes an issuer of JSON Web Tokens.";
    CLIENT_TOKEN "client-token" Clients "A token has a name of its own, spelled like an upstream's, and one hash, `blake3` or `sha256`, of 64 hexadecimal digits.";
    CLIENT_RESOURCE "client-resource" Clients "`resource` is `https://host` or `https://host:port` (or `http://`), without a path.";
    CLIENT_JWT "client-jwt" Clients "An issuer has keys in a file, at an `https` URL or at an `http` URL on loopback; known signatures; and an `audience`, or a `resource` beside it.";
    CLIENT_ACCESS "client-access" Clients "Access names servers and upstreams that exist, or patterns; patterns, claims and values are not empty.";
    CLIENT_METADATA "client-metadata" Clients "`failover_metadata` is `always`, `during-failover` or `never`.";
}
