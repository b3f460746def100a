//! Hints for words that are not known: the closest one that is.

use super::keys::Section;

/// Longer words are not worth comparing.
const LONGEST: usize = 64;

/// More are not listed.
const MOST: usize = 12;

/// For an unknown key of `section`.
pub(super) fn key(name: &str, section: &Section, sections: &[&Section]) -> String {
    if let Some(known) = closest(name, section.keys.iter().map(|key| key.name)) {
        return format!("did you mean `{known}`?");
    }
    if let Some(hint) = elsewhere(name) {
        return hint.to_owned();
    }
    let home = sections.iter().find(|other| other.key(name).is_some());
    match home {
        Some(home) if home.path.is_empty() => format!("`{name}` stands at the top of the document"),
        Some(home) => format!("`{name}` belongs in `{}`", home.path),
        None => keys(section),
    }
}

/// Spellings of other programs.
fn elsewhere(name: &str) -> Option<&'static str> {
    match name {
        "args" => Some("arguments follow the program: `command: [program, argument]`"),
        "endpoint" | "uri" => Some("write `url`"),
        "mcpServers" => Some("write `upstreams`, each with a `primary`"),
        _ => None,
    }
}

/// What `section` knows.
pub(super) fn keys(section: &Section) -> String {
    let keys: Vec<_> = section.keys.iter().map(|key| format!("`{}`", key.name)).collect();
    format!("known keys: {}", keys.join(", "))
}

/// For an unknown word where a few are possible.
pub(super) fn word<'w>(text: &str, words: impl Iterator<Item = &'w str> + Clone) -> String {
    closest(text, words.clone()).map_or_else(|| one_of(words), |known| format!("did you mean `{known}`?"))
}

/// All that is possible.
pub(super) fn one_of<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let mut listed: Vec<_> = words.map(|word| format!("`{word}`")).collect();
    if let [only] = listed.as_slice() {
        return format!("only {only}");
    }
    if listed.len() > MOST {
        listed.truncate(MOST);
        listed.push("…".to_owned());
    }
    format!("one of {}", listed.join(", "))
}

/// The word that `text` was probably meant to be; `None`: none is close enough.
#[must_use]
pub fn closest<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    if text.len() > LONGEST {
        return None;
    }
    let text = text.to_lowercase().replace('-', "_");
    words
        .map(|word| (strsim::osa_distance(&text, &word.replace('-', "_")), word))
        .filter(|(distance, word)| *distance <= word.len().div_ceil(4).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}
