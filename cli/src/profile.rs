//! Which control plane, and as whom: what was typed, then the environment, then `~/.config/only1/o1ctl.toml`, then this
//! machine.
//!
//! What a profile says of who one is goes to the control plane of that profile and to no other: an address that is given
//! by itself brings none of it. And what the environment says of who one is goes to no profile that was named on the
//! command line and says that itself. It must never show a token.

use crate::{
    args::Global,
    connect::{Target, Token},
    report::Error,
};
use o1_process::tls::{ClientFiles, Pair};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
};

/// Where a control plane is when nobody says so.
const HERE: &str = "http://127.0.0.1:7400";

/// The file.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profiles {
    /// The profile of those who name none.
    default: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

/// A control plane, and who one is there. Paths begin at the folder of the file, `~/` is the home folder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    control: String,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    token_file: Option<PathBuf>,
    #[serde(default)]
    insecure_control: bool,
}

/// What the environment says beside the flags.
#[derive(Debug, Default)]
struct Surroundings {
    file: Option<PathBuf>,
    home: Option<PathBuf>,
    token: Option<String>,
}

impl Surroundings {
    fn read() -> Self {
        let home = env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let config = env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
        let config = config.or_else(|| home.as_ref().map(|home| home.join(".config")));
        Self {
            file: config.map(|config| config.join("only1/o1ctl.toml")),
            home,
            token: env::var("O1_TOKEN").ok().filter(|token| !token.is_empty()),
        }
    }
}

impl Target {
    /// The control plane that is meant.
    ///
    /// # Errors
    /// Usage: an address, a profile or a file that makes no sense.
    pub fn of(global: &Global) -> Result<Self, Error> {
        resolve(global, &Surroundings::read())
    }
}

fn resolve(global: &Global, around: &Surroundings) -> Result<Target, Error> {
    if global.typed.control && global.typed.profile {
        return Err(Error::usage(
            "--control and --profile both say which control plane",
            "leave one of them out",
        ));
    }
    // An address beats a profile, unless the profile alone was typed.
    let given = global.control.as_ref().filter(|_| !global.typed.profile);
    let profile = match given {
        Some(_) => None,
        None => chosen(global.profile.as_deref(), around)?,
    };
    let control = given.map_or_else(
        || profile.as_ref().map_or_else(|| HERE.to_owned(), |profile| profile.control.clone()),
        Clone::clone,
    );
    let place = |path: &Option<PathBuf>| path.as_ref().map(|path| anchored(path, around));
    let of = profile.as_ref();
    // Of a profile that was typed, what it says itself counts more than the environment, which may be meant for another.
    let own = of.filter(|_| global.typed.profile);
    let known = own.is_some_and(|own| own.cert.is_some() || own.token_file.is_some());
    let trusts = own.is_some_and(|own| own.ca.is_some());
    let given = global.cert.clone().zip(global.key.clone()).filter(|_| global.typed.pair || !known);
    let stored = of.and_then(|profile| place(&profile.cert).zip(place(&profile.key)));
    let files = ClientFiles {
        ca: global
            .ca
            .clone()
            .filter(|_| global.typed.ca || !trusts)
            .or_else(|| of.and_then(|profile| place(&profile.ca))),
        pair: given.or(stored).map(|(cert, key)| Pair { cert, key }),
    };
    let token = match (&global.token_file, around.token.as_ref().filter(|_| !known)) {
        (Some(file), _) => Some(token(file)?),
        (None, Some(token)) => {
            Some(Token::new(token).map_err(|what| Error::usage(format!("O1_TOKEN {what}"), ""))?)
        }
        (None, None) => {
            of.and_then(|profile| place(&profile.token_file)).map(|file| token(&file)).transpose()?
        }
    };
    let insecure = global.insecure_control || of.is_some_and(|profile| profile.insecure_control);
    Target::new(&control, files, token, insecure)
}

/// The profile that counts; `None`: there is none.
fn chosen(named: Option<&str>, around: &Surroundings) -> Result<Option<Profile>, Error> {
    let Some(file) = &around.file else {
        return match named {
            None => Ok(None),
            Some(_) => Err(Error::usage("there is no home folder to look for profiles in", "set HOME")),
        };
    };
    let shown = file.display();
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => return Ok(None),
        Err(error) => {
            return Err(Error::usage(
                format!("profiles cannot be read from {shown}: {error}"),
                "write it, or use --control",
            ));
        }
    };
    let profiles = parse(&text).map_err(|what| Error::usage(format!("{shown}{what}"), ""))?;
    let Some(name) = named.or(profiles.default.as_deref()) else { return Ok(None) };
    if let Some(profile) = profiles.profiles.get(name) {
        return Ok(Some(profile.clone()));
    }
    let known: Vec<_> = profiles.profiles.keys().map(String::as_str).collect();
    let hint =
        if known.is_empty() { "it has none".to_owned() } else { format!("it has: {}", known.join(", ")) };
    Err(Error::usage(format!("no profile is named `{name}` in {shown}"), hint))
}

