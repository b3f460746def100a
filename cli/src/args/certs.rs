//! What was typed of certificates and of the audit.

use super::{Since, failover};
use clap::{Subcommand, ValueEnum};
use std::path::PathBuf;

/// `o1ctl certs …`.
#[derive(Debug, Subcommand)]
pub enum Certs {
    /// Make a small private authority, and certificates for a first deployment
    Init(Make),
    /// Make more certificates with that authority
    Add(Make),
    /// Make certificates anew, with new keys, before they expire
    Renew(Renew),
    /// What there is: for whom, and until when
    List(List),
}

/// `o1ctl certs init` and `o1ctl certs add`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl certs init --host control.example.org --node n1 --node n2
  o1ctl certs init /etc/only1/certs --host 10.0.0.5 --node n1 --user operator/ann
  o1ctl certs add --node n3 --user viewer/grafana

Nothing that is there is overwritten, keys are for their owner alone, and the next commands are printed.
The key of the authority, ca.key, makes certificates for anybody: keep it away from the machines that run the planes.")]
pub struct Make {
    /// Where the files are
    #[arg(value_name = "DIR", default_value = "certs")]
    pub dir: PathBuf,
    /// What the control plane is called by those who connect, a DNS name or an address; localhost always is
    #[arg(long = "host", value_name = "NAME", value_parser = host)]
    pub hosts: Vec<String>,
    /// A node: its --node-id
    #[arg(long = "node", value_name = "ID", value_parser = node)]
    pub nodes: Vec<String>,
    /// Somebody who uses o1ctl or the API: ROLE/NAME with the role viewer, editor or operator [default of init:
    /// operator/admin]
    #[arg(long = "user", value_name = "ROLE/NAME", value_parser = user)]
    pub users: Vec<User>,
    /// How long the certificates are valid; the authority is for ten years
    #[arg(long, value_name = "N", default_value = "365", value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub days: u16,
}

/// `o1ctl certs renew`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl certs renew --within 30        what expires in the next 30 days
  o1ctl certs renew node-n1 --days 90  one of them
  o1ctl certs renew control-plane --host control.example.org

Running planes take new files by themselves, within a second or with their next connection.")]
pub struct Renew {
    /// Which, as o1ctl certs list names them [default: all]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Where the files are
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub dir: PathBuf,
    /// Only what expires in the next N days
    #[arg(long, value_name = "N")]
    pub within: Option<u16>,
    /// What the control plane is called too, beside what its certificate says; NAME is then control-plane
    #[arg(long = "host", value_name = "HOST", value_parser = host, requires = "names", conflicts_with = "within")]
    pub hosts: Vec<String>,
    /// How long they are valid
    #[arg(long, value_name = "N", default_value = "365", value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub days: u16,
}

/// `o1ctl certs list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Where the files are
    #[arg(value_name = "DIR", default_value = "certs")]
    pub dir: PathBuf,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// What somebody may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// A data plane
    Node,
    /// Looks
    Viewer,
    /// Changes the configuration too
    Editor,
    /// Orders failovers, maintenance and purges too
    Operator,
}

impl Role {
    /// As people write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Operator => "operator",
        }
    }
}

/// Somebody with a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// What he may.
    pub role: Role,
    /// What he is called.
    pub name: String,
}

/// `o1ctl audit`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl audit                          the newest 50
  o1ctl audit --kind refusal --since 24h
  o1ctl audit --who ann --json | jq -r '[.at, .action, .subject, .why] | @tsv'")]
pub struct Audit {
    /// Changes or refusals alone
    #[arg(long, value_enum, value_name = "KIND")]
    pub kind: Option<AuditKind>,
    /// Of this one alone: the name in a certificate or of a token
    #[arg(long, value_name = "NAME")]
    pub who: Option<String>,
    /// Not older than this: 15m, 24h, or a moment such as 2026-11-21T17:00:00Z
    #[arg(long, value_name = "TIME", value_parser = failover::since)]
    pub since: Option<Since>,
    /// The most entries
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// For programs: one object in each line
    #[arg(long)]
    pub json: bool,
}

/// What an entry of the audit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AuditKind {
    /// Somebody who may asked for a change
    Change,
    /// Somebody was not let in, or may not
    Refusal,
}

fn name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(plain) && text != "." && text != ".." {
        return Ok(text.to_owned());
    }
    Err("1 to 64 letters, digits, `.`, `_`, `-` or `@`".to_owned())
}

/// As `--node-id` of a data plane has it.
fn node(text: &str) -> Result<String, String> {
    if text.contains('@') {
        return Err("1 to 64 letters, digits, `.`, `_` or `-`, as --node-id has it".to_owned());
    }
    name(text)
}

fn user(text: &str) -> Result<User, String> {
    let wrong =
        || "ROLE/NAME is needed, such as operator/ann; roles are viewer, editor and operator".to_owned();
    let (role, called) = text.split_once('/').ok_or_else(wrong)?;
    let role = [Role::Viewer, Role::Editor, Role::Operator].into_iter().find(|one| one.word() == role);
    Ok(User { role: role.ok_or_else(wrong)?, name: name(called)? })
}

fn host(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<std::net::IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    let named = text.strip_prefix("*.").unwrap_or(text);
    if text.len() <= 253 && named.split('.').all(label) {
        return Ok(text.to_owned());
    }
    Err("a DNS name or an address is needed, without scheme and port".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_users_and_hosts_are_checked() {
        assert_eq!(
            user("operator/ann@x.org").map(|user| (user.role, user.name)),
            Ok((Role::Operator, "ann@x.org".into()))
        );
        for text in ["ann", "node/n1", "king/ann", "viewer/", "viewer/a/b", "viewer/a b", "viewer/.."] {
            assert!(user(text).is_err(), "{text}");
        }
        assert!(node("n-1.a_b").is_ok());
        for text in ["a@b", "", "a/b", ".."] {
            assert!(node(text).is_err(), "{text}");
        }
        for text in ["localhost", "control.example.org", "*.example.org", "10.0.0.5", "::1", "[::1]"] {
            assert!(host(text).is_ok(), "{text}");
        }
        for text in ["", "https://x", "x:7400", "a..b", "-a", "a_b", "*.*.x"] {
            assert!(host(text).is_err(), "{text}");
        }
    }
}
