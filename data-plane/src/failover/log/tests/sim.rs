//! A folder in memory that fails, dies and loses power as told.

use crate::failover::log::disk::{Disk, Sink};
use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

/// Shared with the test; every copy is the same folder.
#[derive(Debug, Clone, Default)]
pub(super) struct Sim(Arc<Mutex<Inside>>);

type Names = BTreeMap<String, usize>;

#[derive(Debug, Default)]
struct Inside {
    files: Vec<Content>,
    names: Names,
    /// What the names were since they were last made durable, that moment included.
    before: Vec<Names>,
    /// Operations so far, and the one from which on nothing works: the process is dead.
    operations: usize,
    dies_at: Option<usize>,
    syncs: usize,
    /// Bytes that still fit; a write that does not fit is done in part.
    room: Option<usize>,
    /// What was written since the last sync is dropped instead of kept.
    sync_fails: bool,
    /// Names cannot be made durable.
    folder_sync_fails: bool,
}

#[derive(Debug, Default, Clone)]
struct Content {
    bytes: Vec<u8>,
    synced: usize,
    /// It could not be written or synced once: to go on with it would be a fault.
    failed: bool,
}

/// What is left after the end.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// The process is killed: the kernel has everything.
    Killed,
    /// The power fails: names are as old as they may be, and of what was not synced `part` of 255 is there.
    Power { oldest_names: bool, part: u8 },
}

pub(super) const ENDS: [End; 7] = [
    End::Killed,
    End::Power { oldest_names: false, part: 0 },
    End::Power { oldest_names: false, part: 100 },
    End::Power { oldest_names: false, part: 255 },
    End::Power { oldest_names: true, part: 0 },
    End::Power { oldest_names: true, part: 100 },
    End::Power { oldest_names: true, part: 255 },
];

impl Sim {
    fn with<T>(&self, f: impl FnOnce(&mut Inside) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    /// While it is held, the log's thread waits at its next operation.
    pub fn hold(&self) -> MutexGuard<'_, impl Sized> {
        self.0.lock().unwrap()
    }

    pub fn syncs(&self) -> usize {
        self.with(|inside| inside.syncs)
    }

    pub fn operations(&self) -> usize {
        self.with(|inside| inside.operations)
    }

    pub fn die_at(&self, operation: usize) {
        self.with(|inside| inside.dies_at = Some(operation));
    }

    pub fn room(&self, room: Option<usize>) {
        self.with(|inside| inside.room = room);
    }

    pub fn fail_syncs(&self, fail: bool) {
        self.with(|inside| inside.sync_fails = fail);
    }

    pub fn fail_folder_syncs(&self, fail: bool) {
        self.with(|inside| inside.folder_sync_fails = fail);
    }

    pub fn names(&self) -> Vec<String> {
        self.with(|inside| inside.names.keys().cloned().collect())
    }

    /// Of a file; 0 where there is none.
    pub fn length(&self, name: &str) -> usize {
        self.with(|inside| inside.names.get(name).map_or(0, |file| inside.files[*file].bytes.len()))
    }

    /// The folder as the next process finds it.
    pub fn after(&self, end: End) -> Self {
        self.with(|inside| {
            let mut next =
                Inside { files: inside.files.clone(), names: inside.names.clone(), ..Inside::default() };
            if let End::Power { oldest_names, part } = end {
                if let Some(oldest) = inside.before.first().filter(|_| oldest_names) {
                    next.names = oldest.clone();
                }
                for file in &mut next.files {
                    let loose = file.bytes.len() - file.synced;
                    file.bytes.truncate(file.synced + loose * usize::from(part) / 255);
                }
            }
            next.files.iter_mut().for_each(|file| file.synced = file.bytes.len());
            next.before = vec![next.names.clone()];
            Self(Arc::new(Mutex::new(next)))
        })
    }
}

impl Inside {
    fn operation(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.dies_at.is_some_and(|at| self.operations >= at) {
            return Err(io::Error::other("the process is dead"));
        }
        if self.before.is_empty() {
            self.before.push(Names::new());
        }
        Ok(())
    }

    fn renamed(&mut self) {
        self.before.push(self.names.clone());
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for Sim {
    fn list(&self) -> io::Result<Vec<String>> {
        self.with(|inside| inside.operation().map(|()| inside.names.keys().cloned().collect()))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.with(|inside| {
            inside.operation()?;
            let file = *inside.names.get(name).ok_or_else(missing)?;
            Ok(inside.files[file].bytes.clone())
        })
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>> {
        let file = self.with(|inside| {
            inside.operation()?;
            inside.files.push(Content::default());
            inside.names.insert(name.to_owned(), inside.files.len() - 1);
            inside.renamed();
            Ok::<_, io::Error>(inside.files.len() - 1)
        })?;
        Ok(Box::new(Open { sim: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.with(|inside| {
            inside.operation()?;
            let file = inside.names.remove(from).ok_or_else(missing)?;
            inside.names.insert(to.to_owned(), file);
            inside.renamed();
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.with(|inside| {
            inside.operation()?;
            inside.names.remove(name).ok_or_else(missing)?;
            inside.renamed();
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|inside| {
            inside.operation()?;
            if inside.folder_sync_fails {
                return Err(io::Error::other("input/output error"));
            }
            inside.before = vec![inside.names.clone()];
            Ok(())
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/sim").join(name)
    }
}

struct Open {
    sim: Sim,
    file: usize,
}

impl Sink for Open {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sim.with(|inside| {
            inside.operation().inspect_err(|_| {
                // Killed in the middle of it.
                if inside.dies_at == Some(inside.operations) {
                    inside.files[self.file].bytes.extend_from_slice(&bytes[..bytes.len() / 2]);
                }
            })?;
            assert!(!inside.files[self.file].failed, "a file that failed is used again");
            let fits = inside.room.unwrap_or(usize::MAX).min(bytes.len());
            inside.files[self.file].bytes.extend_from_slice(&bytes[..fits]);
            inside.room = inside.room.map(|room| room - fits);
            inside.files[self.file].failed = fits < bytes.len();
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sim.with(|inside| {
            inside.operation()?;
            inside.syncs += 1;
            let fails = inside.sync_fails;
            let file = &mut inside.files[self.file];
            assert!(!file.failed, "a file that failed is used again");
            if fails {
                file.failed = true;
                file.bytes.truncate(file.synced);
                return Err(io::Error::other("input/output error"));
            }
            file.synced = file.bytes.len();
            Ok(())
        })
    }
}
