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

    /// How it may serve at `now` in a tier with these windows: one that is in doubt only where the server fails.
    /// Whether it [holds](Entry::holds) is another question.
    #[must_use]
    pub fn age(&self, now: Instant, limits: &TierLimits) -> Age {
        let sure = self.terms.scope.is_sure(self.terms.stamp);
        let passed = now.saturating_duration_since(self.terms.received);
        let beyond = match passed.checked_sub(self.terms.life) {
            None if sure => return Age::Fresh,
            beyond => beyond.unwrap_or_default(),
        };
        let (while_revalidate, if_error) =
            (sure && beyond < limits.stale_while_revalidate, beyond < limits.stale_if_error);
        if while_revalidate || if_error { Age::Stale { while_revalidate, if_error } } else { Age::Dead }
    }

    /// Whether nothing that concerns it was invalidated since it was asked for.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.terms.scope.holds(&self.terms.subject, self.terms.stamp)
    }

    /// What is left of its life at `now`; zero beyond it, and in doubt.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> Duration {
        if !self.terms.scope.is_sure(self.terms.stamp) {
            return Duration::ZERO;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::{caching, message, scope};
    use o1_proto::model::Eviction;

    fn terms(hinted: bool) -> Terms {
        let (_, scope) = scope();
        Terms {
            subject: Subject::Resource("f:/a".into()),
            stamp: scope.now(),
            scope,
            public: false,
            received: Instant::now(),
            life: Duration::from_millis(1_500),
            hinted,
        }
    }

    fn kept(text: &str, hinted: bool) -> Option<Entry> {
        Entry::new(&message(text), terms(hinted))
    }

    #[tokio::test(start_paused = true)]
    async fn callers_get_their_id_and_what_is_left_and_every_other_byte_as_it_was() {
        let table = [
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{ "n":1.10, "ttlMs" : 9e3 ,"z":[]}}"#,
                r#"{"jsonrpc":"2.0","id":"me","result":{ "n":1.10, "ttlMs" : 1250 ,"z":[]}}"#,
            ),
            (
                r#"{"result":{"ttlMs":5},"x":0, "id":"long one","jsonrpc":"2.0"}"#,
                r#"{"result":{"ttlMs":1250},"x":0, "id":"me","jsonrpc":"2.0"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{ "a":1}}"#,
                r#"{"jsonrpc":"2.0","id":"me","result":{"ttlMs":1250, "a":1}}"#,
            ),
            (
                r#"{"result":{ },"jsonrpc":"2.0","id":1}"#,
                r#"{"result":{"ttlMs":1250 },"jsonrpc":"2.0","id":"me"}"#,
            ),
            (
                r#"{"result":{"meta":{"ttlMs":7}},"jsonrpc":"2.0","id":1}"#,
                r#"{"result":{"ttlMs":1250,"meta":{"ttlMs":7}},"jsonrpc":"2.0","id":"me"}"#,
            ),
            (r#"{"result":[],"jsonrpc":"2.0","id":1}"#, r#"{"result":[],"jsonrpc":"2.0","id":"me"}"#),
        ];
        for (text, expected) in table {
            let entry = kept(text, true).unwrap();
            let later = Instant::now() + Duration::from_micros(249_001);
            assert_eq!(entry.render(b"\"me\"", later), expected);
        }
        let plain = kept(r#"{"id":1,"result":{"a":1},"jsonrpc":"2.0"}"#, false).unwrap();
        assert_eq!(plain.render(b"2", Instant::now()), r#"{"id":2,"result":{"a":1},"jsonrpc":"2.0"}"#);
        let stale = kept(r#"{"id":1,"result":{},"jsonrpc":"2.0"}"#, true).unwrap();
        let late = Instant::now() + Duration::from_secs(9);
        assert_eq!(stale.render(b"2", late), r#"{"id":2,"result":{"ttlMs":0},"jsonrpc":"2.0"}"#);
    }

    #[test]
    fn the_longest_life_fits() {
        let entry = Entry::new(
            &message(r#"{"id":1,"result":{"a":1},"jsonrpc":"2.0"}"#),
            Terms { life: Duration::MAX, ..terms(true) },
        );
        let text = entry.unwrap().render(b"1", Instant::now());
        assert!(text.starts_with(br#"{"id":1,"result":{"ttlMs":18446744073709551"#), "{text:?}");
        assert!(text.ends_with(br#","a":1},"jsonrpc":"2.0"}"#), "{text:?}");
    }

    #[test]
    fn what_is_no_plain_result_is_not_kept() {
        let refused = [
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}"#,
            r#"{"jsonrpc":"2.0","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"ttlMs":1,"ttl\u004ds":2}}"#,
        ];
        for text in refused {
            assert!(kept(text, true).is_none(), "{text}");
        }
        let result = message(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        assert!(Entry::new(&result, Terms { subject: Subject::Everything, ..terms(true) }).is_none());
    }

    #[test]
    fn an_entry_holds_its_own_bytes_and_not_the_buffer_they_came_in() {
        let buffer =
            Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{}}}}{}"#, " ".repeat(1 << 16)));
        let entry = Entry::new(&Message::parse(&buffer).unwrap(), terms(true)).unwrap();
        assert_eq!(entry.size(), 36);
        assert!(!buffer.as_ptr_range().contains(&entry.bytes().as_ptr()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_fresh_then_stale_then_dead() {
        let entry = kept(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, true).unwrap();
        let limits = |revalidate, error| TierLimits {
            stale_while_revalidate: Duration::from_millis(revalidate),
            stale_if_error: Duration::from_millis(error),
            ..caching(1, 1, Eviction::Lru).tools
        };
        let received = Instant::now();
        let age = |ms, limits: &TierLimits| entry.age(received + Duration::from_millis(ms), limits);
        let stale = |while_revalidate, if_error| Age::Stale { while_revalidate, if_error };
        let both = limits(100, 500);
        assert_eq!(age(1_499, &both), Age::Fresh);
        assert_eq!(age(1_500, &both), stale(true, true));
        assert_eq!(age(1_599, &both), stale(true, true));
        assert_eq!(age(1_600, &both), stale(false, true));
        assert_eq!(age(2_000, &both), Age::Dead);
        assert_eq!(age(1_700, &limits(300, 0)), stale(true, false));
        assert_eq!(age(1_500, &limits(0, 0)), Age::Dead);
        assert_eq!(entry.age(received - Duration::from_secs(1), &both), Age::Fresh, "a clock that went back");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_doubt_serves_only_where_the_server_fails() {
        let second = Duration::from_secs(1);
        let mut limits = o1_proto::model::Caching::default().resources;
        (limits.stale_while_revalidate, limits.stale_if_error) = (second * 10, second * 10);
        let text = message(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        let before = Entry::new(&text, terms(true)).unwrap();
        let scope = before.terms().scope.clone();
        let (now, life) = (Instant::now(), before.terms().life);
        assert_eq!(before.age(now, &limits), Age::Fresh);
        scope.answered_by(0);
        assert_eq!(before.age(now, &limits), Age::Fresh, "the same process");
        scope.answered_by(1);
        let doubted = Age::Stale { while_revalidate: false, if_error: true };
        assert!(before.holds() && !scope.joins(&before.terms().subject, before.terms().stamp));
        assert_eq!((before.age(now, &limits), before.remaining(now)), (doubted, Duration::ZERO));
        assert_eq!(before.age(now + life + second * 10, &limits), Age::Dead);
        let terms = Terms { stamp: scope.now(), scope: scope.clone(), ..terms(true) };
        let after = Entry::new(&text, terms).unwrap();
        assert_eq!((after.age(now, &limits), after.remaining(now)), (Age::Fresh, life));
        scope.doubt();
        assert_eq!(after.age(now, &limits), doubted);
        limits.stale_if_error = Duration::ZERO;
        assert_eq!(after.age(now, &limits), Age::Dead, "no window, no use");
    }
}
