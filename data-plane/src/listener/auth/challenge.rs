//! The answer to who is not let in: status and `WWW-Authenticate` (RFC 6750, section 3; RFC 9728, section 5.1).

use super::{Denied, metadata::Place};
use crate::{
    listener::respond::{self, ResponseBody},
    mcp::rpc,
    principal::Policy,
};
use http::{HeaderValue, Response, StatusCode, header};

/// The response for a request that is not let in.
pub(in crate::listener) fn refusal(
    denied: &Denied,
    place: &Place<'_>,
    policy: &Policy,
) -> Response<ResponseBody> {
    let (status, what) = words(denied);
    let mut response = respond::error(status, None, rpc::INVALID_REQUEST, what, None);
    if let Some(value) = challenge(denied, place, policy) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

fn words(denied: &Denied) -> (StatusCode, &'static str) {
    match denied {
        Denied::Missing => {
            (StatusCode::UNAUTHORIZED, "a token is needed: send it as `Authorization: Bearer …`")
        }
        Denied::Invalid(what) => (StatusCode::UNAUTHORIZED, what),
        Denied::Malformed => (StatusCode::BAD_REQUEST, "the Authorization header stands more than once"),
        Denied::Scope(_) => (StatusCode::FORBIDDEN, "the token does not reach this far"),
        Denied::NoKeys => (
            StatusCode::SERVICE_UNAVAILABLE,
            "tokens cannot be checked now: the issuer's keys are not to be had",
        ),
        Denied::Closed => (
            StatusCode::SERVICE_UNAVAILABLE,
            "this node listens beyond loopback and no configuration says who may use it: set `clients.auth`",
        ),
    }
}

fn challenge(denied: &Denied, place: &Place<'_>, policy: &Policy) -> Option<HeaderValue> {
    let issuer = match policy {
        Policy::Required(required) => required.issuer.as_ref(),
        Policy::Loopback | Policy::Open => return None,
    };
    let mut value = format!("Bearer resource_metadata=\"{}\"", quoted(&place.metadata_url()));
    let scopes = match denied {
        Denied::Scope(scopes) => scopes.join(" "),
        _ => issuer.map(|issuer| issuer.scopes().join(" ")).unwrap_or_default(),
    };
    if !scopes.is_empty() {
        value.push_str(&format!(", scope=\"{}\"", quoted(&scopes)));
    }
    match denied {
        Denied::Missing => {}
        Denied::Invalid(what) => {
            value.push_str(&format!(", error=\"invalid_token\", error_description=\"{what}\""));
        }
        Denied::Malformed => value.push_str(", error=\"invalid_request\""),
        Denied::Scope(_) => value.push_str(", error=\"insufficient_scope\""),
        Denied::NoKeys | Denied::Closed => return None,
    }
    // A scope that no header can carry is no scope.
    HeaderValue::try_from(value).ok()
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
