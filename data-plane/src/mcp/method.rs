//! The methods the gateway knows by name. Every other one passes through as it is.

pub const INITIALIZE: &str = "initialize";
pub const INITIALIZED: &str = "notifications/initialized";
pub const PING: &str = "ping";
pub const DISCOVER: &str = "server/discover";
pub const LISTEN: &str = "subscriptions/listen";
pub const LISTEN_ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
pub const TOOLS_LIST: &str = "tools/list";
pub const TOOLS_CALL: &str = "tools/call";
pub const PROMPTS_LIST: &str = "prompts/list";
pub const PROMPTS_GET: &str = "prompts/get";
pub const RESOURCES_LIST: &str = "resources/list";
pub const RESOURCES_READ: &str = "resources/read";
pub const RESOURCES_SUBSCRIBE: &str = "resources/subscribe";
pub const RESOURCES_UNSUBSCRIBE: &str = "resources/unsubscribe";
pub const TEMPLATES_LIST: &str = "resources/templates/list";
pub const COMPLETE: &str = "completion/complete";
pub const SET_LEVEL: &str = "logging/setLevel";
pub const CANCELLED: &str = "notifications/cancelled";
pub const PROGRESS: &str = "notifications/progress";
pub const MESSAGE: &str = "notifications/message";
pub const TOOLS_CHANGED: &str = "notifications/tools/list_changed";
pub const PROMPTS_CHANGED: &str = "notifications/prompts/list_changed";
pub const RESOURCES_UPDATED: &str = "notifications/resources/updated";
pub const RESOURCES_CHANGED: &str = "notifications/resources/list_changed";

pub const RESOURCE_UPDATED: &str = "notifications/resources/updated";
pub const ELICIT: &str = "elicitation/create";
pub const SAMPLE: &str = "sampling/createMessage";
pub const ROOTS_LIST: &str = "roots/list";

/// Requests that change nothing at a server, beside the lists; what concerns the session alone is among them.
pub const ONLY_READS: [&str; 12] = [
    INITIALIZE,
    PING,
    DISCOVER,
    LISTEN,
    PROMPTS_GET,
    RESOURCES_READ,
    RESOURCES_SUBSCRIBE,
    RESOURCES_UNSUBSCRIBE,
    COMPLETE,
    SET_LEVEL,
    "tasks/get",
    "tasks/result",
];

/// What servers say when their lists change.
pub const LIST_CHANGED: [&str; 3] = [TOOLS_CHANGED, PROMPTS_CHANGED, RESOURCES_CHANGED];

/// Which member of `params` the `Mcp-Name` header of a modern request repeats (2026-07-28, Streamable HTTP).
#[must_use]
pub fn named_by(method: &str) -> Option<&'static str> {
    match method {
        TOOLS_CALL | PROMPTS_GET => Some("name"),
        RESOURCES_READ => Some("uri"),
        _ if method.starts_with("tasks/") => Some("taskId"),
        _ => None,
    }
}

/// Lists that are merged over several upstreams: the method and the key of its items.
#[must_use]
pub fn list_key(method: &str) -> Option<&'static str> {
    match method {
        TOOLS_LIST => Some("tools"),
        PROMPTS_LIST => Some("prompts"),
        RESOURCES_LIST => Some("resources"),
        TEMPLATES_LIST => Some("resourceTemplates"),
        _ => None,
    }
}

/// Methods of earlier revisions that a modern server must not know (2026-07-28: 404, -32601).
pub const REMOVED: [&str; 5] = [INITIALIZE, PING, SET_LEVEL, RESOURCES_SUBSCRIBE, RESOURCES_UNSUBSCRIBE];
