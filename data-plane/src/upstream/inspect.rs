//! Whether an answer that passes through as bytes says that the call failed: a JSON-RPC error, or a tool
//! result with `isError`; and whether the server asked its client something. Looks at answers of up to 64 KiB; larger ones pass unread and count as successes.

use crate::mcp::{Kind, Message, json, sse};
use bytes::{Bytes, BytesMut};

const LOOK_MAX: usize = 64 << 10;

pub(super) struct Inspect {
    state: State,
    asked: bool,
}

enum State {
    Json(BytesMut),
    Events(Box<sse::Reader>),
    Decided(bool),
}

impl Inspect {
    pub(super) fn new(events: bool) -> Self {
        let state = if events {
            State::Events(Box::new(sse::Reader::new(LOOK_MAX)))
        } else {
            State::Json(BytesMut::new())
        };
        Self { state, asked: false }
    }

    /// The server asked its client something.
    pub(super) fn asked(&self) -> bool {
        self.asked
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Json(whole) if whole.len() + bytes.len() <= LOOK_MAX => whole.extend_from_slice(bytes),
            State::Json(_) => self.state = State::Decided(false),
            State::Events(reader) => {
                reader.push(bytes);
                loop {
                    let message = match reader.next_event() {
                        Ok(Some(event)) => small(&event.data),
                        Ok(None) => return,
                        Err(sse::TooLarge) => {
                            self.state = State::Decided(false);
                            return;
                        }
                    };
                    self.asked |= message.as_ref().is_some_and(|message| message.kind() == Kind::Request);
                    if message.is_some_and(|message| is_failure(&message)) {
                        self.state = State::Decided(true);
                        return;
                    }
                }
            }
            State::Decided(_) => {}
        }
    }

    pub(super) fn finish(&mut self) -> bool {
        match &mut self.state {
            State::Json(whole) => small(&whole.split().freeze()).is_some_and(|message| is_failure(&message)),
            State::Events(_) => false,
            State::Decided(failed) => *failed,
        }
    }
}

/// A message that is not too large to be looked at.
fn small(bytes: &Bytes) -> Option<Message> {
    if bytes.len() > LOOK_MAX { None } else { Message::parse(bytes).ok() }
}

/// True for an error response and for a tool result with `isError: true`.
pub(super) fn is_failure(message: &Message) -> bool {
    if message.kind() != Kind::Response {
        return false;
    }
    let Some(result) = message.result() else { return true };
    if result.len() > LOOK_MAX {
        return false;
    }
    matches!(json::find(message.bytes(), &result, &["isError"]), Ok(Some(at)) if &message.bytes()[at.clone()] == b"true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(events: bool, chunks: &[&str]) -> bool {
        let mut inspect = Inspect::new(events);
        for chunk in chunks {
            inspect.push(chunk.as_bytes());
        }
        inspect.finish()
    }

    #[test]
    fn failures_are_seen_in_json_and_in_events() {
        let error = r#"{"error":{"code":-1,"message":"x"},"id":1,"jsonrpc":"2.0"}"#;
        let tool = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}"#;
        let fine = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false,"x":{"error":1}}}"#;
        assert!(look(false, &[&error[..10], &error[10..]]) && look(false, &[tool]));
        assert!(!look(false, &[fine]));
        assert!(look(true, &["event: message\nda", &format!("ta: {tool}\n\n")]));
        assert!(!look(true, &[&format!("data: {fine}\n\n")]));
        assert!(!look(false, &[&format!("{}{}", " ".repeat(LOOK_MAX), error)]), "large answers pass unread");
    }

    #[test]
    fn a_question_of_the_server_is_noticed() {
        let mut inspect = Inspect::new(true);
        inspect.push(b"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n");
        assert!(!inspect.asked());
        inspect.push(b"data: {\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"roots/list\"}\n\n");
        assert!(inspect.asked() && !inspect.finish());
    }
}
