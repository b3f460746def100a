//! What is kept of changes and refusals. A change is noted before it is made and again when it is known what came of it,
//! so that none is without a trace, whenever the process dies. Refusals are noted by the way: whoever is refused again
//! and again costs one entry in ten minutes.

use super::{Caller, rights};
use crate::store::{Store, StoreError};
use o1_process::tls::Refused;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

/// Entries of each kind that are kept.
pub const KEPT: usize = 10_000;
/// Refusals that wait to be written.
const WAITING: usize = 256;
/// The same refusal is written once in this time.
const REPEAT: Duration = Duration::from_secs(600);
/// Different refusals that are told apart.
const APART: usize = 1000;
/// Characters of one text.
const TEXT: usize = 1000;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of somebody who may.
    Change,
    /// Of somebody who may not.
    Refusal,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Not known, yet or any more.
    Unknown,
    /// It was done.
    Done,
    /// It was tried in vain.
    Failed,
    /// It was not let in, or not allowed.
    Refused,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number; 0: it has none yet.
    pub id: u64,
    /// When.
    pub at: SystemTime,
    /// About what.
    pub kind: Kind,
    /// Who; empty: it cannot be told.
    pub who: String,
    /// As what; `local`: nobody was asked.
    pub role: String,
    /// From where.
    pub from: String,
    /// The call.
    pub action: String,
    /// What it was about.
    pub subject: String,
    /// Why, as the caller says.
    pub why: String,
    /// What came of it.
    pub outcome: Outcome,
    /// For people.
    pub detail: String,
    /// As the caller named it.
    pub request_id: String,
    /// The same again, not noted by itself.
    pub repeated: u32,
}

/// Which entries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Older than this one; `None`: from the newest on.
    pub before: Option<u64>,
    /// The most.
    pub limit: usize,
    /// Of this kind alone.
    pub kind: Option<Kind>,
    /// Of this one alone.
    pub who: Option<String>,
    /// Not older.
    pub since: Option<SystemTime>,
}

/// What somebody wants changed.
#[derive(Debug, Clone, Default)]
pub struct Deed {
    /// The call, such as `AdminService/OrderStore`.
    pub action: &'static str,
    /// What it is about.
    pub subject: String,
    /// Why.
    pub why: String,
    /// As the caller named it.
    pub request_id: String,
}

/// The audit; clones share it.
#[derive(Clone)]
pub struct Audit {
    store: Arc<dyn Store>,
    refusals: mpsc::Sender<Entry>,
    lost: Arc<AtomicU64>,
}

/// The end of an audit that writes refusals down.
pub struct Writer {
    store: Arc<dyn Store>,
    refusals: mpsc::Receiver<Entry>,
    lost: Arc<AtomicU64>,
}

impl Audit {
    /// An audit in this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> (Self, Writer) {
        let (refusals, waiting) = mpsc::channel(WAITING);
        let lost = Arc::<AtomicU64>::default();
        let writer = Writer { store: store.clone(), refusals: waiting, lost: lost.clone() };
        (Self { store, refusals, lost }, writer)
    }

    /// Notes that somebody is about to change something; the number of the entry.
    ///
    /// # Errors
    /// It could not be noted: nothing should be changed.
    pub async fn begin(&self, caller: &Caller, deed: Deed) -> Result<u64, StoreError> {
        let entry = Entry {
            action: deed.action.to_owned(),
            subject: cut(deed.subject),
            why: cut(deed.why),
            request_id: cut(deed.request_id),
            ..blank(Kind::Change, caller)
        };
        self.store.begin_audit(entry, KEPT).await
    }

    /// Notes what came of it. That this fails changes nothing about what was done: it is in the log.
    pub async fn end(&self, id: u64, outcome: Outcome, detail: String) {
        if let Err(error) = self.store.end_audit(id, outcome, cut(detail)).await {
            tracing::error!(%error, id, "what came of a change could not be noted in the audit");
        }
    }

    /// Notes that somebody is not let in, or may not do this. `role`: what he is, as far as that is known.
    pub fn refused(&self, caller: &Caller, action: &str, subject: &str, detail: &str) {
        let entry = Entry {
            action: rights::short(action).chars().take(TEXT).collect(),
            subject: cut(subject.to_owned()),
            outcome: Outcome::Refused,
            detail: cut(detail.to_owned()),
            ..blank(Kind::Refusal, caller)
        };
        tracing::warn!(
            who = entry.who,
            role = entry.role,
            from = entry.from,
            action = entry.action,
            subject = entry.subject,
            why = entry.detail,
            "somebody was refused"
        );
        if self.refusals.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Entries, newest first.
    ///
    /// # Errors
    /// The store.
    pub async fn list(&self, query: Query) -> Result<Vec<Entry>, StoreError> {
        self.store.audit(query).await
    }
}

