//! One answer in memory: the upstream's bytes, where its id and its life stand in them, and until when and for what
//! it holds.
//!
//! It never changes but for one note: why it leaves, written once. How fresh it is, is a function of the time and
//! of its tier's windows; whether what it says may have changed, its scope knows. It must never be put twice.

use super::scope::{Scope, Stamp, Subject};
use crate::{
    mcp::{
        Message,
        json::{self, Span},
    },
    metrics::Cause,
};
use bytes::{Bytes, BytesMut};
use o1_proto::model::{Tier, TierLimits};
use std::{
    fmt::Write as _,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::Instant;

/// What an answer is kept with.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Whose answer it is.
    pub scope: Arc<Scope>,
    /// What was asked.
    pub subject: Subject,
    /// When it was asked, in the sequence of its scope.
    pub stamp: Stamp,
    /// Whether the server lets anybody have it.
    pub public: bool,
    /// When it came in.
    pub received: Instant,
    /// How long it is fresh from then on.
    pub life: Duration,
    /// Whether callers are told how long it holds even though the server did not say: answers to the methods of
    /// 2026-07-28 that have a `ttlMs`.
    pub hinted: bool,
}

/// An answer in memory.
#[derive(Debug)]
pub struct Entry {
    bytes: Bytes,
    id: Span,
    ttl: Ttl,
    tier: Tier,
    terms: Terms,
    leaving: OnceLock<Cause>,
}

/// Where the remaining life stands in what callers get.
#[derive(Debug)]
enum Ttl {
    /// In place of what the server said.
    Replaces(Span),
    /// First in the result, which is otherwise empty or not.
    Inserted { at: usize, comma: bool },
    /// Nowhere.
    Absent,
}

/// How an entry may serve at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// Within its life.
    Fresh,
    /// Beyond it, within a window of its tier.
    Stale {
        /// It may serve while a new answer is fetched.
        while_revalidate: bool,
        /// It may serve when that fails.
        if_error: bool,
    },
    /// Beyond every window.
    Dead,
}

impl Entry {
    /// Keeps the answer `message`. The bytes are copied, so that no larger buffer stays for their sake.
    ///
    /// `None` when it is no result, when `ttlMs` stands in it twice, or when nothing is kept about its subject.
    #[must_use]
    pub fn new(message: &Message, terms: Terms) -> Option<Self> {
        let (text, id, result) = (message.bytes(), message.id_span()?, message.result()?);
        let tier = terms.subject.tier()?;
        let object = text.get(result.start) == Some(&b'{');
        let said = if object { json::member(text, &result, "ttlMs").ok()? } else { None };
        let ttl = match said {
            Some(at) => Ttl::Replaces(at),
            None if terms.hinted && object => {
                let rest = text[result.start + 1..result.end].trim_ascii_start();
                Ttl::Inserted { at: result.start + 1, comma: rest.first() != Some(&b'}') }
            }
            None => Ttl::Absent,
        };
        Some(Self { bytes: Bytes::copy_from_slice(text), id, ttl, tier, terms, leaving: OnceLock::new() })
    }

    /// What it is kept with.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Where it is kept.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The upstream's message, as it came.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What it counts for, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// How it may serve at `now` in a tier with these windows. Whether it [holds](Entry::holds) is another
    /// question.
    #[must_use]
    pub fn age(&self, now: Instant, limits: &TierLimits) -> Age {
        let passed = now.saturating_duration_since(self.terms.received);
        let Some(beyond) = passed.checked_sub(self.terms.life) else { return Age::Fresh };
        let (while_revalidate, if_error) =
            (beyond < limits.stale_while_revalidate, beyond < limits.stale_if_error);
        if while_revalidate || if_error { Age::Stale { while_revalidate, if_error } } else { Age::Dead }
    }

    /// Whether nothing that concerns it was invalidated since it was asked for.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.terms.scope.holds(&self.terms.subject, self.terms.stamp)
    }

    /// What is left of its life at `now`; zero beyond it.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> Duration {
        self.terms.life.saturating_sub(now.saturating_duration_since(self.terms.received))
    }

    /// The answer for a caller who asked with `id` (raw JSON): that id, and what is left of its life at `now` in
    /// whole milliseconds; every other byte is the server's.
    #[must_use]
    pub fn render(&self, id: &[u8], now: Instant) -> Bytes {
        let mut digits = Digits::default();
        let mut life = |before: &str, after: &str| {
            let _ = write!(digits, "{before}{}{after}", self.remaining(now).as_millis());
        };
        let at = match &self.ttl {
            Ttl::Replaces(at) => {
                life("", "");
                at.clone()
            }
            Ttl::Inserted { at, comma } => {
                life("\"ttlMs\":", if *comma { "," } else { "" });
                *at..*at
            }
            Ttl::Absent => self.id.end..self.id.end,
        };
        let mut edits = [(&self.id, id), (&at, digits.text())];
        edits.sort_unstable_by_key(|(span, _)| span.start);
        let grown = id.len() + digits.text().len();
        let mut out = BytesMut::with_capacity(self.bytes.len() - self.id.len() - at.len() + grown);
        let mut from = 0;
        for (span, new) in edits {
            out.extend_from_slice(&self.bytes[from..span.start]);
            out.extend_from_slice(new);
            from = span.end;
        }
        out.extend_from_slice(&self.bytes[from..]);
        out.freeze()
    }

    /// Notes why it is about to leave; the first reason stays.
    pub(super) fn leave(&self, cause: Cause) {
        let _ = self.leaving.set(cause);
    }

    /// Why it leaves, once that is known.
    pub(super) fn leaving(&self) -> Option<Cause> {
        self.leaving.get().copied()
    }
}

/// A short text on the stack: the member `ttlMs` with the longest duration there is.
#[derive(Default)]
struct Digits {
    bytes: [u8; 32],
    len: usize,
}

impl Digits {
    fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Write for Digits {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let place = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(std::fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}
