//! Who changed what, as plain values. As with `model`, names here are what `--json` prints.

use crate::args::AuditKind;
use jiff::Timestamp;
use serde::Serialize;

/// A change, or a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Grows by one with each entry.
    pub id: u64,
    /// When.
    pub at: Option<Timestamp>,
    /// `change` or `refusal`.
    pub kind: &'static str,
    /// The name in a certificate or of a token; empty: nobody was asked, or it could not be told.
    pub who: String,
    /// `node`, `viewer`, `editor`, `operator`; `local`: nobody was asked.
    pub role: String,
    /// The address.
    pub from: String,
    /// The call, or `handshake`.
    pub action: String,
    /// What it was about.
    pub subject: String,
    /// The reason or comment.
    pub why: String,
    /// `done`, `failed`, `refused`; `unknown`: the control plane ended in the middle.
    pub outcome: &'static str,
    /// For people.
    pub detail: String,
    /// As the caller named it.
    pub request_id: String,
    /// The same again, not noted by itself.
    pub repeated: u32,
}

/// Which entries are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Of this kind alone.
    pub kind: Option<AuditKind>,
    /// Of this one alone; empty: of everybody.
    pub who: String,
    /// Not older.
    pub since: Option<Timestamp>,
}
