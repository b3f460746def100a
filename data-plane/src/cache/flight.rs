//! One exchange for many callers who ask the same at the same time.
//!
//! Owns who waits for what. A flight is a future that everybody who waits for it drives, so a caller that goes away
//! leaves it to the others; nothing else holds it, so when the last one goes it is dropped, and with it the exchange.
//! It must never hold a flight for longer than somebody waits, and never let more wait than it may.

use super::{key::Key, scope::Stamp};
use crate::{call::Serial, failure::Failure};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// Flights at a time; further callers ask for themselves.
const FLIGHTS_MAX: usize = 16_384;
/// Callers of one flight; further ones ask for themselves.
pub(super) const SEATS_MAX: usize = 8_192;

/// How a flight ended, for each of its callers.
pub(super) type Landing<T> = Result<Arc<T>, Arc<Failure>>;

/// Every flight that somebody waits for, by what was asked.
pub(super) struct Flights<T> {
    by_key: Mutex<HashMap<Key, Entry<T>>>,
    last: AtomicU64,
}

struct Entry<T> {
    number: u64,
    /// By which id, in which legacy session, the upstream knows the request.
    request: Option<(Serial, Box<[u8]>)>,
    flight: Weak<Flight<T>>,
}

/// One of them.
pub(super) struct Flight<T> {
    landing: Shared<BoxFuture<'static, Landing<T>>>,
    from: Departure,
    seats: Arc<Seats>,
    number: u64,
    key: Key,
    flights: Arc<Flights<T>>,
}

/// What is known of a flight when it begins.
#[derive(Debug, Clone)]
pub(super) struct Departure {
    /// What had happened to the upstream by then.
    pub(super) stamp: Stamp,
    /// The question within the partition of who asked first.
    pub(super) own: Key,
    /// Cancelled when the legacy session of who asked first is over, and its upstream session with it.
    pub(super) ended: Option<CancellationToken>,
}

/// Which flight is meant.
#[derive(Debug)]
pub(super) struct Ticket {
    /// What is asked.
    pub(super) key: Key,
    /// So many callers need not wait for more.
    pub(super) enough: usize,
    /// By which id, in which legacy session, it may be cancelled.
    pub(super) request: Option<(Serial, Box<[u8]>)>,
}

/// Those who wait for one flight.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: AtomicUsize,
    /// Who asked first is not among them any more.
    left: AtomicBool,
    /// So many need not wait for more.
    enough: usize,
    filled: Notify,
}

/// What somebody who wants to join a flight gets.
pub(super) enum Boarding<T, K> {
    /// The answer is known by now.
    Known(K),
    /// A seat.
    Seat(Seat<T>),
    /// Too many wait.
    Full,
}

/// A place among those who wait.
pub(super) struct Seat<T> {
    flight: Arc<Flight<T>>,
    /// Whether the request is one's own.
    pub(super) leads: bool,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self { by_key: Mutex::default(), last: AtomicU64::new(0) }
    }
}

impl<T: Send + Sync + 'static> Flights<T> {
    /// A seat in the flight that is under way for a question if one `joins` it, else in a new one, unless the answer is
    /// `known` by now: it may have landed between a look-up and this call. `begin` makes the exchange of a new one.
    pub(super) fn board<K, F>(
        self: &Arc<Self>,
        ticket: Ticket,
        joins: impl FnOnce(&Departure) -> bool,
        known: impl FnOnce() -> Option<K>,
        begin: impl FnOnce(&Arc<Seats>) -> (Departure, F),
    ) -> Boarding<T, K>
    where
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let Ticket { key, enough, request } = ticket;
        // Declared before the lock, so dropped after it: the last holder of a flight ends it, which takes the lock.
        let running;
        let mut by_key = self.lock();
        running = by_key.get(&key).and_then(|entry| entry.flight.upgrade());
        if let Some(flight) = &running
            && joins(&flight.from)
        {
            return if flight.seats.take() {
                Boarding::Seat(Seat { flight: flight.clone(), leads: false })
            } else {
                Boarding::Full
            };
        }
        if let Some(known) = known() {
            return Boarding::Known(known);
        }
        if by_key.len() >= FLIGHTS_MAX && !by_key.contains_key(&key) {
            return Boarding::Full;
        }
        let number = self.last.fetch_add(1, Relaxed);
        let seats = Arc::new(Seats { enough, ..Seats::default() });
        let (from, exchange) = begin(&seats);
        let flights = self.clone();
        let landing = async move {
            let landed = exchange.await;
            // Who comes now finds the answer where it was stored, or asks again.
            flights.forget(&key, number);
            landed.map(Arc::new).map_err(Arc::new)
        };
        let landing = landing.boxed().shared();
        seats.take();
        let flight = Arc::new(Flight { landing, from, seats, number, key, flights: self.clone() });
        by_key.insert(key, Entry { number, request, flight: Arc::downgrade(&flight) });
        Boarding::Seat(Seat { flight, leads: true })
    }

    /// Whether a legacy client's cancellation of a request must not reach the upstream, because others wait for its
    /// answer, too. If nobody does, nobody will: it is on its way to be cancelled.
    pub(super) fn keeps(&self, session: &Serial, id: &[u8]) -> bool {
        let of =
            |entry: &Entry<T>| entry.request.as_ref().is_some_and(|one| one.0 == *session && *one.1 == *id);
        // Dropped after the lock: the last holder of a flight ends it.
        let flight;
        let mut by_key = self.lock();
        let Some((key, entry)) = by_key.iter().find(|(_, entry)| of(entry)) else { return false };
        flight = entry.flight.upgrade();
        if flight.is_some_and(|flight| flight.seats.have_others()) {
            return true;
        }
        let key = *key;
        by_key.remove(&key);
        false
    }

    fn forget(&self, key: &Key, number: u64) {
        let mut by_key = self.lock();
        if by_key.get(key).is_some_and(|entry| entry.number == number) {
            by_key.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry<T>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        let mut by_key = self.flights.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if by_key.get(&self.key).is_some_and(|entry| entry.number == self.number) {
            by_key.remove(&self.key);
        }
    }
}

impl<T> Seat<T> {
    /// Waits until the flight has landed.
    pub(super) async fn landing(&self) -> Landing<T> {
        self.flight.landing.clone().await
    }

    /// What was known of the flight when it began.
    pub(super) fn from(&self) -> &Departure {
        &self.flight.from
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        if self.leads {
            self.flight.seats.left.store(true, Release);
        }
        self.flight.seats.taken.fetch_sub(1, AcqRel);
    }
}

impl Seats {
    fn take(&self) -> bool {
        let taken =
            self.taken.fetch_update(AcqRel, Acquire, |taken| (taken < SEATS_MAX).then_some(taken + 1));
        if taken.is_ok_and(|before| before + 1 >= self.enough) {
            self.filled.notify_one();
        }
        taken.is_ok()
    }

    /// Whether anybody waits beside who asked first, who may have left without a word.
    fn have_others(&self) -> bool {
        self.taken() > usize::from(!self.left.load(Acquire))
    }

    /// How many wait now.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Acquire)
    }

    /// Waits for more callers, no longer than `window` and no longer than until there are enough. Says how long.
    pub(super) async fn gather(&self, window: Duration) -> Duration {
        let began = Instant::now();
        let _ = timeout(window, self.filled.notified()).await;
        began.elapsed()
    }
}
