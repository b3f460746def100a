//! The files of the repository, and their code without comments and strings.

use o1_tests::binaries::root;
use std::{fs, path::Path};

/// A text file.
pub struct Source {
    /// From the root of the repository, with `/`.
    pub path: String,
    /// As it is.
    pub text: String,
    /// For Rust: the same, line by line, with comments and what stands in quotes blanked out. Else as it is.
    pub code: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = if is_rust(path) { code(text) } else { text.to_owned() };
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    pub fn is_rust(&self) -> bool {
        is_rust(&self.path)
    }

    /// Whether it holds the unit tests of a module.
    pub fn is_unit_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/src/") && self.path.contains("/tests/")
    }

    /// Whether the path is one of these files or lies in one of these folders (which end in `/`).
    pub fn is_in(&self, places: &[&str]) -> bool {
        places
            .iter()
            .any(|place| self.path == *place || (place.ends_with('/') && self.path.starts_with(place)))
    }

    /// The first part of the path below a folder: `router` for `data-plane/src/router/merge.rs`.
    pub fn below(&self, folder: &str) -> Option<&str> {
        let rest = self.path.strip_prefix(folder)?;
        rest.split('/').next()?.split('.').next()
    }

    /// The line that a byte of the code is on, from 1.
    pub fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// Where an identifier, or a path of them, stands in the code.
    pub fn tokens<'a>(&'a self, token: &'a str) -> impl Iterator<Item = usize> + 'a {
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        self.code.match_indices(token).map(|(at, _)| at).filter(move |&at| {
            !part(self.code[..at].chars().next_back()) && !part(self.code[at + token.len()..].chars().next())
        })
    }
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

/// Every text file of the repository; build results, installed packages and git's own files are not part of it.
pub fn all() -> Vec<Source> {
    let mut found = Vec::new();
    visit(&root(), "", &mut found);
    assert!(found.len() > 50, "the repository has more files than {}", found.len());
    found
}

fn visit(folder: &Path, prefix: &str, found: &mut Vec<Source>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        if entry.file_type().unwrap().is_dir() {
            if !["target", ".git", "node_modules", "__pycache__"].contains(&name.as_str()) {
                visit(&entry.path(), &format!("{path}/"), found);
            }
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            // In a worktree .git is a file.
            if path != ".git" {
                found.push(Source::new(&path, &text));
            }
        }
    }
}

/// Rust with comments, strings and characters replaced by spaces; lines stay where they are.
fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => text[at..].find('\n').map_or(bytes.len(), |length| at + length),
            [b'/', b'*', ..] => text[at + 2..].find("*/").map_or(bytes.len(), |length| at + length + 4),
            [b'r', b'"' | b'#', ..] if !is_word(bytes, at) => raw_string(text, at),
            [b'"', ..] => quoted(bytes, at, b'"'),
            // A lifetime is no character: 'a' closes after one, 'a does not.
            [b'\'', b'\\', ..] | [b'\'', _, b'\'', ..] => quoted(bytes, at, b'\''),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether the byte before continues a word, so that this one starts none.
fn is_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn quoted(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

fn raw_string(text: &str, start: usize) -> usize {
    let hashes = text[start + 1..].bytes().take_while(|byte| *byte == b'#').count();
    let open = start + 1 + hashes;
    if text.as_bytes().get(open) != Some(&b'"') {
        // `r#type` is an identifier.
        return start;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    text[open + 1..].find(&close).map_or(text.len(), |length| open + 1 + length + close.len())
}

#[test]
fn comments_and_strings_are_no_code() {
    let text = "let a = \"b // c\"; // d\nlet e = r#\"f\" g\"#; /* h\n i */ let j = '\\''; fn k<'l>(m: &'l u8, n: 'o') {}";
    let source = Source::new("x.rs", text);
    for word in ["a", "e", "j", "k", "l", "m", "n"] {
        assert_eq!(source.tokens(word).count(), if word == "l" { 2 } else { 1 }, "{word} in {}", source.code);
    }
    for word in ["b", "c", "d", "f", "g", "h", "i", "o"] {
        assert_eq!(source.tokens(word).count(), 0, "{word} in {}", source.code);
    }
    assert_eq!(source.code.lines().count(), text.lines().count());
}
