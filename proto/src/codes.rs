//! Every JSON-RPC error code that the gateway itself answers with: what it means and what to do about it. The data
//! plane takes its numbers from here, `o1ctl explain` and `docs/troubleshooting.md` their words, so that none of them
//! knows a code that the others do not. Numbers are never reused.
//!
//! Errors of an MCP server pass the gateway as they are, and are not in this table.

/// A code.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// As in `error.code`.
    pub number: i32,
    /// Snake case, stable.
    pub word: &'static str,
    /// By which protocol it is defined.
    pub by: &'static str,
    /// The kinds of failure that end in it, as logs and `o1_failures_total` spell them. Empty: refusals of single
    /// messages, which are not counted by kind.
    pub kinds: &'static [&'static str],
    /// What happened, one or two sentences.
    pub means: &'static str,
    /// What to do about it, one sentence each.
    pub todo: &'static [&'static str],
}

/// Declares the codes and [`ALL`] together, so that none can be missing from it.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $word:literal by $by:literal kinds $kinds:expr; $means:literal $todo:expr;)*) => {
        $($(#[$doc])* pub static $name: Code =
            Code { number: $number, word: $word, by: $by, kinds: &$kinds, means: $means, todo: &$todo };)*
        /// Every code, ours first.
        pub static ALL: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    /// The upstream does not answer.
    UPSTREAM_UNAVAILABLE = -33001 "upstream_unavailable" by "only1" kinds ["unreachable", "session_lost"];
    "The upstream that owns the tool, prompt or resource cannot be reached: no connection, no process, or it ended before it answered. The call was not answered by anybody; whether it ran is known only where nothing was sent."
    ["`o1ctl status UPSTREAM --verbose` says since when, and what each node sees.",
     "`o1ctl logs UPSTREAM` shows what a server wrote that nodes start themselves.",
     "With a `backup`, reads go on: `o1ctl explain UPSTREAM` says whether it has one and why it does or does not serve."];
    /// The upstream did not answer in time.
    UPSTREAM_TIMEOUT = -33002 "upstream_timeout" by "only1" kinds ["timeout"];
    "The upstream took the call and did not answer within `timeouts.idle` of silence, or within `timeouts.total`. The call may have run, or still run: one that may change something is not sent again, unless `retry.tools` names it."
    ["Find out whether it ran before you repeat a call that writes.",
     "Let a slow tool send progress, which ends a silence, or give it times of its own: `timeouts.tools`."];
    /// The upstream has all the calls it takes.
    UPSTREAM_OVERLOADED = -33003 "upstream_overloaded" by "only1" kinds ["overloaded"];
    "The upstream has as many calls as `concurrency.max` allows and `concurrency.queue` others wait, the wait was over, or the server itself said 429. Nothing was done."
    ["Try again later: nothing ran.",
     "Raise `concurrency` if the server can take more, or add an endpoint: `o1ctl upstreams` shows what is in flight and what waits."];
    /// The backup takes no such write.
    UPSTREAM_READ_ONLY = -33004 "upstream_read_only" by "only1" kinds ["read_only"];
    "The primary is away and its backup serves; the backup takes no writes by `failover.writes`, or does not journal this tool. Nothing was done."
    ["Try again once the primary is back: `o1ctl explain UPSTREAM` says what it waits for.",
     "If the tool only reads, name it in `failover.read_tools`; if it may be written later, use `failover: {writes: journal, journal_tools: […]}`."];
    /// The message is not JSON.
    PARSE_ERROR = -32700 "parse_error" by "JSON-RPC 2.0" kinds [];
    "The body of the request is not JSON. It reached no upstream."
    ["Look at what the client sends: one JSON-RPC message in each POST, UTF-8."];
    /// The message breaks a rule.
    INVALID_REQUEST = -32600 "invalid_request" by "JSON-RPC 2.0" kinds ["invalid_request", "wrong_era"];
    "The message, or the HTTP request around it, breaks a rule of JSON-RPC, MCP or this route: the message in `error.message` says which. With HTTP 403 the `Origin`, with 421 the `Host` is not allowed; with 413 the body is too large."
    ["Read `error.message`: it names the rule.",
     "403 and 421: add the value to `clients.origins` or `clients.hosts`; 413: raise `clients.max_body`.",
     "If the route does not speak the client's protocol revision, use `/mcp`, which speaks all of them."];
    /// There is no such method.
    METHOD_NOT_FOUND = -32601 "method_not_found" by "JSON-RPC 2.0" kinds ["unknown_method"];
    "The method does not exist in the negotiated protocol revision, or no upstream of this route offers what it asks for."
    ["Compare the client's protocol revision with the method."];
    /// Parameters are wrong, or name nothing.
    INVALID_PARAMS = -32602 "invalid_params" by "JSON-RPC 2.0" kinds ["invalid_params", "unknown_name", "unknown_resource"];
    "Parameters are missing or wrong, or no upstream of this route offers the tool, prompt or resource that they name, or the caller may not use it."
    ["`o1ctl explain TOOL` says who owns a name, under which name it is offered, and why it is hidden.",
     "`o1ctl tools --all` lists what a route offers and hides."];
    /// Something broke.
    INTERNAL = -32603 "internal_error" by "JSON-RPC 2.0" kinds ["protocol", "internal"];
    "The upstream answered something that is not MCP, or the gateway has a fault."
    ["The node's log names the cause: an HTML page instead of JSON is mostly a wrong URL or a proxy in between.",
     "With HTTP 500 the fault is the gateway's: please report it, with the log."];
    /// Sessions and streams.
    SERVER = -32000 "server_error" by "MCP servers" kinds ["unknown_session", "unknown_route", "missing_session", "stream_taken", "too_many_sessions", "draining"];
    "The session or the route is not there. HTTP 404: the session is unknown, over or somebody else's, or there is no such route; 400: a session is needed and none was named; 409: the session's one stream is taken; 503: the node is going away, drains, or holds as many sessions as `clients.max_sessions` allows."
    ["404 and 400: a client begins again with `initialize`; libraries do so by themselves.",
     "503: another node, or the same one a second later, takes it; `o1ctl nodes` says who drains."];
    /// No such resource, for clients up to 2025-11-25.
    RESOURCE_NOT_FOUND = -32002 "resource_not_found" by "MCP" kinds ["unknown_resource"];
    "No upstream of this route owns a resource of this URI."
    ["List the resources of the route; name the prefix of URIs that no list has in `resources` of their upstream."];
    /// Headers and body disagree.
    HEADER_MISMATCH = -32020 "header_mismatch" by "MCP 2026-07-28" kinds [];
    "A header that repeats a part of the message (`MCP-Protocol-Version`, `Mcp-Method`, `Mcp-Name`, `Mcp-Param-…`) is missing, malformed, twice there or says something else than the body."
    ["A proxy that drops or changes headers is the usual reason; otherwise the client has a fault."];
    /// The client cannot do what is needed.
    MISSING_CAPABILITY = -32021 "missing_capability" by "MCP 2026-07-28" kinds [];
    "The server wants to ask the client something (elicitation, sampling, roots) that the client did not declare to support."
    ["Use a client that declares the capability in `error.data.requiredCapabilities`, or a tool that needs none."];
    /// The revision is not spoken here.
    UNSUPPORTED_VERSION = -32022 "unsupported_version" by "MCP 2026-07-28" kinds [];
    "The client names a protocol revision that the gateway does not speak."
    ["Use one of `error.data.supported`."];
}

