//! Which top-level modules of its crate a file names.

use crate::source::Source;

/// `(byte in the code, module)` for each path from the root of the crate: `crate::router::x`, a group
/// `crate::{router::x, cache}`, and `super::` where it leaves the folder.
pub fn of(source: &Source, src: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in source.tokens("crate") {
        if let Some(rest) = source.code[at + 5..].strip_prefix("::") {
            first_names(rest, &mut |name| found.push((at, name)));
        }
    }
    let depth = depth(&source.path, src);
    for at in source.tokens("super") {
        // Only the first of a chain; the others follow `::`.
        if source.code[..at].ends_with("::") {
            continue;
        }
        let mut rest = &source.code[at..];
        let mut supers = 0;
        while let Some(next) = rest.strip_prefix("super::") {
            rest = next;
            supers += 1;
        }
        if supers >= depth {
            first_names(rest, &mut |name| found.push((at, name)));
        }
    }
    found
}

/// How many `super` lead from a file to the root of its crate.
fn depth(path: &str, src: &str) -> usize {
    let below = path.strip_prefix(src).unwrap_or(path);
    let parts = below.split('/').count();
    if below.ends_with("mod.rs") { parts - 1 } else { parts }
}

/// The first name of a path, or of each path of a group.
fn first_names(rest: &str, found: &mut dyn FnMut(String)) {
    let Some(group) = rest.strip_prefix('{') else {
        return found(word(rest));
    };
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                found(word(group[start..at].trim_start()));
                start = at + 1;
            }
            '}' if depth == 0 => return found(word(group[start..at].trim_start())),
            '}' => depth -= 1,
            _ => {}
        }
    }
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn every_form_of_a_path_is_seen() {
    let names = |path: &str, text: &str| {
        let found = of(&Source::new(path, text), "data-plane/src/");
        found.into_iter().map(|(_, name)| name).filter(|name| !name.is_empty()).collect::<Vec<_>>()
    };
    let file = "data-plane/src/router/merge.rs";
    assert_eq!(names(file, "use crate::cache::Key;"), ["cache"]);
    assert_eq!(
        names(file, "use crate::{plan, mcp::{rpc, sse}, backend::Http,\n};"),
        ["plan", "mcp", "backend"]
    );
    assert_eq!(names(file, "fn f() -> crate::upstream::X {}"), ["upstream"]);
    assert_eq!(names(file, "use super::super::cache; use super::list; // crate::session"), ["cache"]);
    assert_eq!(names("data-plane/src/router/mod.rs", "use super::{cache, plan};"), ["cache", "plan"]);
    assert_eq!(names("data-plane/src/plan.rs", "use super::router;"), ["router"]);
}
