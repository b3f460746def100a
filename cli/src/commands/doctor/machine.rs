//! Room on the disks of state directories, and the limits of this session.

use super::{super::up::home, Check};
use crate::output::span;
use rustix::{
    fs::{Access, access, statvfs},
    process::{Resource, getrlimit},
};
use std::{
    env,
    path::{Path, PathBuf},
};

const STATE: &str = "state-dir";
const FILES: &str = "open-files";
/// Logs, snapshots and the store need a few of these at most.
const LITTLE: u64 = 1_000_000_000;
/// Below it a journal may not find room for a write that was promised.
const TOO_LITTLE: u64 = 100_000_000;
/// Each client and each connection to an upstream is one.
const FEW_FILES: u64 = 4096;

pub(super) fn look(named: &[PathBuf]) -> Vec<Check> {
    let mut dirs = named.to_vec();
    if dirs.is_empty() {
        dirs.extend(env::var_os("O1_STATE_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from));
        dirs.extend(home().ok());
    }
    let mut checks: Vec<Check> = dirs.iter().map(|dir| directory(dir)).collect();
    checks.push(open_files(getrlimit(Resource::Nofile).current));
    checks
}

fn directory(dir: &Path) -> Check {
    let shown = dir.display();
    // Where it would be made, if it is not there.
    let Some(there) = dir.ancestors().find(|dir| dir.exists()) else {
        return Check::fail(STATE, format!("{shown} cannot be looked at"), "name another with --state-dir");
    };
    if !there.is_dir() {
        let what = format!("{} is no directory, so there is no room for {shown}", there.display());
        return Check::fail(STATE, what, "move it away, or choose another --state-dir");
    }
    if access(there, Access::WRITE_OK).is_err() {
        let what = format!("{shown} is not for this user to write: {}", there.display());
        return Check::warn(
            STATE,
            what,
            "run this as the user that runs the planes, or choose another --state-dir",
        );
    }
    match statvfs(there) {
        Ok(disk) => room(dir, there == dir, disk.f_bavail.saturating_mul(disk.f_frsize)),
        Err(error) => Check::warn(STATE, format!("the room for {shown} is not known: {error}"), ""),
    }
}

fn room(dir: &Path, exists: bool, free: u64) -> Check {
    let state = if exists { "" } else { " (not made yet)" };
    let what = format!("{}{state}: {} free", dir.display(), span::bytes(free));
    let todo = "make room: what cannot be written to a journal or a log is refused";
    match free {
        ..TOO_LITTLE => Check::fail(STATE, what, todo),
        TOO_LITTLE..LITTLE => Check::warn(STATE, what, todo),
        _ => Check::ok(STATE, what),
    }
}

fn open_files(limit: Option<u64>) -> Check {
    match limit {
        Some(limit) if limit < FEW_FILES => Check::warn(
            FILES,
            format!("a process of this session may open {limit} files and connections"),
            "raise it where the data plane is started: `ulimit -n 65536`, or LimitNOFILE= of its unit",
        ),
        Some(limit) => {
            Check::ok(FILES, format!("a process of this session may open {limit} files and connections"))
        }
        None => Check::ok(FILES, "a process of this session may open as many files as it likes"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    #[test]
    fn little_room_is_a_warning_and_none_a_failure() {
        let state = |free| room(Path::new("/x"), true, free).state;
        assert_eq!(
            [state(99_999_999), state(100_000_000), state(999_999_999), state(1_000_000_000)],
            [State::Fail, State::Warn, State::Warn, State::Ok]
        );
        assert_eq!(open_files(Some(1024)).state, State::Warn);
        assert_eq!(open_files(None).state, State::Ok);
    }

    #[test]
    fn a_directory_is_judged_by_where_it_would_be() {
        let dir = tempfile::tempdir().unwrap();
        let found = directory(&dir.path().join("a/b"));
        assert!(found.what.contains("(not made yet)"), "{found:?}");
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let found = directory(&file.join("state"));
        assert!(found.state == State::Fail && found.what.contains("is no directory"), "{found:?}");
    }
}
