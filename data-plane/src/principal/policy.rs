//! Who may use the gateway, compiled from the configuration. Pure: what a token says about itself is found out
//! by the listener, what follows from that is said here.

use super::{Access, Grant, Principal};
use o1_proto::model::{self, Jwt, TokenHash};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Who may use the gateway.
#[derive(Debug)]
pub enum Policy {
    /// Everybody, on loopback addresses; nobody elsewhere.
    Loopback,
    /// Everybody, everywhere.
    Open,
    /// Who shows a token.
    Required(Box<Required>),
}

/// Which tokens count.
#[derive(Debug)]
pub struct Required {
    /// See [`model::Required::resource`].
    pub resource: Option<String>,
    /// Whose each static token is, by its hash.
    pub tokens: Vec<(TokenHash, Arc<Principal>)>,
    /// Who else makes tokens.
    pub issuer: Option<Issuer>,
}

/// An issuer of JSON Web Tokens, and what its tokens give.
#[derive(Debug)]
pub struct Issuer {
    /// How its tokens are checked.
    pub jwt: Jwt,
    /// Compiled from [`Jwt::rules`].
    pub rules: Vec<ClaimRule>,
}

/// Access for whoever has one of these values in a claim.
#[derive(Debug)]
pub struct ClaimRule {
    /// Which claim.
    pub claim: String,
    /// One of them is enough.
    pub values: Vec<String>,
    /// What for.
    pub grant: Grant,
}

impl Policy {
    /// Compiles a policy.
    #[must_use]
    pub fn compile(auth: &model::Auth) -> Self {
        let required = match auth {
            model::Auth::Loopback => return Self::Loopback,
            model::Auth::Open => return Self::Open,
            model::Auth::Required(required) => required,
        };
        let token = |token: &model::StaticToken| {
            let access = Access::new(vec![Grant::compile(&token.grant)]);
            (token.hash, Arc::new(Principal { id: format!("token:{}", token.name), access }))
        };
        Self::Required(Box::new(Required {
            resource: required.resource.clone(),
            tokens: required.tokens.iter().map(token).collect(),
            issuer: required.jwt.as_ref().map(Issuer::compile),
        }))
    }
}

impl Issuer {
    fn compile(jwt: &Jwt) -> Self {
        let rule = |rule: &model::ClaimRule| ClaimRule {
            claim: rule.claim.clone(),
            values: rule.values.clone(),
            grant: Grant::compile(&rule.grant),
        };
        Self { jwt: jwt.clone(), rules: jwt.rules.iter().map(rule).collect() }
    }

    /// Whose a valid token with these claims is. `None`: it does not say.
    #[must_use]
    pub fn principal(&self, claims: &Map<String, Value>) -> Option<Principal> {
        let subject = claims.get("sub")?.as_str().filter(|subject| !subject.is_empty())?;
        let access = if self.rules.is_empty() {
            Access::everything()
        } else {
            let fitting = self.rules.iter().filter(|rule| rule.fits(claims));
            Access::new(fitting.map(|rule| rule.grant.clone()).collect())
        };
        Some(Principal { id: format!("jwt:{}|{subject}", self.jwt.issuer), access })
    }

    /// The scopes that rules ask for, in the order of the rules.
    #[must_use]
    pub fn scopes(&self) -> Vec<&str> {
        self.scopes_for(|_| true)
    }

    /// The scopes of which any gives something that `useful` says yes to.
    #[must_use]
    pub fn scopes_for(&self, useful: impl Fn(&Grant) -> bool) -> Vec<&str> {
        let mut scopes = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.is_scope() && useful(&rule.grant)) {
            for value in rule.values.iter().map(String::as_str) {
                if !scopes.contains(&value) {
                    scopes.push(value);
                }
            }
        }
        scopes
    }
}

