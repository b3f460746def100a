//! The answers of one upstream's primary in memory, within bounds: the newest to each question.
//!
//! Pure. It must never forget lists while reads that nobody asked for lately take up room, nor let lists of many
//! callers leave no room for reads: each kind gives way to the other only as far as half of it all.

use super::{Answer, Key, Keys};
use crate::{mcp::method, plan};
use std::collections::{BTreeMap, HashMap};

/// What one answer costs beside its bytes.
const OVERHEAD: u64 = 256;

/// How much a book holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Answers.
    pub entries: usize,
    /// Bytes, all answers together.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 2_000, bytes: 64 << 20 }
    }
}

impl Limits {
    /// The largest answer that is kept.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.bytes / 8
    }
}

/// What an answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// Nothing: it says what was known.
    None,
    /// Something.
    Some,
    /// A list.
    List,
}

/// The kinds of answers that give way to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shelf {
    Catalogue = 0,
    Reads = 1,
}

impl Shelf {
    fn of(method: &str) -> Self {
        let is_catalogue =
            method::list_key(method).is_some() || matches!(method, method::DISCOVER | method::INITIALIZE);
        if is_catalogue { Self::Catalogue } else { Self::Reads }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Book {
    /// Whose answers these are, by [`plan::Upstream::identity`].
    pub identity: plan::Key,
    limits: Limits,
    held: HashMap<Key, Held>,
    /// From [`Keys::alike`]: which of them was answered last.
    alike: HashMap<Key, Key>,
    /// By when they were last used, on each shelf.
    order: [BTreeMap<u64, Key>; 2],
    bytes: [u64; 2],
    /// Counts uses.
    tick: u64,
}

#[derive(Debug)]
struct Held {
    answer: Answer,
    alike: Key,
    tick: u64,
}

impl Book {
    /// An empty one.
    #[must_use]
    pub fn new(identity: plan::Key, limits: Limits) -> Self {
        Self {
            identity,
            limits,
            held: HashMap::new(),
            alike: HashMap::new(),
            order: Default::default(),
            bytes: [0; 2],
            tick: 0,
        }
    }

    /// Keeps an answer in place of the one before.
    pub fn put(&mut self, keys: &Keys, answer: Answer) -> News {
        if answer.size() > self.limits.largest() {
            // What was said before is not what is said now.
            return if self.remove(&keys.exact) { News::Some } else { News::None };
        }
        let shelf = Shelf::of(&answer.method);
        if let Some(held) = self.held.get_mut(&keys.exact)
            && held.answer.result == answer.result
            && held.answer.public == answer.public
        {
            held.answer.received = answer.received;
            self.alike.insert(keys.alike, keys.exact);
            self.touch(&keys.exact);
            return News::None;
        }
        let is_list = method::list_key(&answer.method).is_some();
        self.remove(&keys.exact);
        self.tick += 1;
        self.order[shelf as usize].insert(self.tick, keys.exact);
        self.bytes[shelf as usize] += answer.size();
        self.alike.insert(keys.alike, keys.exact);
        self.held.insert(keys.exact, Held { answer, alike: keys.alike, tick: self.tick });
        while self.is_over() {
            let shelf = self.yielding();
            let Some(oldest) = self.order[shelf as usize].first_key_value().map(|(_, key)| *key) else {
                break;
            };
            self.remove(&oldest);
        }
        if is_list { News::List } else { News::Some }
    }

    /// The newest answer to this very question, or to the one most like it.
    pub fn find(&mut self, keys: &Keys) -> Option<Answer> {
        let key = match self.held.contains_key(&keys.exact) {
            true => keys.exact,
            false => *self.alike.get(&keys.alike)?,
        };
        self.touch(&key);
        self.held.get(&key).map(|held| held.answer.clone())
    }

    /// Forgets the answer that [`Book::find`] would give.
    pub fn forget(&mut self, keys: &Keys) -> bool {
        let alike = self.alike.get(&keys.alike).copied();
        let found = alike.is_some_and(|key| self.remove(&key));
        self.remove(&keys.exact) || found
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// When the primary last said anything that it holds.
    #[must_use]
    pub fn as_of(&self) -> Option<std::time::SystemTime> {
        self.held.values().map(|held| held.answer.received).max()
    }

    /// Everything, what was used last at the end.
    #[must_use]
    pub fn all(&self) -> Vec<(Keys, Answer)> {
        let mut held: Vec<_> = self.held.iter().collect();
        held.sort_unstable_by_key(|(_, held)| held.tick);
        held.into_iter()
            .map(|(exact, held)| (Keys { exact: *exact, alike: held.alike }, held.answer.clone()))
            .collect()
    }

    fn touch(&mut self, key: &Key) {
        let Some(held) = self.held.get_mut(key) else { return };
        self.tick += 1;
        let order = &mut self.order[Shelf::of(&held.answer.method) as usize];
        order.remove(&held.tick);
        order.insert(self.tick, *key);
        held.tick = self.tick;
    }

    fn remove(&mut self, key: &Key) -> bool {
        let Some(held) = self.held.remove(key) else { return false };
        let shelf = Shelf::of(&held.answer.method) as usize;
        self.order[shelf].remove(&held.tick);
        self.bytes[shelf] -= held.answer.size();
        if self.alike.get(&held.alike) == Some(key) {
            self.alike.remove(&held.alike);
        }
        true
    }

    fn is_over(&self) -> bool {
        self.held.len() > self.limits.entries || self.bytes.iter().sum::<u64>() > self.limits.bytes
    }

    /// Which shelf gives way.
    fn yielding(&self) -> Shelf {
        let (lists, bytes) =
            (self.order[Shelf::Catalogue as usize].len(), self.bytes[Shelf::Catalogue as usize]);
        let is_half = lists > self.limits.entries / 2 || bytes > self.limits.bytes / 2;
        if is_half || self.order[Shelf::Reads as usize].is_empty() { Shelf::Catalogue } else { Shelf::Reads }
    }
}

impl Answer {
    /// What it counts for, in bytes.
    fn size(&self) -> u64 {
        self.result.len() as u64 + OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::time::{Duration, SystemTime};

    const SMALL: Limits = Limits { entries: 4, bytes: 64 << 10 };

    fn keys(exact: u8, alike: u8) -> Keys {
        Keys { exact: [exact; 32], alike: [alike; 32] }
    }

    fn answer(method: &str, text: &str) -> Answer {
        Answer {
            method: method.into(),
            result: Bytes::from(text.to_owned()),
            received: SystemTime::UNIX_EPOCH,
            public: false,
        }
    }

    fn said(book: &mut Book, at: u8) -> Option<String> {
        let found = book.find(&keys(at, at))?;
        Some(String::from_utf8(found.result.to_vec()).unwrap())
    }

    #[test]
    fn the_newest_answer_to_a_question_counts_and_the_same_again_is_no_news() {
        let mut book = Book::new([0; 32], SMALL);
        assert_eq!(book.put(&keys(1, 1), answer("tools/list", "a")), News::List);
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
        let again = Answer { received: later, ..answer("tools/list", "a") };
        assert_eq!(book.put(&keys(1, 1), again), News::None);
        assert_eq!(book.as_of(), Some(later));
        assert_eq!(book.put(&keys(1, 1), answer("tools/list", "b")), News::List);
        assert_eq!(book.put(&keys(2, 2), answer("resources/read", "r")), News::Some);
        assert_eq!((said(&mut book, 1).as_deref(), book.held.len()), (Some("b"), 2));
    }

    #[test]
    fn a_question_that_was_never_asked_gets_the_answer_to_the_one_most_like_it() {
        let mut book = Book::new([0; 32], SMALL);
        book.put(&keys(1, 9), answer("tools/list", "a"));
        book.put(&keys(2, 9), answer("tools/list", "b"));
        let find = |book: &mut Book, exact| book.find(&keys(exact, 9)).map(|found| found.result);
        assert_eq!(find(&mut book, 1).unwrap(), "a");
        assert_eq!(find(&mut book, 3).unwrap(), "b");
        assert!(book.forget(&keys(3, 9)));
        assert_eq!(find(&mut book, 3), None);
        assert_eq!(find(&mut book, 1).unwrap(), "a");
    }

    #[test]
    fn what_was_not_used_for_longest_leaves_and_reads_before_lists() {
        let mut book = Book::new([0; 32], SMALL);
        book.put(&keys(1, 1), answer("tools/list", "l"));
        for at in 2..=4 {
            book.put(&keys(at, at), answer("resources/read", "r"));
        }
        assert!(said(&mut book, 2).is_some());
        book.put(&keys(5, 5), answer("resources/read", "r"));
        let there: Vec<_> = (1..=5).filter(|at| said(&mut book, *at).is_some()).collect();
        assert_eq!(there, [1, 2, 4, 5], "3 was used before 2");
    }

    #[test]
    fn lists_of_many_callers_leave_half_of_the_room_to_reads() {
        let mut book = Book::new([0; 32], SMALL);
        for at in 1..=2 {
            book.put(&keys(at, at), answer("resources/read", "r"));
        }
        for at in 3..=9 {
            book.put(&keys(at, at), answer("tools/list", "l"));
        }
        let there: Vec<_> = (1..=9).filter(|at| said(&mut book, *at).is_some()).collect();
        assert_eq!(there, [1, 2, 8, 9]);
    }

    #[test]
    fn bytes_are_bounded_and_what_is_too_large_takes_the_place_of_nothing() {
        let mut book = Book::new([0; 32], Limits { entries: 1_000, bytes: 8 << 10 });
        for at in 0..100 {
            book.put(&keys(at, at), answer("resources/read", &"r".repeat(700)));
            assert!(book.bytes.iter().sum::<u64>() <= 8 << 10);
        }
        assert_eq!(book.held.len(), (8 << 10) / (700 + 256));
        assert!(said(&mut book, 99).is_some());
        assert_eq!(book.put(&keys(99, 99), answer("resources/read", &"r".repeat(2_000))), News::Some);
        assert_eq!(said(&mut book, 99), None, "its older answer is not what the server says now");
    }
}
