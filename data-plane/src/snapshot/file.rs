//! The file: how answers stand in it, how it gets to the disk whole or not at all, and how it is read again.
//!
//! A header, the answers, and a checksum over both. It must never be used unless all of it is there and unchanged:
//! half an answer would look like a server's. It is written beside the one before, read back, and put in its place
//! only then.

use super::{Answer, Keys};
use crate::plan;
use bytes::Bytes;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

const MAGIC: &[u8; 8] = b"only1snp";
const FORMAT: u32 = 1;
/// How the name of each file ends.
const ENDING: &str = ".o1snap";
/// Of the checksum.
const SUM: usize = 32;
/// No file of ours is larger.
const FILE_MAX: u64 = 256 << 20;

/// What stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    /// The name of the upstream.
    pub(super) upstream: String,
    /// See [`plan::Upstream::identity`].
    pub(super) identity: plan::Key,
    /// In whole milliseconds.
    pub(super) written_at: SystemTime,
    /// What was used last at the end.
    pub(super) answers: Vec<(Keys, Answer)>,
}

impl Content {
    /// The bytes of the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let bytes: usize = self.answers.iter().map(|(_, answer)| answer.result.len() + 128).sum();
        let mut out = Vec::with_capacity(bytes + 256);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        text(&mut out, self.upstream.as_bytes());
        out.extend_from_slice(&self.identity);
        out.extend_from_slice(&millis(self.written_at).to_le_bytes());
        out.extend_from_slice(&length(self.answers.len()).to_le_bytes());
        for (keys, answer) in &self.answers {
            out.extend_from_slice(&keys.exact);
            out.extend_from_slice(&keys.alike);
            text(&mut out, answer.method.as_bytes());
            out.extend_from_slice(&millis(answer.received).to_le_bytes());
            out.push(u8::from(answer.public));
            text(&mut out, &answer.result);
        }
        let sum = blake3::hash(&out);
        out.extend_from_slice(sum.as_bytes());
        out
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        if !bytes.starts_with(MAGIC) {
            return Err("it is no snapshot".to_owned());
        }
        let cut = || "it is cut off or damaged".to_owned();
        let (body, sum) = bytes.split_last_chunk::<SUM>().ok_or_else(cut)?;
        let mut from = Reader(body.get(MAGIC.len()..).ok_or_else(cut)?);
        let format = from.u32().ok_or_else(cut)?;
        if format != FORMAT {
            return Err(format!("its format is {format}, this build reads {FORMAT}"));
        }
        if blake3::hash(body).as_bytes() != sum {
            return Err(cut());
        }
        from.content()
            .filter(|_| from.0.is_empty())
            .ok_or_else(|| "it says something that no file of ours does".to_owned())
    }
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&length(text.len()).to_le_bytes());
    out.extend_from_slice(text);
}

/// Nothing that is kept is so long.
fn length(length: usize) -> u32 {
    u32::try_from(length).expect("answers are bounded")
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What is still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn content(&mut self) -> Option<Content> {
        let (upstream, identity) = (self.string()?, self.array()?);
        let (written_at, count) = (self.time()?, self.u32()?);
        let mut answers = Vec::new();
        for _ in 0..count {
            let keys = Keys { exact: self.array()?, alike: self.array()? };
            let method = self.string()?.into();
            let (received, [public]) = (self.time()?, self.array()?);
            // A copy, so that one answer does not hold the whole file.
            let result = Bytes::copy_from_slice(self.text()?);
            answers.push((keys, Answer { method, result, received, public: public != 0 }));
        }
        Some(Content { upstream, identity, written_at, answers })
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    fn string(&mut self) -> Option<String> {
        String::from_utf8(self.text()?.to_vec()).ok()
    }

    fn time(&mut self) -> Option<SystemTime> {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(u64::from_le_bytes(self.array()?)))
    }
}

/// Where the file of an upstream is. Names that could mean another place stand there as a hash.
pub(super) fn path(dir: &Path, upstream: &str) -> PathBuf {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !upstream.is_empty() && upstream.len() <= 128 && upstream.bytes().all(is_plain) {
        dir.join(format!("{upstream}{ENDING}"))
    } else {
        dir.join(format!("+{}{ENDING}", blake3::hash(upstream.as_bytes()).to_hex()))
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Writes a file and gives its size. Once this returns, it survives a power failure; until then, a crash leaves the
/// one before.
///
/// # Errors
/// The one before still stands; the message names the file.
pub(super) fn write(dir: &Path, content: &Content) -> io::Result<u64> {
    let path = path(dir, &content.upstream);
    let bytes = content.encode();
    let tmp = beside(&path, ".tmp");
    let write = || {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        put(&tmp, &bytes)?;
        if !is(&tmp, &bytes)? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the disk gives back something else than was written",
            ));
        }
        fs::rename(&tmp, &path)?;
        File::open(dir)?.sync_all()
    };
    match write() {
        Ok(()) => Ok(bytes.len() as u64),
        Err(error) => {
            let _ = fs::remove_file(&tmp);
            Err(io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display())))
        }
    }
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Whether a file has this content.
fn is(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let (mut file, mut part, mut rest) = (File::open(path)?, vec![0; 64 << 10], bytes);
    loop {
        let read = file.read(&mut part)?;
        if read == 0 {
            return Ok(rest.is_empty());
        }
        match rest.split_at_checked(read) {
            Some((expected, after)) if expected == &part[..read] => rest = after,
            _ => return Ok(false),
        }
    }
}

/// A file that was found, with its size.
pub(super) type Found = Result<(Content, u64), Refused>;

/// A file that cannot be used.
#[derive(Debug)]
pub(super) struct Refused {
    /// Of the upstream, as far as its name says.
    pub(super) upstream: String,
    /// Why, and where the file is now.
    pub(super) why: String,
}

/// Every file in a directory. What cannot be used is kept aside, under a name that ends in `.bad`; what a crash left
/// half written goes.
///
/// # Errors
/// The directory cannot be read; one that does not exist is empty.
pub(super) fn all(dir: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.ends_with(&format!("{ENDING}.tmp")) {
            let _ = fs::remove_file(&path);
        } else if let Some(upstream) = name.strip_suffix(ENDING) {
            let (upstream, aside) = (upstream.to_owned(), beside(&path, ".bad"));
            found.push(read(dir, &path).map_err(|why| {
                let moved = fs::rename(&path, &aside);
                let now = if moved.is_ok() { &aside } else { &path };
                Refused { upstream, why: format!("{why} ({})", now.display()) }
            }));
        }
    }
    Ok(found)
}

fn read(dir: &Path, path: &Path) -> Result<(Content, u64), String> {
    let words = |error: io::Error| format!("it cannot be read: {error}");
    let size = fs::metadata(path).map_err(words)?.len();
    if size > FILE_MAX {
        return Err(format!("it has {size} bytes, more than any snapshot"));
    }
    let content = Content::decode(&fs::read(path).map_err(words)?)?;
    if self::path(dir, &content.upstream) != path {
        return Err(format!("it is the snapshot of `{}`", content.upstream));
    }
    Ok((content, size))
}

/// Removes the file of an upstream.
pub(super) fn remove(dir: &Path, upstream: &str) {
    let _ = fs::remove_file(path(dir, upstream));
}
