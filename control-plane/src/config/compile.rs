//! A document → what it means to nodes, or everything that is wrong with it. Pure.

use super::Digest;
use o1_proto::{convert, digest, manifest, model, problem::Problem};
use std::sync::Arc;

/// The largest document that is read, bytes.
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;
/// The largest resolved configuration, bytes: it travels in one message, and a message has 4 MiB.
const MAX_ENCODED_BYTES: usize = (4 << 20) - (64 << 10);

/// A valid document.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// What it means.
    pub fleet: Arc<model::Fleet>,
    /// The name of what it means.
    pub digest: Digest,
    /// What its author should know although it is valid.
    pub warnings: Vec<Problem>,
}

/// Reads a document. `file` is its name in messages.
///
/// # Errors
/// Every problem of the document, with the warnings beside them.
pub fn compile(file: &str, content: &[u8]) -> Result<Compiled, manifest::Refused> {
    if content.len() > MAX_DOCUMENT_BYTES {
        return Err(refused(too_large(file, content.len() as u64)));
    }
    let manifest::Manifest { fleet, warnings } = manifest::parse(file, content)?;
    let resources = convert::encode(&fleet);
    let encoded: usize = resources.iter().map(prost::Message::encoded_len).sum();
    if encoded > MAX_ENCODED_BYTES {
        let what = format!("it resolves to {encoded} bytes and nodes take {MAX_ENCODED_BYTES}");
        return Err(refused(whole(file, "config-too-large", &what, "split the fleet in two")));
    }
    let digest = Digest::new(digest::root(&resources));
    Ok(Compiled { fleet: Arc::new(fleet), digest, warnings })
}

/// The problem of a document with more than [`MAX_DOCUMENT_BYTES`].
#[must_use]
pub fn too_large(file: &str, bytes: u64) -> Problem {
    let what = format!("the document has {bytes} bytes and the limit is {MAX_DOCUMENT_BYTES}");
    whole(file, "config-too-large", &what, "is this the right file?")
}

/// A problem of a document as a whole.
#[must_use]
pub fn whole(file: &str, rule: &'static str, what: &str, hint: &str) -> Problem {
    Problem {
        file: file.to_owned(),
        line: 0,
        column: 0,
        rule,
        path: String::new(),
        what: what.to_owned(),
        hint: hint.to_owned(),
    }
}

fn refused(problem: Problem) -> manifest::Refused {
    manifest::Refused { problems: vec![problem], warnings: Vec::new() }
}
