//! What was typed. Nothing here touches the world; clap reads the environment for `O1_CONTROL`.

use crate::{output::span, terminal::Colour};
use clap::{Parser, Subcommand};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

const EXIT_CODES: &str = "\
Exit codes:
  0   healthy, or done
  1   degraded, or not valid, or failed
  2   failover active (from a later release)
  3   the control plane gave no answer
  4   the answer is older than 30 seconds
  64  the command line makes no sense";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "o1ctl",
    version,
    about = "only1: the MCP gateway that stays up. This command brings it up, shows the fleet and checks configurations.",
    after_help = EXIT_CODES,
    after_long_help = format!("\
Examples:
  o1ctl up                              a pair and a sample upstream, to look around
  o1ctl up --config only1.yaml          a pair for your own servers
  o1ctl status --watch                  the fleet, redrawn as it changes
  o1ctl --control http://10.0.0.5:7400 nodes
  o1ctl config check only1.yaml && git commit only1.yaml

{EXIT_CODES}"),
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Args {
    /// For every command.
    #[command(flatten, next_help_heading = "For every command")]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// For every command.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// Where the control plane serves gRPC
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "O1_CONTROL",
        default_value = "http://127.0.0.1:7400"
    )]
    pub control: String,
    /// The longest wait for a connection, and for an answer
    #[arg(long, global = true, value_name = "TIME", default_value = "5s", value_parser = span::parse)]
    pub timeout: Duration,
    /// Colour: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value = "auto",
        hide_possible_values = true
    )]
    pub color: Colour,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a control plane and a data plane here, until Ctrl-C
    Up(Up),
    /// What is happening now: configuration, upstreams, nodes
    Status(Status),
    /// The nodes: who runs what, who refused what and why
    Nodes(Nodes),
    /// Work with configuration files
    Config {
        /// What to do with them.
        #[command(subcommand)]
        command: Config,
    },
    /// One MCP server of the sample that `up` starts
    #[command(hide = true)]
    SampleServer(SampleServer),
    /// Become a program that ends when `up` does
    #[command(hide = true)]
    Tether(Tether),
}

/// `o1ctl up`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Without --config a sample is started: two instances of a small MCP server as primary and backup.

Examples:
  o1ctl up
  o1ctl up --config only1.yaml --listen 127.0.0.1:9000
  o1ctl up --listen 127.0.0.1:0 --control-listen 127.0.0.1:0     let the system choose the ports

Data (addresses, what clients read) goes to stdout, logs of both planes to stderr.
Ctrl-C stops both in order and waits for calls in flight; twice kills them.")]
pub struct Up {
    /// The configuration; edits to it take effect while it runs
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where MCP clients connect
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where the control plane serves gRPC
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400")]
    pub control_listen: SocketAddr,
    /// Where state is kept [default: ~/.local/state/only1; without --config: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// `o1ctl status`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl status                        everything, once
  o1ctl status weather --verbose      one upstream, as each node sees it
  o1ctl status --watch                redrawn in place on a terminal, appended in a pipe
  o1ctl status --json | jq '.upstreams[] | select(.state != \"healthy\") | .name'

With UPSTREAM the exit code speaks of that upstream alone.")]
pub struct Status {
    /// Show this upstream alone
    pub upstream: Option<String>,
    /// Follow changes until Ctrl-C, which ends with the exit code of the last picture
    #[arg(long)]
    pub watch: bool,
    /// With --watch: the shortest time between two pictures
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = interval, requires = "watch")]
    pub interval: Duration,
    /// Also totals, stores and every node
    #[arg(long, short)]
    pub verbose: bool,
    /// For programs: one object; with --watch one in each line
    #[arg(long)]
    pub json: bool,
}

/// `o1ctl nodes`.
#[derive(Debug, clap::Args)]
pub struct Nodes {
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `o1ctl config …`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Say everything that is wrong with a configuration file; needs no control plane
    Check(Check),
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

/// `o1ctl sample-server`.
#[derive(Debug, Clone, clap::Args)]
pub struct SampleServer {
    /// What it calls itself
    #[arg(long, default_value = "sample")]
    pub name: String,
    /// Where it listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Where it writes addresses.json once it listens
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// `o1ctl tether`.
#[derive(Debug, clap::Args)]
pub struct Tether {
    /// The process whose end ends this one
    #[arg(long)]
    pub parent: u32,
    /// Program and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<std::ffi::OsString>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = span::parse(text)?;
    if interval < Duration::from_millis(200) {
        return Err("at least 200ms".to_owned());
    }
    Ok(interval)
}

impl Args {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// What clap says; help and version are such errors too.
    pub fn read(line: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(line)
    }
}