/// The code of this number.
#[must_use]
pub fn find(number: i32) -> Option<&'static Code> {
    ALL.iter().copied().find(|code| code.number == number)
}

/// The code of this word, or the codes that this kind of failure ends in.
#[must_use]
pub fn named(word: &str) -> Vec<&'static Code> {
    ALL.iter().copied().filter(|code| code.word == word || code.kinds.contains(&word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_codes_are_the_same_and_each_says_what_to_do() {
        for (at, code) in ALL.iter().enumerate() {
            let again = ALL[..at].iter().any(|other| other.number == code.number || other.word == code.word);
            assert!(!again, "{} {}", code.number, code.word);
            let sentence = |text: &str| text.ends_with('.') && !text.contains('\n');
            assert!(sentence(code.means) && !code.todo.is_empty(), "{}", code.number);
            assert!(code.todo.iter().all(|todo| sentence(todo)), "{}", code.number);
        }
        assert_eq!(find(-33004), Some(&UPSTREAM_READ_ONLY));
        assert_eq!(named("session_lost"), [&UPSTREAM_UNAVAILABLE]);
        assert_eq!(named("unknown_resource"), [&INVALID_PARAMS, &RESOURCE_NOT_FOUND], "by era");
        assert!(named("").is_empty() && find(0).is_none());
    }
}
