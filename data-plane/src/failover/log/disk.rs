//! The folder of the log: what is done to files, and nothing of what is in them. Tests have another one, which fails
//! and forgets as told.

use o1_process::StateDir;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// A folder that is ours alone.
pub(super) trait Disk: Send {
    /// The names of its files.
    fn list(&self) -> io::Result<Vec<String>>;
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// A new file, in place of what had its name.
    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable.
    fn sync(&self) -> io::Result<()>;
    /// For people.
    fn path(&self, name: &str) -> PathBuf;
}

/// A file that grows.
pub(super) trait Sink: Send {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable. After an error it must not be asked again: the kernel may have dropped the
    /// pages and would say that all is well.
    fn sync(&mut self) -> io::Result<()>;
}

/// The real one; no other process can open it meanwhile.
pub(super) struct Folder(StateDir);

impl Folder {
    pub fn open(path: &Path) -> io::Result<Self> {
        let folder = StateDir::open(path)?;
        if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
            File::open(above)?.sync_all()?;
        }
        Ok(Self(folder))
    }

    fn about<T>(&self, result: io::Result<T>, what: &str, name: &str) -> io::Result<T> {
        let path = self.0.path(name);
        result.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot {what} {}: {error}", path.display()))
        })
    }
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(self.0.path("")).and_then(|entries| {
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        });
        self.about(names, "list", "")
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.about(fs::read(self.0.path(name)), "read", name)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.0.path(name));
        Ok(Box::new(self.about(file, "create", name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.about(fs::rename(self.0.path(from), self.0.path(to)), "make", to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.about(fs::remove_file(self.0.path(name)), "remove", name)
    }

    fn sync(&self) -> io::Result<()> {
        self.about(File::open(self.0.path("")).and_then(|folder| folder.sync_all()), "sync", "")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }
}

impl Sink for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
