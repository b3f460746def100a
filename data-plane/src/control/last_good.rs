//! What the control plane sent, on the node's own disk: the configuration applied last, the one before, the one
//! refused, and the sealing keys. Files are for their owner alone.
//!
//! Each file is a header line, `only1 <what> 1 <blake3 of the body> <build>`, and an encoded message. A file
//! that is not exactly that is never used.

use super::{identity::hex, snapshot::Refusal};
use o1_process::StateDir;
use o1_proto::{
    digest,
    wire::{ConfigNack, ConfigUpdate, SealKeys},
};
use prost::Message;
use std::{io, sync::Arc};

/// What was applied, newest first.
pub(super) const APPLIED: [&str; 2] = ["config.snap", "config.snap.prev"];
const REFUSED: &str = "config.refused";
const KEYS: &str = "seal.keys";
const FORMAT: &str = "1";

/// The files.
#[derive(Debug)]
pub(super) struct LastGood {
    state: Arc<StateDir>,
    build: &'static str,
}

impl LastGood {
    pub fn new(state: Arc<StateDir>, build: &'static str) -> Self {
        Self { state, build }
    }

    /// One of [`APPLIED`]; `None` if there is no such file.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn applied(&self, file: &str) -> Result<Option<ConfigUpdate>, String> {
        let Some(bytes) = self.state.read(file).map_err(|error| error.to_string())? else { return Ok(None) };
        let (_, body) = open("config", &bytes)?;
        ConfigUpdate::decode(body).map(Some).map_err(|error| error.to_string())
    }

    /// Keeps `update` as the newest and what was the newest as the one before. Durable when this returns.
    ///
    /// # Errors
    /// The disk refuses; at least one of the older files is whole.
    pub fn keep(&self, update: &ConfigUpdate) -> io::Result<()> {
        let [newest, before] = APPLIED;
        if let Some(bytes) = self.state.read(newest)?
            && open("config", &bytes).is_ok()
        {
            self.state.write_atomic(before, &bytes)?;
        }
        self.state.write_atomic(newest, &self.seal("config", update))
    }

    /// Remembers a refusal over a restart. Durable when this returns.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep_refusal(&self, refusal: &Refusal) -> io::Result<()> {
        let nack = ConfigNack {
            nonce: 0,
            rejected: Some(refusal.version.clone()),
            running: refusal.running.clone(),
            rejections: refusal.rejections.clone(),
        };
        self.state.write_atomic(REFUSED, &self.seal("refused", &nack))
    }

    /// The remembered refusal, unless another build might think otherwise. A damaged file is none: the worst
    /// that follows is that the version is offered and refused again.
    pub fn refusal(&self) -> Option<Refusal> {
        let bytes = self.state.read(REFUSED).ok()??;
        let (build, body) = open("refused", &bytes).ok()?;
        if build != self.build {
            return None;
        }
        let nack = ConfigNack::decode(body).ok()?;
        Some(Refusal { version: nack.rejected?, running: nack.running, rejections: nack.rejections })
    }

    /// The sealing keys; `None` if there is no such file.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub fn keys(&self) -> Result<Option<SealKeys>, String> {
        let Some(bytes) = self.state.read(KEYS).map_err(|error| error.to_string())? else { return Ok(None) };
        let (_, body) = open("keys", &bytes)?;
        SealKeys::decode(body).map(Some).map_err(|error| error.to_string())
    }

    /// Keeps the sealing keys. Durable when this returns.
    ///
    /// # Errors
    /// The disk refuses; the older ones are whole.
    pub fn keep_keys(&self, keys: &SealKeys) -> io::Result<()> {
        self.state.write_atomic(KEYS, &self.seal("keys", keys))
    }

    fn seal(&self, what: &str, message: &impl Message) -> Vec<u8> {
        let body = message.encode_to_vec();
        let mut bytes =
            format!("only1 {what} {FORMAT} {} {}\n", hex(&digest::payload(&body)), self.build).into_bytes();
        bytes.extend_from_slice(&body);
        bytes
    }
}

/// The build and the body of a file that says it is `what`.
fn open<'a>(what: &str, bytes: &'a [u8]) -> Result<(&'a str, &'a [u8]), String> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("it has no header line")?;
    let (header, body) = (&bytes[..end], &bytes[end + 1..]);
    let header = std::str::from_utf8(header).map_err(|_| "its header is not text")?;
    let fields: Vec<&str> = header.split(' ').collect();
    let ["only1", kind, format, sum, build] = fields[..] else {
        return Err("its header is not ours".to_owned());
    };
    if kind != what {
        return Err(format!("it is a `{kind}` file, not a `{what}` file"));
    }
    if format != FORMAT {
        return Err(format!("its format is {format}, this build reads {FORMAT}"));
    }
    if sum != hex(&digest::payload(body)) {
        return Err("its content does not match its checksum: the file is damaged".to_owned());
    }
    Ok((build, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use o1_proto::wire::{ConfigVersion, Rejection};

    fn files(dir: &std::path::Path) -> (Arc<StateDir>, LastGood) {
        let state = Arc::new(StateDir::open(dir).unwrap());
        (state.clone(), LastGood::new(state, "1.2.3"))
    }

    fn update(revision: u64) -> ConfigUpdate {
        let to = ConfigVersion { generation: 1, revision, root_digest: vec![7; 32] };
        ConfigUpdate { nonce: 4, to: Some(to), ..ConfigUpdate::default() }
    }

    #[test]
    fn the_newest_and_the_one_before_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (_, files) = files(dir.path());
        assert_eq!(files.applied(APPLIED[0]), Ok(None));
        for revision in 1..=3 {
            files.keep(&update(revision)).unwrap();
        }
        assert_eq!(APPLIED.map(|file| files.applied(file)), [Ok(Some(update(3))), Ok(Some(update(2)))]);
    }

    #[test]
    fn a_damaged_newest_file_never_replaces_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let (state, files) = files(dir.path());
        files.keep(&update(1)).unwrap();
        files.keep(&update(2)).unwrap();
        state.write_atomic(APPLIED[0], b"rubbish").unwrap();
        files.keep(&update(3)).unwrap();
        assert_eq!(APPLIED.map(|file| files.applied(file)), [Ok(Some(update(3))), Ok(Some(update(1)))]);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (_, files) = files(dir.path());
        let good = files.seal("config", &update(9));
        let header = good.iter().position(|byte| *byte == b'\n').unwrap();
        let build = header - "1.2.3".len()..header; // informative, not protected
        for index in (0..good.len()).filter(|index| !build.contains(index)) {
            let mut bad = good.clone();
            bad[index] ^= 1;
            assert!(open("config", &bad).is_err(), "byte {index} of {} changed unnoticed", good.len());
        }
        for length in 0..good.len() {
            assert!(open("config", &good[..length]).is_err(), "cut to {length} unnoticed");
        }
        assert!(open("config", &good).is_ok());
        assert!(open("refused", &good).is_err());
    }

    #[test]
    fn a_refusal_is_remembered_by_the_build_that_made_it() {
        let dir = tempfile::tempdir().unwrap();
        let (state, files) = files(dir.path());
        assert_eq!(files.refusal(), None);
        let refusal = Refusal {
            version: update(5).to.unwrap(),
            running: update(4).to,
            rejections: vec![Rejection { message: "no".into(), ..Rejection::default() }],
        };
        files.keep_refusal(&refusal).unwrap();
        assert_eq!(files.refusal(), Some(refusal));
        assert_eq!(LastGood::new(state, "1.2.4").refusal(), None);
    }
}