impl Writer {
    /// Writes refusals, those of handshakes too, until `stop` and all that waits then is written.
    pub async fn run(
        mut self,
        audit: Audit,
        mut handshakes: mpsc::Receiver<Refused>,
        stop: CancellationToken,
    ) {
        let mut seen = Seen::default();
        loop {
            let entry = tokio::select! {
                biased;
                Some(entry) = self.refusals.recv() => entry,
                Some(Refused { address, why }) = handshakes.recv() => {
                    audit.refused(&Caller::local(Some(address)), "handshake", "", &why.to_string());
                    continue;
                }
                () = stop.cancelled() => return,
            };
            let Some(repeated) = seen.fresh(&entry, Instant::now()) else { continue };
            if let Err(error) = self.store.begin_audit(Entry { repeated, ..entry }, KEPT).await {
                tracing::error!(%error, "a refusal could not be noted in the audit");
            }
            match self.lost.swap(0, Ordering::Relaxed) {
                0 => {}
                lost => tracing::warn!(
                    lost,
                    "refusals came faster than they can be noted: they are only in the log"
                ),
            }
        }
    }
}

/// Which refusals were written lately.
#[derive(Debug, Default)]
struct Seen(HashMap<Same, (Instant, u32)>);

/// What makes two refusals the same: machine, name, call and reason.
type Same = (Option<IpAddr>, String, String, String);

impl Seen {
    /// How often the same came since it was written last; `None`: it is not to be written again yet.
    fn fresh(&mut self, entry: &Entry, now: Instant) -> Option<u32> {
        let from = entry.from.parse().ok().map(|address: std::net::SocketAddr| address.ip());
        let key = (from, entry.who.clone(), entry.action.clone(), entry.detail.clone());
        let recent = |written: Instant| now.saturating_duration_since(written) < REPEAT;
        if let Some((written, more)) = self.0.get_mut(&key) {
            if recent(*written) {
                *more = more.saturating_add(1);
                return None;
            }
            let repeated = std::mem::take(more);
            *written = now;
            return Some(repeated);
        }
        if self.0.len() >= APART {
            self.0.retain(|_, (written, _)| recent(*written));
        }
        // A flood of different ones: what is told apart no more is written as it comes, for as long as the queue lasts.
        if self.0.len() < APART {
            self.0.insert(key, (now, 0));
        }
        Some(0)
    }
}

fn blank(kind: Kind, caller: &Caller) -> Entry {
    let known = caller.known.as_ref();
    // Of whom nobody could tell who he is, a refusal says nothing.
    let nobody = if kind == Kind::Change { "local" } else { "" };
    Entry {
        id: 0,
        at: SystemTime::now(),
        kind,
        who: known.map(|known| known.name.clone()).unwrap_or_default(),
        role: known.map_or(nobody, |known| known.role.word()).to_owned(),
        from: caller.from(),
        action: String::new(),
        subject: String::new(),
        why: String::new(),
        outcome: Outcome::Unknown,
        detail: String::new(),
        request_id: String::new(),
        repeated: 0,
    }
}

fn cut(text: String) -> String {
    if text.len() <= TEXT { text } else { text.chars().take(TEXT).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(from: &str, detail: &str) -> Entry {
        let caller = Caller::local(Some(from.parse().unwrap()));
        Entry { detail: detail.to_owned(), ..blank(Kind::Refusal, &caller) }
    }

    #[test]
    fn what_is_refused_again_and_again_is_written_once_in_ten_minutes() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        let later = now + REPEAT;
        assert_eq!(seen.fresh(&refusal("10.0.0.1:1", "expired"), now), Some(0));
        for port in 2..40 {
            assert_eq!(
                seen.fresh(&refusal(&format!("10.0.0.1:{port}"), "expired"), now),
                None,
                "another port"
            );
        }
        assert_eq!(seen.fresh(&refusal("10.0.0.2:1", "expired"), now), Some(0), "another machine");
        assert_eq!(seen.fresh(&refusal("10.0.0.1:1", "foreign"), now), Some(0), "another reason");
        assert_eq!(seen.fresh(&refusal("10.0.0.1:1", "expired"), later), Some(38), "and how often it came");
        assert_eq!(seen.fresh(&refusal("10.0.0.1:1", "expired"), later), None);
        assert_eq!(seen.fresh(&refusal("10.0.0.1:1", "expired"), later + REPEAT), Some(1));
    }

    #[test]
    fn a_flood_of_different_ones_costs_bounded_memory() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        for number in 0..3 * APART {
            assert_eq!(seen.fresh(&refusal("10.0.0.1:1", &number.to_string()), now), Some(0));
        }
        assert_eq!(seen.0.len(), APART);
        seen.fresh(&refusal("10.0.0.1:1", "later"), now + REPEAT);
        assert_eq!(seen.0.len(), 1, "what is long ago makes room");
    }
}
