//! How upstreams, prefixes and virtual servers are named.

use crate::model::SEPARATOR;

const LONGEST: usize = 48;

/// What is wrong with a name, if anything.
///
/// A name cannot end in `_` because `a_` + `__` + `x` and `a` + `__` + `_x` would be the same.
pub(super) fn fault(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if let Some(wrong) = name.chars().find(|c| !allowed(*c)) {
        return Some(format!("{:?} is not allowed in a name", wrong));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Some("a name begins with a letter or digit".to_owned());
    }
    if name.len() > LONGEST {
        return Some(format!("a name has at most {LONGEST} characters, this one {}", name.len()));
    }
    if name.contains(SEPARATOR) {
        return Some(format!("`{SEPARATOR}` separates prefixes from names and cannot be inside one"));
    }
    name.ends_with('_').then(|| "a name does not end with `_`".to_owned())
}

/// What to write instead.
pub(super) const HINT: &str = "letters, digits, `-` and single `_`, such as `weather-eu`";
