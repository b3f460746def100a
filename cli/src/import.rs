//! The `mcpServers` of desktop clients → a document of ours. Pure.
//!
//! What looks like a secret does not come along: it becomes a reference, and a note says what to set.

use o1_proto::manifest;
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// Characters of an upstream's name.
const NAME: usize = 48;
/// Words in the name of a variable or header whose value is for few.
const SECRET: [&str; 9] =
    ["TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH", "COOKIE", "PRIVATE"];
/// How tokens begin that say what they are.
const PREFIXES: [&str; 11] =
    ["sk-", "sk_", "ghp_", "gho_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "AKIA", "eyJ", "Bearer "];

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The document.
    pub document: String,
    /// What its author should do or know.
    pub notes: Vec<String>,
    /// How many servers it has.
    pub servers: usize,
}

/// Reads what a desktop client keeps.
///
/// # Errors
/// What is not as it should be.
pub fn import(text: &[u8]) -> Result<Imported, String> {
    let found: Value = serde_json::from_slice(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let servers = ["mcpServers", "servers"].iter().find_map(|key| found.get(key)?.as_object());
    let servers = servers.ok_or("it has no `mcpServers`")?;
    let mut work = Work::default();
    for (name, server) in servers {
        work.server(name, server);
    }
    let upstreams =
        if work.upstreams.is_empty() { " {}\n".to_owned() } else { format!("\n{}", work.upstreams) };
    Ok(Imported { document: format!("upstreams:{upstreams}"), notes: work.notes, servers: work.names.len() })
}

#[derive(Default)]
struct Work {
    upstreams: String,
    notes: Vec<String>,
    names: BTreeSet<String>,
    /// What each variable of a node has to be.
    variables: BTreeMap<String, String>,
}

impl Work {
    fn server(&mut self, given: &str, server: &Value) {
        let text = |key: &str| server.get(key).and_then(Value::as_str);
        if server.get("disabled").and_then(Value::as_bool) == Some(true) {
            self.notes.push(format!("{given}: left out, because it is disabled"));
            return;
        }
        let (url, command) = (text("url").or_else(|| text("serverUrl")), text("command"));
        if url.is_none() && command.is_none() {
            self.notes.push(format!("{given}: left out, because it has neither `command` nor `url`"));
            return;
        }
        let name = self.name(given);
        let _ = write!(self.upstreams, "  {name}:\n    primary:\n");
        if let Some(url) = url {
            let _ = writeln!(self.upstreams, "      - url: {}", quoted(url));
            let query = url.split_once('?').map_or("", |(_, query)| query);
            let mut parts = query.split('&').filter_map(|part| part.split_once('='));
            if parts.any(|(key, value)| is_secret(key, value)) {
                self.notes.push(format!(
                    "{name}: its URL holds what looks like a secret, which stands in the document: does the server take \
                     a header instead?"
                ));
            }
            if text("type").or_else(|| text("transport")) == Some("sse") {
                self.upstreams.push_str("        transport: sse\n");
            }
        } else if let Some(command) = command {
            self.command(&name, command, server);
        }
        if let Some(headers) = server.get("headers").and_then(Value::as_object) {
            self.values(&name, "    headers:", headers);
        }
    }

    fn command(&mut self, name: &str, command: &str, server: &Value) {
        let arguments = server.get("args").and_then(Value::as_array).into_iter().flatten();
        let arguments: Vec<&str> = arguments.filter_map(Value::as_str).collect();
        if arguments.iter().any(|argument| is_token(argument)) {
            self.notes.push(format!(
                "{name}: an argument looks like a secret and stands in the document: most servers take it from `env` too"
            ));
        }
        let words: Vec<_> = [command].into_iter().chain(arguments).map(quoted).collect();
        let _ = writeln!(self.upstreams, "      - command: [{}]", words.join(", "));
        if let Some(cwd) = server.get("cwd").and_then(Value::as_str) {
            let _ = writeln!(self.upstreams, "        cwd: {}", quoted(cwd));
        }
        if let Some(env) = server.get("env").and_then(Value::as_object) {
            self.values(name, "        env:", env);
        }
    }

    /// Names and values, where secrets stay behind.
    fn values(&mut self, upstream: &str, head: &str, values: &Map<String, Value>) {
        if values.is_empty() {
            return;
        }
        let _ = writeln!(self.upstreams, "{head}");
        let indent = head.len() - head.trim_start().len() + 2;
        for (key, value) in values {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let shown = match variable(&value) {
                Some(name) => format!("env:{name}"),
                None if is_secret(key, &value) => self.reference(upstream, key, &value),
                None => value,
            };
            let _ = writeln!(self.upstreams, "{:indent$}{}: {}", "", quoted(key), quoted(&shown));
        }
    }

    /// A variable of the node in place of a value.
    fn reference(&mut self, upstream: &str, key: &str, value: &str) -> String {
        let word = |text: &str| -> String {
            let kept = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
            text.chars().map(kept).collect()
        };
        let plain = word(key);
        let is_header = key != plain;
        let is_taken = self.variables.get(&plain).is_some_and(|known| known != value);
        let name = if is_header || is_taken { format!("{}_{plain}", word(upstream)) } else { plain };
        self.variables.insert(name.clone(), value.to_owned());
        let whole = if value.contains(' ') { ", all of it" } else { "" };
        self.notes.push(format!(
            "{upstream}: the value of {key} looks like a secret: set {name} to it{whole} where nodes run"
        ));
        format!("env:{name}")
    }

    /// As the document spells names, and not twice.
    fn name(&mut self, given: &str) -> String {
        let kept = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        let mut name: String = given.chars().map(kept).take(NAME - 3).collect();
        while name.contains("__") {
            name = name.replace("__", "_");
        }
        let trimmed = name.trim_matches(['-', '_']);
        let name = if trimmed.is_empty() { "server" } else { trimmed }.to_owned();
        let mut free = name.clone();
        for number in 2.. {
            if self.names.insert(free.clone()) {
                break;
            }
            free = format!("{name}-{number}");
        }
        if free != given {
            self.notes.push(format!("{given}: called {free}, as names are spelled here"));
        }
        free
    }
}

/// `${NAME}` and `${env:NAME}` are references already.
fn variable(value: &str) -> Option<&str> {
    let name = value.strip_prefix("${")?.strip_suffix('}')?;
    let name = name.strip_prefix("env:").unwrap_or(name);
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some(name)
}

fn is_secret(key: &str, value: &str) -> bool {
    let key = key.to_ascii_uppercase();
    let is_reference = ["env:", "file:"].iter().any(|prefix| value.starts_with(prefix));
    let is_named = SECRET.iter().any(|word| key.contains(word)) && !matches!(value, "" | "true" | "false");
    !is_reference && (is_named || is_token(value))
}

/// Long, of one word, with letters and digits mixed; or with a beginning that says it.
fn is_token(value: &str) -> bool {
    let is_mixed = value.chars().any(|c| c.is_ascii_digit()) && value.chars().any(char::is_alphabetic);
    let is_word = value.chars().all(|c| c.is_ascii_alphanumeric() || "-_=+".contains(c));
    PREFIXES.iter().any(|prefix| value.starts_with(prefix)) || value.len() >= 24 && is_mixed && is_word
}

/// Plain where YAML takes it for text for certain, else as JSON writes it, which YAML reads.
fn quoted(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "yes" | "no" | "on" | "off" | "null"
        );
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

/// What the document says wrong all the same, as lines.
#[must_use]
pub fn problems(imported: &Imported) -> Vec<String> {
    match manifest::parse("only1.yaml", imported.document.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(refused) => refused.problems.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(text: &str) -> Imported {
        let imported = import(text.as_bytes()).unwrap();
        assert_eq!(problems(&imported), Vec::<String>::new(), "{}", imported.document);
        imported
    }

    #[test]
    fn servers_of_desktop_clients_become_upstreams() {
        let imported = imported(
            r#"{"theme": "dark", "mcpServers": {
                "filesystem": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/srv/my docs"]},
                "My GitHub!": {"command": "docker", "args": ["run", "-i"], "cwd": "/tmp",
                               "env": {"GITHUB_TOKEN": "ghp_hunter2", "LEVEL": "debug", "PORT": 8080}},
                "my-github": {"command": "x", "env": {"GITHUB_TOKEN": "other", "FROM": "${env:HOME_URL}"}},
                "remote": {"url": "https://example.com/mcp?level=debug&api_key=abc", "headers": {"Authorization": "Bearer abc", "X-Level": "7"}},
                "old": {"type": "sse", "url": "http://127.0.0.1:1/sse"},
                "off": {"command": "x", "disabled": true},
                "odd": {"what": 1}
            }}"#,
        );
        insta::assert_snapshot!(imported.document, @r#"
        upstreams:
          My-GitHub:
            primary:
              - command: [docker, run, "-i"]
                cwd: /tmp
                env:
                  GITHUB_TOKEN: "env:GITHUB_TOKEN"
                  LEVEL: debug
                  PORT: "8080"
          filesystem:
            primary:
              - command: [npx, "-y", "@modelcontextprotocol/server-filesystem", "/srv/my docs"]
          my-github:
            primary:
              - command: [x]
                env:
                  FROM: "env:HOME_URL"
                  GITHUB_TOKEN: "env:MY_GITHUB_GITHUB_TOKEN"
          old:
            primary:
              - url: "http://127.0.0.1:1/sse"
                transport: sse
          remote:
            primary:
              - url: "https://example.com/mcp?level=debug&api_key=abc"
            headers:
              Authorization: "env:REMOTE_AUTHORIZATION"
              X-Level: "7"
        "#);
        insta::assert_snapshot!(imported.notes.join("\n"), @"
        My GitHub!: called My-GitHub, as names are spelled here
        My-GitHub: the value of GITHUB_TOKEN looks like a secret: set GITHUB_TOKEN to it where nodes run
        my-github: the value of GITHUB_TOKEN looks like a secret: set MY_GITHUB_GITHUB_TOKEN to it where nodes run
        odd: left out, because it has neither `command` nor `url`
        off: left out, because it is disabled
        remote: its URL holds what looks like a secret, which stands in the document: does the server take a header instead?
        remote: the value of Authorization looks like a secret: set REMOTE_AUTHORIZATION to it, all of it where nodes run
        ");
        for secret in ["hunter2", "other", "Bearer abc"] {
            assert!(!imported.document.contains(secret) && !imported.notes.join("").contains(secret));
        }
    }

    #[test]
    fn what_looks_like_a_secret_is_told_from_what_does_not() {
        for (key, value, expected) in [
            ("API_KEY", "x", true),
            ("Authorization", "Bearer x", true),
            ("LEVEL", "debug", false),
            ("PATH", "/usr/bin:/bin", false),
            ("API_KEY", "env:API_KEY", false),
            ("USE_AUTH", "true", false),
            ("ANYTHING", "sk-123", true),
            ("ANYTHING", "0123456789abcdef0123456789abcdef", true),
            ("ANYTHING", "a sentence with 24 or more characters in it", false),
            ("URL", "https://example.com/a/long/path/with/1/digit", false),
        ] {
            assert_eq!(is_secret(key, value), expected, "{key}={value}");
        }
    }

    #[test]
    fn nothing_is_made_up() {
        for (text, why) in
            [("{", "not JSON"), ("{}", "no `mcpServers`"), (r#"{"mcpServers": []}"#, "no `mcpServers`")]
        {
            assert!(import(text.as_bytes()).unwrap_err().contains(why), "{text}");
        }
        assert_eq!(imported(r#"{"mcpServers": {}}"#).document, "upstreams: {}\n");
        let long = format!(
            r#"{{"mcpServers": {{"{}": {{"command": "x"}}, "__": {{"command": "x"}}}}}}"#,
            "a_".repeat(60)
        );
        assert_eq!(imported(&long).servers, 2);
    }
}
