//! Where the `endpoint` event of a server sends us: relative or absolute, but never to another origin. Pure.

use crate::failure::{Failure, Kind};
use http::Uri;

/// The address in `event`, seen from `base`.
///
/// # Errors
/// It is none, or of another origin: credentials would go where the operator never sent them.
pub(super) fn resolve(base: &Uri, event: &str) -> Result<Uri, Failure> {
    let event = event.trim();
    let (Some(scheme), Some(authority)) = (base.scheme_str(), base.authority()) else {
        return Err(Failure::new(Kind::Internal, "the URL of an SSE upstream is not absolute"));
    };
    let absolute = if event.contains("://") {
        event.to_owned()
    } else if let Some(rest) = event.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if event.starts_with('/') {
        format!("{scheme}://{authority}{event}")
    } else if event.starts_with('?') {
        format!("{scheme}://{authority}{}{event}", base.path())
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{event}")
    };
    let no_address = || Failure::new(Kind::Protocol, "the upstream's `endpoint` event names no address");
    if event.is_empty() {
        return Err(no_address());
    }
    let found: Uri = absolute.parse().map_err(|_| no_address())?;
    if origin(&found) != origin(base) || found.authority().is_some_and(|one| one.as_str().contains('@')) {
        return Err(Failure::new(Kind::Protocol, "the upstream's `endpoint` event names another origin"));
    }
    Ok(found)
}

fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_and_absolute_addresses_are_resolved_and_other_origins_refused() {
        let base: Uri = "https://mcp.example/a/sse?x=1".parse().unwrap();
        for (event, expected) in [
            ("/message?sessionId=1", Some("https://mcp.example/message?sessionId=1")),
            ("message?sessionId=1", Some("https://mcp.example/a/message?sessionId=1")),
            ("?sessionId=1", Some("https://mcp.example/a/sse?sessionId=1")),
            (" https://MCP.example:443/m \n", Some("https://MCP.example:443/m")),
            ("//mcp.example/m", Some("https://mcp.example/m")),
            ("http://mcp.example/m", None),
            ("https://mcp.example:444/m", None),
            ("https://evil.example/m", None),
            ("//evil.example/m", None),
            ("https://mcp.example@evil.example/m", None),
            ("https://user@mcp.example/m", None),
            ("", None),
            ("https://", None),
        ] {
            let found = resolve(&base, event).ok().map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{event}");
        }
    }
}
