//! What a process keeps on disk: one directory, one process, whole files or the old ones.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

const LOCK: &str = "lock";
const ADDRESSES: &str = "addresses.json";

/// An open state directory. While it is open no other process can open it; a killed process lets go of it.
///
/// Every method blocks on the disk: from async code, call them on a blocking thread where time matters.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Holds the lock; the kernel releases it with the last descriptor.
    _lock: File,
}

impl StateDir {
    /// Opens the directory, and creates it, for the owner alone, where it does not exist.
    ///
    /// # Errors
    /// It cannot be created or locked, or another process has it open; the message names the directory and, in
    /// the last case, that process.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| about(&error, "cannot create the state directory", &path))?;
        let file = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false) // another process may own what it says
            .mode(0o600)
            .open(&file)
            .map_err(|error| about(&error, "cannot open the lock of the state directory", &file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(&path, &mut lock)),
            Err(TryLockError::Error(error)) => {
                return Err(about(&error, "cannot lock the state directory", &file));
            }
        }
        lock.set_len(0)?;
        lock.write_all(std::process::id().to_string().as_bytes())?;
        Ok(Self { path, _lock: lock })
    }

    /// Where a file of this name is, or would be.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// The content of a file; `None` if there is none.
    ///
    /// # Errors
    /// The file exists and cannot be read; the message names it.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(about(&error, "cannot read", &path)),
        }
    }

    /// Replaces a file as a whole. Once this returns, the new content survives a power failure; until then, a
    /// crash leaves the old one.
    ///
    /// # Errors
    /// The old content still stands; the message names the file.
    pub fn write_atomic(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        let tmp = self.path(format!("{name}.tmp"));
        write_durably(&tmp, bytes)
            .and_then(|()| fs::rename(&tmp, &path))
            .and_then(|()| File::open(path.parent().unwrap_or(&self.path))?.sync_all())
            .map_err(|error| about(&error, "cannot write", &path))
    }

    /// Writes `addresses.json`, for scripts and tests that let the kernel choose the ports:
    /// `{"admin": "127.0.0.1:41235", "listen": "127.0.0.1:41234"}`.
    ///
    /// # Errors
    /// As [`StateDir::write_atomic`].
    pub fn write_addresses(&self, addresses: &BTreeMap<&str, SocketAddr>) -> io::Result<()> {
        self.write_atomic(ADDRESSES, &serde_json::to_vec(addresses)?)
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn taken(path: &Path, lock: &mut File) -> io::Error {
    let mut owner = String::new();
    let owner = match lock.read_to_string(&mut owner) {
        Ok(read) if read > 0 => format!("process {owner}"),
        Ok(_) | Err(_) => "another process".to_owned(),
    };
    let what = format!(
        "the state directory {} is in use by {owner}: stop it, or choose another directory",
        path.display()
    );
    io::Error::new(io::ErrorKind::ResourceBusy, what)
}

fn about(error: &io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_second_opener_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        let error = StateDir::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
        assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
        drop(first);
        StateDir::open(dir.path()).expect("a released directory can be opened again");
    }

    #[test]
    fn the_directory_and_its_files_are_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path().join("a/b")).unwrap();
        state.write_atomic("config", b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir.path().join("a/b")), mode(&state.path("config"))), (0o700, 0o600));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_even_over_the_rest_of_a_crashed_write() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.read("config").unwrap(), None);
        state.write_atomic("config", b"old and long").unwrap();
        fs::write(state.path("config.tmp"), b"half a write of a process that was killed").unwrap();
        state.write_atomic("config", b"new").unwrap();
        assert_eq!(state.read("config").unwrap().as_deref(), Some(&b"new"[..]));
        assert!(!state.path("config.tmp").exists());
    }

    #[test]
    fn a_write_that_fails_names_the_file_and_keeps_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        state.write_atomic("config", b"old").unwrap();
        fs::create_dir(state.path("config.tmp")).unwrap();
        let error = state.write_atomic("config", b"new").unwrap_err().to_string();
        assert!(error.contains("cannot write") && error.contains("config"), "{error}");
        assert_eq!(state.read("config").unwrap().as_deref(), Some(&b"old"[..]));
    }

    #[test]
    fn addresses_are_a_json_object_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let addresses = [("listen", "127.0.0.1:7400"), ("admin", "[::1]:7401")];
        state.write_addresses(&addresses.map(|(name, addr)| (name, addr.parse().unwrap())).into()).unwrap();
        let text = state.read("addresses.json").unwrap().unwrap();
        assert_eq!(text, br#"{"admin":"[::1]:7401","listen":"127.0.0.1:7400"}"#);
    }
}
