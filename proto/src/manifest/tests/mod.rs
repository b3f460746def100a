//! Documents, and what is said about them.

mod cases;
mod model;
mod page;
mod redaction;
mod robust;
mod schema;
mod special;

use super::parse;

/// Problems, then warnings, as people read them; empty for a valid document without warnings.
fn said(document: &str) -> Vec<String> {
    said_of(document.as_bytes())
}

fn said_of(document: &[u8]) -> Vec<String> {
    let (problems, warnings) = match parse("t.yaml", document) {
        Ok(manifest) => (Vec::new(), manifest.warnings),
        Err(refused) => (refused.problems, refused.warnings),
    };
    problems
        .iter()
        .map(ToString::to_string)
        .chain(warnings.iter().map(|one| format!("warning: {one}")))
        .collect()
}
