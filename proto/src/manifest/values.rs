//! `headers` and `env`: names with values that may be secrets. No message quotes a value, nor a name that is not
//! valid, because it may be a value in the wrong place.

use super::{reader::Field, rules};
use crate::model::Reference;
use http::HeaderName;
use std::collections::BTreeMap;

/// Set by the gateway itself, for each request or connection.
const FORBIDDEN: &[&str] = &[
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What people write who expect references inside of text.
const MISTAKEN: &[&str] = &[" env:", " file:", "${"];

/// Request headers, by lowercase name.
pub(super) fn headers(field: &Field<'_>) -> BTreeMap<String, Reference> {
    let mut headers = BTreeMap::new();
    for (name, value) in field.names("such as `{Authorization: \"env:TOKEN\"}`") {
        let Ok(known) = HeaderName::try_from(name) else {
            let what = "a header's name is not valid";
            field.report.problem(
                &rules::HEADER_NAME,
                value.key,
                &field.path,
                what,
                "letters, digits and `-`",
            );
            continue;
        };
        let lowercase = known.as_str();
        if FORBIDDEN.contains(&lowercase) || lowercase.starts_with("mcp-") {
            let what = "the gateway sets this header itself";
            value.problem_at_key(&rules::HEADER_FORBIDDEN, what, "remove it");
        }
        let Some(reference) = reference(&value) else { continue };
        if let Reference::Literal(literal) = &reference
            && !literal.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
        {
            value.problem(&rules::HEADER_VALUE, "not printable ASCII on one line", "encode it");
        }
        if headers.insert(lowercase.to_owned(), reference).is_some() {
            let what = "the header is set twice, in another case";
            value.problem_at_key(&rules::HEADER_NAME, what, "keep one of them");
        }
    }
    headers
}

/// Environment variables.
pub(super) fn env(field: &Field<'_>) -> BTreeMap<String, Reference> {
    let mut env = BTreeMap::new();
    for (name, value) in field.names("such as `{NODE_ENV: production}`") {
        if name.is_empty() || name.contains(['=', '\0']) {
            let what = "a variable's name is empty, or has `=` or NUL";
            let hint = "write `NAME: value`";
            field.report.problem(&rules::ENV_NAME, value.key, &field.path, what, hint);
            continue;
        }
        let Some(reference) = reference(&value) else { continue };
        if reference.spelling().contains('\0') {
            value.problem(&rules::ENV_VALUE, "has a NUL character", "remove it");
        }
        env.insert(name.to_owned(), reference);
    }
    env
}

fn reference(field: &Field<'_>) -> Option<Reference> {
    let reference = Reference::parse(field.text()?);
    let (what, hint) = match &reference {
        Reference::Env(name) if name.is_empty() || name.contains(['=', '\0']) => {
            ("`env:` is not followed by a variable's name", "such as `env:TOKEN`")
        }
        Reference::File(path) if path.is_empty() || path.contains('\0') => {
            ("`file:` is not followed by a path", "such as `file:/run/secrets/token`")
        }
        Reference::Literal(text) if MISTAKEN.iter().any(|part| text.contains(part)) => {
            let what = "looks like a reference, but is sent as it is written";
            let hint = "only a whole value can be a reference: put `Bearer …` and all into the variable";
            field.report.warning(&rules::REFERENCE_INSIDE, field.key, &field.path, what, hint);
            return Some(reference);
        }
        _ => return Some(reference),
    };
    field.problem(&rules::REFERENCE, what, hint);
    None
}
