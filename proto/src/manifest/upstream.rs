//! `upstreams`: one logical MCP server each.

use super::{
    balance, cache, connections,
    endpoint::{self, Placed},
    failover, health, keys, names, path,
    reader::{Field, Reader},
    rules, spread, values,
};
use crate::model::{Backup, EndpointKind, Timeouts, Tls, ToolTimeouts, UnreachableTools, Upstream};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// All of them, in the order of their names.
pub(super) fn read(field: &Field<'_>) -> Vec<Upstream> {
    let (mut prefixes, mut hints) = (HashMap::new(), HashMap::new());
    let mut upstreams: Vec<_> = field
        .names("such as `weather: {primary: [{url: …}]}`")
        .into_iter()
        .map(|(name, field)| one(name, field, &mut prefixes, &mut hints))
        .collect();
    upstreams.sort_by(|a, b| a.name.cmp(&b.name));
    upstreams
}

fn one(
    name: &str,
    field: Field<'_>,
    prefixes: &mut HashMap<String, String>,
    hints: &mut HashMap<String, String>,
) -> Upstream {
    if let Some(fault) = names::fault(name) {
        field.problem_at_key(&rules::UPSTREAM_NAME, fault, names::HINT);
    }
    let map = field.section(&keys::UPSTREAM);
    let primary = map.required("primary").map(|field| primary(&field)).unwrap_or_default();
    let backup = map.get("backup").map(|field| backup(&field, &primary));
    let (health, breaker) = health::read(&map);
    let failover = failover::read(&map, backup.as_ref());
    let concurrency = map.get("concurrency").map(spread::concurrency).unwrap_or_default();
    let pool = map.get("pool").map(|field| field.section(&keys::POOL));
    let upstream = Upstream {
        name: name.to_owned(),
        prefix: prefix(&map, name),
        primary: primary.into_iter().map(|placed| placed.endpoint).collect(),
        backup,
        headers: map.get("headers").map(|field| values::headers(&field)).unwrap_or_default(),
        timeouts: map.get("timeouts").map(timeouts).unwrap_or_default(),
        unreachable_tools: map
            .get("unreachable_tools")
            .and_then(|field| field.word(&rules::UNREACHABLE_TOOLS, UNREACHABLE_TOOLS))
            .unwrap_or_default(),
        resources: map.get("resources").map(|field| resources(&field, name, hints)).unwrap_or_default(),
        tls: map.get("tls").map(|field| connections::tls(&field.section(&keys::TLS))).unwrap_or_default(),
        pool_idle: pool.and_then(|map| connections::pool(&map, concurrency.max)),
        cache: cache::read_rules(&map),
        balance: map.get("balance").and_then(balance::read).unwrap_or_default(),
        outlier: map.get("outlier").map(spread::outlier).unwrap_or_default(),
        retry: map.get("retry").map(spread::retry).unwrap_or_default(),
        concurrency,
        health,
        breaker,
        failover,
    };
    unused(&map, &upstream);
    prefix_clash(&map, &upstream, prefixes);
    upstream
}

const UNREACHABLE_TOOLS: &[(&str, UnreachableTools)] =
    &[("keep", UnreachableTools::Keep), ("hide", UnreachableTools::Hide)];

/// URI prefixes; `hints` has those of the upstreams before.
fn resources(field: &Field<'_>, name: &str, hints: &mut HashMap<String, String>) -> Vec<String> {
    let mut prefixes = Vec::new();
    for item in field.list("such as `[\"file:///srv/\"]`") {
        let Some(text) = item.text() else { continue };
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(allowed) {
            let what = format!("{} does not begin with a scheme", path::quoted(text));
            item.problem(&rules::RESOURCE_PREFIX, what, "such as `file:///srv/` or `github:`");
        } else if let Some(other) = hints.insert(text.to_owned(), name.to_owned()) {
            let what = format!("{} belongs to `{other}` already", path::quoted(text));
            item.problem(&rules::RESOURCE_PREFIX, what, "leave it with one of them");
        }
        prefixes.push(text.to_owned());
    }
    prefixes
}

fn primary<'a>(field: &Field<'a>) -> Vec<Placed<'a>> {
    let endpoints = endpoint::read_store(field);
    if field.is_empty_list() {
        field.problem(&rules::STORE_EMPTY, "the primary has no endpoint", "list a `url` or a `command`");
    }
    endpoints
}

