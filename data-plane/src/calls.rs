//! The calls of each upstream that were answered last, for people who look on: which, when, how long, what came of it.
//!
//! Bounded in number and in what it costs: so many a second are written down, failures by themselves so that a crowd of
//! good calls does not hide them. It must never keep what was asked with a call or what was answered.

use crate::mcp::{Message, method};
use bytes::Bytes;
use o1_proto::model::Store;
use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// Calls kept of one upstream.
pub const KEPT: usize = 200;
/// Calls written down in one second, those that failed and the others each.
const PER_SECOND: u64 = 50;
/// Characters of a name.
const NAME_MAX: usize = 64;

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer.
    Ok,
    /// An answer that was known.
    Cached,
    /// A JSON-RPC error, or a tool result with `isError`.
    ApplicationError,
    /// No usable answer.
    Error,
    /// None in time.
    Timeout,
}

impl Outcome {
    fn is_failure(self) -> bool {
        !matches!(self, Self::Ok | Self::Cached)
    }
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// When it began.
    pub at: SystemTime,
    /// The MCP method; empty: the request was too large to look at again.
    pub method: String,
    /// Of the tool or prompt, as its upstream calls it; empty: it names none.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
    /// To the complete answer.
    pub took: Duration,
    /// Who answered; `None`: the cache.
    pub store: Option<Store>,
}

/// Which calls somebody wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Of the upstream of this name; `None`: of all.
    pub upstream: Option<String>,
    /// The most, the latest ones.
    pub limit: usize,
    /// Only those that failed.
    pub failed: bool,
}

/// What there is of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Upstream and call, latest first.
    pub calls: Vec<(String, Call)>,
    /// Calls since the node began, of these upstreams.
    pub seen: u64,
    /// Of them, those that were written down.
    pub kept: u64,
}

/// The calls of one upstream, over all its configurations.
#[derive(Debug)]
pub struct Calls {
    born: Instant,
    good: Budget,
    bad: Budget,
    kept: AtomicU64,
    ring: Mutex<VecDeque<Call>>,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            good: Budget::default(),
            bad: Budget::default(),
            kept: AtomicU64::new(0),
            ring: Mutex::default(),
        }
    }
}

impl Calls {
    /// A call ended, at `now` or a moment later. Most of the time this is a look at a counter, and none at the clock.
    pub fn ended(
        &self,
        request: &Bytes,
        outcome: Outcome,
        began: Instant,
        now: Instant,
        store: Option<Store>,
    ) {
        let budget = if outcome.is_failure() { &self.bad } else { &self.good };
        if !budget.take(now.duration_since(self.born).as_secs()) {
            return;
        }
        let took = began.elapsed();
        let at = SystemTime::now().checked_sub(took).unwrap_or(SystemTime::UNIX_EPOCH);
        let (method, name) = what(request);
        self.kept.fetch_add(1, Relaxed);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.truncate(KEPT - 1);
        ring.push_front(Call { at, method, name, outcome, took, store });
    }

    /// The latest ones, at most so many, latest first, and how many were ever written down.
    #[must_use]
    pub fn latest(&self, failed: bool, limit: usize) -> (Vec<Call>, u64) {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = ring.iter().filter(|call| !failed || call.outcome.is_failure());
        (wanted.take(limit).cloned().collect(), self.kept.load(Relaxed))
    }
}

/// So many a second, whoever asks.
#[derive(Debug, Default)]
struct Budget(AtomicU64);

impl Budget {
    const SECOND: u32 = 32;

    fn take(&self, second: u64) -> bool {
        let taken = |word: u64| {
            let count = if word >> Self::SECOND == second { word & u64::from(u32::MAX) } else { 0 };
            (count < PER_SECOND).then_some(second << Self::SECOND | (count + 1))
        };
        self.0.fetch_update(Relaxed, Relaxed, taken).is_ok()
    }
}

/// The method of a request, and the name in it where that is not an argument.
fn what(request: &Bytes) -> (String, String) {
    let Ok(message) = Message::parse(request) else { return Default::default() };
    let named = matches!(message.method(), method::TOOLS_CALL | method::PROMPTS_GET);
    let name = named.then(|| message.param_str(&["name"]).ok().flatten()).flatten();
    let name = name.map(|name| name.chars().take(NAME_MAX).collect()).unwrap_or_default();
    (message.method().chars().take(NAME_MAX).collect(), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Bytes = Bytes::from_static(
        br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"key":"secret"}}}"#,
    );

    #[tokio::test(start_paused = true)]
    async fn so_many_a_second_are_written_down_and_failures_by_themselves() {
        let calls = Calls::default();
        let end = |outcome| calls.ended(&CALL, outcome, Instant::now(), Instant::now(), Some(Store::Primary));
        (0..1000).for_each(|_| end(Outcome::Ok));
        end(Outcome::Timeout);
        end(Outcome::ApplicationError);
        let (all, kept) = calls.latest(false, KEPT);
        assert_eq!((all.len(), kept), (52, 52));
        let outcomes: Vec<_> = calls.latest(true, KEPT).0.iter().map(|call| call.outcome).collect();
        assert_eq!(outcomes, [Outcome::ApplicationError, Outcome::Timeout], "latest first");
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(1)).await;
            (0..1000).for_each(|_| end(Outcome::Cached));
        }
        let (all, kept) = calls.latest(false, KEPT);
        assert_eq!((all.len(), kept), (KEPT, 552), "the oldest go");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_told_by_method_and_name_and_never_by_its_arguments() {
        let calls = Calls::default();
        let began = Instant::now();
        tokio::time::advance(Duration::from_millis(12)).await;
        calls.ended(&CALL, Outcome::Ok, began, Instant::now(), Some(Store::Backup));
        let list =
            Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"x"}}"#);
        calls.ended(&list, Outcome::Cached, began, Instant::now(), None);
        calls.ended(&Bytes::new(), Outcome::Ok, began, Instant::now(), None);
        let seen = calls.latest(false, KEPT).0;
        let told: Vec<_> = seen.iter().map(|call| (call.method.as_str(), call.name.as_str())).collect();
        assert_eq!(told, [("", ""), ("resources/read", ""), ("tools/call", "read")]);
        assert_eq!((seen[2].took, seen[2].store), (Duration::from_millis(12), Some(Store::Backup)));
        assert!(!format!("{seen:?}").contains("secret"));
    }
}
