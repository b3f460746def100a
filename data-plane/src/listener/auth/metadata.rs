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
    path: &'a str,
}

impl<'a> Place<'a> {
    /// `host`: what the client asked for, which was checked.
    pub(in crate::listener) fn new(policy: &'a Policy, host: Option<&str>, path: &'a str) -> Self {
        let origin = match policy {
            Policy::Required(required) => match &required.resource {
                Some(resource) => Cow::Borrowed(resource.as_str()),
                None => Cow::Owned(format!("http://{}", host.unwrap_or_default())),
            },
            Policy::Loopback | Policy::Open => Cow::Borrowed(""),
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
pub(in crate::listener) fn document(
    policy: &Policy,
    host: Option<&str>,
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
    path == "/mcp" || path == "/sse" || under("/mcp/", "") || under("/u/", "/mcp") || under("/u/", "/sse")
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