impl ClaimRule {
    /// `scope` of RFC 8693, or `scp` as some issuers call it: what clients can ask for.
    fn is_scope(&self) -> bool {
        matches!(self.claim.as_str(), "scope" | "scp")
    }

    fn fits(&self, claims: &Map<String, Value>) -> bool {
        let wanted = |found: &str| self.values.iter().any(|value| value == found);
        match claims.get(&self.claim) {
            Some(Value::String(text)) => wanted(text) || text.split(' ').any(wanted),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).any(wanted),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::{Filter, Pattern};
    use o1_proto::model::{Algorithm, KeySource};

    fn issuer(rules: &[(&str, &str, &str)]) -> Issuer {
        let rule = |(claim, value, upstream): &(&str, &str, &str)| model::ClaimRule {
            claim: (*claim).into(),
            values: vec![(*value).into()],
            grant: model::Grant { upstreams: vec![(*upstream).into()], ..model::Grant::default() },
        };
        Issuer::compile(&Jwt {
            issuer: "https://i".into(),
            audience: Vec::new(),
            jwks: KeySource::File("/k".into()),
            algorithms: Algorithm::USUAL.to_vec(),
            clock_skew: Jwt::CLOCK_SKEW,
            rules: rules.iter().map(rule).collect(),
        })
    }

    fn upstreams(issuer: &Issuer, claims: &str) -> Vec<String> {
        let claims: Map<String, Value> = serde_json::from_str(claims).unwrap();
        let access = issuer.principal(&claims).unwrap().access;
        let named = |name: &&str| access.grants.iter().any(|grant| grant.upstream(name));
        ["a", "b", "c"].iter().copied().filter(named).map(str::to_owned).collect()
    }

    #[test]
    fn a_principal_has_what_any_fitting_rule_gives_and_no_more() {
        let issuer = issuer(&[("scope", "read", "a"), ("groups", "ops", "b"), ("sub", "x y", "c")]);
        for (claims, expected) in [
            (r#"{"sub":"x"}"#, &[][..]),
            (r#"{"sub":"x","scope":"read write"}"#, &["a"]),
            (r#"{"sub":"x","scope":"reader"}"#, &[]),
            (r#"{"sub":"x","scope":["read"],"groups":["dev","ops"]}"#, &["a", "b"]),
            (r#"{"sub":"x","groups":"ops"}"#, &["b"]),
            (r#"{"sub":"x","groups":{"ops":true}}"#, &[]),
            (r#"{"sub":"x y"}"#, &["c"]),
        ] {
            assert_eq!(upstreams(&issuer, claims), expected, "{claims}");
        }
        assert_eq!(issuer.scopes(), ["read"]);
    }

    #[test]
    fn without_rules_a_token_gives_everything_but_never_to_nobody() {
        let issuer = issuer(&[]);
        assert_eq!(upstreams(&issuer, r#"{"sub":"x"}"#), ["a", "b", "c"]);
        for claims in [r#"{}"#, r#"{"sub":""}"#, r#"{"sub":7}"#] {
            assert!(issuer.principal(&serde_json::from_str(claims).unwrap()).is_none(), "{claims}");
        }
    }

    #[test]
    fn what_one_grant_denies_another_may_give() {
        let grant = |upstream: &str, deny: &str| Grant {
            servers: Vec::new(),
            upstreams: vec![Pattern::new(upstream)],
            tools: Filter { allow: vec![Pattern::new("*")], deny: vec![Pattern::new(deny)] },
        };
        let access = Access::new(vec![grant("a", "rm"), grant("b", "none")]);
        let tool = |upstream: &str, own: &str| {
            let fits =
                |one: &Grant| one.upstream(upstream) && super::super::admits(&one.tools, upstream, own);
            access.grants.iter().any(fits)
        };
        assert!(tool("a", "ls") && !tool("a", "rm") && tool("b", "rm") && !tool("c", "ls"));
        assert!(!access.server("s") && Access::new(Vec::new()).is_nothing());
    }
}
