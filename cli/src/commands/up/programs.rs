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

/// What the environment says to o1ctl of another fleet, and to planes of how they are deployed. The planes of `up` are
/// by themselves on this machine, in plaintext: with these they would not start, or ask for certificates that o1ctl has not.
const NOT_FOR_CHILDREN: [&str; 16] = [
    "O1_CONTROL",
    "O1_CA",
    "O1_CERT",
    "O1_KEY",
    "O1_TOKEN",
    "O1_PROFILE",
    "O1_TLS_CERT",
    "O1_TLS_KEY",
    "O1_CLIENT_CA",
    "O1_TOKENS",
    "O1_INSECURE_LISTEN",
    "O1_CONTROL_CA",
    "O1_CONTROL_CERT",
    "O1_CONTROL_KEY",
    "O1_CONTROL_TOKEN_FILE",
    "O1_INSECURE_CONTROL",
];

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
        for name in NOT_FOR_CHILDREN {
            command.env_remove(name);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_hear_nothing_of_the_deployment_that_the_environment_is_for() {
        let programs = Programs { own: "o1ctl".into(), control: "control".into(), data: "data".into() };
        for command in [programs.control(&[]), programs.data(&[]), programs.sample_server(&[])] {
            let removed: Vec<_> = command
                .as_std()
                .get_envs()
                .filter(|(_, value)| value.is_none())
                .map(|(name, _)| name)
                .collect();
            for name in ["O1_TOKENS", "O1_TLS_CERT", "O1_CLIENT_CA", "O1_CONTROL_CA", "O1_CERT", "O1_TOKEN"] {
                assert!(removed.iter().any(|one| *one == name), "{name}");
            }
        }
    }
}
