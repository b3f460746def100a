//! Bearer tokens: a file with a line for each, read again when it changes. Holds hashes, or names files with the token
//! in them; the token itself stands in no line, no log and no error.

use super::{Role, is_name};
use arc_swap::ArcSwap;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bytes of a token; shorter ones can be guessed.
const LENGTH: std::ops::RangeInclusive<usize> = 20..=4096;

/// The tokens that count.
#[derive(Debug)]
pub struct Tokens {
    file: PathBuf,
    current: ArcSwap<Vec<Token>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    name: String,
    role: Role,
    hash: blake3::Hash,
}

impl Tokens {
    /// Reads the file. Blocks.
    ///
    /// # Errors
    /// Everything that is wrong with it, a line each.
    pub fn open(file: PathBuf) -> Result<Arc<Self>, String> {
        let read = load(&file)?;
        Ok(Arc::new(Self { file, current: ArcSwap::from_pointee(read) }))
    }

    /// Whose token it is.
    #[must_use]
    pub fn find(&self, token: &[u8]) -> Option<(String, Role)> {
        let shown = blake3::hash(token);
        // Hashes compare in constant time, and every line is looked at.
        let mut found = None;
        for token in self.current.load().iter() {
            if token.hash == shown {
                found = Some((token.name.clone(), token.role));
            }
        }
        found
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.current.load().len()
    }

    /// Looks at the file; whether there was something new. Blocks.
    ///
    /// # Errors
    /// What is there cannot be used: what was before counts.
    pub fn look(&self) -> Result<bool, String> {
        let read = load(&self.file)?;
        if **self.current.load() == read {
            return Ok(false);
        }
        self.current.store(Arc::new(read));
        Ok(true)
    }

    /// Looks at the file each second until `stop`.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let this = self.clone();
            match tokio::task::spawn_blocking(move || this.look()).await.unwrap_or(Ok(false)) {
                Ok(changed) => {
                    if changed {
                        tracing::info!(tokens = self.count(), "the tokens changed");
                    }
                    refused = None;
                }
                Err(error) => {
                    if refused.as_ref() != Some(&error) {
                        tracing::warn!(error, "the changed tokens cannot be used: the old ones count");
                    }
                    refused = Some(error);
                }
            }
        }
    }
}

fn load(file: &Path) -> Result<Vec<Token>, String> {
    let text = fs::read_to_string(file)
        .map_err(|error| format!("file {} cannot be read: {error}", file.display()))?;
    parse(&text, |path| fs::read_to_string(path)).map_err(|problems| {
        let problems: Vec<_> =
            problems.iter().map(|(line, what)| format!("{}:{line}: {what}", file.display())).collect();
        problems.join("; ")
    })
}

