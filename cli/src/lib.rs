//! The command line of only1.
//!
//! What was typed ([`args`]) becomes a command ([`commands`]); commands ask the control plane ([`client`] over
//! [`connect`]), judge what it says ([`verdict`] over [`model`]) and show it ([`output`]) on a [`Terminal`].
//! [`report`] words every failure and owns the exit codes. `sample` is a small MCP server for `o1ctl up`.
//!
//! Data goes to standard output, everything else to standard error. This crate must never depend on the crate
//! of a plane: it meets them on the wire, and starts them as programs.

pub mod args;
pub mod audit;
mod authority;
mod client;
mod commands;
pub mod configs;
mod connect;
pub mod counts;
pub mod events;
pub mod failover;
pub mod import;
pub mod inspect;
pub mod model;
pub mod orders;
pub mod output;
mod profile;
pub mod report;
mod sample;
mod terminal;
mod tui;
mod verdict;

pub use terminal::{Colour, Terminal};

use args::{Args, Cache, Certs, Command, Config, Global, Token};
use failover::Store;
use report::{Error, Exit};
use std::ffi::OsString;

/// Runs a command line, the program's name first, to its end.
pub fn run(line: impl IntoIterator<Item = OsString>, terminal: &mut Terminal) -> Exit {
    let line: Vec<_> = line.into_iter().collect();
    let args = match Args::read(line) {
        Ok(args) => args,
        Err(said) => return explain(&said, terminal),
    };
    terminal.set_colour(args.global.color);
    dispatch(&args, terminal).unwrap_or_else(|error| error.report(terminal))
}

/// Help and versions are data, mistakes are not.
fn explain(said: &clap::Error, terminal: &mut Terminal) -> Exit {
    let (stream, exit) =
        if said.use_stderr() { (&mut terminal.err, Exit::Usage) } else { (&mut terminal.out, Exit::Healthy) };
    let text = said.render();
    let text = if stream.colour() { text.ansi().to_string() } else { text.to_string() };
    stream.write(&text).map_or_else(|error| Error::from(error).report(terminal), |()| exit)
}

/// One thread is enough: a command waits for others nearly all the time. It is the main one, to which the
/// kernel ties the life of tethered children.
fn dispatch(args: &Args, terminal: &mut Terminal) -> Result<Exit, Error> {
    if let Command::Tether(tether) = &args.command {
        return commands::up::tether(tether);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::local(format!("cannot start a runtime: {error}"), ""))?;
    runtime.block_on(perform(args, terminal))
}

async fn configure(global: &Global, command: &Config, terminal: &mut Terminal) -> Result<Exit, Error> {
    match command {
        Config::Check(check) => commands::check::run(check, terminal),
        Config::Apply(apply) => commands::config::apply(global, apply, terminal).await,
        Config::Diff(diff) => commands::config::diff(global, diff, terminal).await,
        Config::History(history) => commands::config::history(global, history, terminal).await,
        Config::Rollback(rollback) => commands::config::rollback(global, rollback, terminal).await,
        Config::Show(show) => commands::config::show(global, show, terminal).await,
        Config::Schema => commands::config::schema(terminal),
        Config::Import(import) => commands::config::import(import, terminal),
    }
}

fn certify(command: &Certs, terminal: &mut Terminal) -> Result<Exit, Error> {
    match command {
        Certs::Init(make) => commands::certs::init(make, terminal),
        Certs::Add(make) => commands::certs::add(make, terminal),
        Certs::Renew(renew) => commands::certs::renew(renew, terminal),
        Certs::List(list) => commands::certs::list(list, terminal),
    }
}

async fn perform(args: &Args, terminal: &mut Terminal) -> Result<Exit, Error> {
    let global = &args.global;
    match &args.command {
        Command::Up(up) => commands::up::run(up, terminal).await,
        Command::Status(status) if status.watch => {
            commands::watch::run(global, status, terminal, Box::pin(o1_process::signal::terminate())).await
        }
        Command::Status(status) => commands::status::run(global, status, terminal).await,
        Command::Top(top) => {
            let stop = Box::pin(o1_process::signal::terminate());
            Box::pin(commands::top::run(global, top, terminal, stop)).await
        }
        Command::Nodes(nodes) => commands::nodes::run(global, nodes, terminal).await,
        Command::Upstreams(upstreams) => commands::upstreams::run(global, upstreams, terminal).await,
        Command::Drain(drain) => commands::drain::run(global, drain, terminal).await,
        Command::Doctor(doctor) => commands::doctor::run(global, doctor, terminal).await,
        Command::Report(report) => commands::report::run(global, report, terminal).await,
        Command::Completions(completions) => commands::pages::completions(completions, terminal),
        Command::Man(man) => commands::pages::man(man, terminal),
        Command::Tools(tools) => commands::tools::run(global, tools, terminal).await,
        Command::Explain(explain) => commands::explain::run(global, explain, terminal).await,
        Command::Logs(logs) => {
            commands::logs::run(global, logs, terminal, Box::pin(o1_process::signal::terminate())).await
        }
        Command::Cache { command: Cache::Stats(stats) } => {
            commands::cache::stats(global, stats, terminal).await
        }
        Command::Cache { command: Cache::Purge(purge) } => {
            commands::cache::purge(global, purge, terminal).await
        }
        Command::Events(events) => {
            let stop = Box::pin(o1_process::signal::terminate());
            commands::events::run(global, events, terminal, stop).await
        }
        Command::Failover(order) => commands::orders::store(global, order, Store::Backup, terminal).await,
        Command::Restore(order) => commands::orders::store(global, order, Store::Primary, terminal).await,
        Command::Pin(pin) => commands::orders::pin(global, pin, terminal).await,
        Command::Unpin(unpin) => commands::orders::unpin(global, unpin, terminal).await,
        Command::Maintenance(switch) => commands::orders::maintenance(global, switch, terminal).await,
        Command::Certs { command } => certify(command, terminal),
        Command::Audit(audit) => commands::audit::run(global, audit, terminal).await,
        Command::Token { command: Token::New(new) } => commands::token::new(new, terminal),
        Command::Config { command } => configure(global, command, terminal).await,
        Command::SampleServer(sample) => sample::run(sample, terminal).await,
        Command::SampleCalls(calls) => {
            let stop = Box::pin(o1_process::signal::terminate());
            commands::sample_calls::run(calls, terminal, stop).await
        }
        Command::Tether(_) => unreachable!("handled above, before there is a runtime"),
    }
}
