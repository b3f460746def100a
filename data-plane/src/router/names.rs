//! Names on routes of many upstreams. Pure.

use crate::plan::{Server, Upstream};
use std::{borrow::Cow, fmt::Write as _};

/// Longer names are refused by some clients and the models behind them.
const LENGTH_MAX: usize = 64;
/// Of a shortened name, behind what is left of it: `_` and 48 bits in hexadecimal.
const SUFFIX: usize = 13;

/// The name of a tool or prompt behind its upstream's prefix, and whether it had to be shortened. The same name
/// is always shortened to the same; the way back is the catalogue.
pub(super) fn prefixed(upstream: &Upstream, own: &str) -> (String, bool) {
    if upstream.prefix.is_empty() {
        return (own.to_owned(), false);
    }
    let whole = format!("{}{own}", upstream.prefix);
    if whole.chars().count() <= LENGTH_MAX {
        return (whole, false);
    }
    let hash = blake3::hash(whole.as_bytes());
    let mut short: String = whole.chars().take(LENGTH_MAX - SUFFIX).collect();
    short.push('_');
    for byte in &hash.as_bytes()[..(SUFFIX - 1) / 2] {
        let _ = write!(short, "{byte:02x}");
    }
    (short, true)
}

/// What a virtual server says about a tool, by its own name or by `<upstream>__<own name>`; the longer one wins.
pub(super) fn said<'s>(
    said: &'s std::collections::BTreeMap<String, String>,
    upstream: &Upstream,
    own: &str,
) -> Option<&'s str> {
    if said.is_empty() {
        return None;
    }
    let full = full(upstream, own);
    said.get(&full).or_else(|| said.get(own)).map(String::as_str)
}

/// Own names that an upstream's tool of this name could have.
pub(super) fn origins<'n>(server: &'n Server, upstream: &Upstream, name: &'n str) -> Vec<Cow<'n, str>> {
    let mut origins = Vec::new();
    origins.extend(name.strip_prefix(upstream.prefix.as_str()).map(Cow::Borrowed));
    let whole = full(upstream, "");
    for (old, new) in &server.rename {
        if new == name {
            origins.push(Cow::Borrowed(old.strip_prefix(&whole).unwrap_or(old)));
        }
    }
    origins
}

/// `<upstream>__<own name>`, whatever its prefix is.
pub(super) fn full(upstream: &Upstream, own: &str) -> String {
    format!("{}{}{own}", upstream.name, o1_proto::model::SEPARATOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::tests::upstream;

    // metamcp#249, litellm#26733, claude-code#19882, Kuadrant/mcp-gateway#33
    #[test]
    fn over_long_names_are_shortened_stably_and_apart() {
        let one = upstream("files", "files__");
        let long = |end: &str| format!("{}{end}", "x".repeat(80));
        let (a, shortened) = prefixed(&one, &long("a"));
        let (b, _) = prefixed(&one, &long("b"));
        assert!(shortened && a.chars().count() == LENGTH_MAX && a.starts_with("files__xxx"));
        assert_ne!(a, b);
        assert_eq!(prefixed(&one, &long("a")).0, a);
        assert_eq!(prefixed(&one, &"x".repeat(57)), (format!("files__{}", "x".repeat(57)), false));
        assert!(prefixed(&one, &"x".repeat(58)).1);
        assert_eq!(prefixed(&one, &"ü".repeat(60)).0.chars().count(), LENGTH_MAX);
        assert_eq!(prefixed(&upstream("bare", ""), &long("")), (long(""), false), "no prefix: as it is");
    }
}
