//! Protected resource metadata (RFC 9728): where to get a token for a route, told to anybody who asks.

use crate::principal::{Policy, Required};
use serde_json::json;
use std::borrow::Cow;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// A URL of this gateway, as clients spell it.
#[derive(Debug, Clone)]
pub(in crate::listener) struct Place<'a> {
    /// `https://mcp.example`; empty where nobody needs a token.
    origin: Cow<'a, str>,
    /// `/mcp`
    path: Cow<'a, str>,
}

impl<'a> Place<'a> {
    /// `host`: what the client asked for, which was checked.
    pub(in crate::listener) fn new<'h>(
        policy: &'a Policy,
        host: impl FnOnce() -> Option<&'h str>,
        path: &'a str,
    ) -> Self {
        let origin = match policy {
            Policy::Required(required) => match &required.resource {
                Some(resource) => Cow::Borrowed(resource.as_str()),
                None => Cow::Owned(format!("http://{}", host().unwrap_or_default())),
            },
            Policy::Loopback | Policy::Open => Cow::Borrowed(""),
        };
        // The other half of HTTP+SSE: a client knows only where the stream is.
        let path = match path.strip_suffix("/message") {
            Some(base) => Cow::Owned(format!("{base}/sse")),
            None => Cow::Borrowed(path),
        };
        Self { origin, path }
    }

    /// Where the metadata of this place is.
    pub(super) fn metadata_url(&self) -> String {
        format!("{}{WELL_KNOWN}{}", self.origin, self.path)
    }

    /// For whom a token may be made that is used here: this very URL, or the whole gateway.
    pub(super) fn audiences(&self) -> [String; 3] {
        [format!("{}{}", self.origin, self.path), self.origin.to_string(), format!("{}/", self.origin)]
    }
}

/// The metadata that is served at `path`; `None`: `path` is another thing. Whether a route exists is nobody's
/// business who has no token.
pub(in crate::listener) fn document<'h>(
    policy: &Policy,
    host: impl FnOnce() -> Option<&'h str>,
    path: &str,
) -> Option<serde_json::Value> {
    let Policy::Required(required) = policy else { return None };
    let resource = path.strip_prefix(WELL_KNOWN)?;
    if !resource.is_empty() && !is_route(resource) {
        return None;
    }
    let place = Place::new(policy, host, resource);
    Some(describe(required, &place))
}

fn is_route(path: &str) -> bool {
    let one = |name: &str| !name.is_empty() && !name.contains('/');
    let under = |prefix: &str, suffix: &str| {
        path.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix)).is_some_and(one)
    };
    let streams = path == "/sse" || under("/u/", "/sse") || under("/mcp/", "/sse");
    path == "/mcp" || under("/mcp/", "") || under("/u/", "/mcp") || streams
}

fn describe(required: &Required, place: &Place<'_>) -> serde_json::Value {
    let mut document = json!({
        "resource": format!("{}{}", place.origin, place.path),
        "bearer_methods_supported": ["header"],
        "resource_name": "only1",
    });
    if let Some(issuer) = &required.issuer {
        document["authorization_servers"] = json!([issuer.jwt.issuer]);
        let scopes = issuer.scopes();
        if !scopes.is_empty() {
            document["scopes_supported"] = json!(scopes);
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_route_has_no_metadata_and_both_halves_of_a_stream_are_one_place() {
        for path in ["/mcp", "/mcp/coding", "/u/a/mcp", "/sse", "/u/a/sse", "/mcp/coding/sse"] {
            assert!(is_route(path), "{path}");
        }
        for path in ["/", "/mcp/", "/mcp/a/b", "/u/mcp", "/u//mcp", "/u/a/b/mcp", "/u/a", "/admin"] {
            assert!(!is_route(path), "{path}");
        }
        let required = Required { resource: Some("https://x".into()), tokens: Vec::new(), issuer: None };
        let policy = Policy::Required(Box::new(required));
        let audience = |path| Place::new(&policy, || None, path).audiences()[0].clone();
        assert_eq!(audience("/u/a/message"), audience("/u/a/sse"));
        assert_eq!(audience("/mcp"), "https://x/mcp");
    }
}
