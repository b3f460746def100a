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
use tokio::{
    sync::mpsc,
    time::{Instant, interval},
};
use tokio_util::sync::CancellationToken;

/// Entries of each kind that are kept.
pub const KEPT: usize = 10_000;
/// Refusals that wait to be written.
const WAITING: usize = 256;
/// The same refusal is written once in this time.
const REPEAT: Duration = Duration::from_secs(600);
/// Different refusals that are told apart, in all and of one name on one machine.
const APART: usize = 1000;
const ALIKE: usize = 20;
/// How often it is looked whose time is over.
const SWEEP: Duration = Duration::from_secs(30);
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
        let (mut seen, mut sweep) = (Seen::default(), interval(SWEEP));
        loop {
            let entry = tokio::select! {
                biased;
                Some(entry) = self.refusals.recv() => entry,
                Some(Refused { address, why }) = handshakes.recv() => {
                    audit.refused(&Caller::local(Some(address)), "handshake", "", &why.to_string());
                    continue;
                }
                now = sweep.tick() => {
                    for entry in seen.over(|at| now.saturating_duration_since(at) >= REPEAT) {
                        self.write(entry).await;
                    }
                    continue;
                }
                () = stop.cancelled() => break,
            };
            let Some(repeated) = seen.fresh(&entry, Instant::now()) else { continue };
            self.write(Entry { repeated, ..entry }).await;
            match self.lost.swap(0, Ordering::Relaxed) {
                0 => {}
                lost => tracing::warn!(
                    lost,
                    "refusals came faster than they can be noted: they are only in the log"
                ),
            }
        }
        for entry in seen.over(|_| true) {
            self.write(entry).await;
        }
    }

    async fn write(&self, entry: Entry) {
        if let Err(error) = self.store.begin_audit(entry, KEPT).await {
            tracing::error!(%error, "a refusal could not be noted in the audit");
        }
    }
}

/// Which refusals were written lately.
#[derive(Debug, Default)]
struct Seen(HashMap<Same, Written>);

/// What makes two refusals the same: machine, name, call and reason.
type Same = (Option<IpAddr>, String, String, String);

#[derive(Debug)]
struct Written {
    at: Instant,
    /// How often the same came since, and the last of them.
    more: u32,
    last: Entry,
}

impl Seen {
    /// How often the same came since it was written last; `None`: it is not to be written now.
    fn fresh(&mut self, entry: &Entry, now: Instant) -> Option<u32> {
        let from = entry.from.parse().ok().map(|address: std::net::SocketAddr| address.ip());
        let key = (from, entry.who.clone(), entry.action.clone(), entry.detail.clone());
        if let Some(written) = self.0.get_mut(&key) {
            if now.saturating_duration_since(written.at) < REPEAT {
                (written.more, written.last) = (written.more.saturating_add(1), entry.clone());
                return None;
            }
            (written.at, written.last) = (now, entry.clone());
            return Some(std::mem::take(&mut written.more));
        }
        // Whoever makes up one reason after the other fills the log, and nobody else's place.
        let alike = self.0.keys().filter(|(machine, who, ..)| (machine, who) == (&from, &entry.who)).count();
        if alike >= ALIKE || self.0.len() >= APART {
            return None;
        }
        self.0.insert(key, Written { at: now, more: 0, last: entry.clone() });
        Some(0)
    }

    /// Those of which more came than was written, as far as their time is over: the last of each, for all.
    fn over(&mut self, is_over: impl Fn(Instant) -> bool) -> Vec<Entry> {
        let over = self.0.extract_if(|_, written| is_over(written.at)).map(|(_, written)| written);
        let told = over.filter(|written| written.more > 0);
        told.map(|written| Entry { repeated: written.more - 1, ..written.last }).collect()
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
        let written =
            (0..3 * APART).filter_map(|n| seen.fresh(&refusal("10.0.0.1:1", &n.to_string()), now)).count();
        assert_eq!(written, ALIKE, "one machine takes nobody else's place");
        for number in 0..2 * APART {
            let from = format!("10.1.{}.{}:1", number / 250, number % 250);
            assert_eq!(seen.fresh(&refusal(&from, "expired"), now).is_some(), number < APART - ALIKE);
        }
        assert_eq!(seen.0.len(), APART);
        assert!(seen.over(|at| at <= now).is_empty(), "each was written");
        assert_eq!(seen.0.len(), 0, "what is long ago makes room");
    }

    #[test]
    fn what_came_again_is_told_when_its_time_is_over_although_it_never_comes_again() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        for _ in 0..100 {
            seen.fresh(&refusal("10.0.0.1:1", "unknown token"), now);
        }
        seen.fresh(&refusal("10.0.0.2:1", "once"), now);
        assert!(seen.over(|at| at < now).is_empty(), "not yet");
        let told = seen.over(|_| true);
        assert_eq!((told.len(), told[0].repeated), (1, 98), "a hundred: one before, this one, and 98");
        assert!(seen.over(|_| true).is_empty());
    }
}
