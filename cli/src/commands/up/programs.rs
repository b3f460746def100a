//! Where the programs are, and how they are started so that none outlives its parent.

use crate::{
    args::Tether,
    report::{Error, Exit},
};
use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
};
use tokio::process::Command;

/// The programs that `up` starts.
pub struct Programs {
    own: PathBuf,
    control: PathBuf,
    data: PathBuf,
}

impl Programs {
    /// Finds the planes beside this program.
    ///
    /// # Errors
    /// One of them is not there.
    pub fn find() -> Result<Self, Error> {
        let own = std::env::current_exe()
            .map_err(|error| Error::local(format!("cannot tell where this program is: {error}"), ""))?;
        let beside = own.parent().unwrap_or(Path::new("/"));
        let sibling = |name: &str| {
            let path = beside.join(name);
            if path.is_file() {
                return Ok(path);
            }
            Err(Error::local(
                format!("{name} is not beside o1ctl: there is no {}", path.display()),
                "`cargo build --release` builds all three programs into target/release",
            ))
        };
        Ok(Self { control: sibling("o1-control-plane")?, data: sibling("o1-data-plane")?, own })
    }

    /// The control plane.
    pub fn control(&self, flags: &[(&str, OsString)]) -> Command {
        self.tethered(&self.control, None, flags)
    }

    /// The data plane.
    pub fn data(&self, flags: &[(&str, OsString)]) -> Command {
        self.tethered(&self.data, None, flags)
    }

    /// A server of the sample.
    pub fn sample_server(&self, flags: &[(&str, OsString)]) -> Command {
        self.tethered(&self.own, Some("sample-server"), flags)
    }

    fn tethered(&self, program: &Path, subcommand: Option<&str>, flags: &[(&str, OsString)]) -> Command {
        let mut command = Command::new(&self.own);
        command.args(["tether", "--parent", &std::process::id().to_string(), "--"]);
        command.arg(program).args(subcommand);
        for (flag, value) in flags {
            command.arg(flag).arg(value);
        }
        command
    }
}

/// Becomes another program that gets SIGTERM when `up` ends, however it ends: even `kill -9` of `up` leaves no
/// process behind. The setting survives the exec.
///
/// # Errors
/// `up` has ended already, or there is no such program.
pub fn tether(args: &Tether) -> Result<Exit, Error> {
    tie(args.parent)?;
    let (program, arguments) = args.command.split_first().expect("clap requires one");
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(Error::local(format!("cannot run {}: {error}", Path::new(program).display()), ""))
}

#[cfg(target_os = "linux")]
fn tie(parent: u32) -> Result<(), Error> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Error::local(format!("cannot tie this process to its parent: {error}"), ""))?;
    let alive = getppid().is_some_and(|pid| u32::try_from(pid.as_raw_nonzero().get()) == Ok(parent));
    if alive { Ok(()) } else { Err(Error::local("the parent has ended already", "")) }
}

/// Elsewhere only an orderly end of `up` ends its children.
#[cfg(not(target_os = "linux"))]
fn tie(_parent: u32) -> Result<(), Error> {
    Ok(())
}
