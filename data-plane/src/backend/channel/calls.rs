//! The requests that one server has not answered yet, and to which of them a message of the server belongs.
//!
//! Many callers share a channel, and their ids and progress tokens collide. So each request gets a number of this
//! table as both, and what comes back gets the caller's own spelling again. No I/O here: bytes in, bytes out.

use super::line;
use crate::{
    failure::{Failure, Kind},
    mcp::{
        Era, Message,
        json::{self, Malformed, Span},
        method, rpc,
    },
};
use bytes::Bytes;
use std::{collections::HashMap, time::Duration};
use tokio::{sync::mpsc, time::Instant};

/// What a caller receives: notifications, then the response or a failure.
pub(in crate::backend) type Reply = Result<Message, Failure>;

/// Requests in flight, abandoned ones included.
const CALLS_MAX: usize = 4096;
/// Notifications of one request that its caller has not read yet.
const NOTES_MAX: usize = 1024;
/// How long a log line may still come from a request that was cancelled. Until then no log line is handed to
/// another caller: it could tell one about the other.
const ECHO: Duration = Duration::from_secs(10);

/// The table.
pub(in crate::backend) struct Calls {
    /// The upstream, for failures.
    name: String,
    era: Era,
    next: u64,
    open: HashMap<u64, Call>,
    used: Option<Instant>,
    logs_muted_until: Instant,
    /// Why there can be no further calls.
    refusal: Option<String>,
}

/// A request in flight.
pub(in crate::backend) struct Call {
    /// The caller's id, as it was spelled.
    id: Bytes,
    /// The caller's progress token, as it was spelled.
    token: Option<Bytes>,
    /// It is a subscription: its notifications must not get lost unnoticed.
    listens: bool,
    /// It asked for log messages (modern).
    logs: bool,
    notes: mpsc::Sender<Reply>,
    /// A place that no notification can take.
    last: mpsc::OwnedPermit<Reply>,
}

impl Call {
    /// Hands the response to the caller, under the caller's id.
    pub(in crate::backend) fn answer(self, message: &Message) {
        let mut edits = Vec::with_capacity(2);
        edits.extend(message.id_span().map(|span| (span, self.id.to_vec())));
        // The result that ends a subscription names it once more.
        if let Some(result) = message.result().filter(|_| self.listens)
            && let Ok(Some(span)) = json::find(message.bytes(), &result, &SUBSCRIPTION)
        {
            edits.push((span, self.id.to_vec()));
        }
        self.last.send(Ok(message.spliced(edits)));
    }

    /// Hands the caller a failure.
    pub(in crate::backend) fn fail(self, failure: Failure) {
        self.last.send(Err(failure));
    }

    /// The caller's name for its subscription, if this is one.
    fn subscription(&self) -> Option<Bytes> {
        self.listens.then(|| self.id.clone())
    }
}

/// A request that has been entered.
pub(in crate::backend) struct Opened {
    pub(in crate::backend) key: u64,
    /// What to write.
    pub(in crate::backend) line: Bytes,
    pub(in crate::backend) replies: mpsc::Receiver<Reply>,
}

/// What became of a notification.
#[derive(Debug)]
pub(in crate::backend) enum Noted {
    /// Its request has it, or it belongs to nobody any more.
    Done,
    /// It belongs to no request.
    Unsolicited(Message),
    /// Its subscription had too much unread and has been ended: cancel the request of this key.
    Overrun(u64),
}

impl Calls {
    pub(in crate::backend) fn new(name: String, era: Era, now: Instant) -> Self {
        Self { name, era, next: 1, open: HashMap::new(), used: None, logs_muted_until: now, refusal: None }
    }

    /// When the last request was entered; the first of all is the handshake and does not count.
    pub(in crate::backend) fn used(&self) -> Option<Instant> {
        self.used
    }

