//! `o1ctl up`: both planes as children of one command, until Ctrl-C or until one of them ends.
//!
//! The planes are programs beside this one; nothing of theirs is linked in. `place` finds room for them,
//! `programs` finds them, `crew` runs them, `ready` waits for them, `welcome` tells the user.

mod child;
mod crew;
mod place;
mod programs;
mod ready;
mod sample;
mod welcome;

pub use programs::tether;

pub(super) use place::home;

use super::check;
use crate::{
    args::Up,
    output::{problems, span},
    report::{Error, Exit},
    terminal::Terminal,
};
use child::Role;
use crew::{Crew, Over};
use place::Place;
use programs::Programs;
use ready::Addresses;
use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

/// For one program to start and be ready.
const START: Duration = Duration::from_secs(30);
/// For calls in flight when the data plane is asked to stop; below the patience of the crew, so that it is the
/// data plane that cuts what is left, in order.
const DRAIN_SECONDS: u32 = 12;
/// What `o1ctl nodes` calls the one node.
const NODE_ID: &str = "local";

/// Runs until asked to stop, or until a plane ends.
///
/// # Errors
/// Something is missing or in the way, or a plane ended by itself.
pub async fn run(args: &Up, terminal: &mut Terminal) -> Result<Exit, Error> {
    let programs = Programs::find()?;
    let config = args.config.as_ref().map(|path| valid(path, terminal)).transpose()?;
    place::free(args.listen, "--listen", args.control_listen, "--control-listen")?;
    let place = Place::open(args.state_dir.as_deref(), config.is_some())?;
    let mut crew = Crew::new();
    let over = work(args, &programs, config, &place, &mut crew, terminal).await;
    let cut = crew.stop(terminal).await;
    let exit = match over {
        Err(Over::Asked) if cut => Ok(Exit::Degraded),
        Err(Over::Asked) => Ok(Exit::Healthy),
        Err(Over::Ended(end)) => Err(end.report(terminal)?),
        Err(Over::Failed(error)) => Err(error),
        Ok(never) => match never {},
    };
    place.leave(terminal)?;
    exit
}

/// Starts everything in order, says so, and stays.
async fn work(
    args: &Up,
    programs: &Programs,
    config: Option<PathBuf>,
    place: &Place,
    crew: &mut Crew,
    terminal: &mut Terminal,
) -> Result<std::convert::Infallible, Over> {
    let (config, sample) = match config {
        Some(config) => (config, None),
        None => {
            let sample = sample::start(programs, place, crew, terminal).await?;
            (place.write_sample(sample.primary.1, sample.backup.1)?, Some(sample))
        }
    };
    let control = start_control(args, programs, &config, place, crew, terminal).await?;
    let data = start_data(args, programs, control.listen, place, crew, terminal).await?;
    let welcome = welcome::Welcome {
        clients: reachable(data.listen),
        control: reachable(control.listen),
        admin: (control.admin, data.admin),
        config: &config,
        sample: sample.as_ref(),
        command: std::env::args().next().unwrap_or_else(|| "o1ctl".to_owned()),
    };
    terminal.out.write(&welcome.page().paint(terminal.out.colour()))?;
    crew.stay(terminal).await
}

async fn start_control(
    args: &Up,
    programs: &Programs,
    config: &std::path::Path,
    place: &Place,
    crew: &mut Crew,
    terminal: &mut Terminal,
) -> Result<Addresses, Over> {
    let state = place.room("control")?;
    let flags: [(&str, OsString); 4] = [
        ("--config", config.into()),
        ("--listen", args.control_listen.to_string().into()),
        ("--admin", "127.0.0.1:0".into()),
        ("--state-dir", state.clone().into()),
    ];
    crew.start(Role::Control, programs.control(&flags))?;
    let ready = ready::wait(&state, "the control plane", START);
    crew.during(ready, terminal).await?.map_err(Over::Failed)
}

async fn start_data(
    args: &Up,
    programs: &Programs,
    control: SocketAddr,
    place: &Place,
    crew: &mut Crew,
    terminal: &mut Terminal,
) -> Result<Addresses, Over> {
    let state = place.room("data")?;
    let flags: [(&str, OsString); 6] = [
        ("--drain", DRAIN_SECONDS.to_string().into()),
        ("--control", format!("http://{}", reachable(control)).into()),
        ("--node-id", NODE_ID.into()),
        ("--listen", args.listen.to_string().into()),
        ("--admin", "127.0.0.1:0".into()),
        ("--state-dir", state.clone().into()),
    ];
    crew.start(Role::Data, programs.data(&flags))?;
    let ready = ready::wait(&state, "the data plane", START);
    crew.during(ready, terminal).await?.map_err(Over::Failed)
}

/// A configuration that would be refused is better refused before anything runs.
fn valid(path: &std::path::Path, terminal: &mut Terminal) -> Result<PathBuf, Error> {
    let file = path.display().to_string();
    let checked = check::check(&file, &check::load(path)?);
    if checked.fleet.is_none() {
        let page = problems::page(&file, &checked.problems, &checked.warnings, false, 0);
        terminal.err.write(&page.paint(terminal.err.colour()))?;
        return Err(Error::local(format!("{file} is not valid: nothing was started"), ""));
    }
    std::path::absolute(path).map_err(|error| Error::local(format!("cannot resolve {file}: {error}"), ""))
}

/// Where to connect to something that is bound to `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, v6.port()).into(),
        address => address,
    }
}

fn seconds(limit: Duration) -> String {
    span::words(limit)
}
