//! Changes that come through the API: what is asked, and what is said to it. Plain values, and the line they wait in.

use super::Version;
use crate::store::StoreError;
use o1_proto::{convert, model, problem::Problem};
use std::{collections::BTreeMap, path::PathBuf};
use tokio::sync::{mpsc, oneshot};

/// Changes that may wait.
const QUEUE: usize = 16;

/// What somebody asks for.
#[derive(Debug, Clone)]
pub struct Change {
    /// What should run.
    pub wish: Wish,
    /// Only if this runs: generation and revision.
    pub if_version: Option<(u64, u64)>,
    /// Says what would happen, and does nothing.
    pub dry_run: bool,
    /// The same id within a day is the same change; empty: none.
    pub request_id: String,
    /// Who asks, as far as is known.
    pub actor: String,
    /// Why.
    pub comment: String,
}

/// What should run.
#[derive(Debug, Clone)]
pub enum Wish {
    /// This document, under this name in messages.
    Document(Vec<u8>, String),
    /// The document of this revision.
    Revision(u64),
}

impl Wish {
    /// What tells it from another wish.
    pub(super) fn mark(&self) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new();
        match self {
            Self::Document(content, _) => hasher.update(b"apply").update(content),
            Self::Revision(number) => hasher.update(b"rollback").update(&number.to_be_bytes()),
        };
        hasher.finalize().as_bytes().to_vec()
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// What should run now. Of a dry run, and where nothing changed: what did already.
    pub version: Version,
    /// It was so already.
    pub no_op: bool,
    /// The same request came before, and this is what came of it.
    pub already_done: bool,
    /// What differs.
    pub resources: Vec<ResourceChange>,
    /// What the author of the document should know.
    pub warnings: Vec<Problem>,
}

/// A part of the configuration that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceChange {
    /// As on the wire.
    pub kind: i32,
    /// What it is called.
    pub name: String,
    /// In which way.
    pub how: How,
}

/// In which way a part differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It was not there.
    Added,
    /// It was different.
    Updated,
    /// It is not there any more.
    Removed,
}

/// Why nothing changed.
#[derive(Debug)]
pub enum ChangeError {
    /// This file says what runs.
    OwnedBy(PathBuf),
    /// Every problem of the document.
    Invalid(Vec<Problem>),
    /// Something else runs; `None`: nothing does.
    Conflict(Option<Version>),
    /// There is no such revision.
    NoRevision(u64),
    /// Another change had this request id.
    OtherRequest,
    /// The store did not do as asked.
    Store(StoreError),
    /// Too many changes wait.
    Busy,
    /// The process stops.
    Stopping,
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A change and who waits for it.
pub(super) type Asked = (Change, oneshot::Sender<Result<Changed, ChangeError>>);

/// Where changes are asked for. Clones lead to the same source.
#[derive(Debug, Clone)]
pub struct Desk(mpsc::Sender<Asked>);

impl Desk {
    pub(super) fn open() -> (Self, mpsc::Receiver<Asked>) {
        let (asks, asked) = mpsc::channel(QUEUE);
        (Self(asks), asked)
    }

    /// Asks for a change. It is on disk and on its way when this returns.
    ///
    /// # Errors
    /// Why nothing changed.
    pub async fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send((change, reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ChangeError::Busy,
            mpsc::error::TrySendError::Closed(_) => ChangeError::Stopping,
        })?;
        answer.await.map_err(|_| ChangeError::Stopping)?
    }
}

/// The parts that differ, in the order of kind and name.
#[must_use]
pub fn differences(before: &model::Fleet, after: &model::Fleet) -> Vec<ResourceChange> {
    let parts = |fleet: &model::Fleet| -> BTreeMap<(i32, String), Vec<u8>> {
        let keyed = convert::encode(fleet).into_iter().filter_map(|one| Some((one.key?, one.digest)));
        keyed.map(|(key, digest)| ((key.kind, key.name), digest)).collect()
    };
    let (before, after) = (parts(before), parts(after));
    let mut keys: Vec<_> = before.keys().chain(after.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let change = |key: &(i32, String)| {
        let how = match (before.get(key), after.get(key)) {
            (None, _) => How::Added,
            (_, None) => How::Removed,
            (was, is) if was != is => How::Updated,
            _ => return None,
        };
        Some(ResourceChange { kind: key.0, name: key.1.clone(), how })
    };
    keys.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compile;

    #[test]
    fn what_differs_is_named_by_part() {
        let fleet = |text: &str| compile("x", text.as_bytes()).unwrap().fleet;
        let upstream = |name: &str, port: u16| {
            format!("  {name}: {{primary: [{{url: 'http://127.0.0.1:{port}/mcp'}}]}}\n")
        };
        let before = fleet(&format!("upstreams:\n{}{}", upstream("a", 1), upstream("b", 1)));
        let after = fleet(&format!("upstreams:\n{}{}", upstream("b", 2), upstream("c", 1)));
        let named: Vec<_> = differences(&before, &after)
            .into_iter()
            .map(|one| format!("{} {:?}", one.name, one.how))
            .collect();
        assert_eq!(named, ["a Removed", "b Updated", "c Added"]);
        assert_eq!(differences(&before, &before), []);
    }

    #[test]
    fn wishes_are_told_apart() {
        let apply = |text: &str, name: &str| Wish::Document(text.into(), name.into()).mark();
        assert_eq!(apply("a", "x"), apply("a", "y"), "its name is no part of it");
        assert_ne!(apply("a", "x"), apply("b", "x"));
        assert_ne!(Wish::Revision(1).mark(), Wish::Revision(2).mark());
    }
}
