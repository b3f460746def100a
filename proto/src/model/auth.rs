//! Who may use the gateway, and what of it.

use super::shown;
use serde::Serialize;
use std::time::Duration;

/// Who may use the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// Everybody who reaches a loopback address; a node that listens elsewhere serves nobody.
    #[default]
    Loopback,
    /// Everybody, on every address.
    Open,
    /// Who shows a token.
    Required(Box<Required>),
}

/// Which tokens count; at least one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Required {
    /// How clients spell the gateway, `https://mcp.example`, without a path; `None`: by the `Host` header.
    pub resource: Option<String>,
    /// Handed out by an operator; names and hashes are unique.
    pub tokens: Vec<StaticToken>,
    /// Signed by an issuer.
    pub jwt: Option<Jwt>,
}

/// A bearer token that an operator handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StaticToken {
    /// Whose it is.
    pub name: String,
    /// Of the token; the token itself is nowhere.
    pub hash: TokenHash,
    /// What it may use.
    pub grant: Grant,
}

/// The hash of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenHash {
    /// blake3.
    Blake3([u8; 32]),
    /// SHA-256.
    Sha256([u8; 32]),
}

/// JSON Web Tokens of one issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Jwt {
    /// The exact value of `iss`.
    pub issuer: String,
    /// Accepted values of `aud`; empty: the URL of the route, or [`Required::resource`].
    pub audience: Vec<String>,
    /// Where the issuer's keys are.
    pub jwks: KeySource,
    /// Accepted signatures; never empty.
    pub algorithms: Vec<Algorithm>,
    /// How far the issuer's clock may be off.
    #[serde(serialize_with = "shown::duration")]
    pub clock_skew: Duration,
    /// Which claims give which access; empty: a valid token may use everything.
    pub rules: Vec<ClaimRule>,
}

/// Where a set of public keys is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// A file on the node.
    File(String),
    /// `https`, or `http` on a loopback address.
    Url(#[serde(serialize_with = "shown::url")] http::Uri),
}

/// Access for whoever has one of these values in a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClaimRule {
    /// Such as `scope` or `groups`. Its value is a text, which may hold several words, or a list of texts.
    pub claim: String,
    /// One of them is enough.
    pub values: Vec<String>,
    /// What it may use.
    pub grant: Grant,
}

/// What may be used: patterns, in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// Virtual servers, by name.
    pub servers: Vec<String>,
    /// Upstreams, by name.
    pub upstreams: Vec<String>,
    /// Tools, by their own name or `<upstream>__<own name>`.
    pub allow: Vec<String>,
    /// Not these, even when allowed.
    pub deny: Vec<String>,
}

impl Default for Grant {
    /// Everything.
    fn default() -> Self {
        let all = || vec!["*".to_owned()];
        Self { servers: all(), upstreams: all(), allow: all(), deny: Vec::new() }
    }
}

/// How a token is signed. Only public keys: a shared secret would let every node mint tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names of RFC 7518 and RFC 8037")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// Every one, by its name in a token.
    pub const ALL: [(&'static str, Self); 9] = [
        ("RS256", Self::RS256),
        ("RS384", Self::RS384),
        ("RS512", Self::RS512),
        ("PS256", Self::PS256),
        ("PS384", Self::PS384),
        ("PS512", Self::PS512),
        ("ES256", Self::ES256),
        ("ES384", Self::ES384),
        ("EdDSA", Self::EdDSA),
    ];
    /// What is accepted when nothing is said.
    pub const USUAL: [Self; 3] = [Self::RS256, Self::ES256, Self::EdDSA];

    /// Its name in a token.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, one)| *one == self).map_or("", |(name, _)| name)
    }
}

impl Jwt {
    /// How far the issuer's clock may be off when nothing is said.
    pub const CLOCK_SKEW: Duration = Duration::from_secs(60);
}
