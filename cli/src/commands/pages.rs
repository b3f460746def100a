//! `o1ctl completions` and `o1ctl man`: what shells and `man` read, from the same description of the command line that
//! parses it.

use crate::{
    args::{Args, Completions, Man},
    report::{Error, Exit},
    terminal::Terminal,
};
use clap::CommandFactory as _;
use std::fs;

/// Writes what a shell needs.
///
/// # Errors
/// No reader.
pub fn completions(args: &Completions, terminal: &mut Terminal) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "o1ctl", &mut script);
    terminal.out.write(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Healthy)
}

/// Writes a page for each command into a directory, and says where.
///
/// # Errors
/// The disk, or no reader.
pub fn man(args: &Man, terminal: &mut Terminal) -> Result<Exit, Error> {
    let directory = &args.directory;
    let failed = |error: &std::io::Error| {
        Error::local(format!("cannot write to {}: {error}", directory.display()), "choose another directory")
    };
    fs::create_dir_all(directory).map_err(|error| failed(&error))?;
    clap_mangen::generate_to(Args::command(), directory).map_err(|error| failed(&error))?;
    let pages = fs::read_dir(directory).map_err(|error| failed(&error))?.count();
    terminal.out.write(&format!("{pages} pages in {}\n", directory.display()))?;
    Ok(Exit::Healthy)
}