    /// Enters a request.
    pub(in crate::backend) fn open(&mut self, message: &Message, now: Instant) -> Result<Opened, Failure> {
        if let Some(refusal) = &self.refusal {
            return Err(Failure::new(Kind::Unreachable, format!("{} {refusal}", self.name)));
        }
        if self.open.len() >= CALLS_MAX {
            // A caller that went away left its request here to be answered. A late answer is dropped all the same.
            self.open.retain(|_, call| !call.notes.is_closed());
        }
        if self.open.len() >= CALLS_MAX {
            let words = format!("{} has {CALLS_MAX} calls in flight; try again later", self.name);
            return Err(Failure::new(Kind::Overloaded, words).unsent());
        }
        let (Some(id), Some(id_span)) = (message.id(), message.id_span()) else {
            return Err(Failure::new(Kind::Internal, "a request without an id was sent to a process"));
        };
        let key = self.next;
        let unreadable = |error: Malformed| {
            Failure::new(Kind::InvalidRequest, "`params._meta` cannot be read").because(error)
        };
        let token = message.param(&["_meta", "progressToken"]).map_err(unreadable)?;
        let token = token.filter(|span| is_token(&message.bytes()[span.clone()]));
        let logs = message.param(&["_meta", crate::mcp::era::META_LOG_LEVEL]).map_err(unreadable)?;
        let (notes, replies) = mpsc::channel(NOTES_MAX + 1);
        let last = notes.clone().try_reserve_owned().expect("a new channel has room");
        let number = key.to_string().into_bytes();
        let mut edits = vec![(id_span, number.clone())];
        edits.extend(token.clone().map(|span| (span, number)));
        let line = line::one(json::splice(message.bytes(), edits));
        let call = Call {
            id: Bytes::copy_from_slice(id),
            token: token.map(|span| Bytes::copy_from_slice(&message.bytes()[span])),
            listens: message.method() == method::LISTEN,
            logs: logs.is_some(),
            notes,
            last,
        };
        self.next += 1;
        self.used = (key > 1).then_some(now);
        self.open.insert(key, call);
        Ok(Opened { key, line, replies })
    }

    /// Forgets a request. Returns what tells the server so, unless it has answered already.
    pub(in crate::backend) fn cancel(&mut self, key: u64, now: Instant) -> Option<Bytes> {
        let call = self.open.remove(&key)?;
        if call.logs {
            self.logs_muted_until = now + ECHO;
        }
        Some(cancelled(key))
    }

    /// Forgets a request that the server never saw.
    pub(in crate::backend) fn retract(&mut self, key: u64) {
        self.open.remove(&key);
    }

    /// Takes out the request that this id answers; `None` if nobody waits for it.
    pub(in crate::backend) fn take(&mut self, id: &[u8]) -> Option<Call> {
        number(id).and_then(|key| self.open.remove(&key))
    }

    /// Hands a notification to the request it belongs to.
    pub(in crate::backend) fn note(&mut self, message: Message, now: Instant) -> Noted {
        // A key that stands twice on the way to what decides makes it nobody's.
        match message.method() {
            method::PROGRESS => match self.named(&message, &["progressToken"]) {
                Some((key, span)) => self.restore_and_pass(key, &message, span, |call| call.token.clone()),
                None => Noted::Done,
            },
            method::MESSAGE if self.era == Era::Modern => self.pass_log(message, now),
            method::CANCELLED if self.era == Era::Modern => match self.named(&message, &["requestId"]) {
                Some((key, span)) => self.restore_and_pass(key, &message, span, Call::subscription),
                None => Noted::Done,
            },
            _ if self.era == Era::Modern => match self.named(&message, &SUBSCRIPTION) {
                Some((key, span)) => self.restore_and_pass(key, &message, span, Call::subscription),
                None => Noted::Unsolicited(message),
            },
            _ => Noted::Unsolicited(message),
        }
    }

    /// No further calls: each fails with "<name> <why>".
    pub(in crate::backend) fn refuse(&mut self, why: &str) {
        self.refusal.get_or_insert_with(|| why.to_owned());
    }

    /// Why there can be no further calls, if so.
    pub(in crate::backend) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Fails every request in flight. `why` completes "<name> …".
    pub(in crate::backend) fn fail(&mut self, kind: Kind, why: &str) {
        self.refuse(why);
        for call in std::mem::take(&mut self.open).into_values() {
            let words = format!("{} {why}; the call may have run", self.name);
            call.fail(Failure::new(kind, words));
        }
    }

    /// Requests in flight.
    pub(in crate::backend) fn len(&self) -> usize {
        self.open.len()
    }

    /// The open request that a member of `params` names by its number, and where it does.
    fn named(&self, message: &Message, path: &[&str]) -> Option<(u64, Span)> {
        let span = message.param(path).ok()??;
        let key = number(&message.bytes()[span.clone()])?;
        self.open.contains_key(&key).then_some((key, span))
    }

    fn restore_and_pass(
        &mut self,
        key: u64,
        message: &Message,
        span: Span,
        own: impl FnOnce(&Call) -> Option<Bytes>,
    ) -> Noted {
        match self.open.get(&key).and_then(own) {
            Some(own) => self.pass(key, message.spliced(vec![(span, own.to_vec())])),
            None => Noted::Done,
        }
    }

    /// A modern log message names no request. It can only come from one that asked for some.
    fn pass_log(&mut self, message: Message, now: Instant) -> Noted {
        let mut asked = self.open.iter().filter(|(_, call)| call.logs).map(|(key, _)| *key);
        match (asked.next(), asked.next()) {
            (Some(key), None) if now >= self.logs_muted_until => self.pass(key, message),
            _ => Noted::Done,
        }
    }

