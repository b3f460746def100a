//! `clients.auth`: who may use the gateway. No message quotes a hash: it may be the token itself, in the wrong
//! place.

use super::{keys, path, reader::Field, reader::Reader, rules, suggest};
use crate::model::{
    Algorithm, Auth, ClaimRule, Grant, Jwt, KeySource, Reference, Required, StaticToken, TokenHash,
};
use http::{Uri, uri::Authority};
use std::{collections::HashSet, net::IpAddr, time::Duration};

const HASH: &str = "`o1ctl token new` makes a token and writes this line";

/// The names that a document defines.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub servers: &'a [&'a str],
    pub upstreams: &'a [&'a str],
}

pub(super) fn read(field: Field<'_>, names: Names<'_>) -> Auth {
    if field.as_text() == Some("none") {
        return Auth::Open;
    }
    let place = field.clone();
    let map = field.section(&keys::AUTH);
    let resource = map.get("resource").and_then(|field| resource(&field));
    let tokens = map.get("tokens").map(|field| tokens(&field, names)).unwrap_or_default();
    let jwt = map.get("jwt").map(|field| jwt(field, names, map.get("resource").is_some()));
    if map.get("tokens").is_none_or(|field| field.is_empty_list()) && map.get("jwt").is_none() {
        let hint = "list `tokens`, describe a `jwt` issuer, or write `auth: none` to let in everybody";
        place.problem(&rules::CLIENT_AUTH, "nobody could show a token that counts", hint);
    }
    Auth::Required(Box::new(Required { resource, tokens, jwt: jwt.flatten() }))
}

/// `https://mcp.example`, lowercase, without a slash at its end.
fn resource(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let lowercase = text.to_ascii_lowercase();
    let origin = lowercase.strip_suffix('/').unwrap_or(&lowercase);
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let valid = |host: &str| {
        !host.contains(['@', '*', '/']) && Authority::try_from(host).is_ok_and(|one| !one.host().is_empty())
    };
    if host.is_some_and(valid) {
        return Some(origin.to_owned());
    }
    let what = format!("{} is not valid here", path::quoted(text));
    field.problem(&rules::CLIENT_RESOURCE, what, "such as `https://mcp.example`, without a path");
    None
}

fn tokens(field: &Field<'_>, names: Names<'_>) -> Vec<StaticToken> {
    let (mut seen, mut hashes) = (HashSet::new(), HashSet::new());
    let mut tokens = Vec::new();
    for item in field.list("such as `[{name: ci, blake3: …}]`") {
        let map = item.section(&keys::TOKEN);
        let name = map.required("name").and_then(|field| token_name(&field, &mut seen));
        let hash = hash(&map);
        if let Some(TokenHash::Blake3(bytes) | TokenHash::Sha256(bytes)) = hash
            && !hashes.insert(bytes)
        {
            let what = "two tokens have one hash: whose it is could not be told";
            map.field.problem(&rules::CLIENT_TOKEN, what, "make another with `o1ctl token new`");
        }
        let grant = grant(&map, names);
        if let (Some(name), Some(hash)) = (name, hash) {
            tokens.push(StaticToken { name, hash, grant });
        }
    }
    tokens
}

fn token_name<'a>(field: &Field<'a>, seen: &mut HashSet<&'a str>) -> Option<String> {
    let name = field.text()?;
    if let Some(fault) = super::names::fault(name) {
        field.problem(&rules::CLIENT_TOKEN, fault, super::names::HINT);
    } else if !seen.insert(name) {
        let what = format!("two tokens are named `{name}`");
        field.problem(&rules::CLIENT_TOKEN, what, "a name says whose a token is: choose another");
    }
    Some(name.to_owned())
}

fn hash(map: &Reader<'_>) -> Option<TokenHash> {
    let (kind, field): (fn([u8; 32]) -> TokenHash, _) = match (map.get("blake3"), map.get("sha256")) {
        (Some(field), None) => (TokenHash::Blake3, field),
        (None, Some(field)) => (TokenHash::Sha256, field),
        (blake3, _) => {
            let what = if blake3.is_some() { "a token has one hash" } else { "the token has no hash" };
            if !map.is_wrong() {
                map.field.problem(&rules::CLIENT_TOKEN, what, HASH);
            }
            // Their types are still worth a word.
            for field in [map.get("blake3"), map.get("sha256")].into_iter().flatten() {
                let _ = field.text();
            }
            return None;
        }
    };
    let Some(bytes) = hexadecimal(field.text()?) else {
        field.problem(&rules::CLIENT_TOKEN, "not a hash, which has 64 hexadecimal digits", HASH);
        return None;
    };
    Some(kind(bytes))
}

fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn jwt(field: Field<'_>, names: Names<'_>, resource: bool) -> Option<Jwt> {
    let map = field.section(&keys::JWT);
    let issuer = map.required("issuer").and_then(|field| said(&field));
    let jwks = map.required("jwks").and_then(|field| key_source(&field));
    let audience = map.get("audience").map(|field| texts(&field, "such as `[https://mcp.example/mcp]`"));
    if audience.as_ref().is_none_or(Vec::is_empty) && !resource && !map.is_wrong() {
        let what = "nothing says for whom a token must be made";
        let hint = "set `audience`, or `clients.auth.resource` to the URL that clients use";
        map.field.problem_at_key(&rules::CLIENT_JWT, what, hint);
    }
    let algorithms = match map.get("algorithms") {
        Some(field) => algorithms(&field),
        None => Algorithm::USUAL.to_vec(),
    };
    let clock_skew = map
        .get("clock_skew")
        .and_then(|field| field.duration(&rules::CLIENT_JWT, Duration::ZERO))
        .unwrap_or(Jwt::CLOCK_SKEW);
    let rules = map.get("rules").map(|field| claim_rules(&field, names)).unwrap_or_default();
    Some(Jwt {
        issuer: issuer?,
        audience: audience.unwrap_or_default(),
        jwks: jwks?,
        algorithms,
        clock_skew,
        rules,
    })
}

fn key_source(field: &Field<'_>) -> Option<KeySource> {
    const HINT: &str = "`file:PATH`, `https://…`, or `http://` on a loopback address";
    let text = field.text()?;
    if let Reference::File(path) = Reference::parse(text) {
        if path.is_empty() || path.contains('\0') {
            field.problem(
                &rules::CLIENT_JWT,
                "`file:` is not followed by a path",
                "such as `file:/etc/jwks.json`",
            );
            return None;
        }
        return Some(KeySource::File(path));
    }
    let url = text.parse::<Uri>().ok().filter(|_| !text.contains(['@', '#']));
    let fits = |url: &Uri| match (url.scheme_str(), url.host()) {
        (Some("https"), Some(host)) => !host.is_empty(),
        // Whoever answers for the keys lets in whom they like.
        (Some("http"), Some(host)) => is_loopback(host),
        _ => false,
    };
    let url = url.filter(fits);
    if url.is_none() {
        let what = if text.contains('@') {
            "not a place for keys".to_owned()
        } else {
            format!("{} is not a place for keys", path::quoted(text))
        };
        field.problem(&rules::CLIENT_JWT, what, HINT);
    }
    url.map(KeySource::Url)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn algorithms(field: &Field<'_>) -> Vec<Algorithm> {
    let items = field.list("such as `[RS256]`");
    if items.is_empty() && field.is_empty_list() {
        field.problem(&rules::CLIENT_JWT, "no signature would count", "list at least one, such as `RS256`");
    }
    items.iter().filter_map(|item| item.word(&rules::CLIENT_JWT, &Algorithm::ALL)).collect()
}

fn claim_rules(field: &Field<'_>, names: Names<'_>) -> Vec<ClaimRule> {
    let mut rules = Vec::new();
    for item in field.list("such as `[{claim: scope, values: [\"mcp:read\"]}]`") {
        let map = item.section(&keys::CLAIM_RULE);
        let claim = map.required("claim").and_then(|field| said(&field));
        let values = map.required("values");
        if let Some(field) = values.as_ref().filter(|field| field.is_empty_list()) {
            field.problem(&rules::CLIENT_ACCESS, "a rule without values fits nobody", "list at least one");
        }
        let values = values.map(|field| texts(&field, "such as `[\"mcp:read\"]`")).unwrap_or_default();
        let grant = grant(&map, names);
        rules.extend(claim.map(|claim| ClaimRule { claim, values, grant }));
    }
    rules
}

/// `servers`, `upstreams` and `tools` of whoever `map` is about.
fn grant(map: &Reader<'_>, names: Names<'_>) -> Grant {
    let default = Grant::default();
    let tools = map.get("tools").map(|field| field.section(&keys::GRANT_TOOLS));
    let list = |field: Option<Field<'_>>, default| field.map_or(default, |field| patterns(&field, None));
    Grant {
        servers: map
            .get("servers")
            .map_or(default.servers, |field| patterns(&field, Some(("server", names.servers)))),
        upstreams: map
            .get("upstreams")
            .map_or(default.upstreams, |field| patterns(&field, Some(("upstream", names.upstreams)))),
        allow: list(tools.as_ref().and_then(|tools| tools.get("allow")), default.allow),
        deny: list(tools.as_ref().and_then(|tools| tools.get("deny")), default.deny),
    }
}

/// `known`: what the patterns are about, and which names exist.
fn patterns(field: &Field<'_>, known: Option<(&str, &[&str])>) -> Vec<String> {
    let mut patterns = Vec::new();
    for item in field.list("patterns, such as `[\"read_*\"]`") {
        let Some(text) = item.text() else { continue };
        match known {
            _ if text.is_empty() => {
                item.problem(&rules::CLIENT_ACCESS, "the pattern is empty", "`*` stands for everything");
            }
            Some((noun, names)) if !text.contains('*') && !names.contains(&text) => {
                let what = format!("there is no {noun} {}", path::quoted(text));
                let hint = match names {
                    [] => format!("the document defines no {noun}"),
                    names => suggest::word(text, names.iter().copied()),
                };
                item.problem(&rules::CLIENT_ACCESS, what, hint);
            }
            _ => patterns.push(text.to_owned()),
        }
    }
    patterns
}

fn texts(field: &Field<'_>, hint: &str) -> Vec<String> {
    field.list(hint).iter().filter_map(said).collect()
}

/// Text that is not empty.
fn said(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    if text.is_empty() {
        field.problem(&rules::CLIENT_JWT, "the text is empty", "");
        return None;
    }
    Some(text.to_owned())
}
