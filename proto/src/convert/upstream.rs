//! [`Upstream`] ↔ wire.

use super::{At, cache, duration, duration_or, failover, from_duration, spread};
use crate::{
    model::{
        Backup, Endpoint, EndpointKind, Identity, Processes, Reference, Timeouts, Tls, ToolTimeouts,
        Transport, UnreachableTools, Upstream,
    },
    wire::{self, RejectionReason},
};
use std::collections::BTreeMap;

pub(super) fn encode(upstream: &Upstream) -> wire::Upstream {
    wire::Upstream {
        name: upstream.name.clone(),
        prefix: upstream.prefix.clone().unwrap_or_default(),
        primary: upstream.primary.iter().map(encode_endpoint).collect(),
        backup: upstream.backup.as_ref().map(|backup| match backup {
            Backup::Snapshot => wire::Backup { endpoints: Vec::new(), snapshot: true },
            Backup::Endpoints(endpoints) => {
                wire::Backup { endpoints: endpoints.iter().map(encode_endpoint).collect(), snapshot: false }
            }
        }),
        headers: encode_references(&upstream.headers),
        timeouts: Some(wire::Timeouts {
            idle: Some(from_duration(upstream.timeouts.idle)),
            total: Some(from_duration(upstream.timeouts.total)),
            connect: Some(from_duration(upstream.timeouts.connect)),
            tools: upstream.timeouts.tools.iter().map(encode_tool_timeouts).collect(),
        }),
        unreachable_tools: match upstream.unreachable_tools {
            UnreachableTools::Keep => wire::UnreachableTools::Keep,
            UnreachableTools::Hide => wire::UnreachableTools::Hide,
        }
        .into(),
        resources: upstream.resources.clone(),
        tls: (upstream.tls != Tls::default()).then(|| encode_tls(&upstream.tls)),
        pool: upstream.pool_idle.map(|idle| wire::Pool { idle: Some(idle) }),
        cache: cache::encode_rules(&upstream.cache),
        balance: spread::encode_balance(&upstream.balance),
        outlier: spread::encode_outlier(&upstream.outlier),
        retry: spread::encode_retry(&upstream.retry),
        concurrency: spread::encode_concurrency(&upstream.concurrency),
        health: failover::encode_health(&upstream.health),
        breaker: failover::encode_breaker(upstream.breaker),
        failover: failover::encode(&upstream.failover),
    }
}

fn encode_tool_timeouts((name, timeouts): (&String, &ToolTimeouts)) -> (String, wire::ToolTimeouts) {
    let ToolTimeouts { idle, total } = timeouts;
    (name.clone(), wire::ToolTimeouts { idle: idle.map(from_duration), total: total.map(from_duration) })
}

fn encode_tls(tls: &Tls) -> wire::Tls {
    let (cert, key) =
        tls.identity.as_ref().map_or_else(Default::default, |one| (one.cert.clone(), one.key.clone()));
    wire::Tls { ca: tls.ca.clone().unwrap_or_default(), cert, key }
}

fn encode_endpoint(endpoint: &Endpoint) -> wire::Endpoint {
    let kind = match &endpoint.kind {
        EndpointKind::Http { url, transport } => wire::endpoint::Kind::Http(wire::HttpEndpoint {
            url: url.to_string(),
            transport: match transport {
                Transport::Http => wire::Transport::Http,
                Transport::Sse => wire::Transport::Sse,
            }
            .into(),
        }),
        EndpointKind::Stdio { command, env, processes, cwd, idle_stop } => {
            wire::endpoint::Kind::Stdio(wire::StdioEndpoint {
                command: command.clone(),
                env: encode_references(env),
                processes: match processes {
                    Processes::Shared => wire::Processes::Shared,
                    Processes::PerSession => wire::Processes::PerSession,
                }
                .into(),
                cwd: cwd.clone().unwrap_or_default(),
                idle_stop: idle_stop.map(from_duration),
            })
        }
    };
    wire::Endpoint { kind: Some(kind), weight: endpoint.weight }
}

/// Sorted, because prost writes a map in the order it iterates: the same upstream must give the same bytes.
fn encode_references(values: &BTreeMap<String, Reference>) -> BTreeMap<String, String> {
    values.iter().map(|(name, value)| (name.clone(), value.spelling())).collect()
}

