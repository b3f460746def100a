//! WHO ASKS: the principal of a request, from its `Authorization` header, or the challenge that it gets instead
//! (2026-07-28, authorization; RFC 6750, RFC 9728).
//!
//! Knows tokens, never what they are for. It must never log one, nor put one, or a part of one, into an answer.

mod challenge;
mod jwt;
mod keys;
mod metadata;
mod signature;
mod stay;

pub(super) use challenge::refusal;
pub(super) use metadata::{Place, document};
pub(super) use stay::{Stay, shown};

use crate::{
    plan::Plan,
    principal::{Policy, Principal, Required},
};
use blake3::Hash;
use http::{HeaderMap, header};
use keys::Keys;
use o1_proto::model::TokenHash;
use ring::digest;
use std::sync::Arc;

/// Finds out who asks. Holds the keys of the issuer.
#[derive(Default)]
pub(super) struct Authentication {
    keys: Keys,
    anonymous: Anonymous,
}

/// Made once, because every request of an open gateway has it.
struct Anonymous(Arc<Principal>);

impl Default for Anonymous {
    fn default() -> Self {
        Self(Principal::anonymous())
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) principal: Arc<Principal>,
    /// It can get another token with more scopes.
    pub(super) scoped: bool,
}

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Denied {
    /// It shows no token.
    Missing,
    /// It shows one that does not count. For people; says nothing about the token's content.
    Invalid(&'static str),
    /// More than one `Authorization` header.
    Malformed,
    /// The token counts, but not for this; what else could help.
    Scope(Vec<String>),
    /// Whether the token counts cannot be said now: the issuer's keys are not to be had.
    NoKeys,
    /// The node listens beyond loopback, and no configuration says who may use it.
    Closed,
}

impl Authentication {
    /// Who sends these headers to this place. `loopback`: only this machine can reach us.
    ///
    /// # Errors
    /// Why nobody is let in.
    pub(super) async fn caller(
        &self,
        plan: &Plan,
        headers: &HeaderMap,
        place: &Place<'_>,
        loopback: bool,
    ) -> Result<Caller, Denied> {
        let required = match &plan.auth {
            Policy::Loopback if !loopback => return Err(Denied::Closed),
            Policy::Loopback | Policy::Open => {
                return Ok(Caller { principal: self.anonymous.0.clone(), scoped: false });
            }
            Policy::Required(required) => required,
        };
        let token = bearer(headers)?;
        if let Some(principal) = known(required, token) {
            return Ok(Caller { principal, scoped: false });
        }
        let Some(issuer) = &required.issuer else { return Err(Denied::Invalid("the token is not known")) };
        let principal = jwt::principal(issuer, &self.keys, token, &place.audiences()).await?;
        if principal.access.is_nothing() {
            return Err(Denied::Scope(issuer.scopes().into_iter().map(str::to_owned).collect()));
        }
        Ok(Caller { principal: Arc::new(principal), scoped: true })
    }
}

/// The token of the one `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Result<&str, Denied> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let line = lines.next().ok_or(Denied::Missing)?;
    if lines.next().is_some() {
        return Err(Denied::Malformed);
    }
    let (scheme, token) = line.to_str().ok().and_then(|line| line.split_once(' ')).ok_or(Denied::Missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Denied::Missing);
    }
    Some(token.trim_matches(' ')).filter(|token| !token.is_empty()).ok_or(Denied::Missing)
}

/// Whose a static token is. Takes as long for any token, known or not: hashes are compared in constant time, all
/// of them.
fn known(required: &Required, token: &str) -> Option<Arc<Principal>> {
    let ours = blake3::hash(token.as_bytes());
    let sha256 = digest::digest(&digest::SHA256, token.as_bytes());
    let theirs = Hash::from_slice(sha256.as_ref()).expect("SHA-256 has 32 bytes");
    let mut found = None;
    for (hash, principal) in &required.tokens {
        // The equality of `Hash` is the one that does not tell how much is equal.
        let same = match hash {
            TokenHash::Blake3(hash) => Hash::from_bytes(*hash) == ours,
            TokenHash::Sha256(hash) => Hash::from_bytes(*hash) == theirs,
        };
        if same {
            found = Some(principal.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests;
