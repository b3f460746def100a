//! The names of places inside a document: `upstreams.weather.primary[0].url`.

use std::fmt::Write;

/// The path of a key under `parent`.
pub(super) fn key(parent: &str, name: &str) -> String {
    let mut path = String::with_capacity(parent.len() + name.len() + 1);
    path.push_str(parent);
    if !parent.is_empty() {
        path.push('.');
    }
    if is_word(name) {
        path.push_str(name);
    } else {
        let _ = write!(path, "{:?}", shortened(name));
    }
    path
}

/// The path of an item of the list at `parent`.
pub(super) fn item(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}

/// Text from a document as a message quotes it: one line, not long.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", shortened(text).escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-/*".contains(c))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