    fn pass(&mut self, key: u64, message: Message) -> Noted {
        let Some(call) = self.open.get(&key) else {
            return Noted::Done;
        };
        match call.notes.try_send(Ok(message)) {
            Err(mpsc::error::TrySendError::Full(_)) if call.listens => {
                let words = "the subscription was not read fast enough and has ended; subscribe again";
                if let Some(call) = self.open.remove(&key) {
                    call.fail(Failure::new(Kind::Internal, words));
                }
                Noted::Overrun(key)
            }
            // Progress and log lines that nobody reads in time may go.
            _ => Noted::Done,
        }
    }
}

const SUBSCRIPTION: [&str; 2] = ["_meta", crate::mcp::era::META_SUBSCRIPTION];

/// `notifications/cancelled` for the request with this key.
pub(in crate::backend) fn cancelled(key: u64) -> Bytes {
    rpc::notification(method::CANCELLED, Some(format!(r#"{{"requestId":{key}}}"#).as_bytes()))
}

/// Our ids and tokens are plain numbers; whatever else comes back was not ours.
fn number(raw: &[u8]) -> Option<u64> {
    std::str::from_utf8(raw).ok()?.parse().ok()
}

/// MCP tokens are strings or integers. Anything else is left for the server to refuse.
fn is_token(raw: &[u8]) -> bool {
    match raw {
        [b'"', ..] => true,
        [b'-', digits @ ..] | digits => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Message {
        Message::parse(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn logging() -> Message {
        parse(
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"io.modelcontextprotocol/logLevel":"info"}}}"#,
        )
    }

    #[tokio::test]
    async fn a_cancelled_request_never_talks_into_the_log_of_another() {
        let now = Instant::now();
        let mut calls = Calls::new("tested".to_owned(), Era::Modern, now);
        let line =
            parse(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#);
        let cancelled = calls.open(&logging(), now).unwrap();
        let mut other = calls.open(&logging(), now).unwrap();
        let told = calls.cancel(cancelled.key, now).unwrap();
        assert_eq!(told, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
        assert!(calls.cancel(cancelled.key, now).is_none(), "told once");
        for (when, arrives) in [(now, false), (now + ECHO, true)] {
            assert!(matches!(calls.note(line.clone(), when), Noted::Done));
            assert_eq!(other.replies.try_recv().is_ok(), arrives);
        }
    }

    #[tokio::test]
    async fn requests_in_flight_are_bounded_and_abandoned_ones_make_room() {
        let now = Instant::now();
        let mut calls = Calls::new("tested".to_owned(), Era::Legacy, now);
        let mut open: Vec<Opened> = (0..CALLS_MAX).map(|_| calls.open(&logging(), now).unwrap()).collect();
        let full = calls.open(&logging(), now).err().unwrap();
        assert_eq!(full.kind, Kind::Overloaded);
        open.truncate(CALLS_MAX - 10);
        calls.open(&logging(), now).unwrap();
        assert_eq!(calls.len(), CALLS_MAX - 10 + 1);
    }

    #[tokio::test]
    async fn ids_and_tokens_that_are_not_ours_are_nobodys() {
        let now = Instant::now();
        let mut calls = Calls::new("tested".to_owned(), Era::Modern, now);
        let mut opened = calls.open(&logging(), now).unwrap();
        for id in ["2", "\"1\"", "-1", "18446744073709551616"] {
            assert!(calls.take(id.as_bytes()).is_none(), "{id}");
        }
        for params in [
            r#"{"progressToken":1}"#, // a request that wants no progress
            r#"{"progressToken":2}"#,
            r#"{"progressToken":1,"progressToken":1}"#,
            "[]",
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#);
            assert!(matches!(calls.note(parse(&text), now), Noted::Done), "{params}");
        }
        assert!(opened.replies.try_recv().is_err());
        // Only a subscription can be named as one.
        let tagged = r#"{"jsonrpc":"2.0","method":"x","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}"#;
        assert!(matches!(calls.note(parse(tagged), now), Noted::Done));
        assert!(opened.replies.try_recv().is_err());
        assert!(calls.take(b"1").is_some());
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        let now = Instant::now();
        let mut calls = Calls::new("tested".to_owned(), Era::Legacy, now);
        let twice = r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":1,"progressToken":2}}}"#;
        assert_eq!(calls.open(&parse(twice), now).err().unwrap().kind, Kind::InvalidRequest);
        assert_eq!(calls.len(), 0);
    }
}
