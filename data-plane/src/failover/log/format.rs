//! The bytes of a file of the log.
//!
//! ```text
//! file    = "only1wal" version:u32 frame(checkpoint) frame(batch)*
//! frame   = length:u32 crc32:u32 payload[length]      length > 0; the sum covers the length too
//! payload = 1 State      a checkpoint: everything before this file, first and nowhere else
//!         | 2 Batch      what was said at once
//! ```
//!
//! Numbers are little-endian; how values follow each other is said in [`super::codec`]. A file is whole up to its
//! checkpoint before it has its name. So a checkpoint that cannot be read means that the disk lost it, and nothing is
//! guessed; a batch that is not whole was being written when the process ended, and it and what follows it are cut.
//! What is whole and not understood was written by a newer build: the log is not opened.

use super::{
    codec::{Codec, Reader, Unreadable},
    state::{Batch, State},
};

const MAGIC: &[u8; 8] = b"only1wal";
/// Grows with every change of what the bytes mean.
pub(super) const VERSION: u32 = 2;
const HEADER: usize = 12;
const FRAME: usize = 8;
const CHECKPOINT: u8 = 1;
const BATCH: u8 = 2;

/// A payload has more bytes than its length can say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge(pub usize);

/// A file that says `state` and nothing more.
pub(super) fn begin(state: &State) -> Result<Vec<u8>, TooLarge> {
    let mut out = Vec::from(MAGIC);
    VERSION.put(&mut out);
    frame(&mut out, CHECKPOINT, state, u32::MAX as usize)?;
    Ok(out)
}

/// Appends a batch, unless it has more than `limit` bytes.
pub(super) fn batch(out: &mut Vec<u8>, batch: &Batch, limit: usize) -> Result<(), TooLarge> {
    frame(out, BATCH, batch, limit.min(u32::MAX as usize))
}

fn frame(out: &mut Vec<u8>, tag: u8, content: &impl Codec, limit: usize) -> Result<(), TooLarge> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME]);
    out.push(tag);
    content.put(out);
    let size = out.len() - start - FRAME;
    let Some(length) = u32::try_from(size).ok().filter(|_| size <= limit) else {
        out.truncate(start);
        return Err(TooLarge(size));
    };
    let sum = sum(length, &out[start + FRAME..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + FRAME].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

fn sum(length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// What a file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub state: State,
    pub batches: u64,
    /// Bytes behind the last whole frame.
    pub torn: u64,
}

/// Reads a file and folds it.
///
/// # Errors
/// Why it cannot be used, after "the file".
pub(super) fn read(bytes: &[u8], keep: usize) -> Result<Content, Unreadable> {
    let damaged =
        |what: &str| Unreadable(format!("{what}; it was whole when it was made, so the disk lost it"));
    let Some((header, mut rest)) = bytes.split_at_checked(HEADER) else {
        return Err(damaged("it has no header"));
    };
    let (magic, version) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(damaged("it does not begin as a log does"));
    }
    let version = u32::take(&mut Reader(version))?;
    if version != VERSION {
        return Err(Unreadable(format!("its format is {version}, this build reads {VERSION}")));
    }
    let payload = next(&mut rest).ok_or_else(|| damaged("its checkpoint does not match its checksum"))?;
    let mut state: State = decode(payload, CHECKPOINT)?;
    let mut batches = 0;
    while let Some(payload) = next(&mut rest) {
        state.apply(decode(payload, BATCH)?, keep);
        batches += 1;
    }
    Ok(Content { state, batches, torn: rest.len() as u64 })
}

/// The payload of the next frame if it is whole; otherwise `rest` stays.
fn next<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (frame, behind) = rest.split_at_checked(FRAME)?;
    let mut frame = Reader(frame);
    let (length, stored) = (u32::take(&mut frame).ok()?, u32::take(&mut frame).ok()?);
    let (payload, behind) = behind.split_at_checked(length as usize)?;
    // Zeroes, which a crash may leave behind the end, would be a frame of nothing.
    if length == 0 || sum(length, payload) != stored {
        return None;
    }
    *rest = behind;
    Some(payload)
}

fn decode<T: Codec>(payload: &[u8], expected: u8) -> Result<T, Unreadable> {
    let mut reader = Reader(payload);
    let tag = u8::take(&mut reader)?;
    if tag != expected {
        return Err(Unreadable(format!("it has a frame {tag} where one of {expected} belongs")));
    }
    let content = T::take(&mut reader)?;
    if reader.0.is_empty() {
        Ok(content)
    } else {
        Err(Unreadable("a frame has more in it than this build knows: a newer one wrote it".to_owned()))
    }
}
