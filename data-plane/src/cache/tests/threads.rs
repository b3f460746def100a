//! Threads that read, keep, invalidate, purge and configure at once.

use super::{caching, counted, message};
use crate::{
    cache::{
        entry::{Entry, Terms},
        key::{Key, Partition},
        scope::{Scopes, Subject},
        tier::Tiers,
    },
    call::Ask,
    metrics::Metrics,
    plan::Upstream,
};
use o1_proto::model::{Eviction, Tier};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};
use tokio::time::Instant;

const URIS: usize = 8;
const ROUNDS: usize = 4_000;

/// Resources of a server that count up, and say so.
struct Server {
    /// What a read gives.
    truth: [AtomicU64; URIS],
    /// What every look-up that begins now must at least give: its update was told of in full.
    told: [AtomicU64; URIS],
}

struct World {
    metrics: Arc<Metrics>,
    scopes: Scopes,
    tiers: Tiers,
    upstream: Upstream,
    server: Server,
    keys: [Key; URIS],
}

impl World {
    fn new(entries: u32) -> Self {
        let metrics = Arc::new(Metrics::default());
        let upstream = Upstream::bare("u");
        let keys = std::array::from_fn(|at| {
            let call = super::call("p", super::request_of(&subject(at)));
            let Ask::Message(message) = &call.ask else { unreachable!("a call of these tests is a message") };
            Key::base(&call, message, &upstream).unwrap().within(Partition::Principal("p"))
        });
        Self {
            scopes: Scopes::new(&metrics),
            tiers: Tiers::new(&caching(entries, 1 << 20, Eviction::TinyLfu)),
            metrics,
            upstream,
            server: Server { truth: Default::default(), told: Default::default() },
            keys,
        }
    }

    /// Reads as the layer does: from memory, else from the server, keeping what it said.
    fn read(&self, at: usize, dice: &mut fastrand::Rng) {
        let floor = self.server.told[at].load(SeqCst);
        if let Some((entry, _)) = self.tiers.get(Tier::Resources, &self.keys[at], Instant::now()) {
            let number = number(&entry);
            assert!(number >= floor, "{number} was served after {floor} had been told of");
            return;
        }
        let scope = self.scopes.of(&self.upstream);
        let stamp = scope.now();
        let number = self.server.truth[at].load(SeqCst);
        if dice.u8(0..4) == 0 {
            thread::yield_now(); // be overtaken
        }
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"contents":{number}}}}}"#);
        let (received, life) = (Instant::now(), Duration::from_micros(dice.u64(1..2_000)));
        let subject = subject(at);
        let terms = Terms { scope, subject, stamp, public: false, received, life, hinted: true };
        self.tiers.put(self.keys[at], Arc::new(Entry::new(&message(text), terms).unwrap()));
    }

    /// The server changes a resource and says so, by itself or with others.
    fn change(&self, at: usize, dice: &mut fastrand::Rng) {
        let number = self.server.truth[at].fetch_add(1, SeqCst) + 1;
        let what = match dice.u8(0..8) {
            0 => Subject::Everything,
            1 => Subject::Tier(Tier::Resources),
            _ => subject(at),
        };
        self.scopes.of(&self.upstream).invalidate(&what);
        self.server.told[at].fetch_max(number, SeqCst);
    }
}

fn subject(at: usize) -> Subject {
    Subject::Resource(format!("f:/{at}").into())
}

fn number(entry: &Entry) -> u64 {
    let text = std::str::from_utf8(entry.bytes()).unwrap();
    let digits = text.split("\"contents\":").nth(1).unwrap();
    digits.trim_end_matches('}').parse().unwrap()
}

fn hammer(entries: u32) {
    let world = &World::new(entries);
    let done = &AtomicBool::new(false);
    thread::scope(|threads| {
        let workers: Vec<_> = (0..6)
            .map(|seed| {
                threads.spawn(move || {
                    let mut dice = fastrand::Rng::with_seed(seed);
                    for _ in 0..ROUNDS {
                        let at = dice.usize(0..URIS);
                        if dice.u8(0..10) == 0 {
                            world.change(at, &mut dice)
                        } else {
                            world.read(at, &mut dice)
                        }
                    }
                })
            })
            .collect();
        threads.spawn(move || {
            let mut dice = fastrand::Rng::with_seed(99);
            while !done.load(SeqCst) {
                match dice.u8(0..8) {
                    0 => {
                        let _ = world.tiers.purge(Some("u"), None);
                    }
                    1 => world.tiers.configure(&caching(entries, 1 << dice.u64(18..22), Eviction::Lru)),
                    _ => world.tiers.sweep(Instant::now()),
                }
                thread::yield_now();
            }
        });
        let ended: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, SeqCst);
        ended.into_iter().for_each(|end| end.unwrap());
    });
    let there = world.tiers.contents(Tier::Resources);
    let bytes: u64 = there.iter().map(|(_, entry)| entry.size()).sum();
    let sample = counted(&world.metrics, "u", Tier::Resources);
    assert_eq!((sample.entries, sample.bytes), (there.len() as u64, bytes), "{sample:?}");
    assert!(there.len() <= entries as usize);
    assert_eq!(sample.stored, sample.left.iter().sum::<u64>() + sample.entries, "each leaves once");
    drop(there);
    let _ = world.tiers.purge(None, None);
    let sample = counted(&world.metrics, "u", Tier::Resources);
    assert_eq!((sample.entries, sample.bytes), (0, 0), "{sample:?}");
}

#[test]
fn no_look_up_gives_what_an_invalidation_before_it_ended() {
    hammer(1_000);
}

#[test]
fn nor_where_entries_are_evicted_all_the_time() {
    hammer(3);
}
