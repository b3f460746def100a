//! Questions that only nodes can answer: who asked which node, and where the answer goes. What is asked and
//! answered passes through as bytes that nobody here reads.
//!
//! A caller that does not read loses its answer; it never delays a node's stream.

use super::{MAX_NODES, StreamId};
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};
use tokio::sync::mpsc;

/// Queries that are open at a time on one stream: as many as a node answers.
pub(super) const ON_STREAM: usize = 16;
/// Queries that are open at a time, over all nodes: a few askers may ask the largest fleet as a whole.
const OPEN_MAX: usize = 4 * MAX_NODES;
/// Parts of one answer that wait for its reader.
const PARTS_MAX: usize = 32;

/// What is sent to a node for a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The encoded question.
    Ask(Vec<u8>),
    /// The answer is no longer wanted.
    Cancel,
}

/// Why an answer ends before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The node's stream is over.
    Gone,
    /// The reader fell behind.
    Behind,
}

/// As many queries are open as may be, on this stream or over all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// The open queries.
#[derive(Debug, Default)]
pub(super) struct Queries {
    last: u64,
    open: HashMap<u64, Open>,
    /// Those of each stream that has some.
    streams: HashMap<StreamId, Vec<u64>>,
}

#[derive(Debug)]
struct Open {
    stream: StreamId,
    parts: mpsc::Sender<Vec<u8>>,
    lost: Arc<OnceLock<Lost>>,
}

/// Where the parts of an answer arrive.
#[derive(Debug)]
pub struct Parts {
    parts: mpsc::Receiver<Vec<u8>>,
    lost: Arc<OnceLock<Lost>>,
}

impl Parts {
    /// The next part, encoded; `None`: that was all.
    ///
    /// # Errors
    /// The rest will not come.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Lost> {
        match self.parts.recv().await {
            Some(part) => Ok(Some(part)),
            None => self.lost.get().map_or(Ok(None), |lost| Err(*lost)),
        }
    }
}

impl Queries {
    /// How many are open.
    pub(super) fn open_now(&self) -> usize {
        self.open.len()
    }

    /// Opens a query on a stream.
    pub(super) fn open(&mut self, stream: StreamId) -> Result<(u64, Parts), Busy> {
        if self.open.len() >= OPEN_MAX
            || self.streams.get(&stream).is_some_and(|open| open.len() >= ON_STREAM)
        {
            return Err(Busy);
        }
        self.last += 1;
        self.streams.entry(stream).or_default().push(self.last);
        let (sender, receiver) = mpsc::channel(PARTS_MAX);
        let lost = Arc::new(OnceLock::new());
        self.open.insert(self.last, Open { stream, parts: sender, lost: lost.clone() });
        Ok((self.last, Parts { parts: receiver, lost }))
    }

    /// A part arrives on a stream. True: nobody wants more of it, the node should be told.
    pub(super) fn part(&mut self, stream: StreamId, id: u64, part: Vec<u8>, last: bool) -> bool {
        // A node answers no question that another was asked. One that was cancelled may still be on its way.
        let Some(open) = self.open.get(&id).filter(|open| open.stream == stream) else { return false };
        let refused = open.parts.try_send(part).is_err();
        if refused {
            // Whoever set it first is right.
            let _ = open.lost.set(Lost::Behind);
        }
        if last || refused {
            self.cancel(id);
        }
        refused && !last
    }

    /// Nobody wants the answer any more. The stream it would have come on, if it was still open.
    pub(super) fn cancel(&mut self, id: u64) -> Option<StreamId> {
        let stream = self.open.remove(&id)?.stream;
        if let Some(ids) = self.streams.get_mut(&stream) {
            ids.retain(|known| *known != id);
            if ids.is_empty() {
                self.streams.remove(&stream);
            }
        }
        Some(stream)
    }

    /// A stream is over, and with it every answer on it.
    pub(super) fn closed(&mut self, stream: StreamId) {
        for id in self.streams.remove(&stream).unwrap_or_default() {
            if let Some(open) = self.open.remove(&id) {
                let _ = open.lost.set(Lost::Gone);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_read_part_by_part_to_its_end() {
        let mut queries = Queries::default();
        let (id, mut parts) = queries.open(StreamId(1)).unwrap();
        assert!(!queries.part(StreamId(2), id, vec![9], true), "another stream has no say");
        assert!(!queries.part(StreamId(1), id, vec![1], false));
        assert!(!queries.part(StreamId(1), id, vec![2], true));
        assert!(!queries.part(StreamId(1), id, vec![3], true), "it has ended");
        assert_eq!(parts.next().await, Ok(Some(vec![1])));
        assert_eq!(parts.next().await, Ok(Some(vec![2])));
        assert_eq!(parts.next().await, Ok(None));
        assert_eq!(queries.cancel(id), None);
    }

    #[tokio::test]
    async fn a_reader_that_falls_behind_loses_the_rest_and_the_node_is_told_once() {
        let mut queries = Queries::default();
        let (id, mut parts) = queries.open(StreamId(1)).unwrap();
        let told = (0..100).filter(|_| queries.part(StreamId(1), id, vec![0], false)).count();
        assert_eq!(told, 1);
        for _ in 0..PARTS_MAX {
            assert_eq!(parts.next().await, Ok(Some(vec![0])));
        }
        assert_eq!(parts.next().await, Err(Lost::Behind));
    }

    #[tokio::test]
    async fn the_end_of_a_stream_ends_its_answers_and_no_others() {
        let mut queries = Queries::default();
        let (_, mut here) = queries.open(StreamId(1)).unwrap();
        let (there, _parts) = queries.open(StreamId(2)).unwrap();
        queries.closed(StreamId(1));
        assert_eq!(here.next().await, Err(Lost::Gone));
        assert_eq!(queries.cancel(there), Some(StreamId(2)));
    }

    #[test]
    fn only_so_many_are_open_at_a_time_on_one_stream() {
        let mut queries = Queries::default();
        let mut held: Vec<_> = (0..ON_STREAM).map(|_| queries.open(StreamId(1)).unwrap()).collect();
        assert_eq!(queries.open(StreamId(1)).unwrap_err(), Busy);
        let (other, _parts) = queries.open(StreamId(2)).expect("that is not the trouble of another");
        queries.cancel(held[0].0);
        held.push(queries.open(StreamId(1)).unwrap());
        assert!(!queries.part(StreamId(1), held[1].0, vec![], true), "an end makes room too");
        held.push(queries.open(StreamId(1)).unwrap());
        assert_eq!(queries.open(StreamId(1)).unwrap_err(), Busy);
        queries.closed(StreamId(1));
        queries.cancel(other);
        assert!(queries.open.is_empty() && queries.streams.is_empty(), "{queries:?}");
    }

    #[test]
    fn the_largest_fleet_can_be_asked_and_there_is_an_end_to_it() {
        let mut queries = Queries::default();
        let streams = || (0..).map(|number| StreamId(number / 4));
        let held: Vec<_> = streams().map_while(|stream| queries.open(stream).ok()).collect();
        assert_eq!(held.len(), 4 * MAX_NODES);
        queries.closed(StreamId(0));
        assert!(queries.open(StreamId(u64::MAX)).is_ok());
    }
}
