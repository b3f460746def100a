//! Load on whole gateways: how many requests, how late, at what cost in CPU and memory, beside what the upstream
//! serves directly in the same run. `benches/README.md` says how to read the figures.
//!
//! `run` starts everything on loopback and ends it; `upstream` is the server behind it, alone.

mod connection;
mod generator;
mod histogram;
mod report;
mod request;
mod series;
mod upstream;
mod usage;

use clap::{Parser, Subcommand};
use std::{io, process::ExitCode};

/// As in the planes, so that the yardstick has no other allocator than what it is held against.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load on only1, and what its upstream serves without it.
#[derive(Debug, Parser)]
#[command(name = "o1-load", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Starts an upstream and the planes, measures direct and through the gateway in turn, prints medians
    Run(series::Options),
    /// The upstream alone, until it is ended
    Upstream(upstream::Offer),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Run(options) => run(&options),
        What::Upstream(offer) => {
            multi_threaded().and_then(|runtime| runtime.block_on(upstream::serve(&offer))).map(|()| true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("o1-load: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// `false`: something was answered wrongly, so the figures are worth nothing.
fn run(options: &series::Options) -> io::Result<bool> {
    let measured = multi_threaded()?.block_on(series::run(options))?;
    report::print(&measured, &mut io::stdout())?;
    if let Some(file) = &options.json {
        std::fs::write(file, format!("{:#}\n", report::json(&measured)))?;
    }
    Ok(measured.iter().flat_map(|row| &row.rounds).all(|round| round.outcome.errors == 0))
}

fn multi_threaded() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