pub(super) fn decode(at: &mut At<'_>, payload: &[u8]) -> Option<Upstream> {
    let wire: wire::Upstream = at.message(payload)?;
    if wire.name != at.key.name || wire.name.is_empty() {
        let what = format!("the upstream calls itself `{}`, its key says `{}`", wire.name, at.key.name);
        at.reject(RejectionReason::InvalidField, "name", what);
    }
    let primary = decode_endpoints(at, "primary", &wire.primary);
    if primary.is_empty() {
        at.reject(RejectionReason::InvalidField, "primary", "an upstream needs at least one endpoint");
    }
    let backup = wire.backup.as_ref().map(|backup| {
        if backup.snapshot {
            return Backup::Snapshot;
        }
        let endpoints = decode_endpoints(at, "backup", &backup.endpoints);
        if endpoints.is_empty() {
            at.reject(
                RejectionReason::InvalidField,
                "backup",
                "a backup is a snapshot or at least one endpoint",
            );
        }
        Backup::Endpoints(endpoints)
    });
    let default = Timeouts::default();
    let timeouts = wire.timeouts.unwrap_or_default();
    let tls = decode_tls(at, wire.tls.unwrap_or_default());
    Some(Upstream {
        prefix: Some(wire.prefix).filter(|prefix| !prefix.is_empty()),
        name: wire.name,
        primary,
        backup,
        headers: decode_references(&wire.headers),
        timeouts: Timeouts {
            idle: duration_or(timeouts.idle.as_ref(), default.idle),
            total: duration_or(timeouts.total.as_ref(), default.total),
            connect: duration_or(timeouts.connect.as_ref(), default.connect),
            tools: timeouts.tools.iter().map(decode_tool_timeouts).collect(),
        },
        unreachable_tools: match wire::UnreachableTools::try_from(wire.unreachable_tools) {
            Ok(wire::UnreachableTools::Hide) => UnreachableTools::Hide,
            _ => UnreachableTools::Keep,
        },
        resources: wire.resources,
        tls,
        pool_idle: wire.pool.and_then(|pool| pool.idle),
        cache: cache::decode_rules(at, wire.cache),
        balance: spread::decode_balance(at, wire.balance),
        outlier: spread::decode_outlier(at, wire.outlier),
        retry: spread::decode_retry(at, wire.retry),
        concurrency: spread::decode_concurrency(at, wire.concurrency),
        health: failover::decode_health(at, wire.health),
        breaker: failover::decode_breaker(at, wire.breaker),
        failover: failover::decode(at, wire.failover),
    })
}

fn decode_tool_timeouts((name, wire): (&String, &wire::ToolTimeouts)) -> (String, ToolTimeouts) {
    let read = |value: &Option<_>| duration(value.as_ref());
    (name.clone(), ToolTimeouts { idle: read(&wire.idle), total: read(&wire.total) })
}

fn decode_tls(at: &mut At<'_>, wire: wire::Tls) -> Tls {
    if wire.cert.is_empty() != wire.key.is_empty() {
        at.reject(RejectionReason::InvalidField, "tls", "a certificate comes with its key");
    }
    let identity = (!wire.cert.is_empty()).then_some(Identity { cert: wire.cert, key: wire.key });
    Tls { ca: Some(wire.ca).filter(|path| !path.is_empty()), identity }
}

fn decode_endpoints(at: &mut At<'_>, store: &str, wire: &[wire::Endpoint]) -> Vec<Endpoint> {
    let mut endpoints = Vec::with_capacity(wire.len());
    for (index, endpoint) in wire.iter().enumerate() {
        let field = format!("{store}[{index}]");
        let kind = match &endpoint.kind {
            Some(wire::endpoint::Kind::Http(http)) => decode_url(at, &field, http),
            Some(wire::endpoint::Kind::Stdio(stdio)) if stdio.command.is_empty() => {
                at.reject(RejectionReason::InvalidField, &format!("{field}.command"), "the command is empty");
                None
            }
            Some(wire::endpoint::Kind::Stdio(stdio)) => Some(EndpointKind::Stdio {
                command: stdio.command.clone(),
                env: decode_references(&stdio.env),
                processes: match wire::Processes::try_from(stdio.processes) {
                    Ok(wire::Processes::PerSession) => Processes::PerSession,
                    _ => Processes::Shared,
                },
                cwd: Some(stdio.cwd.clone()).filter(|cwd| !cwd.is_empty()),
                idle_stop: duration(stdio.idle_stop.as_ref()),
            }),
            None => {
                at.reject(
                    RejectionReason::InvalidField,
                    &field,
                    "neither a URL nor a command this build knows",
                );
                None
            }
        };
        endpoints.extend(kind.map(|kind| Endpoint { kind, weight: endpoint.weight.max(1) }));
    }
    endpoints
}

fn decode_url(at: &mut At<'_>, field: &str, http: &wire::HttpEndpoint) -> Option<EndpointKind> {
    let transport = match wire::Transport::try_from(http.transport) {
        Ok(wire::Transport::Sse) => Transport::Sse,
        Ok(wire::Transport::Unspecified | wire::Transport::Http) => Transport::Http,
        Err(_) => {
            let what = "a transport that this build does not know";
            at.reject(RejectionReason::InvalidField, &format!("{field}.transport"), what);
            return None;
        }
    };
    let url = &http.url;
    match url.parse::<http::Uri>() {
        Ok(url) if matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some() => {
            Some(EndpointKind::Http { url, transport })
        }
        _ => {
            let what = format!("`{url}` is not an absolute http or https URL");
            at.reject(RejectionReason::InvalidField, &format!("{field}.url"), what);
            None
        }
    }
}

fn decode_references(wire: &BTreeMap<String, String>) -> BTreeMap<String, Reference> {
    wire.iter().map(|(name, value)| (name.clone(), Reference::parse(value))).collect()
}
