//! Who may talk to this listener at all: `Host` and `Origin`, against DNS rebinding and foreign web pages
//! (Streamable HTTP, "security warning"). Pure.

use o1_proto::model::Clients;
use std::net::{IpAddr, SocketAddr};

/// True when the `Host` (or `:authority`) names this gateway: a loopback name, the address it is bound to, or
/// a configured host.
pub(super) fn host_allowed(host: &str, bound: SocketAddr, clients: &Clients) -> bool {
    let Some((name, _port)) = split(host) else { return false };
    is_localhost(name)
        || address(name).is_some_and(|address| address.is_loopback() || address == bound.ip())
        || clients.hosts.iter().any(|allowed| match split(allowed) {
            Some((allowed, "")) => allowed.eq_ignore_ascii_case(name),
            _ => allowed.eq_ignore_ascii_case(host),
        })
}

/// True when a page of this origin may use the gateway: a page on a loopback name, or a configured one.
pub(super) fn origin_allowed(origin: &str, clients: &Clients) -> bool {
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    let Some((name, port)) = split(rest) else { return false };
    if matches!(scheme, "http" | "https") && is_loopback(name) {
        return true;
    }
    clients.origins.iter().any(|allowed| {
        let Some((allowed_scheme, allowed_rest)) = allowed.split_once("://") else { return false };
        let Some((allowed_name, allowed_port)) = split(allowed_rest) else { return false };
        allowed_scheme.eq_ignore_ascii_case(scheme)
            && allowed_name.eq_ignore_ascii_case(name)
            && (allowed_port == "*" || allowed_port == port)
    })
}

fn is_loopback(name: &str) -> bool {
    is_localhost(name) || address(name).is_some_and(|address| address.is_loopback())
}

fn is_localhost(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
}

fn address(name: &str) -> Option<IpAddr> {
    name.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// `name:port`, `[::1]:port`, or either without a port. `None`: neither.
fn split(authority: &str) -> Option<(&str, &str)> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (_, port) = rest.split_once(']')?;
            let name = authority.get(..authority.len() - port.len())?;
            (name, if port.is_empty() { "" } else { port.strip_prefix(':')? })
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let valid_port = port.is_empty() || port == "*" || port.bytes().all(|byte| byte.is_ascii_digit());
    (!name.is_empty() && valid_port && !name.contains(['/', '@', ' '])).then_some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients() -> Clients {
        Clients {
            origins: vec!["https://app.example".into(), "http://dev.example:*".into()],
            hosts: vec!["gateway.example".into(), "other.example:8443".into()],
            ..Clients::default()
        }
    }

    #[test]
    fn hosts_that_are_not_ours_are_refused() {
        let bound = "192.0.2.7:8080".parse().unwrap();
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:8080",
            "[::1]:8080",
            "192.0.2.7:8080",
            "gateway.example:99",
            "other.example:8443",
        ] {
            assert!(host_allowed(host, bound, &clients()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "192.0.2.8",
            "other.example",
            "",
            "127.0.0.1.evil:1",
            "a@localhost",
            "[::1",
        ] {
            assert!(!host_allowed(host, bound, &clients()), "{host}");
        }
    }

    #[test]
    fn origins_that_are_not_ours_are_refused() {
        for origin in [
            "http://localhost:6274",
            "https://127.0.0.1",
            "http://[::1]:1",
            "https://app.example",
            "http://dev.example:5173",
        ] {
            assert!(origin_allowed(origin, &clients()), "{origin}");
        }
        for origin in [
            "null",
            "http://app.example",
            "https://app.example:444",
            "https://app.example.evil",
            "http://evil.example",
            "file://localhost",
            "",
        ] {
            assert!(!origin_allowed(origin, &clients()), "{origin}");
        }
    }
}
