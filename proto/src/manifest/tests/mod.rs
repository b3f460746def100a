//! Documents, and what is said about them.

mod model;
mod page;

use super::parse;

/// Problems, then warnings, as people read them; empty for a valid document without warnings. `no-upstreams`
/// is left out, so that small documents stay small.
fn said(document: &str) -> Vec<String> {
    let (problems, warnings) = match parse("t.yaml", document.as_bytes()) {
        Ok(manifest) => (Vec::new(), manifest.warnings),
        Err(refused) => (refused.problems, refused.warnings),
    };
    problems
        .iter()
        .map(ToString::to_string)
        .chain(warnings.iter().filter(|one| one.rule != "no-upstreams").map(|one| format!("warning: {one}")))
        .collect()
}
