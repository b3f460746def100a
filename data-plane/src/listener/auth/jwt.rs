//! JSON Web Tokens (RFC 7519, RFC 8725): whose one is, if it counts.

use super::{
    Denied,
    keys::{Keys, NotHad},
    signature,
};
use crate::principal::{Issuer, Principal};
use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use o1_proto::model;
use serde_json::{Map, Value};

/// Whose a token is.
///
/// # Errors
/// It does not count, or that cannot be said now.
pub(super) async fn principal(
    issuer: &Issuer,
    keys: &Keys,
    token: &str,
    places: &[String],
) -> Result<Principal, Denied> {
    signature::install();
    let header = decode_header(token).map_err(|_| Denied::Invalid("the token is not known"))?;
    let accepted = issuer.jwt.algorithms.iter().map(|one| algorithm(*one)).any(|one| one == header.alg);
    if !accepted {
        return Err(Denied::Invalid("the token is signed in a way that is not accepted"));
    }
    // An extension that must be understood is one that we do not.
    if header.crit.is_some() {
        return Err(Denied::Invalid("the token has an extension that is not known here"));
    }
    let candidates = match keys.find(&issuer.jwt.jwks, header.kid.as_deref(), header.alg).await {
        Ok(candidates) => candidates,
        Err(NotHad) => return Err(Denied::NoKeys),
    };
    let validation = validation(issuer, header.alg, places);
    let mut denied = Denied::Invalid("the token is signed with a key that is not the issuer's");
    for key in candidates {
        match decode::<Map<String, Value>>(token, &key, &validation) {
            Ok(data) => {
                let nobody = Denied::Invalid("the token does not say whose it is (`sub`)");
                return issuer.principal(&data.claims).ok_or(nobody);
            }
            Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
            Err(error) => denied = Denied::Invalid(words(error.kind())),
        }
    }
    Err(denied)
}

fn validation(issuer: &Issuer, algorithm: jsonwebtoken::Algorithm, places: &[String]) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = issuer.jwt.clock_skew.as_secs();
    validation.validate_nbf = true;
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.set_issuer(&[&issuer.jwt.issuer]);
    if issuer.jwt.audience.is_empty() {
        validation.set_audience(places);
    } else {
        validation.set_audience(&issuer.jwt.audience);
    }
    validation
}

fn words(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidAudience => "the token is made for somebody else (`aud`)",
        ErrorKind::InvalidIssuer => "the token is made by somebody else (`iss`)",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks one of `exp`, `iss` and `aud`",
        _ => "the token is not valid",
    }
}

pub(super) fn algorithm(model: model::Algorithm) -> jsonwebtoken::Algorithm {
    use jsonwebtoken::Algorithm;
    match model {
        model::Algorithm::RS256 => Algorithm::RS256,
        model::Algorithm::RS384 => Algorithm::RS384,
        model::Algorithm::RS512 => Algorithm::RS512,
        model::Algorithm::PS256 => Algorithm::PS256,
        model::Algorithm::PS384 => Algorithm::PS384,
        model::Algorithm::PS512 => Algorithm::PS512,
        model::Algorithm::ES256 => Algorithm::ES256,
        model::Algorithm::ES384 => Algorithm::ES384,
        model::Algorithm::EdDSA => Algorithm::EdDSA,
    }
}