/// Lines of `NAME ROLE blake3:HEX` or `NAME ROLE file:PATH`; `#` begins a comment. Every problem with its line.
fn parse(
    text: &str,
    read: impl Fn(&Path) -> std::io::Result<String>,
) -> Result<Vec<Token>, Vec<(usize, String)>> {
    let (mut tokens, mut problems, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (at, line) in text.lines().enumerate() {
        let words: Vec<_> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        match token(&words, &read) {
            Ok(token) if !names.insert(token.name.clone()) => {
                problems.push((at + 1, format!("`{}` is there twice", token.name)));
            }
            Ok(token) if tokens.iter().any(|other: &Token| other.hash == token.hash) => {
                problems.push((at + 1, format!("the token of `{}` is somebody else's, too", token.name)));
            }
            Ok(token) => tokens.push(token),
            Err(what) => problems.push((at + 1, what)),
        }
    }
    if tokens.is_empty() && problems.is_empty() {
        problems.push((1, "there is no token in it: o1ctl token new --role viewer makes one".to_owned()));
    }
    if problems.is_empty() { Ok(tokens) } else { Err(problems) }
}

fn token(words: &[&str], read: &impl Fn(&Path) -> std::io::Result<String>) -> Result<Token, String> {
    let [name, role, secret] = words else {
        return Err("a line is NAME ROLE blake3:HASH, or NAME ROLE file:PATH".to_owned());
    };
    if !is_name(name) {
        return Err("the name is not 1 to 64 letters, digits, `.`, `_`, `-` or `@`".to_owned());
    }
    let role = Role::of_word(role)
        .ok_or_else(|| format!("the role of `{name}` is none of node, viewer, editor and operator"))?;
    let hash = if let Some(hex) = secret.strip_prefix("blake3:") {
        blake3::Hash::from_hex(hex)
            .map_err(|_| format!("the hash of `{name}` is not 64 hexadecimal digits"))?
    } else if let Some(path) = secret.strip_prefix("file:") {
        let content = read(Path::new(path))
            .map_err(|error| format!("the file of `{name}`, {path}, cannot be read: {error}"))?;
        let token = content.trim();
        if !LENGTH.contains(&token.len()) {
            let (least, most) = (LENGTH.start(), LENGTH.end());
            return Err(format!("the file of `{name}`, {path}, holds no token of {least} to {most} bytes"));
        }
        blake3::hash(token.as_bytes())
    } else {
        // It may well be the token itself.
        return Err(format!(
            "`{name}` needs blake3:HASH or file:PATH; tokens themselves do not stand here: o1ctl token new prints the line"
        ));
    };
    Ok(Token { name: (*name).to_owned(), role, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Token>, String> {
        let files = |path: &Path| match path.to_str() {
            Some("/t") => Ok("o1_abcdefghijklmnopqrstuvwx\n".to_owned()),
            Some("/short") => Ok("s3cret".to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        };
        parse(text, files).map_err(|problems| format!("{problems:?}"))
    }

    #[test]
    fn lines_are_a_name_a_role_and_a_hash_or_a_file() {
        let hash = blake3::hash(b"another, which is as long");
        let found = read(&format!("# who\nann operator blake3:{hash} # me\n\nn1 node file:/t\n")).unwrap();
        let in_file = blake3::hash(b"o1_abcdefghijklmnopqrstuvwx");
        let expected = [("ann", Role::Operator, hash), ("n1", Role::Node, in_file)]
            .map(|(name, role, hash)| Token { name: name.to_owned(), role, hash });
        assert_eq!(found, expected);
    }

    #[test]
    fn every_wrong_line_is_said_and_no_token() {
        let error = read(
            "ann operator o1_s3cret\nbob king file:/t\n\ncy viewer blake3:s3cret\ndee viewer\nann viewer file:/t\n\
             ann editor file:/t\neve viewer file:/short\nfay viewer file:/none\na/b viewer file:/t\n",
        )
        .unwrap_err();
        for part in [
            "(1, \"`ann` needs",
            "(2, \"the role of `bob`",
            "(4, \"the hash of `cy`",
            "(5, \"a line is",
            "(7, \"`ann` is there twice",
            "(8, \"the file of `eve`, /short, holds no",
            "(9, \"the file of `fay`",
            "(10, \"the name",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("s3cret"), "{error}");
        assert!(read("# nobody\n").unwrap_err().contains("no token in it"));
        let both = read("ann viewer file:/t\nbob operator file:/t\n").unwrap_err();
        assert!(both.contains("(2, \"the token of `bob` is somebody else's, too"), "{both}");
    }

    #[test]
    fn a_changed_file_counts_and_a_broken_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (file, secret) = (dir.path().join("tokens"), "o1_abcdefghijklmnopqrstuvwx");
        let line = |name: &str| format!("{name} viewer blake3:{}\n", blake3::hash(secret.as_bytes()));
        fs::write(&file, line("ann")).unwrap();
        let tokens = Tokens::open(file.clone()).unwrap();
        assert_eq!(tokens.find(secret.as_bytes()), Some(("ann".to_owned(), Role::Viewer)));
        assert_eq!(tokens.find(b"another"), None);
        fs::write(&file, "ann").unwrap();
        assert!(tokens.look().unwrap_err().contains(":1: a line is"));
        assert!(tokens.find(secret.as_bytes()).is_some(), "what was before counts");
        fs::write(&file, line("bob")).unwrap();
        assert_eq!((tokens.look(), tokens.look()), (Ok(true), Ok(false)));
        assert_eq!(tokens.find(secret.as_bytes()), Some(("bob".to_owned(), Role::Viewer)));
    }
}
