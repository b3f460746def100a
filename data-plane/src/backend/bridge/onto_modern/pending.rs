//! What of a session is in flight: the client's calls, and the questions that the client has not answered.

use crate::{
    failure::{Failure, Kind},
    mcp::Message,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Calls of one session at a time.
const CALLS_MAX: usize = 1024;

/// The calls of a session, by their raw id.
#[derive(Debug, Default)]
pub(super) struct Calls(Arc<Mutex<ById>>);

#[derive(Debug, Default)]
struct ById {
    next: u64,
    calls: HashMap<Box<[u8]>, (u64, CancellationToken)>,
}

/// A call; dropping it takes it out.
#[derive(Debug)]
pub(super) struct InFlight {
    calls: Arc<Mutex<ById>>,
    id: Box<[u8]>,
    serial: u64,
    /// The client wants no answer any more.
    pub(super) cancelled: CancellationToken,
}

impl Calls {
    /// Enters a call.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn enter(&self, id: &[u8]) -> Result<InFlight, Failure> {
        let cancelled = CancellationToken::new();
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.calls.len() >= CALLS_MAX {
            let what = format!("this session has {CALLS_MAX} calls in flight; try again later");
            return Err(Failure::new(Kind::Overloaded, what).unsent());
        }
        calls.next += 1;
        let serial = calls.next;
        calls.calls.insert(id.into(), (serial, cancelled.clone()));
        Ok(InFlight { calls: self.0.clone(), id: id.into(), serial, cancelled })
    }

    /// Cancels a call, if it is there.
    pub(super) fn cancel(&self, id: &[u8]) {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cancelled)) = calls.calls.get(id) {
            cancelled.cancel();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        // A client that used an id twice replaced the first.
        if calls.calls.get(&self.id).is_some_and(|(serial, _)| *serial == self.serial) {
            calls.calls.remove(&self.id);
        }
    }
}

/// The questions put to the client, by the raw id of their request.
#[derive(Debug)]
pub(super) struct Questions {
    open: Arc<Mutex<Open>>,
    /// An answer to a question of an earlier life of this session must not pass for one of this.
    life: u64,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    waiting: HashMap<Box<[u8]>, oneshot::Sender<Message>>,
}

/// A question; dropping it makes a late answer nobody's.
#[derive(Debug)]
pub(super) struct Asked {
    open: Arc<Mutex<Open>>,
    /// The raw id of the request.
    pub(super) id: Box<[u8]>,
    pub(super) answer: oneshot::Receiver<Message>,
}

impl Questions {
    pub(super) fn new() -> Self {
        let mut life = [0; 8];
        getrandom::fill(&mut life).expect("the system has random numbers");
        Self { open: Arc::default(), life: u64::from_ne_bytes(life) }
    }

    /// Enters a question.
    pub(super) fn enter(&self) -> Asked {
        let (sender, answer) = oneshot::channel();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.next += 1;
        let id: Box<[u8]> = format!("\"o1-{:x}-{}\"", self.life, open.next).into_bytes().into();
        open.waiting.insert(id.clone(), sender);
        Asked { open: self.open.clone(), id, answer }
    }

    /// Hands an answer to who waits for it, if anybody does.
    pub(super) fn answer(&self, response: &Message) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = response.id().and_then(|id| open.waiting.remove(id)) {
            let _ = waiting.send(response.clone());
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_call_is_cancelled_by_its_own_id_only_and_leaves_nothing_behind() {
        let calls = Calls::default();
        let (one, two) = (calls.enter(b"1").unwrap(), calls.enter(b"\"1\"").unwrap());
        let again = calls.enter(b"1").unwrap();
        drop(one);
        calls.cancel(b"1");
        calls.cancel(b"7");
        assert!(again.cancelled.is_cancelled() && !two.cancelled.is_cancelled());
        drop((two, again));
        assert!(calls.0.lock().unwrap().calls.is_empty());
    }

    #[test]
    fn calls_in_flight_are_bounded() {
        let calls = Calls::default();
        let held: Vec<_> = (0..CALLS_MAX).map(|n| calls.enter(n.to_string().as_bytes()).unwrap()).collect();
        assert_eq!(calls.enter(b"more").unwrap_err().kind, Kind::Overloaded);
        drop(held);
        assert!(calls.enter(b"more").is_ok());
    }

    #[test]
    fn an_answer_reaches_its_question_once_and_late_ones_nobody() {
        let questions = Questions::new();
        let mut asked = questions.enter();
        let answer = |id: &[u8]| {
            let id = String::from_utf8_lossy(id);
            Message::parse(&Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#))).unwrap()
        };
        questions.answer(&answer(b"\"o1-0-1\""));
        assert!(asked.answer.try_recv().is_err(), "of another life");
        questions.answer(&answer(&asked.id));
        assert!(asked.answer.try_recv().is_ok());
        let late = questions.enter().id.clone();
        questions.answer(&answer(&late));
        assert!(questions.open.lock().unwrap().waiting.is_empty());
    }
}