/// What is wrong begins with `:line:column: `.
fn parse(text: &str) -> Result<Profiles, String> {
    let profiles: Profiles = toml::from_str(text).map_err(|error| {
        let place = error.span().map_or_else(String::new, |span| {
            let before = &text.as_bytes()[..span.start.min(text.len())];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
            format!(":{line}:{column}")
        });
        format!("{place}: {}", error.message())
    })?;
    for (name, profile) in &profiles.profiles {
        if profile.cert.is_some() != profile.key.is_some() {
            return Err(format!(": profile `{name}`: cert and key belong together"));
        }
    }
    Ok(profiles)
}

fn anchored(path: &Path, around: &Surroundings) -> PathBuf {
    match (path.strip_prefix("~"), &around.home, around.file.as_ref().and_then(|file| file.parent())) {
        (Ok(rest), Some(home), _) => home.join(rest),
        (_, _, Some(folder)) => folder.join(path),
        _ => path.to_owned(),
    }
}

fn token(file: &Path) -> Result<Token, Error> {
    let shown = file.display();
    let text = fs::read_to_string(file)
        .map_err(|error| Error::usage(format!("the token file {shown} cannot be read: {error}"), ""))?;
    Token::new(text.trim()).map_err(|what| Error::usage(format!("the token file {shown} {what}"), ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;

    const FILE: &str = r#"
default = "prod"
[profiles.prod]
control = "https://prod:7400"
ca = "ca.pem"
cert = "~/me.pem"
key = "/keys/me.key"
[profiles.dev]
control = "http://127.0.0.1:7500"
token_file = "token"
"#;

    fn around(text: Option<&str>) -> (tempfile::TempDir, Surroundings) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("o1ctl.toml");
        if let Some(text) = text {
            fs::write(&file, text).unwrap();
        }
        fs::write(dir.path().join("token"), "o1_s3cret\n").unwrap();
        (dir, Surroundings { file: Some(file), home: Some("/home/me".into()), token: None })
    }

    fn global(line: &str) -> Global {
        let words = format!("o1ctl status {line}");
        Args::read(words.split_whitespace().map(Into::into)).unwrap().global
    }

    fn said(line: &str, around: &Surroundings) -> Result<Target, String> {
        resolve(&global(line), around).map_err(|error| format!("{:?}", error.words()))
    }

    #[test]
    fn a_flag_beats_a_profile_and_a_profile_beats_this_machine() {
        let (dir, around) = around(Some(FILE));
        let prod = said("", &around).unwrap();
        assert_eq!(prod.to_string(), "https://prod:7400");
        let files = prod.files().unwrap();
        assert_eq!(files.ca.as_deref(), Some(dir.path().join("ca.pem").as_path()), "beside the file");
        let pair = Pair { cert: "/home/me/me.pem".into(), key: "/keys/me.key".into() };
        assert_eq!(files.pair, Some(pair));
        let other = said("--ca other.pem", &around).unwrap();
        assert_eq!(other.files().unwrap().ca.as_deref(), Some(Path::new("other.pem")), "one by one");
        let dev = said("--profile dev", &around).unwrap();
        assert_eq!((dev.to_string().as_str(), dev.has_token()), ("http://127.0.0.1:7500", true));
        assert!(said("--profile dev --control http://x:1", &around).unwrap_err().contains("both say"));
    }

    #[test]
    fn an_address_by_itself_brings_nothing_of_a_profile() {
        let (_dir, around) = around(Some(&FILE.replace("\"prod\"\n", "\"dev\"\n")));
        assert!(said("", &around).unwrap().has_token(), "the default profile");
        let other = said("--control http://127.0.0.1:9", &around).unwrap();
        assert!(!other.has_token(), "no token for somebody else");
    }

    #[test]
    fn the_address_of_the_environment_gives_way_to_a_profile_that_is_typed() {
        let (_dir, around) = around(Some(FILE));
        let mut from_environment = global("--profile dev");
        from_environment.control = Some("http://127.0.0.1:9".to_owned());
        assert_eq!(resolve(&from_environment, &around).unwrap().to_string(), "http://127.0.0.1:7500");
        from_environment.typed.profile = false;
        assert_eq!(resolve(&from_environment, &around).unwrap().to_string(), "http://127.0.0.1:9");
    }

    #[test]
    fn what_the_environment_says_of_who_one_is_goes_to_no_profile_that_is_typed() {
        let (dir, mut around) = around(Some(FILE));
        around.token = Some("o1_other".to_owned());
        let mut wanted = global("--profile dev");
        (wanted.cert, wanted.key) = (Some("other.pem".into()), Some("other.key".into()));
        let dev = resolve(&wanted, &around).unwrap();
        let own =
            Target::new("http://127.0.0.1:7500", ClientFiles::default(), Token::new("o1_s3cret").ok(), false);
        assert_eq!(dev, own.unwrap(), "its own token, and no certificate");

        (wanted.profile, wanted.ca) = (Some("prod".to_owned()), Some("other-ca.pem".into()));
        let prod = resolve(&wanted, &around).unwrap();
        assert!(!prod.has_token(), "the token is for somebody else");
        let files = prod.files().unwrap();
        assert_eq!(files.ca.as_deref(), Some(dir.path().join("ca.pem").as_path()));
        assert_eq!(files.pair.as_ref().unwrap().cert, Path::new("/home/me/me.pem"));

        // A profile that is the default, or named by the environment, gives way to the environment as before.
        wanted.typed.profile = false;
        let prod = resolve(&wanted, &around).unwrap();
        assert!(prod.has_token());
        assert_eq!(prod.files().unwrap().pair.as_ref().unwrap().cert, Path::new("other.pem"));
    }

    #[test]
    fn flags_and_what_a_typed_profile_does_not_say_are_taken_all_the_same() {
        let (dir, mut around) = around(Some("[profiles.bare]\ncontrol = \"https://bare:7400\"\n"));
        around.token = Some("o1_other".to_owned());
        assert!(said("--profile bare", &around).unwrap().has_token(), "it says nothing of who one is");
        fs::write(dir.path().join("o1ctl.toml"), FILE).unwrap();
        let token = dir.path().join("token");
        let line = format!("--profile prod --ca a --cert b --key c --token-file {}", token.display());
        let prod = said(&line, &around).unwrap();
        let pair = Pair { cert: "b".into(), key: "c".into() };
        let files = ClientFiles { ca: Some("a".into()), pair: Some(pair) };
        assert!(prod.has_token());
        assert_eq!(prod.files(), Some(&files));
    }

    #[test]
    fn a_file_that_is_not_there_is_no_error_unless_a_profile_is_named() {
        let (_dir, around) = around(None);
        assert_eq!(said("", &around).unwrap().to_string(), HERE);
        assert!(said("--profile prod", &around).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn mistakes_are_said_with_their_place_and_without_secrets() {
        let unknown = "[profiles.a]\ncontrol = \"https://x:1\"\ntoken = \"s3cret\"\n";
        for (text, words) in [
            (unknown, "o1ctl.toml:3:1: unknown field `token`"),
            ("[profiles.a]\nca = \"x\"\n", "missing field `control`"),
            ("defualt = \"a\"\n", "o1ctl.toml:1:1: unknown field `defualt`"),
            ("[profiles.a\n", "o1ctl.toml:1:"),
            ("[profiles.a]\ncontrol = \"https://x:1\"\ncert = \"c\"\n", "cert and key belong together"),
            ("default = \"b\"\n[profiles.a]\ncontrol = \"https://x:1\"\n", "it has: a"),
        ] {
            let (_dir, around) = around(Some(text));
            let error = said("", &around).unwrap_err();
            assert!(error.contains(words) && !error.contains("s3cret"), "{text}: {error}");
        }
    }

    #[test]
    fn a_token_comes_from_its_file_or_the_environment() {
        let (dir, mut around) = around(None);
        assert!(!said("", &around).unwrap().has_token());
        around.token = Some("o1_other".to_owned());
        let target = said("", &around).unwrap();
        assert!(target.has_token() && !format!("{target:?}").contains("o1_other"), "{target:?}");
        fs::write(dir.path().join("bad"), "s3cret\nmore").unwrap();
        let error = said(&format!("--token-file {}/bad", dir.path().display()), &around).unwrap_err();
        assert!(error.contains("is no token") && !error.contains("s3cret"), "{error}");
    }
}
