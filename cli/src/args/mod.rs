//! What was typed. Nothing here touches the world; clap reads the environment for `O1_CONTROL`.

mod certs;
mod config;
mod failover;
mod global;
mod ops;

pub use certs::{
    Audit, AuditKind, Certs, List as ListCerts, Make as MakeCerts, Renew as RenewCerts, Role, User,
};
pub use config::{Apply, Check, Config, Diff, History, Import, Means, Rollback, Show};
pub use failover::{Events, Maintenance, OrderStore, Pin, Side, Sign, Since, Switch, Unpin};
pub use global::{Global, Typed};
pub use ops::{Completions, Doctor, Drain, Man, Report, Upstreams};

use crate::output::span;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, parser::ValueSource};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

const EXIT_CODES: &str = "\
Exit codes:
  0   healthy, or done
  1   degraded, or not valid, or failed
  2   failover active
  3   the control plane gave no answer
  4   the answer is older than 30 seconds
  5   the control plane does not know you, or you may not
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
  o1ctl top                             the same and more, on the whole terminal
  o1ctl events --follow                 failovers and restorations, as they happen
  o1ctl --profile prod nodes            another control plane, from ~/.config/only1/o1ctl.toml
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

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a control plane and a data plane here, until Ctrl-C
    Up(Up),
    /// What is happening now: configuration, upstreams, nodes
    Status(Status),
    /// The fleet on the whole terminal, live: upstreams, cache, events, logs
    Top(Top),
    /// The nodes: who runs what, who refused what and why
    Nodes(Nodes),
    /// The upstreams: their endpoints, and how these do
    Upstreams(Upstreams),
    /// The tools a node offers: names, owners, and what is hidden and why
    Tools(Tools),
    /// Who serves a tool, or why nobody does; why an upstream is where it is; what an error code or a rule means
    Explain(Explain),
    /// What happened: failovers, restorations, decisions
    Events(Events),
    /// Order the backup of an upstream, by hand
    #[command(after_long_help = "\
Examples:
  o1ctl failover files --reason 'the disk is replaced' --wait
  o1ctl failover files --reason test --dry-run

The control plane decides again afterwards, after the usual hold: o1ctl pin keeps the backup for longer.
The exit code is 0 when it was ordered, with --wait when every connected node is there.")]
    Failover(OrderStore),
    /// Order the primary of an upstream, by hand; what was written meanwhile is synced back first
    #[command(after_long_help = "\
Examples:
  o1ctl restore files --reason 'the disk is new' --wait
  o1ctl restore files --reason 'give up what it refused' --force

The exit code is 0 when it was ordered, with --wait when every connected node is there.")]
    Restore(OrderStore),
    /// Hold an upstream at a store: no failover, no restoration by itself
    #[command(after_long_help = "\
Examples:
  o1ctl pin files backup --for 1h --reason 'the disk is replaced'
  o1ctl pin files primary --reason 'the backup is rebuilt'")]
    Pin(Pin),
    /// End a pin: the control plane decides again
    Unpin(Unpin),
    /// Let nothing happen by itself for a while, in the whole fleet
    #[command(after_long_help = "\
Examples:
  o1ctl maintenance on --for 30m --reason 'the network is rebuilt'
  o1ctl maintenance off --reason done

Orders by hand are carried out all the same.")]
    Maintenance(Maintenance),
    /// Let a node take no new sessions, and finish what it has
    Drain(Drain),
    /// What the processes of an upstream wrote to stderr
    Logs(Logs),
    /// Look for what is wrong here: configuration, versions, clocks, disks, ports, programs
    Doctor(Doctor),
    /// What happened and how it does, as Markdown
    Report(Report),
    /// What nodes keep of answers: how it does, and throwing it away
    Cache {
        /// What to do with it.
        #[command(subcommand)]
        command: Cache,
    },
    /// Certificates for the planes and for those who ask them; needs no control plane
    Certs {
        /// What to do with them.
        #[command(subcommand)]
        command: Certs,
    },
    /// Who changed what and why, and who was refused
    Audit(Audit),
    /// Tokens that clients show, or those who ask the control plane
    Token {
        /// What to do with them.
        #[command(subcommand)]
        command: Token,
    },
    /// What the fleet runs: change it, look at it, go back
    Config {
        /// What to do with them.
        #[command(subcommand)]
        command: Config,
    },
    /// What a shell needs to complete commands
    Completions(Completions),
    /// Manual pages
    Man(Man),
    /// One MCP server of the sample that `up` starts
    #[command(hide = true)]
    SampleServer(SampleServer),
    /// Call the sample that `up` starts again and again, and say who answers
    #[command(hide = true)]
    SampleCalls(SampleCalls),
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

/// `o1ctl top`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Keys: 1 to 5 or tab for another view, arrows or jk to choose or scroll, / to filter, s and S to sort, p to hold still,
? for all of them, q or Ctrl-C to end.

It needs a terminal, with at least 80 columns and 24 lines to show everything. Colour only repeats what words say:
NO_COLOR and --color never take nothing away. Without a terminal: o1ctl status --watch.
The exit code is 0 however the fleet does: o1ctl status judges it.")]
pub struct Top {
    /// The shortest time between two pictures
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
}

/// `o1ctl nodes`.
#[derive(Debug, clap::Args)]
pub struct Nodes {
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// Where a question is asked.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// On the route of this virtual server, /mcp/NAME [default: /mcp]
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// As this node sees it [default: the connected node whose id comes first]
    #[arg(long, value_name = "ID")]
    pub node: Option<String>,
}

impl Place {
    /// The virtual server; empty: `/mcp`.
    #[must_use]
    pub fn server(&self) -> &str {
        self.server.as_deref().unwrap_or_default()
    }