fn backup(field: &Field<'_>, primary: &[Placed<'_>]) -> Backup {
    if let Some(word) = field.as_text() {
        if word != "snapshot" {
            let hint = "write `snapshot`, or a list of endpoints";
            field.problem(&rules::BACKUP_STORE, "a backup is a list of endpoints or `snapshot`", hint);
        }
        return Backup::Snapshot;
    }
    let endpoints = endpoint::read_store(field);
    if field.is_empty_list() {
        let hint = "list an endpoint, write `snapshot`, or remove the key";
        field.problem(&rules::BACKUP_STORE, "the backup has no endpoint", hint);
    }
    for placed in &endpoints {
        if let Some(same) = primary.iter().find(|other| endpoint::is_same(&other.endpoint, &placed.endpoint))
        {
            let what = format!("the same server is `{}` already", same.field.path);
            let hint = "a backup helps when it can live while the primary is dead";
            placed.field.problem(&rules::BACKUP_IS_PRIMARY, what, hint);
        }
    }
    Backup::Endpoints(endpoints.into_iter().map(|placed| placed.endpoint).collect())
}

/// Headers go with requests and certificates with `https`; a child process gets neither.
fn unused(map: &Reader<'_>, upstream: &Upstream) {
    let backup = match &upstream.backup {
        Some(Backup::Endpoints(endpoints)) => endpoints.as_slice(),
        _ => &[],
    };
    let endpoints: Vec<_> = upstream.primary.iter().chain(backup).map(|one| &one.kind).collect();
    let only_commands =
        !endpoints.is_empty() && endpoints.iter().all(|kind| matches!(kind, EndpointKind::Stdio { .. }));
    if let Some(field) = map.get("headers").filter(|_| only_commands && !upstream.headers.is_empty()) {
        let what = "headers are for URLs, and this upstream has only commands";
        let hint = "`env` of an endpoint hands values to a process";
        field.report.warning(&rules::HEADERS_UNUSED, field.key, &field.path, what, hint);
    }
    let https = |kind: &&EndpointKind| matches!(kind, EndpointKind::Http { url, .. } if url.scheme_str() == Some("https"));
    if let Some(field) = map.get("tls").filter(|_| upstream.tls != Tls::default())
        && !endpoints.is_empty()
        && !endpoints.iter().any(https)
    {
        let what = "certificates are for `https` URLs, and this upstream has none";
        field.report.warning(&rules::TLS_UNUSED, field.key, &field.path, what, "write `https://…`");
    }
}

/// `None`: names stay as they are.
fn prefix(map: &Reader<'_>, name: &str) -> Option<String> {
    let Some(field) = map.get("prefix") else { return Some(name.to_owned()) };
    let prefix = field.text()?;
    if prefix == "none" {
        return None;
    }
    if let Some(fault) = names::fault(prefix) {
        field.problem(&rules::UPSTREAM_PREFIX, fault, "spelled as an upstream's name, or `none`");
    }
    Some(prefix.to_owned())
}

fn prefix_clash(map: &Reader<'_>, upstream: &Upstream, prefixes: &mut HashMap<String, String>) {
    let Some(prefix) = &upstream.prefix else { return };
    let place = map.get("prefix").unwrap_or_else(|| map.field.clone());
    if let Some(other) = prefixes.get(prefix) {
        let what = format!("the prefix `{prefix}` is also that of `{other}`");
        place.problem_at_key(&rules::PREFIX_CLASH, what, "give one of them another `prefix`");
    } else {
        prefixes.insert(prefix.clone(), upstream.name.clone());
    }
}

fn timeouts(field: Field<'_>) -> Timeouts {
    let default = Timeouts::default();
    let map = field.section(&keys::TIMEOUTS);
    let (idle, total) = silence_and_total(&map);
    Timeouts {
        idle: idle.unwrap_or(default.idle),
        total: total.unwrap_or(default.total),
        connect: time(&map, "connect").unwrap_or(default.connect),
        tools: map.get("tools").map(|field| tool_timeouts(&field)).unwrap_or_default(),
    }
}

fn time(map: &Reader<'_>, name: &str) -> Option<Duration> {
    map.get(name)?.duration(&rules::TIMEOUT_RANGE, Duration::from_millis(1))
}

fn silence_and_total(map: &Reader<'_>) -> (Option<Duration>, Option<Duration>) {
    let (idle, total) = (time(map, "idle"), time(map, "total"));
    if let (Some(silence), Some(longest), Some(field)) = (idle, total, map.get("idle"))
        && silence > longest
    {
        field.problem(&rules::TIMEOUT_RANGE, "`idle` is longer than `total`", "a call never gets that far");
    }
    (idle, total)
}

fn tool_timeouts(field: &Field<'_>) -> BTreeMap<String, ToolTimeouts> {
    let mut tools = BTreeMap::new();
    for (name, field) in field.names("such as `{render: {total: 30m}}`") {
        let place = field.clone();
        let (idle, total) = silence_and_total(&field.section(&keys::TOOL_TIMEOUTS));
        if name.is_empty() || (idle.is_none() && total.is_none() && place.keys().is_empty()) {
            let what = if name.is_empty() { "the tool has no name" } else { "neither `idle` nor `total`" };
            place.problem_at_key(&rules::TIMEOUT_TOOL, what, "such as `render: {total: 30m}`");
        }
        tools.insert(name.to_owned(), ToolTimeouts { idle, total });
    }
    tools
}
