//! What was typed of looking after a fleet: upstreams, drains, the doctor, reports, and what shells and `man` read.

use super::failover::{Since, since, text};
use crate::output::span;
use clap_complete::Shell;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// `o1ctl upstreams`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl upstreams
  o1ctl upstreams weather
  o1ctl upstreams --json | jq '.upstreams[] | {name, endpoints: [.endpoints[].endpoint]}'

Counts are sums over all nodes since the control plane started; what is in flight or waits is of connected nodes, as
they reported it last. The exit code speaks of what is shown, as that of o1ctl status.")]
pub struct Upstreams {
    /// Show this upstream alone
    pub upstream: Option<String>,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `o1ctl drain`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl drain n1 --reason 'it gets a new disk' --wait
  o1ctl drain n1 --reason 'it is back' --undo

The node opens no new sessions and says 503 on /readyz, so that load balancers send clients elsewhere; sessions that
are open, and requests without one, are answered as before. The order stands until --undo, also after the node or the
control plane was restarted. With --wait the exit code is 0 when nothing is open or in flight any more.")]
pub struct Drain {
    /// The node
    pub node: String,
    /// Why; it stands in the log of the control plane and in `o1ctl nodes`
    #[arg(long, value_name = "TEXT", value_parser = text)]
    pub reason: String,
    /// Take new sessions again
    #[arg(long)]
    pub undo: bool,
    /// Wait until it is so, at most this long
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "60s",
        value_parser = span::parse
    )]
    pub wait: Option<Duration>,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `o1ctl doctor`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl doctor                                      this machine, and the control plane if one runs
  o1ctl doctor --config only1.yaml                  and what the configuration needs of this machine
  o1ctl doctor --json | jq '.checks[] | select(.state != \"ok\")'

It changes nothing, and needs nothing to run. Each check says ok, warn or fail, and what to do.
The exit code is 1 when a check fails.")]
pub struct Doctor {
    /// The configuration to check [default: only1.yaml, if it is here]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A state directory to look at; may be given more than once [default: O1_STATE_DIR, and that of `o1ctl up`]
    #[arg(long = "state-dir", value_name = "DIR")]
    pub state_dirs: Vec<PathBuf>,
    /// A port to look at; may be given more than once [default: those that the planes use if nothing is said]
    #[arg(long = "port", value_name = "ADDR")]
    pub ports: Vec<SocketAddr>,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `o1ctl report`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl report > report.md
  o1ctl report --since 168h --control http://10.0.0.5:7400

Markdown, of what was measured and nothing else: what is not measured is said to be absent.")]
pub struct Report {
    /// From when on: 15m, 24h, or a moment such as 2026-11-21T17:00:00Z
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = since)]
    pub since: Since,
}

/// `o1ctl completions`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl completions bash > ~/.local/share/bash-completion/completions/o1ctl
  o1ctl completions zsh > \"${fpath[1]}/_o1ctl\"
  o1ctl completions fish > ~/.config/fish/completions/o1ctl.fish")]
pub struct Completions {
    /// bash, elvish, fish, powershell or zsh
    #[arg(value_enum, hide_possible_values = true)]
    pub shell: Shell,
}

/// `o1ctl man`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  o1ctl man ~/.local/share/man/man1 && man o1ctl-status")]
pub struct Man {
    /// Where the pages go, one for each command; made where it is not there
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}