    /// The node; empty: any.
    #[must_use]
    pub fn node(&self) -> &str {
        self.node.as_deref().unwrap_or_default()
    }
}

/// `o1ctl tools`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl tools                          what clients of /mcp see
  o1ctl tools --server coding --all    a virtual server, and what it hides
  o1ctl tools --json | jq -r '.tools[].name'

The exit code is 1 when an upstream of the route could not be listed the last time.")]
pub struct Tools {
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// Hidden ones too, each with its reason
    #[arg(long)]
    pub all: bool,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `o1ctl explain`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl explain weather__forecast
  o1ctl explain write_file --server coding      by the upstream's own name
  o1ctl explain write_file --principal ci       for the token named ci
  o1ctl explain weather                         an upstream: which store serves, why, and what happens next
  o1ctl explain -33004                          an error code; needs no control plane
  o1ctl explain prefix-clash                    a rule of the configuration; neither does this

A tool that is called like an upstream, a code or a rule is asked for as UPSTREAM__NAME, or with --server, --node or
--principal.
The exit code is 0 when clients can call it, 1 when they cannot; of an upstream as that of o1ctl status UPSTREAM.")]
pub struct Explain {
    /// An upstream, a tool (the name that clients use, its upstream's name for it, or UPSTREAM__NAME), the number or
    /// the word of an error, or the rule that a problem of a configuration names
    #[arg(value_name = "WORD", allow_negative_numbers = true)]
    pub tool: String,
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// For the static token of this name [default: somebody who may use everything]
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `o1ctl logs`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl logs files                 the last lines of every node
  o1ctl logs files --follow        and the next ones, until Ctrl-C
  o1ctl logs files --node n1 --tail 200

Only processes that nodes start have a log here; servers behind a URL keep their own.")]
pub struct Logs {
    /// The upstream
    pub upstream: String,
    /// New lines too, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// The most lines of the past, of each node; nodes keep 200
    #[arg(long, value_name = "N", default_value = "50")]
    pub tail: u32,
    /// Of this node [default: of every connected node]
    #[arg(long, value_name = "ID")]
    pub node: Option<String>,
    /// For programs: one object in each line
    #[arg(long)]
    pub json: bool,
}

/// `o1ctl cache …`.
#[derive(Debug, Subcommand)]
pub enum Cache {
    /// Look-ups, entries and what became of them, by upstream and tier
    Stats(CacheStats),
    /// Make nodes forget, so that the next caller asks the upstream
    Purge(CachePurge),
}

/// A part of the cache, by kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// Results of tools that the configuration names
    Tools,
    /// Resources that were read
    Resources,
    /// Lists, server/discover, and prompts that the configuration names
    Catalogue,
}

impl From<Tier> for o1_proto::model::Tier {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::Tools => Self::Tools,
            Tier::Resources => Self::Resources,
            Tier::Catalogue => Self::Catalogue,
        }
    }
}

/// `o1ctl cache stats`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl cache stats
  o1ctl cache stats --upstream weather --tier resources
  o1ctl cache stats --json | jq '.upstreams[].cache[] | {tier, hits, misses}'

Counts are sums over all nodes since the control plane started, entries and bytes what connected nodes hold, both as
nodes reported them last: they do so every 5 s.
RATE is the part of the look-ups that an entry answered; who waited for what another caller asked was not hit.")]
pub struct CacheStats {
    /// This upstream alone
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<String>,
    /// This tier alone: tools, resources or catalogue
    #[arg(long, value_name = "TIER", value_enum, hide_possible_values = true)]
    pub tier: Option<Tier>,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `o1ctl cache purge`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl cache purge                                    everything, everywhere
  o1ctl cache purge --upstream weather                 of one upstream
  o1ctl cache purge --tier resources --node n1         on one node

The exit code is 1 when a node did not answer or is not connected; it is named, and keeps what it has.")]
pub struct CachePurge {
    /// Answers of this upstream alone
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<String>,
    /// Answers of this tier alone: tools, resources or catalogue
    #[arg(long, value_name = "TIER", value_enum, hide_possible_values = true)]
    pub tier: Option<Tier>,
    /// On this node alone [default: on every node]
    #[arg(long, value_name = "ID")]
    pub node: Option<String>,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `o1ctl token …`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a random token, and the line that makes it count; needs no control plane
    New(NewToken),
}

/// `o1ctl token new`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The token is shown once and kept nowhere: the configuration gets its hash.

Examples:
  o1ctl token new --name ci                      for a client of the gateway: the line is for the configuration
  o1ctl token new --name ann --role operator     for o1ctl and programs: the line is for the control plane's --tokens")]
pub struct NewToken {
    /// Whose it is; sessions belong to the name
    #[arg(long, value_name = "NAME", default_value = "client")]
    pub name: String,
    /// For the control plane rather than for the gateway: what it may there, viewer, editor, operator, or node for the
    /// data plane of that name
    #[arg(long, value_name = "ROLE", value_enum, hide_possible_values = true)]
    pub role: Option<Role>,
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

/// `o1ctl sample-calls`.
#[derive(Debug, clap::Args)]
pub struct SampleCalls {
    /// The gateway, as clients reach it
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080/mcp")]
    pub url: http::Uri,
    /// Between two calls
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = span::parse)]
    pub every: Duration,
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
        let matches = Self::command().try_get_matches_from(line)?;
        let mut args = Self::from_arg_matches(&matches)?;
        let typed = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        args.global.typed = Typed {
            control: typed("control"),
            profile: typed("profile"),
            ca: typed("ca"),
            pair: typed("cert") || typed("key"),
        };
        Ok(args)
    }
}
