//! [`Auth`] ↔ wire.

use super::{At, duration_or, from_duration};
use crate::{
    model::{Algorithm, Auth, ClaimRule, Grant, Jwt, KeySource, Required, StaticToken, TokenHash},
    wire::{self, RejectionReason, static_token::Hash},
};

/// `None`: what holds without a word.
pub(super) fn encode(auth: &Auth) -> Option<wire::Auth> {
    match auth {
        Auth::Loopback => None,
        Auth::Open => Some(wire::Auth { open: true, ..wire::Auth::default() }),
        Auth::Required(required) => Some(wire::Auth {
            open: false,
            resource: required.resource.clone().unwrap_or_default(),
            tokens: required.tokens.iter().map(encode_token).collect(),
            jwt: required.jwt.as_ref().map(encode_jwt),
        }),
    }
}

fn encode_token(token: &StaticToken) -> wire::StaticToken {
    let hash = match token.hash {
        TokenHash::Blake3(hash) => Hash::Blake3(hash.to_vec()),
        TokenHash::Sha256(hash) => Hash::Sha256(hash.to_vec()),
    };
    wire::StaticToken { name: token.name.clone(), hash: Some(hash), grant: Some(encode_grant(&token.grant)) }
}

fn encode_jwt(jwt: &Jwt) -> wire::Jwt {
    wire::Jwt {
        issuer: jwt.issuer.clone(),
        audience: jwt.audience.clone(),
        jwks: match &jwt.jwks {
            KeySource::File(path) => format!("file:{path}"),
            KeySource::Url(url) => url.to_string(),
        },
        algorithms: jwt.algorithms.iter().map(|one| one.name().to_owned()).collect(),
        clock_skew: Some(from_duration(jwt.clock_skew)),
        rules: jwt.rules.iter().map(encode_rule).collect(),
    }
}

fn encode_rule(rule: &ClaimRule) -> wire::ClaimRule {
    wire::ClaimRule {
        claim: rule.claim.clone(),
        values: rule.values.clone(),
        grant: Some(encode_grant(&rule.grant)),
    }
}

fn encode_grant(grant: &Grant) -> wire::Grant {
    wire::Grant {
        servers: grant.servers.clone(),
        upstreams: grant.upstreams.clone(),
        allow: grant.allow.clone(),
        deny: grant.deny.clone(),
    }
}

pub(super) fn decode(at: &mut At<'_>, payload: &[u8]) -> Option<Auth> {
    let wire: wire::Auth = at.message(payload)?;
    if wire.open {
        return Some(Auth::Open);
    }
    let tokens = wire.tokens.into_iter().enumerate().filter_map(|(index, token)| {
        let field = format!("tokens[{index}]");
        decode_token(at, &field, token)
    });
    let tokens: Vec<_> = tokens.collect();
    let jwt = wire.jwt.and_then(|jwt| decode_jwt(at, jwt));
    if tokens.is_empty() && jwt.is_none() {
        at.reject(RejectionReason::InvalidField, "", "no token that this build knows would be let in");
        return None;
    }
    let resource = Some(wire.resource).filter(|resource| !resource.is_empty());
    Some(Auth::Required(Box::new(Required { resource, tokens, jwt })))
}

fn decode_token(at: &mut At<'_>, field: &str, wire: wire::StaticToken) -> Option<StaticToken> {
    let hash = match wire.hash {
        Some(Hash::Blake3(hash)) => hash.try_into().ok().map(TokenHash::Blake3),
        Some(Hash::Sha256(hash)) => hash.try_into().ok().map(TokenHash::Sha256),
        None => None,
    };
    if hash.is_none() {
        let what = "the token has no hash of 32 bytes that this build knows";
        at.reject(RejectionReason::InvalidField, field, what);
    }
    Some(StaticToken { name: wire.name, hash: hash?, grant: decode_grant(wire.grant) })
}

fn decode_jwt(at: &mut At<'_>, wire: wire::Jwt) -> Option<Jwt> {
    let jwks = match wire.jwks.strip_prefix("file:") {
        Some(path) => Some(KeySource::File(path.to_owned())),
        None => wire.jwks.parse::<http::Uri>().ok().filter(|url| url.host().is_some()).map(KeySource::Url),
    };
    if jwks.is_none() {
        let what = "neither a file nor a URL with the issuer's keys";
        at.reject(RejectionReason::InvalidField, "jwt.jwks", what);
    }
    if wire.issuer.is_empty() {
        at.reject(RejectionReason::InvalidField, "jwt.issuer", "the issuer is empty");
    }
    let known = |name: &String| Algorithm::ALL.iter().find(|(known, _)| known == name).map(|(_, one)| *one);
    let algorithms: Vec<_> = wire.algorithms.iter().filter_map(known).collect();
    if algorithms.is_empty() {
        let what = "no signature algorithm that this build knows";
        at.reject(RejectionReason::InvalidField, "jwt.algorithms", what);
    }
    let rules = wire.rules.into_iter().map(|rule| ClaimRule {
        claim: rule.claim,
        values: rule.values,
        grant: decode_grant(rule.grant),
    });
    Some(Jwt {
        issuer: wire.issuer,
        audience: wire.audience,
        jwks: jwks?,
        algorithms,
        clock_skew: duration_or(wire.clock_skew.as_ref(), std::time::Duration::ZERO),
        rules: rules.collect(),
    })
}

fn decode_grant(wire: Option<wire::Grant>) -> Grant {
    wire.map_or_else(Grant::default, |grant| Grant {
        servers: grant.servers,
        upstreams: grant.upstreams,
        allow: grant.allow,
        deny: grant.deny,
    })
}
