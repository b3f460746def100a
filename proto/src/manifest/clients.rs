//! `clients`: what clients may do, on every route.

use super::{
    auth, keys, path,
    reader::Field,
    rules::{self, Rule},
};
use crate::model::{Auth, Catalogue, Clients, FailoverMetadata};
use http::uri::{Authority, Scheme};
use std::time::Duration;

const SMALLEST_BODY: u64 = 1 << 10;
const LARGEST_BODY: u64 = 1 << 30;
const LONGEST_WAIT: Duration = Duration::from_secs(30);

pub(super) fn read(field: Field<'_>, names: auth::Names<'_>) -> (Clients, Auth) {
    let default = Clients::default();
    let map = field.section(&keys::CLIENTS);
    let metadata = [
        ("always", FailoverMetadata::Always),
        ("during-failover", FailoverMetadata::DuringFailover),
        ("never", FailoverMetadata::Never),
    ];
    let texts = |name, rule, hint, normal: fn(&str) -> Result<String, &'static str>| match map.get(name) {
        Some(field) => field.list(hint).iter().filter_map(|item| text(item, rule, normal)).collect(),
        None => Vec::new(),
    };
    let auth = map.get("auth").map(|field| auth::read(field, names)).unwrap_or_default();
    let session_limit = |name, default| {
        map.get(name)
            .and_then(|field| field.duration(&rules::CLIENT_LIMIT, Duration::from_secs(1)))
            .unwrap_or(default)
    };
    let clients = Clients {
        origins: texts("origins", &rules::CLIENT_ORIGIN, "such as `[\"https://app.example\"]`", origin),
        hosts: texts("hosts", &rules::CLIENT_HOST, "such as `[mcp.example]`", host),
        max_body_bytes: map
            .get("max_body")
            .and_then(|field| max_body(&field))
            .unwrap_or(default.max_body_bytes),
        session_idle: session_limit("session_idle", default.session_idle),
        session_lifetime: session_limit("session_lifetime", default.session_lifetime),
        max_sessions: map
            .get("max_sessions")
            .and_then(|field| field.number(&rules::CLIENT_LIMIT, 1..=u32::MAX))
            .unwrap_or(default.max_sessions),
        catalogue: map.get("catalogue").map(catalogue).unwrap_or_default(),
        sse: map.get("sse").and_then(|field| field.switch()).unwrap_or(default.sse),
        failover_metadata: map
            .get("failover_metadata")
            .and_then(|field| field.word(&rules::CLIENT_METADATA, &metadata))
            .unwrap_or_default(),
    };
    (clients, auth)
}

fn catalogue(field: Field<'_>) -> Catalogue {
    let default = Catalogue::default();
    let map = field.section(&keys::CATALOGUE);
    let duration = |name, least| {
        map.get(name).and_then(|field: Field<'_>| field.duration(&rules::CATALOGUE_LIMIT, least))
    };
    let wait = duration("wait", Duration::ZERO).unwrap_or(default.wait);
    if let Some(field) = map.get("wait").filter(|_| wait > LONGEST_WAIT) {
        field.problem(&rules::CATALOGUE_LIMIT, "clients do not wait that long for a list", "at most 30s");
    }
    Catalogue {
        page: map
            .get("page")
            .and_then(|field| field.number(&rules::CATALOGUE_LIMIT, 1..=10_000))
            .unwrap_or(default.page),
        refresh: duration("refresh", Duration::from_secs(1)).unwrap_or(default.refresh),
        wait,
    }
}

fn text(
    item: &Field<'_>,
    rule: &'static Rule,
    normal: fn(&str) -> Result<String, &'static str>,
) -> Option<String> {
    let text = item.text()?;
    normal(text)
        .inspect_err(|hint| item.problem(rule, format!("{} is not valid here", path::quoted(text)), *hint))
        .ok()
}

/// As browsers send it: lowercase, without the scheme's own port.
fn origin(text: &str) -> Result<String, &'static str> {
    const FORM: &str = "`scheme://host`, `scheme://host:port` or `scheme://host:*`";
    let text = text.to_ascii_lowercase();
    let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || Scheme::try_from(scheme).is_err() {
        return Err(FORM);
    }
    if rest.ends_with('/') {
        return Err("an origin has no path: remove the `/`");
    }
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (rest, None),
    };
    if !is_host(name) {
        return Err(FORM);
    }
    match (scheme, port) {
        (_, None) | ("http", Some("80")) | ("https", Some("443")) => Ok(format!("{scheme}://{name}")),
        (_, Some("*")) => Ok(text),
        (_, Some(port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(text),
        _ => Err("the port is `*` or a number from 1 to 65535"),
    }
}

fn host(text: &str) -> Result<String, &'static str> {
    if text.contains("://") || text.contains('/') {
        return Err("the name alone, without scheme and path");
    }
    if !is_host(text) {
        return Err("a name or an address, without port; IPv6 in brackets");
    }
    Ok(text.to_ascii_lowercase())
}

/// A host name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(['*', '@', '%'])
        && Authority::try_from(text).is_ok_and(|authority| authority.host() == text)
}

fn max_body(field: &Field<'_>) -> Option<u64> {
    let size = field.size()?;
    if !(SMALLEST_BODY..=LARGEST_BODY).contains(&size) {
        let what = format!("{} is out of range", path::quoted(field.as_text().unwrap_or_default()));
        field.problem(&rules::CLIENT_LIMIT, what, "1KiB to 1GiB");
        return None;
    }
    Some(size)
}
