//! What was typed of the configuration.

use crate::output::span;
use clap::Subcommand;
use std::{path::PathBuf, time::Duration};

/// `o1ctl config …`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Say everything that is wrong with a file, without a control plane
    Check(Check),
    /// Make a file what the fleet runs
    Apply(Apply),
    /// What a file would change
    Diff(Diff),
    /// Which revisions there were: who, when, why, and what became of them
    History(History),
    /// Make what an earlier revision said what the fleet runs
    Rollback(Rollback),
    /// The document of a revision; secrets are not shown
    Show(Show),
    /// The JSON Schema of configuration files, for editors
    #[command(after_long_help = "\
Examples:
  o1ctl config schema > only1.schema.json

With the first line `# yaml-language-server: $schema=only1.schema.json` editors complete and check the file.
It knows shapes: o1ctl config check knows every rule.")]
    Schema,
    /// Turn the `mcpServers` of a desktop client into a configuration file
    Import(Import),
}

/// `o1ctl config check`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl config check only1.yaml
  envsubst < only1.yaml.in | o1ctl config check --strict -")]
pub struct Check {
    /// The file; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Refuse warnings too
    #[arg(long)]
    pub strict: bool,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// Goes with each change.
#[derive(Debug, clap::Args)]
pub struct Means {
    /// Say what would change, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Only if this version runs, such as 1.7: o1ctl config history shows it
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub expect: Option<(u64, u64)>,
    /// Wait until every connected node runs it, at most this long
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "5m",
        value_parser = span::parse,
        conflicts_with = "dry_run"
    )]
    pub wait: Option<Duration>,
    /// Names the change: the same one within a day is made once [default: random]
    #[arg(long, value_name = "ID", value_parser = super::failover::text)]
    pub request_id: Option<String>,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `o1ctl config apply`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl config apply only1.yaml --comment 'a backup for files' --wait
  o1ctl config apply only1.yaml --dry-run
  o1ctl config apply only1.yaml --expect 1.7        unless somebody changed it since

One node gets it first, then a tenth of them, then all. If one refuses it, all of them get back what ran before.
Only where the control plane was started without --config: else its file says what runs.
The exit code is 0 when it was accepted, with --wait when every connected node runs it.")]
pub struct Apply {
    /// The file; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Why; it stands in the history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub comment: String,
    /// How.
    #[command(flatten)]
    pub means: Means,
}

/// `o1ctl config rollback`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl config rollback 6 --reason 'calls of files time out' --wait

It becomes a new revision and reaches the nodes as any other.")]
pub struct Rollback {
    /// The number that o1ctl config history shows
    #[arg(value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    pub revision: u64,
    /// Why; it stands in the history
    #[arg(long, value_name = "TEXT", value_parser = super::failover::text)]
    pub reason: String,
    /// How.
    #[command(flatten)]
    pub means: Means,
}

/// `o1ctl config diff`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl config diff only1.yaml

The exit code is 0 when nothing differs, 1 when something does.")]
pub struct Diff {
    /// The file; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `o1ctl config history`.
#[derive(Debug, clap::Args)]
pub struct History {
    /// The most revisions
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `o1ctl config show`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl config show                what should run
  o1ctl config show 6 > old.yaml   what revision 6 said; who, when and why go to stderr")]
pub struct Show {
    /// The number that o1ctl config history shows [default: what should run]
    #[arg(value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    pub revision: Option<u64>,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `o1ctl config import`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl config import ~/.config/Claude/claude_desktop_config.json > only1.yaml

Values that look like secrets stay behind: the file refers to variables of the node, and notes on stderr name them.")]
pub struct Import {
    /// The JSON file; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

fn version(text: &str) -> Result<(u64, u64), String> {
    let parts = text
        .split_once('.')
        .and_then(|(generation, revision)| Some((generation.parse().ok()?, revision.parse().ok()?)));
    parts.ok_or_else(|| "a version such as 1.7 is needed, as o1ctl config history shows it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_they_are_shown() {
        assert_eq!(version("1.7"), Ok((1, 7)));
        for text in ["7", "1.", ".7", "a.b", "1.7.2", "-1.7"] {
            assert!(version(text).unwrap_err().contains("1.7"), "{text}");
        }
    }
}
