//! The two eras of the protocol, and its revisions.

/// Which of the two shapes of the protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Era {
    /// Revisions up to 2025-11-25: `initialize`, sessions, a GET stream.
    Legacy,
    /// 2026-07-28: stateless, an envelope in `_meta` and headers on each request.
    Modern,
}

/// The modern revisions, newest first.
pub const MODERN: [&str; 1] = ["2026-07-28"];

/// The legacy revisions of Streamable HTTP and stdio, newest first.
pub const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// What a legacy server answers to an `initialize` that asks for `requested`: the same if it is a legacy
/// revision, else the newest legacy one (a client may name a modern revision here; that is no error).
#[must_use]
pub fn negotiate(requested: &str) -> &'static str {
    LEGACY.into_iter().find(|known| *known == requested).unwrap_or(LEGACY[0])
}

/// `params._meta` keys of the modern envelope.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub const META_CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
pub const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
pub const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// On results: who answers.
pub const META_SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// What the keys of the modern envelope, and everything else the specification itself puts into `_meta`, begin with.
pub const META_RESERVED: &str = "io.modelcontextprotocol/";
