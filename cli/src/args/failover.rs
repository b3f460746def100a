//! What was typed of failover: what happened, and orders.

use crate::{events::EventKind, failover::Store, output::span};
use clap::ValueEnum;
use jiff::Timestamp;
use std::time::Duration;

/// `o1ctl events`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  o1ctl events                                      the newest 50
  o1ctl events --follow --upstream files            and the next ones, until Ctrl-C
  o1ctl events --since 24h --type failover_committed,restored
  o1ctl events --json | jq -r '[.at, .node_id, .type] | @tsv'

--follow goes on where it was when the connection to the control plane was lost: nothing is missed or told twice.")]
pub struct Events {
    /// The next ones too, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// Not older than this: 15m, 24h, or a moment such as 2026-11-21T17:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Since>,
    /// Of this upstream alone
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<String>,
    /// Seen by this node alone; decisions have no node
    #[arg(long, value_name = "ID")]
    pub node: Option<String>,
    /// Of these kinds alone, such as restored
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = kind)]
    pub kinds: Vec<EventKind>,
    /// The most events of the past [default: 50; with --since 10000]
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
    /// For programs: one object in each line
    #[arg(long)]
    pub json: bool,
}

/// From when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(Timestamp),
}

/// Goes with each order.
#[derive(Debug, clap::Args)]
pub struct Sign {
    /// Why; it stands in the event log and in `o1ctl explain`
    #[arg(long, value_name = "TEXT", value_parser = text)]
    pub reason: String,
    /// Names the order: the same one within a day is carried out once [default: random]
    #[arg(long, value_name = "ID", value_parser = text)]
    pub request_id: Option<String>,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `o1ctl failover` and `o1ctl restore`.
#[derive(Debug, clap::Args)]
pub struct OrderStore {
    /// The upstream
    pub upstream: String,
    /// Why, and as what.
    #[command(flatten)]
    pub sign: Sign,
    /// Even if the store is not known to work; restore: even if the primary refused writes for good
    #[arg(long)]
    pub force: bool,
    /// Say what would happen, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Only if nobody has decided since: this is the term that o1ctl explain shows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub if_term: Option<u64>,
    /// Wait until every connected node is there, at most this long
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "60s",
        value_parser = span::parse,
        conflicts_with = "dry_run"
    )]
    pub wait: Option<Duration>,
}

/// `o1ctl pin`.
#[derive(Debug, clap::Args)]
pub struct Pin {
    /// The upstream
    pub upstream: String,
    /// primary or backup
    #[arg(value_enum, hide_possible_values = true)]
    pub store: Side,
    /// Why, and as what.
    #[command(flatten)]
    pub sign: Sign,
    /// End by itself after this long [default: until o1ctl unpin]
    #[arg(long = "for", value_name = "TIME", value_parser = span::parse)]
    pub expires_in: Option<Duration>,
}

/// `o1ctl unpin`.
#[derive(Debug, clap::Args)]
pub struct Unpin {
    /// The upstream
    pub upstream: String,
    /// Why, and as what.
    #[command(flatten)]
    pub sign: Sign,
}

/// `o1ctl maintenance`.
#[derive(Debug, clap::Args)]
pub struct Maintenance {
    /// on or off
    #[arg(value_enum, hide_possible_values = true)]
    pub switch: Switch,
    /// Why, and as what.
    #[command(flatten)]
    pub sign: Sign,
    /// End by itself after this long [default: until o1ctl maintenance off]
    #[arg(long = "for", value_name = "TIME", value_parser = span::parse)]
    pub expires_in: Option<Duration>,
}

/// One side of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// Where calls go unless something is wrong.
    Primary,
    /// Where they go then.
    Backup,
}

impl From<Side> for Store {
    fn from(side: Side) -> Self {
        match side {
            Side::Primary => Self::Primary,
            Side::Backup => Self::Backup,
        }
    }
}

/// Begin or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Begin.
    On,
    /// End.
    Off,
}

pub(super) fn since(text: &str) -> Result<Since, String> {
    let moment = || text.parse().map(Since::At);
    span::parse(text).map(Since::Ago).or_else(|_| moment()).map_err(|_| {
        "a duration such as 15m or 24h is needed, or a moment such as 2026-11-21T17:00:00Z".to_owned()
    })
}

fn kind(text: &str) -> Result<EventKind, String> {
    let word = text.replace('-', "_");
    EventKind::ALL.iter().copied().find(|kind| kind.word() == word).ok_or_else(|| {
        let words: Vec<_> = EventKind::ALL.iter().map(|kind| kind.word()).collect();
        format!("the types are {}", words.join(", "))
    })
}

pub(super) fn text(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it must say something".to_owned()),
        text => Ok(text.to_owned()),
    }
}
